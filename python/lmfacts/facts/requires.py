"""What a fact asks of the runs before it can judge anything: each function gives what it asks for, or ends the check.

A check is ended by raising `NotApplicable` (the runs lack something that another command would record) or
`Inconclusive` (it is there, and too little or without meaning). `Definition.check` makes the fact of either.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lmfacts.facts.fact import Verdict
from lmfacts.facts.intervals import too_few_data
from lmfacts.facts.site_checks import degenerate

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lmfacts.facts.fact import Evidence
    from lmfacts.facts.inputs import Inputs
    from lmfacts.run import Run
    from lmfacts.run.site import SiteRecord
    from lmfacts.run.weight import WeightRecord

__all__ = ["Inconclusive", "NotApplicable", "Unmet", "activations", "enough_text", "layers_of", "values", "weights"]


class Unmet(Exception):  # noqa: N818  an answer, and never seen by a caller of `Definition.check`
    """A check that ends before it judges.

    Attributes:
        verdict: the verdict that this is.
        summary: why, as a sentence.
        command: what would supply what is missing, or None.
        evidence: what is known nevertheless, or None.
    """

    verdict = Verdict.INCONCLUSIVE

    def __init__(self, summary: str, command: str | None = None, evidence: Evidence | None = None) -> None:
        super().__init__(summary)
        self.summary = summary
        self.command = command
        self.evidence = evidence


class NotApplicable(Unmet):
    """The runs lack what the fact is about."""

    verdict = Verdict.NOT_APPLICABLE


class Inconclusive(Unmet):
    """What the fact is about is there, and does not suffice for a verdict."""

    def __init__(self, summary: str, evidence: Evidence | None = None) -> None:
        super().__init__(summary, None, evidence)


DEFAULT_SITES: Final = "lmfacts scan {model} --sites default"
RESIDUAL_SITES: Final = "lmfacts scan {model} --sites resid"


def activations(inputs: Inputs) -> Run:
    """The run of activations, which `Definition.needs` asks for."""
    assert inputs.activations is not None  # `Definition.check` sees to it
    return inputs.activations


def weights(inputs: Inputs) -> Run[WeightRecord]:
    """The run of weights, which `Definition.needs` asks for."""
    assert inputs.weights is not None  # `Definition.check` sees to it
    return inputs.weights


def layers_of(inputs: Inputs, kind: str) -> dict[int, str]:
    """Layer -> name of the recorded sites of a kind, at least one."""
    names = activations(inputs).layers_of(kind)
    if not names:
        raise NotApplicable(f"The run has no {kind} sites.", DEFAULT_SITES.format(model=inputs.model_argument))
    return names


def enough_text(run: Run) -> None:
    """Enough sequences and tokens for a verdict: `intervals.LEAST_SEQUENCES` and `LEAST_TOKENS`."""
    reason = too_few_data(run)
    if reason is not None:
        raise Inconclusive(reason)


def values(sites: Iterable[SiteRecord]) -> None:
    """Tokens at every site, and values that are finite and not all the same."""
    reason = degenerate(sites)
    if reason is not None:
        raise Inconclusive(reason)
