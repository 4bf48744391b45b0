"""Stored values as the numbers that they stand for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lmfacts.stats.codes import float8_values

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["PATTERNS", "dtype_problem", "float_values"]

PATTERNS: Final[Mapping[str, np.dtype[Any]]] = {
    "bfloat16": np.dtype("<u2"),
    **dict.fromkeys(
        ("float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "float8_e4m3fnuz", "float8_e5m2fnuz"), np.dtype("u1")
    ),
}
"""Dtypes that NumPy lacks, to the unsigned integers that their bit patterns are read as."""


def dtype_problem(dtype: str) -> str | None:
    """Why values of a dtype cannot be read as an array; None if they can."""
    try:
        np.dtype(PATTERNS.get(dtype, dtype))
    except TypeError:
        return f"{dtype} is a dtype that cannot be read"
    return None


def float_values(values: NDArray[Any], dtype: str) -> NDArray[Any]:
    """The numbers that stored values stand for: float32, or as they are where NumPy has the dtype.

    Args:
        values: as `WeightSource.read` gives them.
        dtype: what they are stored as: one that NumPy has, or bfloat16, float8_e4m3fn, float8_e5m2, float8_e8m0fnu.
    """
    if dtype == "bfloat16":
        return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    if dtype == "float8_e8m0fnu":
        powers = np.append(np.ldexp(np.float32(1), np.arange(255) - 127), np.float32(np.nan))
        return np.asarray(powers[values])
    if dtype in PATTERNS:
        return np.asarray(float8_values(dtype)[values])
    return values
