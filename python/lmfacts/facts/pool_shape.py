"""Whether the values of one site are Gaussian once its outlier dims are set aside, with intervals.

Two pools: the full one has every value of the site, the clean one leaves out the dims whose RMS is more than 5 times
the median (the outlier dims of F2). Each criterion is True, False, or open where the interval over blocks of sequences
spans its threshold; an interval is computed only for a criterion on which something hangs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.distribution_shape import (
    ShapeStatistics,
    fraction_beyond,
    ks_median_mad,
    mad_scale,
    shape_statistics,
    tail_exponent,
    weibull,
)
from lmfacts.facts.generalized_normal import GeneralizedNormal
from lmfacts.facts.intervals import all_of, any_of, decided, jackknife
from lmfacts.outlier_dims import rms_outlier_dims

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from lmfacts.distribution import Distribution
    from lmfacts.site_record import SiteRecord

__all__ = ["Criterion", "DimShapes", "PoolShape", "Rule", "Standing", "pool_shape"]

NEAR_GAUSSIAN_KURTOSIS: Final = 0.5

LEAST_VALUES: Final = 100_000
"""Values below which nothing is said of a pool (ours): the tail is read down to a share of 1e-4, 10 of as many."""


@dataclass(frozen=True)
class Rule:
    """What a number must lie within.

    Attributes:
        name: of the number.
        threshold: the limits in words.
        low: lowest value that passes.
        high: highest value that passes.
    """

    name: str
    threshold: str
    low: float = -math.inf
    high: float = math.inf


KS: Final = Rule("KS", "<= 0.010", high=0.010)
WEIBULL_K: Final = Rule("Weibull k", "1.205 +- 0.02", 1.185, 1.225)
TAIL: Final = Rule("tail exponent", ">= 1.45", 1.45)
BETA: Final = Rule("beta", "1.8 to 2.2", 1.8, 2.2)
BEYOND_6: Final = Rule("f(|z| > 6)", ">= 1e-5", 1e-5)


class Standing(IntEnum):
    """How much of the claim a site bears out."""

    FAILS = 0
    BODY = 1
    HOLDS = 2


@dataclass(frozen=True)
class Criterion:
    """A number held against its rule.

    Attributes:
        rule: the rule.
        value: the number; NaN where it has no meaning.
        passed: whether it passes; None where the interval spans a limit or the number is NaN.
        interval: 90 % interval, or None where nothing hung on it.
    """

    rule: Rule
    value: float
    passed: bool | None
    interval: tuple[float, float] | None

    @classmethod
    def of(
        cls,
        rule: Rule,
        value: float,
        statistic: Callable[[Distribution], float],
        parts: Sequence[Distribution] | None,
    ) -> Criterion:
        """Judge a number.

        Args:
            rule: the rule.
            value: the number, `statistic` of all values.
            statistic: from a distribution to the number.
            parts: the values without each block of sequences, or None to do without an interval.
        """
        inside = rule.low <= value <= rule.high
        if parts is None:
            return cls(rule, value, None if math.isnan(value) else inside, None)
        interval = jackknife(value, [statistic(part) for part in parts])
        limits = [limit for limit in (rule.low, rule.high) if math.isfinite(limit)]
        return cls(rule, value, decided(value, interval, *limits, passed=inside), interval)


@dataclass(frozen=True)
class DimShapes:
    """The dims of the clean pool, one at a time.

    Attributes:
        kurtosis: median of their excess kurtosis.
        near_gaussian: share of them with an excess kurtosis within +-0.5.
        scale_spread: standard deviation over dims of ln std.
        mean_spread: standard deviation over dims of their means, in median standard deviations.
    """

    kurtosis: float
    near_gaussian: float
    scale_spread: float
    mean_spread: float

    @classmethod
    def of(cls, site: SiteRecord, outlier_dims: NDArray[np.int64]) -> DimShapes:
        """Those of a site; NaN where no dim varies."""
        kept = np.ones(site.n_dims, dtype=np.bool_)
        kept[outlier_dims] = False
        dims = site.dims
        varies = kept & np.isfinite(dims.excess_kurtosis) & (dims.std > 0)
        if not varies.any():
            return cls(math.nan, math.nan, math.nan, math.nan)
        kurtosis, std = dims.excess_kurtosis[varies], dims.std[varies]
        return cls(
            float(np.median(kurtosis)),
            float(np.mean(np.abs(kurtosis) <= NEAR_GAUSSIAN_KURTOSIS)),
            float(np.std(np.log(std))),
            float(np.std(dims.mean[varies]) / np.median(std)),
        )


@dataclass(frozen=True, eq=False)
class PoolShape:
    """What one site says of the claim.

    Attributes:
        layer: the block.
        outlier_dims: dims with an RMS above 5 times the median.
        clean_pool: the distribution without them.
        full: statistics of the full pool.
        clean: statistics of the clean pool.
        median_offset: |median| of the clean pool in units of its MAD's scale.
        body: KS and k.
        tails: tail exponent and beta.
        beyond_6: share of the full pool beyond 6 standard deviations.
        dims: the dims one at a time.
        too_few: whether the pool has too few values for a verdict.
    """

    layer: int
    outlier_dims: NDArray[np.int64]
    clean_pool: Distribution
    full: ShapeStatistics
    clean: ShapeStatistics
    median_offset: float
    body: tuple[Criterion, Criterion]
    tails: tuple[Criterion, Criterion]
    beyond_6: Criterion
    dims: DimShapes
    too_few: bool

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        """All of them."""
        return *self.body, *self.tails, self.beyond_6

    @property
    def has_body(self) -> bool | None:
        """Whether the body is Gaussian."""
        return None if self.too_few else all_of(*(one.passed for one in self.body))

    @property
    def has_outliers(self) -> bool | None:
        """Whether there are outliers: values beyond 6 standard deviations, or outlier dims."""
        return any_of(bool(self.outlier_dims.size), self.beyond_6.passed)

    @property
    def is_all(self) -> bool | None:
        """Whether body, tails and outliers are as claimed."""
        return all_of(self.has_body, *(one.passed for one in self.tails), self.has_outliers)

    @property
    def lowest(self) -> Standing:
        """The standing if everything open went against the claim."""
        if not self.has_body:
            return Standing.FAILS
        return Standing.HOLDS if self.is_all else Standing.BODY

    @property
    def highest(self) -> Standing:
        """The standing if everything open went for the claim."""
        if self.has_body is False:
            return Standing.FAILS
        return Standing.BODY if self.is_all is False else Standing.HOLDS

    @property
    def open_criteria(self) -> list[str]:
        """Names of the criteria on which the standing hangs."""
        if self.lowest == self.highest:
            return []
        return ["number of values"] if self.too_few else [one.rule.name for one in self.criteria if one.passed is None]


def pool_shape(site: SiteRecord, layer: int) -> PoolShape:
    """Measure one site.

    Args:
        site: population `rest` of a site that keeps a histogram of each dim.
        layer: its block.
    """
    outlier_dims = rms_outlier_dims(site)
    without = outlier_dims.tolist()
    pool = site.distribution_without(without)
    full, clean = shape_statistics(site.distribution), shape_statistics(pool)
    fit = GeneralizedNormal.of(pool)
    left_out = site.leave_one_out_without(without)

    ks = Criterion.of(KS, clean.ks_median_mad, ks_median_mad, left_out)
    k = Criterion.of(WEIBULL_K, clean.weibull_k, _weibull_k, None if ks.passed is False else left_out)
    body = all_of(ks.passed, k.passed)
    tail = Criterion.of(TAIL, clean.tail_exponent, tail_exponent, None if body is False else left_out)
    both = all_of(body, tail.passed)
    beta = Criterion.of(BETA, fit.beta, fit.beta_of, None if both is False else left_out)
    blocks = site.blocks
    hangs = body is not False and not without and full.beyond_6 > 0
    parts = blocks.leave_one_out() if hangs and blocks is not None else None
    beyond_6 = Criterion.of(BEYOND_6, full.beyond_6, _beyond_6, parts)
    scale = mad_scale(pool)
    return PoolShape(
        layer=layer,
        outlier_dims=outlier_dims,
        clean_pool=pool,
        full=full,
        clean=clean,
        median_offset=abs(pool.cells.median()) / scale if scale > 0 else math.nan,
        body=(ks, k),
        tails=(tail, beta),
        beyond_6=beyond_6,
        dims=DimShapes.of(site, outlier_dims),
        too_few=pool.n < LEAST_VALUES,
    )


def _weibull_k(distribution: Distribution) -> float:
    return weibull(distribution).k


def _beyond_6(distribution: Distribution) -> float:
    return fraction_beyond(distribution, 6.0)
