"""Singular values and what is said about them, against NumPy and against matrices whose spectrum is known."""

from __future__ import annotations

import math
import tracemalloc

import numpy as np
import pytest

import lmfacts
from lmfacts.demo import MODEL_DIR
from lmfacts.errors import UsageError
from lmfacts.stats.singular_values import (
    frobenius_norm,
    gaussian_singular_values,
    largest_singular_value,
    shuffled_spectral_norm,
)
from lmfacts.stats.spectrum import (
    Spectrum,
    body_window,
    gaussian_null_slope,
    head_window,
    marchenko_pastur_edge,
    marchenko_pastur_quantiles,
    marchenko_pastur_slope,
    shuffled_edge,
    singular_values,
    weightwatcher,
)
from support import oracle
from support.weightwatcher import published_fit

R = 768


@pytest.fixture(scope="module")
def gaussian():
    return np.random.default_rng(0).standard_normal((R, R))


@pytest.fixture(scope="module")
def bases():
    rng = np.random.default_rng(1)
    return tuple(np.linalg.qr(rng.standard_normal((R, R)))[0] for _ in range(2))


def with_spectrum(bases, values):
    left, right = bases
    return (left * values) @ right.T


# Singular values


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 7), (7, 1), (5, 5), (30, 40), (200, 50), (50, 200), (3000, 12), (12, 3000)]
)
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "bfloat16"])
def test_singular_values_match_numpy(shape, dtype):
    stored = oracle.store(np.random.default_rng(2).standard_normal(shape), dtype)
    wide = oracle.widen(stored, dtype)
    expected = np.linalg.svd(wide, compute_uv=False)
    named = "bfloat16" if dtype == "bfloat16" else None
    for array in (stored, np.asfortranarray(stored), stored.T):
        found = singular_values(array, dtype=named)
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-12)
    assert frobenius_norm(stored, dtype=named) == pytest.approx(np.linalg.norm(wide), rel=1e-14)


def test_leading_axes_are_rows_whatever_the_strides():
    stored = np.random.default_rng(3).standard_normal((6, 4, 10, 3)).astype(np.float32)
    view = stored[:, 1:3, :, :].transpose(1, 0, 3, 2)
    expected = np.linalg.svd(view.reshape(-1, 10).astype(np.float64), compute_uv=False)
    np.testing.assert_allclose(singular_values(view), expected, rtol=1e-12)


def test_float8_patterns_are_looked_up():
    patterns = np.random.default_rng(4).integers(0, 0x78, size=(20, 6), dtype=np.uint8)
    values = (patterns.astype(np.uint16) << 8).view(np.float16).astype(np.float64)
    expected = np.linalg.svd(values, compute_uv=False)
    np.testing.assert_allclose(singular_values(patterns, dtype="float8_e5m2"), expected, rtol=1e-6, atol=1e-6)


def test_both_ways_agree_to_their_stated_accuracy():
    rng = np.random.default_rng(5)
    left, right = (np.linalg.qr(rng.standard_normal((100, 100)))[0] for _ in range(2))
    known = np.geomspace(1.0, 1e-7, 100)
    matrix = (left * known) @ right
    np.testing.assert_allclose(singular_values(matrix, method="svd"), known, rtol=0, atol=1e-14)
    gram = singular_values(matrix, method="gram")
    assert (np.abs(gram - known) <= 1e-15 * 100 / known).all()
    np.testing.assert_allclose(gram[known > 1e-3], known[known > 1e-3], rtol=1e-8)


@pytest.mark.parametrize("unit", [1e-200, 1e-30, 1e30, 1e200])
def test_no_unit_over_or_underflows(unit):
    matrix = np.random.default_rng(6).standard_normal((60, 10))
    plain = singular_values(matrix)
    np.testing.assert_allclose(singular_values(matrix * unit) / unit, plain, rtol=1e-12)
    assert Spectrum.of(matrix * unit).effective_rank == pytest.approx(Spectrum.of(matrix).effective_rank)
    assert shuffled_spectral_norm(matrix * unit) / unit == pytest.approx(shuffled_spectral_norm(matrix))


def test_the_gram_way_never_has_a_wide_copy_of_the_matrix():
    matrix = np.random.default_rng(7).standard_normal((400_000, 40)).astype(np.float16)  # 128 MB as float64
    tracemalloc.start()
    singular_values(matrix)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 110 << 20


