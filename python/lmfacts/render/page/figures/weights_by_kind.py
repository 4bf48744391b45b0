"""What figures of weights share: kinds, one matrix of each kind in the middle of the model, maps of kind by depth."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lmfacts.render.page.palette import COLORS
from lmfacts.render.page.panel import panel
from lmfacts.writing.visible_text import visible_line

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lmfacts.analysis.weights_view import WeightGroup
    from lmfacts.render.page.document import Drawing
    from lmfacts.render.page.runs_view import RunsView
    from lmfacts.run.weight import WeightRecord

__all__ = ["heat_map", "in_the_middle", "kind_color", "kind_name", "matrices", "step_keys"]

_ROW: Final = 21.0


_COLORS: Final = {
    "W_O": "orange",
    "W_out": "red",
    "W_V": "brown",
    "W_Q": "blue",
    "W_K": "teal",
    "W_in": "green",
    "W_gate": "purple",
}


def kind_color(kind: str) -> str:
    """The color of a kind in every figure: warm for those that write to the residual stream and for W_V."""
    return _COLORS.get(kind.rpartition(".")[2].removeprefix("expert "), "gray")


def kind_name(kind: str) -> str:
    """A kind as figures write it: `W_O`, `expert W_in`."""
    return visible_line(kind.replace("experts.*.", "expert "))


def matrices(view: RunsView) -> list[WeightGroup]:
    """The kinds of matrices of the blocks, embeddings left out, in the order of the forward pass."""
    if view.weights is None:
        return []
    return [group for group in view.weights.matrices if any(f.weight.layer is not None for f in group.figures)]


def in_the_middle(view: RunsView) -> dict[str, WeightRecord]:
    """Kind -> its matrix in the middle of the model."""
    found = {}
    for group in matrices(view):
        weights = [figures.weight for figures in group.figures if figures.weight.layer is not None]
        found[kind_name(group.kind)] = weights[len(weights) // 2]
    return found


def heat_map(
    name: str,
    title: str,
    rows: Mapping[str, Mapping[int, float]],
    steps: Sequence[float],
    colors: Sequence[str],
    *,
    alt: str,
) -> Drawing:
    """A map with a row for each kind and a column for each layer.

    Args:
        name: of the panel.
        title: of the panel.
        rows: kind -> layer -> number.
        steps: limits between colors, ascending.
        colors: names of colors, one more than there are steps.
        alt: what it shows.
    """
    last = max((layer for row in rows.values() for layer in row), default=0)
    with panel(name, title, x="layer", height=74.0 + _ROW * len(rows)) as p:
        p.margins(left=8 + 6.6 * max((len(kind) for kind in rows), default=1))
        p.axes.grid(visible=False)
        cells: dict[str, list[tuple[int, int]]] = {}
        for place, row in enumerate(rows.values()):
            for layer, value in row.items():
                if math.isfinite(value):
                    cells.setdefault(colors[int(np.searchsorted(steps, value))], []).append((layer, place))
        for color, places in cells.items():
            _fill(p.axes, places, COLORS[color])
        p.axes.set_xlim(-0.5, last + 0.5)
        p.axes.set_ylim(len(rows) - 0.5, -0.5)
        p.axes.set_yticks(range(len(rows)), list(rows))
        p.axes.spines["left"].set_visible(False)
        p.axes.spines["bottom"].set_visible(False)
        p.axes.tick_params(axis="x", length=0)
        p.whole_numbers()
        return p.drawing(alt)


def _fill(axes: Any, places: Sequence[tuple[int, int]], color: str) -> None:
    """Fill the cells at (layer, row) as one shape."""
    from matplotlib.patches import PathPatch  # noqa: PLC0415  an extra
    from matplotlib.path import Path  # noqa: PLC0415  an extra

    corners = np.array([[-0.46, -0.44], [0.46, -0.44], [0.46, 0.44], [-0.46, 0.44], [-0.46, -0.44]])
    vertices = np.concatenate([corners + place for place in places])
    codes = [Path.MOVETO, *([Path.LINETO] * 3), Path.CLOSEPOLY] * len(places)
    axes.add_patch(PathPatch(Path(vertices, codes), facecolor=color, linewidth=0))


def step_keys(steps: Sequence[float]) -> list[str]:
    """What the colors of a map stand for: `below 0.1`, `0.1 to 0.3`, ..., `above 30`."""
    texts = [f"{step:g}".replace("-", "\N{MINUS SIGN}") for step in steps]
    inner = [f"{low} to {high}" for low, high in pairwise(texts)]
    return [f"below {texts[0]}", *inner, f"above {texts[-1]}"]
