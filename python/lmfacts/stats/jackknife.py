"""An interval of a statistic of dependent values: the delete-one-block jackknife (Quenouille 1956, Tukey 1958).

se^2     = (g - 1) / g * sum_j (theta_(-j) - mean of theta_(-j))^2        over g blocks
interval = theta -+ t_(g - 1)(0.95) * se                                  90 %
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

__all__ = ["jackknife", "jackknives"]

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
    low, high = jackknives(np.asarray(full, dtype=np.float64), np.asarray(leave_one_out, dtype=np.float64))
    return float(low), float(high)


def jackknives(full: Floats, leave_one_out: Floats) -> tuple[Floats, Floats]:
    """The 90 % intervals of many statistics at once: see `jackknife`.

    Args:
        full: the statistics, of any shape.
        leave_one_out: [g, *shape], the same without block j.

    Returns:
        Lower and upper ends, of that shape; both NaN where one of the numbers is not finite.
    """
    from scipy.special import stdtrit  # noqa: PLC0415  slow to load

    g = leave_one_out.shape[0]
    if g < 2:  # noqa: PLR2004  one is no spread
        return np.full(full.shape, np.nan), np.full(full.shape, np.nan)
    with np.errstate(all="ignore"):
        deviations = leave_one_out - leave_one_out.mean(axis=0)
        half = stdtrit(g - 1, _UPPER) * np.sqrt((g - 1) / g * np.square(deviations).sum(axis=0))
        known = np.isfinite(full) & np.isfinite(leave_one_out).all(axis=0)
        return np.where(known, full - half, np.nan), np.where(known, full + half, np.nan)