@pytest.mark.parametrize("shape", [(300, 300), (500, 90), (90, 500), (2, 9)])
def test_the_largest_alone(shape):
    matrix = np.random.default_rng(8).standard_normal(shape)
    expected = np.linalg.norm(matrix, 2)
    assert largest_singular_value(matrix) == pytest.approx(expected, rel=1e-10)
    assert largest_singular_value(matrix.astype(np.float32)) == pytest.approx(expected, rel=1e-5)
    narrow = matrix.astype(np.float32)
    exact = singular_values(narrow.astype(np.float64), method="svd")[0]
    assert largest_singular_value(narrow) == pytest.approx(exact, rel=1e-9)  # nothing of its products' rounding is left


def test_usage():
    with pytest.raises(UsageError, match="two or more axes"):
        singular_values(np.zeros(5))
    with pytest.raises(UsageError, match="stored as uint16"):
        singular_values(np.zeros((2, 2)), dtype="bfloat16")


# Statistics


def test_ranks_of_known_spectra():
    equal = Spectrum(np.ones(10), (10, 20), math.sqrt(10))
    for value in (equal.stable_rank, equal.effective_rank, equal.rank_me, equal.participation_ratio):
        assert value == pytest.approx(10)
    two = Spectrum(np.array([2.0, 1.0]), (2, 2), math.sqrt(5))
    assert two.stable_rank == pytest.approx(5 / 4)
    assert two.participation_ratio == pytest.approx(25 / 17)
    assert two.effective_rank == pytest.approx(math.exp(-(0.8 * math.log(0.8) + 0.2 * math.log(0.2))))
    assert two.rank_me == pytest.approx(math.exp(-(2 / 3 * math.log(2 / 3) + 1 / 3 * math.log(1 / 3))))


def test_windows():
    assert head_window(768) == (1, 64)
    assert body_window(768) == (9, 384)
    assert head_window(100) == (1, 16)
    assert head_window(10) == (1, 10)


def test_a_gaussian_matrix_has_the_published_figures(gaussian):
    spectrum = Spectrum.of(gaussian)
    assert spectrum.frobenius == pytest.approx(np.linalg.norm(gaussian))
    assert spectrum.participation_ratio == pytest.approx(383, rel=0.01)
    assert spectrum.effective_rank == pytest.approx(465, rel=0.01)
    assert spectrum.body.slope == pytest.approx(-0.270, rel=0.01)
    assert spectrum.body.r2_power == pytest.approx(0.85, abs=0.005)
    assert spectrum.body.r2_exponential == pytest.approx(0.999, abs=0.001)
    assert spectrum.head.slope == pytest.approx(-0.052, abs=0.004)
    assert spectrum.head.r2_power == pytest.approx(0.88, abs=0.02)
    assert not spectrum.body.stable
    assert spectrum.marchenko_pastur_edge == pytest.approx(2 * math.sqrt(R), rel=0.005)
    assert spectrum.spectral_norm == pytest.approx(spectrum.marchenko_pastur_edge, rel=0.02)
    assert spectrum.n_above(spectrum.marchenko_pastur_edge) <= 1
    assert shuffled_edge(gaussian) == pytest.approx(1.05 * spectrum.marchenko_pastur_edge, rel=0.02)


def test_a_power_law_and_an_exponential_are_told_apart(bases):
    rank = np.arange(1, R + 1)
    power = Spectrum.of(with_spectrum(bases, rank**-0.5))
    for fit in (power.head, power.body):
        assert fit.slope == pytest.approx(-0.5)
        assert fit.r2_power > 0.97 > fit.r2_exponential
        assert fit.stable
    assert power.n_above(power.marchenko_pastur_edge) >= 0.01 * R
    exponential = Spectrum.of(with_spectrum(bases, np.exp(-rank / 100)))
    for fit in (exponential.head, exponential.body):
        assert fit.r2_exponential == pytest.approx(1.0)
        assert fit.r2_power < 0.97
        assert not fit.stable
    assert exponential.body.slope <= gaussian_null_slope(R, R) - 0.05
    assert exponential.n_above(exponential.marchenko_pastur_edge) >= 0.01 * R


def test_spikes_are_counted_and_leave_the_body(gaussian, bases):
    spikes = np.zeros(R)
    spikes[:8] = 2 * marchenko_pastur_edge(R, R, 1.0)
    spectrum = Spectrum.of(gaussian + with_spectrum(bases, spikes))
    assert spectrum.n_above(spectrum.marchenko_pastur_edge) == 8
    assert spectrum.body.slope > gaussian_null_slope(R, R) - 0.05


