"""Norms by depth, and rank correlation."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lmfacts.analysis.weight_norms import norm_trends, spearman
from lmfacts.run import load
from support.checkpoints import scanned
from support.synthetic_weights import weights_run

N_LAYERS = 12


@pytest.fixture(scope="module")
def run():
    return weights_run(N_LAYERS)


def by_kind(trends):
    return {(trend.kind, trend.folded): trend for trend in trends}


def test_trends_are_those_of_the_norms(run):
    trends = by_kind(norm_trends(run))
    assert set(trends) >= {("W_O", False), ("W_Q", False), ("W_Q", True), ("W_V", True)}
    assert ("W_O", True) not in trends  # it has no folded norm of its own
    trend = trends["W_out", False]
    layers = np.arange(1, N_LAYERS)
    norms = np.array([run[f"blocks.{layer}.W_out"].frobenius for layer in layers])
    assert trend.slope == pytest.approx(np.polyfit(layers, np.log(norms), 1)[0], rel=1e-9)
    assert trend.total_factor == pytest.approx(math.exp(trend.slope * (N_LAYERS - 2)))
    assert trend.spearman == pytest.approx(1.0)
    assert trend.group == "writing"
    assert trends["W_V", True].group == "value"
    assert 1 / 1.1 < trends["W_in", True].total_factor < 1.1
    assert trends["W_in", False].total_factor < 0.6


def test_they_come_from_the_metadata_of_a_file(run, tmp_path):
    assert norm_trends(load(run.save(tmp_path / "w.lmfacts"))) == norm_trends(run)


def test_spectral_norms_are_the_largest_singular_values(run):
    trends = by_kind(norm_trends(run, "spectral"))
    raw, folded = trends["W_Q", False], trends["W_Q", True]
    for layer in range(N_LAYERS):
        assert raw.norms[layer] == run[f"blocks.{layer}.W_Q"].spectral
        assert folded.norms[layer] == run[f"blocks.{layer}.W_Q"].spectral_folded
    assert folded.slope == pytest.approx(raw.slope)


def test_without_singular_values_spectral_trends_are_nan(tmp_path):
    weights = {f"blocks.{layer}.W_O": np.eye(4) for layer in range(6)}
    (trend,) = norm_trends(scanned(tmp_path, weights, spectra=0), "spectral")
    assert math.isnan(trend.slope)
    assert all(math.isnan(norm) for norm in trend.norms.values())


def test_experts_of_a_layer_give_their_median():
    several = weights_run(4)
    for entry in several.metadata["sites"]:
        if entry["weight_kind"] == "W_in":
            entry["weight_kind"] = f"experts.{entry['layer'] % 2}.W_in"
            entry["layer"] //= 2
    trends = by_kind(norm_trends(several))
    norms = [several[f"blocks.{layer}.W_in"].frobenius for layer in range(4)]
    assert trends["experts.*.W_in", False].norms == pytest.approx({0: np.mean(norms[:2]), 1: np.mean(norms[2:])})
    assert ("W_in", False) not in trends


def test_dense_layers_before_experts_are_left_out():
    several = weights_run(6)
    for entry in several.metadata["sites"]:
        if entry["weight_kind"] == "W_in" and entry["layer"] >= 2:
            entry["weight_kind"] = "experts.0.W_in"
    trends = by_kind(norm_trends(several))
    assert list(trends["experts.*.W_in", False].norms) == [2, 3, 4, 5]
    assert ("W_in", False) not in trends


@pytest.mark.parametrize("n_layers", [2, 3])
def test_a_slope_needs_three_layers_after_the_first(n_layers):
    assert all(math.isnan(trend.total_factor) for trend in norm_trends(weights_run(n_layers)))


def test_one_layer_has_no_trend():
    assert norm_trends(weights_run(1)) == []


@pytest.mark.parametrize(
    ("x", "y", "expected"),
    [
        ([1, 2, 3, 4], [10, 20, 30, 40], 1.0),
        ([1, 2, 3], [3, 2, 1], -1.0),
        ([1, 2, 3, 4], [1, 1, 2, 2], 0.8944271909999159),
    ],
)
def test_spearman(x, y, expected):
    assert spearman(np.array(x, float), np.array(y, float)) == pytest.approx(expected)


def test_spearman_without_meaning():
    assert math.isnan(spearman(np.array([1.0, 2.0]), np.array([1.0, 2.0])))
    assert math.isnan(spearman(np.arange(4.0), np.ones(4)))
