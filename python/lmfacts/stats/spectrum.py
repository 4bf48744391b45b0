"""What the singular values of a weight matrix say: size, effective rank, power law or not, and against what noise.

A straight line of ln s against ln rank is no evidence of a power law: a matrix of independent Gaussian entries has one
too (slope -0.27 on ranks 9 to 384 of 768, R2 0.85), and is better described by an exponential in rank. So every fit
comes with the exponential's R2, with the slopes of both halves of its window, and with the slope of such a matrix:
`gaussian_null_slope` draws one, `marchenko_pastur_slope` has the limit in closed form.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from lmfacts.stats.singular_values import (
    frobenius_norm,
    gaussian_singular_values,
    shuffled_spectral_norm,
    singular_values,
    uses_gram,
)

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "SHUFFLE_MARGIN",
    "PowerLawFit",
    "Spectrum",
    "WindowFit",
    "body_window",
    "gaussian_null_slope",
    "head_window",
    "marchenko_pastur_edge",
    "marchenko_pastur_quantiles",
    "marchenko_pastur_slope",
    "shuffled_edge",
    "singular_values",
    "weightwatcher",
]

SHUFFLE_MARGIN: Final = 0.05
"""How far above the largest singular value of the shuffled matrices the edge is set (a choice of this project)."""

_LEAST_POINTS_OF_A_LINE = 3
_STABLE_SLOPE = 0.2
_LEAST_EIGENVALUES = 50
_LAW_POINTS = 8192
_PROBES = 32
_PROBE_MARGIN = 1e-12


@dataclass(frozen=True)
class WindowFit:
    """Straight lines through ln s over a window of ranks, counted from 1.

    Attributes:
        first: first rank of the window.
        last: last rank; less than asked for where the singular values after it are zero.
        slope: least-squares slope of ln s on ln rank.
        r2_power: R2 of that line.
        r2_exponential: R2 of the line of ln s on rank.
        slope_first_half: slope on ln rank up to the geometric middle of the window.
        slope_second_half: slope on ln rank from there on.
    """

    first: int
    last: int
    slope: float
    r2_power: float
    r2_exponential: float
    slope_first_half: float
    slope_second_half: float

    @property
    def bend(self) -> float:
        """How far the slope of a half is from the whole window's, at most, over that slope."""
        halves = (self.slope_first_half, self.slope_second_half)
        farthest = max(abs(half - self.slope) for half in halves)
        return farthest / abs(self.slope) if self.slope else math.inf

    @property
    def stable(self) -> bool:
        """Whether the slopes of both halves are within 20 % of the whole window's."""
        return self.bend <= _STABLE_SLOPE


