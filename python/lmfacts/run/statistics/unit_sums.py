"""What the mean cosine between tokens needs."""

from __future__ import annotations

import numpy as np

from lmfacts.run.statistic import DIMS, Array, Sites, Statistic

__all__ = ["UnitSumArrays"]


class UnitSumArrays(Statistic):
    """Sums over tokens of x / |x|."""

    name = "unit_sums"
    sites = Sites.STREAM
    entry_key = "unit_sums"

    unit_sums = Array(np.float64, 2, DIMS)
    """[2, d], rows sum of the tokens' unit vectors and of their squared entries."""
