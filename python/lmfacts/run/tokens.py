"""Statistics over the tokens of a site: their norms and directions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, overload

import numpy as np

from lmfacts.stats.distribution import Distribution
from lmfacts.stats.moments import Moments

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["TokenNorms", "UnitSums"]


class TokenNorms:
    """The L2 norms of a site's tokens. Tokens with a non-finite value are left out.

    Attributes:
        n: number of tokens.
        mean: mean of the norms.
        std: population standard deviation (ddof 0).
        min: smallest norm, exact.
        max: largest norm, exact.
        mean_log: mean of ln(norm), over the tokens whose norm is not 0.
        mean_log_centered: mean of ln(norm of x - mean(x)), the mean being over the token's dims: what LayerNorm sees.
        log_moments: `Moments` of ln(norm) (0-d).
        log_centered_moments: `Moments` of the centered logarithm (0-d).
        distribution: the distribution of the norms, in cells of at most 0.8 %.
    """

    def __init__(self, codes: NDArray[np.uint16], counts: NDArray[Any], moments: Moments) -> None:
        """From the norms' codes and counts and `Moments` of shape [3] (norm, its log, centered log)."""
        norm, self.log_moments, self.log_centered_moments = (_row(moments, i) for i in range(3))
        # A norm is a float64 cut toward zero to its code, as a float64 value is.
        self.distribution = Distribution(codes, counts, "float64", norm)
        self.n = int(norm.n)
        self.mean = float(norm.masked(norm.mean))
        self.std = float(norm.std)
        self.min = float(norm.masked(norm.min))
        self.max = float(norm.masked(norm.max))
        self.mean_log = float(self.log_moments.masked(self.log_moments.mean))
        self.mean_log_centered = float(self.log_centered_moments.masked(self.log_centered_moments.mean))

    def __repr__(self) -> str:
        return (
            f"TokenNorms({self.n:,} tokens; mean {self.mean:.4g}, std {self.std:.4g}, "
            f"from {self.min:.4g} to {self.max:.4g})"
        )

    @overload
    def quantile(self, q: float) -> float: ...
    @overload
    def quantile(self, q: ArrayLike) -> Any: ...
    def quantile(self, q: ArrayLike) -> Any:
        """Quantiles of the norms, within 0.4 %: see `Distribution.quantile`."""
        return self.distribution.quantile(q)

    def histogram(
        self,
        bins: int | str | ArrayLike = 101,
        range: tuple[float, float] | None = None,  # noqa: A002  NumPy's name
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Counts and edges: see `Distribution.histogram`."""
        return self.distribution.histogram(bins, range)


@dataclass(frozen=True, eq=False)
class UnitSums:
    """What the mean cosine between tokens follows from, without pairs: sums over tokens of x / |x|.

    Attributes:
        n: number of tokens (finite, and with a norm that is not 0).
        sums: float64 [d], sum of the unit vectors.
        squares: float64 [d], sum of their squared entries.
    """

    n: int
    sums: NDArray[np.float64]
    squares: NDArray[np.float64]

    @property
    def cosine_contributions(self) -> NDArray[np.float64]:
        """What each dim adds to the mean cosine over all pairs of different tokens; their sum is that mean cosine.

        CC_j = (U_j^2 - Q_j) / (n (n - 1)), with U the sum of the unit vectors and Q that of their squared entries
        (Timkey and van Schijndel, arXiv:2109.04404, over all pairs instead of a sample).

        Returns:
            float64 [d], without unit; NaN with fewer than two tokens.
        """
        n_pairs = self.n * (self.n - 1.0)
        if n_pairs <= 0:
            return np.full(self.sums.shape, np.nan)
        return np.asarray((self.sums**2 - self.squares) / n_pairs)


def _row(moments: Moments, index: int) -> Moments:
    """The moments of one set, with 0-d fields."""
    names = ("n", "mean", "m2", "m3", "m4", "min", "max")
    return Moments(*(np.asarray(getattr(moments, name)[index]) for name in names))
