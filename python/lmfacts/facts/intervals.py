"""Intervals over blocks of sequences, and what they leave open.

The values of a model's activations are not independent: tokens of one text resemble each other. What can be taken as
independent are sequences, so a run keeps its statistics for 8 blocks of sequences separately, and a statistic is
computed again without each block in turn (`lmfacts.stats.jackknife`). A verdict is given only where the interval of
each deciding number lies on one side of its threshold.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lmfacts.run import Run

__all__ = [
    "COVERAGE",
    "LEAST_SEQUENCES",
    "LEAST_TOKENS",
    "NO_DIM_BLOCKS",
    "all_of",
    "any_of",
    "decided",
    "spans",
    "too_few_data",
]

LEAST_SEQUENCES: Final = 8
"""Sequences from which intervals are taken: one for each block."""

LEAST_TOKENS: Final = 128
"""Tokens below which a fact about activations is left open (ours): 16 for each block."""

COVERAGE: Final = (
    "Intervals are approximate, and over texts only. In simulations those of nominal 90 % contain the true number in "
    "76 to 98 % of cases for the largest values, the growth of norms, Weibull k, mean cosines and the kurtosis of "
    "scales, in 78 to 95 % for tail exponent and beta, in 60 % for a share beyond 6 sd where sequences differ much, "
    "and 31 to 45 % for a KS distance near 0: it is a maximum and biased upward."
)
"""What is said where intervals are printed."""


NO_DIM_BLOCKS: Final = (
    "There is no interval: this run, of an earlier version, keeps no sums of single dims by blocks of sequences. "
    "Instead the verdict has to be the same with thresholds 10 % looser or stricter."
)
"""What is said of facts about single dims where a run cannot tell how they vary from text to text."""


def spans(interval: tuple[float, float], threshold: float) -> bool:
    """Whether a threshold lies inside an interval, its ends not counted; an interval of NaN excludes nothing."""
    low, high = interval
    if math.isnan(low) or math.isnan(high):
        return True
    return low < threshold < high


def decided(value: float, interval: tuple[float, float], *thresholds: float, passed: bool) -> bool | None:
    """Whether a number passes its thresholds, or None where that is open.

    Args:
        value: the number.
        interval: its interval.
        *thresholds: what it is compared with.
        passed: whether the number itself is on the right side of all of them.

    Returns:
        `passed`, or None if the number is NaN or its interval spans one of the thresholds.
    """
    if math.isnan(value) or any(spans(interval, threshold) for threshold in thresholds):
        return None
    return passed


def all_of(*conditions: bool | None) -> bool | None:
    """Whether all conditions hold; None where that depends on one that is open."""
    if False in conditions:
        return False
    return None if None in conditions else True


def any_of(*conditions: bool | None) -> bool | None:
    """Whether at least one condition holds; None where that depends on one that is open."""
    if True in conditions:
        return True
    return None if None in conditions else False


def too_few_data(run: Run) -> str | None:
    """Why a run of activations is too small for a verdict, as a sentence, or None."""
    if run.n_sequences < LEAST_SEQUENCES:
        return f"{_counted(run.n_sequences, 'sequence')}; at least {LEAST_SEQUENCES} are needed."
    if run.n_tokens < LEAST_TOKENS:
        return f"{_counted(run.n_tokens, 'token')}; at least {LEAST_TOKENS} are needed."
    return None


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}" + ("" if n == 1 else "s")
