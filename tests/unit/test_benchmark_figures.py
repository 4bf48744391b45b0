"""What benchmarks say of their rounds: intervals, ratios of added times, bounds where noise hides a difference."""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

sys.path.append(str(Path(__file__).resolve().parents[2] / "benches"))

import machine
import measuring
from measuring import Clock, Figure, Report, Target, cells, interleaved
from spreads import Spread, added, added_ratio, median_interval, ratios, spread

DIFFERENCES = st.lists(st.floats(-1e3, 1e3, allow_nan=False), max_size=30)


@pytest.mark.parametrize("n", range(1, 41))
def test_intervals_of_a_median_have_the_coverage_of_the_sign_test(n):
    found = median_interval(np.arange(n))
    below = int(found.low)
    assert (found.n, found.high) == (n, n - 1 - below)
    assert found.coverage == pytest.approx(max(0.0, 1 - 2 * stats.binom.cdf(below, n, 0.5)))
    if n >= 6:
        assert found.coverage >= 0.95
        narrower = 1 - 2 * stats.binom.cdf(below + 1, n, 0.5)
        assert narrower < 0.95 or 2 * (below + 1) >= n


def test_intervals_hold_the_true_median_as_often_as_they_say():
    rng = np.random.default_rng(0)
    for n in (3, 5, 12):
        intervals = [median_interval(rng.lognormal(size=n)) for _ in range(2000)]
        share = np.mean([found.low <= 1 <= found.high for found in intervals])
        assert share == pytest.approx(intervals[0].coverage, abs=0.02)


def test_ratios_of_added_times_hold_the_true_ratio():
    rng = np.random.default_rng(1)
    hits = 0
    for _ in range(500):
        slow = rng.lognormal(sigma=0.1, size=12)
        found = added_ratio(slow * 20 + rng.normal(0, 2, 12), slow + rng.normal(0, 0.2, 12))
        hits += found.low <= 20 <= found.high
        assert 10 < found.median < 40
        assert found.says == ""
    assert hits / 500 >= found.coverage >= 0.95


def test_a_ratio_is_that_of_the_medians_and_not_the_median_of_ratios():
    above, below = [10.0, 20.0, 30.0, 40.0, 50.0], [5.0, 4.0, 3.0, 2.0, 1.0]
    assert added_ratio(above, below) == Spread(10, 10 / 5, 50 / 1, 5, pytest.approx(1 - 4 * 0.5**5))


def test_where_the_denominator_may_be_zero_there_is_a_lower_bound():
    # One round of noise, whose own ratio is -59.8.
    above, below = [2.4, 2.5, 2.6, 2.392, 2.5], [0.10, 0.12, 0.08, -0.04, 0.11]
    found = added_ratio(above, below)
    assert (found.says, found.median) == ("at least", pytest.approx(2.392 / 0.12))
    assert cells(Figure("a", "b", found)) == ("at least 19.9 x", "(88%)", "5")


def test_where_the_numerator_may_be_zero_there_is_an_upper_bound():
    found = added_ratio([-0.1, 0.1, 0.2], [1.0, 2.0, 4.0])
    assert (found.says, found.median) == ("at most", pytest.approx(0.2 / 1.0))


@pytest.mark.parametrize(
    ("above", "below"),
    [
        ([], []),
        ([1.0], []),
        ([1.0], [-1.0]),
        ([-1.0, -2.0], [1.0, 2.0]),
        ([1.0, 2.0], [-1.0, -2.0]),
        ([-1.0, 2.0], [-1.0, 2.0]),
    ],
)
def test_what_makes_no_sense_as_a_ratio_is_not_measurable(above, below):
    found = added_ratio(above, below)
    assert not found.is_measured
    n = min(len(above), len(below))
    assert cells(Figure("a", "b", found)) == ("not measurable" if n else "not measured", "", str(n))


@settings(max_examples=300, deadline=None)
@given(above=DIFFERENCES, below=DIFFERENCES)
def test_no_ratio_of_added_times_is_negative(above, below):
    found = added_ratio(above, below)
    assert not found.is_measured or (found.median >= 0 and found.low >= 0)
    assert not found.is_measured or found.low <= found.median <= found.high


def test_an_added_time_that_may_be_zero_has_an_upper_bound():
    assert added([1.0, 2.0, 3.0]) == Spread(2, 1, 3, 3, 0.75)
    assert added([-0.3, 0.6, 1.3]) == Spread(1.3, -0.3, 1.3, 3, 0.75, "at most")
    assert not added([-1.0, -2.0, -3.0]).is_measured
    assert not added([-1.0]).is_measured
    assert not added([]).is_measured


def test_times_are_compared_round_by_round():
    assert ratios([2.0, 30.0, 4.0], [1.0, 10.0, 2.0]) == Spread(2, 2, 3, 3)
    assert spread([1.0, 2.0, 3.0, 4.0, 5.0]) == Spread(3, 2, 4, 5)
    assert not spread([]).is_measured


AT_LEAST, AT_MOST = Target(25, at_most=False, text=""), Target(25, at_most=True, text="")


