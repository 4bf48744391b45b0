"""Values whose std is small beside their size: what their codes cannot say is not said; vectors are known by entry."""

from __future__ import annotations

import csv
import json
import math

import numpy as np
import pytest
from scipy import stats

import lmfacts
from lmfacts.analysis.block_matrices import matrix_shapes
from lmfacts.export import export_run
from lmfacts.quantities.site_figures import SiteFigures
from lmfacts.render.terminal.console import to_text
from lmfacts.render.terminal.site_page import render_site
from lmfacts.render.terminal.weight_page import render_weight
from lmfacts.stats.shape import ks_mean_std, ks_median_mad, shape_statistics, weibull
from support.checkpoints import scanned
from support.synthetic_runs import residual_run

CELL = 2.0**-7
"""Width of the cells of float32 values from 1 to 2."""


def gain(n=768, seed=0):
    """1 +- 0.001."""
    return (1 + 0.001 * np.random.default_rng(seed).standard_normal(n)).astype(np.float32).astype(np.float64)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    rng = np.random.default_rng(1)
    narrow, wide = (1.5 + cells * CELL * rng.standard_normal((128, 128)) for cells in (9.7, 10.3))
    matrices = {"blocks.0.W_Q": narrow, "blocks.0.W_K": wide}
    return scanned(tmp_path_factory.mktemp("coarse"), {**matrices, "blocks.0.ln1.gain": gain()}, spectra=0)


def body_std(values):
    low, high = np.quantile(values, [0.25, 0.75], method="inverted_cdf")
    return (high - low) / 1.3489795003921634


def test_a_vector_of_weights_is_known_by_its_entries(weights):
    record, values = weights["blocks.0.ln1.gain"], gain()
    assert record.exact
    assert record.distribution.exact
    assert SiteFigures(record).body_std == pytest.approx(body_std(values), rel=1e-9)
    np.testing.assert_array_equal(
        record.quantile([0.01, 0.5, 0.99]), np.quantile(values, [0.01, 0.5, 0.99], method="inverted_cdf")
    )
    z = (values - values.mean()) / values.std()
    assert record.standardized_moment(8) == pytest.approx((z**8).mean(), rel=1e-9)
    exact = stats.kstest(values, "norm", (values.mean(), values.std())).statistic
    assert ks_mean_std(record.distribution) == pytest.approx(exact, abs=1e-4)
    assert ks_median_mad(record.distribution) == pytest.approx(exact, abs=0.02)
    page = to_text(render_weight(record, weights), 120)
    assert "float32 · exact" in page
    assert "wide, more than a tenth" not in page


def test_entries_of_a_vector_count_as_they_did(tmp_path):
    values = np.array([0.0, -0.0, 1.5, np.nan, np.inf, -np.inf, -2.0, 1e-40])
    record = scanned(tmp_path, {"ln_final.gain": values}, spectra=0)["ln_final.gain"]
    assert (record.n, record.n_nan, record.n_inf, record.n_zero, record.n_subnormal) == (5, 1, 2, 2, 1)
    assert (record.min, record.max) == (-2.0, 1.5)
    run = record.distribution.histogram(4)
    assert run[0].sum() == 5


def test_a_vector_survives_its_file(weights, tmp_path):
    weights.save(tmp_path / "w.lmfacts")
    again = lmfacts.load(tmp_path / "w.lmfacts")["blocks.0.ln1.gain"]
    assert shape_statistics(again.distribution) == shape_statistics(weights["blocks.0.ln1.gain"].distribution)


def test_a_matrix_on_both_sides_of_the_limit(weights):
    narrow, wide = weights["blocks.0.W_Q"], weights["blocks.0.W_K"]
    assert math.isnan(SiteFigures(narrow).body_std)
    assert math.isnan(SiteFigures(narrow).beyond_6)
    assert math.isnan(narrow.weibull.k)
    assert narrow.std == pytest.approx(9.7 * CELL, rel=0.02)
    assert narrow.excess_kurtosis == pytest.approx(0.0, abs=0.1)
    assert SiteFigures(wide).body_std == pytest.approx(10.3 * CELL, rel=0.08)
    assert SiteFigures(wide).beyond_6 == 0.0
    assert weibull(wide.distribution).problem is None
    shapes = {shape.matrix.name: shape.raw for shape in matrix_shapes(weights)}
    assert shapes["blocks.0.W_Q"].no_k == "the cells of the values are wider than a tenth of their std"
    assert shapes["blocks.0.W_K"].no_k is None


