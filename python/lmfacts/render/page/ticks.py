"""Numbers along axes: where they are on a logarithmic one, and how they are written."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["log_ticks", "plain", "power"]

_DECADES_FOR_POWERS: Final = 4
_LARGEST_PLAIN: Final = 1e6
_SAME: Final = 1e-9
_FEW: Final = 3
_MULTIPLES: Final = ((1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), np.arange(1, 10, 0.5), np.arange(1, 10, 0.1))
_SUPERSCRIPTS: Final = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def plain(value: float) -> str:
    """A number on a linear axis: `0.25`, `30,000`, with a real minus sign."""
    text = f"{value:,.6g}" if abs(value) < _LARGEST_PLAIN else f"{value:.3g}"
    return text.replace("-", "\N{MINUS SIGN}")


def power(value: float) -> str:
    """A positive number on a logarithmic axis: `0.01`, `20`, `3,000`, `10⁻⁵`."""
    exponent = math.log10(value) if value > 0 else 0.0
    if abs(exponent) < _DECADES_FOR_POWERS or abs(exponent - round(exponent)) > _SAME:
        return plain(value)
    return "10" + str(round(exponent)).translate(_SUPERSCRIPTS)


def log_ticks(low: float, high: float, most: int = 6) -> NDArray[np.float64]:
    """Round numbers from `low` to `high`: powers of ten, or multiples of them where those are few."""
    first, last = math.ceil(math.log10(low) - _SAME), math.floor(math.log10(high) + _SAME)
    n_powers = last - first + 1
    if n_powers >= _FEW:
        return np.asarray(10.0 ** np.arange(first, last + 1, math.ceil(n_powers / most)))
    ticks = np.zeros(0)
    for multiples in _MULTIPLES:
        ticks = np.array(
            [multiple * 10.0**exponent for exponent in range(first - 1, last + 2) for multiple in multiples]
        )
        ticks = ticks[(ticks >= low * (1 - _SAME)) & (ticks <= high * (1 + _SAME))]
        if ticks.size >= _FEW:
            break
    return np.asarray(ticks[:: max(1, math.ceil(ticks.size / most))])
