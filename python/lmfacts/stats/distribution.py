"""Everything that follows from a code histogram: quantiles, histograms, moments of any order, counts.

For bfloat16 and float16 all of it is exact (up to float64 rounding). For float32 and float64 a code is a cell of values
(`lmfacts.stats.codes`): what the cells only bound comes with its bounds, and the known moments, minimum and maximum
are used where they say more. Sums are taken in float64, central moments in two passes: first the mean, then
sum c (v - mean)^k.

Finite values only, unless a name says otherwise. +0 and -0 are one value. Without values, statistics are NaN.
"""

from __future__ import annotations

import operator
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Self, overload

import numpy as np

from lmfacts.errors import UsageError
from lmfacts.stats.cells import Cells, cell_edges, points
from lmfacts.stats.codes import MAGNITUDE, SIGN, cell_bounds, decode, infinity_code, is_exact, subnormal_mask

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import ArrayLike, NDArray

    from lmfacts.stats.moments import Moments

__all__ = ["WIDEST_BODY_CELL", "WIDEST_CELL", "Distribution"]

_LARGEST_MOMENT_ORDER_FROM_SUMS = 4
WIDEST_CELL: Final = 0.1
"""From this many standard deviations on a cell is too wide for what depends on where in it the values are."""

WIDEST_BODY_CELL: Final = 0.2
"""The same, of scales of the body: of heavy-tailed laws they are smaller than the standard deviation."""


