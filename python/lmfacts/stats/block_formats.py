"""What number formats cost that give every block of values a scale of its own, from a joint histogram.

The histogram counts how often a value and the largest magnitude M of its block occur together, by bins:

- M by sixteenths of the powers of two from 2^-20 to 2^20, [640]; what is smaller or larger is in the first or the last;
- of each, the values, [233]: by 32nds of the power of two that M is in and of the four below it, by quarters of the
  sixteen below these, then all smaller ones; and last M itself, once for each block, by eighths of its bin.

Of some sites one value is most of the sum of squares, and the small ones of its block are most of the error.

A cell is `bin of M x 233 + column`. Blocks of zeros are not counted: they cost nothing.

Both formats write values as E2M1 (0, 0.5, 1, 1.5, 2, 3, 4, 6 and their negatives), rounded to the nearest, ties to
even, times a scale for each block:

- MXFP4 (OCP Microscaling Formats 1.0): blocks of 32, scale 2^(floor(log2 M) - 2); what is above 6 scales becomes 6.
- NVFP4: blocks of 16, scale M / 6 rounded to E4M3 in units of (largest magnitude of the tensor) / (6 x 448).

The error of a cell is the mean over points that are spread evenly in it, as far as its dtype has numbers there. Where a
handful of values is most of the sum of squares, that is a rough guess; the largest values of a site are known exactly,
and those of them that are the largest of their block are taken as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

__all__ = ["N_COLUMNS", "N_LARGEST", "BlockHistogram", "mxfp4_snr", "nvfp4_snr", "to_e2m1", "to_e4m3"]

_LARGEST_PER_OCTAVE: Final = 16
_FINE_OCTAVES: Final = 5
_PER_FINE_OCTAVE: Final = 32
_COARSE_OCTAVES: Final = 16
_PER_COARSE_OCTAVE: Final = 4
_FIRST_OCTAVE: Final = -20

N_LARGEST: Final = 40 * _LARGEST_PER_OCTAVE
"""Bins of the largest magnitude of a block."""

_COARSE: Final = _FINE_OCTAVES * _PER_FINE_OCTAVE
_SMALLER: Final = _COARSE + _COARSE_OCTAVES * _PER_COARSE_OCTAVE
_ITSELF: Final = _SMALLER + 1
_PARTS_OF_LARGEST: Final = 8

N_COLUMNS: Final = _ITSELF + _PARTS_OF_LARGEST
"""Bins of the values beside it."""

_N_POINTS: Final = 4
"""In a bin, of either number."""

_MANTISSA_BITS: Final = {"bfloat16": 7, "float16": 10, "float8_e4m3fn": 3, "float8_e5m2": 2}
"""Bits behind the first one, of types of which a bin holds few numbers."""

_MOST_BEYOND: Final = 1e-3
"""Of the square of the largest value, what all values in the first bin may have together."""

_LARGEST_E2M1: Final = 6.0
_LARGEST_E4M3: Final = 448.0


def to_e2m1(values: Floats) -> Floats:
    """Magnitudes rounded to the nearest of E2M1, ties to even; those above 6 become 6."""
    return _rounded(values, mantissa=1, least=0, largest=_LARGEST_E2M1)


def to_e4m3(values: Floats) -> Floats:
    """Magnitudes rounded to the nearest of E4M3, ties to even; those above 448 become 448."""
    return _rounded(values, mantissa=3, least=-6, largest=_LARGEST_E4M3)


@dataclass(frozen=True, eq=False)
class BlockHistogram:
    """How often values and the largest of their blocks occur together.

    Attributes:
        cells: int64 [c], the cells that hold something.
        counts: int64 [c], how often each occurs.
        largest: the largest magnitude of all values.
        known: float64 [n], magnitudes of values that are the largest of their block, as far as they are known exactly.
        dtype: of the values.
    """

    cells: Integers
    counts: Integers
    largest: float
    known: Floats
    dtype: str

    def points(self) -> tuple[Floats, Floats, Integers]:
        """Largest magnitudes [c + n, 4, 1], the values that stand for each [c + n, 4, 4], and how often they occur."""
        cells = _cells_of_largest(self.known)
        places = np.minimum(np.searchsorted(self.cells, cells), self.cells.size - 1)
        is_held = self.cells[places] == cells
        counts = self.counts.copy()
        np.subtract.at(counts, places[is_held], 1)
        if (counts < 0).any():  # they are of other values than the histogram
            counts, is_held = self.counts, np.zeros(self.known.size, np.bool_)
        exact = np.broadcast_to(self.known[is_held, None, None], (int(is_held.sum()), _N_POINTS, _N_POINTS))
        largest, values = _points(self.cells, self.dtype)
        counts = np.concatenate([counts, np.ones(len(exact), np.int64)])
        return np.concatenate([largest, exact[:, :, :1]]), np.concatenate([values, exact]), counts

    @property
    def is_within_bins(self) -> bool:
        """Whether the bins tell nearly all of the sum of squares: not without values, or where some lie beyond them."""
        if not self.cells.size or not 0 < self.largest < 2.0 ** (_FIRST_OCTAVE + N_LARGEST // _LARGEST_PER_OCTAVE):
            return False
        in_first = self.counts[self.cells < N_COLUMNS].sum() * 4.0**_FIRST_OCTAVE
        return bool(in_first <= _MOST_BEYOND * self.largest**2)


def mxfp4_snr(histogram: BlockHistogram) -> float:
    """Signal to quantization noise in MXFP4, in dB, from a histogram of blocks of 32.

    Returns:
        10 log10(sum of x^2 / sum of squared errors); infinite without errors, NaN without values or where magnitudes
        lie beyond the bins.
    """
    if not histogram.is_within_bins:
        return float("nan")
    largest, values, counts = histogram.points()
    return _snr(values, largest_scale=np.exp2(np.floor(np.log2(largest)) - 2.0), counts=counts)


def nvfp4_snr(histogram: BlockHistogram) -> float:
    """The same in NVFP4, from a histogram of blocks of 16; the tensor's scale follows from its largest magnitude."""
    if not histogram.is_within_bins:
        return float("nan")
    largest, values, counts = histogram.points()
    of_tensor = histogram.largest / (_LARGEST_E2M1 * _LARGEST_E4M3)
    return _snr(values, largest_scale=to_e4m3(largest / (_LARGEST_E2M1 * of_tensor)) * of_tensor, counts=counts)


