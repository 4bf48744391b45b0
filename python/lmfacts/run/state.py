"""The recorded state of one site as NumPy arrays: what the native accumulator hands over and what a run file holds."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from lmfacts.errors import UsageError
from lmfacts.stats.codes import DTYPES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["N_BINS", "N_BLOCKS", "N_MAXIMA", "POPULATIONS", "PopulationState", "SiteState"]

POPULATIONS: Final = ("first", "rest")
"""The two disjoint populations of tokens that are recorded."""

N_BLOCKS: Final = 8
"""Blocks of sequences; a sequence is in the block of its index modulo this."""

N_MAXIMA: Final = 64
"""Sequences, from the first, whose largest value is kept."""

N_BINS: Final = 256
"""Bins of a dim's coarse histogram."""

OPEN: Final = -1
"""An axis whose length the header does not fix (how many codes occur, how many outliers are kept)."""

FIELDS: Final[dict[str, tuple[str, tuple[int | str, ...]]]] = {
    "codes": ("<u2", (OPEN,)),
    "counts": ("<u8", (OPEN,)),
    "moments": ("<f8", (6, "n_dims")),
    "mean_rests": ("<f8", ("n_dims",)),
    "dim_counts": ("<u8", (2, "n_dims")),
    "norm_codes": ("<u2", (OPEN,)),
    "norm_counts": ("<u8", (OPEN,)),
    "token_moments": ("<f8", (3, 7)),
    "token_mean_rests": ("<f8", (3,)),
    "unit_sums": ("<f8", (2, "n_dims")),
    "outlier_values": ("<f8", (OPEN,)),
    "outlier_index": ("<i8", (OPEN, 4)),
    "block_tokens": ("<u8", (N_BLOCKS,)),
    "block_token_moments": ("<f8", (N_BLOCKS, 3, 7)),
    "block_token_mean_rests": ("<f8", (N_BLOCKS, 3)),
    "maxima_values": ("<f8", (OPEN,)),
    "maxima_index": ("<i8", (OPEN, 4)),
    "block_lengths": ("<u8", (OPEN,)),
    "block_codes": ("<u2", (OPEN,)),
    "block_counts": ("<u8", (OPEN,)),
    "dim_bins": ("<u4", (OPEN,)),
    "dim_bin_counts": ("<u8", (OPEN,)),
}
"""Dtype and shape of every array of a population, by field name."""

OPTIONS: Final[dict[str, tuple[str, ...]]] = {
    "unit_sums": ("unit_sums",),
    "blocks": ("block_tokens", "block_token_moments", "block_token_mean_rests", "maxima_values", "maxima_index"),
    "detail": ("block_lengths", "block_codes", "block_counts", "dim_bins", "dim_bin_counts"),
}
"""The fields that are recorded only where a setting of the site asks for them, by that setting."""

_OPTION_OF: Final = {field: option for option, fields in OPTIONS.items() for field in fields}


