"""The statistics of a site, per population, against the raw values."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lmfacts.errors import UsageError
from lmfacts.run.site import SiteRecord
from lmfacts.run.state import SiteState, array_of_native, native_array
from support import oracle
from support.synthetic_runs import tokens

ALL = ["bfloat16", "float16", "float32", "float64"]


class Recorded:
    """A site record beside the raw values it was made of."""

    def __init__(self, dtype="float32", *, seed=0, n_dims=9, nonfinite=True, **options):
        rng = np.random.default_rng(seed)
        self.places = tokens(5, 20)
        values = rng.standard_t(4, size=(100, n_dims)) * rng.uniform(0.1, 8, size=n_dims) + rng.normal(size=n_dims)
        values[rng.random(values.shape) < 0.05] = 0.0
        if nonfinite:
            values[3, 1], values[20, 2], values[41, 2], values[50, 0] = np.nan, np.inf, -np.inf, np.nan
        self.real = rng.random(100) > 0.1
        self.stored = oracle.store(values, dtype)
        self.options = {"dtype": dtype, "real": self.real, "k": 12, **self.places, **options}
        self.native = oracle.site_state(self.stored, **self.options)
        self.record = SiteRecord(SiteState.from_native(self.native), name="blocks.0.resid_post")
        self.values = oracle.widen(self.stored, dtype)

    def of(self, population):
        """The record and the mask of its tokens."""
        is_first = self.places["position"] == 0
        mask = {"all": self.real, "first": self.real & is_first, "rest": self.real & ~is_first}[population]
        return self.record.in_population(population), mask


@pytest.mark.parametrize("population", ["all", "first", "rest"])
@pytest.mark.parametrize("dtype", ALL)
def test_pooled_statistics(dtype, population):
    recorded = Recorded(dtype)
    site, mask = recorded.of(population)
    values = recorded.values[mask]
    expected = oracle.statistics(values)
    assert (site.n, site.n_nan, site.n_inf, site.n_zero) == (
        expected.n,
        expected.n_nan,
        expected.n_inf,
        expected.n_zero,
    )
    assert (site.min, site.max) == (expected.min, expected.max)
    assert site.n_tokens == mask.sum()
    for name in ("mean", "std", "skewness", "excess_kurtosis"):
        assert getattr(site, name) == pytest.approx(getattr(expected, name), rel=1e-12, abs=1e-13), name
    assert site.central_moment(3) == pytest.approx(oracle.central_moment(values[np.isfinite(values)], 3), rel=1e-11)
    q = [0.0, 0.01, 0.5, 0.9, 1.0]
    low, high = site.quantile_bounds(q)
    assert ((low <= oracle.quantile(values, q)) & (oracle.quantile(values, q) <= high)).all()
    assert site.exact == (dtype in {"bfloat16", "float16"})
    if site.exact:
        np.testing.assert_array_equal(site.quantile(q), oracle.quantile(values, q))
    codes, counts = site.codes()
    expected_codes, expected_counts = np.unique(oracle.code_of(recorded.stored[mask], dtype), return_counts=True)
    np.testing.assert_array_equal(codes, expected_codes)
    np.testing.assert_array_equal(counts, expected_counts)
    assert (codes.dtype, counts.dtype) == (np.uint16, np.uint64)
    assert site.histogram(bins=5)[0].sum() == site.n
    magnitudes = np.abs(values[~np.isnan(values)])
    assert site.fraction_at_least(6.0) == pytest.approx((magnitudes >= 6).mean())


@pytest.mark.parametrize("population", ["all", "first", "rest"])
@pytest.mark.parametrize("dtype", ALL)
def test_dims(dtype, population):
    recorded = Recorded(dtype)
    site, mask = recorded.of(population)
    assert len(site.dims) == site.n_dims == 9
    for dim in range(9):
        column = recorded.values[mask, dim]
        expected = oracle.statistics(column)
        found = {
            name: getattr(site.dims, name)[dim]
            for name in ("n", "mean", "std", "skewness", "excess_kurtosis", "min", "max")
        }
        for name, value in found.items():
            assert value == pytest.approx(getattr(expected, name), rel=1e-11, abs=1e-12), name
        finite = column[np.isfinite(column)]
        assert site.dims.rms[dim] == pytest.approx(np.sqrt((finite**2).mean()), rel=1e-13)
        assert site.dims.absmax[dim] == np.abs(finite).max()
        assert site.dims.n_nonfinite[dim] == (~np.isfinite(column)).sum()
        assert site.dims.n_at_least[dim] == (np.abs(column) >= 6).sum()
    assert site.dims.mean.dtype == site.dims.rms.dtype == np.float64


@pytest.mark.parametrize("population", ["all", "first", "rest"])
def test_outliers_are_the_largest_finite_values(population):
    recorded = Recorded()
    site, mask = recorded.of(population)
    everything = [
        (recorded.values[token, dim], *(int(recorded.places[n][token]) for n in ("sequence", "position")), dim, token)
        for token in np.flatnonzero(mask)
        for dim in range(9)
        if np.isfinite(recorded.values[token, dim])
    ]
    expected = sorted(everything, key=lambda entry: (-abs(entry[0]), *entry[1:4]))[:12]
    found = site.outliers
    assert found.dtype.names == ("value", "sequence", "position", "dim", "token_id")
    assert found["value"].tolist() == [entry[0] for entry in expected]
    for column, name in enumerate(("sequence", "position", "dim"), start=1):
        assert found[name].tolist() == [entry[column] for entry in expected]
    assert found["token_id"].tolist() == [recorded.places["token_id"][entry[4]] for entry in expected]


def test_equal_outliers_are_in_order_of_place():
    stored = oracle.store(np.full((6, 2), -7.0), "float32")
    places = {"sequence": [2, 2, 1, 1, 0, 0], "position": [1, 0, 1, 0, 1, 0]}
    site = SiteRecord(SiteState.from_native(oracle.site_state(stored, dtype="float32", k=5, **places)))
    found = [tuple(int(entry[name]) for name in ("sequence", "position", "dim")) for entry in site.outliers]
    assert found == [(0, 0, 0), (0, 0, 1), (0, 1, 0), (0, 1, 1), (1, 0, 0)]
    assert (site.outliers["token_id"] == -1).all()


@pytest.mark.parametrize("population", ["all", "first", "rest"])
def test_norms_and_unit_sums(population):
    recorded = Recorded(unit_sums=True)
    site, mask = recorded.of(population)
    rows = recorded.values[mask]
    rows = rows[np.isfinite(rows).all(axis=1)]
    norms = np.linalg.norm(rows, axis=1)
    assert site.norms.n == norms.size
    assert (site.norms.min, site.norms.max) == pytest.approx((norms.min(), norms.max()), rel=1e-15)
    assert site.norms.mean == pytest.approx(norms.mean(), rel=1e-13)
    assert site.norms.std == pytest.approx(norms.std(), rel=1e-12)
    assert site.norms.mean_log == pytest.approx(np.log(norms).mean(), rel=1e-12)
    centered = np.linalg.norm(rows - rows.mean(axis=1, keepdims=True), axis=1)
    assert site.norms.mean_log_centered == pytest.approx(np.log(centered).mean(), rel=1e-12)
    assert site.norms.quantile(0.5) == pytest.approx(oracle.quantile(norms, 0.5), rel=2**-8)
    assert site.norms.quantile([0.0, 1.0]).tolist() == [site.norms.min, site.norms.max]
    assert site.norms.histogram(bins=4)[0].sum() == norms.size
    units = rows / norms[:, None]
    assert site.unit_sums.n == norms.size
    np.testing.assert_allclose(site.unit_sums.sums, units.sum(axis=0), rtol=1e-12)
    np.testing.assert_allclose(site.unit_sums.squares, (units**2).sum(axis=0), rtol=1e-12)
    assert Recorded().record.unit_sums is None


def test_tokens_of_norm_zero_have_no_logarithm():
    stored = oracle.store([[0.0, 0.0], [3.0, 4.0], [5.0, 5.0]], "float32")
    site = SiteRecord(SiteState.from_native(oracle.site_state(stored, dtype="float32", unit_sums=True)))
    assert (site.norms.n, site.unit_sums.n) == (3, 2)
    assert site.norms.min == 0.0
    assert site.norms.mean_log == pytest.approx((np.log(5) + np.log(np.sqrt(50))) / 2)
    assert site.norms.mean_log_centered == pytest.approx(np.log(np.sqrt(0.5)))


# Populations


def test_populations_are_views_of_one_site():
    site = Recorded().record
    assert site.population == "all"
    assert site.all is site
    assert site.rest.first.population == "first"
    assert site.rest.all.n == site.n == site.first.n + site.rest.n
    assert site.first.name == site.name
    assert site.in_population("rest") is site.rest
    with pytest.raises(UsageError, match="all, first or rest"):
        site.in_population("last")
    with pytest.raises(UsageError, match="all, first or rest"):
        SiteRecord(site.state, population="last")


def every_number(site):
    """All numbers of a record, to be looked at for warnings and NaN."""
    yield from (site.mean, site.std, site.skewness, site.excess_kurtosis, site.min, site.max)
    yield from (site.central_moment(2), site.central_moment(6), site.standardized_moment(8))
    yield from (site.quantile(0.5), *site.quantile([0.1, 0.9]), *site.quantile_bounds(0.5), site.fraction_at_least(1.0))
    for name in ("mean", "std", "skewness", "excess_kurtosis", "rms", "absmax", "min", "max"):
        yield from getattr(site.dims, name)
    norms = site.norms
    yield from (
        norms.mean,
        norms.std,
        norms.min,
        norms.max,
        norms.mean_log,
        norms.mean_log_centered,
        norms.quantile(0.5),
    )


def touch_the_rest(site):
    site.histogram()
    site.histogram(bins="log")
    site.norms.histogram()
    site.codes()
    return repr(site), repr(site.dims), repr(site.norms), repr(site.state), repr(site.distribution)


@pytest.mark.parametrize("dtype", ALL)
@pytest.mark.parametrize("unit_sums", [False, True])
def test_a_population_without_tokens_is_nan_without_warnings(dtype, unit_sums):
    stored = oracle.store(np.ones((4, 3)), dtype)
    state = oracle.site_state(stored, dtype=dtype, position=[0, 0, 0, 0], sequence=[0, 1, 2, 3], unit_sums=unit_sums)
    site = SiteRecord(SiteState.from_native(state))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(list(every_number(site.rest))).all()
        assert site.rest.n == site.rest.n_tokens == site.rest.n_zero == site.rest.norms.n == 0
        assert site.rest.outliers.size == 0
        assert site.rest.dims.n.tolist() == [0, 0, 0]
        assert "no finite values" in touch_the_rest(site.rest)[0]
        assert (site.mean, site.std, site.first.mean) == (1.0, 0.0, 1.0)
        assert np.isnan(site.excess_kurtosis)


def test_a_site_that_was_never_reached():
    empty = {"dtype": "", "n_dims": 0, "k": 64, "threshold": 6.0, "statistics": ("outliers", "token_norms")}
    empty |= {"first/n_tokens": 0, "rest/n_tokens": 0}
    site = SiteRecord(SiteState.from_native(empty))
    assert np.isnan(list(every_number(site))).all()
    assert "0 tokens x 0 dims, no finite values" in touch_the_rest(site)[0]


@pytest.mark.parametrize("dtype", ALL)
def test_a_dim_of_nothing_but_nan_leaves_the_others_alone(dtype):
    values = np.random.default_rng(0).normal(size=(10, 3))
    values[:, 1] = np.nan
    stored = oracle.store(values, dtype)
    site = SiteRecord(SiteState.from_native(oracle.site_state(stored, dtype=dtype, unit_sums=True)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        numbers = list(every_number(site))
        touch_the_rest(site)
    assert np.isnan(site.dims.mean).tolist() == [False, True, False]
    assert site.mean == pytest.approx(oracle.widen(stored, dtype)[:, [0, 2]].mean())
    assert site.norms.n == 0
    assert not np.isnan(numbers[:9]).any()


# State


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from(ALL), unit_sums=st.booleans(), n_dims=st.integers(1, 5))
def test_the_native_state_goes_through_unchanged(seed, dtype, unit_sums, n_dims):
    recorded = Recorded(dtype, seed=seed, unit_sums=unit_sums, n_dims=n_dims, nonfinite=n_dims > 2)
    assert SiteState.from_native(recorded.native).to_native() == recorded.native


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"rest/counts": ("<u8", (1,), b"\x01" + bytes(7))}, "codes and counts differ"),
        ({"rest/n_tokens": 7}, "the counts add up to"),
        ({"rest/moments": ("<f8", (1,), bytes(8))}, r"moments has shape \[1\], expected \[6, 9\]"),
        ({"rest/moments": ("<f8", (6, 9), bytes(8))}, "not what it says it is"),
        ({"rest/moments": ("<f4", (6, 9), bytes(216))}, "rest/moments of a native state is float32, expected float64"),
        ({"rest/outlier_values": ("<f8", (1,), bytes(8))}, "outlier_values and outlier_index differ"),
        ({"statistics": ("sums",)}, "statistics that are not known: sums"),
        ({"statistics": ("outliers", "token_norms", "unit_sums")}, "first/unit_sums of a native state is missing"),
        ({"dtype": "int8"}, "dtype"),
        ({"n_dims": 4}, r"moments has shape \[6, 9\], expected \[6, 4\]"),
    ],
)
def test_a_state_that_contradicts_itself_is_refused(change, message):
    with pytest.raises(UsageError, match=message):
        SiteState.from_native({**Recorded().native, **change})


def test_codes_that_do_not_ascend_are_refused():
    native = Recorded().native
    codes = array_of_native(native["rest/codes"])[::-1]
    with pytest.raises(UsageError, match="do not ascend"):
        SiteState.from_native({**native, "rest/codes": native_array(codes)})


def test_the_text_of_a_record():
    text = repr(Recorded().record)
    assert text.splitlines()[0].startswith("SiteRecord blocks.0.resid_post, all: 8")
    assert "9 dims, float32" in text
    assert "excess kurtosis" in text
    assert "largest" in text
