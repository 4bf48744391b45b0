"""What looser and stricter thresholds would have said."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from lmfacts.facts.fact import Evidence, Fact, Measure, Verdict
from lmfacts.facts.strictness import Strictness, at_least, at_most, judged

LOOSER, STATED, STRICTER = Strictness.LOOSER, Strictness.STATED, Strictness.STRICTER


@pytest.mark.parametrize(
    ("threshold", "limits"),
    [
        (at_least(5.0), (4.5, 5.0, 5.5)),
        (at_most(5.0), (5.5, 5.0, 4.5)),
        (at_least(0.97, neutral=1.0), (0.967, 0.97, 0.973)),
        (at_least(1.01, neutral=1.0), (1.009, 1.01, 1.011)),
        (at_most(-2.0), (-1.8, -2.0, -2.2)),
    ],
)
def test_thresholds_move_by_a_tenth_of_their_distance_from_neutral(threshold, limits):
    assert [threshold.at(one) for one in (LOOSER, STATED, STRICTER)] == pytest.approx(limits)
    loose, stated, strict = limits
    assert threshold.passed(stated)
    assert threshold.passed((stated + loose) / 2, LOOSER)
    assert not threshold.passed((stated + loose) / 2)
    assert threshold.passed((stated + 2 * strict) / 3)
    assert not threshold.passed((stated + strict) / 2, STRICTER)
    assert not threshold.passed(math.nan, LOOSER)


def fact_of(number):
    """A fact that holds from 0.75 up."""
    threshold = at_least(0.75)

    def judge(strictness):
        passed = threshold.passed(number, strictness)
        measures = (Measure("share", number, threshold.words(strictness), passed),)
        verdict = Verdict.HOLDS if passed else Verdict.FAILS
        return Fact("F0", "t", "c", "s", verdict, f"It is {number:g}.", Evidence(measures), "class")

    return judge


@pytest.mark.parametrize(
    ("number", "verdicts"),
    [
        (0.83, (Verdict.HOLDS, Verdict.HOLDS, Verdict.HOLDS)),
        (0.82, (Verdict.HOLDS, Verdict.INCONCLUSIVE, Verdict.FAILS)),
        (0.75, (Verdict.HOLDS, Verdict.INCONCLUSIVE, Verdict.FAILS)),
        (0.74, (Verdict.HOLDS, Verdict.INCONCLUSIVE, Verdict.FAILS)),
        (0.68, (Verdict.HOLDS, Verdict.INCONCLUSIVE, Verdict.FAILS)),
        (0.67, (Verdict.FAILS, Verdict.FAILS, Verdict.FAILS)),
    ],
)
def test_without_an_interval_a_verdict_has_to_stand_10_percent_either_way(number, verdicts):
    fact = judged(fact_of(number), has_interval=False)
    assert (fact.looser, fact.verdict, fact.stricter) == verdicts


def test_what_would_change_is_said():
    fact = judged(fact_of(0.8), has_interval=False)
    assert fact.summary == (
        "It is 0.8. It depends on where the thresholds lie (as stated: holds here; 10 % stricter: not so here, "
        "share 0.800 against >= 0.825)."
    )
    assert fact.fact_class is None
    assert judged(fact_of(0.9), has_interval=False).fact_class == "class"


def test_with_an_interval_the_neighbors_are_only_told():
    fact = judged(fact_of(0.8), has_interval=True)
    assert (fact.looser, fact.verdict, fact.stricter) == (Verdict.HOLDS, Verdict.HOLDS, Verdict.FAILS)
    assert fact.to_json()["stricter"] == "FAILS"


@pytest.mark.parametrize("stated", [Verdict.HOLDS, Verdict.BODY_ONLY, Verdict.FAILS])
def test_every_firm_verdict_has_to_stand_and_an_open_one_stays_as_it_is(stated):
    def fact(strictness, at_stated):
        verdict = at_stated if strictness is Strictness.STATED else Verdict.HOLDS
        return replace(fact_of(0.9)(Strictness.STATED), verdict=verdict)

    flips = stated is not Verdict.HOLDS
    found = judged(lambda strictness: fact(strictness, stated), has_interval=False)
    assert found.verdict is (Verdict.INCONCLUSIVE if flips else stated)
    assert (f"as stated: {stated.words}; 10 % looser: holds here" in found.summary) == flips
    left_open = judged(lambda strictness: fact(strictness, Verdict.INCONCLUSIVE), has_interval=False)
    assert left_open.verdict is Verdict.INCONCLUSIVE
    assert "depends" not in left_open.summary
