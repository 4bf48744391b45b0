"""Pooling moments: any split of the values gives the moments of the whole."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmfacts.stats.moments import Moments, pool_moments
from support import oracle


def of(values):
    """Moments of each column of [values, sets]."""
    return Moments(*np.array([oracle.moments_of(column) for column in values.T]).reshape(-1, 7).T)


def of_sets(*sets):
    return Moments(*np.array([oracle.moments_of(np.asarray(s, dtype=np.float64)) for s in sets]).T)


def assert_close(found, values, tolerance=1e-12):
    """Equal to the direct moments, each order relative to its natural scale."""
    n, mean, m2, m3, m4, low, high = oracle.moments_of(values)
    assert (int(found.n), float(found.min), float(found.max)) == (n, low, high)
    std = np.sqrt(m2 / max(n, 1))
    assert float(found.mean) == pytest.approx(mean, abs=tolerance * max(std, abs(mean)))
    assert float(found.m2) == pytest.approx(m2, rel=tolerance)
    assert float(found.m3) == pytest.approx(m3, rel=tolerance, abs=tolerance * n * std**3)
    assert float(found.m4) == pytest.approx(m4, rel=tolerance)


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    cuts=st.lists(st.integers(0, 200), max_size=12),
    offset=st.sampled_from([0.0, 1.0, -100.0, 1e4]),
    tail=st.booleans(),
)
def test_any_split_gives_the_whole(seed, cuts, offset, tail):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=200)
    if tail:
        values[::50] *= 3000
    values += offset
    parts = np.split(values, sorted(cuts))
    assert_close(of_sets(*parts).pool(), values)
    assert_close(pool_moments([of_sets(part) for part in parts]).pool(), values)


def test_a_far_mean_does_not_spoil_the_higher_orders():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(64, 256)) + 1e5  # mean / std of 100,000 in each set
    # A value near 1e5 is itself known to 1e-11, so that is what the orders can agree to.
    assert_close(of(values).pool(), values.ravel(), tolerance=1e-10)


def test_sets_of_very_different_scale():
    rng = np.random.default_rng(2)
    values = rng.normal(size=(100, 50)) * np.logspace(-6, 6, 50) + np.logspace(-3, 3, 50)
    assert_close(of(values).pool(), values.ravel())


def test_an_empty_set_changes_nothing_to_the_last_bit():
    rng = np.random.default_rng(3)
    full = of(rng.normal(size=(11, 7)) * 3 + 17)
    empty = of(np.empty((0, 7)))
    for merged in (pool_moments([full, empty]), pool_moments([empty, full, empty])):
        for name in ("n", "mean", "m2", "m3", "m4", "min", "max"):
            np.testing.assert_array_equal(getattr(merged, name), getattr(full, name))


def test_nothing_at_all():
    empty = pool_moments([of(np.empty((0, 3))), of(np.empty((0, 3)))])
    assert (empty.n == 0).all()
    for name in ("variance", "std", "rms", "skewness", "excess_kurtosis"):
        assert np.isnan(getattr(empty, name)).all()
    assert np.isnan(empty.masked(empty.mean)).all()
    assert all(np.isnan(empty.central_moment(order)).all() for order in range(5))
    assert int(of(np.empty((0, 0))).pool().n) == 0


def test_a_constant_set_has_no_shape():
    constant = of(np.full((5, 2), 4.0))
    assert (constant.std == 0).all()
    assert (constant.rms == 4).all()
    assert np.isnan(constant.skewness).all()
    assert np.isnan(constant.excess_kurtosis).all()


def test_infinite_fillers_and_huge_values_raise_no_warning():
    huge = of_sets([1e300, -1e300], [], [1.0])
    assert np.isfinite(float(huge.pool().mean))
    assert int(huge.pool().n) == 3


def test_derived_statistics():
    values = np.random.default_rng(4).gamma(2.0, size=(1000, 3))
    moments = of(values)
    np.testing.assert_allclose(moments.std, values.std(axis=0), rtol=1e-13)
    np.testing.assert_allclose(moments.rms, np.sqrt((values**2).mean(axis=0)), rtol=1e-13)
    z = (values - values.mean(axis=0)) / values.std(axis=0)
    np.testing.assert_allclose(moments.skewness, (z**3).mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.excess_kurtosis, (z**4).mean(axis=0) - 3, rtol=1e-12)
    assert moments.shape == (3,)
    assert (moments.central_moment(0) == 1).all()
    assert (moments.central_moment(1) == 0).all()
