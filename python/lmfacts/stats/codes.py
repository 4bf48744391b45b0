"""The 16-bit code of a value, and what a code says about the values behind it.

For bfloat16 and float16 a code is the whole bit pattern: one code, one value. For float32 it is the top 16 bits (sign,
8 exponent bits, 7 mantissa bits): code c stands for the cell of magnitudes from value(c) up to, but not including,
value(c + 1), a relative width of at most 2^-7. A float64 value is first cut toward zero to a float32; what lies beyond
float32's range is in the cell of the largest finite code. Every float8 is a float16 as well, and has its code.
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
    "float8_values",
    "infinity_code",
    "is_exact",
    "subnormal_mask",
]

_AS_FLOAT16: Final = frozenset({"float16", "float8_e4m3fn", "float8_e5m2"})
"""The dtypes whose codes are float16 patterns."""

EXACT_DTYPES: Final = _AS_FLOAT16 | {"bfloat16"}
"""The dtypes whose code is the value itself."""

DTYPES: Final = EXACT_DTYPES | {"float32", "float64"}
"""The dtypes that can be counted."""

_LARGEST_SUBNORMAL: Final = {"float16": 0x03FF, "float8_e5m2": 0x03FF, "float8_e4m3fn": 0x23FF}
"""The code of the largest subnormal; the smallest normal e4m3 value is 2^-6, which float16 writes as 0x2400."""

SIGN: Final = 0x8000
MAGNITUDE: Final = 0x7FFF
LARGEST_FINITE_TOP: Final = 0x7F7F


def is_exact(dtype: str) -> bool:
    """Whether a code of `dtype` is one value (bfloat16, float16) and not a cell of values."""
    return dtype in EXACT_DTYPES


def infinity_code(dtype: str) -> int:
    """The code of +Inf: larger magnitudes are NaN, smaller ones are finite."""
    return 0x7C00 if dtype in _AS_FLOAT16 else 0x7F80


def subnormal_mask(codes: NDArray[np.uint16], dtype: str) -> NDArray[np.bool_]:
    """Which codes are subnormal: exponent bits all zero and a mantissa that is not.

    For float32 and float64 a subnormal so small that its top 16 bits read as zero is in the zero cell instead.
    """
    largest = _LARGEST_SUBNORMAL.get(dtype, 0x007F)
    magnitudes = codes & np.uint16(MAGNITUDE)
    mask: NDArray[np.bool_] = (magnitudes != 0) & (magnitudes <= largest)
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
        if dtype in _AS_FLOAT16:
            return codes.view(np.float16).astype(np.float64)
        return (codes.astype(np.uint32) << np.uint32(16)).view(np.float32).astype(np.float64)


def float8_values(dtype: str) -> NDArray[np.float32]:
    """The value of each of the 256 patterns of a float8 dtype, float32 [256].

    e5m2 is the upper half of a float16. e4m3fn has a bias of 7, no infinities, and NaN where all bits but the sign are
    set (Micikevicius et al., arXiv:2209.05433).
    """
    patterns = np.arange(256, dtype=np.uint16)
    if dtype == "float8_e5m2":
        with np.errstate(invalid="ignore"):
            return (patterns << np.uint16(8)).view(np.float16).astype(np.float32)
    exponent, mantissa = (patterns >> 3 & 0xF).astype(np.int32), (patterns & 7).astype(np.float32)
    magnitude = np.where(exponent > 0, np.ldexp(1 + mantissa / 8, exponent - 7), np.ldexp(mantissa, -9))
    magnitude[(patterns & 0x7F) == 0x7F] = np.nan  # noqa: PLR2004  the one NaN
    return np.where(patterns & 0x80, -magnitude, magnitude).astype(np.float32)


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
