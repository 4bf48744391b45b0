"""Central moments up to the fourth order, and pooling any number of them at once.

A set of n values is described by (n, mean, M2, M3, M4, min, max) with M_k = sum (x - mean)^k. Sets i = 1..K pool to

    n    = sum n_i
    mean = sum n_i mean_i / n
    d_i  = mean_i - mean
    M2   = sum (M2_i + n_i d_i^2)
    M3   = sum (M3_i + 3 d_i M2_i + n_i d_i^3)
    M4   = sum (M4_i + 4 d_i M3_i + 6 d_i^2 M2_i + n_i d_i^4)

which is the binomial expansion of sum (x - mean_i + d_i)^k, each term exact. For K = 2 it is the merge formula of Chan,
Golub and LeVeque (1979) and Pebay (SAND2008-6212, https://www.osti.gov/biblio/1028931). The rounding error of the
pooled mean is measured (sum n_i d_i / n, zero in exact arithmetic) and taken out of every d_i, so that it does not
reach the higher orders.

A set without values is (0, 0, 0, 0, 0, +inf, -inf) and changes nothing, to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["Moments", "pool_moments"]


@dataclass(frozen=True, eq=False)
class Moments:
    """Moments of many sets of values at once; every field is a float64 array of one common shape (0-d for one set).

    Attributes:
        n: number of values.
        mean: their mean; 0 where n is 0.
        m2: sum of squared deviations from the mean.
        m3: sum of cubed deviations.
        m4: sum of deviations to the fourth.
        min: smallest value; +inf where n is 0.
        max: largest value; -inf where n is 0.
    """

    n: NDArray[np.float64]
    mean: NDArray[np.float64]
    m2: NDArray[np.float64]
    m3: NDArray[np.float64]
    m4: NDArray[np.float64]
    min: NDArray[np.float64]
    max: NDArray[np.float64]

    @classmethod
    def from_rows(cls, n: NDArray[Any], rows: NDArray[np.float64]) -> Self:
        """From counts of shape [...] and rows [6, ...]: mean, M2, M3, M4, min, max."""
        return cls(np.asarray(n, dtype=np.float64), *rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """The common shape of the fields."""
        return self.n.shape

    @property
    def variance(self) -> NDArray[np.float64]:
        """M2 / n (ddof 0); NaN where n is 0."""
        return self._over_n(self.m2)

    @property
    def std(self) -> NDArray[np.float64]:
        """Population standard deviation (ddof 0); NaN where n is 0."""
        return np.sqrt(self.variance)

    @property
    def rms(self) -> NDArray[np.float64]:
        """Root of the mean square, sqrt(M2 / n + mean^2); NaN where n is 0."""
        return np.hypot(self.std, self.mean)

    @property
    def skewness(self) -> NDArray[np.float64]:
        """(M3 / n) / std^3; NaN where n or M2 is 0."""
        with np.errstate(all="ignore"):
            m2 = np.where(self.m2 > 0, self.m2, np.nan)
            return np.asarray((self.m3 / m2) * np.sqrt(self.n / m2))

    @property
    def excess_kurtosis(self) -> NDArray[np.float64]:
        """(M4 / n) / std^4 - 3; NaN where n or M2 is 0."""
        with np.errstate(all="ignore"):
            m2 = np.where(self.m2 > 0, self.m2, np.nan)
            return np.asarray((self.m4 / m2) * (self.n / m2) - 3.0)

    def masked(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """`values` with NaN where n is 0: for `mean`, `min` and `max`, whose empty values are fillers."""
        return np.where(self.n > 0, values, np.nan)

    def central_moment(self, order: int) -> NDArray[np.float64]:
        """Mean of (x - mean)^order for order 0 to 4; NaN where n is 0."""
        sums = (self.n, np.zeros_like(self.n), self.m2, self.m3, self.m4)
        return self._over_n(sums[order])

    def pool(self) -> Moments:
        """The moments of all the sets together (axis 0 is pooled away), by the module's formulas."""
        with np.errstate(all="ignore"):
            n, filled = self.n.sum(axis=0), self.n > 0
            # Weights, not n_i mean_i / n: a lone set then keeps its mean to the last bit.
            weights = self.n / np.where(n > 0, n, 1.0)
            mean = (weights * self.mean).sum(axis=0)
            d = np.where(filled, self.mean - mean, 0.0)
            correction = (weights * d).sum(axis=0)
            mean = mean + correction
            d = np.where(filled, d - correction, 0.0)
            d_squared = d * d
            n_d_squared = self.n * d_squared
            m2 = self.m2 + n_d_squared
            m3 = self.m3 + 3.0 * d * self.m2 + n_d_squared * d
            m4 = self.m4 + 4.0 * d * self.m3 + 6.0 * d_squared * self.m2 + n_d_squared * d_squared
            least, greatest = self.min.min(axis=0, initial=np.inf), self.max.max(axis=0, initial=-np.inf)
            # Values that are all the same have no deviations, not even those of a rounded mean.
            varied = least != greatest
            return Moments(
                n=np.asarray(n),
                mean=np.where(varied, mean, least),
                m2=np.where(varied, m2.sum(axis=0), 0.0),
                m3=np.where(varied, m3.sum(axis=0), 0.0),
                m4=np.where(varied, m4.sum(axis=0), 0.0),
                min=np.asarray(least),
                max=np.asarray(greatest),
            )

    def _over_n(self, sums: NDArray[np.float64]) -> NDArray[np.float64]:
        with np.errstate(all="ignore"):
            return np.asarray(sums / np.where(self.n > 0, self.n, np.nan))


def pool_moments(parts: Sequence[Moments]) -> Moments:
    """Pool moments set by set: K `Moments` of one shape give one of that shape.

    Args:
        parts: at least one; all of the same shape.
    """
    if len(parts) == 1:
        return parts[0]
    fields = ("n", "mean", "m2", "m3", "m4", "min", "max")
    return Moments(*np.array([[getattr(part, name) for part in parts] for name in fields])).pool()
