"""F9 on gains and biases whose law is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lmfacts.facts.f09_norm_parameters import DEFINITION
from lmfacts.facts.fact import Verdict
from support.checkpoints import scanned, weights_inputs

D = 768
N_LAYERS = 12


def gaussian_gain(seed, n=D):
    return 1.0 + 0.1 * np.random.default_rng(seed).standard_normal(n)


def spiked_gain(seed, n=D):
    gain = gaussian_gain(seed, n)
    gain[np.random.default_rng(seed).choice(n, 5, replace=False)] = 1.0 + 15 * 0.1
    return gain


def two_modes(seed, n=D):
    rng = np.random.default_rng(seed)
    return np.where(rng.random(n) < 0.5, 0.5, 1.5) + 0.05 * rng.standard_normal(n)


def matrix(seed):
    return 0.02 * np.random.default_rng(seed).standard_normal((96, 96))


def heavy_matrix(seed):
    values = matrix(seed)
    values.flat[np.random.default_rng(seed).choice(values.size, 60, replace=False)] = 15 * 0.02
    return values


def model(folder, gain, weight=matrix, *, n=D, family="llama", **more):
    weights = {"ln_final.gain": gain(99, n)}
    for layer in range(N_LAYERS):
        weights[f"blocks.{layer}.W_O"] = weight(layer)
        weights[f"blocks.{layer}.ln1.gain"] = gain(2 * layer, n)
        weights[f"blocks.{layer}.ln2.gain"] = gain(2 * layer + 1, n)
    return scanned(folder, {**weights, **more}, family=family, spectra=0)


def check(run):
    return DEFINITION.check(weights_inputs(run))


def measure(fact, name):
    (found,) = [measure for measure in fact.evidence.measures if measure.name.startswith(name)]
    return found


def test_heavy_gains_beside_gaussian_matrices_hold(tmp_path):
    fact = check(model(tmp_path, spiked_gain))
    assert fact.verdict is Verdict.HOLDS
    assert fact.summary.startswith("25 of 25 gain vectors are not Gaussian")
    assert measure(fact, "share of gain").value == 1.0
    expected = np.median(
        [((v - v.mean()) ** 4).mean() / v.var() ** 2 - 3 for v in (spiked_gain(seed) for seed in range(24))]
    )
    assert measure(fact, "median excess kurtosis of the gains").value == pytest.approx(expected, rel=0.02)
    assert measure(fact, "median excess kurtosis of the gains").passed
    assert measure(fact, "median excess kurtosis of the matrices").value == pytest.approx(0.0, abs=0.1)
    assert "0.18 at d = 768" in measure(fact, "median excess kurtosis of the gains").note
    assert "RMSNorm has no biases." in fact.evidence.notes


def test_gaussian_gains_fail(tmp_path):
    fact = check(model(tmp_path, gaussian_gain))
    assert fact.verdict is Verdict.FAILS
    assert measure(fact, "share of gain").value <= 0.1
    assert measure(fact, "median share beyond 3 SD").value == pytest.approx(1.0, abs=0.6)
    assert measure(fact, "median bimodality").value == pytest.approx(1 / 3, abs=0.03)


def test_two_modes_are_flagged_though_their_kurtosis_is_negative(tmp_path):
    fact = check(model(tmp_path, two_modes))
    assert measure(fact, "share of gain").value == 1.0
    assert measure(fact, "share of gain").passed
    assert measure(fact, "median excess kurtosis of the gains").value < 0
    assert measure(fact, "median bimodality").value > 0.9
    assert any("by their bimodality alone" in note for note in fact.evidence.notes)
    assert fact.verdict is Verdict.FAILS  # by the ratio: two modes have no tails


def test_equally_heavy_matrices_fail_by_the_ratio(tmp_path):
    fact = check(model(tmp_path, spiked_gain, heavy_matrix))
    assert fact.verdict is Verdict.FAILS
    assert measure(fact, "share of gain").passed
    assert measure(fact, "median excess kurtosis of the gains").passed is False
    assert measure(fact, "median excess kurtosis of the matrices").value > 5


def of_kurtosis(excess, shape, seed=0):
    """Values whose excess kurtosis is set, by the size of a few that stand out."""
    plain = np.random.default_rng(seed).standard_normal(shape)
    places = np.random.default_rng(seed + 1).choice(plain.size, plain.size // 100, replace=False)
    low, high = 0.0, 100.0
    for _ in range(60):
        factor = (low + high) / 2
        plain.flat[places] = factor
        z = (plain - plain.mean()) / plain.std()
        low, high = (factor, high) if (z**4).mean() - 3 < excess else (low, factor)
    return plain


@pytest.mark.parametrize(("excess", "expected"), [(10.1, Verdict.HOLDS), (9.9, Verdict.FAILS)])
def test_five_times_the_kurtosis_of_the_matrices_decides(tmp_path, excess, expected):
    run = model(tmp_path, lambda seed, n: of_kurtosis(excess, n, seed), lambda seed: of_kurtosis(2.0, (96, 96), seed))
    fact = check(run)
    assert measure(fact, "median excess kurtosis of the gains").value == pytest.approx(excess, rel=1e-4)
    assert fact.verdict is expected


@pytest.mark.parametrize(("n_flagged", "expected"), [(20, Verdict.HOLDS), (19, Verdict.FAILS)])
def test_eighty_percent_decide(tmp_path, n_flagged, expected):
    weights = {"blocks.0.W_O": matrix(0)}
    for index in range(25):
        name = f"blocks.{index // 2}.ln{index % 2 + 1}.gain"
        weights[name] = (spiked_gain if index < n_flagged else gaussian_gain)(index)
    assert check(scanned(tmp_path, weights, spectra=0)).verdict is expected


def test_without_gains_it_does_not_apply(tmp_path):
    fact = check(scanned(tmp_path, {"blocks.0.W_O": matrix(0)}, spectra=0))
    assert fact.verdict is Verdict.NOT_APPLICABLE
    assert "no parameters" in fact.summary


def test_constant_gains_are_left_open(tmp_path):
    fact = check(model(tmp_path, lambda _seed, n: np.ones(n)))
    assert fact.verdict is Verdict.INCONCLUSIVE
    assert "constant" in fact.summary


def test_short_gains_are_left_open(tmp_path):
    fact = check(model(tmp_path, spiked_gain, n=95))
    assert fact.verdict is Verdict.INCONCLUSIVE
    assert "fewer than 96" in fact.summary
    assert check(model(tmp_path / "longer", spiked_gain, n=96)).verdict is Verdict.HOLDS


def test_without_matrices_it_is_open(tmp_path):
    fact = check(scanned(tmp_path, {"blocks.0.ln1.gain": spiked_gain(0)}, spectra=0))
    assert fact.verdict is Verdict.INCONCLUSIVE
    assert "no matrix" in fact.summary
    assert math.isnan(measure(fact, "median excess kurtosis of the matrices").value)


def test_the_final_norm_is_set_beside_the_others(tmp_path):
    gain = gaussian_gain(0)
    gain[7] = 20.0
    fact = check(model(tmp_path, gaussian_gain, **{"ln_final.gain": gain}))
    final = measure(fact, "final norm")
    assert final.value == pytest.approx(20 / np.median(np.abs(gain)), rel=1e-3)
    assert f"{final.value:.3g}x its median" in fact.summary
    assert "median of the other gains: 1.3" in final.note


def test_the_dims_of_kovaleva_are_those_that_stand_out_in_half_of_the_layers(tmp_path):
    weights = {"blocks.0.W_O": matrix(0), "ln_final.gain": gaussian_gain(50)}
    for layer in range(N_LAYERS):
        gain, bias = gaussian_gain(layer), np.zeros(D)
        gain[11] = 3.0  # in every layer
        if layer < 6:
            gain[22] = 3.0  # in exactly half of them
        if layer < 5:
            gain[33] = 3.0  # in fewer
        bias[:: 2 if layer % 2 else 3] = 0.01
        bias[44] = -5.0  # of the biases, and negative
        weights |= {f"blocks.{layer}.ln1.gain": gain, f"blocks.{layer}.ln1.bias": bias}
    fact = check(scanned(tmp_path, weights, family="opt", spectra=0))
    kinds, dims = fact.evidence.tables
    assert dims.rows == ((11, 12, 12), (44, 12, 12), (22, 6, 12))
    assert {row[0] for row in kinds.rows} == {"ln1.gain", "ln1.bias", "ln_final.gain"}
    assert not any("no biases" in note for note in fact.evidence.notes)


def test_norms_of_heads_count_as_gains_and_not_as_dims_of_the_stream(tmp_path):
    heads = {f"blocks.{layer}.q_norm": spiked_gain(0, 128) for layer in range(N_LAYERS)}
    fact = check(model(tmp_path, gaussian_gain, **heads))
    assert measure(fact, "share of gain").note.startswith("of 37;")
    kinds, dims = fact.evidence.tables
    assert any("q_norm" in row[0] and row[1] == N_LAYERS for row in kinds.rows)
    assert dims.rows == ()


def test_an_offset_of_the_gains_is_added(tmp_path):
    run = model(tmp_path, gaussian_gain)
    run.metadata["model"]["gain_offset"] = 1.0
    offset = measure(check(run), "final norm").value
    gain = gaussian_gain(99)
    assert offset == pytest.approx((1 + gain.max()) / np.median(1 + gain), rel=1e-4)


def test_values_that_are_not_finite_are_passed_over(tmp_path):
    def broken(seed, n):
        gain = spiked_gain(seed, n)
        gain[[3, 9]] = np.nan, np.inf
        return gain

    assert check(model(tmp_path, broken)).verdict is Verdict.HOLDS


def test_gains_without_finite_values_are_not_called_constant(tmp_path):
    fact = check(model(tmp_path, lambda _, n: np.full(n, np.nan)))
    assert fact.verdict is Verdict.INCONCLUSIVE
    assert fact.summary.endswith("they have no finite values.")
