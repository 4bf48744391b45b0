"""Where the largest value of each dim stands."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import numpy as np

from lmfacts.run.statistic import DIMS, Array, Statistic

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lmfacts.run.record import Record

__all__ = ["DimPlaceArrays", "LargestOfDims", "largest_of_dims"]

_NAMED_DIMS: Final = 32
"""Dims of a population whose tokens are kept as text: those with the largest values."""


class DimPlaceArrays(Statistic):
    """The finite value of largest magnitude of each dim; of equal ones that of the earliest sequence and position."""

    name = "dim_places"

    dim_largest = Array(np.float64, DIMS)
    """[d], the values; 0 where a dim has no finite one."""
    dim_places = Array(np.int64, 3, DIMS, absent=-1)
    """[3, d], rows sequence, position, token id (-1 where unknown); -1 where a dim has no finite value."""

    def token_ids(self) -> NDArray[np.int64]:
        """Those of the largest values: the tokens of all dims could be half a vocabulary."""
        largest = np.argsort(-np.abs(self.dim_largest), kind="stable")[:_NAMED_DIMS]
        token_ids: NDArray[np.int64] = self.dim_places[2][largest]
        return token_ids

    def problem(self, n_dims: int) -> str | None:  # noqa: ARG002  as the class has it
        """Every place is one of a token that was seen."""
        if not np.isfinite(self.dim_largest).all():
            return "dim_largest has values that are not finite"
        if not self.part.n_tokens and (self.dim_places[1] >= 0).any():
            return "dim_places has places, and there are no tokens"
        return None


class LargestOfDims(NamedTuple):
    """The largest value of each dim of a record, and where it stands.

    Attributes:
        value: [d] float64, with its sign.
        sequence: [d] int64; -1 where the dim has no finite value.
        position: [d] int64, likewise.
        token_id: [d] int64; -1 where it is not known.
    """

    value: NDArray[np.float64]
    sequence: NDArray[np.int64]
    position: NDArray[np.int64]
    token_id: NDArray[np.int64]


def largest_of_dims(record: Record) -> LargestOfDims | None:
    """The largest value of each dim with its place, of all populations of a record; None if the run has no places."""
    best: LargestOfDims | None = None
    for part in record.parts:
        if "dim_places" not in part.arrays:
            return None
        arrays = DimPlaceArrays(part)
        of_part = LargestOfDims(arrays.dim_largest, *arrays.dim_places)
        best = of_part if best is None else _first(best, of_part)
    return best


def _first(one: LargestOfDims, other: LargestOfDims) -> LargestOfDims:
    """Dim by dim the larger one, and of equal ones the earlier."""
    larger = np.abs(other.value) > np.abs(one.value)
    equal = np.abs(other.value) == np.abs(one.value)
    earlier = (other.sequence < one.sequence) | ((other.sequence == one.sequence) & (other.position < one.position))
    wins = (other.position >= 0) & ((one.position < 0) | larger | (equal & earlier))
    return LargestOfDims(*(np.where(wins, new, old) for old, new in zip(one, other, strict=True)))
