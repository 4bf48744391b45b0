"""F3: the largest values of the residual stream against its typical ones, by depth and by sequence."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.render.page.document import Figure, Key
from lmfacts.render.page.panel import panel
from lmfacts.stats.cells import Cells
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lmfacts.render.page.document import Drawing
    from lmfacts.render.page.runs_view import RunsView
    from lmfacts.run.site import Population, SiteRecord

    Floats = NDArray[np.float64]

__all__ = ["figures"]

_MASSIVE: Final = 100.0
_RATIO: Final = 1000.0
_WORDS: Final[dict[Population, str]] = {
    "first": "largest |x| at position 0",
    "rest": "largest |x| elsewhere",
    "all": "largest |x|",
}
_COLORS: Final[dict[Population, str]] = {"first": "orange", "rest": "purple", "all": "orange"}


def figures(view: RunsView) -> list[Figure]:
    """The largest and the median magnitude by depth, and the largest of each sequence."""
    if view.activations is None:
        return []
    largest = {
        population: {layer: _largest(site) for layer, site in view.residual_over(population).items()}
        for population in view.activations.populations
    }
    medians = {layer: _median(site) for layer, site in view.residual_over("all").items()}
    drawing = _by_depth(largest, medians)
    if drawing is None:
        return []
    sequences = _by_sequence(view.residual_over("all"))
    ends = (
        " The second panel has the largest value of each of the first sequences, at the depth where values are "
        "largest, in order of size: where the points are level, the value hardly depends on the text."
        if sequences is not None
        else ""
    )
    return [
        Figure(
            "The largest values against the typical ones",
            "The largest magnitude in the residual stream and the median magnitude over all tokens, by depth. Sun et "
            "al. "
            "call a value massive that is above 100 and about 1000 times the median: above both dashed lines." + ends,
            (drawing, *([sequences] if sequences is not None else [])),
            (
                *(Key(_WORDS[population], _COLORS[population]) for population in reversed(largest)),
                Key("median |x| of all tokens", "blue"),
                Key("1000 times the median", "blue", "dashed"),
                Key("100", "gray", "dashed"),
            ),
        )
    ]


def _largest(site: SiteRecord) -> float:
    absmax = site.dims.absmax
    absmax = absmax[np.isfinite(absmax)]
    return float(absmax.max()) if absmax.size else float("nan")


def _median(site: SiteRecord) -> float:
    """Median |x|; NaN where it is 0."""
    median = float(Cells.of(site.distribution).folded().quantile(0.5))
    return median if median > 0 else float("nan")


def _by_depth(largest: dict[Population, dict[int, float]], medians: dict[int, float]) -> Drawing | None:
    layers, median = np.array(list(medians)), np.array(list(medians.values()))
    tops = [value for line in largest.values() for value in line.values() if value > 0]
    if not tops or np.isnan(median).all():
        return None
    with panel("f3-depth", "Largest and typical magnitudes", x="layer", y="|x|") as p:
        p.axes.set_xlim(layers[0] - 0.5, layers[-1] + 0.5)
        top = max(*tops, _MASSIVE, _RATIO * float(np.nanmax(median)))
        p.axes.set_ylim(float(np.nanmin(median)) / 1.8, top * 1.8)
        p.log("y")
        p.whole_numbers()
        p.rule(y=_MASSIVE)
        p.line(layers, _RATIO * median, "blue", style="dashed", width=1.2)
        p.line(layers, median, "blue")
        told = []
        for population, line in largest.items():
            values = np.array(list(line.values()))
            p.line(list(line), np.where(values > 0, values, np.nan), _COLORS[population])
            ratios = {layer: value / medians[layer] for layer, value in line.items() if value / medians[layer] > 0}
            if ratios:
                at = max(ratios, key=ratios.__getitem__)
                told.append(
                    f"{_WORDS[population]} is at most {numbers.number(max(line.values()))}, and "
                    f"{numbers.number(ratios[at])} times the median at layer {at}"
                )
        return p.drawing(f"Magnitudes by depth: {'; '.join(told)}.")


def _by_sequence(sites: dict[int, SiteRecord]) -> Drawing | None:
    """The largest value of each sequence at the depth where the largest of all is."""
    recorded = {layer: site for layer, site in sites.items() if site.sequence_maxima.size}
    if not recorded:
        return None
    layer = max(recorded, key=lambda which: float(np.nan_to_num(_largest(recorded[which]))))
    values = np.sort(np.abs(recorded[layer].sequence_maxima["value"]))[::-1]
    values = values[np.isfinite(values) & (values > 0)]
    if not values.size:
        return None
    with panel("f3-sequences", f"Layer {layer}: largest |x| of each sequence", x="sequences, by size", y="|x|") as p:
        p.margins(left=52)
        p.axes.set_xlim(0, values.size + 1)
        p.axes.set_ylim(0, float(values[0]) * 1.12)
        p.whole_numbers()
        p.points(np.arange(1, values.size + 1), values, "orange", size=2.6)
        spread = float(values.std() / values.mean())
        return p.drawing(
            f"Layer {layer}: the largest magnitude of each of {values.size} sequences goes from "
            f"{numbers.number(float(values[0]))} down to {numbers.number(float(values[-1]))}; the coefficient of "
            f"variation is {numbers.percent(spread)}."
        )
