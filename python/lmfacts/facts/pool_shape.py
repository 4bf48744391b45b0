"""Whether the values of one site are Gaussian once its outlier dims are set aside, with intervals.

Two pools: the full one has every value of the site, the clean one leaves out the dims whose RMS is more than 5 times
the median (the outlier dims of F2). Each criterion is True, False, or open where the interval over blocks of sequences
spans its threshold; an interval is computed only for a criterion on which something depends. Numbers and intervals are
computed once (`PoolStatistics`), and held to rules as often as these are moved (`PoolShape`).
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from enum import IntEnum
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.facts.fact import Measure
from lmfacts.facts.intervals import all_of, any_of, decided
from lmfacts.facts.shape_causes import DimShapes
from lmfacts.facts.strictness import Strictness, at_least, at_most
from lmfacts.quantities.outlier_criteria import OUTLIER_FACTOR, outlier_ratio_intervals, rms_outlier_dims
from lmfacts.stats.generalized_normal import GeneralizedNormal
from lmfacts.stats.jackknife import jackknife
from lmfacts.stats.shape import (
    ShapeStatistics,
    fraction_beyond,
    ks_median_mad,
    mad_scale,
    shape_statistics,
    tail_exponent,
    weibull,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from numpy.typing import NDArray

    from lmfacts.facts.strictness import Threshold
    from lmfacts.run.site import SiteRecord
    from lmfacts.stats.distribution import Distribution

__all__ = ["Criterion", "PoolShape", "PoolStatistics", "Rule", "Standing"]

LEAST_VALUES: Final = 100_000
"""Values below which nothing is said of a pool (ours): the tail is read down to a share of 1e-4, 10 of as many."""


@dataclass(frozen=True)
class Rule:
    """What a number must lie within.

    Attributes:
        name: of the number.
        limits: one limit, or a lower and an upper one around the value of a Gaussian. They move by a tenth of their
            distance from that value.
    """

    name: str
    limits: tuple[Threshold, ...]

    def passed(self, value: float, strictness: Strictness) -> bool:
        """Whether a number is within all limits; NaN never is."""
        return all(limit.passed(value, strictness) for limit in self.limits)

    def words(self, strictness: Strictness = Strictness.STATED) -> str:
        """`>= 1.45`, `1.205 +- 0.02`."""
        first, *others = self.limits
        if not others:
            return first.words(strictness)
        return f"{first.neutral:g} +- {abs(first.at(strictness) - first.neutral):.2g}"


def _around(value: float, half_width: float) -> tuple[Threshold, ...]:
    return at_least(value - half_width, neutral=value), at_most(value + half_width, neutral=value)


KS: Final = Rule("KS", (at_most(0.010),))
WEIBULL_K: Final = Rule("Weibull k", _around(1.205, 0.02))
TAIL: Final = Rule("tail exponent", (at_least(1.45, neutral=1.62),))
BETA: Final = Rule("beta", _around(2.0, 0.2))
BEYOND_6: Final = Rule("f(|z| > 6)", (at_least(1e-5),))

_FACTOR: Final = at_least(OUTLIER_FACTOR)


class Standing(IntEnum):
    """How much of the claim a site bears out."""

    FAILS = 0
    BODY = 1
    HOLDS = 2


@dataclass(frozen=True, eq=False)
class Number:
    """A statistic of a pool; its interval is computed once, and only if something depends on it.

    Attributes:
        value: the statistic of all values; NaN where it has no meaning.
        statistic: from a distribution to the number.
        parts: gives the values without each block of sequences.
    """

    value: float
    statistic: Callable[[Distribution], float]
    parts: Callable[[], Sequence[Distribution]]

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The 90 % interval over blocks of sequences."""
        return jackknife(self.value, [self.statistic(part) for part in self.parts()])


@dataclass(frozen=True)
class Criterion:
    """A number held to its rule.

    Attributes:
        rule: the rule.
        value: the number; NaN where it has no meaning.
        passed: whether it passes; None where the interval spans a limit or the number is NaN.
        interval: 90 % interval, or None where nothing depends on it.
    """

    rule: Rule
    value: float
    passed: bool | None
    interval: tuple[float, float] | None

    @classmethod
    def of(cls, rule: Rule, number: Number, strictness: Strictness, *, matters: bool) -> Criterion:
        """Judge a number; where it does not matter it goes without an interval."""
        inside = rule.passed(number.value, strictness)
        if not matters:
            return cls(rule, number.value, None if math.isnan(number.value) else inside, None)
        limits = [limit.at(strictness) for limit in rule.limits]
        passed = decided(number.value, number.interval, *limits, passed=inside)
        return cls(rule, number.value, passed, number.interval)


