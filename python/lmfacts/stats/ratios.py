"""Ratios and differences in units, with an answer where a plain division has none."""

from __future__ import annotations

import math

__all__ = ["in_units", "log_magnitude", "ratio"]


def ratio(a: float | None, b: float | None) -> float:
    """B / A of magnitudes; 1 where both are 0, NaN where only A is, or either is unknown."""
    if a is None or b is None:
        return math.nan
    if a == b == 0:
        return 1.0
    return b / a if a > 0 else math.nan


def in_units(difference: float, unit: float) -> float:
    """A difference in a unit; none at all is 0 whatever the unit, and otherwise NaN where that is 0."""
    if difference == 0:
        return 0.0
    return difference / unit if unit > 0 else math.nan


def log_magnitude(value: float) -> float:
    """|ln| of a ratio; NaN of 0."""
    return abs(math.log(value)) if value > 0 else math.nan
