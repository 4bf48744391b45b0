"""How verdicts look and what they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from lmfacts.facts.fact import Verdict

if TYPE_CHECKING:
    from lmfacts.facts.fact import Fact

__all__ = ["MEANINGS", "SIGNS", "neighbors", "verdict_text"]

SIGNS: Final[dict[Verdict, str]] = {
    Verdict.HOLDS: "●",
    Verdict.BODY_ONLY: "◐",
    Verdict.FAILS: "○",
    Verdict.INCONCLUSIVE: "?",
    Verdict.NOT_APPLICABLE: "-",
    Verdict.MEASURED: "·",
}
"""The sign of each verdict, which reads without its color. A claim that is not true of a model is no fault of it."""

_STYLES: Final[dict[Verdict, str]] = {
    Verdict.HOLDS: "bold cyan",
    Verdict.BODY_ONLY: "cyan",
    Verdict.FAILS: "bold magenta",
    Verdict.INCONCLUSIVE: "bold",
    Verdict.NOT_APPLICABLE: "",
    Verdict.MEASURED: "",
}

MEANINGS: Final[dict[Verdict, str]] = {
    Verdict.HOLDS: "the claim is true of this model as it was read, by the rules of the fact",
    Verdict.BODY_ONLY: "the bulk of the values is Gaussian; the rest of the claim is not met",
    Verdict.FAILS: "it was measured, and the claim is not true of this model as it was read",
    Verdict.INCONCLUSIVE: "too little data, or a number too close to its threshold to decide",
    Verdict.NOT_APPLICABLE: "the runs lack what it needs, or the model has nothing that it speaks of",
    Verdict.MEASURED: "numbers without a claim",
}
"""What each verdict says, in a few words."""


def verdict_text(verdict: Verdict) -> Text:
    """A verdict in words, with its sign, in its color."""
    return Text(f"{SIGNS[verdict]} {verdict.words}", style=_STYLES[verdict])


def neighbors(fact: Fact) -> str | None:
    """What looser and stricter thresholds would have said, or None where nothing was judged, or is open anyhow."""
    if fact.looser is None or fact.stricter is None:
        return None
    if fact.looser is fact.stricter:
        if fact.looser is not fact.verdict:
            return f"with thresholds 10 % looser or 10 % stricter: {fact.looser.words}"
        # What is open for want of data stays so wherever a threshold lies.
        is_open = fact.verdict is Verdict.INCONCLUSIVE
        return None if is_open else "the same verdict with thresholds 10 % looser or 10 % stricter"
    return f"with thresholds 10 % looser: {fact.looser.words}; 10 % stricter: {fact.stricter.words}"
