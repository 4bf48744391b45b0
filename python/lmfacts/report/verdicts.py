"""How verdicts look and what they mean."""

from __future__ import annotations

from typing import Final

from rich.text import Text

from lmfacts.facts.fact import Verdict

__all__ = ["MEANINGS", "NO", "YES", "verdict_text"]

YES: Final = "✓"
NO: Final = "✗"

_MARKS: Final[dict[Verdict, tuple[str, str]]] = {
    Verdict.HOLDS: (YES, "bold green"),
    Verdict.BODY_ONLY: ("≈", "bold cyan"),
    Verdict.FAILS: (NO, "bold red"),
    Verdict.INCONCLUSIVE: ("?", "bold"),
    Verdict.NOT_APPLICABLE: ("-", ""),
    Verdict.MEASURED: ("·", ""),
}
"""The sign and the style of each verdict; the sign reads without the color."""

MEANINGS: Final[dict[Verdict, str]] = {
    Verdict.HOLDS: "the claim is true of this model, by the rules of the fact",
    Verdict.BODY_ONLY: "the bulk of the values is Gaussian; the rest of the claim is not met",
    Verdict.FAILS: "it was measured, and the claim is not true of this model",
    Verdict.INCONCLUSIVE: "too little data, or a number too close to its threshold to decide",
    Verdict.NOT_APPLICABLE: "the runs lack what it needs, or the model has nothing that it speaks of",
    Verdict.MEASURED: "numbers without a claim",
}
"""What each verdict says, in a few words."""


def verdict_text(verdict: Verdict) -> Text:
    """A verdict with its sign, in its color."""
    mark, style = _MARKS[verdict]
    return Text(f"{mark} {verdict}", style=style)
