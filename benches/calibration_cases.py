"""What a case of the calibration is: a threshold, and models whose true number lies where it is told to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from lmfacts.facts import Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np

    from lmfacts.facts import Inputs
    from lmfacts.facts.strictness import Threshold

__all__ = ["OWN_SCALES", "Case"]

OWN_SCALES: Final = 0.25
"""Standard deviation of the logarithm of a sequence's scale."""


def _same(number: float) -> float:
    return number


@dataclass(frozen=True)
class Case:
    """A threshold of a fact.

    Attributes:
        fact: id.
        number: what is held against the threshold, in words.
        threshold: the threshold itself.
        draw: from a generator, the true number, and whether sequences have scales of their own, to what the fact is
            checked on.
        has_tokens: whether there are sequences at all.
        passing: the verdicts that say that the number passes.
        measure: name of the measure whose interval should contain the true number, or None without an interval.
        measured: from the true number to that measure's true value.
        distances: those to try, where not all can be drawn.
    """

    fact: str
    number: str
    threshold: Threshold
    draw: Callable[[np.random.Generator, float, bool], Inputs]
    has_tokens: bool = True
    passing: tuple[Verdict, ...] = (Verdict.HOLDS,)
    measure: str | None = None
    measured: Callable[[float], float] = _same
    distances: tuple[float, ...] = ()

    def number_at(self, distance: float) -> float:
        """The number at this distance from the threshold, on the side of the claim if positive."""
        limit = self.threshold
        return limit.value + limit.sign * distance * abs(limit.value - limit.neutral)
