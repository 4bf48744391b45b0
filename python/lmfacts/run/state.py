"""The recorded state of one site as NumPy arrays: what the native accumulator hands over and what a run file holds.

Which arrays there are, each statistic says (`lmfacts.run.statistics`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from lmfacts.errors import UsageError
from lmfacts.run.statistic import POPULATIONS
from lmfacts.run.statistics import REQUIRED, STATISTICS, in_order
from lmfacts.stats.codes import DTYPES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from numpy.typing import NDArray

    from lmfacts.run.statistic import Array, Statistic

__all__ = ["NativeArray", "PopulationState", "SiteState", "array_of_native", "native_array", "stored_arrays"]

NativeArray = tuple[str, tuple[int, ...], bytes]
"""An array as the native side has it: its dtype, its shape, its bytes."""


@dataclass(frozen=True, eq=False)
class PopulationState:
    """What one site recorded of one population. The flat name of an array is `SITE/POPULATION/NAME`.

    Attributes:
        n_tokens: number of tokens.
        arrays: the arrays of the statistics that were recorded, by name; a `Statistic` reads them.
    """

    n_tokens: int
    arrays: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, eq=False)
class SiteState:
    """The complete recorded state of one site.

    Attributes:
        dtype: dtype of the values; empty if the site was never reached.
        n_dims: number of dims, d.
        k: how many outliers are kept per population.
        threshold: what `n_at_least` of the dims counts from.
        statistics: the names of the statistics that were recorded.
        first: the tokens at position 0 of each sequence.
        rest: every other real token.
    """

    dtype: str
    n_dims: int
    k: int
    threshold: float
    statistics: frozenset[str]
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
            problem = self._problem(self.population(name))
            if problem is not None:
                raise UsageError(f"The state of a site is inconsistent: in population {name}, {problem}.")

    def _problem(self, part: PopulationState) -> str | None:
        recorded = [statistic(part) for statistic in in_order(self.statistics)]
        for statistic in recorded:
            problem = statistic.shape_problem(self.n_dims)
            if problem is not None:
                return problem
        for statistic in recorded:
            problem = statistic.problem(self.n_dims)
            if problem is not None:
                return problem
        return None

    def __repr__(self) -> str:
        return (
            f"SiteState({self.dtype or 'never reached'}, {self.n_dims} dims, "
            f"{self.first.n_tokens:,} first and {self.rest.n_tokens:,} other tokens)"
        )

    def has(self, statistic: type[Statistic]) -> bool:
        """Whether a statistic was recorded."""
        return statistic.name in self.statistics

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
        statistics: frozenset[str],
        n_tokens: Mapping[str, int],
    ) -> Self:
        """From arrays named `POPULATION/NAME` as `arrays()` gives them.

        Raises:
            UsageError: the arrays contradict each other or the other arguments.
        """
        names = [name for name, _ in stored_arrays(statistics)]
        populations = {
            part: PopulationState(n_tokens[part], {name: arrays[f"{part}/{name}"] for name in names})
            for part in POPULATIONS
        }
        return cls(dtype=dtype, n_dims=n_dims, k=k, threshold=threshold, statistics=statistics, **populations)

    def arrays(self) -> Iterator[tuple[str, NDArray[Any]]]:
        """Each array to store with its name, `POPULATION/NAME`, little-endian and contiguous."""
        for part in POPULATIONS:
            held = self.population(part).arrays
            for name, array in stored_arrays(self.statistics):
                yield f"{part}/{name}", np.ascontiguousarray(held[name], dtype=array.dtype)

    @classmethod
    def from_native(cls, state: Mapping[str, Any]) -> Self:
        """From `lmfacts._native.SiteAccumulator.state()`: settings, and arrays as dtype, shape and bytes.

        Raises:
            UsageError: an array is missing or of another dtype, or the arrays contradict each other.
        """
        dtype, n_dims = str(state["dtype"]), int(state["n_dims"])
        kept = frozenset(state["statistics"])
        unknown = kept - STATISTICS.keys()
        if unknown:
            raise UsageError(f"A native state has statistics that are not known: {', '.join(sorted(unknown))}.")
        arrays: dict[str, NDArray[Any]] = {}
        for statistic in in_order(kept | REQUIRED):
            is_kept = bool(dtype) and (statistic.name in kept or not statistic.is_option)
            for part in POPULATIONS:
                for name, array in statistic.arrays.items():
                    flat_name = f"{part}/{name}"
                    native = state.get(flat_name)
                    if native is None and is_kept and part in statistic.populations:
                        raise UsageError(f"{flat_name} of a native state is missing.")
                    arrays[flat_name] = array.absent(n_dims) if native is None else array_of_native(native)
                    if arrays[flat_name].dtype != array.dtype:
                        raise UsageError(
                            f"{flat_name} of a native state is {arrays[flat_name].dtype}, expected {array.dtype}."
                        )
        return cls.from_arrays(
            arrays,
            dtype=dtype,
            n_dims=n_dims,
            k=int(state["k"]),
            threshold=float(state["threshold"]),
            statistics=kept | REQUIRED,
            n_tokens={part: int(state[f"{part}/n_tokens"]) for part in POPULATIONS},
        )

    def to_native(self) -> dict[str, object]:
        """The flat dict that `lmfacts._native.SiteAccumulator.from_state()` takes."""
        native: dict[str, object] = {
            "dtype": self.dtype,
            "n_dims": self.n_dims,
            "k": self.k,
            "threshold": self.threshold,
            "statistics": tuple(sorted(name for name in self.statistics if STATISTICS[name].is_option)),
            **{f"{part}/n_tokens": self.population(part).n_tokens for part in POPULATIONS},
        }
        for statistic in in_order(self.statistics):
            for part in statistic.populations:
                held = self.population(part).arrays
                native.update({f"{part}/{name}": native_array(held[name]) for name in statistic.arrays})
        return native


def stored_arrays(statistics: frozenset[str]) -> Iterator[tuple[str, Array[Any]]]:
    """Name and declaration of each array of these statistics."""
    for statistic in in_order(statistics):
        yield from statistic.arrays.items()


def native_array(array: NDArray[Any]) -> NativeArray:
    """An array as the native side takes it."""
    return array.dtype.newbyteorder("<").str, array.shape, np.ascontiguousarray(array).tobytes()


def array_of_native(native: NativeArray) -> NDArray[Any]:
    """An array that the native side gave.

    Raises:
        UsageError: it has not as many bytes as its shape says.
    """
    dtype, shape, data = native
    try:
        return np.frombuffer(data, dtype).reshape(shape)
    except ValueError as error:
        raise UsageError(f"An array of a native state is not what it says it is: {error}.") from None
