"""By which law a norm grows with depth: exponential, linear, or as a square root.

A straight line in ln norm is no evidence of an exponential: over a dozen layers 1 + 0.1 l and sqrt(5 + l), the norm of
independent writes on an embedding, are straight to the eye (R2 above 0.97). So the laws are fitted to the same numbers
and compete by what each leaves unexplained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

__all__ = ["GrowthFit", "exp", "growth_fit"]

_LARGEST_EXPONENT: Final = 709.0
_MOST_LOG_RATIO: Final = 20.0
_N_STARTS: Final = 161
_ROUNDING: Final = 1e-24
"""Of a share of the sum of squares: below it a law is exact, and what is left of it is the last bits of y."""
_LAST_BITS: Final = 1e-14
"""Of a mean ln norm, and of 1 where that is less: how far from a constant it can be by rounding alone."""


@dataclass(frozen=True)
class GrowthFit:
    """Least squares of y, the mean ln norm, on the layer.

    Attributes:
        growth: exp(slope of the line), the factor per layer.
        r2: share of the variance of y that the line, the exponential law, explains; NaN where y is constant.
        r2_linear: share that norm = a + b l explains.
        r2_square_root: share that norm = sqrt(a + b l) explains.
        r2_quadratic: share that a parabola in ln norm explains.
        curvature: coefficient of (layer - mean layer)^2 of that parabola.
    """

    growth: float
    r2: float
    r2_linear: float
    r2_square_root: float
    r2_quadratic: float
    curvature: float

    @property
    def rival(self) -> str:
        """The better of the two other laws."""
        return "linear" if self.r2_linear >= self.r2_square_root else "square root"

    @property
    def r2_rival(self) -> float:
        """Share that it explains."""
        return max(self.r2_linear, self.r2_square_root)

    def growth_at_ends(self, layers: Sequence[int]) -> tuple[float, float]:
        """The factor per layer at the first and at the last of the layers that were fitted, by the parabola."""
        slope, middle = math.log(self.growth), sum(layers) / len(layers)
        first, last = (exp(slope + 2 * self.curvature * (layer - middle)) for layer in (layers[0], layers[-1]))
        return first, last

    @property
    def advantage(self) -> float:
        """Residual sum of squares of the rival over that of the exponential; NaN where y is constant."""
        if math.isnan(self.r2):
            return math.nan
        left, left_by_rival = (max(1.0 - r2, _ROUNDING) for r2 in (self.r2, self.r2_rival))
        return left_by_rival / left


def growth_fit(layers: Sequence[int], y: NDArray[np.float64]) -> GrowthFit:
    """Fit the laws and a parabola to the mean ln norms of at least 4 layers."""
    x = np.asarray(layers, dtype=np.float64)
    centered = x - x.mean()
    total = float(((y - y.mean()) ** 2).sum())
    if total <= y.size * (_LAST_BITS * max(float(np.abs(y).max()), 1.0)) ** 2:
        total = 0.0  # the last bits of a constant

    def share(rest: float) -> float:
        return 1.0 - rest / total if total > 0 else math.nan

    def polynomial(degree: int) -> tuple[NDArray[np.float64], float]:
        design = np.vander(centered, degree + 1, increasing=True)
        coefficients = np.asarray(np.linalg.lstsq(design, y, rcond=None)[0], dtype=np.float64)
        return coefficients, share(float(((y - design @ coefficients) ** 2).sum()))

    line, r2 = polynomial(1)
    parabola, r2_quadratic = polynomial(2)
    r2_linear, r2_square_root = (
        share(_least_rest(x - x[0], y, power)) if total > 0 else math.nan for power in (1.0, 0.5)
    )
    return GrowthFit(exp(float(line[1])), r2, r2_linear, r2_square_root, r2_quadratic, float(parabola[2]))


def _least_rest(x: NDArray[np.float64], y: NDArray[np.float64], power: float) -> float:
    """The least sum of squares that y = c + power ln(1 + s x) leaves, x from 0 to its last value.

    With u = ln(1 + s x_last), the ln ratio of the last to the first layer under the power, s > -1 / x_last is any real
    u, and c is a mean. A search over a grid of u, then Brent's method between its neighbors.
    """
    from scipy.optimize import minimize_scalar  # noqa: PLC0415  slow to load

    def rest(u: float) -> float:
        explained = power * np.log1p(math.expm1(u) / x[-1] * x)
        off = y - explained
        return float(((off - off.mean()) ** 2).sum())

    starts = np.linspace(-_MOST_LOG_RATIO, _MOST_LOG_RATIO, _N_STARTS)
    best = int(np.argmin([rest(float(u)) for u in starts]))
    low, high = float(starts[max(best - 1, 0)]), float(starts[min(best + 1, starts.size - 1)])
    minimum = minimize_scalar(rest, bounds=(low, high), method="bounded", options={"xatol": 1e-10})
    return min(float(minimum.fun), rest(float(starts[best])))


def exp(x: float) -> float:
    """e^x, infinite where float64 ends."""
    return math.exp(x) if x < _LARGEST_EXPONENT else math.inf