def _cells_of_largest(magnitudes: Floats) -> Integers:
    """The cell of each as the largest of its block; one that does not exist for those beyond the bins."""
    mantissas, exponents = np.frexp(magnitudes)
    parts = np.floor((2 * mantissas - 1) * _LARGEST_PER_OCTAVE * _PARTS_OF_LARGEST).astype(np.int64)
    rows = (exponents - 1 - _FIRST_OCTAVE) * _LARGEST_PER_OCTAVE + parts // _PARTS_OF_LARGEST
    cells = rows * N_COLUMNS + _ITSELF + parts % _PARTS_OF_LARGEST
    return np.asarray(np.where((rows >= 0) & (rows < N_LARGEST), cells, -1))


def _points(cells: Integers, dtype: str) -> tuple[Floats, Floats]:
    """Of each cell the largest magnitudes and the values that stand for it, [c, 4, 1] and [c, 4, 4]."""
    rows, columns = np.divmod(cells, N_COLUMNS)
    octaves, sixteenths = np.divmod(rows, _LARGEST_PER_OCTAVE)
    power = np.exp2(octaves + float(_FIRST_OCTAVE))[:, None, None]
    is_itself = columns >= _ITSELF
    parts = np.where(is_itself, columns - _ITSELF, 0)[:, None]
    of_row, of_part, of_fine, of_coarse = (_offsets(dtype, bits) for bits in (4, 7, 5, 2))
    within = np.where(is_itself[:, None], (parts + of_part) / _PARTS_OF_LARGEST, of_row)
    largest = power * (1 + (sixteenths[:, None] + within) / _LARGEST_PER_OCTAVE)[:, :, None]
    below, start, width = _bins_of_columns()
    offsets = np.where((columns < _COARSE)[:, None], of_fine, of_coarse)
    parts_of_octave = (start[columns, None] + width[columns, None] * offsets)[:, None, :]
    values = power * np.exp2(-below[columns])[:, None, None] * parts_of_octave
    column = columns[:, None, None]
    return largest, np.where(column == _SMALLER, 0.0, np.where(column >= _ITSELF, largest, values))


def _offsets(dtype: str, bits: int) -> Floats:
    """Where in a bin whose numbers share so many bits those of a dtype are, as parts of its width: four of them.

    Each stands for a quarter of the numbers; of fewer than four some come twice.
    """
    n = 2.0 ** max(_MANTISSA_BITS.get(dtype, 52) - bits, 0)
    quarters = np.arange(_N_POINTS)
    if n < _N_POINTS:
        return np.asarray(np.floor(quarters * n / _N_POINTS) / n)
    return np.asarray((quarters + (1 - _N_POINTS / n) / 2) / _N_POINTS)


def _bins_of_columns() -> tuple[Floats, Floats, Floats]:
    """Of each column how many powers of two it lies below that of M, and start and width of its part of [1, 2)."""
    fine, coarse = np.arange(_COARSE), np.arange(_SMALLER - _COARSE)
    below, start, width = np.zeros(N_COLUMNS), np.ones(N_COLUMNS), np.zeros(N_COLUMNS)
    below[:_COARSE] = fine // _PER_FINE_OCTAVE
    start[:_COARSE] = 1 + fine % _PER_FINE_OCTAVE / _PER_FINE_OCTAVE
    width[:_COARSE] = 1 / _PER_FINE_OCTAVE
    below[_COARSE:_SMALLER] = _FINE_OCTAVES + coarse // _PER_COARSE_OCTAVE
    start[_COARSE:_SMALLER] = 1 + coarse % _PER_COARSE_OCTAVE / _PER_COARSE_OCTAVE
    width[_COARSE:_SMALLER] = 1 / _PER_COARSE_OCTAVE
    return below, start, width


def _snr(values: Floats, *, largest_scale: Floats, counts: Integers) -> float:
    with np.errstate(all="ignore"):
        scaled = np.where(largest_scale > 0, values / largest_scale, 0.0)
        errors = values - to_e2m1(scaled) * largest_scale
        signal = float(counts @ np.square(values).mean(axis=(1, 2)))
        noise = float(counts @ np.square(errors).mean(axis=(1, 2)))
        return float(10 * np.log10(np.float64(signal) / noise))


def _rounded(values: Floats, *, mantissa: int, least: int, largest: float) -> Floats:
    """To the nearest number with so many bits behind the first one, and `least` as the smallest exponent."""
    _, exponents = np.frexp(values)  # values are in [2^(exponent - 1), 2^exponent)
    step = np.exp2(np.maximum(exponents - 1, least) - float(mantissa))
    return np.asarray(np.minimum(np.round(values / step) * step, largest))
