"""The exponent of a generalized normal law, fast enough to be taken again without each block of sequences."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lmfacts.stats.distribution import Distribution

    Floats = NDArray[np.float64]

__all__ = ["GeneralizedNormal"]

_BETA_RANGE: Final = (0.1, 10.0)
_MOST_ROUNDS: Final = 60
_PRECISION: Final = 1e-10
_LARGEST_EXPONENT: Final = 600.0


@dataclass(frozen=True)
class GeneralizedNormal:
    """The density beta / (2 alpha Gamma(1 / beta)) exp(-(|x - mu| / alpha)^beta) of largest likelihood.

    The likelihood is that of the middles of the cells, and alpha is eliminated: at its best, alpha^beta is beta times
    the mean of |x - mu|^beta, and beta is where

        beta + psi(1 / beta) + ln(beta m) - beta m' / m = 0
        m = mean of |x - mu|^beta,   m' = mean of |x - mu|^beta ln|x - mu|

    (the derivative of the mean log density by beta, times beta^2; Nadarajah 2005 has the density). mu is where the mean
    of sign(x - mu) |x - mu|^(beta - 1) is zero; with beta <= 1 the likelihood peaks at every value, and mu is the
    median. The two are found in turns, to ten digits. `lmfacts.stats.laws` fits the same law to masses of bins, more
    slowly; the two agree within 0.001.

    Attributes:
        beta: the exponent: 2 for a Gaussian, 1 for Laplace; from 0.1 to 10, NaN without two different values.
        location: mu.
    """

    beta: float
    location: float

    @classmethod
    def of(cls, distribution: Distribution) -> GeneralizedNormal:
        """Fit a distribution."""
        spread = distribution.std
        if not 0 < spread < math.inf:
            return cls(math.nan, math.nan)
        values, shares = _middles(distribution)
        median = distribution.cells.median()
        location, beta = median, _beta_at(values, shares, median)
        for _ in range(_MOST_ROUNDS):
            before = beta
            location = _location_at(values, shares, beta, spread) if beta > 1.0 else median
            beta = _beta_at(values, shares, location)
            if not abs(beta - before) > _PRECISION:
                break
        return cls(beta, location)

    def beta_of(self, distribution: Distribution) -> float:
        """Beta of other values at the location of these, for the sample without one of its blocks."""
        return _beta_at(*_middles(distribution), self.location)


def _middles(distribution: Distribution) -> tuple[Floats, Floats]:
    """The middle of each cell and the share of the values in it."""
    return distribution.low / 2 + distribution.high / 2, distribution.counts / max(distribution.n, 1)


def _location_at(values: Floats, shares: Floats, beta: float, spread: float) -> float:
    """The likeliest mu where beta is known and above 1."""
    from scipy.optimize import brentq  # noqa: PLC0415  slow to load

    def slope(mu: float) -> float:
        distances = (values - mu) / spread
        return float(shares @ (np.sign(distances) * np.abs(distances) ** (beta - 1.0)))

    return float(brentq(slope, float(values[0]), float(values[-1]), xtol=1e-14 * spread, rtol=1e-15))


def _beta_at(values: Floats, shares: Floats, location: float) -> float:
    """The likeliest beta where mu is known."""
    from scipy.optimize import brentq  # noqa: PLC0415  slow to load
    from scipy.special import digamma  # noqa: PLC0415  slow to load

    distances = np.abs(values - location)
    unit = float(shares @ distances)
    if not 0 < unit < math.inf:
        return math.nan
    logs = np.log(np.maximum(distances / unit, float(np.finfo(np.float64).tiny)))

    def slope(log_beta: float) -> float:
        beta = math.exp(log_beta)
        powers = shares * np.exp(np.minimum(beta * logs, _LARGEST_EXPONENT))
        mean = float(powers.sum())
        return beta + float(digamma(1 / beta)) + math.log(beta * mean) - beta * float(powers @ logs) / mean

    low, high = (math.log(limit) for limit in _BETA_RANGE)
    if slope(low) <= 0:
        return _BETA_RANGE[0]
    if slope(high) >= 0:
        return _BETA_RANGE[1]
    return math.exp(float(brentq(slope, low, high, xtol=1e-13)))
