"""F15 on values and singular values of known laws."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lmfacts.analysis.block_matrices import by_kind, evenly, matrix_shapes, median
from lmfacts.facts.f15_weight_panels import DEFINITION
from lmfacts.facts.fact import Verdict
from lmfacts.stats.spectrum import weightwatcher
from support.checkpoints import scanned, weights_inputs
from support.synthetic_weights import weights_run

R = 200


def check(run):
    return DEFINITION.check(weights_inputs(run))


def row(fact, title, kind):
    (table,) = [table for table in fact.evidence.tables if table.title == title]
    (cells,) = [cells for cells in table.rows if cells[0] == kind]
    return dict(zip(table.columns, cells, strict=True))


def weibull_values(k, shape, seed=0):
    """Values whose magnitudes follow a Weibull law of scale 0.02."""
    rng = np.random.default_rng(seed)
    return 0.02 * rng.weibull(k, size=shape) * rng.choice([-1.0, 1.0], size=shape)


def with_eigenvalues(eigenvalues, seed=0):
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.standard_normal((eigenvalues.size, eigenvalues.size)))[0] for _ in range(2))
    return (left * np.sqrt(eigenvalues)) @ right.T


def pareto(seed, n=R):
    """Eigenvalues of density x^-3 from 1 on."""
    return (1 - np.random.default_rng(seed).random(n)) ** -0.5


def test_weibull_laws_are_recovered(tmp_path):
    side = 1415  # 2e6 values
    laws = {"W_Q": 0.8, "W_O": 1.0, "W_in": 1.2}
    weights = {f"blocks.0.{kind}": weibull_values(k, (side, side)) for kind, k in laws.items()}
    weights["blocks.0.W_K"] = 0.02 * np.random.default_rng(1).standard_normal((side, side))
    fact = check(scanned(tmp_path, weights, spectra=0))
    assert fact.verdict is Verdict.MEASURED
    for kind, k in laws.items():
        found = row(fact, "Weibull shape by kind", kind)
        assert found["k"] == pytest.approx(k, abs=0.005)
        assert found["lambda"] == pytest.approx(0.02, rel=0.005)
    noise = row(fact, "Weibull shape by kind", "W_K")
    assert noise["k"] == pytest.approx(1.206, abs=0.005)
    assert noise["lambda / std"] == pytest.approx(0.8875, abs=0.003)
    assert "least in W_Q (0.80" in fact.summary
    assert "most in W_K (1.20" in fact.summary


def test_the_published_bands_stand_beside(tmp_path):
    weights = {f"blocks.0.{kind}": weibull_values(1.1, (64, 64)) for kind in ("W_Q", "W_V", "W_out")}
    fact = check(scanned(tmp_path, weights, spectra=0))
    bands = {kind: row(fact, "Weibull shape by kind", kind)["published k"] for kind in ("W_Q", "W_V", "W_out")}
    assert bands == {"W_Q": "0.76-0.99 or 1.10-1.16", "W_V": None, "W_out": "1.186-1.204"}


def test_a_pareto_tail_is_recovered(tmp_path):
    weights = {f"blocks.{layer}.W_O": with_eigenvalues(pareto(layer), layer) for layer in range(7)}
    fact = check(scanned(tmp_path, weights))
    found = row(fact, "WeightWatcher by kind", "W_O")
    assert abs(found["alpha"] - 3.0) <= 2 * found["sigma"]
    fits = [weightwatcher(np.sqrt(pareto(layer))) for layer in range(7)]
    assert found["alpha"] == pytest.approx(np.median([fit.alpha for fit in fits]), rel=1e-4)
    assert found["sigma"] == pytest.approx(np.median([fit.sigma for fit in fits]), rel=1e-4)
    assert found["D"] == pytest.approx(np.median([fit.distance for fit in fits]), rel=1e-3)
    assert found["n in tail"] == np.median([fit.n_tail for fit in fits])
    assert found["alpha weighted"] == pytest.approx(np.median([fit.alpha_weighted for fit in fits]), rel=1e-4)
    assert (found["of"], found["fitted"], found["warnings"]) == (R, 7, 0)
    assert f"alpha {found['alpha']:.2f}" in fact.summary


def test_few_eigenvalues_are_warned_about(tmp_path):
    weights = {f"blocks.{layer}.W_O": with_eigenvalues(pareto(layer, 30)) for layer in range(2)}
    fact = check(scanned(tmp_path, weights))
    assert row(fact, "WeightWatcher by kind", "W_O")["warnings"] == 2
    assert any("30 eigenvalues; at least 50" in note for note in fact.evidence.notes)


def test_many_matrices_are_sampled_over_depth(tmp_path):
    weights = {f"blocks.{layer}.W_O": with_eigenvalues(pareto(layer, 60)) for layer in range(20)}
    fact = check(scanned(tmp_path, weights))
    assert row(fact, "WeightWatcher by kind", "W_O")["fitted"] == 8
    assert row(fact, "Weibull shape by kind", "W_O")["matrices"] == 20
    assert any("8 of 20" in note for note in fact.evidence.notes)


def test_without_singular_values_there_is_no_second_panel(tmp_path):
    fact = check(scanned(tmp_path, {"blocks.0.W_O": weibull_values(1.0, (64, 64))}, spectra=0))
    assert fact.verdict is Verdict.MEASURED
    assert len(fact.evidence.tables) == 1
    assert "WeightWatcher" not in fact.summary
    assert any("lmfacts weights" in note for note in fact.evidence.notes)


def test_values_that_are_few_have_no_k_and_it_is_said(tmp_path):
    rng = np.random.default_rng(3)
    few = 0.02 * np.clip(np.round(4 * rng.standard_normal((64, 64))), -16, 15)  # 5 bits, 10 % zeros
    plain = weibull_values(1.1, (64, 64))
    fact = check(scanned(tmp_path, {"blocks.0.W_O": few, "blocks.0.W_Q": plain}, spectra=0))
    assert math.isnan(row(fact, "Weibull shape by kind", "W_O")["k"])
    assert math.isnan(row(fact, "Weibull shape by kind", "W_O")["lambda"])
    assert row(fact, "Weibull shape by kind", "W_Q")["k"] == pytest.approx(1.1, abs=0.05)
    (note,) = [note for note in fact.evidence.notes if "no Weibull k" in note]
    assert note.startswith("1 of 2 matrices has no Weibull k, since a fit would mean nothing: in blocks.0.W_O ")
    assert "% of the values have one magnitude (" in note


@pytest.mark.parametrize("value", [0.0, 0.5])
def test_constant_matrices_have_no_figures(tmp_path, value):
    fact = check(scanned(tmp_path, {f"blocks.{layer}.W_O": np.full((64, 64), value) for layer in range(2)}))
    assert fact.verdict is Verdict.MEASURED
    found = row(fact, "Weibull shape by kind", "W_O")
    assert math.isnan(found["k"])
    assert found["least"] is None


def test_without_matrices_it_does_not_apply(tmp_path):
    assert check(scanned(tmp_path, {"embed.W_E": np.eye(8)})).verdict is Verdict.NOT_APPLICABLE


# What the facts on weights share


def test_kinds_come_in_the_order_of_the_forward_pass():
    shapes = matrix_shapes(weights_run(2))
    assert list(by_kind(reversed(shapes))) == ["W_Q", "W_K", "W_V", "W_O", "W_in", "W_out"]


def test_shapes_are_measured_once_a_run():
    run = weights_run(2)
    assert matrix_shapes(run) is matrix_shapes(run)
    assert matrix_shapes(weights_run(2)) == matrix_shapes(run)


def test_evenly_keeps_both_ends():
    assert evenly(range(3), 5) == [0, 1, 2]
    assert evenly(range(30), 5) == [0, 7, 14, 22, 29]


def test_the_median_passes_over_nan():
    assert median([math.nan, 3.0, 1.0]) == 2.0
    assert math.isnan(median([math.nan]))


def test_what_has_no_meaning_is_not_in_the_summary(tmp_path):
    zeros = check(scanned(tmp_path, {f"blocks.0.{kind}": np.zeros((80, 80)) for kind in ("W_Q", "W_O")}))
    assert zeros.summary == "No matrix has a Weibull k."