@dataclass(frozen=True, eq=False)
class PopulationState:
    """What one site recorded of one population. The flat name of an array is `SITE/POPULATION/FIELD`.

    Attributes:
        n_tokens: number of tokens.
        codes: uint16 [m], ascending: the codes that occur, those of NaN and infinities included.
        counts: uint64 [m], how often each does.
        moments: float64 [6, d], rows mean, M2, M3, M4, min, max of each dim's finite values; 0, 0, 0, 0, +inf, -inf for
            none.
        mean_rests: float64 [d], what rounding took from each mean: merging needs the difference of two means to more
            digits than the means themselves have.
        dim_counts: uint64 [2, d], rows n_nonfinite and n_at_least (|x| >= threshold; infinities count, NaN does not).
        norm_codes: uint16 [m2], ascending: the float32 codes of the tokens' L2 norms (tokens with a non-finite value
            left out).
        norm_counts: uint64 [m2], how often each occurs.
        token_moments: float64 [3, 7], rows L2 norm, its natural logarithm, the logarithm of the norm of x - mean(x);
            columns n, mean, M2, M3, M4, min, max over the tokens.
        token_mean_rests: float64 [3], what rounding took from those means.
        unit_sums: float64 [2, d], rows sum of the tokens' unit vectors and of their squared entries; [2, 0] if not
            recorded.
        outlier_values: float64 [j], the finite values of largest magnitude, largest first.
        outlier_index: int64 [j, 4], columns sequence, position, dim, token id (-1 where unknown).
        block_tokens: uint64 [8], tokens of each block of sequences; zeros, as all that follows is empty, if not
            recorded.
        block_token_moments: float64 [8, 3, 7], `token_moments` of each block.
        block_token_mean_rests: float64 [8, 3], what rounding took from those means.
        maxima_values: float64 [i], i <= 64, the finite value of largest magnitude of each of the first 64 sequences of
            the scan that has one.
        maxima_index: int64 [i, 4], as `outlier_index`; sequences ascend.
        block_lengths: uint64 [8], how many different codes each block has; empty for `first`.
        block_codes: uint16 [b], the codes of the blocks one after the other, ascending in each.
        block_counts: uint64 [b], how often each occurs in its block.
        dim_bins: uint32 [c], ascending: dim x 256 + bin of the bins that hold a value (`lmfacts.run.dim_histograms`);
            empty for `first`.
        dim_bin_counts: uint64 [c], how many each holds.
    """

    n_tokens: int
    codes: NDArray[np.uint16]
    counts: NDArray[np.uint64]
    moments: NDArray[np.float64]
    mean_rests: NDArray[np.float64]
    dim_counts: NDArray[np.uint64]
    norm_codes: NDArray[np.uint16]
    norm_counts: NDArray[np.uint64]
    token_moments: NDArray[np.float64]
    token_mean_rests: NDArray[np.float64]
    unit_sums: NDArray[np.float64]
    outlier_values: NDArray[np.float64]
    outlier_index: NDArray[np.int64]
    block_tokens: NDArray[np.uint64]
    block_token_moments: NDArray[np.float64]
    block_token_mean_rests: NDArray[np.float64]
    maxima_values: NDArray[np.float64]
    maxima_index: NDArray[np.int64]
    block_lengths: NDArray[np.uint64]
    block_codes: NDArray[np.uint16]
    block_counts: NDArray[np.uint64]
    dim_bins: NDArray[np.uint32]
    dim_bin_counts: NDArray[np.uint64]

    def problem(self, n_dims: int, options: frozenset[str]) -> str | None:
        """What contradicts what in these arrays, as a sentence without its period, or None.

        Args:
            n_dims: number of dims of the site.
            options: the settings of `OPTIONS` that were on.
        """
        for name, expected in field_shapes(n_dims, options).items():
            found = getattr(self, name).shape
            if found != expected and not fits(found, expected):
                return f"{name} has shape {list(found)}, expected {describe_shape(expected)}"
        for codes, counts in (("codes", "counts"), ("norm_codes", "norm_counts")):
            if getattr(self, codes).size != getattr(self, counts).size:
                return f"{codes} and {counts} differ in length"
            if (getattr(self, codes)[1:] <= getattr(self, codes)[:-1]).any():
                return f"{codes} do not ascend"
        if self.outlier_values.size != self.outlier_index.shape[0]:
            return "outlier_values and outlier_index differ in length"
        n_values, n_counted = self.n_tokens * n_dims, int(self.counts.sum())
        if n_counted != n_values or (self.counts.size and int(self.counts.max()) > n_values):
            return f"the counts add up to {n_counted}, but {self.n_tokens} tokens have {n_values} values"
        if self.norm_counts.size and max(int(self.norm_counts.sum()), int(self.norm_counts.max())) > self.n_tokens:
            return f"more norms are counted than there are tokens ({self.n_tokens})"
        if not np.all((self.token_moments[:, 0] >= 0) & (self.token_moments[:, 0] <= self.n_tokens)):
            return f"token_moments count more tokens than there are ({self.n_tokens})"
        if n_dims and int(self.dim_counts.max()) > self.n_tokens:
            return f"dim_counts exceed the number of tokens, {self.n_tokens}"
        problem = self._problem_of_blocks() if "blocks" in options else None
        return problem or (self._problem_of_detail(n_dims) if "detail" in options else None)

    def _problem_of_blocks(self) -> str | None:
        if self.maxima_values.size != self.maxima_index.shape[0]:
            return "maxima_values and maxima_index differ in length"
        sequences = self.maxima_index[:, 0]
        if sequences.size and not (np.all(np.diff(sequences) > 0) and sequences[0] >= 0 and sequences[-1] < N_MAXIMA):
            return f"maxima_index has sequences that do not ascend within the first {N_MAXIMA}"
        n_in_blocks = int(self.block_tokens.sum())
        if n_in_blocks not in (0, self.n_tokens):
            return f"the blocks have {n_in_blocks} tokens, the population {self.n_tokens}"
        return None

    def _problem_of_detail(self, n_dims: int) -> str | None:
        if not self.block_codes.size == self.block_counts.size == int(self.block_lengths.sum()):
            return "block_lengths, block_codes and block_counts do not fit together"
        n_values = self.n_tokens * n_dims
        if self.block_lengths.size not in (0, N_BLOCKS):
            return f"block_lengths are {self.block_lengths.size}, expected {N_BLOCKS}"
        if self.block_lengths.size and int(self.block_counts.sum()) != n_values:
            return f"the blocks have {int(self.block_counts.sum())} values, the population {n_values}"
        if self.dim_bins.size != self.dim_bin_counts.size or (self.dim_bins[1:] <= self.dim_bins[:-1]).any():
            return "dim_bins do not ascend, or have other than one count each"
        last_bin = int(self.dim_bins[-1]) if self.dim_bins.size else -1
        if last_bin >= n_dims * N_BINS or int(self.dim_bin_counts.sum()) > n_values:
            return f"dim_bins hold more than {n_dims} dims of {self.n_tokens} tokens have"
        return None