def head_window(rank: int) -> tuple[int, int]:
    """First and last rank of the head, [1, max(16, r / 12)]: 1 to 64 of 768."""
    return 1, min(rank, max(16, rank // 12))


def body_window(rank: int) -> tuple[int, int]:
    """First and last rank of the body, [r / 96 + 1, r / 2]: 9 to 384 of 768."""
    return rank // 96 + 1, rank // 2


@dataclass(frozen=True, eq=False)
class Spectrum:
    """The singular values of one matrix.

    Without a value that is finite and above zero, every ratio is NaN.

    Attributes:
        values: float64 [min(shape)], largest first.
        shape: rows and columns of the matrix.
        frobenius: its Frobenius norm.
    """

    values: NDArray[np.float64]
    shape: tuple[int, int]
    frobenius: float

    @classmethod
    def of(cls, matrix: NDArray[Any], *, dtype: str | None = None) -> Self:
        """The spectrum of a matrix, given as to `singular_values`.

        Raises:
            UsageError: as there.
        """
        values = singular_values(matrix, dtype=dtype)
        shape = (math.prod(matrix.shape[:-1]), matrix.shape[-1])
        return cls(values, shape, frobenius_norm(matrix, dtype=dtype))

    @property
    def spectral_norm(self) -> float:
        """The largest singular value; 0 for an empty matrix."""
        return float(self.values[0]) if self.values.size else 0.0

    @property
    def relative_floor(self) -> float:
        """The share of the largest value below which values are rounding noise of `singular_values`."""
        noise = max(self.shape) * float(np.finfo(np.float64).eps)
        return math.sqrt(noise) if uses_gram(*self.shape) else noise

    @cached_property
    def rank(self) -> int:
        """Number of singular values above the rounding noise."""
        return int(np.count_nonzero(self.values > self.relative_floor * self.spectral_norm))

    @property
    def stable_rank(self) -> float:
        """||W||_F^2 / ||W||_2^2 (Rudelson and Vershynin 2007): between 1 and the rank."""
        return _ratio(float(self._energies.sum()), float(self._energies.max(initial=0.0)))

    @property
    def effective_rank(self) -> float:
        """exp(-sum p ln p) with p_i = s_i^2 / sum s^2; `rank_me` has p_i = s_i / sum s."""
        return _exp_entropy(self._energies)

    @property
    def rank_me(self) -> float:
        """exp(-sum p ln p) with p_i = s_i / sum s (Roy and Vetterli 2007; RankMe, arXiv:2210.02885)."""
        return _exp_entropy(np.sqrt(self._energies))

    @property
    def participation_ratio(self) -> float:
        """(sum lambda)^2 / sum lambda^2 with lambda = s^2."""
        return _ratio(float(self._energies.sum()) ** 2, float(self._energies @ self._energies))

    @property
    def marchenko_pastur_edge(self) -> float:
        """Sigma (sqrt m + sqrt n), sigma being the root mean square of the entries: see `marchenko_pastur_edge`."""
        rows, cols = self.shape
        sigma = self.frobenius / math.sqrt(rows * cols) if rows * cols else 0.0
        return marchenko_pastur_edge(rows, cols, sigma)

    @property
    def head(self) -> WindowFit:
        """The fit over the head, ranks 1 to max(16, r / 12)."""
        return self.window(*head_window(self.values.size))

    @property
    def body(self) -> WindowFit:
        """The fit over the body, ranks r / 96 + 1 to r / 2."""
        return self.window(*body_window(self.values.size))

    def n_above(self, edge: float) -> int:
        """Number of singular values above an edge, `marchenko_pastur_edge` or `shuffled_edge`."""
        return int(np.count_nonzero(self.values > edge))

    def window(self, first: int, last: int) -> WindowFit:
        """Fit ln s over the ranks `first` to `last`, both included; NaN with fewer than 3 values above the noise."""
        return _fit_window(self.values[: self.rank], first, last)

    @property
    def _energies(self) -> NDArray[np.float64]:
        """s^2 in units of the largest."""
        largest = self.spectral_norm
        if not (math.isfinite(largest) and largest > 0):
            return np.zeros(0)
        return np.asarray((self.values / largest) ** 2)


# Nulls


def marchenko_pastur_edge(m: int, n: int, sigma: float) -> float:
    """Sigma (sqrt m + sqrt n): where the singular values of an m x n matrix of i.i.d. entries end.

    The limit (Marchenko and Pastur 1967; Bai and Yin 1993, given a fourth moment); at finite size the largest value
    scatters about it by sigma (1 / sqrt m + 1 / sqrt n)^(1/3) / 2 (Johnstone 2001, doi:10.1214/aos/1009210544): one
    value just above it is nothing.
    """
    return sigma * (math.sqrt(m) + math.sqrt(n))


def shuffled_edge(matrix: NDArray[Any], *, dtype: str | None = None, seed: int = 0, n_shuffles: int = 3) -> float:
    """Where the spectrum would end if the same entries had no arrangement.

    The largest singular value of some shuffles of the entries, and `SHUFFLE_MARGIN` on top. Use it in the place of
    `marchenko_pastur_edge` where the entries have heavy tails: single giant entries push singular values above the
    analytic edge. See `lmfacts.stats.singular_values.shuffled_spectral_norm` for the arguments.
    """
    norm = shuffled_spectral_norm(matrix, dtype=dtype, seed=seed, n_shuffles=n_shuffles)
    return norm * (1.0 + SHUFFLE_MARGIN)


@lru_cache(maxsize=256)
def gaussian_null_slope(m: int, n: int, window: tuple[int, int] | None = None, seed: int = 0) -> float:
    """Slope of ln s on ln rank for one random m x n Gaussian matrix; remembered by its arguments.

    Args:
        m: rows.
        n: columns.
        window: first and last rank; by default `body_window`.
        seed: of the draw.

    Returns:
        The slope: -0.270 for 768 x 768 over ranks 9 to 384.
    """
    longer, size = max(m, n), min(m, n)
    return _fit_window(gaussian_singular_values(longer, size, seed), *(window or body_window(size))).slope


def marchenko_pastur_quantiles(m: int, n: int) -> NDArray[np.float64]:
    """Where the singular values of a large m x n matrix of i.i.d. entries of variance 1 are expected, largest first.

    The square roots of the quantiles 1 - (k - 1/2) / r of the Marchenko-Pastur law, k = 1 to r = min(m, n). With
    q = r / max(m, n) an eigenvalue of W^T W / max(m, n) is 1 + q - 2 sqrt(q) cos t, and its density in t goes as
    sin(t)^2 / (1 + q - 2 sqrt(q) cos t), 0 < t < pi: smooth, so that the midpoint rule is enough.

    Returns:
        float64 [min(m, n)].
    """
    longer, size = max(m, n), min(m, n)
    if not size:
        return np.zeros(0)
    ratio = size / longer
    middles = (np.arange(_LAW_POINTS) + 0.5) * (math.pi / _LAW_POINTS)
    mass = np.sin(middles) ** 2 / (1.0 + ratio - 2.0 * math.sqrt(ratio) * np.cos(middles))
    cumulative = np.concatenate([[0.0], np.cumsum(mass)])
    share = 1.0 - (np.arange(1, size + 1) - 0.5) / size
    angle = np.interp(share * cumulative[-1], cumulative, np.linspace(0.0, math.pi, _LAW_POINTS + 1))
    return np.asarray(np.sqrt(longer * (1.0 + ratio - 2.0 * math.sqrt(ratio) * np.cos(angle))))


@lru_cache(maxsize=256)
def marchenko_pastur_slope(m: int, n: int, window: tuple[int, int] | None = None) -> float:
    """Slope of ln s on ln rank for a random m x n matrix, from `marchenko_pastur_quantiles`; remembered.

    The expectation of `gaussian_null_slope`, within one standard deviation of a draw from rank 64 on, for any size in
    under a millisecond.

    Args:
        m: rows.
        n: columns.
        window: first and last rank; by default `body_window`.

    Returns:
        The slope: -0.269 for 768 x 768 over ranks 9 to 384.
    """
    return _fit_window(marchenko_pastur_quantiles(m, n), *(window or body_window(min(m, n)))).slope


# The power law of WeightWatcher


@dataclass(frozen=True)
class PowerLawFit:
    """A power law lambda^-alpha fitted to the upper eigenvalues lambda = s^2.

    Attributes:
        alpha: exponent of the density.
        xmin: smallest eigenvalue of the tail.
        distance: D, the distance of the tail to the law: see `weightwatcher`.
        n_tail: eigenvalues in the tail.
        sigma: standard error of alpha, (alpha - 1) / sqrt(n_tail).
        alpha_weighted: alpha log10(lambda_max).
        warning: why not to rely on it, or None.
    """

    alpha: float
    xmin: float
    distance: float
    n_tail: int
    sigma: float
    alpha_weighted: float
    warning: str | None

    @property
    def label(self) -> str:
        """WeightWatcher's name for the range that alpha is in; empty if there is no fit."""
        if math.isnan(self.alpha):
            return ""
        limits = ((2.0, "over-trained"), (4.0, "heavy-tailed"), (6.0, "weakly heavy-tailed"), (8.0, "under-trained"))
        return next((label for limit, label in limits if self.alpha < limit), "spurious")


def weightwatcher(values: NDArray[np.float64]) -> PowerLawFit:
    """Fit a power law to the tail of the squared singular values, as WeightWatcher does.

    For each eigenvalue but the largest as xmin: alpha = 1 + n / sum ln(lambda_i / xmin) over the n eigenvalues from
    xmin up, in ascending order, and D = max |1 - (lambda_i / xmin)^(1 - alpha) - i / n| for i = 0 to n - 1; the xmin
    with the smallest D wins (Clauset, Shalizi and Newman 2009, arXiv:0706.1062; Martin, Peng and Mahoney 2021,
    doi:10.1038/s41467-021-24025-8). D holds the law against the share below each eigenvalue only, as WeightWatcher's
    code does; the Kolmogorov-Smirnov distance would take the share up to it, (i + 1) / n, too, and can choose another
    xmin.

    Args:
        values: singular values in any order; zeros are left out.

    Returns:
        The fit; NaN with fewer than 3 different eigenvalues above zero or any that is not finite.
    """
    singular = np.asarray(values, dtype=np.float64)
    finite = bool(np.isfinite(singular).all())
    logs = np.sort(2.0 * np.log(singular[singular > 0])) if finite else np.zeros(0)
    if np.unique(logs).size < _LEAST_POINTS_OF_A_LINE:
        nan = math.nan
        return PowerLawFit(nan, nan, nan, 0, nan, nan, "fewer than 3 different eigenvalues")
    n_values = logs.size
    sums = np.cumsum(logs[::-1])[::-1]
    starts = np.arange(n_values - 1)
    excesses = sums[:-1] - (n_values - starts) * logs[:-1]
    starts = starts[excesses > 1e-12 * (n_values - starts)]
    rates = (n_values - starts) / excesses[starts]
    bounds = _least_distances(logs, starts, rates)
    best, found = math.inf, (math.nan, 0)
    steps = np.arange(n_values, dtype=np.float64)
    for index in np.argsort(bounds, kind="stable"):
        if bounds[index] > best + _PROBE_MARGIN:
            break
        start, rate = int(starts[index]), float(rates[index])
        size = n_values - start
        law = -np.expm1((logs[start] - logs[start:]) * rate)
        distance = float(np.abs(law - steps[:size] / size).max())
        if distance < best or (distance == best and start < found[1]):
            best, found = distance, (1.0 + rate, start)
    alpha, start = found
    n_tail = n_values - start
    warning = None
    if n_values < _LEAST_EIGENVALUES:
        warning = f"{n_values} eigenvalues; at least {_LEAST_EIGENVALUES} are advised"
    return PowerLawFit(
        alpha=alpha,
        xmin=math.exp(min(logs[start], 709.0)),
        distance=best,
        n_tail=n_tail,
        sigma=(alpha - 1.0) / math.sqrt(n_tail),
        alpha_weighted=alpha * float(logs[-1]) / math.log(10.0),
        warning=warning,
    )


# Inside


def _least_distances(
    logs: NDArray[np.float64], starts: NDArray[np.int64], rates: NDArray[np.float64]
) -> NDArray[np.float64]:
    """A lower bound of the distance D of each tail, from a few of its points: [len(starts)].

    The exact distance takes all points of all tails. With the bounds only the few tails need it that could be best.
    """
    sizes = logs.size - starts
    places = np.floor(np.linspace(0.0, 1.0, _PROBES) * (sizes[:, None] - 1)).astype(np.int64)
    law = -np.expm1((logs[starts][:, None] - logs[starts[:, None] + places]) * rates[:, None])
    return np.asarray(np.abs(law - places / sizes[:, None]).max(axis=1, initial=-np.inf))


def _ratio(above: float, below: float) -> float:
    return above / below if below > 0 else math.nan


def _exp_entropy(weights: NDArray[np.float64]) -> float:
    """exp(-sum p ln p) of weights made to sum to 1; NaN without weights."""
    if not weights.size:
        return math.nan
    shares = weights[weights > 0] / weights.sum()
    return math.exp(-float(shares @ np.log(shares)))


def _fit_window(values: NDArray[np.float64], first: int, last: int) -> WindowFit:
    """Fit ln s on ln rank and on rank; values are positive and descend."""
    last = min(last, values.size)
    ranks = np.arange(first, last + 1, dtype=np.float64)
    log_values, log_ranks = np.log(values[first - 1 : last]), np.log(ranks)
    slope, r2_power = _line(log_ranks, log_values)
    middle = math.sqrt(first * max(last, 1))
    lower, upper = ranks <= middle, ranks >= middle
    return WindowFit(
        first=first,
        last=last,
        slope=slope,
        r2_power=r2_power,
        r2_exponential=_line(ranks, log_values)[1],
        slope_first_half=_line(log_ranks[lower], log_values[lower])[0],
        slope_second_half=_line(log_ranks[upper], log_values[upper])[0],
    )


def _line(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and R2 of the least squares of y on x; NaN with fewer than 3 points, R2 NaN for a constant y."""
    if x.size < _LEAST_POINTS_OF_A_LINE:
        return math.nan, math.nan
    dx, dy = x - x.mean(), y - y.mean()
    slope = float(dx @ dy / (dx @ dx))
    total = float(dy @ dy)
    if total <= (1e-12 * x.size) ** 2:
        return slope, math.nan
    residual = dy - slope * dx
    return slope, 1.0 - float(residual @ residual) / total
