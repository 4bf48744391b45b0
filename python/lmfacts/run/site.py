"""What was recorded at one site, as statistics: the view of a `SiteState` that users and facts read."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal, Self

import numpy as np

from lmfacts.errors import UsageError
from lmfacts.run.blocks import Histogram, SequenceBlocks, left_out
from lmfacts.run.dim_histograms import DimHistograms
from lmfacts.run.record import Record, merge_counts
from lmfacts.run.statistics.dim_blocks import DimBlockArrays, DimBlocks
from lmfacts.run.statistics.dim_histograms import DimHistogramArrays
from lmfacts.run.statistics.dim_moments import DimMomentArrays
from lmfacts.run.statistics.dim_places import LargestOfDims, largest_of_dims
from lmfacts.run.statistics.sequence_blocks import SequenceBlockArrays
from lmfacts.run.statistics.token_norms import TokenNormArrays
from lmfacts.run.statistics.unit_sums import UnitSumArrays
from lmfacts.run.tokens import TokenNorms, UnitSums
from lmfacts.stats.distribution import Distribution
from lmfacts.stats.moments import Moments, pool_moments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from lmfacts.run.entries import SiteInfo
    from lmfacts.run.state import SiteState

__all__ = ["OUTLIER_DTYPE", "Population", "SiteRecord"]

Population = Literal["all", "first", "rest"]

OUTLIER_DTYPE: Final = np.dtype(
    [("value", "f8"), ("sequence", "i8"), ("position", "i8"), ("dim", "i8"), ("token_id", "i8")]
)
"""One outlier: its value, where it is, and the token it sits on (-1 where that is unknown)."""


class SiteRecord(Record):
    """Statistics of one site over one population of tokens, by default all of them: see `Record` for what is exact.

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
        parts = (state.first, state.rest) if population == "all" else (state.population(population),)
        super().__init__(state, parts, name=name, aliases=aliases, note=note)
        self.module_path = module_path
        self.population: Population = population
        self._views: dict[Population, SiteRecord] = {}

    @classmethod
    def of_entry(cls, state: SiteState, entry: SiteInfo, _: Callable[[], Mapping[str, NDArray[Any]]]) -> Self:
        """From what a run says of the site."""
        return cls(state, name=entry.name, aliases=entry.aliases, module_path=entry.module_path, note=entry.note)

    def __repr__(self) -> str:
        head = (
            f"SiteRecord {self.name or '(unnamed)'}, {self.population}: {self.n_tokens:,} tokens x {self.n_dims:,} dims"
        )
        if not self.n:
            return f"{head}, no finite values"
        lines = [f"{head}, {self.dtype}", *self._figures()]
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

    @property
    def threshold(self) -> float:
        """The magnitude that `dims.n_at_least` counts from."""
        return self.state.threshold

    @cached_property
    def n_tokens(self) -> int:
        """Number of tokens, padding not counted."""
        return sum(part.n_tokens for part in self.parts)

    # Dims, outliers, tokens

    @cached_property
    def outliers(self) -> NDArray[np.void]:
        """The k finite values of largest magnitude, largest first: a structured array of `OUTLIER_DTYPE`.

        Equal magnitudes are in order of (sequence, position, dim).
        """
        return _outliers(*self._largest)

    @cached_property
    def largest_of_dims(self) -> LargestOfDims | None:
        """The finite value of largest magnitude of each dim, and where it stands; None where that was not recorded."""
        return largest_of_dims(self)

    @cached_property
    def norms(self) -> TokenNorms:
        """The L2 norms of the tokens."""
        of_tokens = [TokenNormArrays(part) for part in self.parts]
        codes, counts = merge_counts([(arrays.norm_codes, arrays.norm_counts) for arrays in of_tokens])
        moments = pool_moments([Moments(*arrays.token_moments.T) for arrays in of_tokens])
        return TokenNorms(codes, counts, moments)

    @cached_property
    def unit_sums(self) -> UnitSums | None:
        """The sums behind the mean cosine between tokens, or None where they were not recorded."""
        if not self.state.has(UnitSumArrays):
            return None
        sums, squares = np.sum([UnitSumArrays(part).unit_sums for part in self.parts], axis=0)
        # The tokens that have a logarithm of their norm are those that have a direction.
        return UnitSums(int(sum(TokenNormArrays(part).token_moments[1, 0] for part in self.parts)), sums, squares)

    # From sequence to sequence

    @cached_property
    def blocks(self) -> SequenceBlocks | None:
        """The tokens in eight blocks of sequences; None where they were not recorded (outside the residual stream)."""
        return SequenceBlocks.of(self.parts, self.dtype) if self.state.has(SequenceBlockArrays) else None

    @cached_property
    def dim_blocks(self) -> DimBlocks | None:
        """Sums of each dim in eight blocks of sequences; None where they were not recorded.

        They are for population `rest` of the residual stream.
        """
        if self.population != "rest" or not self.state.has(DimBlockArrays):
            return None
        return DimBlocks.of(self.state.rest)

    @cached_property
    def sequence_maxima(self) -> NDArray[np.void]:
        """The finite value of largest magnitude of each of the first 64 sequences of the scan.

        A structured array of `OUTLIER_DTYPE`, ascending by sequence; empty where it was not recorded (outside the
        residual stream).
        """
        maxima = [SequenceBlockArrays(part) for part in self.parts]
        values = np.concatenate([arrays.maxima_values for arrays in maxima])
        index = np.concatenate([arrays.maxima_index for arrays in maxima])
        order = np.lexsort((index[:, 2], index[:, 1], -np.abs(values), index[:, 0]))
        values, index = values[order], index[order]
        leading = np.flatnonzero(np.diff(index[:, 0], prepend=-1))
        return _outliers(values[leading], index[leading])

    @cached_property
    def dim_histograms(self) -> DimHistograms | None:
        """A coarse histogram of each dim; None where it was not recorded.

        It is for population `rest` of `resid_post` at five depths.
        """
        if not self.state.has(DimHistogramArrays) or self.population != "rest":
            return None
        return DimHistograms.of(self.state.rest, self.n_dims)

    def distribution_without(self, dims: Iterable[int]) -> Distribution:
        """The distribution of all dims but some; see `lmfacts.run.dim_histograms` for how exact it is.

        Raises:
            UsageError: the site's dims were not counted separately.
        """
        taken = list(dims)
        stays = self._stays_without(taken)
        kept = np.ones(self.n_dims, dtype=np.bool_)
        kept[taken] = False
        moments = None
        if not self.exact:
            of_dims = DimMomentArrays(self.state.rest)
            n = self.state.rest.n_tokens - of_dims.dim_counts[0].astype(np.int64)
            moments = Moments.from_rows(n[kept], of_dims.moments[:, kept]).pool()
        return Distribution(*_thinned(self._codes, stays), self.dtype, moments)

    def leave_one_out_without(self, dims: Iterable[int]) -> list[Distribution]:
        """`distribution_without` over all blocks of sequences but one, for each block.

        Raises:
            UsageError: the site's dims were not counted separately.
        """
        stays = np.ones(1 << 16)
        stays[self._codes[0]] = self._stays_without(dims)
        blocks = self.blocks
        histograms = left_out((blocks.histograms or ()) if blocks else ())
        return [Distribution(*_thinned(pool, stays[pool[0]]), self.dtype) for pool in histograms]

    def _stays_without(self, dims: Iterable[int]) -> NDArray[np.float64]:
        if self.dim_histograms is None:
            raise UsageError(
                f"The dims of {self.name or 'this site'} ({self.population}) were not counted separately; they are for "
                "population rest of resid_post at five depths."
            )
        return self.dim_histograms.without(dims, self._codes, self.dtype)

    # Inside

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


def _check_population(population: str) -> None:
    """Refuse a name that is no population."""
    if population not in ("all", "first", "rest"):
        raise UsageError(f"A population is all, first or rest; got {population!r}.")
