"""What was recorded at one site, as statistics: the view of a `SiteState` that users and facts read."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal, overload

import numpy as np

from lmfacts.errors import UsageError
from lmfacts.run.blocks import Histogram, SequenceBlocks, left_out
from lmfacts.run.dim_histograms import DimHistograms
from lmfacts.run.dims import DimStatistics
from lmfacts.run.tokens import TokenNorms, UnitSums
from lmfacts.stats.codes import is_exact
from lmfacts.stats.distribution import Distribution
from lmfacts.stats.moments import Moments, pool_moments

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import ArrayLike, NDArray

    from lmfacts.run.state import PopulationState, SiteState

__all__ = ["OUTLIER_DTYPE", "Population", "SiteRecord"]

Population = Literal["all", "first", "rest"]

OUTLIER_DTYPE: Final = np.dtype(
    [("value", "f8"), ("sequence", "i8"), ("position", "i8"), ("dim", "i8"), ("token_id", "i8")]
)
"""One outlier: its value, where it is, and the token it sits on (-1 where that is unknown)."""


class SiteRecord:
    """Statistics of one site over one population of tokens, by default all of them.

    Statistics are over finite values; NaN and infinities are counted apart. A population without values has NaN for
    each statistic. For bfloat16 and float16 everything is exact; for float32 and float64 so are n, the moments up to
    order 4, min, max and the counts, and the rest is within a cell of the code histogram (`exact` is then False).

    Attributes:
        name: name of the site; empty if it stands alone.
        aliases: other names of the same tensor.
        module_path: where it is in the Hugging Face model, or None.
        note: a remark on the shape or meaning of the values, or None.
        population: `all`, `first` (position 0 of each sequence) or `rest` (every other real token).
        state: the recorded arrays.
    """

    def __init__(
        self,
        state: SiteState,
        *,
        name: str = "",
        aliases: Sequence[str] = (),
        module_path: str | None = None,
        note: str | None = None,
        population: Population = "all",
    ) -> None:
        """See the class.

        Raises:
            UsageError: there is no such population.
        """
        _check_population(population)
        self.state = state
        self.name = name
        self.aliases = tuple(aliases)
        self.module_path = module_path
        self.note = note
        self.population: Population = population
        self._views: dict[Population, SiteRecord] = {}
        self._parts: tuple[PopulationState, ...] = (
            (state.first, state.rest) if population == "all" else (state.population(population),)
        )

    def __repr__(self) -> str:
        head = (
            f"SiteRecord {self.name or '(unnamed)'}, {self.population}: {self.n_tokens:,} tokens x {self.n_dims:,} dims"
        )
        if not self.n:
            return f"{head}, no finite values"
        shape = f"skewness {self.skewness:.4g}   excess kurtosis {self.excess_kurtosis:.4g}"
        counts = f"zeros {self.n_zero:,}   NaN {self.n_nan:,}   infinities {self.n_inf:,}"
        lines = [
            f"{head}, {self.dtype}",
            f"  mean {self.mean:.6g}   std {self.std:.6g}   {shape}",
            f"  min {self.min:.6g}   max {self.max:.6g}   {counts}",
        ]
        if self.outliers.size:
            value, sequence, position, dim, _ = self.outliers[0]
            place = f"sequence {sequence}, position {position}" if sequence >= 0 else "a token that is not known"
            lines.append(f"  largest {value:.6g} at {place}, dim {dim}")
        return "\n".join(lines)

    # Populations

    @property
    def all(self) -> SiteRecord:
        """The same site over all tokens."""
        return self._with("all")

    @property
    def first(self) -> SiteRecord:
        """The same site over position 0 of each sequence."""
        return self._with("first")

    @property
    def rest(self) -> SiteRecord:
        """The same site over every real token but those at position 0."""
        return self._with("rest")

    def in_population(self, population: Population) -> SiteRecord:
        """The same site over a population given by name.

        Raises:
            UsageError: there is no such population.
        """
        _check_population(population)
        return self._with(population)

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
    def threshold(self) -> float:
        """The magnitude that `dims.n_at_least` counts from."""
        return self.state.threshold

    @cached_property
    def n_tokens(self) -> int:
        """Number of tokens, padding not counted."""
        return sum(part.n_tokens for part in self._parts)

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
        return Distribution(codes, counts, self.dtype, self._pooled_moments(), self.outliers["value"])

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

    # Dims, outliers, tokens

    @cached_property
    def dims(self) -> DimStatistics:
        """Statistics of each dim."""
        n_nonfinite, n_at_least = np.sum([part.dim_counts.astype(np.int64) for part in self._parts], axis=0)
        moments = pool_moments([_dim_moments(part) for part in self._parts])
        return DimStatistics(moments, n_at_least, n_nonfinite)

    @cached_property
    def outliers(self) -> NDArray[np.void]:
        """The k finite values of largest magnitude, largest first: a structured array of `OUTLIER_DTYPE`.

        Equal magnitudes are in order of (sequence, position, dim).
        """
        values = np.concatenate([part.outlier_values for part in self._parts])
        index = np.concatenate([part.outlier_index for part in self._parts])
        order = np.lexsort((index[:, 2], index[:, 1], index[:, 0], -np.abs(values)))[: self.state.k]
        return _outliers(values[order], index[order])

    @cached_property
    def norms(self) -> TokenNorms:
        """The L2 norms of the tokens."""
        codes, counts = _merge_counts([(part.norm_codes, part.norm_counts) for part in self._parts])
        moments = pool_moments([Moments(*part.token_moments.T) for part in self._parts])
        return TokenNorms(codes, counts, moments)

    @cached_property
    def unit_sums(self) -> UnitSums | None:
        """The sums behind the mean cosine between tokens, or None where they were not recorded."""
        if not self.state.unit_sums:
            return None
        sums, squares = np.sum([part.unit_sums for part in self._parts], axis=0)
        # The tokens that have a logarithm of their norm are those that have a direction.
        return UnitSums(int(sum(part.token_moments[1, 0] for part in self._parts)), sums, squares)

    # From sequence to sequence

    @cached_property
    def blocks(self) -> SequenceBlocks | None:
        """The tokens in eight blocks of sequences; None where they were not recorded (outside the residual stream)."""
        return SequenceBlocks.of(self._parts, self.dtype) if self.state.blocks else None

    @cached_property
    def sequence_maxima(self) -> NDArray[np.void]:
        """The finite value of largest magnitude of each of the first 64 sequences of the scan.

        A structured array of `OUTLIER_DTYPE`, ascending by sequence; empty where it was not recorded (outside the
        residual stream).
        """
        values = np.concatenate([part.maxima_values for part in self._parts])
        index = np.concatenate([part.maxima_index for part in self._parts])
        order = np.lexsort((index[:, 2], index[:, 1], -np.abs(values), index[:, 0]))
        values, index = values[order], index[order]
        leading = np.flatnonzero(np.diff(index[:, 0], prepend=-1))
        return _outliers(values[leading], index[leading])

    @cached_property
    def dim_histograms(self) -> DimHistograms | None:
        """A coarse histogram of each dim; None where it was not recorded.

        It is for population `rest` of `resid_post` at five depths.
        """
        if not self.state.detail or self.population != "rest":
            return None
        return DimHistograms.of(self.state.rest, self.n_dims)

    def distribution_without(self, dims: Iterable[int]) -> Distribution:
        """The distribution of all dims but some; see `lmfacts.run.dim_histograms` for how exact it is.

        Raises:
            UsageError: the site's dims were not counted apart.
        """
        taken = list(dims)
        stays = self._stays_without(taken)
        kept = np.ones(self.n_dims, dtype=np.bool_)
        kept[taken] = False
        moments = None
        if not self.exact:
            part = self.state.rest
            n = part.n_tokens - part.dim_counts[0].astype(np.int64)
            moments = Moments.from_rows(n[kept], part.moments[:, kept]).pool()
        return Distribution(*_thinned(self._codes, stays), self.dtype, moments)

    def leave_one_out_without(self, dims: Iterable[int]) -> list[Distribution]:
        """`distribution_without` over all blocks of sequences but one, for each block.

        Raises:
            UsageError: the site's dims were not counted apart.
        """
        stays = np.ones(1 << 16)
        stays[self._codes[0]] = self._stays_without(dims)
        blocks = self.blocks
        histograms = left_out((blocks.histograms or ()) if blocks else ())
        return [Distribution(*_thinned(pool, stays[pool[0]]), self.dtype) for pool in histograms]

    def _stays_without(self, dims: Iterable[int]) -> NDArray[np.float64]:
        if self.dim_histograms is None:
            raise UsageError(
                f"The dims of {self.name or 'this site'} ({self.population}) were not counted apart; they are for "
                "population rest of resid_post at five depths."
            )
        return self.dim_histograms.without(dims, self._codes, self.dtype)

    # Inside

    @cached_property
    def _codes(self) -> tuple[NDArray[np.uint16], NDArray[np.uint64]]:
        return _merge_counts([(part.codes, part.counts) for part in self._parts])

    def _pooled_moments(self) -> Moments:
        """The moments of all values: all dims of all populations in one step."""
        rows = np.concatenate([part.moments for part in self._parts], axis=1)
        n_nonfinite = np.concatenate([part.dim_counts[0] for part in self._parts])
        n_tokens = np.repeat([part.n_tokens for part in self._parts], self.n_dims)
        return Moments.from_rows(n_tokens - n_nonfinite.astype(np.int64), rows).pool()

    def _with(self, population: Population) -> SiteRecord:
        if population == self.population:
            return self  # not kept: a record that refers to itself would outlive its last user
        if population not in self._views:
            self._views[population] = SiteRecord(
                self.state,
                name=self.name,
                aliases=self.aliases,
                module_path=self.module_path,
                note=self.note,
                population=population,
            )
        return self._views[population]


def _outliers(values: NDArray[np.float64], index: NDArray[np.int64]) -> NDArray[np.void]:
    """A structured array of `OUTLIER_DTYPE`."""
    outliers = np.empty(values.size, dtype=OUTLIER_DTYPE)
    outliers["value"] = values
    for column, name in enumerate(("sequence", "position", "dim", "token_id")):
        outliers[name] = index[:, column]
    return outliers


def _thinned(pool: Histogram, stays: NDArray[np.float64]) -> Histogram:
    """A histogram of which a share of each code stays, in whole numbers that add up to what stays of all."""
    codes, counts = pool
    totals = np.floor(np.cumsum(counts * stays) + 0.5)
    kept = np.diff(totals, prepend=0.0).astype(np.uint64)
    return codes[kept > 0], kept[kept > 0]


def _dim_moments(part: PopulationState) -> Moments:
    """The moments of each dim."""
    return Moments.from_rows(part.n_tokens - part.dim_counts[0].astype(np.int64), part.moments)


def _check_population(population: str) -> None:
    """Refuse a name that is no population."""
    if population not in ("all", "first", "rest"):
        raise UsageError(f"A population is all, first or rest; got {population!r}.")


def _merge_counts(
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
