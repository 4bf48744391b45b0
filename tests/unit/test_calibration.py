"""The calibration of the verdicts: each fact has cases, and a case's models have the number that it says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[2] / "benches"))

import calibration
from calibration import CASES, Outcome, Row
from lmfacts.facts import CATALOGUE, Verdict

WITHOUT_A_CLAIM = {"F15"}


def test_every_fact_with_a_verdict_has_cases():
    assert {case.fact for case in CASES} == set(CATALOGUE) - WITHOUT_A_CLAIM


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.fact}, {case.number}")
def test_far_from_its_threshold_a_case_gives_no_wrong_verdict(case):
    distances = case.distances or calibration.DISTANCES
    for distance in (distances[0], distances[-1]):
        outcome = calibration.drawn(0, index=CASES.index(case), distance=distance, own_scales=False)
        row = Row(case, distance, own_scales=False, outcomes=(outcome,))
        assert row.wrong == 0
        assert outcome.verdict is not Verdict.NOT_APPLICABLE


def test_wrong_is_a_firm_verdict_on_the_other_side():
    case = CASES[0]
    outcomes = tuple(Outcome(verdict, None) for verdict in (Verdict.HOLDS, Verdict.FAILS, Verdict.INCONCLUSIVE))
    assert Row(case, 0.5, own_scales=False, outcomes=outcomes).wrong == pytest.approx(1 / 3)
    assert Row(case, -0.5, own_scales=False, outcomes=outcomes[::2]).wrong == pytest.approx(1 / 2)
    assert Row(case, 0.0, own_scales=False, outcomes=outcomes).wrong == 0
    assert Row(case, 0.1, own_scales=False, outcomes=outcomes).breaks_promise
    assert not Row(case, 0.03, own_scales=False, outcomes=outcomes).breaks_promise