@dataclass(frozen=True, eq=False)
class PoolStatistics:
    """What is measured at one site, whatever it is compared with.

    Attributes:
        layer: the block.
        outlier_dims: dims with an RMS above 5 times the median.
        largest_ratio: the largest RMS of a dim over the median RMS; NaN without values.
        ratio_interval: its interval, or None where the run keeps nothing to take it from.
        clean_pool: the distribution without the outlier dims.
        full: statistics of the full pool.
        clean: statistics of the clean pool.
        median_offset: |median| of the clean pool in units of its MAD's scale.
        ks: KS distance, clean pool.
        k: Weibull k, clean pool.
        tail: tail exponent, clean pool.
        beta: exponent of a generalized normal law, clean pool.
        beyond_6: share of the full pool beyond 6 standard deviations.
        dims: the dims of the clean pool one at a time.
        too_few: whether the pool has too few values for a verdict.
    """

    layer: int
    outlier_dims: NDArray[np.int64]
    largest_ratio: float
    ratio_interval: tuple[float, float] | None
    clean_pool: Distribution
    full: ShapeStatistics
    clean: ShapeStatistics
    median_offset: float
    ks: Number
    k: Number
    tail: Number
    beta: Number
    beyond_6: Number
    dims: DimShapes
    too_few: bool

    @classmethod
    def of(cls, site: SiteRecord, layer: int) -> PoolStatistics:
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
        blocks = site.blocks
        clean_parts = functools.cache(lambda: site.leave_one_out_without(without))
        scale = mad_scale(pool)
        return cls(
            layer=layer,
            outlier_dims=outlier_dims,
            largest_ratio=_largest_ratio(site),
            ratio_interval=_ratio_interval(site),
            clean_pool=pool,
            full=full,
            clean=clean,
            median_offset=abs(pool.cells.median()) / scale if scale > 0 else math.nan,
            ks=Number(clean.ks_median_mad, ks_median_mad, clean_parts),
            k=Number(clean.weibull_k, _weibull_k, clean_parts),
            tail=Number(clean.tail_exponent, tail_exponent, clean_parts),
            beta=Number(fit.beta, fit.beta_of, clean_parts),
            beyond_6=Number(full.beyond_6, _beyond_6, lambda: blocks.leave_one_out() if blocks else []),
            dims=DimShapes.of(site, outlier_dims),
            too_few=pool.n < LEAST_VALUES,
        )

    @property
    def largest(self) -> Measure:
        """The largest ratio with its interval."""
        return Measure("largest RMS / median RMS", self.largest_ratio, interval=self.ratio_interval)

    def has_outlier_dims(self, strictness: Strictness) -> bool | None:
        """Whether a dim stands out; None where the interval spans the factor.

        Without an interval it is None where a factor 10 % off would change that.
        """
        if self.ratio_interval is not None:
            factor = _FACTOR.at(strictness)
            return decided(self.largest_ratio, self.ratio_interval, factor, passed=self.largest_ratio > factor)
        moved = [strictness] if strictness is not Strictness.STATED else list(Strictness)
        answers = {self.largest_ratio > _FACTOR.at(one) for one in moved}
        return answers.pop() if len(answers) == 1 else None


@dataclass(frozen=True, eq=False)
class PoolShape:
    """What one site says of the claim.

    Attributes:
        measured: the numbers.
        body: KS and k.
        tails: tail exponent and beta.
        beyond_6: share of the full pool beyond 6 standard deviations.
        has_outlier_dims: whether a dim stands out; None where that is open.
    """

    measured: PoolStatistics
    body: tuple[Criterion, Criterion]
    tails: tuple[Criterion, Criterion]
    beyond_6: Criterion
    has_outlier_dims: bool | None

    @classmethod
    def of(cls, measured: PoolStatistics, strictness: Strictness) -> PoolShape:
        """Hold the numbers of a site against the rules, which may be moved."""
        ks = Criterion.of(KS, measured.ks, strictness, matters=True)
        k = Criterion.of(WEIBULL_K, measured.k, strictness, matters=ks.passed is not False)
        body = all_of(ks.passed, k.passed)
        tail = Criterion.of(TAIL, measured.tail, strictness, matters=body is not False)
        both = all_of(body, tail.passed)
        beta = Criterion.of(BETA, measured.beta, strictness, matters=both is not False)
        has_dims = measured.has_outlier_dims(strictness)
        matters = body is not False and has_dims is not True and measured.beyond_6.value > 0
        beyond_6 = Criterion.of(BEYOND_6, measured.beyond_6, strictness, matters=matters)
        return cls(measured, (ks, k), (tail, beta), beyond_6, has_dims)

    @property
    def layer(self) -> int:
        """The block."""
        return self.measured.layer

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        """All numbers that are held to a rule."""
        return *self.body, *self.tails, self.beyond_6

    @property
    def has_body(self) -> bool | None:
        """Whether the body is Gaussian."""
        return None if self.measured.too_few else all_of(*(one.passed for one in self.body))

    @property
    def has_outliers(self) -> bool | None:
        """Whether there are outliers: values beyond 6 standard deviations, or outlier dims."""
        return any_of(self.has_outlier_dims, self.beyond_6.passed)

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
        """Names of the criteria on which the standing depends."""
        if self.lowest == self.highest:
            return []
        if self.measured.too_few:
            return ["number of values"]
        dims = ["outlier dims"] if self.has_outlier_dims is None and self.beyond_6.passed is not True else []
        return [one.rule.name for one in self.criteria if one.passed is None] + dims


def _largest_ratio(site: SiteRecord) -> float:
    rms = site.dims.rms
    finite = rms[np.isfinite(rms)]
    median = float(np.median(finite)) if finite.size else math.nan
    return float(finite.max()) / median if median > 0 else math.nan


def _ratio_interval(site: SiteRecord) -> tuple[float, float] | None:
    """Some dim is above the lower end for sure, and none may be above the upper one."""
    ends = outlier_ratio_intervals(site)
    return None if ends is None else (float(ends[0].max()), float(ends[1].max()))


def _weibull_k(distribution: Distribution) -> float:
    return weibull(distribution).k


def _beyond_6(distribution: Distribution) -> float:
    return fraction_beyond(distribution, 6.0)
