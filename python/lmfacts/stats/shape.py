"""How a distribution is shaped: the statistics that tell a Gaussian from what resembles one.

All of them follow from the code histogram of a `Distribution` through its cells (`lmfacts.stats.cells`), take a few
milliseconds whatever the number of values, and are the same for bfloat16 and float32 copies of a sample up to the width
of a cell. They are effect sizes, to be read beside `NULL_TABLE`, which has the same statistics for laws that are known:
with 10^7 values a test of significance rejects everything.

Finite values only. Where a statistic has no meaning (no values, one value, all values equal, a tail of too few values)
it is NaN, and nothing raises. So it is where it would say how wide the cells are and not how the values lie in them:
where the cell of the median is wider than a tenth of the standard deviation, as for float32 values of 1 +- 0.001, whose
cells are 0.004 and 0.008 wide. `shape_problem` says so in words.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.stats.distribution import WIDEST_BODY_CELL

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from lmfacts.stats.cells import Cells
    from lmfacts.stats.distribution import Distribution

__all__ = [
    "BIMODAL",
    "GAUSSIAN_WEIBULL_K",
    "GAUSSIAN_WEIBULL_LAMBDA",
    "NULL_TABLE",
    "ShapeStatistics",
    "Weibull",
    "bimodality_coefficient",
    "coarse_problem",
    "expected_max_abs_z",
    "fraction_beyond",
    "ks_mean_std",
    "ks_median_mad",
    "ks_to_gaussian",
    "mad_scale",
    "max_abs_z",
    "shape_problem",
    "shape_statistics",
    "tail_exponent",
    "weibull",
]

GAUSSIAN_WEIBULL_K: Final = 1.2054
"""Weibull k of |x| for a centered Gaussian (arXiv:2605.18898); where the bins fall moves it from 1.2041 to 1.2071."""

GAUSSIAN_WEIBULL_LAMBDA: Final = 0.8875
"""Its lambda, in standard deviations (the same source); 0.8866 to 0.8883."""

BIMODAL: Final = 0.6
"""The bimodality coefficient that suggests two modes: that of two equal Gaussian ones 4.2 of their standard deviations
apart. A uniform law, which has no two modes, has 5/9; that of 96 uniform values scatters by 0.03."""

_WEIBULL_BINS_PER_DECADE = 1024 / 14
_WEIBULL_FIRST_EDGE = -12.0
_WEIBULL_BODY = (0.1, 0.9)
_MOST_IN_ONE_MAGNITUDE: Final = 0.1
"""From this share of the values in one magnitude on there is no Weibull fit.

