"""F11: singular values of a matrix of each kind against noise, a power law and an exponential; slopes by depth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.render.page.document import Figure, Key
from lmfacts.render.page.figures.weights_by_kind import in_the_middle, kind_color, kind_name, matrices
from lmfacts.render.page.panel import panel
from lmfacts.stats.spectrum import marchenko_pastur_edge, marchenko_pastur_quantiles
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from lmfacts.render.page.document import Drawing
    from lmfacts.render.page.panel import Panel
    from lmfacts.render.page.runs_view import RunsView
    from lmfacts.run.weight import WeightRecord
    from lmfacts.stats.spectrum import Spectrum

    Floats = NDArray[np.float64]

__all__ = ["figures"]

_LEAST_RANK: Final = 16
_MOST_DRAWN: Final = 220


def figures(view: RunsView) -> list[Figure]:
    """The spectra of one layer's matrices, and what all layers have."""
    chosen = {kind: weight for kind, weight in in_the_middle(view).items() if _spectrum(weight) is not None}
    if not chosen:
        return []
    drawings = tuple(_one(kind, weight) for kind, weight in chosen.items())
    one = Figure(
        "Singular values of one matrix of each kind",
        "Singular values by rank on logarithmic axes, over the largest that a random matrix of the same size and scale "
        "has: those above 1 are structure. A power law is a straight line, but so, nearly, is pure noise (dotted) over "
        "most of its ranks: what counts is how much steeper the values fall, and whether the power law (orange) "
        "follows the body better than an exponential in rank (green).",
        drawings,
        (
            Key("singular values", "blue"),
            Key("random matrix", "ink", "dotted"),
            Key("power law, fitted to the body", "orange", "dashed"),
            Key("exponential, fitted to the body", "green", "dashed"),
        ),
    )
    slopes = _by_depth(view, "f11-slope", "Slope of the body", "ln s against ln rank", lambda s: s.body.slope)
    above = _by_depth(
        view,
        "f11-above",
        "Share above the edge of noise",
        "share of the singular values",
        lambda s: s.n_above(s.marchenko_pastur_edge) / max(s.values.size, 1),
    )
    kinds = [kind_name(group.kind) for group in matrices(view)]
    depth = Figure(
        "The same by depth",
        "Lines of one kind that stay together and near those of the others would be one pattern for all. The slope is "
        "that of the power law fitted to the middle ranks.",
        (slopes, above),
        tuple(Key(kind, kind_color(kind)) for kind in kinds),
    )
    return [one, depth]


def _spectrum(weight: WeightRecord) -> Spectrum | None:
    spectrum = weight.spectrum
    usable = spectrum is not None and spectrum.rank >= _LEAST_RANK and spectrum.marchenko_pastur_edge > 0
    return spectrum if usable else None


def _one(kind: str, weight: WeightRecord) -> Drawing:
    spectrum = weight.spectrum
    assert spectrum is not None
    values = spectrum.values[: spectrum.rank] / spectrum.marchenko_pastur_edge
    noise = marchenko_pastur_quantiles(*spectrum.shape) / marchenko_pastur_edge(*spectrum.shape, 1.0)
    drawn = np.unique(np.geomspace(1, values.size, _MOST_DRAWN).round().astype(int))
    ranks = np.arange(1, noise.size + 1)
    name = f"f11-{kind.replace(' ', '-').replace('_', '-')}"
    with panel(name, f"{kind}, layer {weight.layer}", x="rank", y="over the edge of noise") as p:
        top = max(float(values[0]), 1.0) * 1.5
        p.axes.set_xlim(0.85, noise.size * 1.2)
        # The very last ranks fall off a cliff that would take most of the axis.
        p.axes.set_ylim(max(float(values[int(0.97 * (values.size - 1))]) * 0.7, top * 1e-4), top)
        p.log("x")
        p.log("y")
        p.rule(y=1.0)
        null = np.unique(np.geomspace(1, noise.size, _MOST_DRAWN).round().astype(int))
        p.line(null, noise[null - 1], "ink", style="dotted", width=1.5)
        p.line(drawn, values[drawn - 1], "blue", width=2.0)
        body = spectrum.body
        if math.isfinite(body.slope):
            _fits(p, values, ranks, body.first, body.last)
        return p.drawing(
            f"Spectrum of {weight.name}: the largest singular value is {numbers.number(float(values[0]))} times the "
            f"edge of noise, {spectrum.n_above(spectrum.marchenko_pastur_edge)} of {spectrum.values.size} lie above "
            f"it. Body: slope {numbers.number(body.slope)}, R2 {numbers.number(body.r2_power)} for a power law and "
            f"{numbers.number(body.r2_exponential)} for an exponential."
        )


def _fits(p: Panel, values: Floats, ranks: NDArray[np.int64], first: int, last: int) -> None:
    """Both least-squares fits of the body, drawn over it."""
    x, y = ranks[first - 1 : last].astype(float), np.log(values[first - 1 : last])
    for of, color in ((np.log, "orange"), (np.asarray, "green")):
        slope, start = np.polyfit(of(x), y, 1)
        p.line(x, np.exp(start + slope * of(x)), color, style="dashed", width=1.6, above=4)


def _by_depth(view: RunsView, name: str, title: str, y: str, value: Callable[[Spectrum], float]) -> Drawing:
    with panel(name, title, x="layer", y=y) as p:
        told, span, ends = [], [0], [0.0]
        for group in matrices(view):
            found: dict[int, list[float]] = {}
            for figures_of_one in group.figures:
                weight = figures_of_one.weight
                spectrum = _spectrum(weight)
                if spectrum is not None and weight.layer is not None:
                    found.setdefault(weight.layer, []).append(value(spectrum))
            line = {layer: float(np.median(values)) for layer, values in sorted(found.items())}
            if line:
                p.line(list(line), list(line.values()), kind_color(group.kind))
                middle = float(np.median(list(line.values())))
                told.append(f"{kind_name(group.kind)} {numbers.number(middle)}")
                span += list(line)
                ends += [v for v in line.values() if math.isfinite(v)]
        p.axes.set_xlim(min(span) - 0.5, max(span) + 0.5)
        reach = max(ends) - min(ends) or 1.0
        p.axes.set_ylim(min(ends) - 0.06 * reach * (min(ends) < 0), max(ends) + 0.06 * reach)
        p.whole_numbers()
        if min(ends) >= 0:
            p.percent("y")
        return p.drawing(f"{title}, median over the layers: {', '.join(told)}.")
