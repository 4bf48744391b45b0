"""F15: the Weibull shape and WeightWatcher's alpha of every kind of matrix, by depth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.render.page.document import Figure, Key
from lmfacts.render.page.figures.weights_by_kind import kind_color, kind_name, matrices
from lmfacts.render.page.palette import COLORS
from lmfacts.render.page.panel import panel
from lmfacts.render.page.runs_view import evenly_chosen
from lmfacts.stats.shape import GAUSSIAN_WEIBULL_K
from lmfacts.stats.spectrum import weightwatcher
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lmfacts.analysis.weights_view import WeightGroup
    from lmfacts.render.page.document import Drawing
    from lmfacts.render.page.panel import Panel
    from lmfacts.render.page.runs_view import RunsView

__all__ = ["figures"]

_TRANSMISSION: Final = (1.186, 1.204)
_HEAVY_TAILED: Final = (2.0, 6.0)
_MOST_FITTED: Final = 12
_MOST_ALPHA: Final = 12.0


def figures(view: RunsView) -> list[Figure]:
    """Weibull k and alpha by depth."""
    groups = matrices(view)
    shapes = {kind_name(group.kind): _finite(group.by_layer("weibull_k")) for group in groups}
    shapes = {kind: line for kind, line in shapes.items() if line}
    if not shapes:
        return []
    alphas = {kind_name(group.kind): line for group in groups if (line := _alphas(group))}
    drawings = [_shapes(shapes)]
    if alphas:
        drawings.append(_tails(alphas))
    return [
        Figure(
            "Weibull shape and WeightWatcher's alpha by depth",
            f"First, the shape k of the body of |w|: {GAUSSIAN_WEIBULL_K:.3f} for a Gaussian; the band is what "
            "arXiv:2605.18898 found for W_O and the MLP."
            + (
                " Then the exponent alpha of a power law fitted to the tail of the squared singular values; within the "
                "band, from 2 to 6, WeightWatcher calls a matrix heavy-tailed. It is noisy: a few matrices of each "
                "kind, and values above 12 are off the axis."
                if alphas
                else ""
            ),
            tuple(drawings),
            tuple(Key(kind, kind_color(kind)) for kind in shapes),
        )
    ]


def _finite(line: Mapping[int, float]) -> dict[int, float]:
    return {layer: value for layer, value in line.items() if math.isfinite(value)}


def _alphas(group: WeightGroup) -> dict[int, float]:
    """Layer -> alpha, at some layers evenly over depth."""
    by_layer = {f.weight.layer: f.weight for f in group.figures if f.weight.layer is not None}
    chosen = evenly_chosen(sorted(by_layer), _MOST_FITTED)
    values = {layer: by_layer[layer].singular_values for layer in chosen}
    return _finite({layer: weightwatcher(found).alpha for layer, found in values.items() if found is not None})


def _shapes(shapes: Mapping[str, Mapping[int, float]]) -> Drawing:
    with panel("f15-k", "Weibull shape of the body", x="layer", y="k") as p:
        p.axes.axhspan(*_TRANSMISSION, color=COLORS["heat-1"], linewidth=0, zorder=1)
        low = min(min(line.values()) for line in shapes.values())
        high = max(max(line.values()) for line in shapes.values())
        _lines(p, shapes, min(low - 0.02, 1.1), max(high + 0.02, 1.26))
        p.rule(y=GAUSSIAN_WEIBULL_K, label="Gaussian", color="ink")
        return p.drawing(f"Weibull k, median over the layers: {_medians(shapes)}.")


def _tails(alphas: Mapping[str, Mapping[int, float]]) -> Drawing:
    with panel("f15-alpha", "WeightWatcher's alpha", x="layer", y="alpha") as p:
        p.axes.axhspan(*_HEAVY_TAILED, color=COLORS["heat-1"], linewidth=0, zorder=1)
        high = max(max(line.values()) for line in alphas.values())
        _lines(p, alphas, 1.0, min(max(high * 1.05, 7.0), _MOST_ALPHA))
        for kind, line in alphas.items():
            p.points(list(line), list(line.values()), kind_color(kind), size=2.4)
        return p.drawing(f"WeightWatcher's alpha, median over the layers: {_medians(alphas)}.")


def _lines(p: Panel, lines: Mapping[str, Mapping[int, float]], low: float, high: float) -> None:
    for kind, line in lines.items():
        p.line(list(line), list(line.values()), kind_color(kind), width=1.6)
    layers = [layer for line in lines.values() for layer in line]
    p.axes.set_xlim(min(layers) - 0.5, max(layers) + 0.5)
    p.axes.set_ylim(low, high)
    p.whole_numbers()


def _medians(lines: Mapping[str, Mapping[int, float]]) -> str:
    return ", ".join(f"{kind} {numbers.number(float(np.median(list(line.values()))))}" for kind, line in lines.items())