def test_giant_entries_pass_the_analytic_edge_and_not_the_shuffled_one(gaussian):
    rng = np.random.default_rng(9)
    matrix = gaussian.copy()
    matrix[rng.permutation(R)[:20], rng.permutation(R)[:20]] = 200.0
    spectrum = Spectrum.of(matrix)
    assert spectrum.n_above(spectrum.marchenko_pastur_edge) == 20
    assert spectrum.n_above(shuffled_edge(matrix)) == 0
    assert shuffled_edge(matrix, seed=3) == shuffled_edge(matrix, seed=3)


@pytest.mark.parametrize("shape", [(R, R), (200, 700)])
def test_drawn_singular_values_are_those_of_drawn_matrices(shape):
    rank = min(shape)
    drawn = np.mean([gaussian_singular_values(*shape, seed) for seed in range(6)], axis=0)
    rng = np.random.default_rng(10)
    true = np.mean([singular_values(rng.standard_normal(shape)) for _ in range(3)], axis=0)
    np.testing.assert_allclose(drawn[: rank - 10], true[: rank - 10], rtol=0.03, atol=0.003 * true[0])
    assert (drawn**2).sum() == pytest.approx(rank * max(shape), rel=0.01)


def test_the_null_slope_is_the_published_one_and_remembered():
    slopes = [gaussian_null_slope(R, R, (9, 384), seed) for seed in range(8)]
    assert np.mean(slopes) == pytest.approx(-0.270, rel=0.01)
    assert np.std(slopes) < 0.002
    assert gaussian_null_slope(R, R) == slopes[0]
    assert gaussian_null_slope(R, R, (1, 64)) == pytest.approx(-0.052, abs=0.005)
    assert gaussian_null_slope(100, 400, None, 1) == gaussian_null_slope(400, 100, None, 1)


