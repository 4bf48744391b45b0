"""F8: how far the entries of each weight matrix are from a Gaussian, by kind and depth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.render.page.document import Figure, Key
from lmfacts.render.page.figures.densities import LOG_RANGE, Body, log_line, log_panel, share_text
from lmfacts.render.page.figures.weights_by_kind import heat_map, in_the_middle, kind_name, matrices, step_keys
from lmfacts.render.page.palette import DIVERGING, HEAT
from lmfacts.render.page.panel import panel
from lmfacts.stats.shape import GAUSSIAN_WEIBULL_K
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from lmfacts.render.page.document import Drawing
    from lmfacts.render.page.runs_view import RunsView

__all__ = ["figures"]

_KURTOSIS_STEPS: Final = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
_K_STEPS: Final = (-0.12, -0.06, -0.03, -0.01, 0.01, 0.03, 0.06, 0.12)


def figures(view: RunsView) -> list[Figure]:
    """Maps of kind by depth, and one matrix of each kind."""
    groups = matrices(view)
    if not groups:
        return []
    raw = {kind_name(group.kind): group.by_layer("excess_kurtosis") for group in groups}
    scaled = {kind_name(group.kind): group.by_layer("scaled_excess_kurtosis") for group in groups}
    shape = {
        kind_name(group.kind): {layer: k - GAUSSIAN_WEIBULL_K for layer, k in group.by_layer("weibull_k").items()}
        for group in groups
    }
    tails = Figure(
        "Excess kurtosis by kind and depth",
        "A Gaussian has 0; darker cells have heavier tails (in a dark color scheme, lighter ones). The first map is "
        "the raw weights. In the second each column and then each row is divided by its RMS: where a cell "
        "loses its color, the tails came from rows and columns of different scale, and what is left is Gaussian.",
        (
            heat_map("f8-raw", "As they are", raw, _KURTOSIS_STEPS, HEAT, alt=_told("Excess kurtosis", raw)),
            heat_map(
                "f8-scaled",
                "Scales divided out",
                scaled,
                _KURTOSIS_STEPS,
                HEAT,
                alt=_told("Excess kurtosis, scaled", scaled),
            ),
        ),
        tuple(Key(label, color, "area") for label, color in zip(step_keys(_KURTOSIS_STEPS), HEAT, strict=True)),
    )
    body = Figure(
        "Weibull shape of the body by kind and depth",
        f"The shape k of a Weibull law fitted to the body of |w|, less {GAUSSIAN_WEIBULL_K:.3f}, which a Gaussian has. "
        "Below it (orange), small weights are more frequent than in a Gaussian, as in an exponential law (k = 1). It "
        "says nothing of tails.",
        (heat_map("f8-k", "k less a Gaussian's", shape, _K_STEPS, DIVERGING, alt=_told("k less a Gaussian's", shape)),),
        tuple(Key(label, color, "area") for label, color in zip(step_keys(_K_STEPS), DIVERGING, strict=True)),
    )
    one = _one_of_each(view)
    return [tails, body, *([one] if one is not None else [])]


def _told(what: str, rows: dict[str, dict[int, float]]) -> str:
    parts = []
    for kind, row in rows.items():
        finite = [value for value in row.values() if np.isfinite(value)]
        if finite:
            parts.append(f"{kind} from {numbers.number(min(finite))} to {numbers.number(max(finite))}")
    return f"{what} by kind and layer: {'; '.join(parts)}."


def _one_of_each(view: RunsView) -> Figure | None:
    drawings: list[Drawing] = []
    for kind, weight in in_the_middle(view).items():
        body = Body.of(weight.distribution)
        if body is None:
            continue
        scaled = Body.of(weight.scaled.distribution) if weight.scaled.n else None
        name = f"f8-{kind.replace(' ', '-').replace('_', '-')}"
        with panel(name, f"{kind}, layer {weight.layer}", x="std of the body from the median", y="density") as p:
            log_panel(p, body)
            if scaled is not None:
                log_line(p, scaled, "orange")
            drawings.append(
                p.drawing(
                    f"Histogram of {weight.name} with logarithmic counts: excess kurtosis "
                    f"{numbers.number(weight.excess_kurtosis)}, scaled "
                    f"{numbers.number(weight.scaled.excess_kurtosis)}; {share_text(body.beyond(LOG_RANGE))} beyond "
                    f"{LOG_RANGE:.0f} standard deviations of the body."
                )
            )
    if not drawings:
        return None
    return Figure(
        "One matrix of each kind, logarithmic",
        "A Gaussian is the dashed parabola. The orange line has the same entries after rows and columns are divided by "
        "their scale.",
        tuple(drawings),
        (
            Key("entries", "fill", "area"),
            Key("scales divided out", "orange"),
            Key("Gaussian with the same median and MAD", "ink", "dashed"),
        ),
    )
