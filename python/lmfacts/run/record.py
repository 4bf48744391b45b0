"""What was recorded of one tensor of a model, as statistics of its values: what sites and weights have in common."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from lmfacts.run.dims import DimStatistics
from lmfacts.run.statistics.codes import CodeArrays
from lmfacts.run.statistics.dim_moments import DimMomentArrays
from lmfacts.run.statistics.outliers import OutlierArrays
from lmfacts.stats.codes import is_exact
from lmfacts.stats.distribution import Distribution
from lmfacts.stats.moments import Moments, pool_moments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from lmfacts.run.state import PopulationState, SiteState

__all__ = ["Record"]


class Record:
    """Statistics of the values of one tensor.

    Statistics are over finite values; NaN and infinities are counted separately. Without values each statistic is NaN.
    For bfloat16 and float16 everything is exact; for float32 and float64 so are n, the moments up to order 4, min, max
    and the counts, and the rest is within a cell of the code histogram (`exact` is then False).

    Attributes:
        name: its name in the run; empty if it stands alone.
        aliases: other names of the same tensor.
        note: a remark on the shape or meaning of the values, or None.
        state: the recorded arrays.
        parts: the populations of the state that it is of, which arrays of statistics are read from.
    """

    def __init__(
        self,
        state: SiteState,
        parts: Sequence[PopulationState],
        *,
        name: str = "",
        aliases: Sequence[str] = (),
        note: str | None = None,
    ) -> None:
        """Of some populations of a state."""
        self.state = state
        self.name = name
        self.aliases = tuple(aliases)
        self.note = note
        self.parts = tuple(parts)

    def _figures(self) -> list[str]:
        """The lines of a `repr` that are the same whatever the values are of."""
        shape = f"skewness {self.skewness:.4g}   excess kurtosis {self.excess_kurtosis:.4g}"
        counts = f"zeros {self.n_zero:,}   NaN {self.n_nan:,}   infinities {self.n_inf:,}"
        return [
            f"  mean {self.mean:.6g}   std {self.std:.6g}   {shape}",
            f"  min {self.min:.6g}   max {self.max:.6g}   {counts}",
        ]

    # What was counted

    @property
    def dtype(self) -> str:
        """Dtype of the values; empty if the site was never reached."""
        return self.state.dtype

    @property
    def exact(self) -> bool:
        """Whether quantiles, histograms and moments of every order are exact (bfloat16, float16)."""
        return is_exact(self.dtype)

    @property
    def n_dims(self) -> int:
        """Number of dims, d."""
        return self.state.n_dims

    @property
    def n(self) -> int:
        """Number of finite values."""
        return self.distribution.n

    @property
    def n_nan(self) -> int:
        """Number of NaN."""
        return self.distribution.n_nan

    @property
    def n_inf(self) -> int:
        """Number of infinities of either sign."""
        return self.distribution.n_inf

    @property
    def n_zero(self) -> int:
        """Number of zeros of either sign (float32 and float64: of values below 2^-133 in magnitude)."""
        return self.distribution.n_zero

    @property
    def n_subnormal(self) -> int:
        """Number of subnormal values that are not counted as zeros."""
        return self.distribution.n_subnormal

    def codes(self) -> tuple[NDArray[np.uint16], NDArray[np.uint64]]:
        """The codes that occur, ascending, those of NaN and infinities included, and how often each does."""
        return self._codes

    @cached_property
    def distribution(self) -> Distribution:
        """The distribution behind the statistics below, with bounds where it is not exact."""
        codes, counts = self._codes
        if self.exact:
            return Distribution(codes, counts, self.dtype)
        return Distribution(codes, counts, self.dtype, self._pooled_moments(), self._largest[0])

    # Statistics of the values

    @property
    def mean(self) -> float:
        """Mean of all values, over tokens and dims."""
        return self.distribution.mean

    @property
    def std(self) -> float:
        """Population standard deviation (ddof 0)."""
        return self.distribution.std

    @cached_property
    def skewness(self) -> float:
        """Third standardized moment; NaN where std is 0."""
        return self.distribution.standardized_moment(3)

    @cached_property
    def excess_kurtosis(self) -> float:
        """Fourth standardized moment, minus 3 (0 for a Gaussian); NaN where std is 0."""
        return self.distribution.standardized_moment(4) - 3.0

    @property
    def min(self) -> float:
        """Smallest value."""
        return self.distribution.min

    @property
    def max(self) -> float:
        """Largest value."""
        return self.distribution.max

    def central_moment(self, order: int) -> float:
        """Mean of (x - mean)^order: see `Distribution.central_moment`."""
        return self.distribution.central_moment(order)

    def standardized_moment(self, order: int) -> float:
        """central_moment(order) / std^order: see `Distribution.standardized_moment`."""
        return self.distribution.standardized_moment(order)

    @overload
    def quantile(self, q: float) -> float: ...
    @overload
    def quantile(self, q: ArrayLike) -> Any: ...
    def quantile(self, q: ArrayLike) -> Any:
        """The smallest value v whose share of values <= v is at least q: see `Distribution.quantile`."""
        return self.distribution.quantile(q)

    def quantile_bounds(self, q: ArrayLike) -> tuple[Any, Any]:
        """Bounds of `quantile(q)`, equal where it is exact."""
        return self.distribution.quantile_bounds(q)

    def histogram(
        self,
        bins: int | str | ArrayLike = 101,
        range: tuple[float, float] | None = None,  # noqa: A002  NumPy's name
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Counts and edges; bins may be "log": see `Distribution.histogram`."""
        return self.distribution.histogram(bins, range)

    def fraction_at_least(self, threshold: float) -> float:
        """Share of the values that are not NaN with |x| >= `threshold`: see `Distribution.n_at_least`."""
        return self.distribution.fraction_at_least(threshold)

    # Dims and largest values

    @cached_property
    def dims(self) -> DimStatistics:
        """Statistics of each dim."""
        counts = [DimMomentArrays(part).dim_counts for part in self.parts]
        n_nonfinite, n_at_least = np.sum([count.astype(np.int64) for count in counts], axis=0)
        moments = pool_moments([_dim_moments(part) for part in self.parts])
        return DimStatistics(moments, n_at_least, n_nonfinite)

    @cached_property
    def _largest(self) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """The k finite values of largest magnitude, largest first, and their (sequence, position, dim, token id)."""
        outliers = [OutlierArrays(part) for part in self.parts]
        values = np.concatenate([arrays.outlier_values for arrays in outliers])
        index = np.concatenate([arrays.outlier_index for arrays in outliers])
        order = np.lexsort((index[:, 2], index[:, 1], index[:, 0], -np.abs(values)))[: self.state.k]
        return values[order], index[order]

    # Inside

    @cached_property
    def _codes(self) -> tuple[NDArray[np.uint16], NDArray[np.uint64]]:
        parts = [CodeArrays(part) for part in self.parts]
        return merge_counts([(arrays.codes, arrays.counts) for arrays in parts])

    def _pooled_moments(self) -> Moments:
        """The moments of all values: all dims of all populations in one step."""
        of_dims = [DimMomentArrays(part) for part in self.parts]
        rows = np.concatenate([arrays.moments for arrays in of_dims], axis=1)
        n_nonfinite = np.concatenate([arrays.dim_counts[0] for arrays in of_dims])
        n_tokens = np.repeat([part.n_tokens for part in self.parts], self.n_dims)
        return Moments.from_rows(n_tokens - n_nonfinite.astype(np.int64), rows).pool()


def _dim_moments(part: PopulationState) -> Moments:
    """The moments of each dim."""
    arrays = DimMomentArrays(part)
    return Moments.from_rows(part.n_tokens - arrays.dim_counts[0].astype(np.int64), arrays.moments)


def merge_counts(
    histograms: Sequence[tuple[NDArray[np.uint16], NDArray[np.uint64]]],
) -> tuple[NDArray[np.uint16], NDArray[np.uint64]]:
    """Add sparse histograms with ascending codes."""
    filled = [(codes, counts) for codes, counts in histograms if codes.size]
    if len(filled) <= 1:
        return filled[0] if filled else histograms[0]
    codes = np.concatenate([codes for codes, _ in filled])
    counts = np.concatenate([counts for _, counts in filled])
    order = np.argsort(codes, kind="stable")  # a radix sort, for 16 bits
    codes = codes[order]
    starts = np.flatnonzero(np.concatenate([[True], codes[1:] != codes[:-1]]))
    return codes[starts], np.add.reduceat(counts[order], starts)
