"""Figures: what they show of runs whose answers are known, and of runs that have little to show."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from lmfacts.charts.chart import Cells, EndLabels, Line, Rule
from lmfacts.charts.colors import HEAT
from lmfacts.charts.densities import Body, law_density, log_edges, share_text
from lmfacts.charts.heat_map import heat_map, step_keys
from lmfacts.charts.kinds import kind_color
from lmfacts.facts import CATALOGUE, Inputs
from lmfacts.facts.definition import Definition
from lmfacts.facts.runs_view import RunsView, evenly_chosen
from lmfacts.render.page.draw import draw
from lmfacts.render.page.model_name import model_name
from lmfacts.stats.distribution import Distribution
from lmfacts.stats.laws import fit_families
from support import oracle
from support.accumulated_runs import accumulated_run
from support.synthetic_runs import residual_run
from support.synthetic_weights import N_DIMS, weights_run


def view_of(*runs):
    return RunsView(Inputs.of(runs))


def figures_of(fact_id, view):
    return CATALOGUE[fact_id].figures(view)


def alts(fact_id, *runs):
    return {chart.name: chart.alt for figure in figures_of(fact_id, view_of(*runs)) for chart in figure.charts}


def distribution_of(values, dtype="bfloat16"):
    stored = oracle.store(np.reshape(values, (-1, 1)), dtype)
    codes, counts = np.unique(oracle.code_of(stored, dtype), return_counts=True)
    return Distribution(codes.astype(np.uint16), counts, dtype), oracle.widen(stored, dtype).ravel()


RNG = np.random.default_rng(0)


def planted(layer, _sequence, position):
    """24 Gaussian dims; dim 5 large everywhere, dim 7 at the first token, all growing by 10 % per layer."""
    values = np.random.default_rng(layer + 10).normal(size=(position.size, 24))
    values[:, 5] += 30.0
    values[position == 0, 7] = 400.0
    return values * 1.1 ** (layer + 1)


@pytest.fixture(scope="module")
def run():
    return accumulated_run(planted, n_layers=12, n_sequences=16, n_positions=32)


# Densities


def test_densities_are_the_shares_of_values_in_bins():
    distribution, values = distribution_of(RNG.normal(size=20_000))
    body = Body.of(distribution)
    edges = np.linspace(-3, 3, 13)
    # Bins that end where a cell of the histogram does hold whole values only.
    edges = np.array([body.cells.edges[np.searchsorted(body.cells.edges, body.center + e * body.scale)] for e in edges])
    expected = np.histogram(values, edges)[0] / values.size / np.diff(edges)
    t = (edges - body.center) / body.scale
    np.testing.assert_allclose(body.densities(t) / body.scale, expected, rtol=1e-9)


def test_a_body_is_in_units_of_median_and_mad():
    distribution, values = distribution_of(np.concatenate([3.0 + 0.5 * RNG.normal(size=50_000), np.full(50, 1e4)]))
    body = Body.of(distribution)
    assert body.center == pytest.approx(3.0, abs=0.02)
    assert body.scale == pytest.approx(0.5, rel=0.03)
    assert body.beyond(100.0) == pytest.approx(50 / values.size, rel=1e-6)
    assert body.farthest() == pytest.approx((1e4 - body.center) / body.scale, rel=0.01)
    assert body.quantiles(np.array([0.5]))[0] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("values", [[], [1.0], [2.0] * 100, [1.0, 2.0]])
def test_values_without_a_body(values):
    assert Body.of(distribution_of(np.array(values))[0]) is None


@pytest.mark.parametrize("draw", ["normal", "logistic", "laplace", "standard_t"])
def test_densities_of_fitted_laws_are_scipys(draw):
    options = {"df": 4} if draw == "standard_t" else {}
    distribution, _ = distribution_of(2.0 + 3.0 * getattr(RNG, draw)(size=20_000, **options))
    x = np.linspace(-10, 14, 49)
    for fit in fit_families(distribution):
        np.testing.assert_allclose(law_density(fit, x), scipys_density(fit, x), rtol=1e-9)


def scipys_density(fit, x):
    of, at = fit.parameters, fit.parameters["location"]
    match fit.name:
        case "Gaussian":
            return stats.norm.pdf(x, at, of["scale"])
        case "logistic":
            return stats.logistic.pdf(x, at, of["scale"])
        case "Laplace":
            return stats.laplace.pdf(x, at, of["scale"])
        case "Student-t":
            return stats.t.pdf(x, of["nu"], at, of["scale"])
        case "generalized normal":
            return stats.gennorm.pdf(x, of["beta"], at, of["scale"])
    wide = stats.norm.pdf(x, at, of["wide_scale"])
    return of["weight"] * stats.norm.pdf(x, at, of["scale"]) + (1 - of["weight"]) * wide


def test_bins_of_logarithmic_panels_adjoin_and_mirror():
    edges = log_edges()
    assert (np.diff(edges) > 0).all()
    np.testing.assert_allclose(edges, -edges[::-1], atol=1e-12)
    assert edges[-1] == pytest.approx(12.0)


def test_shares_in_words():
    assert [share_text(value) for value in (0.0045, 0.5, 2e-6)] == ["0.45 %", "50 %", "2e-6"]


# What figures say of planted values


def test_outlier_dims_are_named(run):
    found = alts("F2", run)
    assert "1 dim is an outlier dim somewhere, and 1 persists (5); dim 5 up to 3" in found["f2-depth-rest"]
    assert "2 dims are outlier dims" in found["f2-depth-first"]
    assert re.search(
        r"layer \d+: 1 of 24 dims above 5 times the median; the largest are 5 at \d+", found["f2-dims-rest"]
    )
    assert "the largest are 7 at" in found["f2-dims-first"]


def test_a_dim_has_one_color_in_all_charts(run):
    (figure,) = figures_of("F2", view_of(run))
    colors = [
        {color for mark in chart.marks if isinstance(mark, EndLabels) for name, _, color in mark.labels if name == "5"}
        for chart in figure.charts
        if chart.name.startswith("f2-depth")
    ]
    assert colors == [{"blue"}] * 2


def test_the_largest_values_are_found(run):
    found = alts("F3", run)
    largest = 400.0 * 1.1**12
    assert f"largest |x| at position 0 is at most {largest:,.0f}" in found["f3-depth"]
    assert "16 sequences goes from 1,255 down to 1,255; the coefficient of variation is" in found["f3-sequences"]


def test_the_mean_cosine_is_that_over_all_pairs(run):
    values = planted(11, None, np.tile(np.arange(32), 16))[np.tile(np.arange(32), 16) > 0].astype(np.float32)
    units = values / np.linalg.norm(values.astype(float), axis=1, keepdims=True)
    cosines = units @ units.T
    mean = (cosines.sum() - np.trace(cosines)) / (len(units) * (len(units) - 1))
    assert f"to {mean:.3f} at layer 11" in alts("F5", run)["f5-cosine"]


def test_the_kurtosis_of_one_large_dim():
    run = residual_run(lambda _layer, position: np.tile([8.0, *[1.0] * 767], (position.size, 1)), n_layers=3)
    expected = 768 * (8**4 + 767) / (8**2 + 767) ** 2
    assert f"largest at layer 0, {expected:.2f}" in alts("F6", run)["f6-depth"]


def test_the_growth_of_the_norm(run):
    found = alts("F7", run)
    assert "a factor of 1.10" in found["f7-depth"]
    assert "median 1.10" in found["f7-factor"]


def test_no_growth_is_fitted_to_a_few_layers():
    found = alts("F7", accumulated_run(planted, n_layers=4))
    assert "fitted" not in found["f7-depth"]


def test_dims_that_reach_six_are_those_of_the_inputs_of_projections(run):
    assert alts("F4", run) == {}  # the residual stream is none


def test_values_without_outlier_dims_are_drawn_apart(run):
    figure = figures_of("F1", view_of(run))[0]
    assert "values without outlier dims" in [key.label for key in figure.keys]
    old = accumulated_run(planted, n_layers=12, blocks=False)
    assert "values without outlier dims" not in [key.label for key in figures_of("F1", view_of(old))[0].keys]


def test_gaussian_values_lie_on_the_diagonal():
    run = accumulated_run(lambda layer, _, p: np.random.default_rng(layer + 1).normal(size=(p.size, 64)), n_layers=5)
    told = alts("F1", run)["f1-qq"]
    found = [float(value) for value in re.findall(r"([\d.]+) at layer", told)]
    assert found == pytest.approx([3.09] * 5, abs=0.15)


def test_maps_have_a_cell_for_each_matrix():
    rows = {"W_O": {0: 0.05, 1: 5.0, 2: 1000.0}, "W_in": {0: 0.2, 2: np.nan}}
    steps = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
    chart = heat_map("m", "Map", rows, steps, HEAT, alt="")
    assert {mark.color for mark in chart.marks if isinstance(mark, Cells)} == {f"heat-{step}" for step in (0, 1, 4, 8)}
    long = heat_map("m", "Map", {"W" * 300: {0: 1.0}}, (0.5,), HEAT[:2], alt="")
    assert "WWW…<" in draw(long)
    assert step_keys((-0.1, 1.0)) == ["below \N{MINUS SIGN}0.1", "\N{MINUS SIGN}0.1 to 1", "above 1"]


def test_weights_of_one_kind_have_one_color():
    assert kind_color("W_O") == kind_color("experts.*.W_O") == kind_color("expert W_O") != kind_color("W_in")
    assert kind_color("something") == "gray"


def test_norms_that_grow_and_norms_that_do_not():
    found = alts("F10", weights_run())
    assert f"W_out changes by a factor of {1.07**10:.2f}" in found["f10-writing"]
    assert "W_in changes by a factor of 0.4" in found["f10-reading"]
    assert re.search(r"W_in changes by a factor of (0\.9|1\.)", found["f10-reading-folded"])


def test_the_final_gains_name_their_extremes():
    gains = np.ones(N_DIMS)
    gains[3], gains[40] = -2.0, 7.5
    told = alts("F9", weights_run(extra={"ln_final.gain": gains}))["f9-final"]
    assert "from -2.00 at dim 3 to 7.50 at dim 40" in told


def test_spectra_are_held_against_noise():
    run = weights_run()
    weight = run["blocks.6.W_in"]
    sigma = weight.frobenius / np.sqrt(96 * 48)
    ratio = weight.singular_values[0] / (sigma * (np.sqrt(96) + np.sqrt(48)))
    assert f"is {ratio:.2f} times the edge" in alts("F11", run)["f11-W-in"]


# What the page calls things


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("HuggingFaceTB/SmolLM2-135M", "HuggingFaceTB/SmolLM2-135M"),
        ("demo", "demo"),
        ("/home/me/models/tiny.gguf", "tiny.gguf"),
        ("/home/me/models/tiny/", "tiny"),
        ("./models/tiny", "tiny"),
        ("~/tiny", "tiny"),
        (r"C:\models\tiny", "tiny"),
    ],
)
def test_a_model_is_named_without_saying_where_its_files_are(given, shown):
    assert model_name(given) == shown


@pytest.mark.parametrize(
    ("n", "expected"),
    [(0, []), (1, [0]), (2, [0, 1]), (4, [0, 1, 2, 3]), (12, [0, 3, 6, 8, 11]), (30, [0, 7, 14, 22, 29])],
)
def test_depths_are_spread_evenly(n, expected):
    assert evenly_chosen(list(range(n))) == expected


# Little to show


def odd_runs():
    random = np.random.default_rng(1)

    def of(values, **options):
        return residual_run(values, n_layers=options.pop("n_layers", 3), unit_sums=True, **options)

    return {
        "zeros": of(lambda _, p: np.zeros((p.size, 8))),
        "constant": of(lambda _, p: np.full((p.size, 8), 2.5)),
        "NaN": of(lambda _, p: np.full((p.size, 8), np.nan)),
        "some NaN": of(
            lambda _, p: np.where(random.random((p.size, 8)) < 0.2, np.nan, random.normal(size=(p.size, 8)))
        ),
        "infinite": of(
            lambda _, p: np.where(random.random((p.size, 8)) < 0.2, np.inf, random.normal(size=(p.size, 8)))
        ),
        "one token": of(lambda _, p: random.normal(size=(p.size, 8)), n_layers=1, n_sequences=1, n_positions=1),
        "one dim": of(lambda _, p: random.normal(size=(p.size, 1))),
        "two values": of(lambda _, p: random.choice([-1.0, 1.0], size=(p.size, 8))),
        "huge": of(lambda _, p: 1e30 * random.normal(size=(p.size, 8)) ** 5),
        "tiny": of(lambda _, p: 1e-30 * random.normal(size=(p.size, 8))),
        "a dead layer": of(lambda layer, p: random.normal(size=(p.size, 8)) * (layer != 1)),
        "one block": weights_run(1),
        "dead weights": weights_run(
            3,
            extra={
                "blocks.1.W_in": np.zeros((96, 48)),
                "blocks.0.W_V": np.full((48, 48), 0.5),
                "ln_final.gain": np.ones(48),
            },
        ),
    }


ODD = odd_runs()


@pytest.mark.parametrize("fact_id", CATALOGUE)
@pytest.mark.parametrize("name", ODD)
def test_odd_runs_have_figures_without_nonsense_or_none(name, fact_id):
    for figure in figures_of(fact_id, view_of(ODD[name])):
        assert figure.charts
        for chart in figure.charts:
            assert "nan" not in re.sub(r"<text.*?</text>", "", draw(chart)).lower()
            assert not re.search(r"\b(nan|inf)\b", chart.alt)


def test_a_run_without_a_residual_stream_has_none_of_its_figures():
    run = residual_run(lambda _, p: RNG.normal(size=(p.size, 4)), n_layers=2)
    entries = [
        {**entry, "name": entry["name"].replace("resid_post", "mlp_out"), "aliases": []}
        for entry in run.metadata["sites"]
    ]
    states = {entry["name"]: run._states[f"blocks.{layer}.resid_post"] for layer, entry in enumerate(entries)}
    other = type(run)({**run.metadata, "sites": entries}, states)
    assert all(figures_of(fact_id, view_of(other)) == [] for fact_id in CATALOGUE)


def test_facts_without_figures_have_none():
    assert replace(CATALOGUE["F1"], figures=Definition.figures).figures(view_of(ODD["zeros"])) == []


def test_charts_are_data(run):
    """Who reads a figure finds the numbers that it shows, thresholds among them."""
    chart = next(chart for figure in figures_of("F5", view_of(run)) for chart in figure.charts)
    (line,) = (mark for mark in chart.marks if isinstance(mark, Line))
    sites = view_of(run).residual
    assert line.x.tolist() == list(sites)
    assert line.y.tolist() == [float(site.unit_sums.cosine_contributions.sum()) for site in sites.values()]
    assert (chart.x.label, chart.x.ticks, chart.y.scale) == ("layer", "whole", "linear")
    assert [mark.y for mark in chart.marks if isinstance(mark, Rule)] == [0.2]
