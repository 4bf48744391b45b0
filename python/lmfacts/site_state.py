"""The recorded state of one site as NumPy arrays: what the native accumulator hands over and what a run file holds."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from lmfacts.codes import DTYPES
from lmfacts.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["POPULATIONS", "PopulationState", "SiteState"]

POPULATIONS: Final = ("first", "rest")
"""The two disjoint populations of tokens that are recorded."""

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
}
"""Dtype and shape of every array of a population, by field name."""


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

    def problem(self, n_dims: int, unit_sums: bool) -> str | None:
        """What contradicts what in these arrays, as a sentence without its period, or None.

        Args:
            n_dims: number of dims of the site.
            unit_sums: whether unit sums were recorded.
        """
        for name, expected in field_shapes(n_dims, unit_sums).items():
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

    def __post_init__(self) -> None:
        """Refuse arrays that contradict each other.

        Raises:
            UsageError: they do; the message names the population and the array.
        """
        if self.dtype not in DTYPES and (self.dtype or self.n_dims):
            raise UsageError(f"The dtype of a site is one of {', '.join(sorted(DTYPES))}; got {self.dtype!r}.")
        for name in POPULATIONS:
            problem = self.population(name).problem(self.n_dims, self.unit_sums)
            if problem is not None:
                raise UsageError(f"The state of a site is inconsistent: in population {name}, {problem}.")

    def __repr__(self) -> str:
        return (
            f"SiteState({self.dtype or 'never reached'}, {self.n_dims} dims, "
            f"{self.first.n_tokens:,} first and {self.rest.n_tokens:,} other tokens)"
        )

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
        unit_sums: bool,
        n_tokens: Mapping[str, int],
    ) -> Self:
        """From arrays named `POPULATION/FIELD` as `arrays()` gives them.

        Raises:
            UsageError: the arrays contradict each other or the other arguments.
        """
        populations = {}
        for name in POPULATIONS:
            fields = {field: arrays[f"{name}/{field}"] for field in field_shapes(n_dims, unit_sums)}
            fields.setdefault("unit_sums", np.empty((2, 0), dtype=np.float64))
            populations[name] = PopulationState(n_tokens=n_tokens[name], **fields)
        return cls(dtype=dtype, n_dims=n_dims, k=k, threshold=threshold, unit_sums=unit_sums, **populations)

    def arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Each array to store with its name, `POPULATION/FIELD`, little-endian and contiguous."""
        for name in POPULATIONS:
            for field in field_shapes(self.n_dims, self.unit_sums):
                array = getattr(self.population(name), field)
                yield f"{name}/{field}", np.ascontiguousarray(array, dtype=FIELDS[field][0])

    @classmethod
    def from_native(cls, state: Mapping[str, Any]) -> Self:
        """From `lmfacts._native.SiteAccumulator.state()`: settings, and arrays as little-endian bytes.

        Raises:
            UsageError: an array's length does not fit the settings, or the arrays contradict each other.
        """
        n_dims, unit_sums = int(state["n_dims"]), bool(state["unit_sums"])
        arrays: dict[str, NDArray[Any]] = {}
        for name in POPULATIONS:
            for field, expected in field_shapes(n_dims, unit_sums).items():
                dtype = FIELDS[field][0]
                flat = np.frombuffer(state[f"{name}/{field}"], dtype=dtype)
                if field == "token_moments" and not flat.size:
                    flat = np.tile([0, 0, 0, 0, 0, np.inf, -np.inf], 3)
                if field == "token_mean_rests" and not flat.size:
                    flat = np.zeros(3)
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
            unit_sums=unit_sums,
            n_tokens={name: int(state[f"{name}/n_tokens"]) for name in POPULATIONS},
        )

    def to_native(self) -> dict[str, object]:
        """The flat dict that `lmfacts._native.SiteAccumulator.from_state()` takes."""
        native: dict[str, object] = {
            "dtype": self.dtype,
            "n_dims": self.n_dims,
            "k": self.k,
            "threshold": self.threshold,
            "unit_sums": self.unit_sums,
        }
        for name in POPULATIONS:
            native[f"{name}/n_tokens"] = self.population(name).n_tokens
            native[f"{name}/unit_sums"] = b""
        native.update((name, array.tobytes()) for name, array in self.arrays())
        return native


@cache
def field_shapes(n_dims: int, unit_sums: bool) -> dict[str, tuple[int, ...]]:
    """Field name -> its shape at a site, for the fields that are stored; -1 for an axis of open length."""
    return {
        field: tuple(n_dims if isinstance(length, str) else length for length in shape)
        for field, (_, shape) in FIELDS.items()
        if unit_sums or field != "unit_sums"
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
