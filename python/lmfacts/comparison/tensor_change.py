"""How far two tensors are apart, all their values at hand: exactly, and with the spectrum of the difference.

Sums are of float64, block by block, so that of the wide copies only a block exists at a time. Entries that are not
finite in either tensor are left out and counted.

Singular values of B - A are compared with those of its shuffled entries (`spectrum.shuffled_edge`): how many lie above
is the rank that the difference has beyond what entries of its sizes in random places have. An edit of low rank shows as
that rank, even under the rounding of everything else; noise shows as 0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lmfacts.stats.ratios import in_units
from lmfacts.stats.singular_values import singular_values
from lmfacts.stats.spectrum import shuffled_edge

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

__all__ = ["DifferenceSpectrum", "Distance", "difference_spectrum", "distance_of"]

_BLOCK_BYTES: Final = 32 << 20
_FEW: Final = (16, 64)
"""How many of the largest singular values are looked for, one after the other, before all are computed."""
_SMALL: Final = 256
"""Up to this smaller side all are computed at once."""
_SHOWN: Final = 16
_MATRIX_AXES: Final = 2


@dataclass(frozen=True)
class Distance:
    """Two tensors of one shape, entry by entry. Entries that are not finite in one of them are in no number here.

    Attributes:
        norm_a: Frobenius norm of A.
        norm_b: that of B.
        difference: that of B - A.
        largest: the largest |B - A|.
        place: where that is, by axis; None where nothing differs.
        cosine: the cosine of the angle between A and B; NaN where one of them is zero.
        relative_change: ||B - A|| / ||A||; NaN where A is zero and B is not.
        n_nonfinite: entries that are NaN or infinite in A and in B.
        n_nonfinite_apart: entries that are NaN or infinite in one of them and something else in the other: a number,
            the other infinity, or NaN against an infinity.
    """

    norm_a: float
    norm_b: float
    difference: float
    largest: float
    place: tuple[int, ...] | None
    cosine: float
    relative_change: float
    n_nonfinite: tuple[int, int]
    n_nonfinite_apart: int


@dataclass(frozen=True)
class DifferenceSpectrum:
    """The singular values of B - A.

    Attributes:
        values: the largest, at most 16, largest first.
        shuffled_edge: where those of the same entries in random places end.
        rank: how many lie above that.
        stable_rank: ||B - A||_F^2 / ||B - A||_2^2.
    """

    values: tuple[float, ...]
    shuffled_edge: float
    rank: int
    stable_rank: float


def distance_of(a: NDArray[Any], b: NDArray[Any]) -> Distance:
    """The distance of two arrays of numbers of one shape, of any strides and floating-point types."""
    squares_a, squares_b, squares, products = [], [], [], []
    largest, place = 0.0, None
    n_a = n_b = n_apart = 0
    # In units of a power of two near the largest magnitude, whose squares are in float64's range.
    exponent = max(_exponent(a), _exponent(b))
    with np.errstate(all="ignore"):
        for start, x, y in _pairs(a, b, exponent):
            finite_x, finite_y = np.isfinite(x), np.isfinite(y)
            bad_x, bad_y = x.size - int(finite_x.sum()), y.size - int(finite_y.sum())
            if bad_x or bad_y:
                n_a, n_b = n_a + bad_x, n_b + bad_y
                finite = finite_x & finite_y
                same = (x == y) | (np.isnan(x) & np.isnan(y))
                n_apart += int(np.count_nonzero(~finite & ~same))
                x, y = np.where(finite, x, 0.0), np.where(finite, y, 0.0)  # noqa: PLW2901  blocks without the entries
            d = y - x
            squares_a.append(float(np.vdot(x, x)))
            squares_b.append(float(np.vdot(y, y)))
            products.append(float(np.vdot(x, y)))
            squares.append(float(np.vdot(d, d)))
            index = int(np.abs(d).argmax())
            if (distance := abs(float(d.flat[index]))) > largest:
                inside = np.unravel_index(index, d.shape)
                largest, place = distance, (int(inside[0]) + start, *map(int, inside[1:]))
    norm_a, norm_b, norm = (math.sqrt(math.fsum(each)) for each in (squares_a, squares_b, squares))
    both = norm_a * norm_b
    return Distance(
        norm_a=_times_power_of_2(norm_a, exponent),
        norm_b=_times_power_of_2(norm_b, exponent),
        difference=_times_power_of_2(norm, exponent),
        largest=_times_power_of_2(largest, exponent),
        place=place,
        cosine=min(max(math.fsum(products) / both, -1.0), 1.0) if both > 0 else math.nan,
        relative_change=in_units(norm, norm_a),
        n_nonfinite=(n_a, n_b),
        n_nonfinite_apart=n_apart,
    )


def difference_spectrum(a: NDArray[Any], b: NDArray[Any]) -> DifferenceSpectrum:
    """The spectrum of B - A, two matrices of one shape; entries that are not finite in one of them count as equal."""
    wide = np.float64 in (a.dtype, b.dtype)
    difference = np.empty(a.shape, np.float64 if wide else np.float32)
    halved = 0
    with np.errstate(all="ignore"):
        for halved in (0, 1):
            for start, x, y in _pairs(a, b, halved):
                difference[start : start + len(x)] = y - x
            # Of two finite numbers it can be beyond the range of their type; that of their halves cannot.
            if np.isfinite(difference).all():
                break
    difference[~np.isfinite(difference)] = 0.0
    scale = float(np.abs(difference).max(initial=0.0))
    if not scale > 0:
        return DifferenceSpectrum((), 0.0, 0, math.nan)
    exponent = math.frexp(scale)[1]
    difference = np.ldexp(difference, -exponent)
    exponent += halved
    edge = shuffled_edge(difference)
    values = _values_above(difference, edge)
    total = float(np.square(difference, dtype=np.float64).sum())
    return DifferenceSpectrum(
        values=tuple(_times_power_of_2(float(value), exponent) for value in values[:_SHOWN]),
        shuffled_edge=_times_power_of_2(edge, exponent),
        rank=int(np.count_nonzero(values > edge)),
        stable_rank=total / float(values[0]) ** 2,
    )


def _values_above(matrix: NDArray[Any], edge: float) -> NDArray[np.float64]:
    """The largest singular values, among them all that lie above the edge."""
    size = min(matrix.shape)
    if size > _SMALL:
        from scipy.sparse.linalg import ArpackError, svds  # noqa: PLC0415  slow to load

        start = np.random.default_rng(0).standard_normal(size).astype(matrix.dtype)
        for n_values in _FEW:
            try:
                values = svds(matrix, k=n_values, v0=start, return_singular_vectors=False)
            except ArpackError:  # of many equal singular values
                break
            if values.min() <= edge:
                return np.sort(values.astype(np.float64))[::-1]
    return singular_values(matrix, method="gram" if size > _SMALL else "svd")


def _times_power_of_2(value: float, exponent: int) -> float:
    """The value times 2^exponent, infinite where float64 ends."""
    try:
        return math.ldexp(value, exponent)
    except OverflowError:
        return math.inf


def _exponent(array: NDArray[Any]) -> int:
    """The e for which the largest finite magnitude is below 2^e, or 0 where its square is in float64's range anyway."""
    if array.dtype != np.float64 or not array.size:
        return 0
    magnitudes = np.abs(array)
    exponent = math.frexp(float(magnitudes[np.isfinite(magnitudes)].max(initial=0.0)))[1]
    return exponent if abs(exponent) > 400 else 0  # noqa: PLR2004  squares up to 2^800, of 2^200 entries


def _pairs(
    a: NDArray[Any], b: NDArray[Any], exponent: int
) -> Iterator[tuple[int, NDArray[np.float64], NDArray[np.float64]]]:
    """Where a block begins on the first axis, and the block of A and of B as contiguous float64 over 2^exponent."""
    row_bytes = 8 * math.prod(a.shape[1:])
    step = max(1, _BLOCK_BYTES // max(row_bytes, 1))
    for start in range(0, len(a), step):
        x, y = (np.ascontiguousarray(each[start : start + step], dtype=np.float64) for each in (a, b))
        yield start, *((np.ldexp(x, -exponent), np.ldexp(y, -exponent)) if exponent else (x, y))
