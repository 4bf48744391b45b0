"""F9: the gains of the norms, by depth and one by one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.render.page.document import Figure, Key
from lmfacts.render.page.figures.weights_by_kind import matrices
from lmfacts.render.page.palette import SERIES
from lmfacts.render.page.panel import panel
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from lmfacts.analysis.weights_view import WeightGroup
    from lmfacts.render.page.document import Drawing
    from lmfacts.render.page.runs_view import RunsView
    from lmfacts.run.weight import WeightRecord

__all__ = ["figures"]

_BANDS: Final = (0.0, 0.05, 0.5, 0.95, 1.0)
_GAUSSIAN_LIMIT: Final = 1.5
_MOST_KINDS: Final = 4
_BINS: Final = 60


def figures(view: RunsView) -> list[Figure]:
    """Gains by depth, the gains of the final norm, and kurtosis beside that of the matrices."""
    if view.weights is None:
        return []
    gains = [group for group in view.weights.vectors if group.kind.endswith("gain") and _filled(group)]
    if not gains:
        return []
    blocks = [group for group in gains if len(_filled(group)) > 1][:_MOST_KINDS]
    drawings = [_by_depth(group) for group in blocks]
    final = [weight for group in gains if group not in blocks for weight in _filled(group)]
    drawings += [_entries(weight) for weight in final[:1]]
    drawings.append(_kurtosis(view, gains))
    n = len(blocks)
    return [
        Figure(
            "Gains of the norms",
            (
                "By depth: the darker band holds 90 % of a norm's gains, the lines are the smallest and the largest. "
                if n
                else ""
            )
            + ("Then the gains of the final norm as a histogram, with its extremes marked. " if final else "")
            + "The last panel compares the excess kurtosis of gains with that of the matrices of the same layer: the "
            "claim is that norms are the exception. A kurtosis alone misses gains with two humps.",
            tuple(drawings),
            (
                Key("90 % of the gains", "fill", "area"),
                Key("median gain", "blue"),
                Key("smallest and largest gain", "orange"),
            )
            if n
            else (),
        )
    ]


def _filled(group: WeightGroup) -> list[WeightRecord]:
    return [figures.weight for figures in group.figures if figures.weight.n]


def _by_depth(group: WeightGroup) -> Drawing:
    weights = _filled(group)
    layers = [index if weight.layer is None else weight.layer for index, weight in enumerate(weights)]
    bands = np.array([weight.quantile(_BANDS) for weight in weights])
    bands[:, 0], bands[:, -1] = [weight.min for weight in weights], [weight.max for weight in weights]
    name = f"f9-{group.kind.replace('.', '-').replace('*', 'n')}"
    with panel(name, f"{group.kind} by depth", x="layer", y="gain") as p:
        low, lower, median, upper, high = bands.T
        p.axes.set_xlim(layers[0] - 0.5, layers[-1] + 0.5)
        p.whole_numbers()
        p.rule(y=0.0, color="ink")
        p.area(layers, lower, upper)
        p.line(layers, low, "orange", width=1.3)
        p.line(layers, high, "orange", width=1.3)
        p.line(layers, median, "blue")
        return p.drawing(
            f"{group.kind} by layer: medians from {numbers.number(float(median.min()))} to "
            f"{numbers.number(float(median.max()))}, single gains from {numbers.number(float(low.min()))} to "
            f"{numbers.number(float(high.max()))}."
        )


def _entries(weight: WeightRecord) -> Drawing:
    """The gains of one norm as a histogram over their whole range; the smallest and the largest with their dims."""
    values = weight.dims.mean  # a vector is one row: the mean of each dim is its value
    finite = np.flatnonzero(np.isfinite(values))
    least, most = finite[np.argmin(values[finite])], finite[np.argmax(values[finite])]
    margin = 0.05 * float(values[most] - values[least]) or 0.5
    edges = np.linspace(values[least] - margin, values[most] + margin, _BINS + 1)
    counts, _ = np.histogram(values[finite], edges)
    with panel("f9-final", weight.name, x="gain", y="number of gains per bin") as p:
        floor = 0.5
        p.axes.set_xlim(edges[0], edges[-1])
        p.axes.set_ylim(floor, max(float(counts.max()) * 1.6, 4.0))
        p.log("y")
        p.bars(edges, np.maximum(counts, floor), "blue", floor=floor)
        for dim, word, place in ((least, "smallest", 0.02), (most, "largest", 0.985)):
            value = numbers.number(float(values[dim])).replace("-", "\N{MINUS SIGN}")
            p.note(f"{word}: {value}, dim {dim}", place, 0.95, align="left" if dim == least else "right")
        return p.drawing(
            f"Gains of {weight.name}: median {numbers.number(float(np.median(values[finite])))}, from "
            f"{numbers.number(float(values[least]))} at dim {least} to {numbers.number(float(values[most]))} at dim "
            f"{most}."
        )


def _kurtosis(view: RunsView, gains: list[WeightGroup]) -> Drawing:
    """Excess kurtosis of gains and of matrices by layer."""
    every: dict[int, list[float]] = {}
    for group in matrices(view):
        for layer, value in group.by_layer("excess_kurtosis").items():
            if math.isfinite(value):
                every.setdefault(layer, []).append(value)
    medians = {layer: float(np.median(values)) for layer, values in sorted(every.items())}
    with panel("f9-kurtosis", "Excess kurtosis: gains and matrices", x="layer", y="Gaussian: 0") as p:
        p.margins(right=66)
        labels, tops, span = [], [_GAUSSIAN_LIMIT * 2], [*medians]
        for group, color in zip(gains, ("orange", "green", "purple", *SERIES), strict=False):
            values = group.by_layer("excess_kurtosis")
            if len(values) > 1:
                p.line(list(values), list(values.values()), color)
                last = next((v for v in reversed(values.values()) if math.isfinite(v)), math.nan)
                labels.append((group.kind.removesuffix(".gain"), last, color))
                tops += [value for value in values.values() if math.isfinite(value)]
                span += list(values)
        p.line(list(medians), list(medians.values()), "blue")
        if medians:
            labels.append(("matrices", list(medians.values())[-1], "blue"))
            tops += list(medians.values())
        p.axes.set_xlim(min(span, default=0) - 0.5, max(span, default=0) + 0.5)
        p.symmetric_log(min(tops), max(tops))
        p.whole_numbers()
        p.rule(y=_GAUSSIAN_LIMIT)
        p.labels_at_the_end(labels)
        told = "; ".join(f"{kind} ends at {numbers.number(value)}" for kind, value, _ in labels)
        return p.drawing(f"Excess kurtosis by layer: {told}.")
