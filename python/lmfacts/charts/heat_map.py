"""Maps: a row for each kind and a column for each layer, in colors by amount."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.charts.chart import Chart

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["heat_map", "step_keys"]

_ROW: Final = 21.0
"""Pixels that a row is high."""

_LONGEST: Final = 24
"""Characters of a row's name that there is room for."""


def heat_map(
    name: str,
    title: str,
    rows: Mapping[str, Mapping[int, float]],
    steps: Sequence[float],
    colors: Sequence[str],
    *,
    alt: str,
) -> Chart:
    """A map with a row for each kind and a column for each layer.

    Args:
        name: of the chart.
        title: of the chart.
        rows: kind -> layer -> number.
        steps: limits between colors, ascending.
        colors: names of colors, one more than there are steps.
        alt: what it shows.
    """
    last = max((layer for row in rows.values() for layer in row), default=0)
    chart = Chart(name, title, x="layer", height=74.0 + _ROW * len(rows))
    names = [kind if len(kind) <= _LONGEST else f"{kind[: _LONGEST - 1]}…" for kind in rows]
    chart.margins(left=8 + 6.6 * max(map(len, names), default=1))
    places: dict[str, list[tuple[int, int]]] = {}
    for place, row in enumerate(rows.values()):
        for layer, value in row.items():
            if math.isfinite(value):
                places.setdefault(colors[int(np.searchsorted(steps, value))], []).append((layer, place))
    chart.cells(names, places)
    chart.limits_x(-0.5, last + 0.5)
    chart.limits_y(len(rows) - 0.5, -0.5)
    chart.whole_numbers()
    return chart.described(alt)


def step_keys(steps: Sequence[float]) -> list[str]:
    """What the colors of a map stand for: `below 0.1`, `0.1 to 0.3`, ..., `above 30`."""
    texts = [f"{step:g}".replace("-", "\N{MINUS SIGN}") for step in steps]
    inner = [f"{low} to {high}" for low, high in pairwise(texts)]
    return [f"below {texts[0]}", *inner, f"above {texts[-1]}"]
