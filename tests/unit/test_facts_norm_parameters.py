"""F9 on gains and biases whose law is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lmfacts.facts.f09_norm_parameters import DEFINITION, is_flagged
from lmfacts.facts.fact import Verdict
from lmfacts.facts.strictness import Strictness
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


def matrix(seed, shape=(96, D)):
    return 0.02 * np.random.default_rng(seed).standard_normal(shape)


def heavy_matrix(seed):
    """Of which every row is as heavy-tailed as a spiked gain."""
    rng = np.random.default_rng(seed)
    values = matrix(seed)
    for row in values:
        row[rng.choice(D, 5, replace=False)] = 15 * 0.02
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


SLICES = "share of rows and columns that are not Gaussian, over the gains'"
HOLDS, OPEN, FAILS = Verdict.HOLDS, Verdict.INCONCLUSIVE, Verdict.FAILS
LOOSER, STATED, STRICTER = Strictness.LOOSER, Strictness.STATED, Strictness.STRICTER


def by_verdict(fact):
    """What it would be with looser thresholds, is, and would be with stricter ones."""
    return fact.looser, fact.verdict, fact.stricter


@pytest.mark.parametrize("value", [0.0, math.nan])
def test_matrices_without_values_that_vary_are_no_comparison(tmp_path, value):
    fact = check(model(tmp_path, spiked_gain, lambda _: np.full((96, D), value)))
    assert by_verdict(fact) == (OPEN, OPEN, OPEN)
    assert "but no row or column of the matrices in the blocks has values that vary" in fact.summary


def test_heavy_gains_beside_gaussian_matrices_hold(tmp_path):
    fact = check(model(tmp_path, spiked_gain))
    assert by_verdict(fact) == (HOLDS, HOLDS, HOLDS)
    assert fact.summary.startswith(
        "25 of 25 gain vectors are not Gaussian (100 %, of 80.0 % needed); of 48 rows and columns of matrices, 768 "
    )
    assert measure(fact, "share of gain").value == 1.0
    assert measure(fact, SLICES).value <= 0.05
    assert measure(fact, SLICES).passed
    expected = np.median(
        [((v - v.mean()) ** 4).mean() / v.var() ** 2 - 3 for v in (spiked_gain(seed) for seed in range(24))]
    )
    assert measure(fact, "median excess kurtosis of the gains").value == pytest.approx(expected, rel=0.02)
    assert measure(fact, "median excess kurtosis of the gains").passed is None
    assert measure(fact, "median excess kurtosis of the matrices").value == pytest.approx(0.0, abs=0.1)
    assert "0.18 at d = 768" in measure(fact, "median excess kurtosis of the gains").note
    assert "RMSNorm has no biases." in fact.evidence.notes


def test_gaussian_gains_fail(tmp_path):
    fact = check(model(tmp_path, gaussian_gain))
    assert by_verdict(fact) == (FAILS, FAILS, FAILS)
    assert measure(fact, "share of gain").value <= 0.1
    assert measure(fact, "median share beyond 3 SD").value == pytest.approx(1.0, abs=0.6)
    assert measure(fact, "median bimodality").value == pytest.approx(1 / 3, abs=0.03)


def test_two_modes_hold_though_their_kurtosis_is_negative(tmp_path):
    fact = check(model(tmp_path, two_modes))
    assert by_verdict(fact) == (HOLDS, HOLDS, HOLDS)
    assert measure(fact, "share of gain").value == 1.0
    assert measure(fact, "median excess kurtosis of the gains").value < 0
    assert measure(fact, "median bimodality").value > 0.9
    assert any("by their bimodality alone" in note for note in fact.evidence.notes)


def test_uniform_gains_are_not_bimodal(tmp_path):
    fact = check(model(tmp_path, lambda seed, n: np.random.default_rng(seed).uniform(0.5, 1.5, n)))
    assert measure(fact, "median bimodality").value == pytest.approx(5 / 9, abs=0.005)
    assert measure(fact, "share of gain").value == 0.0
    assert by_verdict(fact) == (FAILS, FAILS, FAILS)


def test_equally_heavy_matrices_fail(tmp_path):
    fact = check(model(tmp_path, spiked_gain, heavy_matrix))
    assert by_verdict(fact) == (FAILS, FAILS, FAILS)
    assert measure(fact, "share of gain").passed
    assert measure(fact, SLICES).value == pytest.approx(1.0, abs=0.05)
    assert measure(fact, SLICES).passed is False
    assert measure(fact, "median excess kurtosis of the matrices").value > 1.2


def test_equally_bimodal_matrices_fail(tmp_path):
    def bimodal(seed):
        return np.where(np.random.default_rng(seed).random((96, D)) < 0.5, -0.02, 0.02) + 0.1 * matrix(seed)

    fact = check(model(tmp_path, two_modes, bimodal))
    assert by_verdict(fact) == (FAILS, FAILS, FAILS)
    assert measure(fact, SLICES).value == 1.0


@pytest.mark.parametrize(
    ("kurtosis", "bimodality", "expected"),
    [
        (1.34, 0.3, (False, False, False)),
        (1.36, 0.3, (True, False, False)),
        (1.49, 0.3, (True, False, False)),
        (1.51, 0.3, (True, True, False)),
        (1.64, 0.3, (True, True, False)),
        (1.66, 0.3, (True, True, True)),
        (-1.2, 5 / 9, (False, False, False)),
        (-1.2, 0.5955, (False, False, False)),
        (-1.2, 0.5957, (True, False, False)),
        (-1.2, 0.5999, (True, False, False)),
        (-1.2, 0.6001, (True, True, False)),
        (-1.2, 0.6043, (True, True, False)),
        (-1.2, 0.6045, (True, True, True)),
        (math.nan, math.nan, (False, False, False)),
    ],
)
def test_the_limits_of_a_vector(kurtosis, bimodality, expected):
    assert tuple(is_flagged(kurtosis, bimodality, one) for one in (LOOSER, STATED, STRICTER)) == expected


def test_the_limit_of_the_bimodality_is_that_of_modes_4_standard_deviations_apart():
    rng = np.random.default_rng(0)
    signs = np.where(np.arange(10**6) % 2, 1.0, -1.0)
    for half_distance, expected in ((2.06, False), (2.16, True)):
        values = half_distance * signs + rng.standard_normal(10**6)
        z = (values - values.mean()) / values.std()
        kurtosis = (z**4).mean()
        assert bool(is_flagged(kurtosis - 3, ((z**3).mean() ** 2 + 1) / kurtosis)) is expected


def test_the_coefficient_of_few_uniform_values_stays_below_the_limit():
    values = np.random.default_rng(1).uniform(size=(2000, 96))
    z = (values - values.mean(axis=1, keepdims=True)) / values.std(axis=1, keepdims=True)
    kurtosis = (z**4).mean(axis=1)
    coefficients = ((z**3).mean(axis=1) ** 2 + 1) / kurtosis
    assert coefficients.std() == pytest.approx(0.03, abs=0.01)
    assert np.mean(coefficients >= 0.6) <= 0.15


def with_slices(run, n_flagged, n):
    """The run with this many rows and columns of its matrices heavy-tailed, of so many."""
    names = [entry["name"] for entry in run.metadata["sites"] if len(entry["shape"]) > 1]
    shapes = np.array([[D, 0.0, 9.0]] * n_flagged + [[D, 0.0, 3.0]] * (n - n_flagged))
    for index, name in enumerate(names):
        run.extra_arrays[f"{name}/slices"] = shapes[index :: len(names)].ravel()
    return run


@pytest.mark.parametrize(
    ("n_flagged", "verdicts", "passed"),
    [
        (89, (HOLDS, HOLDS, HOLDS), True),
        (91, (HOLDS, OPEN, FAILS), True),
        (99, (HOLDS, OPEN, FAILS), True),
        (101, (HOLDS, OPEN, FAILS), False),
        (109, (HOLDS, OPEN, FAILS), False),
        (111, (FAILS, FAILS, FAILS), False),
    ],
)
def test_half_of_the_share_of_the_gains_decides(tmp_path, n_flagged, verdicts, passed):
    fact = check(with_slices(model(tmp_path, spiked_gain), n_flagged, 200))
    assert by_verdict(fact) == verdicts
    assert measure(fact, SLICES).value == pytest.approx(n_flagged / 200)
    assert measure(fact, SLICES).passed is passed


def test_slices_are_those_nearest_in_length(tmp_path):
    def mixed(seed):
        return heavy_matrix(seed)[:, :400] if seed % 2 else matrix(seed, (300, 1200))

    fact = check(model(tmp_path, spiked_gain, mixed))  # 768 / 400 is more than 1200 / 768
    assert "of 24 of 1200 values" in measure(fact, SLICES).note
    assert fact.verdict is HOLDS


def test_short_slices_leave_it_open(tmp_path):
    fact = check(model(tmp_path, spiked_gain, lambda seed: matrix(seed, (60, 95))))
    assert fact.verdict is OPEN
    assert "fewer than 96 values, too few for a comparison" in fact.summary
    assert measure(fact, SLICES).passed is None


def test_runs_without_slices_name_the_command(tmp_path):
    run = model(tmp_path, spiked_gain)
    for name in [name for name in run.extra_arrays if name.endswith("/slices")]:
        del run.extra_arrays[name]
    run.metadata["model"]["id"] = "MODEL"
    fact = check(run)
    assert fact.verdict is Verdict.NOT_APPLICABLE
    assert fact.command == "lmfacts weights MODEL -o weights.lmfacts"


@pytest.mark.parametrize(
    ("n_flagged", "n", "verdicts"),
    [
        (21, 25, (HOLDS, HOLDS, HOLDS)),
        (9, 11, (HOLDS, OPEN, FAILS)),  # 0.818
        (20, 25, (HOLDS, OPEN, FAILS)),
        (15, 19, (HOLDS, OPEN, FAILS)),  # 0.789
        (19, 25, (FAILS, FAILS, FAILS)),
    ],
)
def test_eighty_percent_decide(tmp_path, n_flagged, n, verdicts):
    weights = {"blocks.0.W_O": matrix(0)}
    for index in range(n):
        name = f"blocks.{index // 2}.ln{index % 2 + 1}.gain"
        weights[name] = (spiked_gain if index < n_flagged else gaussian_gain)(index)
    fact = check(scanned(tmp_path, weights, spectra=0))
    assert by_verdict(fact) == verdicts
    assert measure(fact, "share of gain").passed is (n_flagged / n >= 0.8)


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


def test_the_share_of_slices_is_held_against_that_of_the_gains(tmp_path):
    fact = check(
        model(
            tmp_path,
            lambda seed, n: spiked_gain(seed, n) if seed < 20 else gaussian_gain(seed, n),
            lambda seed: heavy_matrix(seed) if seed < 5 else matrix(seed),
        )
    )
    assert measure(fact, "share of gain").value == 20 / 25
    assert measure(fact, SLICES).value == pytest.approx((20 / 48) / (20 / 25))


def test_rows_of_two_lopsided_modes_are_bimodal_whichever_way_they_lean(tmp_path):
    """A quarter of the values lies below, or above: the skewness counts by its square."""
    for sign in (-1.0, 1.0):

        def lopsided(seed, sign=sign):
            rng = np.random.default_rng(seed)
            return sign * (rng.random((96, D)) < 0.25) + 0.05 * rng.standard_normal((96, D))

        fact = check(model(tmp_path / str(sign), spiked_gain, lopsided))
        assert fact.verdict is FAILS
        assert measure(fact, SLICES).value == 1.0
