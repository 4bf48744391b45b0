"""The names of colors in charts; who draws them knows what they look like."""

from __future__ import annotations

from typing import Final

__all__ = ["DEPTHS", "DIVERGING", "HEAT", "SERIES", "depth_color"]

SERIES: Final = ("blue", "orange", "green", "purple", "red", "teal", "brown")
"""Names for things without an order."""

DEPTHS: Final = tuple(f"depth-{i}" for i in range(5))
"""Names for depths, the shallowest first."""

HEAT: Final = tuple(f"heat-{i}" for i in range(9))
"""Names for amounts, the smallest first."""

DIVERGING: Final = ("low-4", "low-3", "low-2", "low-1", "level", "high-1", "high-2", "high-3", "high-4")
"""Names for deviations, the most negative first."""


def depth_color(index: int, n: int) -> str:
    """The color of one of n depths, from the shallowest to the deepest."""
    return DEPTHS[round(index * (len(DEPTHS) - 1) / max(n - 1, 1))]