@dataclass(frozen=True, eq=False)
class SiteState:
    """The complete recorded state of one site.

    Attributes:
        dtype: dtype of the values; empty if the site was never reached.
        n_dims: number of dims, d.
        k: how many outliers are kept per population.
        threshold: what `n_at_least` of the dims counts from.
        unit_sums: whether sums of unit vectors were recorded.
        blocks: whether tokens and norms were recorded by blocks of sequences, and maxima of the first sequences.
        detail: whether codes were recorded by blocks of sequences, and a histogram of each dim.
        first: the tokens at position 0 of each sequence.
        rest: every other real token.
    """

    dtype: str
    n_dims: int
    k: int
    threshold: float
    unit_sums: bool
    first: PopulationState
    rest: PopulationState
    blocks: bool = False
    detail: bool = False

    def __post_init__(self) -> None:
        """Refuse arrays that contradict each other.

        Raises:
            UsageError: they do; the message names the population and the array.
        """
        if self.dtype not in DTYPES and (self.dtype or self.n_dims):
            raise UsageError(f"The dtype of a site is one of {', '.join(sorted(DTYPES))}; got {self.dtype!r}.")
        for name in POPULATIONS:
            problem = self.population(name).problem(self.n_dims, self.options)
            if problem is not None:
                raise UsageError(f"The state of a site is inconsistent: in population {name}, {problem}.")

    def __repr__(self) -> str:
        return (
            f"SiteState({self.dtype or 'never reached'}, {self.n_dims} dims, "
            f"{self.first.n_tokens:,} first and {self.rest.n_tokens:,} other tokens)"
        )

    @property
    def options(self) -> frozenset[str]:
        """The settings of `OPTIONS` that were on."""
        return frozenset(option for option in OPTIONS if getattr(self, option))

    def population(self, name: str) -> PopulationState:
        """The state of population `first` or `rest`."""
        return self.first if name == "first" else self.rest

    @classmethod
    def from_arrays(
        cls,
        arrays: Mapping[str, NDArray[Any]],
        *,
        dtype: str,
        n_dims: int,
        k: int,
        threshold: float,
        options: frozenset[str],
        n_tokens: Mapping[str, int],
    ) -> Self:
        """From arrays named `POPULATION/FIELD` as `arrays()` gives them.

        Raises:
            UsageError: the arrays contradict each other or the other arguments.
        """
        populations = {}
        for name in POPULATIONS:
            fields = {field: arrays[f"{name}/{field}"] for field in field_shapes(n_dims, options)}
            populations[name] = PopulationState(n_tokens=n_tokens[name], **{**_absent_fields(), **fields})
        return cls(
            dtype=dtype,
            n_dims=n_dims,
            k=k,
            threshold=threshold,
            unit_sums="unit_sums" in options,
            blocks="blocks" in options,
            detail="detail" in options,
            **populations,
        )

    def arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Each array to store with its name, `POPULATION/FIELD`, little-endian and contiguous."""
        for name in POPULATIONS:
            for field in field_shapes(self.n_dims, self.options):
                array = getattr(self.population(name), field)
                yield f"{name}/{field}", np.ascontiguousarray(array, dtype=FIELDS[field][0])

    @classmethod
    def from_native(cls, state: Mapping[str, Any]) -> Self:
        """From `lmfacts._native.SiteAccumulator.state()`: settings, and arrays as little-endian bytes.

        Raises:
            UsageError: an array's length does not fit the settings, or the arrays contradict each other.
        """
        n_dims = int(state["n_dims"])
        options = frozenset(option for option in OPTIONS if state.get(option, False))
        arrays: dict[str, NDArray[Any]] = {}
        for name in POPULATIONS:
            for field, expected in field_shapes(n_dims, options).items():
                dtype = FIELDS[field][0]
                flat = np.frombuffer(state[f"{name}/{field}"], dtype=dtype)
                if field == "token_moments" and not flat.size:
                    flat = np.tile([0, 0, 0, 0, 0, np.inf, -np.inf], 3)
                if field == "block_token_moments" and not flat.size:
                    flat = np.tile([0, 0, 0, 0, 0, np.inf, -np.inf], 3 * N_BLOCKS)
                if field in ("token_mean_rests", "block_tokens", "block_token_mean_rests") and not flat.size:
                    flat = np.zeros(math.prod(expected), dtype=dtype)
                try:
                    arrays[f"{name}/{field}"] = (
                        flat.reshape(expected) if 0 not in expected else np.empty(expected, dtype)
                    )
                except ValueError:
                    raise UsageError(
                        f"{name}/{field} of a native state has {flat.size} entries, which do not fit the shape "
                        f"{describe_shape(expected)}."
                    ) from None
        return cls.from_arrays(
            arrays,
            dtype=str(state["dtype"]),
            n_dims=n_dims,
            k=int(state["k"]),
            threshold=float(state["threshold"]),
            options=options,
            n_tokens={name: int(state[f"{name}/n_tokens"]) for name in POPULATIONS},
        )

    def to_native(self) -> dict[str, object]:
        """The flat dict that `lmfacts._native.SiteAccumulator.from_state()` takes."""
        native: dict[str, object] = {
            "dtype": self.dtype,
            "n_dims": self.n_dims,
            "k": self.k,
            "threshold": self.threshold,
            **{option: getattr(self, option) for option in OPTIONS},
        }
        for name in POPULATIONS:
            native[f"{name}/n_tokens"] = self.population(name).n_tokens
            native.update({f"{name}/{field}": b"" for field in _OPTION_OF})
        native.update((name, array.tobytes()) for name, array in self.arrays())
        return native


@cache
def field_shapes(n_dims: int, options: frozenset[str]) -> dict[str, tuple[int, ...]]:
    """Field name -> its shape at a site, for the fields that are stored; -1 for an axis of open length."""
    return {
        field: tuple(n_dims if isinstance(length, str) else length for length in shape)
        for field, (_, shape) in FIELDS.items()
        if field not in _OPTION_OF or _OPTION_OF[field] in options
    }


@cache
def _absent_fields() -> dict[str, NDArray[Any]]:
    """What stands for the fields that were not recorded."""
    shapes = field_shapes(0, frozenset(OPTIONS))
    return {
        field: np.zeros([max(length, 0) for length in shapes[field]], dtype=FIELDS[field][0]) for field in _OPTION_OF
    }


def fits(found: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    """Whether a shape is the expected one, where -1 stands for any length."""
    if found == expected:
        return True
    if len(found) != len(expected):
        return False
    for length, wanted in zip(found, expected, strict=True):  # noqa: SIM110  a plain loop: asked thousands of times
        if wanted not in (OPEN, length):
            return False
    return True


def describe_shape(shape: Sequence[int]) -> str:
    """A shape for a message, with `any` for an axis of open length."""
    return "[" + ", ".join("any" if length == OPEN else str(length) for length in shape) + "]"
