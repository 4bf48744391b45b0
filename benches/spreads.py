"""What rounds say: medians with quartiles, and added times and their ratios with confidence intervals.

A time is positive and far from zero, so a ratio of two times is taken round by round and told with its quartiles. What
something *adds* is a difference, which noise can make as small as zero or negative; nothing is divided by such a
difference of one round. Instead:

- An added time is the median of paired differences, each of two times of the same round, with an interval of that
  median. Where the interval reaches zero, all that is known is "at most" its upper end.
- A ratio of two added times is the ratio of their medians, with an interval. Where the denominator's interval reaches
  zero, all that is known is "at least" the lower end; where the numerator's does, "at most" the upper one; where both
  do, the ratio is not measurable. So no ratio is negative.

**The intervals are order statistics**: from one of the sorted differences to another. How often such an interval holds
the true median follows from the binomial distribution, whatever the noise is like, and for any number of rounds. A
bootstrap is tighter and fits ten rounds or more; with the three to seven that a slow machine has time for, it draws the
same few values again and its intervals are too short, and its result depends on a seed. Fewer than six rounds can give
no interval of 95 %: then it runs from the smallest to the largest difference, and the coverage that is told beside it
is lower. Of a ratio, each median gets an interval of 97.5 %, so that in 95 % both hold at once however they depend on
each other (Bonferroni), and the ends are the smallest and the largest ratio that the two allow.
"""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

__all__ = ["Spread", "added", "added_ratio", "median_interval", "ratios", "spread"]

COVERAGE = 0.95


@dataclass(frozen=True)
class Spread:
    """A median, what lies around it, and how many rounds gave it.

    Attributes:
        median: or the bound, if `says` names one; NaN if nothing can be said.
        low: the lower quartile, or the lower end of the interval.
        high: the upper quartile, or the upper end.
        n: rounds.
        coverage: how often an interval of this kind holds the true value, from 0 to 1; none beside quartiles.
        says: whether `median` is the value itself, or a bound on it.
    """

    median: float
    low: float
    high: float
    n: int
    coverage: float | None = None
    says: Literal["", "at least", "at most"] = ""

    @property
    def is_measured(self) -> bool:
        """Whether there is a value or a bound."""
        return not math.isnan(self.median)

    @classmethod
    def not_measurable(cls, n: int) -> Spread:
        """Of rounds from which nothing follows, or of none."""
        return cls(math.nan, math.nan, math.nan, n)


def spread(values: Iterable[float]) -> Spread:
    """Median and quartiles; the extremes where there are fewer than four values."""
    ordered = sorted(values)
    if not ordered:
        return Spread.not_measurable(0)
    quartiles = statistics.quantiles(ordered, n=4, method="inclusive") if len(ordered) >= 4 else None
    low, high = (ordered[0], ordered[-1]) if quartiles is None else (quartiles[0], quartiles[2])
    return Spread(statistics.median(ordered), low, high, len(ordered))


def ratios(above: Sequence[float], below: Sequence[float]) -> Spread:
    """The ratio of two times, round by round, with its quartiles. Not for differences of times."""
    return spread(a / b for a, b in zip(above, below, strict=True))


def median_interval(values: Iterable[float], coverage: float = COVERAGE) -> Spread:
    """The median with the narrowest interval of order statistics that covers as much as is asked for.

    Args:
        values: independent draws from one distribution, such as paired differences.
        coverage: from 0 to 1. Fewer values than that takes give the interval of all of them and its own coverage,
            `1 - 2 ** (1 - n)`.
    """
    ordered = sorted(values)
    n = len(ordered)
    if n == 0:
        return Spread.not_measurable(0)
    # The true median lies below the (cut + 1)-th smallest value if at most `cut` of n draws fall below it.
    outside, cut = 2 * 0.5**n, 0
    while 2 * (cut + 1) < n and (wider := outside + 2 * math.comb(n, cut + 1) * 0.5**n) <= 1 - coverage:
        outside, cut = wider, cut + 1
    return Spread(statistics.median(ordered), ordered[cut], ordered[n - 1 - cut], n, max(0.0, 1 - outside))


def added(differences: Iterable[float]) -> Spread:
    """What something adds: the median of paired differences, or "at most" where their interval reaches zero."""
    found = median_interval(differences)
    if not found.is_measured or found.low > 0:
        return found
    if found.high <= 0 or found.n == 1:
        return Spread.not_measurable(found.n)
    return Spread(found.high, found.low, found.high, found.n, found.coverage, "at most")


def added_ratio(above: Iterable[float], below: Iterable[float]) -> Spread:
    """The ratio of the medians of two lists of paired differences, or a bound on it where one may be zero.

    Args:
        above: what one thing added, round by round.
        below: what the other added; of the same rounds, or of more of them.
    """
    each = 1 - (1 - COVERAGE) / 2
    top, bottom = median_interval(above, each), median_interval(below, each)
    n = min(top.n, bottom.n)
    if n == 0 or top.high <= 0 or bottom.high <= 0 or (top.low <= 0 and bottom.low <= 0):
        return Spread.not_measurable(n)
    assert top.coverage is not None
    assert bottom.coverage is not None
    coverage = max(0.0, top.coverage + bottom.coverage - 1)
    if bottom.low <= 0:
        bound = top.low / bottom.high
        return Spread(bound, bound, bound, n, coverage, "at least")
    if top.low <= 0:
        bound = top.high / bottom.low
        return Spread(bound, bound, bound, n, coverage, "at most")
    return Spread(top.median / bottom.median, top.low / bottom.high, top.high / bottom.low, n, coverage)