@pytest.mark.parametrize(
    ("says", "value", "target", "verdict"),
    [
        ("", 30, AT_LEAST, "met"),
        ("", 20, AT_LEAST, "not met"),
        ("at least", 30, AT_LEAST, "met"),
        ("at least", 20, AT_LEAST, "not known"),
        ("at most", 30, AT_LEAST, "not known"),
        ("at most", 20, AT_LEAST, "not met"),
        ("at least", 30, AT_MOST, "not met"),
        ("at least", 20, AT_MOST, "not known"),
        ("at most", 30, AT_MOST, "not known"),
        ("at most", 20, AT_MOST, "met"),
        ("", math.nan, AT_MOST, "not known"),
        ("at least", 20, None, ""),
    ],
)
def test_a_bound_meets_a_target_only_where_it_proves_it(says, value, target, verdict):
    assert Figure("a", "b", Spread(value, value, value, 5, 0.9, says), target=target).verdict == verdict


def test_one_difference_meets_no_target():
    assert Figure("a", "b", added([1.0]), target=AT_MOST).verdict == "not known"
    assert Figure("a", "b", added([1.0, 1.0]), target=AT_MOST).verdict == "met"
    assert Figure("a", "b", spread([1.0]), target=AT_MOST).verdict == "met"


def test_reports_come_back_from_json_with_what_could_not_be_measured():
    report = Report("a", {"threads": {"torch": 2}})
    report.add_times({"bare": [1.0, 2.0], "ours": [1.5, 2.5]}, "first")
    report.add_times({"bare": [], "ours": []}, "second")
    report.figures = [
        Figure("a", "b", added_ratio([1.0, 2.0, 3.0], [-1.0, 1.0, 2.0]), target=AT_LEAST),
        Figure("a", "b", Spread.not_measurable(0), "%"),
    ]
    text = json.dumps(report.to_json(), allow_nan=False)
    again = Report.from_json(json.loads(text))
    assert json.dumps(again.to_json()) == text
    assert again.rounds == {"first": 2, "second": 0}
    assert again.figures[0] == report.figures[0]
    assert not again.figures[1].value.is_measured


class Times:
    """A clock of seconds that pass only when somebody says so."""

    def __init__(self, monkeypatch):
        self.now = 0.0
        monkeypatch.setattr(measuring.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(measuring.time, "perf_counter", lambda: self.now)

    def work(self, seconds):
        def run():
            self.now += seconds

        return run


def test_rounds_end_before_the_clock_does(monkeypatch):
    times = Times(monkeypatch)
    variants = {"a": times.work(1), "b": times.work(2)}
    assert interleaved(variants, 100, clock=Clock(16)) == {"a": [1.0] * 4, "b": [2.0] * 4}
    assert times.now == 15
    assert interleaved(variants, 2, clock=Clock(1000)) == {"a": [1.0] * 2, "b": [2.0] * 2}
    assert interleaved(variants, 3, warm_up=0) == {"a": [1.0] * 3, "b": [2.0] * 3}


def test_the_warm_up_counts_where_there_is_time_for_nothing_else(monkeypatch):
    times = Times(monkeypatch)
    assert interleaved({"a": times.work(1), "b": times.work(2)}, 9, clock=Clock(4), warm_up=3) == {"a": [1], "b": [2]}


def test_a_round_that_the_clock_cuts_off_does_not_count(monkeypatch):
    times = Times(monkeypatch)
    variants = {"a": times.work(5), "b": times.work(5)}
    assert interleaved(variants, 9, clock=Clock(4)) == {"a": [], "b": []}
    assert times.now == 5


def test_parts_share_what_is_left(monkeypatch):
    times = Times(monkeypatch)
    clock = Clock(100)
    first = clock.share(0.25)
    times.now = 30
    assert (clock.left, first.left, clock.share(0.5).left) == (70, -5, 35)
    assert Clock().share(0.5).left == math.inf


@pytest.mark.parametrize(
    ("processor", "simd", "best", "name"),
    [
        ("AMD EPYC", "avx512", "avx512", "amd-epyc-family25-model17-avx512"),
        ("AMD EPYC", "avx2", "avx512", "amd-epyc-family25-model17-forced-avx2"),
        ("AMD EPYC 9634 84-Core Processor", "avx512", "avx512", "amd-epyc-9634-avx512"),
        ("Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", "avx512", "avx512", "intel-xeon-platinum-8481c-avx512"),
        ("Intel(R) Xeon(R) Processor @ 2.20GHz", "avx2", "avx2", "intel-xeon-family25-model17-avx2"),
    ],
)
def test_records_are_named_after_processors(processor, simd, best, name):
    given = {"processor": processor, "family": "25", "model": "17", "simd": simd, "simd_best": best}
    assert machine.record_name(given) == name


def test_a_record_has_no_family_where_the_system_does_not_tell():
    given = {"processor": "arm", "family": "", "model": "", "simd": "neon", "simd_best": "neon"}
    assert machine.record_name(given) == "arm-neon"
