"""Intervals over blocks, and what they leave open."""

from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest

from lmfacts.facts.intervals import all_of, any_of, decided, spans, too_few_data
from lmfacts.stats.jackknife import jackknife

T_7 = 1.8945786  # Student's t with 7 degrees of freedom at 0.95, from a table


def leave_one_out(blocks, statistic):
    return [statistic(np.delete(blocks, j, axis=0)) for j in range(len(blocks))]


def test_of_a_mean_it_is_students_interval():
    blocks = np.array([3.0, 5.0, 2.0, 7.0, 4.0, 4.5, 6.0, 1.0])
    low, high = jackknife(blocks.mean(), leave_one_out(blocks, np.mean))
    half = T_7 * blocks.std(ddof=1) / math.sqrt(8)
    assert low == pytest.approx(blocks.mean() - half, rel=1e-7)
    assert high == pytest.approx(blocks.mean() + half, rel=1e-7)


def test_it_covers_the_truth_in_nine_of_ten_samples():
    rng = np.random.default_rng(0)
    covered = []
    for _ in range(1000):
        blocks = rng.exponential(size=(8, 200))
        low, high = jackknife(math.log(blocks.mean()), leave_one_out(blocks, lambda part: math.log(part.mean())))
        covered.append(low < 0.0 < high)
    assert np.mean(covered) == pytest.approx(0.9, abs=0.03)


def test_equal_blocks_have_an_interval_of_no_width():
    assert jackknife(2.0, [2.0] * 8) == (2.0, 2.0)


@pytest.mark.parametrize(
    ("full", "left"),
    [(math.nan, [1.0, 2.0]), (1.0, [1.0, math.nan]), (1.0, [1.0, math.inf]), (math.inf, [1.0, 2.0]), (1.0, [1.0])],
)
def test_what_has_no_interval(full, left):
    assert np.isnan(jackknife(full, left)).all()


def test_spans():
    assert spans((1.0, 3.0), 2.0)
    assert not spans((1.0, 3.0), 0.5)
    assert not spans((1.0, 3.0), 3.5)
    assert not spans((2.0, 3.0), 2.0)
    assert not spans((2.0, 2.0), 2.0)
    assert spans((math.nan, math.nan), 2.0)


def test_decided():
    assert decided(1.0, (0.9, 1.1), 2.0, passed=True) is True
    assert decided(1.0, (0.9, 1.1), 0.5, passed=False) is False
    assert decided(1.0, (0.9, 1.1), 1.05, passed=True) is None
    assert decided(2.0, (1.7, 2.1), 1.8, 2.2, passed=True) is None
    assert decided(2.0, (1.9, 2.1), 1.8, 2.2, passed=True) is True
    assert decided(math.nan, (0.0, 1.0), 5.0, passed=False) is None
    assert decided(1.0, (math.nan, math.nan), 5.0, passed=True) is None


def test_conditions_that_are_open():
    assert all_of(True, True) is True
    assert all_of(True, None) is None
    assert all_of(None, False) is False
    assert any_of(False, None) is None
    assert any_of(None, True) is True
    assert any_of(False, False) is False


def test_too_few_data():
    assert too_few_data(SimpleNamespace(n_sequences=4, n_tokens=4096)) == "4 sequences; at least 8 are needed."
    assert too_few_data(SimpleNamespace(n_sequences=1, n_tokens=512)) == "1 sequence; at least 8 are needed."
    assert too_few_data(SimpleNamespace(n_sequences=10, n_tokens=50)) == "50 tokens; at least 128 are needed."
    assert too_few_data(SimpleNamespace(n_sequences=8, n_tokens=128)) is None
