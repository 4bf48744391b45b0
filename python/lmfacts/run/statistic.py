"""What a recorded statistic says of itself: its name, its arrays, where it is recorded, what its arrays must obey.

    class UnitSumArrays(Statistic):
        name = "unit_sums"
        unit_sums = Array(np.float64, 2, DIMS)

`UnitSumArrays(part).unit_sums` is then the array of a population. Names, dtypes and shapes are written down here alone:
the run file, the check on load and the native accumulators go by them. Each statistic is a file of
`lmfacts.run.statistics`, which are found by listing the folder.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic, Self, TypeVar, overload

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from lmfacts.run.state import PopulationState

__all__ = ["ANY", "DIMS", "NO_MOMENTS", "POPULATIONS", "Array", "Sites", "Statistic", "describe_shape", "fits"]

POPULATIONS: Final = ("first", "rest")
"""The two disjoint populations of tokens that are recorded."""

ANY: Final = -1
"""An axis of a length that is known only from the array (how many codes occur, how many outliers are kept)."""

DIMS: Final = "n_dims"
"""An axis as long as the site has dims."""

NO_MOMENTS: Final = (0.0, 0.0, 0.0, 0.0, 0.0, np.inf, -np.inf)
"""n, mean, M2, M3, M4, min and max of no numbers."""

S = TypeVar("S", bound=np.generic)


class Sites(Enum):
    """Where a scan records a statistic."""

    EVERY = "at every site"
    STREAM = "along the residual stream"
    DETAIL = "where more is kept than elsewhere: lmfacts.sites.detail_sites"
    MATRIX_INPUTS = "at the inputs of matrices, where it is asked for"


class Array(Generic[S]):
    """One array of a population: an attribute that reads it.

    Attributes:
        dtype: little-endian.
        shape: lengths, `DIMS` or `ANY`.
    """

    def __init__(self, scalar: type[S], *shape: int | str, absent: ArrayLike = 0.0) -> None:
        """Declare an array.

        Args:
            scalar: the type of its entries.
            shape: length of each axis, `DIMS` or `ANY`.
            absent: what it holds where nothing was recorded, repeated along the first axes.
        """
        self.dtype: np.dtype[S] = np.dtype(scalar).newbyteorder("<")
        self.shape = shape
        self._absent = absent
        self._absents: dict[int, NDArray[S]] = {}
        self._shapes: dict[int, tuple[int, ...]] = {}

    def __set_name__(self, owner: type[Statistic], name: str) -> None:
        self.name = name

    @overload
    def __get__(self, instance: None, owner: type[Statistic]) -> Self: ...
    @overload
    def __get__(self, instance: Statistic, owner: type[Statistic]) -> NDArray[S]: ...
    def __get__(self, instance: Statistic | None, owner: type[Statistic]) -> Self | NDArray[S]:
        """The array of a population, that of nothing where it was not recorded; of the class, the declaration."""
        if instance is None:
            return self
        found = instance.part.arrays.get(self.name)
        return self.absent(0) if found is None else found

    def shape_at(self, n_dims: int) -> tuple[int, ...]:
        """Its shape at a site with so many dims."""
        if n_dims not in self._shapes:
            self._shapes[n_dims] = tuple(n_dims if isinstance(length, str) else length for length in self.shape)
        return self._shapes[n_dims]

    def absent(self, n_dims: int) -> NDArray[S]:
        """What stands for it where nothing was recorded."""
        if n_dims not in self._absents:
            shape = [max(length, 0) for length in self.shape_at(n_dims)]
            filled = np.full(shape, self._absent if 0 not in shape else 0, dtype=self.dtype)
            filled.flags.writeable = False
            self._absents[n_dims] = filled
        return self._absents[n_dims]


class Statistic:
    """What a site recorded of one population, as arrays.

    Attributes:
        part: the population.
    """

    name: ClassVar[str]
    """As the native accumulators call it."""

    arrays: ClassVar[Mapping[str, Array[Any]]]
    """Its arrays, by name."""

    sites: ClassVar[Sites] = Sites.EVERY
    """Where a scan records it."""

    populations: ClassVar[tuple[str, ...]] = POPULATIONS
    """The populations that it is recorded of; in others its arrays are those of nothing."""

    is_required: ClassVar[bool] = False
    """Whether every state has its arrays."""

    is_option: ClassVar[bool] = True
    """Whether the native accumulators can do without it, and are told."""

    entry_key: ClassVar[str | None] = None
    """The key of a site's entry in the run file that says whether it was recorded; None: a list there has its name."""

    def __init_subclass__(cls) -> None:
        cls.arrays = {name: value for name, value in vars(cls).items() if isinstance(value, Array)}

    def __init__(self, part: PopulationState) -> None:
        self.part = part

    def shape_problem(self, n_dims: int) -> str | None:
        """Which array has another shape than it should, as a sentence without its period, or None."""
        for name, array in self.arrays.items():
            found, expected = self.part.arrays[name].shape, array.shape_at(n_dims)
            if not fits(found, expected):
                return f"{name} has shape {list(found)}, expected {describe_shape(expected)}"
        return None

    def token_ids(self) -> NDArray[np.int64]:
        """The tokens whose text a run is to keep, as ids in any order; -1 says nothing."""
        return np.empty(0, dtype=np.int64)

    def problem(self, n_dims: int) -> str | None:  # noqa: ARG002  for those that need it
        """What contradicts what in arrays of the right shapes, as a sentence without its period, or None.

        Args:
            n_dims: number of dims of the site.
        """
        return None


def fits(found: tuple[int, ...], expected: tuple[int, ...]) -> bool:
    """Whether a shape is the expected one, where -1 stands for any length."""
    if found == expected:
        return True
    if len(found) != len(expected):
        return False
    for length, wanted in zip(found, expected, strict=True):  # noqa: SIM110  a plain loop: asked thousands of times
        if wanted not in (ANY, length):
            return False
    return True


def describe_shape(shape: Sequence[int]) -> str:
    """A shape for a message, with `any` for an axis of open length."""
    return "[" + ", ".join("any" if length == ANY else str(length) for length in shape) + "]"
