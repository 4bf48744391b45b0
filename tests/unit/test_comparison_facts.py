"""Facts of two runs side by side."""

from __future__ import annotations

import math

import pytest

from lmfacts.comparison import compare, fact_change
from lmfacts.facts import Evidence, Fact, Measure, Verdict
from support.synthetic_runs import gaussian_run

HOLDS, FAILS = Verdict.HOLDS, Verdict.FAILS


def fact(fact_id, verdict, measures=(), fact_class=None):
    evidence = Evidence(tuple(Measure(*measure) for measure in measures))
    return Fact(fact_id, f"title of {fact_id}", "claim", "source", verdict, "summary", evidence, fact_class)


@pytest.fixture
def compared(monkeypatch):
    def compared(in_a, in_b):
        a, b = gaussian_run(), gaussian_run()
        checked = {id(a): in_a, id(b): in_b}
        monkeypatch.setattr(fact_change, "check", lambda run: checked[id(run)])
        return compare(a, b)

    return compared


def test_verdicts_and_classes_that_changed(compared):
    found = compared(
        [fact("F1", HOLDS), fact("F2", FAILS), fact("F3", FAILS, (), "none"), fact("F4", FAILS, (), "none")],
        [fact("F1", HOLDS), fact("F2", HOLDS), fact("F3", FAILS, (), "spikes"), fact("F4", FAILS, (), "none")],
    )
    assert [change.id for change in found.changed_facts] == ["F2", "F3"]
    assert [change.verdict_changed for change in found.facts] == [False, True, True, False]
    assert found.facts[1].a.verdict == "FAILS"
    assert found.facts[1].title == "title of F2"


def test_numbers_are_paired_by_name_and_sorted_by_their_change(compared):
    in_a = [("same", 3.0), ("twice", 1.0), ("gone", 7.0), ("lost its value", 2.0), ("twice", 5.0), ("a little", 1.0)]
    in_b = [
        ("same", 3.0),
        ("twice", 1.5),
        ("a little", 1.1),
        ("new", 4.0),
        ("lost its value", math.nan),
        ("twice", 20.0),
    ]
    (change,) = compared([fact("F1", HOLDS, in_a)], [fact("F1", HOLDS, in_b)]).facts
    assert [(one.name, one.a) for one in change.measures] == [
        ("lost its value", 2.0),
        ("twice", 5.0),
        ("twice", 1.0),
        ("a little", 1.0),
        ("same", 3.0),
    ]
    assert [one.relative_change for one in change.measures[1:]] == pytest.approx([0.75, 1 / 3, 0.1 / 1.1, 0.0])
    assert math.isnan(change.measures[0].relative_change)


def test_a_change_of_sign_is_a_change_of_more_than_one(compared):
    (change,) = compared([fact("F1", HOLDS, [("x", -1.0)])], [fact("F1", HOLDS, [("x", 1.0)])]).facts
    assert change.measures[0].relative_change == 2.0
    (change,) = compared([fact("F1", HOLDS, [("x", math.nan)])], [fact("F1", HOLDS, [("x", math.nan)])]).facts
    assert change.measures[0].relative_change == 0.0


def test_thresholds_go_along(compared):
    in_a, in_b = ("k", 1.0, "<= 2", True), ("k", 3.0, "<= 2", False)
    (change,) = compared([fact("F1", HOLDS, [in_a])], [fact("F1", FAILS, [in_b])]).facts
    assert change.measures[0].threshold == "<= 2"
    assert change.measures[0].passed == (True, False)


def test_each_run_is_checked_alone():
    found = compare(gaussian_run(), gaussian_run())
    assert found.changed_facts == []
    assert [change.a.verdict for change in found.facts] == [change.b.verdict for change in found.facts]
    assert found.facts[0].id == "F1"


@pytest.mark.parametrize("values", [(0.0, math.nan), (math.nan, 0.0), (math.inf, 0.0), (math.inf, -math.inf)])
def test_zero_beside_a_number_without_meaning(compared, values):
    in_a, in_b = ([fact("F1", FAILS, [("number", value)])] for value in values)
    (change,) = compared(in_a, in_b).facts
    assert math.isnan(change.measures[0].relative_change)