That many zeros reach into the window of the fit, which then takes in magnitudes that no value has, down to 1e-40: k of
0.07 came from a tensor with 11 % zeros. Anywhere else F jumps by an eighth of the window. The cells of values that vary
smoothly hold less: at most 0.4 % in float32 and bfloat16, 6 % in float8_e4m3fn, just under 10 % in float8_e5m2. Fewer
zeros than that are a part of F, and take k down with their number: 1 % of them to 1.17, 5 % to 1.02."""

_LEAST_POINTS_OF_A_LINE = 3
_COARSE: Final = "the cells of the values are wider than a tenth of their std"
_TOO_FEW: Final = "there are too few different magnitudes"

_GAUSSIAN_MAD = 0.6744897501960817  # Phi^-1(3/4): MAD / std of a Gaussian
_EXPECTED_MAX_TWO_SIDED = 0.28
_EXPECTED_MAX_SIGNED = 0.56

_TAIL_FROM = 1e-1
_TAIL_TO = 1e-4
_TAIL_POINTS = 30
_LEAST_VALUES_IN_TAIL = 10
_LEAST_TAIL_DEPTH = 1e-2


@dataclass(frozen=True)
class Weibull:
    """A Weibull law F(x) = 1 - exp(-(x / lambda)^k) fitted to the body of |x|.

    Attributes:
        k: shape. A centered Gaussian gives 1.206, an exponential tail (Laplace) 1.
        lambda_: scale, in the unit of the values.
        problem: why there is no fit and both are NaN, as the end of a sentence, or None.
    """

    k: float
    lambda_: float
    problem: str | None = None


@dataclass(frozen=True)
class ShapeStatistics:
    """The columns of `NULL_TABLE`; z = (x - mean) / std, quantiles are of |x|.

    Attributes:
        excess_kurtosis: fourth standardized moment, minus 3.
        weibull_k: see `weibull`.
        beyond_3: share of the values with |z| > 3.
        beyond_6: share of the values with |z| > 6.
        q999_over_q50: 99.9 % quantile of |x| over its median.
        q9999_over_q50: 99.99 % quantile of |x| over its median.
        std_over_mad: std / (MAD / 0.6745): 1 for a Gaussian, more for heavier tails.
        tail_exponent: see `tail_exponent`.
        ks_mean_std: KS distance to the Gaussian of the same mean and std.
        ks_median_mad: KS distance to the Gaussian of the same median and MAD.
    """

    excess_kurtosis: float
    weibull_k: float
    beyond_3: float
    beyond_6: float
    q999_over_q50: float
    q9999_over_q50: float
    std_over_mad: float
    tail_exponent: float
    ks_mean_std: float
    ks_median_mad: float


NULL_TABLE: Final[Mapping[str, ShapeStatistics]] = MappingProxyType(
    {
        "Gaussian": ShapeStatistics(0.0, GAUSSIAN_WEIBULL_K, 0.00269, 0.0, 4.87, 5.77, 1.0, 1.62, 0.0, 0.0),
        "logistic": ShapeStatistics(1.21, 1.159, 0.0085, 4e-5, 6.93, 9.18, 1.113, 1.13, 0.0227, 0.0148),
        "Laplace": ShapeStatistics(2.99, 1.0, 0.0143, 2e-4, 9.96, 13.3, 1.377, 1.0, 0.0621, 0.0430),
        "Student t5": ShapeStatistics(5.1, 1.149, 0.0117, 6e-4, 9.43, 15.2, 1.196, 0.81, 0.0380, 0.0191),
        "product of 2 Gaussians": ShapeStatistics(6.0, 0.805, 0.0197, 7e-4, 15.7, 21.5, 1.849, 0.87, 0.1078, 0.0724),
        "Gaussian scale mixture": ShapeStatistics(1.32, 1.159, 0.0088, 7e-5, 7.08, 9.48, 1.118, 1.10, 0.0235, 0.0152),
        "uniform": ShapeStatistics(-1.2, 1.379, 0.0, 0.0, 2.0, 2.0, 0.779, math.nan, 0.0573, 0.0885),
    }
)
"""The statistics of known laws, measured on samples of 2,000,000 values each (all centered; the mixture has a normal
ln sigma of standard deviation 0.3). Logistic and the mild mixture are indistinguishable by every column: no pooled
statistic separates heavy-tailed values from Gaussian values of different scale."""


def shape_statistics(distribution: Distribution) -> ShapeStatistics:
    """Every column of `NULL_TABLE` for a distribution."""
    cells = distribution.cells
    folded = cells.folded()
    middle, rare, rarer = folded.quantile([0.5, 0.999, 0.9999])
    mad = mad_scale(distribution)
    spread = distribution.std
    return ShapeStatistics(
        excess_kurtosis=distribution.standardized_moment(4) - 3.0,
        weibull_k=weibull(distribution).k,
        beyond_3=fraction_beyond(distribution, 3.0),
        beyond_6=fraction_beyond(distribution, 6.0),
        q999_over_q50=float(rare / middle) if middle > 0 and spread > 0 else math.nan,
        q9999_over_q50=float(rarer / middle) if middle > 0 and spread > 0 else math.nan,
        std_over_mad=spread / mad if mad > 0 else math.nan,
        tail_exponent=tail_exponent(distribution),
        ks_mean_std=ks_mean_std(distribution),
        ks_median_mad=ks_median_mad(distribution),
    )


def coarse_problem(distribution: Distribution) -> str | None:
    """Where cells are wide beside the standard deviation, that they are, as a sentence; else None."""
    if not distribution.is_coarse:
        return None
    width, spread = distribution.width_at_median, distribution.std
    return (
        "What depends on how values lie in their cells is not given: the cell of the median is "
        f"{width:.2g} wide, more than a tenth of the std, {spread:.2g}."
    )


def shape_problem(distribution: Distribution) -> str | None:
    """Why statistics of the shape are NaN, as a sentence, or None where nothing stands against them."""
    coarse = coarse_problem(distribution)
    problem = weibull(distribution).problem if coarse is None and distribution.std > 0 else None
    return coarse if problem is None else f"There is no Weibull fit, since it would mean nothing: {problem}."


# The body


def weibull(distribution: Distribution, center: float = 0.0) -> Weibull:
    """Fit a Weibull law to the body of |x - center|.

    Ding (arXiv:2605.18898): F of log10|x| on 1024 bins over [-12, 2], taken at the middles of the bins where
    0.1 <= F <= 0.9; least squares of ln(-ln(1 - F)) on ln x, weighted by the count of each bin; k is the slope and
    lambda = exp(-intercept / k). Here the same grid goes on beyond [-12, 2] if values do. Zeros count in F.

    Only the body is seen: k of 1.20 does not mean Gaussian tails.

    Args:
        distribution: the values.
        center: what to subtract first; the source has 0.

    Returns:
        k and lambda; both NaN, with the reason, if a tenth of the values or more have one magnitude, if cells are wide
        beside the standard deviation, or if fewer than 3 bins of the body hold values.
    """
    if distribution.is_coarse:
        return Weibull(math.nan, math.nan, _COARSE)
    folded = distribution.cells.folded(center)
    largest, share = folded.most_frequent()
    if share >= _MOST_IN_ONE_MAGNITUDE:
        return Weibull(math.nan, math.nan, f"{100 * share:.3g} % of the values have one magnitude ({largest:.4g})")
    low, high = folded.quantile(_WEIBULL_BODY)
    smallest = folded.distances[folded.distances > 0][:1]
    if not smallest.size or not 0 < high < math.inf:
        return Weibull(math.nan, math.nan, _TOO_FEW)
    first, last = (
        math.floor((math.log10(value) - _WEIBULL_FIRST_EDGE) * _WEIBULL_BINS_PER_DECADE)
        for value in (max(float(low), float(smallest[0])), float(high))
    )
    with np.errstate(over="ignore"):
        edges = 10.0 ** (_WEIBULL_FIRST_EDGE + np.arange(first, last + 2) / _WEIBULL_BINS_PER_DECADE)
        middles = 10.0 ** (_WEIBULL_FIRST_EDGE + (np.arange(first, last + 1) + 0.5) / _WEIBULL_BINS_PER_DECADE)
    mass = np.diff(folded.cdf(edges))
    cumulative = folded.cdf(middles)
    body = (cumulative >= _WEIBULL_BODY[0]) & (cumulative <= _WEIBULL_BODY[1]) & (mass > 0)
    if np.count_nonzero(body) < _LEAST_POINTS_OF_A_LINE:
        return Weibull(math.nan, math.nan, _TOO_FEW)
    slope, intercept = _line(np.log(middles[body]), np.log(-np.log1p(-cumulative[body])), mass[body])
    if not slope > 0:
        return Weibull(math.nan, math.nan, _TOO_FEW)
    return Weibull(slope, math.exp(-intercept / slope))


def mad_scale(distribution: Distribution) -> float:
    """MAD / 0.6745: the standard deviation that a Gaussian of the same median absolute deviation has.

    NaN if fewer than two different values occur, or where it would be that of cells: less than five of them wide.
    """
    return _median_and_mad_scale(distribution)[1]


def bimodality_coefficient(distribution: Distribution) -> float:
    """(skewness^2 + 1) / kurtosis: 1/3 for a Gaussian, 5/9 for a uniform law, 1 for two points.

    SAS/STAT's coefficient (PROC CLUSTER) without its correction for small samples. Pfister et al. (2013,
    doi:10.3389/fpsyg.2013.00700) take more than a uniform law's 0.555 for a sign of two modes, here it is `BIMODAL`;
    strong skewness gives that too.
    """
    return (distribution.standardized_moment(3) ** 2 + 1.0) / distribution.standardized_moment(4)


def ks_to_gaussian(distribution: Distribution, center: float, scale: float) -> float:
    """Kolmogorov-Smirnov distance sup |F(x) - Phi((x - center) / scale)|, over the edges of cells.

    At the edges F is exact, and the supremum lies within a cell's mass of what they give.

    Returns:
        The distance; NaN if fewer than two different values occur, where cells are wide beside the standard deviation,
        or if `scale` is not above 0.
    """
    if distribution.is_coarse:
        return math.nan
    return _ks(distribution.cells, center, scale)


def ks_mean_std(distribution: Distribution) -> float:
    """KS distance to the Gaussian of the same mean and standard deviation."""
    return ks_to_gaussian(distribution, distribution.mean, distribution.std)


def ks_median_mad(distribution: Distribution) -> float:
    """KS distance to the Gaussian of the same median and MAD, which outliers do not move."""
    return ks_to_gaussian(distribution, *_median_and_mad_scale(distribution))


# The tail


def expected_max_abs_z(n: int, *, signed: bool = False) -> float:
    """The largest |z| to expect among n values of a standard Gaussian: Phi^-1(1 - 0.28 / n).

    The mean of a Gumbel law, which the largest of n follows, lies where exp(-gamma) = 0.5615 values are expected above
    it (Gumbel 1958): Phi^-1(1 - 0.56 / n) for the largest z, and half of that tail on each of two sides.

    Args:
        n: number of values.
        signed: expect the largest z instead of the largest |z|: 0.56 takes the place of 0.28.

    Returns:
        The expectation; NaN if n is below 1.
    """
    from scipy.special import ndtri  # noqa: PLC0415  slow to load

    if n < 1:
        return math.nan
    return -float(ndtri((_EXPECTED_MAX_SIGNED if signed else _EXPECTED_MAX_TWO_SIDED) / n))


def max_abs_z(distribution: Distribution) -> float:
    """The largest |x - mean| / std; NaN where std is 0. At least 1, at most sqrt(n - 1)."""
    spread = distribution.std
    if not spread > 0:
        return math.nan
    return max(distribution.max - distribution.mean, distribution.mean - distribution.min) / spread


def fraction_beyond(distribution: Distribution, z: float) -> float:
    """Share of the finite values with |x - mean| / std > z.

    Counted exactly for bfloat16 and float16; for float32 and float64 each side's last cell is divided by a straight
    line, and what no value reaches is 0.

    Returns:
        The share; NaN where std is 0, where cells are wide beside it, or without values.
    """
    spread, mean = distribution.std, distribution.mean
    if not spread > 0:
        return math.nan
    if distribution.exact:
        beyond = np.abs(distribution.values - mean) > z * spread
        return int(distribution.counts[beyond].sum()) / distribution.n
    if distribution.is_coarse:
        return math.nan
    cells = distribution.cells
    low, high = mean - z * spread, mean + z * spread
    below = float(cells.cdf(low)) if distribution.min < low else 0.0
    above = 1.0 - float(cells.cdf(high)) if distribution.max > high else 0.0
    return below + above


def tail_exponent(distribution: Distribution, center: float = 0.0) -> float:
    """Slope of ln(-ln S(a)) on ln a, S(a) the share of values with |x - center| > a.

    30 points, evenly spaced in ln S from 1e-1 to 1e-4 (or to the depth at which 10 values are left). A Weibull tail
    exp(-(a / lambda)^c) has slope c: Gaussian 1.62 on this window, logistic 1.14, Laplace 1, Student t5 0.80.

    Returns:
        The slope; NaN if 10 values are more than 1e-2 of all (fewer than 1000 values), or if those points are fewer
        than 3 different magnitudes, and where cells are wide beside the standard deviation. A law that ends, such as
        the uniform, has a slope that means nothing.
    """
    if distribution.is_coarse:
        return math.nan
    cells = distribution.cells
    folded = cells.folded(center)
    depth = max(_TAIL_TO, _LEAST_VALUES_IN_TAIL / folded.n) if folded.n else math.inf
    if depth > _LEAST_TAIL_DEPTH or cells.n_occupied < _LEAST_POINTS_OF_A_LINE:
        return math.nan
    survival = np.geomspace(_TAIL_FROM, depth, _TAIL_POINTS)
    distances = folded.quantile(1.0 - survival)
    if np.unique(distances).size < _LEAST_POINTS_OF_A_LINE or distances[0] <= 0 or not np.isfinite(distances).all():
        return math.nan
    return _line(np.log(distances), np.log(-np.log(survival)), np.ones(_TAIL_POINTS))[0]


# Inside


def _median_and_mad_scale(distribution: Distribution) -> tuple[float, float]:
    """Median, and MAD / 0.6745 (NaN where fewer than two cells are occupied, or where it is that of cells)."""
    cells = distribution.cells
    median = cells.median()
    if cells.n_occupied < 2 or distribution.is_coarse:  # noqa: PLR2004  one is no spread
        return median, math.nan
    scale = float(cells.folded(median).quantile(0.5)) / _GAUSSIAN_MAD
    return median, scale if distribution.width_at_median <= WIDEST_BODY_CELL * scale else math.nan


def _ks(cells: Cells, center: float, scale: float) -> float:
    from scipy.special import ndtr  # noqa: PLC0415  slow to load

    if cells.n_occupied < 2 or not scale > 0:  # noqa: PLR2004  one is no spread
        return math.nan
    with np.errstate(over="ignore"):
        gaussian = ndtr((cells.edges - center) / scale)
    return float(np.max(np.abs(cells.cumulative / cells.n - gaussian)))


def _line(x: NDArray[np.float64], y: NDArray[np.float64], weights: NDArray[np.float64]) -> tuple[float, float]:
    """Slope and intercept of the weighted least squares of y on x."""
    share = weights / weights.sum()
    mean_x, mean_y = share @ x, share @ y
    variance = share @ (x - mean_x) ** 2
    slope = float(share @ ((x - mean_x) * (y - mean_y)) / variance) if variance > 0 else math.nan
    return slope, float(mean_y - slope * mean_x)