def test_the_page_of_a_matrix_says_why_numbers_are_missing(weights):
    said = "the cell of the median is 0.0078 wide"
    page = to_text(render_weight(weights["blocks.0.W_Q"], weights), 120)
    assert page.count(said) == 2  # of the shape, and of the families
    assert "nan" not in page
    assert said not in to_text(render_weight(weights["blocks.0.W_K"], weights), 120)


def test_the_page_of_a_matrix_of_few_values_says_why_it_has_no_k(tmp_path):
    few = 0.02 * np.round(1.5 * np.random.default_rng(2).standard_normal((96, 96)))
    run = scanned(tmp_path, {"blocks.0.W_Q": few}, spectra=0)
    page = " ".join(to_text(render_weight(run["blocks.0.W_Q"], run), 120).split())
    assert "There is no Weibull fit, since it would mean nothing: " in page
    assert "% of the values have one magnitude (" in page


@pytest.fixture(scope="module")
def activations():
    rng = np.random.default_rng(3)
    cells = {0: 9.7, 1: 10.3}
    return residual_run(
        lambda layer, positions: 1.5 + cells[layer] * CELL * rng.standard_normal((positions.size, 64)), n_layers=2
    )


def test_a_site_on_both_sides_of_the_limit(activations):
    narrow, wide = (activations[f"blocks.{layer}.resid_post"] for layer in range(2))
    assert math.isnan(SiteFigures(narrow).body_std)
    assert SiteFigures(wide).body_std == pytest.approx(10.3 * CELL, rel=0.08)
    page = to_text(render_site(narrow, activations), 120)
    assert "the cell of the median is 0.0078 wide, more than a tenth of the std" in " ".join(page.split())
    assert "nan" not in page
    assert "wide, more than a tenth" not in " ".join(to_text(render_site(wide, activations), 120).split())


def test_a_body_of_few_cells_beside_far_outliers_has_no_std_of_its_own():
    def values(_, positions):
        found = 1.5 + 0.2 * CELL * np.random.default_rng(4).standard_normal((positions.size, 64))
        found[:, 0] = 40.0
        return found

    site = residual_run(values, n_layers=1)["blocks.0.resid_post"]
    assert not site.distribution.is_coarse
    assert math.isnan(SiteFigures(site).body_std)


def test_values_that_are_mostly_zero_keep_their_std():
    def values(_, positions):
        found = np.zeros((positions.size, 64))
        found[:, :8] = np.random.default_rng(5).standard_normal((positions.size, 8))
        return found

    figures = SiteFigures(residual_run(values, n_layers=1)["blocks.0.resid_post"])
    assert figures.body_std == figures.std > 0


def test_constant_values_have_a_std_of_zero():
    figures = SiteFigures(residual_run(lambda _, p: np.full((p.size, 8), 1.5), n_layers=1)["blocks.0.resid_post"])
    assert figures.body_std == figures.std == 0.0


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_the_export_leaves_out_what_is_not_known(activations, tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    export_run(activations, path, populations="all")
    if suffix == ".csv":
        with path.open(encoding="utf-8") as file:
            rows = [(row["site"], row["statistic"], row["value"]) for row in csv.DictReader(file)]
    else:
        rows = [
            (row["site"], row["statistic"], "" if row["value"] is None else row["value"])
            for row in json.loads(path.read_text(encoding="utf-8"))["rows"]
        ]
    missing = {site: {name for at, name, value in rows if at == site and value == ""} for site, _, _ in rows}
    cells = {"body_std", "weibull_k", "beyond_3", "beyond_6", "std_over_mad", "tail_exponent", "ks_mean_std"}
    assert missing["blocks.0.resid_post"] >= cells | {"ks_median_mad"}
    assert not missing["blocks.1.resid_post"] & (cells | {"ks_median_mad"})


def test_moments_of_a_site_take_its_largest_values_as_they_are():
    rng = np.random.default_rng(6)
    values = rng.standard_t(3, size=(64, 32)).astype(np.float32).astype(np.float64)
    site = residual_run(lambda _, __: values, n_layers=1)["blocks.0.resid_post"]
    z = (values - values.mean()) / values.std()
    for order in (6, 8):
        assert site.standardized_moment(order) == pytest.approx((z**order).mean(), rel=1e-4)
