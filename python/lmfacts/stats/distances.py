"""How far two recorded distributions are from each other.

Both are taken as cells (`lmfacts.stats.cells`), on whose edges F is known exactly, with straight lines between them.
Two piecewise linear functions differ most at an edge of one of them, and the integral of their difference is a sum of
trapezoids and triangles, so that all three distances are exact for the cells:

    KS           max |F_A(x) - F_B(x)|
    Wasserstein  integral of |F_A(x) - F_B(x)| dx, over s, A's standard deviation
    Levy         the least e with F_A(x - e s) - e <= F_B(x) <= F_A(x + e s) + e for all x

The Levy distance e says that a share e of the values, and no more, moved by more than e standard deviations. It is
never above KS. Effects are made of it and not of KS, which also sees values that moved by next to nothing, such as the
tail of an activation function that a coarser dtype rounds to zero. It is computed in one pass: the line x / s + y = c
crosses the graphs of F_A and F_B at the heights y_A(c) and y_B(c), and e is the largest |y_A(c) - y_B(c)|.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmfacts.stats.cells import Cells
from lmfacts.stats.ratios import in_units

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lmfacts.stats.distribution import Distribution

__all__ = ["Distances", "distances"]


@dataclass(frozen=True)
class Distances:
    """Distances between distributions A and B; NaN where one of them has no values.

    Two dtypes have cells of different edges. How the values lie within a cell that an edge of the other run cuts is not
    known, and a distance can come from that alone: one that is not larger than its resolution is no difference. Runs of
    one dtype have the same cells, and there the resolutions are 0.

    Attributes:
        ks: Kolmogorov-Smirnov distance, 0 to 1.
        levy: Levy distance, 0 to 1, its unit of length being A's standard deviation (B's where A's is 0; where both are
            0 it is the KS distance).
        wasserstein: Wasserstein-1 distance in units of A's standard deviation; 0 if the distributions are the same and
            otherwise NaN where that is 0.
        ks_resolution: the largest share of the values in one cell that is cut.
        levy_resolution: over cut cells the largest of the smaller of share and width, added up for A and B.
        wasserstein_resolution: the sum over cut cells of share times half of the width, likewise.
    """

    ks: float
    levy: float
    wasserstein: float
    ks_resolution: float
    levy_resolution: float
    wasserstein_resolution: float


def distances(a: Distribution, b: Distribution) -> Distances:
    """The distances from A to B, finite values only."""
    if not (a.n and b.n):
        return Distances(math.nan, math.nan, math.nan, 0.0, 0.0, 0.0)
    cells_a, cells_b = Cells.of(a), Cells.of(b)
    x = np.union1d(cells_a.edges, cells_b.edges)
    gap = cells_a.cdf(x) - cells_b.cdf(x)
    ks = float(np.abs(gap).max())
    std = a.std
    scale = std or b.std
    cut_a, cut_b = _cut(cells_a, cells_b.edges), _cut(cells_b, cells_a.edges)
    return Distances(
        ks=ks,
        levy=_levy(cells_a, cells_b, a.mean, scale) if scale > 0 else ks,
        wasserstein=in_units(_area(x, gap), std),
        ks_resolution=max(float(shares.max(initial=0.0)) for shares, _ in (cut_a, cut_b)),
        levy_resolution=sum(_largest_box(shares, widths, scale) for shares, widths in (cut_a, cut_b)),
        wasserstein_resolution=in_units(sum(float(shares @ widths) / 2 for shares, widths in (cut_a, cut_b)), std),
    )


def _area(x: NDArray[np.float64], gap: NDArray[np.float64]) -> float:
    """The integral of |gap|, a straight line between the points x."""
    left, right = gap[:-1], gap[1:]
    total = np.abs(left) + np.abs(right)
    with np.errstate(all="ignore"):
        # Of a line that changes sign, |.| is two triangles, whose heights share the width in their proportion.
        mean = np.where(left * right >= 0, total / 2, (left * left + right * right) / (2 * total))
        return float(np.diff(x) @ mean)


def _levy(a: Cells, b: Cells, center: float, scale: float) -> float:
    """The Levy distance, by the lines x / scale + y = c; the center keeps their positions small."""
    y_a, y_b = a.cumulative / a.n, b.cumulative / b.n
    with np.errstate(all="ignore"):
        c_a, c_b = (a.edges - center) / scale + y_a, (b.edges - center) / scale + y_b
    c = np.concatenate([c_a, c_b])
    return float(np.abs(np.interp(c, c_a, y_a) - np.interp(c, c_b, y_b)).max())


def _cut(cells: Cells, edges: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Share of the values and width of each cell that other edges cut."""
    above = np.searchsorted(cells.edges, edges, side="left")
    inside = (above > 0) & (above < cells.edges.size)
    inside[inside] = cells.edges[above[inside]] > edges[inside]
    cut = np.unique(above[inside]) - 1
    return np.diff(cells.cumulative)[cut] / cells.n, np.diff(cells.edges)[cut]


def _largest_box(shares: NDArray[np.float64], widths: NDArray[np.float64], scale: float) -> float:
    """How far in Levy's sense F can be from the diagonal of a cell, whose sides are its share and its width."""
    sides = np.minimum(shares, widths / scale) if scale > 0 else shares
    return float(sides.max(initial=0.0))
