"""Verdicts that a user asks for: `F2`, `F8=BODY-ONLY`, `F3=FAILS`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from lmfacts.errors import UsageError
from lmfacts.facts.catalogue import definition
from lmfacts.facts.fact import Verdict

if TYPE_CHECKING:
    from lmfacts.facts.fact import Fact

__all__ = ["Requirement"]

_SATISFIED_BY: Final[dict[Verdict, tuple[Verdict, ...]]] = {
    Verdict.HOLDS: (Verdict.HOLDS,),
    Verdict.BODY_ONLY: (Verdict.HOLDS, Verdict.BODY_ONLY),
    Verdict.FAILS: (Verdict.FAILS,),
}
"""What may be required -> the verdicts that are enough for it."""


@dataclass(frozen=True)
class Requirement:
    """A verdict that a fact must have.

    Attributes:
        fact_id: `F2`.
        verdict: HOLDS; BODY-ONLY, for which HOLDS is enough too; or FAILS, for which only FAILS is.
    """

    fact_id: str
    verdict: Verdict = Verdict.HOLDS

    @classmethod
    def parse(cls, text: str) -> Self:
        """A requirement from `ID` or `ID=VERDICT`, in upper or lower case.

        Raises:
            UsageError: the catalogue has no such fact, or the verdict is none that can be required.
        """
        name, equals, wanted = (part.strip() for part in text.partition("="))
        fact_id = definition(name).id
        if not equals:
            return cls(fact_id)
        known = {str(verdict): verdict for verdict in _SATISFIED_BY}
        verdict = known.get(wanted.upper().replace("_", "-"))
        if verdict is None:
            raise UsageError(
                f"Cannot require {text!r}: expected one of the verdicts {', '.join(known)}, got {wanted!r}."
            )
        return cls(fact_id, verdict)

    def __str__(self) -> str:
        """As it would be typed."""
        return self.fact_id if self.verdict is Verdict.HOLDS else f"{self.fact_id}={self.verdict}"

    def is_met(self, fact: Fact) -> bool:
        """Whether the fact's verdict is enough; INCONCLUSIVE, NOT-APPLICABLE and MEASURED never are."""
        return fact.verdict in _SATISFIED_BY[self.verdict]

    def shortfall(self, fact: Fact) -> str | None:
        """What is missing, as a sentence, or None if nothing is."""
        if self.is_met(fact):
            return None
        if fact.verdict is Verdict.MEASURED:
            return f"{fact.id} is {fact.verdict}, and makes no claim that could be required."
        least = " at least" if self.verdict is Verdict.BODY_ONLY else ""
        summary = fact.summary.rstrip(".")
        return f"{fact.id} is {fact.verdict}, and{least} {self.verdict} is required: {summary or fact.title}."