@pytest.mark.parametrize("shape", [(R, R), (200, 700), (64, 4096)])
def test_the_quantiles_of_the_law_are_those_of_drawn_matrices(shape):
    law = marchenko_pastur_quantiles(*shape)
    assert law.shape == (min(shape),)
    assert (np.diff(law) < 0).all()
    drawn = np.mean([gaussian_singular_values(*shape, seed) for seed in range(8)], axis=0)
    bulk = slice(law.size // 20, -law.size // 20)
    np.testing.assert_allclose(law[bulk], drawn[bulk], rtol=0.01, atol=0.002 * law[0])
    assert law[0] == pytest.approx(marchenko_pastur_edge(*shape, 1.0), rel=0.02)
    assert (law**2).sum() == pytest.approx(shape[0] * shape[1], rel=1e-3)


def test_no_quantiles_of_an_empty_matrix():
    assert marchenko_pastur_quantiles(0, 5).size == 0


@pytest.mark.parametrize("shape", [(64, 64), (128, 512), (192, 576), (576, 1536), (R, R), (2048, 2048)])
@pytest.mark.parametrize("window", [head_window, body_window])
def test_the_slope_of_the_law_is_the_mean_of_drawn_ones(shape, window):
    ranks = window(min(shape))
    slopes = np.array([gaussian_null_slope(*shape, ranks, seed) for seed in range(8)])
    allowed = 3 * slopes.std(ddof=1) / math.sqrt(slopes.size) + 0.003
    assert marchenko_pastur_slope(*shape, ranks) == pytest.approx(slopes.mean(), abs=allowed)


def test_the_slope_of_the_law_is_that_of_a_true_matrix(gaussian):
    assert marchenko_pastur_slope(R, R) == pytest.approx(-0.270, rel=0.01)
    assert marchenko_pastur_slope(R, R) == pytest.approx(Spectrum.of(gaussian).body.slope, abs=0.003)
    assert marchenko_pastur_slope(300, 90, (1, 16)) == marchenko_pastur_slope(90, 300, (1, 16))


# WeightWatcher


def test_a_pareto_tail_is_recovered_within_two_sigma():
    within = 0
    for seed in range(30):
        eigenvalues = (1 - np.random.default_rng(seed).random(1000)) ** -0.5  # density lambda^-3
        fit = weightwatcher(np.sqrt(eigenvalues))
        within += abs(fit.alpha - 3.0) <= 2 * fit.sigma
        assert fit.sigma == pytest.approx((fit.alpha - 1) / math.sqrt(fit.n_tail))
        assert fit.warning is None
        assert fit.alpha_weighted == pytest.approx(fit.alpha * math.log10(eigenvalues.max()))
    assert within >= 24


SAMPLES = {
    "exponential": np.random.default_rng(11).standard_exponential(120),
    "Pareto": np.random.default_rng(1).pareto(2.0, size=300),
    "noise": gaussian_singular_values(200, 200, 0),
    "equal steps": np.round(10 * np.random.default_rng(2).random(90)) + 1,
    "power law": np.arange(1.0, 400.0) ** -0.6,
}


def real_spectra(source):
    run = lmfacts.scan_weights(source)
    return {
        entry["name"]: run[entry["name"]].singular_values
        for entry in run.metadata["sites"]
        if entry["weight_kind"] in ("W_Q", "W_K", "W_V", "W_O", "W_in", "W_out")
    }


def test_the_fit_of_trained_matrices_is_the_published_one():
    """Real spectra tell the published D from a Kolmogorov-Smirnov distance; Pareto samples do not."""
    spectra = real_spectra(MODEL_DIR)
    assert len(spectra) == 24
    n_other = 0
    for values in spectra.values():
        fit = weightwatcher(values)
        distance, alpha, xmin, n_tail = published_fit(values)
        assert (fit.distance, fit.alpha, fit.xmin) == pytest.approx((distance, alpha, xmin))
        assert fit.n_tail == n_tail
        n_other += published_fit(values, two_sided=True)[3] != n_tail
    assert n_other >= 3


@pytest.mark.parametrize("values", SAMPLES.values(), ids=SAMPLES.keys())
def test_the_fit_is_the_best_of_all_thresholds(values):
    fit = weightwatcher(values)
    distance, alpha, xmin, n_tail = published_fit(values)
    assert fit.distance == pytest.approx(distance)
    assert fit.alpha == pytest.approx(alpha)
    assert fit.xmin == pytest.approx(xmin)
    assert fit.n_tail == n_tail


def test_few_eigenvalues_are_warned_about_and_none_give_no_fit():
    assert "30 eigenvalues" in weightwatcher(np.random.default_rng(12).random(30)).warning
    for values in ([], [1.0], [1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [1.0, math.nan, 2.0, 3.0]):
        fit = weightwatcher(np.array(values))
        assert math.isnan(fit.alpha)
        assert fit.warning
        assert fit.label == ""
    assert weightwatcher((1 - np.random.default_rng(0).random(1000)) ** -0.25).label == "heavy-tailed"


# Degenerate input


@pytest.mark.parametrize("matrix", [np.zeros((0, 5)), np.zeros((5, 0)), np.zeros((6, 4)), np.full((4, 6), np.nan)])
def test_without_a_spectrum_everything_is_nan_or_zero(matrix):
    spectrum = Spectrum.of(matrix)
    assert spectrum.values.shape == (min(matrix.shape),)
    for value in (spectrum.stable_rank, spectrum.effective_rank, spectrum.rank_me, spectrum.participation_ratio):
        assert math.isnan(value)
    assert spectrum.rank == 0
    assert spectrum.n_above(spectrum.marchenko_pastur_edge) == 0
    assert math.isnan(spectrum.body.slope)
    assert math.isnan(spectrum.head.slope)
    shuffled_edge(matrix)


def test_one_infinity_makes_the_spectrum_nan():
    matrix = np.ones((8, 8))
    matrix[3, 3] = np.inf
    assert np.isnan(singular_values(matrix)).all()
    assert math.isnan(frobenius_norm(matrix))
    assert math.isnan(shuffled_spectral_norm(matrix))


@pytest.mark.parametrize("shape", [(1, 300), (300, 1), (300, 300), (300, 40)])
def test_rank_one(shape):
    rng = np.random.default_rng(13)
    spectrum = Spectrum.of(np.outer(rng.standard_normal(shape[0]), rng.standard_normal(shape[1])))
    assert spectrum.rank == 1
    for value in (spectrum.stable_rank, spectrum.effective_rank, spectrum.participation_ratio):
        assert value == pytest.approx(1.0)
    assert math.isnan(spectrum.head.slope)
    assert math.isnan(spectrum.body.slope)
    assert spectrum.spectral_norm == pytest.approx(spectrum.frobenius)


def test_equal_singular_values_have_no_fit_quality():
    fit = Spectrum(np.ones(200), (200, 200), math.sqrt(200)).body
    assert fit.slope == pytest.approx(0.0)
    assert math.isnan(fit.r2_power)


@pytest.mark.parametrize("exponent", [-130, -60, 0, 60, 110])
def test_the_largest_singular_value_of_any_scale(exponent):
    matrix = np.random.default_rng(0).normal(size=(40, 25)).astype(np.float32)
    expected = np.linalg.svd(matrix.astype(np.float64), compute_uv=False)[0]
    found = largest_singular_value(np.ldexp(matrix, exponent))
    np.testing.assert_allclose(np.ldexp(found, -exponent), expected, rtol=1e-4)
