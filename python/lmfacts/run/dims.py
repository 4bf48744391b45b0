"""Statistics of each dim of a site."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lmfacts.stats.moments import Moments

__all__ = ["DimStatistics"]


class DimStatistics:
    """Statistics of each dim of a site over the tokens of a population; arrays of length d.

    Non-finite values are left out, and a dim without finite values has NaN everywhere. Skewness and kurtosis of a dim
    that is constant are NaN.

    Attributes:
        n: int64, number of finite values.
        n_at_least: int64, number of values with |x| >= the site's threshold; infinities count, NaN does not.
        n_nonfinite: int64, number of NaN and infinities.
        moments: the central moments behind the rest.
    """

    def __init__(self, moments: Moments, n_at_least: NDArray[np.int64], n_nonfinite: NDArray[np.int64]) -> None:
        """From moments and counts of shape [d]."""
        self.moments = moments
        self.n = moments.n.astype(np.int64)
        self.n_at_least = n_at_least
        self.n_nonfinite = n_nonfinite

    def __len__(self) -> int:
        return int(self.n.size)

    def __repr__(self) -> str:
        rms = self.rms[self.n > 0]
        if not rms.size:
            return f"DimStatistics({len(self):,} dims, no finite values)"
        low, middle, high = np.quantile(rms, [0.0, 0.5, 1.0])
        return f"DimStatistics({len(self):,} dims; rms from {low:.4g} to {high:.4g}, median {middle:.4g})"

    @cached_property
    def mean(self) -> NDArray[np.float64]:
        """Mean."""
        return self.moments.masked(self.moments.mean)

    @cached_property
    def std(self) -> NDArray[np.float64]:
        """Population standard deviation (ddof 0)."""
        return self.moments.std

    @cached_property
    def skewness(self) -> NDArray[np.float64]:
        """Third standardized moment."""
        return self.moments.skewness

    @cached_property
    def excess_kurtosis(self) -> NDArray[np.float64]:
        """Fourth standardized moment, minus 3."""
        return self.moments.excess_kurtosis

    @cached_property
    def rms(self) -> NDArray[np.float64]:
        """Root mean square, about zero."""
        return self.moments.rms

    @cached_property
    def absmax(self) -> NDArray[np.float64]:
        """Largest magnitude."""
        return np.maximum(np.abs(self.min), np.abs(self.max))

    @cached_property
    def min(self) -> NDArray[np.float64]:
        """Smallest value."""
        return self.moments.masked(self.moments.min)

    @cached_property
    def max(self) -> NDArray[np.float64]:
        """Largest value."""
        return self.moments.masked(self.moments.max)
