"""What reports say about runs of weights, plain and odd."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
import time
from functools import cache

import numpy as np
import pytest
from rich.cells import cell_len
from rich.console import Console

from lmfacts.analysis.weights_view import WeightsView
from lmfacts.quantities.catalogue import json_figures
from lmfacts.quantities.weight_figures import Spread, WeightFigures
from lmfacts.render.terminal.console import STANDOUT, to_text
from lmfacts.render.terminal.notable import distance_from_gaussian, is_notable
from lmfacts.render.terminal.weight_page import render_weight
from lmfacts.render.terminal.weights_json import weight_json, weights_summary_json
from lmfacts.render.terminal.weights_summary import render_weights_summary
from lmfacts.run import load
from support.synthetic_weights import GIANT, WIDE_COLUMN, weights_run

N_LAYERS = 12


@pytest.fixture(scope="module")
def run():
    return weights_run(N_LAYERS)


@pytest.fixture(scope="module")
def text(run):
    return to_text(render_weights_summary(run), 200)


@cache
def deep_run(n_layers):
    return weights_run(n_layers)


def row_of(text, section, start):
    """The line of a section that begins with a word."""
    part = text[text.index(f"\n{section} ") :]
    return next(line for line in part.splitlines() if line.startswith(f"  {start} "))


# The summary


def test_the_header_says_what_was_measured_and_what_was_not(text):
    assert "12 layers" in text
    assert "231,984 parameters" in text
    assert "73 matrices · 25 vectors" in text
    assert "lm_head.weight is embed.W_E" in text
    assert "rotary.position_ids: int64 is not a floating-point type" in text


def test_planted_giant_and_wide_column_are_named(text):
    row, column = GIANT[1]
    kurtosis = row_of(text, "Farthest from a Gaussian", "excess kurtosis")
    assert f"{GIANT[0]}  one value, -2.50 at [{row}, {column}]" in kurtosis
    assert f"-2.50 at [{row}, {column}]" in row_of(text, "Farthest from a Gaussian", "largest |z|")
    wide = row_of(text, "Farthest from a Gaussian", "RMS, input dim")
    assert f"{WIDE_COLUMN[0]}  input dim {WIDE_COLUMN[1]}:" in wide


def test_kinds_have_their_own_rows_with_the_worst_layer(text, run):
    found = row_of(text, "Matrices by kind", "W_O")
    assert re.match(r"  W_O +12 +48 x 48 ", found)
    worst = max(range(N_LAYERS), key=lambda layer: abs(run[f"blocks.{layer}.W_O"].excess_kurtosis))
    assert f" {worst} " in found
    assert row_of(text, "Vectors by kind: gains and biases", "b_Q").split()[-3] == "0.99"


@pytest.mark.parametrize("width", [40, 80, 100, 120, 160, 200])
@pytest.mark.parametrize("n_layers", [1, 2, 12, 48])
def test_no_line_is_wider_than_the_console(width, n_layers):
    run = deep_run(n_layers)
    drawn = to_text(render_weights_summary(run), width)
    assert max(cell_len(line) for line in drawn.splitlines()) <= width
    if width >= 80:
        assert "…" not in row_of(drawn, "Matrices by kind", "W_Q")


def test_every_layer_of_a_sparkline_is_drawn_or_in_a_stretch():
    deep = to_text(render_weights_summary(deep_run(48)), 80)
    assert "Of each 2 layers or fewer, the farthest." in " ".join(deep.split())
    series = row_of(deep, "Distance from a Gaussian by depth", "W_V").split()
    assert len(series[1]) == 24
    wide = to_text(render_weights_summary(deep_run(48)), 200)
    assert len(row_of(wide, "Distance from a Gaussian by depth", "W_V").split()[1]) == 48


def test_what_stands_out_is_in_color(run):
    console = Console(width=200, color_system="standard", force_terminal=True, record=True, file=open("/dev/null", "w"))  # noqa: SIM115, PTH123  closed with the process
    console.print(render_weights_summary(run))
    segments = [s for s in console._record_buffer if s.style is not None and s.style.color is not None]
    colored = {s.text.strip() for s in segments if s.style.color.name == STANDOUT}
    assert any(text.startswith("+1,1") for text in colored)  # the giant's kurtosis
    assert not any(text.startswith("+0.1") for text in colored)
    console.file.close()


def test_experts_of_a_layer_are_one_kind():
    rng = np.random.default_rng(1)
    extra = {f"blocks.{layer}.experts.{i}.W_in": rng.normal(size=(8, 6)) for layer in range(3) for i in range(4)}
    view = WeightsView(weights_run(3, extra=extra))
    group = next(group for group in view.matrices if "experts" in group.kind)
    assert group.kind == "experts.*.W_in"
    assert len(group.figures) == 12
    assert list(group.by_layer("std")) == [0, 1, 2]


def test_a_tensor_without_a_role_keeps_its_name(run):
    odd = weights_run(2, extra={"extra.mixer": np.random.default_rng(0).normal(size=(9, 7))})
    assert "extra.mixer" in to_text(render_weights_summary(odd), 120)
    assert "named by its parameter" in to_text(render_weight(odd["extra.mixer"], odd), 120)


# Figures


def test_spread():
    spread = Spread.of(np.array([3.0, math.nan, 0.0, 9.0, 3.0]))
    assert (spread.smallest_at, spread.largest_at, spread.n_zero) == (2, 3, 1)
    assert spread.ratio == 3.0
    assert Spread.of(np.empty(0)).largest_at == -1


def test_distances_have_the_gaussian_as_their_center():
    assert distance_from_gaussian("weibull_k", 1.2054) == 0
    assert distance_from_gaussian("excess_kurtosis", math.nan) == -1
    assert is_notable("weibull_k", 1.1)
    assert not is_notable("weibull_k", 1.19)


def test_largest_is_in_terms_of_out_and_in(run):
    for name in ("blocks.3.W_out", "blocks.3.W_in"):
        values, rows, columns = run[name].largest
        assert rows.max() < run[name].shape[0]
        assert columns.max() < run[name].shape[1]
        assert (np.abs(values)[:-1] >= np.abs(values)[1:]).all()
        # A row's RMS is at least what its largest value alone gives.
        least = np.abs(values) / math.sqrt(run[name].shape[1])
        assert (run[name].row_rms[rows] >= least * (1 - 1e-6)).all()
        assert (run[name].column_rms[columns] >= np.abs(values) / math.sqrt(run[name].shape[0]) * (1 - 1e-6)).all()


def test_vectors_have_no_figures_of_matrices(run):
    figures = WeightFigures(run["ln_final.gain"])
    assert math.isnan(figures.weibull_k)
    assert math.isnan(figures.edge_ratio)
    assert "row_ratio" not in json_figures(figures, "weights")


# One weight


@pytest.mark.parametrize("width", [40, 80, 120, 200])
@pytest.mark.parametrize("name", ["blocks.0.W_O", "blocks.3.W_out", "embed.W_E", "ln_final.gain", "blocks.1.b_Q"])
def test_pages_fit(run, width, name):
    drawn = to_text(render_weight(run[name], run), width)
    assert max(cell_len(line) for line in drawn.splitlines()) <= width


def test_page_of_a_matrix(run):
    drawn = to_text(render_weight(run["blocks.0.W_O"], run), 120)
    for title in (
        "Distribution",
        "Moments and shape",
        "Families of laws",
        "Rows and columns",
        "Largest values",
        "Spectrum",
    ):
        assert f"\n{title} ─" in drawn
    assert "48 out x 48 in · 2,304 weights" in drawn
    assert "input dims" in row_of(drawn, "Rows and columns", "input")
    fits = row_of(drawn, "Spectrum", "body").split()
    assert fits[2] == "-0.400"  # the given exponent
    assert fits[4] == "1.0000"


def test_page_of_a_vector(run):
    drawn = to_text(render_weight(run["blocks.1.b_Q"], run), 120)
    assert "Spectrum" not in drawn
    assert "Rows and columns" not in drawn
    assert float(row_of(drawn, "Moments and shape", "bimodality").split()[1]) > 0.9
    assert "values beyond 3 std" in drawn


def test_tied_names_are_told_from_the_parameter(run):
    drawn = to_text(render_weight(run["lm_head.weight"], run), 120)
    assert re.search(r"^  tied +lm_head.weight$", drawn, re.MULTILINE)


ODD = {
    "nan": np.where(np.arange(48).reshape(8, 6) == 13, math.nan, np.arange(48.0).reshape(8, 6)),
    "infinite": np.where(np.arange(48).reshape(8, 6) == 13, math.inf, np.arange(48.0).reshape(8, 6)),
    "all_nan": np.full((4, 3), math.nan),
    "zero": np.zeros((8, 6)),
    "constant": np.full((8, 6), 2.5),
    "two": np.where(np.arange(48).reshape(8, 6) % 2, 1.0, -1.0),
    "row": np.random.default_rng(0).normal(size=(1, 50)),
    "column": np.random.default_rng(0).normal(size=(50, 1)),
    "one": np.array([[3.0]]),
    "one_of_a_vector": np.array([3.0]),
    "zero_row": np.random.default_rng(0).normal(size=(8, 6)) * (np.arange(8) != 3)[:, None],
    "tiny": 1e-40 * np.random.default_rng(0).normal(size=(8, 6)),
    "huge": 1e38 * np.random.default_rng(0).uniform(-1, 1, size=(8, 6)),
    "ones": np.ones(16),
    "vector_with_nan": np.array([1.0, math.nan, 2.0, 3.0, -1.0]),
}


@pytest.mark.parametrize("name", list(ODD))
def test_odd_weights_break_nothing(name):
    run = weights_run(1, extra={f"blocks.0.extra_{name}": ODD[name]})
    weight = run[f"blocks.0.extra_{name}"]
    for width in (80, 200):
        drawn = to_text(render_weights_summary(run), width) + to_text(render_weight(weight, run), width)
        assert max(cell_len(line) for line in drawn.splitlines()) <= width
        assert not re.search(r"\bnan\b", drawn.replace(f"extra_{name}", "").replace("vector_with_nan", ""))
    json.dumps(weights_summary_json(run), allow_nan=False)
    json.dumps(weight_json(weight, run), allow_nan=False)
    if name in ("nan", "infinite", "all_nan"):
        assert "infinities in blocks.0.extra_" in to_text(render_weights_summary(run), 200)
    if name in ("zero", "constant"):
        assert f"All values are equal in blocks.0.extra_{name}." in to_text(render_weights_summary(run), 200)


# JSON


def test_summary_document(run):
    document = weights_summary_json(run)
    json.dumps(document, allow_nan=False)
    assert document["document"] == "lmfacts.weights_summary"
    assert [entry["name"] for entry in document["weights"]] == list(run)
    giant = next(kind for kind in document["kinds"] if kind["kind"] == "W_O")
    assert giant["excess_kurtosis"]["worst_weight"] == GIANT[0]
    assert {trend["kind"] for trend in document["norms"]} == {"W_O", "W_out", "W_Q", "W_K", "W_V", "W_in"}


def test_weight_document(run):
    document = weight_json(run["blocks.2.W_O"], run)
    json.dumps(document, allow_nan=False)
    assert (document["largest"][0]["row"], document["largest"][0]["column"]) == GIANT[1]
    assert document["spectrum"]["body"]["slope"] == pytest.approx(-0.4, abs=1e-6)
    assert len(document["families"]) == 6
    vector = weight_json(run["ln_final.gain"], run)
    assert vector["spectrum"] is None
    assert vector["scaled"] is None
    assert len(vector["values"]) == 48


def test_a_saved_run_reads_the_same(run, text, tmp_path):
    loaded = load(run.save(tmp_path / "w.lmfacts"))
    again = to_text(render_weights_summary(loaded), 200)
    assert re.sub(r"\n  file .*", "", again) == text


# Cost


def test_summary_of_a_large_run_is_quick():
    run = weights_run(37)
    assert len(run) > 295
    start = time.process_time()
    to_text(render_weights_summary(run), 200)
    assert time.process_time() - start < 2.5  # 0.3 s on an idle core


def test_no_torch():
    code = (
        "import sys\n"
        "from lmfacts.render.terminal import weight_page, weights_json, weights_summary\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
