"""What a fact of the catalogue claims, how it is measured, how a verdict is reached; the part that no run changes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lmfacts.facts.fact import Evidence, Fact, Verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmfacts.facts.inputs import Inputs

__all__ = ["Definition", "Objection", "PublishedValue"]


@dataclass(frozen=True)
class Objection:
    """What somebody held against the claim, in our words.

    Attributes:
        who: a name.
        what: one or two sentences.
    """

    who: str
    what: str


@dataclass(frozen=True)
class PublishedValue:
    """A number that others published, to be read beside the model's own.

    Attributes:
        model: the model it was measured on.
        quantity: what was measured.
        value: as published.
        source: where.
        confidence: `A` exact, `B` stated in a paper, post or published code, `C` second-hand or read off a plot.
    """

    model: str
    quantity: str
    value: str
    source: str
    confidence: Literal["A", "B", "C"]


@dataclass(frozen=True)
class Definition:
    """An entry of the catalogue before it meets a model.

    Attributes:
        id: `F1`.
        title: a few words.
        claim: the claim, as a sentence.
        source: who made it, with a link or identifier.
        needs: the kinds of run that it cannot do without.
        measured: how it is measured: sites, population, statistics; a short paragraph.
        formula: the formulas, one a line, in plain text.
        thresholds: the rules from numbers to a verdict, one a line.
        check: from runs to the fact; the kinds in `needs` are there when it is called.
        objections: what was held against the claim.
        published: numbers of others.
    """

    id: str
    title: str
    claim: str
    source: str
    needs: tuple[Literal["activations", "weights"], ...]
    measured: str
    formula: tuple[str, ...]
    thresholds: tuple[str, ...]
    check: Callable[[Inputs], Fact]
    objections: tuple[Objection, ...] = ()
    published: tuple[PublishedValue, ...] = ()

    def fact(
        self, verdict: Verdict, summary: str, evidence: Evidence | None = None, *, fact_class: str | None = None
    ) -> Fact:
        """The fact with a verdict."""
        return Fact(self.id, self.title, self.claim, self.source, verdict, summary, evidence or Evidence(), fact_class)

    def not_applicable(self, summary: str, command: str | None = None) -> Fact:
        """The fact where the runs lack what it needs; `command` would supply it."""
        return Fact(
            self.id,
            self.title,
            self.claim,
            self.source,
            Verdict.NOT_APPLICABLE,
            summary,
            command=command,
        )
