"""What a fact of the catalogue claims, how it is measured, how a verdict is reached; the part that no run changes."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Literal

from lmfacts.facts.fact import Evidence, Fact, Verdict
from lmfacts.facts.requires import NotApplicable, Unmet
from lmfacts.run.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmfacts.charts import Figure
    from lmfacts.facts.inputs import Inputs
    from lmfacts.facts.runs_view import RunsView

__all__ = ["CONFIDENCE", "Definition", "Objection", "PublishedValue"]

CONFIDENCE: Final = {
    "A": "exact, from released data or weights",
    "B": "stated in a paper, a post or published code",
    "C": "second-hand, or read off a plot",
}
"""How sure a published number is."""


@dataclass(frozen=True)
class Objection:
    """What somebody objected to the claim, in our words.

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
        confidence: how sure it is, a key of `CONFIDENCE`.
    """

    model: str
    quantity: str
    value: str
    source: str
    confidence: Literal["A", "B", "C"]


def _no_figures(_view: RunsView) -> list[Figure]:
    return []


@dataclass(frozen=True)
class Definition:
    """An entry of the catalogue before it meets a model.

    Attributes:
        id: `F1`.
        title: a few words.
        claim: the claim, as a sentence.
        source: who made it, with a link or identifier.
        needs: the kinds of run (`lmfacts.run.kinds.KINDS`) that it cannot do without.
        measured: how it is measured: sites, population, statistics; a short paragraph.
        formula: the formulas, one a line, in plain text.
        thresholds: the rules from numbers to a verdict, one a line.
        judge: from runs to the fact; the kinds in `needs` are there when it is called. It may end with what
            `facts.requires` raises.
        objections: objections to the claim.
        published: numbers of others.
        figures: its charts, from the runs; none where what they need was not recorded.
        package: which distribution it comes from; empty for those of lmfacts.
    """

    id: str
    title: str
    claim: str
    source: str
    needs: tuple[str, ...]
    measured: str
    formula: tuple[str, ...]
    thresholds: tuple[str, ...]
    judge: Callable[[Inputs], Fact]
    objections: tuple[Objection, ...] = ()
    published: tuple[PublishedValue, ...] = ()
    figures: Callable[[RunsView], list[Figure]] = _no_figures
    package: str = ""

    @property
    def confidence_marks(self) -> str:
        """What the marks beside the published numbers mean: `A: exact, ...; C: ...`."""
        used = {value.confidence for value in self.published}
        return "; ".join(f"{mark}: {meaning}" for mark, meaning in CONFIDENCE.items() if mark in used)

    def check(self, inputs: Inputs) -> Fact:
        """Check the fact on runs of one model: NOT-APPLICABLE where a run that it needs is not there."""
        for kind in self.needs:
            if inputs.of_kind(kind) is None:
                command = KINDS[kind].command.format(model=inputs.model_argument)
                return self.not_applicable(f"It needs a run of {kind}, and none was given.", command)
        try:
            fact = self.judge(inputs)
        except NotApplicable as reason:
            fact = self.not_applicable(reason.summary, reason.command)
        except Unmet as reason:
            fact = self.fact(reason.verdict, reason.summary, reason.evidence)
        except Exception as error:
            if not self.package:
                raise
            # Somebody else's code does not keep the other facts from being checked.
            fact = self.fact(Verdict.INCONCLUSIVE, f"The check failed: {type(error).__name__}: {error}.")
        return replace(fact, id=self.id, package=self.package) if self.package else fact

    def figures_from(self, view: RunsView) -> list[Figure]:
        """Its figures; none, with a warning, where those of another package cannot be made."""
        try:
            return self.figures(view)
        except Exception as error:
            if not self.package:
                raise
            whose = f"{self.id} of the package {self.package}"
            warnings.warn(f"The figures of {whose} are left out: {type(error).__name__}: {error}.", stacklevel=2)
            return []

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
