"""How cells of tables of evidence are written: numbers by what their column holds."""

from __future__ import annotations

import math
from typing import Final

from lmfacts.writing import numbers

__all__ = ["cell", "whole_or_number"]

_NAMES: Final = frozenset({"dim", "layer", "position", "sequence", "token", "token id", "rank", "step", "in layer"})
"""Columns whose whole numbers are names rather than amounts."""

_LARGEST_EXACT: Final = 1e15


def cell(value: str | float | bool | None, column: str, missing: str = "-") -> str:
    """A cell: `yes` or `no`, a whole number (of a column of names without separators), a number of three digits, text.

    Args:
        value: what it holds; None and NaN where there is nothing.
        column: the heading of its column.
        missing: what stands where there is nothing.
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return missing
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return str(value) if column.lower() in _NAMES else numbers.count(value)
    return value if isinstance(value, str) else numbers.number(value)


def whole_or_number(value: float, digits: int = 3, missing: str = "-") -> str:
    """A number with so many digits; a whole one as it is."""
    if math.isnan(value):
        return missing
    if abs(value) < _LARGEST_EXACT and float(value).is_integer():
        return numbers.count(int(value))
    return numbers.number(value, digits)
