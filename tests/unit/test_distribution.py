"""Everything that follows from a code histogram, against NumPy on the values themselves."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmfacts.errors import UsageError
from lmfacts.stats.codes import cell_bounds, decode, infinity_code, subnormal_mask
from lmfacts.stats.distribution import Distribution
from lmfacts.stats.moments import Moments
from support import oracle

EXACT = ["bfloat16", "float16"]
WIDE = ["float32", "float64"]
ALL = EXACT + WIDE
FINITE_CODES = np.array([c for c in range(1 << 16) if (c & 0x7FFF) < 0x7F80], dtype=np.uint16)


def distribution_of(stored, dtype, *, with_moments=True):
    """The distribution of stored values, and those values in float64."""
    values = oracle.widen(stored, dtype).ravel()
    codes, counts = np.unique(oracle.code_of(stored, dtype), return_counts=True)
    moments = Moments(*map(np.asarray, oracle.moments_of(values[np.isfinite(values)])))
    return Distribution(codes, counts, dtype, moments if with_moments else None), values


def sample(dtype, seed=0, n=4000):
    """Values with zeros of both signs, subnormals, ties and a heavy tail."""
    rng = np.random.default_rng(seed)
    values = rng.standard_t(3, size=n) * rng.choice([1e-7, 0.01, 1.0, 20.0], size=n)
    values[:50], values[50:90], values[90:120] = 0.0, -0.0, 6.0
    return oracle.store(values, dtype)


# Codes


@pytest.mark.parametrize("dtype", EXACT)
def test_every_16_bit_pattern_decodes_to_its_value(dtype):
    codes = np.arange(1 << 16, dtype=np.uint16)
    stored = codes.view(np.float16) if dtype == "float16" else codes
    np.testing.assert_array_equal(decode(codes, dtype), oracle.widen(stored, dtype))
    magnitudes = codes & 0x7FFF
    np.testing.assert_array_equal(np.isnan(decode(codes, dtype)), magnitudes > infinity_code(dtype))
    np.testing.assert_array_equal(np.isinf(decode(codes, dtype)), magnitudes == infinity_code(dtype))
    tiny = np.finfo(np.float16).tiny if dtype == "float16" else np.finfo(np.float32).tiny
    with np.errstate(invalid="ignore"):
        expected = (np.abs(decode(codes, dtype)) < tiny) & (decode(codes, dtype) != 0)
    np.testing.assert_array_equal(subnormal_mask(codes, dtype), expected)


@pytest.mark.parametrize("dtype", WIDE)
def test_a_cell_holds_its_bounds_and_not_their_neighbors(dtype):
    low, high = cell_bounds(FINITE_CODES, dtype)
    assert (low <= high).all()
    signed_zero_low = np.where((low == 0) & (FINITE_CODES >= 0x8000), -0.0, low)
    signed_zero_high = np.where((high == 0) & (FINITE_CODES >= 0x8000), -0.0, high)
    np.testing.assert_array_equal(oracle.code_of(oracle.store(signed_zero_low, dtype), dtype), FINITE_CODES)
    np.testing.assert_array_equal(oracle.code_of(oracle.store(signed_zero_high, dtype), dtype), FINITE_CODES)
    positive = FINITE_CODES < 0x8000
    # Consecutive cells leave no gap.
    kind = np.float32 if dtype == "float32" else np.float64
    assert (np.nextafter(high[positive][:-1].astype(kind), kind(np.inf)) == low[positive][1:]).all()


@pytest.mark.parametrize("dtype", WIDE)
def test_the_relative_width_of_a_normal_cell(dtype):
    codes = np.arange(0x0080, 0x7F7F, dtype=np.uint16)
    low, high = cell_bounds(codes, dtype)
    assert ((high - low) / low).max() < 2**-7


# Counts


@pytest.mark.parametrize("dtype", ALL)
def test_counts_of_special_values(dtype):
    stored = oracle.store([0.0, -0.0, np.nan, -np.nan, np.inf, -np.inf, np.inf, 1.5, -2.0, 6.0, -6.0, 5.9], dtype)
    found, _ = distribution_of(stored, dtype)
    assert (found.n, found.n_zero, found.n_nan, found.n_inf) == (7, 2, 2, 3)
    assert found.n_at_least(6.0) == 5
    assert found.fraction_at_least(6.0) == 5 / 10
    assert (found.min, found.max) == (-6.0, 6.0)
    assert (np.diff(found.values) > 0).all()
    assert "7 finite values" in repr(found)


def test_subnormals_are_counted():
    stored = oracle.store([1e-39, -2e-40, 0.0, 1e-30], "bfloat16")
    assert distribution_of(stored, "bfloat16")[0].n_subnormal == 2
    assert distribution_of(oracle.store([1e-7, 6e-5, 7e-5], "float16"), "float16")[0].n_subnormal == 2


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("threshold", [0.0, 1e-3, 1.0, 5.99, 6.0, 6.01, 77.7, 1e9])
def test_counts_at_or_above_a_threshold(dtype, threshold):
    found, values = distribution_of(sample(dtype), dtype)
    expected = int((np.abs(values) >= threshold).sum())
    low, high = found.n_at_least_bounds(threshold)
    assert low <= expected <= high
    assert found.n_at_least(threshold) == low
    if found.exact or threshold in (0.0, 1.0, 6.0, 1e9):
        assert low == high == expected


# Quantiles


QUANTILES = [0.0, 1e-9, 0.001, 0.1, 0.25, 0.3, 0.5, 0.7, 0.9, 0.999, 1 - 1e-9, 1.0]


@pytest.mark.parametrize("dtype", EXACT)
def test_quantiles_are_those_of_numpy(dtype):
    found, values = distribution_of(sample(dtype), dtype)
    np.testing.assert_array_equal(found.quantile(QUANTILES), oracle.quantile(values, QUANTILES))
    assert found.quantile(0.5) == oracle.quantile(values, 0.5)
    assert isinstance(found.quantile(0.5), float)
    assert found.quantile([[0.1], [0.2]]).shape == (2, 1)
    low, high = found.quantile_bounds(QUANTILES)
    np.testing.assert_array_equal(low, high)


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(st.floats(-1e4, 1e4, width=16), min_size=1, max_size=60),
    q=st.lists(st.floats(0, 1), min_size=1, max_size=20),
    dtype=st.sampled_from(EXACT),
)
def test_quantiles_of_any_values_are_those_of_numpy(values, q, dtype):
    found, raw = distribution_of(oracle.store(values, dtype), dtype)
    np.testing.assert_array_equal(found.quantile(q), oracle.quantile(raw, q))


@settings(max_examples=100, deadline=None)
@given(
    values=st.lists(st.floats(allow_nan=False, allow_infinity=False, width=32), min_size=1, max_size=60),
    q=st.lists(st.floats(0, 1), min_size=1, max_size=20).map(sorted),
    dtype=st.sampled_from(ALL),
)
def test_quantiles_ascend_and_lie_between_their_bounds(values, q, dtype):
    stored = oracle.store(values, dtype)
    if not np.isfinite(oracle.widen(stored, dtype)).any():
        return
    found, raw = distribution_of(stored, dtype)
    quantiles = found.quantile(q)
    low, high = found.quantile_bounds(q)
    assert (np.diff(quantiles) >= 0).all()
    assert ((low <= quantiles) & (quantiles <= high)).all()
    expected = oracle.quantile(raw, q)
    assert ((low <= expected) & (expected <= high)).all()


@pytest.mark.parametrize("dtype", WIDE)
def test_wide_quantiles_are_within_half_a_cell(dtype):
    found, values = distribution_of(sample(dtype), dtype)
    expected = oracle.quantile(values, QUANTILES)
    np.testing.assert_allclose(found.quantile(QUANTILES), expected, rtol=2**-8)
    assert found.quantile(0.0) == values.min()
    assert found.quantile(1.0) == values.max()
    assert found.quantile_bounds([0.0, 1.0])[0].tolist() == [values.min(), values.max()]
    assert not found.exact


def test_the_median_of_a_mostly_zero_sample_is_zero():
    stored = oracle.store(np.maximum(np.random.default_rng(0).normal(size=999) - 1, 0), "float32")
    assert distribution_of(stored, "float32")[0].quantile(0.5) == 0.0
    assert distribution_of(stored, "float32", with_moments=False)[0].quantile(0.5) == 0.0


@pytest.mark.parametrize("q", [-0.1, 1.1, np.nan, [0.5, 2.0]])
def test_a_quantile_outside_0_to_1_is_refused(q):
    with pytest.raises(UsageError, match="between 0 and 1"):
        distribution_of(sample("bfloat16"), "bfloat16")[0].quantile(q)


# Moments


@pytest.mark.parametrize("dtype", ALL)
def test_moments_up_to_order_4(dtype):
    found, values = distribution_of(sample(dtype), dtype)
    expected = oracle.statistics(values)
    assert found.mean == pytest.approx(expected.mean, rel=1e-13, abs=1e-13 * expected.std)
    assert found.std == pytest.approx(expected.std, rel=1e-13)
    assert found.standardized_moment(3) == pytest.approx(expected.skewness, rel=1e-12, abs=1e-13)
    assert found.standardized_moment(4) - 3 == pytest.approx(expected.excess_kurtosis, rel=1e-12)
    for order in range(5):
        assert found.central_moment(order) == pytest.approx(
            oracle.central_moment(values, order), rel=1e-12, abs=1e-13 * expected.std**order
        )
        assert found.central_moment_bounds(order) == (found.central_moment(order),) * 2


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("order", [5, 6, 7, 8, 12])
def test_moments_of_any_order_are_exact(dtype, order):
    found, values = distribution_of(sample(dtype), dtype)
    expected = oracle.central_moment(values, order)
    assert found.central_moment(order) == pytest.approx(expected, rel=1e-11)
    assert found.standardized_moment(order) == pytest.approx(expected / values.std() ** order, rel=1e-11)


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("order", [5, 6, 7, 8])
def test_wide_moments_of_high_order_are_enclosed(dtype, order):
    found, values = distribution_of(sample(dtype), dtype)
    low, high = found.central_moment_bounds(order)
    assert low <= oracle.central_moment(values, order) <= high
    assert low < found.central_moment(order) < high
    assert high - low < order * 2**-6 * (np.abs(values - values.mean()) ** order).mean()


def test_wide_moments_without_sums_are_enclosed_too():
    found, values = distribution_of(sample("float32"), "float32", with_moments=False)
    assert found.mean == pytest.approx(values.mean(), abs=0.01 * values.std())
    low, high = found.central_moment_bounds(4)
    assert low < oracle.central_moment(values, 4) < high


def test_a_mean_far_from_zero():
    values = oracle.store(1000 + np.random.default_rng(0).normal(size=5000), "float16")
    found, raw = distribution_of(values, "float16")
    assert found.central_moment(4) == pytest.approx(oracle.central_moment(raw, 4), rel=1e-12)


@pytest.mark.parametrize("order", [-1, 2.5, "2", None])
def test_an_order_that_is_none_is_refused(order):
    found, _ = distribution_of(sample("float16"), "float16")
    for method in (found.central_moment, found.standardized_moment, found.central_moment_bounds):
        with pytest.raises(UsageError, match="order of a moment"):
            method(order)


# Histograms


@pytest.mark.parametrize("dtype", EXACT)
@pytest.mark.parametrize("options", [{}, {"bins": 101, "range": (-5, 5)}, {"bins": 7}, {"bins": [-6, 0, 0.5, 6]}])
def test_histograms_are_those_of_numpy(dtype, options):
    found, values = distribution_of(sample(dtype), dtype)
    counts, edges = found.histogram(**options)
    expected_counts, expected_edges = np.histogram(values, **{"bins": 101, **options})
    np.testing.assert_array_equal(counts, expected_counts)
    np.testing.assert_array_equal(edges, expected_edges)


@pytest.mark.parametrize("dtype", WIDE)
def test_a_wide_histogram_counts_a_cell_where_its_lower_magnitude_lies(dtype):
    found, values = distribution_of(sample(dtype), dtype)
    counts, _ = found.histogram(bins=101, range=(-5, 5))
    toward_zero = decode(oracle.code_of(values, "float64"), "float64")
    np.testing.assert_array_equal(counts, np.histogram(toward_zero, bins=101, range=(-5, 5))[0])
    assert found.histogram()[0].sum() == found.n
    positive, _ = distribution_of(oracle.store([1.004, 1.005, 2.009], dtype), dtype)
    assert positive.histogram(bins=3)[0].sum() == 3


@pytest.mark.parametrize("dtype", ALL)
def test_log_bins_are_octaves_of_each_sign(dtype):
    found, values = distribution_of(sample(dtype), dtype)
    counts, edges = found.histogram(bins="log")
    assert counts.size + 1 == edges.size
    assert counts.sum() == found.n
    np.testing.assert_array_equal(edges, -edges[::-1])
    middle = counts.size // 2
    assert counts[middle] == (values == 0).sum()
    np.testing.assert_array_equal(edges[middle + 2 :] / edges[middle + 1 : -1], 2.0)
    for i, count in enumerate(counts):
        low, high = edges[i], edges[i + 1]
        inside = (low <= values) & (values < high) if i > middle else (low < values) & (values <= high)
        if i != middle:
            assert count == inside.sum()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": 0}, "at least one bin"),
        ({"bins": "linear"}, '"log"'),
        ({"bins": "log", "range": (0, 1)}, "leave range out"),
        ({"bins": [1.0]}, "at least two numbers"),
        ({"bins": [2.0, 1.0]}, "ascend"),
        ({"bins": 3.5}, "whole number"),
        ({"range": (1, -1)}, "ascend"),
        ({"range": (0, np.inf)}, "finite"),
    ],
)
def test_bins_that_are_none_are_refused(options, message):
    with pytest.raises(UsageError, match=message):
        distribution_of(sample("bfloat16"), "bfloat16")[0].histogram(**options)


# Edges of the subject


@pytest.mark.parametrize("dtype", [*ALL, ""])
def test_no_values(dtype):
    found = Distribution(np.empty(0, np.uint16), np.empty(0, np.uint64), dtype)
    assert (found.n, found.n_zero, found.n_nan, found.n_inf, found.n_subnormal, found.n_at_least(0.0)) == (0,) * 6
    for value in (
        found.mean,
        found.std,
        found.min,
        found.max,
        found.central_moment(2),
        found.central_moment_bounds(6)[0],
        found.standardized_moment(4),
        found.quantile(0.5),
        found.fraction_at_least(1.0),
    ):
        assert np.isnan(value)
    assert np.isnan(found.quantile([0.1, 0.9])).all()
    assert found.histogram(bins=5)[0].tolist() == [0] * 5
    assert found.histogram(bins="log")[0].tolist() == [0]


@pytest.mark.parametrize("dtype", ALL)
def test_only_nonfinite_values(dtype):
    found, _ = distribution_of(oracle.store([np.nan, np.inf, -np.inf], dtype), dtype)
    assert (found.n, found.n_nan, found.n_inf, found.n_at_least(6.0)) == (0, 1, 2, 2)
    assert np.isnan(found.mean)
    assert found.fraction_at_least(6.0) == 1.0


@pytest.mark.parametrize("dtype", ALL)
def test_one_value(dtype):
    found, _ = distribution_of(oracle.store([3.25] * 4, dtype), dtype)
    assert (found.mean, found.std, found.min, found.max, found.quantile(0.3)) == (3.25, 0.0, 3.25, 3.25, 3.25)
    assert np.isnan(found.standardized_moment(4))
    assert found.histogram(bins=3)[0].tolist() == [0, 4, 0]


@pytest.mark.parametrize("dtype", ALL)
def test_the_largest_values_raise_no_warning(dtype):
    largest = {"bfloat16": 3.38e38, "float16": 65504.0, "float32": 3.4e38, "float64": 1.7e308}[dtype]
    found, _ = distribution_of(oracle.store([largest, -largest, 1.0], dtype), dtype)
    for order in (2, 4, 9):
        found.central_moment(order)
        found.central_moment_bounds(order)
        found.standardized_moment(order)
    found.quantile([0.0, 0.5, 1.0])
    assert found.max == pytest.approx(largest, rel=0.01)


def test_counts_beyond_32_bits():
    found = Distribution(np.array([0x3F80, 0x4000], np.uint16), np.array([2**40, 2**41], np.uint64), "bfloat16")
    assert found.n == 3 * 2**40
    assert found.mean == pytest.approx(5 / 3, rel=1e-15)
    assert found.quantile(1 / 3 - 1e-9) == 1.0
    assert found.quantile(0.34) == 2.0


# Values that are known


def heavy(n=20_000, seed=3):
    return np.random.default_rng(seed).standard_t(4, size=n).astype(np.float32).astype(np.float64)


def with_largest(values, dtype, k=64):
    """As a site has them: with the k values of largest magnitude, largest first."""
    stored = oracle.store(values, dtype)
    codes, counts = np.unique(oracle.code_of(stored, dtype), return_counts=True)
    moments = Moments(*map(np.asarray, oracle.moments_of(values)))
    largest = values[np.argsort(-np.abs(values), kind="stable")][:k]
    return Distribution(codes, counts, dtype, moments, largest)


@pytest.mark.parametrize("dtype", WIDE)
@pytest.mark.parametrize("order", [6, 8, 10])
def test_high_moments_take_the_largest_values_as_they_are(dtype, order):
    values = heavy()
    plain = with_largest(values, dtype, k=0)
    found = with_largest(values, dtype)
    z = (values - values.mean()) / values.std()
    expected = (z**order).mean()
    assert found.standardized_moment(order) == pytest.approx(expected, rel=2e-4)
    assert found.central_moment(order) == pytest.approx(expected * values.std() ** order, rel=2e-4)
    assert abs(plain.standardized_moment(order) / expected - 1) > 5e-3
    low, high = found.central_moment_bounds(order)
    plain_low, plain_high = plain.central_moment_bounds(order)
    assert plain_low < low <= expected * values.std() ** order <= high < plain_high


def test_a_single_value_far_out_is_not_taken_for_the_middle_of_its_cell():
    values = np.concatenate([np.random.default_rng(4).standard_normal(1000), [50.24]]).astype(np.float32).astype(float)
    z = (values - values.mean()) / values.std()
    assert with_largest(values, "float32").standardized_moment(8) == pytest.approx((z**8).mean(), rel=1e-6)
    assert with_largest(values, "float32", k=0).standardized_moment(8) < 0.995 * (z**8).mean()


@pytest.mark.parametrize("largest", [[99.0], [-99.0], [6.0] * 5000, [0.5] * 4001])
def test_values_that_contradict_the_counts_are_left_aside(largest):
    values = heavy(4000)
    plain = with_largest(values, "float32", k=0)
    stored = oracle.store(values, "float32")
    codes, counts = np.unique(oracle.code_of(stored, "float32"), return_counts=True)
    moments = Moments(*map(np.asarray, oracle.moments_of(values)))
    found = Distribution(codes, counts, "float32", moments, np.array(largest))
    assert found.central_moment(6) == plain.central_moment(6)


@pytest.mark.parametrize("dtype", WIDE)
def test_of_values_everything_is_numpy_s(dtype):
    rng = np.random.default_rng(5)
    values = np.concatenate([1 + 1e-3 * rng.standard_normal(700), [0.0, -0.0, 0.0, 5.0, -3.0, 1e-40]])
    values = oracle.widen(oracle.store(values, dtype), dtype)
    found = Distribution.of_values(values, dtype, n_nan=2, n_inf=1)
    assert found.exact
    assert (found.n, found.n_nan, found.n_inf, found.n_zero, found.n_subnormal) == (
        *(values.size, 2, 1, 3),
        1 if dtype == "float32" else 0,
    )
    np.testing.assert_array_equal(found.quantile(QUANTILES), oracle.quantile(values, QUANTILES))
    assert (found.min, found.max) == (values.min(), values.max())
    assert found.mean == pytest.approx(values.mean(), rel=1e-14)
    assert found.std == pytest.approx(values.std(), rel=1e-12)
    z = (values - values.mean()) / values.std()
    for order in (3, 4, 8):
        assert found.standardized_moment(order) == pytest.approx((z**order).mean(), rel=1e-9)
        assert found.central_moment_bounds(order) == (found.central_moment(order),) * 2
    counts, edges = found.histogram(50)
    np.testing.assert_array_equal(counts, np.histogram(values, edges)[0])
    ascending = np.unique(values)
    # F is the share of values up to each, and below it.
    np.testing.assert_allclose(found.cells.cdf(ascending), [np.mean(values < v) for v in ascending], atol=1e-12)
    between = (ascending[1:] + ascending[:-1])[np.diff(ascending) > 1e-6] / 2
    np.testing.assert_allclose(found.cells.cdf(between), [np.mean(values <= v) for v in between], atol=1e-12)
    assert found.cells.n == values.size


def test_values_next_to_each_other_and_at_the_end_of_the_range_keep_their_counts():
    largest = np.finfo(np.float64).max
    values = np.array([-largest, 1.0, np.nextafter(1.0, 2.0), np.nextafter(1.0, 0.0), largest])
    found = Distribution.of_values(values, "float64")
    assert (np.diff(found.cells.edges) > 0).all()
    assert found.cells.n == 5
    assert found.cells.n_occupied == 5
    assert Distribution.of_values(np.empty(0), "float32").cells.n == 0