class Distribution:
    """The distribution of the values behind a code histogram.

    Attributes:
        dtype: the dtype the codes were counted from.
        exact: whether each code is one value (bfloat16, float16), or each value is known.
        pointwise: whether the values are those that were given to `of_values`, and no codes.
        n: number of finite values.
        n_nan: number of NaN.
        n_inf: number of infinities, of either sign.
        values: float64 [m], ascending: the value of each occurring cell, for float32 and float64 the end with the lower
            magnitude.
        low: float64 [m], the smallest value each cell can hold; equal to `values` where exact.
        high: float64 [m], the largest.
        counts: int64 [m], how many values each cell has.
    """

    def __init__(
        self,
        codes: NDArray[np.uint16],
        counts: NDArray[Any],
        dtype: str,
        moments: Moments | None = None,
        largest: NDArray[np.float64] | None = None,
    ) -> None:
        """Sort the codes by value and set zeros, NaN and infinities aside.

        Args:
            codes: uint16 [m], ascending, each at most once.
            counts: how often each occurs, [m].
            dtype: the dtype they were counted from.
            moments: the moments of the same values (0-d fields); for float32 and float64 they make the minimum, the
                maximum and the moments of orders 1 to 4 exact.
            largest: some of the values themselves, those of largest magnitude; for float32 and float64 moments of
                higher orders, which hang on them, then take them and not the middles of their cells.
        """
        self.dtype = dtype
        self.exact = is_exact(dtype)
        self.pointwise = False
        self._moments = moments
        codes = np.asarray(codes, dtype=np.uint16)
        counts = np.asarray(counts).astype(np.int64)
        infinity = infinity_code(dtype)
        # Ascending codes are ascending magnitudes of the positive values, then of the negative ones: reverse the
        # latter.
        limits = np.array([infinity, SIGN, SIGN + infinity], dtype=np.uint16)
        positive_stop, start, stop = np.searchsorted(codes, limits)
        codes_by_value = np.concatenate([codes[start:stop][::-1], codes[:positive_stop]])
        self.counts = np.concatenate([counts[start:stop][::-1], counts[:positive_stop]])
        self.n = int(self.counts.sum())
        self.n_inf = int(counts[(codes & MAGNITUDE) == infinity].sum())
        self.n_nan = int(counts[(codes & MAGNITUDE) > infinity].sum())
        self.n_subnormal = int(self.counts[subnormal_mask(codes_by_value, dtype)].sum())
        self.values = decode(codes_by_value, dtype) + 0.0  # -0.0 + 0.0 is 0.0
        self.low, self.high = cell_bounds(codes_by_value, dtype)
        self._merge_zeros()
        if moments is not None and not self.exact and self.n:
            self.low = np.clip(self.low, moments.min, moments.max)
            self.high = np.clip(self.high, moments.min, moments.max)
        self._known = np.empty(0)
        self._unknown = self.counts
        if largest is not None and not self.exact:
            self._keep(np.asarray(largest, dtype=np.float64))

    @classmethod
    def of_values(cls, values: NDArray[np.float64], dtype: str, *, n_nan: int = 0, n_inf: int = 0) -> Self:
        """The distribution of values that are known one by one: exact, whatever their dtype.

        Args:
            values: finite.
            dtype: what they are stored as.
            n_nan: number of NaN that were left out.
            n_inf: number of infinities.
        """
        own = cls(np.empty(0, dtype=np.uint16), np.empty(0, dtype=np.int64), dtype)
        own.exact = own.pointwise = True
        own.values, own.counts = np.unique(np.asarray(values, dtype=np.float64) + 0.0, return_counts=True)
        own.low = own.high = own.values
        own._unknown = own.counts
        own.n, own.n_nan, own.n_inf = int(own.counts.sum()), n_nan, n_inf
        smallest = float(np.finfo(np.float64 if dtype == "float64" else np.float32).tiny)
        own.n_subnormal = int(own.counts[(own.values != 0) & (np.abs(own.values) < smallest)].sum())
        return own

    def __repr__(self) -> str:
        kind = "values" if self.exact else "cells"
        return f"Distribution({self.n:,} finite values in {self.values.size:,} {kind}, {self.dtype or 'no dtype'})"

    @cached_property
    def cells(self) -> Cells:
        """The same as cells of the real line, for what is asked of F between values."""
        return Cells.of(self)

    @cached_property
    def is_coarse(self) -> bool:
        """Whether the cell of the median is wider than a tenth of the standard deviation.

        Then most of the values lie in a few cells, and what depends on where in them is not known: distances to a
        Gaussian, scales of the body, tails, fits.
        """
        return self.width_at_median > WIDEST_CELL * self.std > 0

    @cached_property
    def width_at_median(self) -> float:
        """The width of the cell that holds the median; NaN without values."""
        if not self.n:
            return float("nan")
        at = int(np.searchsorted(self._cumulative, self.n / 2.0))
        value = self.values[at : at + 1]
        low, high = points(value) if self.pointwise else cell_edges(value, self.dtype)
        return float(high[0] - low[0])

    # Counts

    @property
    def n_zero(self) -> int:
        """Number of zeros of either sign; for float32 and float64 of values below 2^-133 in magnitude."""
        return int(self.counts[self.values == 0.0].sum())

    def n_at_least(self, threshold: float) -> int:
        """Number of values with |x| >= `threshold`; infinities count, NaN does not.

        For float32 and float64 a cell counts when all of it is at or above the threshold, so that the number is exact
        for thresholds that are a cell's edge (6.0 is one) and otherwise the lower of `n_at_least_bounds`.
        """
        return self.n_at_least_bounds(threshold)[0]

    def n_at_least_bounds(self, threshold: float) -> tuple[int, int]:
        """The least and the greatest number of values with |x| >= `threshold` that the histogram allows."""
        smallest, largest = self._magnitude_bounds
        certain = int(self.counts[smallest >= threshold].sum())
        possible = int(self.counts[largest >= threshold].sum())
        return certain + self.n_inf, possible + self.n_inf

    def fraction_at_least(self, threshold: float) -> float:
        """`n_at_least` as a share of all values that are not NaN."""
        n = self.n + self.n_inf
        return self.n_at_least(threshold) / n if n else float("nan")

    # Moments

    @cached_property
    def min(self) -> float:
        """Smallest finite value (for float32 and float64 without moments: its lower bound)."""
        return float(self.low[0]) if self.n else float("nan")

    @cached_property
    def max(self) -> float:
        """Largest finite value (for float32 and float64 without moments: its upper bound)."""
        return float(self.high[-1]) if self.n else float("nan")

    @cached_property
    def mean(self) -> float:
        """Mean of the finite values."""
        if not self.n:
            return float("nan")
        if self._moments is not None and not self.exact:
            return float(self._moments.mean)
        with np.errstate(all="ignore"):
            mean = float(self._centers @ self._weights)
            return mean + float((self._centers - mean) @ self._weights)

    @cached_property
    def std(self) -> float:
        """Population standard deviation (ddof 0)."""
        return float(np.sqrt(self.central_moment(2)))

    def central_moment(self, order: int) -> float:
        """Mean of (x - mean)^order.

        For float32 and float64, orders up to 4 come exactly from the moments; a higher order takes the largest values
        as they are, where they are known, every other at the middle of its cell, and `central_moment_bounds` encloses
        it.

        Raises:
            UsageError: `order` is not an integer of at least 0.
        """
        order = _checked_order(order)
        if not self.n:
            return float("nan")
        if order <= 1:
            return float(order == 0)
        if self._has_sums(order):
            return float(self._moments.central_moment(order))  # type: ignore[union-attr]  # _has_sums: not None
        with np.errstate(all="ignore"):
            return self._mean_of(lambda x: _power(x - self.mean, order))

    def standardized_moment(self, order: int) -> float:
        """central_moment(order) / std^order; NaN where the standard deviation is 0.

        Raises:
            UsageError: `order` is not an integer of at least 0.
        """
        order = _checked_order(order)
        if not self.n or self.std == 0.0:
            return float("nan")
        with np.errstate(all="ignore"):
            if order <= 1:
                return float(order == 0)
            if self._has_sums(order):
                return float(np.float64(self.central_moment(order)) / np.float64(self.std) ** order)
            return self._mean_of(lambda x: _power((x - self.mean) / self.std, order))

    def central_moment_bounds(self, order: int) -> tuple[float, float]:
        """Bounds of `central_moment(order)`, equal where it is known exactly.

        Each value that is not known may lie anywhere in its cell; the mean is taken as known.

        Raises:
            UsageError: `order` is not an integer of at least 0.
        """
        order = _checked_order(order)
        if not self.n or order <= 1 or self.exact or self._has_sums(order):
            moment = self.central_moment(order)
            return moment, moment
        with np.errstate(all="ignore"):
            at_low, at_high = _power(self.low - self.mean, order), _power(self.high - self.mean, order)
            least, greatest = np.minimum(at_low, at_high), np.maximum(at_low, at_high)
            if order % 2 == 0:
                least = np.where((self.low <= self.mean) & (self.mean <= self.high), 0.0, least)
            known = float(_power(self._known - self.mean, order).sum())
            return (float(least @ self._unknown) + known) / self.n, (float(greatest @ self._unknown) + known) / self.n

    # Quantiles

    @overload
    def quantile(self, q: float) -> float: ...
    @overload
    def quantile(self, q: ArrayLike) -> Any: ...
    def quantile(self, q: ArrayLike) -> Any:
        """The inverted CDF: the smallest value v whose share of values <= v is at least q.

        The same as `numpy.quantile(..., method="inverted_cdf")` on the values themselves, with q = 0 giving the minimum
        and q = 1 the maximum. Exact for bfloat16 and float16; otherwise the middle of the cell that holds the quantile
        (0 for the cell of zero), at most half a cell, 0.4 %, away: `quantile_bounds` gives the cell.

        Args:
            q: a number, or an array of numbers, from 0 to 1.

        Returns:
            A float, or a float64 array of the shape of q.

        Raises:
            UsageError: a q lies outside 0 to 1.
        """
        return self._pick(q, self._centers)

    def quantile_bounds(self, q: ArrayLike) -> tuple[Any, Any]:
        """The smallest and the largest value that each quantile can have; equal where exact.

        Raises:
            UsageError: a q lies outside 0 to 1.
        """
        return self._pick(q, self.low), self._pick(q, self.high)

    # Histograms

    def histogram(
        self,
        bins: int | str | ArrayLike = 101,
        range: tuple[float, float] | None = None,  # noqa: A002  NumPy's name
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Counts of the finite values over bins, in the manner of `numpy.histogram`.

        A bin holds its lower edge and not its upper one; the last holds both. Values outside the edges are not counted.
        A float32 or float64 cell that straddles an edge is counted whole, where its end with the lower magnitude lies.

        Args:
            bins: the number of equal bins, or the edges in ascending order, or "log": one bin per power of two and
                sign, and one around zero for all that is smaller in magnitude than the smallest power of two that
                occurs. These edges are edges of cells, so that no cell straddles. There the negative bins are the
                mirror image of the positive ones: they hold their upper edge and not their lower one.
            range: lowest and highest edge for a number of bins; by default the minimum and the maximum.

        Returns:
            counts int64 [bins], edges float64 [bins + 1].

        Raises:
            UsageError: no bins, edges that do not ascend, or a range that is empty or not finite.
        """
        positions = np.clip(self.values, self.low, self.high)
        if isinstance(bins, str):
            if bins != "log":
                raise UsageError(f'bins is a number, edges or "log", not {bins!r}.')
            if range is not None:
                raise UsageError('bins="log" covers all values: leave range out.')
            return self._octaves(positions)
        edges = self._edges(bins, range)
        below = np.concatenate([[0], np.cumsum(self.counts)])
        index = np.searchsorted(positions, edges, side="left")
        index[-1] = np.searchsorted(positions, edges[-1], side="right")
        return np.diff(below[index]), edges

    # Inside

    def _keep(self, largest: NDArray[np.float64]) -> None:
        """Take note of values that are known, unless they contradict the counts."""
        index = np.searchsorted(self.low, largest, side="right") - 1
        if not self.n or (index < 0).any() or (largest > self.high[index]).any():
            return
        unknown = self.counts - np.bincount(index, minlength=self.counts.size)
        if (unknown >= 0).all():
            self._known, self._unknown = largest, unknown

    def _mean_of(self, function: Callable[[NDArray[np.float64]], NDArray[np.float64]]) -> float:
        """The mean of a function of the values, of those that are not known at the middles of their cells."""
        if not self._known.size:
            return float(function(self._centers) @ self._weights)
        return (float(function(self._centers) @ self._unknown) + float(function(self._known).sum())) / self.n

    def _merge_zeros(self) -> None:
        """Make one cell of those of -0 and +0 (neighbors, because the cells ascend)."""
        zeros = np.flatnonzero(self.values == 0.0)
        if zeros.size < 2:  # noqa: PLR2004  one is no spread
            return
        first, second = zeros
        self.counts[second] += self.counts[first]
        keep = np.arange(self.values.size) != first
        low = self.low.copy()
        low[second] = low[first]
        self.values, self.counts = self.values[keep], self.counts[keep]
        self.low, self.high = low[keep], self.high[keep]

    @cached_property
    def _weights(self) -> NDArray[np.float64]:
        """The share of the finite values in each cell."""
        return self.counts / max(self.n, 1)

    @cached_property
    def _centers(self) -> NDArray[np.float64]:
        """The value that stands for each cell: its middle, and 0 for the cell of zero."""
        if self.exact:
            return self.values
        middles = self.low / 2 + self.high / 2
        return np.clip(np.where(self.values == 0.0, 0.0, middles), self.low, self.high)

    @cached_property
    def _magnitude_bounds(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The smallest and the largest magnitude in each cell."""
        low, high = np.abs(self.low), np.abs(self.high)
        smallest = np.where((self.low <= 0) & (self.high >= 0), 0.0, np.minimum(low, high))
        return smallest, np.maximum(low, high)

    @cached_property
    def _cumulative(self) -> NDArray[np.int64]:
        return np.cumsum(self.counts)

    def _has_sums(self, order: int) -> bool:
        return self._moments is not None and not self.exact and order <= _LARGEST_MOMENT_ORDER_FROM_SUMS

    def _pick(self, q: ArrayLike, values: NDArray[np.float64]) -> Any:
        """The entries of `values` at the cells that hold the quantiles."""
        quantiles = np.asarray(q, dtype=np.float64)
        if not np.all((quantiles >= 0) & (quantiles <= 1)):
            raise UsageError(f"A quantile lies between 0 and 1; got {q!r}.")
        if not self.n:
            picked = np.full(quantiles.shape, np.nan)
        else:
            # NumPy's rounding of the rank, so that the two agree on every q. Ranks count from 0.
            rank = np.clip(np.ceil(self.n * quantiles - 1.0), 0, self.n - 1)
            picked = values[np.searchsorted(self._cumulative, rank.astype(np.int64), side="right")]
            if self._moments is not None and not self.exact:
                picked = np.where(rank == 0, self.min, np.where(rank == self.n - 1, self.max, picked))
        return float(picked) if quantiles.ndim == 0 else picked

    def _edges(self, bins: int | ArrayLike, limits: tuple[float, float] | None) -> NDArray[np.float64]:
        """Edges as `numpy.histogram` would choose them."""
        if np.ndim(bins) > 0:
            edges = np.asarray(bins, dtype=np.float64)
            if edges.ndim != 1 or edges.size < 2 or not np.all(np.diff(edges) >= 0):  # noqa: PLR2004  axes
                raise UsageError("Edges are a list of at least two numbers that ascend.")
            return edges
        try:
            n_bins = operator.index(bins)  # type: ignore[arg-type]  # refused just below
        except TypeError:
            raise UsageError(f"bins is a whole number, edges or 'log', not {bins!r}.") from None
        if n_bins < 1:
            raise UsageError(f"A histogram has at least one bin; got {n_bins}.")
        low, high = limits if limits is not None else (self.min, self.max) if self.n else (0.0, 1.0)
        if not (np.isfinite(low) and np.isfinite(high) and low <= high):
            raise UsageError(f"The range of a histogram is two finite numbers that ascend; got {(low, high)}.")
        if low == high:
            low, high = low - 0.5, high + 0.5
        return np.linspace(low, high, n_bins + 1)

    def _octaves(self, positions: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The signed histogram over powers of two."""
        nonzero = positions != 0.0
        exponents = np.frexp(positions[nonzero])[1] - 1  # 2^e <= |x| < 2^(e + 1)
        smallest, largest = (int(exponents.min()), int(exponents.max())) if exponents.size else (0, -1)
        n_octaves = largest - smallest + 1
        magnitude_edges = np.ldexp(1.0, np.arange(smallest, largest + 2))
        counts = np.zeros(2 * n_octaves + 1, dtype=np.int64)
        counts[n_octaves] = self.counts[~nonzero].sum()
        octave = exponents - smallest
        index = np.where(positions[nonzero] > 0, n_octaves + 1 + octave, n_octaves - 1 - octave)
        np.add.at(counts, index, self.counts[nonzero])
        return counts, np.concatenate([-magnitude_edges[::-1], magnitude_edges])


def _checked_order(order: int) -> int:
    """The order of a moment as an int, or `UsageError`."""
    try:
        checked = operator.index(order)
    except TypeError:
        checked = -1
    if checked < 0:
        raise UsageError(f"The order of a moment is a whole number of at least 0; got {order!r}.")
    return checked


def _power(x: NDArray[np.float64], order: int) -> NDArray[np.float64]:
    """x^order by multiplication: `**` takes a logarithm per element."""
    power, square = np.ones_like(x), x
    while order:
        if order % 2:
            power = power * square
        order //= 2
        square = square * square
    return power
