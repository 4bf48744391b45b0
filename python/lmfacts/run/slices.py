"""Single rows and columns of a matrix: how each of a few is distributed.

A norm's gain is one sample of d values, and a matrix is a million; what is unusual for the one has to be asked of as
many values of the other. So a few rows and columns of each matrix are measured by themselves, those that a generator
draws whose seed is the matrix's name.
"""

from __future__ import annotations

import math
import zlib
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lmfacts.run.weight_arrays import SLICES_A_SIDE
from lmfacts.stats.float_values import float_values

if TYPE_CHECKING:
    from collections.abc import Collection

    from numpy.typing import NDArray

__all__ = ["Slices"]

_MOST_WAITING: Final = 1 << 16
"""Values that wait to be measured, at most, but for those of one matrix; as many as a cache holds."""


class Slices:
    """Collects rows and columns of matrices one after another, and measures them some hundreds at a time.

    A call of NumPy takes as long as the values of a slice, so that those of one length go together.
    """

    def __init__(self, lengths: Collection[int] = ()) -> None:
        """Nothing yet.

        Args:
            lengths: those of what the slices will be compared with. Of a matrix whose rows have one of them and whose
                columns do not, rows are taken only, and the other way round; else both.
        """
        self._lengths = lengths
        self._waiting: list[tuple[str, NDArray[Any]]] = []
        self._n_waiting = 0
        self._measured: dict[str, list[NDArray[np.float64]]] = {}

    def add(self, name: str, values: NDArray[Any], dtype: str) -> None:
        """Take some rows and columns of a matrix; which ones depends on its name alone.

        Args:
            name: of the weight.
            values: the matrix as it is stored, its last axis the columns; leading axes are rows.
            dtype: what is stored.
        """
        n_rows, n_columns = math.prod(values.shape[:-1]), values.shape[-1]
        rng = np.random.default_rng(zlib.crc32(name.encode()))
        as_long = n_columns in self._lengths, n_rows in self._lengths
        taken = []
        if as_long[0] or not as_long[1]:
            rows = rng.choice(n_rows, min(n_rows, SLICES_A_SIDE), replace=False, shuffle=False)
            taken.append(values[np.unravel_index(rows, values.shape[:-1])])
        if as_long[1] or not as_long[0]:
            # Neighbors: columns that lie apart take a line of the cache in each row, which is most of the time.
            n = min(n_columns, SLICES_A_SIDE)
            column = int(rng.integers(n_columns - n + 1))
            taken.append(values[..., column : column + n].reshape(n_rows, n).T)
        self._measured[name] = []
        for slices in taken:
            self._waiting.append((name, float_values(np.ascontiguousarray(slices), dtype)))
            self._n_waiting += slices.size
        if self._n_waiting > _MOST_WAITING:
            self._measure()

    def moments(self) -> dict[str, NDArray[np.float64]]:
        """Length, third and fourth standardized moment of each slice, by the weight's name: float64 [n, 3].

        At most 4 rows, and at most 4 columns side by side, of what is stored; NaN where all values are equal.
        """
        self._measure()
        return {name: np.concatenate(parts) for name, parts in self._measured.items()}

    def _measure(self) -> None:
        alike: dict[tuple[int, str], list[int]] = {}
        for index, (_, taken) in enumerate(self._waiting):
            alike.setdefault((taken.shape[1], taken.dtype.str), []).append(index)
        by_index: dict[int, NDArray[np.float64]] = {}
        for indices in alike.values():
            parts = [self._waiting[index][1] for index in indices]
            measured = _moments(np.concatenate(parts))
            stops = np.cumsum([part.shape[0] for part in parts])
            by_index.update(zip(indices, np.split(measured, stops[:-1]), strict=True))
        for index, (name, _) in enumerate(self._waiting):
            self._measured[name].append(by_index[index])
        self._waiting, self._n_waiting = [], 0


@np.errstate(invalid="ignore", divide="ignore", over="ignore")
def _moments(slices: NDArray[Any]) -> NDArray[np.float64]:
    """[k, n] -> [k, 3], over the finite values."""
    deviations = slices.astype(np.float64)
    if slices.dtype == np.float64:
        # In units of the largest, so that no fourth power leaves the range of float64.
        sizes = np.abs(deviations)
        largest = np.where(np.isfinite(sizes), sizes, 0.0).max(axis=1, keepdims=True)
        deviations /= np.where(largest > 0, largest, 1.0)
    count: Any = float(slices.shape[1])
    sums = deviations.sum(axis=1)
    finite = None
    if not np.isfinite(sums).all():
        finite = np.isfinite(deviations)
        deviations[~finite] = 0.0
        count, sums = finite.sum(axis=1).astype(np.float64), deviations.sum(axis=1)
    means = sums / count
    deviations -= means[:, None]
    if finite is not None:
        deviations[~finite] = 0.0
    squares = deviations * deviations
    variance = squares.sum(axis=1) / count
    # Equal values have deviations of rounding size, and no shape.
    variance[~(variance > (count * np.finfo(np.float64).eps * np.abs(means)) ** 2)] = np.nan
    third = np.einsum("ij,ij->i", squares, deviations) / count / variance**1.5
    fourth = np.einsum("ij,ij->i", squares, squares) / count / variance**2
    return np.stack([np.broadcast_to(count, means.shape), third, fourth], axis=1)
