"""The histogram behind a `Distribution` as cells of the real line that cover every value once.

Two kinds of code become the same thing here. A truncated float32 (or float64) code c holds the magnitudes from value(c)
to value(c + 1). The code of a bfloat16, float16 or float8 stands for what was rounded to it: the interval between the
midpoints to its two neighbors. The cumulative distribution F is known exactly at the edges of cells and only there;
between the edges of one cell it is taken as a straight line, whose error is second order in the width of the cell (2^-7
of its magnitude or less for float32, float64 and bfloat16, 2^-10 for float16).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Self

import numpy as np

from lmfacts.stats.codes import decode, float8_values, is_exact

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    from lmfacts.stats.distribution import Distribution

__all__ = ["Cells", "FoldedCells", "cell_edges", "points"]

_BEYOND_FLOAT32 = 2.0**128
_POINT_WIDTH = 2.0**-23
_LEAST_POINT_WIDTH = 2.0**-149


@dataclass(frozen=True, eq=False)
class Cells:
    """F of a distribution at the edges of its occurring cells.

    Attributes:
        edges: float64 [k], strictly ascending; a gap between two occurring cells is a cell of its own.
        cumulative: int64 [k], the number of finite values below each edge; 0 first, n last.
    """

    edges: NDArray[np.float64]
    cumulative: NDArray[np.int64]

    @classmethod
    def of(cls, distribution: Distribution) -> Self:
        """The cells of a distribution; without finite values both arrays are empty."""
        values = distribution.values
        lower, upper = points(values) if distribution.pointwise else cell_edges(values, distribution.dtype)
        above = np.cumsum(distribution.counts)
        edges = np.stack([lower, upper], axis=1).ravel()
        cumulative = np.stack([above - distribution.counts, above], axis=1).ravel()
        first = np.ones(edges.size, dtype=bool)
        first[1:] = edges[1:] > edges[:-1]  # touching cells share an edge, at which both say the same
        return cls(edges[first], cumulative[first])

    @property
    def n(self) -> int:
        """Number of finite values."""
        return int(self.cumulative[-1]) if self.cumulative.size else 0

    @property
    def n_occupied(self) -> int:
        """Number of cells that hold a value."""
        return int(np.count_nonzero(np.diff(self.cumulative)))

    def cdf(self, x: ArrayLike) -> NDArray[np.float64]:
        """F(x): exact at edges, a straight line within a cell; NaN without values."""
        at = np.asarray(x, dtype=np.float64)
        if not self.n:
            return np.full(at.shape, np.nan)
        return np.asarray(np.interp(at, self.edges, self.cumulative / self.n))

    def median(self) -> float:
        """The value at which F passes 1/2; NaN without values."""
        return float(np.interp(0.5, self.cumulative / self.n, self.edges)) if self.n else float("nan")

    def folded(self, center: float = 0.0) -> FoldedCells:
        """The distribution of |x - center|."""
        return self._folded_about_zero if center == 0.0 else self._folded(center)

    @cached_property
    def _folded_about_zero(self) -> FoldedCells:
        return self._folded(0.0)

    def _folded(self, center: float) -> FoldedCells:
        with np.errstate(over="ignore"):
            distances = np.unique(np.abs(self.edges - center))
        if distances.size and distances[0] > 0:
            distances = np.concatenate([[0.0], distances])
        cumulative = self.cdf(center + distances) - self.cdf(center - distances)
        return FoldedCells(distances, cumulative, self.n)


@dataclass(frozen=True, eq=False)
class FoldedCells:
    """The distribution of a = |x - center|.

    Attributes:
        distances: float64 [k], ascending from 0.
        cumulative: float64 [k], share of the values nearer than each distance.
        n: number of finite values.
    """

    distances: NDArray[np.float64]
    cumulative: NDArray[np.float64]
    n: int

    def cdf(self, a: ArrayLike) -> NDArray[np.float64]:
        """Share of the values nearer than `a`; NaN without values."""
        at = np.asarray(a, dtype=np.float64)
        if not self.n:
            return np.full(at.shape, np.nan)
        return np.asarray(np.interp(at, self.distances, self.cumulative))

    def most_frequent(self) -> tuple[float, float]:
        """The magnitude at the middle of the cell with the most values (0 for that of zero), and their share."""
        if not self.n:
            return float("nan"), 0.0
        index = int(np.argmax(np.diff(self.cumulative)))
        middle = self.distances[index] + self.distances[index + 1]
        return (float(middle) / 2.0 if self.distances[index] > 0 else 0.0), float(np.diff(self.cumulative)[index])

    def quantile(self, q: ArrayLike) -> NDArray[np.float64]:
        """The distance within which a share `q` of the values lies; NaN without values."""
        share = np.asarray(q, dtype=np.float64)
        if not self.n:
            return np.full(share.shape, np.nan)
        return np.asarray(np.interp(share, self.cumulative, self.distances))


def points(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Edges around values that are known one by one: as wide as float32's rounding, and not beyond the next value."""
    with np.errstate(over="ignore"):
        upper = values + np.maximum(np.abs(values) * _POINT_WIDTH, _LEAST_POINT_WIDTH)
    upper[:-1] = np.minimum(upper[:-1], values[1:])
    beyond = ~np.isfinite(upper)
    return np.where(beyond, values * (1.0 - _POINT_WIDTH), values), np.where(beyond, values, upper)


def cell_edges(values: NDArray[np.float64], dtype: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Lower and upper edge of the cell of each value of `Distribution.values`."""
    magnitudes = np.abs(values)
    inner, outer = _neighbors(magnitudes, dtype)
    if is_exact(dtype):
        # Past the largest finite value the spacing goes on: that is where rounding to infinity begins.
        outer = np.where(np.isfinite(outer), outer, 2.0 * magnitudes - inner)
        outer, inner = (magnitudes + outer) / 2.0, (magnitudes + inner) / 2.0
    else:
        largest = float(np.finfo(np.float64).max) if dtype == "float64" else _BEYOND_FLOAT32
        outer, inner = np.where(np.isfinite(outer), outer, largest), magnitudes
    inner = np.where(magnitudes == 0.0, -outer, inner)  # the cell of zero has both signs
    negative = values < 0
    return np.where(negative, -outer, inner), np.where(negative, -inner, outer)


def _neighbors(magnitudes: NDArray[np.float64], dtype: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The next smaller and the next larger magnitude that a code stands for: 0 below zero, infinity past the last."""
    if dtype.startswith("float8"):
        with np.errstate(invalid="ignore"):  # NaN patterns may be signaling
            table = float8_values(dtype).astype(np.float64)
        lattice = np.concatenate([[0.0], np.unique(np.abs(table[np.isfinite(table)])), [np.inf]])
        index = np.searchsorted(lattice[1:], magnitudes) + 1
        return lattice[index - 1], lattice[index + 1]
    codes: NDArray[np.uint16]
    if dtype == "float16":
        codes = magnitudes.astype(np.float16).view(np.uint16)
    else:
        codes = (magnitudes.astype(np.float32).view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    previous = np.maximum(codes, np.uint16(1)) - np.uint16(1)
    return decode(previous, dtype), decode(codes + np.uint16(1), dtype)
