"""The 16-bit code of a value, and what a code says about the values behind it.

For bfloat16 and float16 a code is the whole bit pattern: one code, one value. For float32 it is the top 16 bits (sign,
8 exponent bits, 7 mantissa bits): code c stands for the cell of magnitudes from value(c) up to, but not including,
value(c + 1), a relative width of at most 2^-7. A float64 value is first cut toward zero to a float32; what lies beyond
float32's range is in the cell of the largest finite code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "DTYPES",
    "EXACT_DTYPES",
    "cell_bounds",
    "decode",
    "infinity_code",
    "is_exact",
    "subnormal_mask",
]

EXACT_DTYPES: Final = frozenset({"bfloat16", "float16"})
"""The dtypes whose code is the value itself."""

DTYPES: Final = frozenset({"bfloat16", "float16", "float32", "float64"})
"""The dtypes that can be counted."""

SIGN: Final = 0x8000
MAGNITUDE: Final = 0x7FFF
LARGEST_FINITE_TOP: Final = 0x7F7F


def is_exact(dtype: str) -> bool:
    """Whether a code of `dtype` is one value (bfloat16, float16) and not a cell of values."""
    return dtype in EXACT_DTYPES


def infinity_code(dtype: str) -> int:
    """The code of +Inf: larger magnitudes are NaN, smaller ones are finite."""
    return 0x7C00 if dtype == "float16" else 0x7F80


def subnormal_mask(codes: NDArray[np.uint16], dtype: str) -> NDArray[np.bool_]:
    """Which codes are subnormal: exponent bits all zero and a mantissa that is not.

    For float32 and float64 a subnormal so small that its top 16 bits read as zero is in the zero cell instead.
    """
    mantissa = 0x03FF if dtype == "float16" else 0x007F
    magnitudes = codes & np.uint16(MAGNITUDE)
    mask: NDArray[np.bool_] = (magnitudes != 0) & (magnitudes <= mantissa)
    return mask


def decode(codes: NDArray[np.uint16], dtype: str) -> NDArray[np.float64]:
    """The value of each code, exactly, as float64; for cells the end with the lower magnitude.

    Args:
        codes: codes of any shape.
        dtype: the dtype they were counted from.

    Returns:
        float64 array of the same shape; NaN codes give NaN, the code 0x8000 gives -0.0.
    """
    codes = np.ascontiguousarray(codes, dtype=np.uint16)
    with np.errstate(invalid="ignore"):  # converting a signaling NaN sets the flag
        if dtype == "float16":
            return codes.view(np.float16).astype(np.float64)
        return (codes.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)


def cell_bounds(codes: NDArray[np.uint16], dtype: str) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The smallest and the largest value that is counted under each finite code (both included).

    Args:
        codes: finite codes of any shape.
        dtype: the dtype they were counted from.

    Returns:
        (low, high), float64 arrays of the same shape; equal for bfloat16 and float16.
    """
    codes = np.ascontiguousarray(codes, dtype=np.uint16)
    inner = decode(codes, dtype)
    if is_exact(dtype):
        return inner, inner
    magnitudes = codes & np.uint16(MAGNITUDE)
    outer: NDArray[Any]
    if dtype == "float64":
        outer = np.nextafter(decode(magnitudes + np.uint16(1), dtype), 0.0)
        outer[magnitudes >= LARGEST_FINITE_TOP] = np.finfo(np.float64).max
    else:
        bits = (magnitudes.astype(np.uint32) << np.uint32(16)) | np.uint32(0xFFFF)
        outer = bits.view(np.float32).astype(np.float64)
    negative = codes >= SIGN
    return np.where(negative, -outer, inner), np.where(negative, inner, outer)
