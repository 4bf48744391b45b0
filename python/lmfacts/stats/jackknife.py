"""An interval of a statistic of dependent values: the delete-one-block jackknife (Quenouille 1956, Tukey 1958).

se^2     = (g - 1) / g * sum_j (theta_(-j) - mean of theta_(-j))^2        over g blocks
interval = theta -+ t_(g - 1)(0.95) * se                                  90 %
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["jackknife"]

_UPPER: Final = 0.95
"""The quantile of Student's t at either end of a 90 % interval."""


def jackknife(full: float, leave_one_out: Sequence[float]) -> tuple[float, float]:
    """The 90 % interval of a statistic from its values without each block in turn.

    Args:
        full: the statistic of all values.
        leave_one_out: the statistic without block j, for each of the g blocks.

    Returns:
        Lower and upper end; both NaN with fewer than 2 blocks or where one of the numbers is not finite.
    """
    from scipy.special import stdtrit  # noqa: PLC0415  slow to load

    left = np.asarray(leave_one_out, dtype=np.float64)
    g = left.size
    if g < 2 or not math.isfinite(full) or not np.isfinite(left).all():  # noqa: PLR2004  one is no spread
        return math.nan, math.nan
    deviations = left - left.mean()
    error = math.sqrt((g - 1) / g * float(deviations @ deviations))
    half = float(stdtrit(g - 1, _UPPER)) * error
    return full - half, full + half
