"""Distances between distributions: closed forms, scipy on the raw values, the definitions by brute force."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import optimize, stats

from lmfacts.stats.cells import Cells
from lmfacts.stats.distances import distances
from lmfacts.stats.distribution import Distribution
from support import oracle

DTYPES = ("float32", "bfloat16", "float16")
N = 200_001
GAUSSIAN = stats.norm.ppf((np.arange(N) + 0.5) / N)
"""A sample that follows the normal law without chance."""


def distribution(values, dtype="float32"):
    codes, counts = np.unique(oracle.code_of(oracle.store(np.asarray(values), dtype), dtype), return_counts=True)
    return Distribution(codes, counts, dtype)


def between(a, b, dtype_a="float32", dtype_b="float32"):
    return distances(distribution(a, dtype_a), distribution(b, dtype_b))


@pytest.mark.parametrize("dtypes", [("float32", "float32"), ("float32", "bfloat16"), ("bfloat16", "float16")])
def test_a_gaussian_that_grew_by_a_tenth(dtypes):
    found = between(GAUSSIAN, 1.1 * GAUSSIAN, *dtypes)
    crossing = math.sqrt(2 * math.log(1.1) / (1 - 1 / 1.21))  # where the two densities are equal
    assert found.ks == pytest.approx(stats.norm.cdf(crossing) - stats.norm.cdf(crossing / 1.1), rel=2e-3)
    assert found.wasserstein == pytest.approx(0.1 * math.sqrt(2 / math.pi), rel=2e-3)
    assert found.wasserstein > found.wasserstein_resolution
    assert found.ks > found.ks_resolution
    assert found.levy > found.levy_resolution


def test_a_gaussian_that_moved():
    found = between(GAUSSIAN, GAUSSIAN + 0.25)
    levy = optimize.brentq(lambda e: 2 * stats.norm.cdf((0.25 - e) / 2) - 1 - e, 0.0, 0.25)
    assert found.ks == pytest.approx(2 * stats.norm.cdf(0.125) - 1, rel=2e-3)
    assert found.wasserstein == pytest.approx(0.25, rel=2e-3)
    assert found.levy == pytest.approx(levy, rel=2e-3)


def test_lengths_are_in_units_of_the_first_distribution():
    one, other = between(5 * GAUSSIAN, 6 * GAUSSIAN), between(6 * GAUSSIAN, 5 * GAUSSIAN)
    assert one.wasserstein / other.wasserstein == pytest.approx(6 / 5, rel=1e-3)
    assert one.ks == other.ks
    assert between(GAUSSIAN, 1.2 * GAUSSIAN).wasserstein == pytest.approx(one.wasserstein, rel=1e-2)


@pytest.mark.parametrize("dtype", [*DTYPES, "float64"])
def test_the_same_values_have_no_distance(dtype):
    found = between(GAUSSIAN, GAUSSIAN, dtype, dtype)
    assert (found.ks, found.levy, found.wasserstein) == (0, 0, 0)
    assert (found.ks_resolution, found.levy_resolution, found.wasserstein_resolution) == (0, 0, 0)


@pytest.mark.parametrize(
    ("dtype_a", "dtype_b"), [("float32", "bfloat16"), ("float16", "float32"), ("float16", "bfloat16")]
)
@pytest.mark.parametrize("kind", ["gaussian", "heavy", "few values", "constant dims", "zeros"])
def test_rounding_to_another_dtype_is_within_the_resolution(dtype_a, dtype_b, kind):
    rng = np.random.default_rng(0)
    values = {
        "gaussian": rng.normal(size=50_000),
        "heavy": rng.standard_t(2, size=50_000),
        "few values": rng.choice(rng.normal(size=7), size=5_000),
        "constant dims": np.concatenate([rng.normal(size=20_000), np.full(5_000, 3.1416), np.full(900, -97.3)]),
        "zeros": np.maximum(rng.normal(size=50_000), 0),
    }[kind]
    found = between(values, values, dtype_a, dtype_b)
    assert found.ks <= found.ks_resolution
    assert found.levy <= found.levy_resolution
    assert found.wasserstein <= found.wasserstein_resolution
    if kind == "gaussian":
        assert found.ks_resolution < 0.0025
        assert found.levy_resolution < 0.005
        assert found.wasserstein_resolution < 0.005
        assert found.ks < 0.2 * found.ks_resolution


def test_levy_forgives_what_hardly_moved_and_ks_does_not():
    values = np.concatenate([GAUSSIAN, np.full(N // 4, -1e-6)])
    moved = np.where(values == -1e-6, 0.0, values)
    found = between(values, moved)
    assert found.ks == pytest.approx(0.2, abs=0.001)
    assert found.levy < 2e-6
    assert found.wasserstein < 2e-6
    sparse = between(values, np.where(np.abs(values) < 0.5, 0.0, values))
    assert sparse.levy > 0.05


# Properties

values = st.lists(st.floats(-1000, 1000, width=32).filter(lambda x: x == 0 or abs(x) > 1e-3), min_size=1, max_size=40)
dtypes = st.sampled_from(DTYPES)


@settings(max_examples=150, deadline=None)
@given(values, values, dtypes, dtypes)
def test_distances_are_symmetric_and_bounded(x, y, dtype_x, dtype_y):
    a, b = distribution(x, dtype_x), distribution(y, dtype_y)
    there, back = distances(a, b), distances(b, a)
    assert there.ks == back.ks <= 1
    assert 0 <= there.levy <= there.ks + 1e-12
    if a.std > 0 and b.std > 0:
        assert there.wasserstein * a.std == pytest.approx(back.wasserstein * b.std, rel=1e-9)
        assert there.levy**2 <= there.wasserstein + 1e-9


@settings(max_examples=100, deadline=None)
@given(st.tuples(values, values, values), st.tuples(dtypes, dtypes, dtypes))
def test_the_triangle_inequality(samples, names):
    a, b, c = (distribution(sample, name) for sample, name in zip(samples, names, strict=True))
    direct, first, second = distances(a, c), distances(a, b), distances(b, c)
    assert direct.ks <= first.ks + second.ks + 1e-12
    if a.std > 0 and b.std > 0:
        assert direct.wasserstein * a.std <= (first.wasserstein * a.std + second.wasserstein * b.std) * (1 + 1e-9)


@settings(max_examples=150, deadline=None)
@given(values, values, dtypes)
def test_scipy_on_the_values_themselves(x, y, dtype):
    stored_x, stored_y = (oracle.widen(oracle.store(sample, dtype), dtype) for sample in (x, y))
    a, b = distribution(x, dtype), distribution(y, dtype)
    found = distances(a, b)
    at = np.concatenate([stored_x, stored_y])
    below = [np.searchsorted(np.sort(sample), at, side="right") / sample.size for sample in (stored_x, stored_y)]
    assert found.ks <= np.abs(below[0] - below[1]).max() + 1e-12
    if a.std > 0:
        width = sum(np.diff(Cells.of(d).edges) @ np.diff(Cells.of(d).cumulative) / d.n for d in (a, b))
        assert abs(found.wasserstein * a.std - stats.wasserstein_distance(stored_x, stored_y)) <= width + 1e-9


@pytest.mark.parametrize("seed", range(5))
def test_levy_by_its_definition(seed):
    rng = np.random.default_rng(seed)
    a = distribution(rng.standard_t(3, size=300) * rng.uniform(0.2, 5) + rng.normal())
    b = distribution(rng.choice([-1.0, 0.0, 0.5, 2.0], size=200) + rng.normal(size=200) * rng.integers(2), "bfloat16")
    e = distances(a, b).levy
    cells_a, cells_b = Cells.of(a), Cells.of(b)
    x = np.linspace(-60, 60, 200_001)

    def holds(e):
        below, above = cells_a.cdf(x - e * a.std) - e, cells_a.cdf(x + e * a.std) + e
        f = cells_b.cdf(x)
        return bool((below <= f + 1e-12).all() and (f <= above + 1e-12).all())

    assert holds(e * 1.0001)
    assert not holds(e * 0.99)


def test_lines_that_cross_within_a_cell():
    # F of A rises from 1/2 to 1 within the cell of 8, and is passed there by F of B, which is 3/4.
    a, b = distribution([1.0, 8.0]), distribution([0.5, 0.5, 0.5, 16.0])
    x = np.linspace(0.4, 17, 1_000_001)
    area = np.trapezoid(np.abs(Cells.of(a).cdf(x) - Cells.of(b).cdf(x)), x)
    assert distances(a, b).wasserstein * a.std == pytest.approx(area, rel=1e-5)


# Nothing to measure


def test_without_values_there_is_no_distance():
    for a, b in (([], [1.0]), ([1.0], []), ([np.nan, np.inf], [1.0])):
        found = between(a, b)
        assert math.isnan(found.ks)
        assert math.isnan(found.levy)
        assert math.isnan(found.wasserstein)


def test_constants():
    same = between([2.5] * 9, [2.5] * 3)
    assert (same.ks, same.levy, same.wasserstein) == (0, 0, 0)
    other = between([2.5] * 9, [-1.0] * 3)
    assert (other.ks, other.levy) == (1, 1)
    assert math.isnan(other.wasserstein)
    from_zero = between([0.0] * 9, GAUSSIAN)
    assert from_zero.ks == pytest.approx(0.5, abs=0.001)
    assert 0.2 < from_zero.levy < 0.5
    assert between(GAUSSIAN, [0.0]).wasserstein == pytest.approx(math.sqrt(2 / math.pi), rel=1e-2)


def test_huge_values_overflow_nothing():
    found = between([-3e38, 3e38], [-1e38, 3e38])
    assert 0 < found.wasserstein < 1
    assert 0 < found.levy <= found.ks == 0.5
