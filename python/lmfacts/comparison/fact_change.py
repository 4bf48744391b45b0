"""What changed of the catalogue of facts: verdicts, and the numbers behind them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmfacts.facts import check

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lmfacts.facts import Fact, Measure
    from lmfacts.run import Run

__all__ = ["FactChange", "MeasureChange", "changes_of_facts"]


@dataclass(frozen=True)
class MeasureChange:
    """A number behind a fact in both runs.

    Attributes:
        name: what it is.
        a: the number in A.
        b: the number in B.
        threshold: what it is compared with, in words, or empty.
        passed: whether it is on the side of the claim in A and B; None where it decides nothing.
    """

    name: str
    a: float
    b: float
    threshold: str
    passed: tuple[bool | None, bool | None]

    @property
    def relative_change(self) -> float:
        """|b - a| over the larger magnitude, 0 to 2; NaN where one of them has no meaning."""
        if self.a == self.b or (math.isnan(self.a) and math.isnan(self.b)):
            return 0.0
        if not (math.isfinite(self.a) and math.isfinite(self.b)):
            return math.nan
        return abs(self.b - self.a) / max(abs(self.a), abs(self.b))


@dataclass(frozen=True)
class FactChange:
    """A fact as it stands for A and for B.

    Attributes:
        a: the fact of A.
        b: the fact of B.
        measures: the numbers that both have, those that changed most first.
    """

    a: Fact
    b: Fact
    measures: tuple[MeasureChange, ...]

    @property
    def id(self) -> str:
        """`F1`."""
        return self.a.id

    @property
    def title(self) -> str:
        """A few words."""
        return self.a.title

    @property
    def verdict_changed(self) -> bool:
        """Whether the verdict, or the class within it, is another one."""
        return (self.a.verdict, self.a.fact_class) != (self.b.verdict, self.b.fact_class)


def changes_of_facts(a: Run[Any], b: Run[Any]) -> tuple[FactChange, ...]:
    """Check every fact on each run alone, and compare."""
    return tuple(
        FactChange(fact_a, fact_b, _measures(fact_a, fact_b)) for fact_a, fact_b in zip(check(a), check(b), strict=True)
    )


def _measures(a: Fact, b: Fact) -> tuple[MeasureChange, ...]:
    named_a, named_b = _named(a), _named(b)
    changes = [
        MeasureChange(one.name, one.value, other.value, one.threshold, (one.passed, other.passed))
        for key, one in named_a.items()
        if (other := named_b.get(key)) is not None
    ]
    return tuple(sorted(changes, key=_size, reverse=True))


def _named(fact: Fact) -> Mapping[tuple[str, int], Measure]:
    """The measures by name, and by how many of that name came before."""
    named: dict[tuple[str, int], Measure] = {}
    for measure in fact.evidence.measures:
        n_before = sum(name == measure.name for name, _ in named)
        named[measure.name, n_before] = measure
    return named


def _size(change: MeasureChange) -> float:
    """What to sort by: a number that came or went is the largest change."""
    size = change.relative_change
    return math.inf if math.isnan(size) else size
