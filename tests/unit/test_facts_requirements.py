"""What may be required of a fact, and which verdicts are enough."""

from __future__ import annotations

from dataclasses import replace

import pytest

from lmfacts.errors import UsageError
from lmfacts.facts import Fact, Verdict
from lmfacts.facts.required_verdicts import Requirement

FACT = Fact("F8", "Weights", "They are so.", "somebody", Verdict.HOLDS, "90 of 96 matrices are so.")

ENOUGH = {
    "F8": {Verdict.HOLDS},
    "F8=HOLDS": {Verdict.HOLDS},
    "F8=BODY-ONLY": {Verdict.HOLDS, Verdict.BODY_ONLY},
    "F8=FAILS": {Verdict.FAILS},
}


@pytest.mark.parametrize("verdict", Verdict)
@pytest.mark.parametrize("text", ENOUGH)
def test_which_verdicts_are_enough(text, verdict):
    requirement = Requirement.parse(text)
    fact = replace(FACT, verdict=verdict)
    assert requirement.is_met(fact) == (verdict in ENOUGH[text])
    assert (requirement.shortfall(fact) is None) == (verdict in ENOUGH[text])


@pytest.mark.parametrize(
    ("text", "fact_id", "verdict", "again"),
    [
        ("F2", "F2", Verdict.HOLDS, "F2"),
        ("f11", "F11", Verdict.HOLDS, "F11"),
        (" f8 = body-only ", "F8", Verdict.BODY_ONLY, "F8=BODY-ONLY"),
        ("F8=Body_Only", "F8", Verdict.BODY_ONLY, "F8=BODY-ONLY"),
        ("F3=fails", "F3", Verdict.FAILS, "F3=FAILS"),
        ("F3=HOLDS", "F3", Verdict.HOLDS, "F3"),
    ],
)
def test_spellings(text, fact_id, verdict, again):
    requirement = Requirement.parse(text)
    assert (requirement.fact_id, requirement.verdict) == (fact_id, verdict)
    assert str(requirement) == again
    assert Requirement.parse(str(requirement)) == requirement


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("F99", "no fact 'F99'"),
        ("", "no fact ''"),
        ("F2=", "HOLDS, BODY-ONLY, FAILS"),
        ("F2=TRUE", "'TRUE'"),
        ("F2=INCONCLUSIVE", "'INCONCLUSIVE'"),
        ("F2=NOT-APPLICABLE", "'NOT-APPLICABLE'"),
        ("F15=MEASURED", "'MEASURED'"),
        ("F2=HOLDS=FAILS", "'HOLDS=FAILS'"),
    ],
)
def test_what_cannot_be_required_is_refused(text, said):
    with pytest.raises(UsageError, match=said):
        Requirement.parse(text)


def test_what_is_missing_is_one_sentence():
    fails = replace(FACT, verdict=Verdict.FAILS, summary="9 of 96 matrices are so.")
    assert Requirement.parse("F8").shortfall(fails) == "F8 is FAILS, and HOLDS is required: 9 of 96 matrices are so."
    assert Requirement.parse("F8=BODY-ONLY").shortfall(fails) == (
        "F8 is FAILS, and at least BODY-ONLY is required: 9 of 96 matrices are so."
    )
    assert Requirement.parse("F8=FAILS").shortfall(FACT) == (
        "F8 is HOLDS, and FAILS is required: 90 of 96 matrices are so."
    )
    assert (
        Requirement.parse("F8").shortfall(replace(fails, summary="")) == "F8 is FAILS, and HOLDS is required: Weights."
    )
    panel = replace(fails, verdict=Verdict.MEASURED)
    assert Requirement.parse("F8").shortfall(panel) == "F8 is MEASURED, and makes no claim that could be required."
