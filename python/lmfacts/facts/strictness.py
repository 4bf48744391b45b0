"""Thresholds that can be moved: what a looser and a stricter one would have said.

The thresholds of the catalogue are conventions. A verdict that depends on where exactly one of them lies is weak, so
each fact is judged three times: with its thresholds, and with all of them a tenth looser and a tenth stricter. The
outcomes stand beside the verdict. Where no sampling interval of the deciding numbers is kept, the three have to agree,
or the verdict is INCONCLUSIVE.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING, Final

from lmfacts.facts.fact import Verdict
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmfacts.facts.fact import Fact

__all__ = ["STEP_IN_WORDS", "Strictness", "Threshold", "at_least", "at_most", "judged"]

_STEP: Final = 0.1
"""How far a threshold is moved, as a share of its distance from its neutral value."""

STEP_IN_WORDS: Final = (
    "Looser and stricter: all limits moved by a tenth, those of R2, of growth factors and of shares of 80 % and more "
    "by a tenth of their distance from 1."
)

_FIRM: Final = (Verdict.HOLDS, Verdict.BODY_ONLY, Verdict.FAILS)


class Strictness(Enum):
    """Which way the thresholds are moved."""

    LOOSER = -1
    STATED = 0
    STRICTER = 1

    @property
    def words(self) -> str:
        """`10 % looser`."""
        return {self.LOOSER: "10 % looser", self.STATED: "as stated", self.STRICTER: "10 % stricter"}[self]


@dataclass(frozen=True)
class Threshold:
    """A limit that a verdict depends on.

    Attributes:
        value: the limit as the catalogue states it.
        sign: 1 if a number passes from the limit up, -1 if it passes up to the limit.
        neutral: what the distance of the limit is measured from: 0, or 1 for what lies near it (R2, a growth factor).
    """

    value: float
    sign: int
    neutral: float = 0.0

    def at(self, strictness: Strictness) -> float:
        """The limit, moved by a tenth of its distance from the neutral value."""
        return self.value + self.sign * strictness.value * _STEP * abs(self.value - self.neutral)

    def passed(self, number: float, strictness: Strictness = Strictness.STATED) -> bool:
        """Whether a number is on the side of the claim; NaN never is."""
        return number >= self.at(strictness) if self.sign > 0 else number <= self.at(strictness)

    def words(self, strictness: Strictness = Strictness.STATED) -> str:
        """`>= 0.75`."""
        return f"{'>=' if self.sign > 0 else '<='} {self.at(strictness):.4g}"


def at_least(value: float, neutral: float = 0.0) -> Threshold:
    """A limit that numbers pass from there up."""
    return Threshold(value, 1, neutral)


def at_most(value: float, neutral: float = 0.0) -> Threshold:
    """A limit that numbers pass up to there."""
    return Threshold(value, -1, neutral)


def judged(judge: Callable[[Strictness], Fact], *, has_interval: bool) -> Fact:
    """The fact, with what looser and stricter thresholds would have said.

    Args:
        judge: from a strictness to the fact; it holds what was measured.
        has_interval: whether the deciding numbers have sampling intervals, which then say what is open.
    """
    stated, looser, stricter = (judge(one) for one in (Strictness.STATED, Strictness.LOOSER, Strictness.STRICTER))
    fact = replace(stated, looser=looser.verdict, stricter=stricter.verdict)
    if has_interval or stated.verdict not in _FIRM:
        return fact
    flips = [
        f"{one.words}: {other.verdict.words}{_because(stated, other)}"
        for one, other in ((Strictness.LOOSER, looser), (Strictness.STRICTER, stricter))
        if other.verdict is not stated.verdict
    ]
    if not flips:
        return fact
    ways = "; ".join([f"as stated: {stated.verdict.words}", *flips])
    summary = f"{stated.summary} It depends on where the thresholds lie ({ways})."
    return replace(fact, verdict=Verdict.INCONCLUSIVE, fact_class=None, summary=summary)


def _because(stated: Fact, other: Fact) -> str:
    """The numbers that are on another side of their thresholds, with the thresholds as they were moved."""
    before = {measure.name: measure.passed for measure in stated.evidence.measures}
    crossed = [
        f"{measure.name} {numbers.number(measure.value)} against {measure.threshold}"
        for measure in other.evidence.measures
        if measure.passed is not None and before.get(measure.name) is not measure.passed
    ]
    return f", {', '.join(crossed)}" if crossed else ""
