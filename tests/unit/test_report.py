"""What reports say about runs, plain and odd."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys

import numpy as np
import pytest
from rich.cells import cell_len

from lmfacts.analysis.outlier_dims_by_depth import outlier_dims_by_depth
from lmfacts.analysis.run_view import RunView
from lmfacts.render.terminal.console import REDIRECTED_WIDTH, result_console, to_text
from lmfacts.render.terminal.example_run import PLANTED, example_run
from lmfacts.render.terminal.json_documents import site_json, summary_json
from lmfacts.render.terminal.site_page import render_site
from lmfacts.render.terminal.summary import render_summary
from lmfacts.run import Run
from lmfacts.run.state import SiteState
from support import oracle
from support.synthetic_runs import gaussian_run, residual_run, tokens

N_LAYERS = 12


@pytest.fixture(scope="module")
def run():
    return example_run(n_layers=N_LAYERS)


@pytest.fixture(scope="module")
def text(run):
    return to_text(render_summary(run), 200)


def run_of(sites, **metadata):
    """A run of named sites from raw values [64, dims], in 4 sequences of 16 tokens."""
    states = {
        name: SiteState.from_native(
            oracle.site_state(oracle.store(values, "float32"), dtype="float32", **tokens(4, 16))
        )
        for name, values in sites.items()
    }
    return Run(
        {
            "kind": "activations",
            "model": {"id": "synthetic"},
            "n_sequences": 4,
            "n_tokens": 64,
            "sites": [{"name": name} for name in sites],
            **metadata,
        },
        states,
    )


def gaussian(seed=0, n_dims=8):
    return np.random.default_rng(seed).normal(size=(64, n_dims))


def unreached():
    """The state of a site that no token reached."""
    state = oracle.site_state(oracle.store(np.empty((0, 0)), "float32"), dtype="float32")
    return SiteState.from_native({**state, "dtype": "", "n_dims": 0})


# The summary


def test_planted_outlier_dims_are_named_with_their_depths(text):
    for dim in PLANTED:
        assert re.search(rf"^ +{dim} +10 of 12 ", text, re.MULTILINE), dim
    told = " ".join(text.split())
    assert "3 outlier dims persist (at 75 % of 10 depths or more, without the first and the last): 13, 44, 71." in told


def test_outlier_dims_as_data(run):
    found = outlier_dims_by_depth(RunView(run), "rest")
    assert [item.dim for item in found.dims] == [71, 44, 13]
    assert found.persistent == (13, 44, 71)
    assert found.counted_layers == tuple(range(1, N_LAYERS - 1))
    for item in found.dims:
        assert item.persistence == 1.0
        assert item.layers == tuple(range(1, N_LAYERS - 1))
        assert np.sign(item.peak_mean) == np.sign(PLANTED[item.dim])
        assert abs(item.peak_mean_over_rms) > 0.9


def test_position_0_is_shown_where_it_differs(text, run):
    assert "position 0 of each sequence, which is shown separately" in text
    assert f"{run['blocks.3.resid_post'].first.min:,.0f}" in text


def test_position_0_is_not_shown_where_it_is_like_the_rest():
    written = to_text(render_summary(gaussian_run(n_layers=2, n_sequences=40, n_dims=16)), 200)
    assert "Position 0 is like them" in written
    assert "─ position 0 ─" not in written


def test_newline_token_is_visible(text):
    assert re.search(r"\+181\.\d +71 +'\\n' ", text)


def test_a_gaussian_run_looks_gaussian():
    run = gaussian_run(n_layers=2, n_sequences=16, n_positions=64, n_dims=16)
    written = to_text(render_summary(run), 200)
    assert "no outlier dim at any of 2 depths" in written
    assert "◂▁" not in written


def test_norm_chart_has_the_growth_of_the_geometric_mean():
    run = residual_run(lambda layer, at: np.full((at.size, 4), 2.0 * 3.0**layer), n_layers=3)
    written = to_text(render_summary(run), 120)
    assert re.search(r"^ +2 +█+ +36\.0 +3\.00x", written, re.MULTILINE)
    assert "median 3.00x, 9.00x from the first to the last" in " ".join(written.split())


@pytest.mark.parametrize("width", [40, 60, 80, 100, 120, 160, 200])
def test_no_line_is_too_wide_and_no_row_is_wrapped(run, width):
    written = to_text(render_summary(run), width)
    assert max(map(cell_len, written.splitlines())) <= width
    for section, n_rows in (
        ("Residual stream by depth", N_LAYERS),
        ("Norm of the residual", N_LAYERS),
        ("All sites", 3),
    ):
        table = written.split(f"\n{section}", 1)[1].split("\n\n")[1].splitlines()
        headings = next(i for i, line in enumerate(table) if re.match(r" +(layer|kind) ", line))
        assert len(table) - headings - 1 == n_rows, section


def test_columns_are_left_out_and_not_cut(run):
    written = to_text(render_summary(run), 80)
    assert "  median dim" not in written
    assert "…" not in written


def test_many_layers_are_thinned_out():
    written = to_text(render_summary(gaussian_run(n_layers=90)), 120)
    assert "40 of 90 depths are shown" in written
    assert len(written.splitlines()) < 160


# Problems


def test_nan_is_loud_and_the_first_site_is_named():
    values = gaussian()
    values[3, 2] = values[9, 5] = np.nan
    later = gaussian(1)
    later[7, 7] = -np.inf
    run = run_of({"blocks.0.resid_post": gaussian(2), "blocks.1.mlp_out": values, "blocks.1.resid_post": later})
    written = to_text(render_summary(run), 120)
    assert (
        "NaN or infinities at 2 sites: first, by depth, at blocks.1.mlp_out (2 NaN, 0 infinities, in 2 dims)" in written
    )
    assert "then at blocks.1.resid_post" in " ".join(written.split())
    assert "1 infinities" in to_text(render_site(run["blocks.1.resid_post"], run), 120)


def test_an_incomplete_run_is_loud():
    run = gaussian_run(metadata={"complete": False, "incomplete_reason": "interrupted after 3 of 10 batches."})
    written = to_text(render_summary(run), 120)
    assert "NOT COMPLETE: interrupted after 3 of 10 batches\n" in written
    assert "NOT COMPLETE" in to_text(render_site(run["blocks.0.resid_post"], run), 120)


def test_sites_that_were_never_reached_are_named():
    reached = run_of({"blocks.0.resid_post": gaussian()})
    states = {"blocks.0.resid_post": reached["blocks.0.resid_post"].state, "blocks.1.mlp_out": unreached()}
    run = Run({**reached.metadata, "sites": [{"name": name} for name in states]}, states)
    written = to_text(render_summary(run), 120)
    assert "1 site was never reached: blocks.1.mlp_out." in written
    assert "no values" in written
    assert "No token reached this site" in to_text(render_site(run["blocks.1.mlp_out"], run), 120)
    assert summary_json(run)["problems"]["never_reached"] == ["blocks.1.mlp_out"]
    assert site_json(run["blocks.1.mlp_out"], run)["populations"] == {}


def test_copies_and_notes_are_mentioned():
    run = gaussian_run(metadata={"coverage": {"blocks.0.resid_post": {"n_copies": 7}}, "notes": ["about embed"]})
    written = to_text(render_summary(run), 120)
    assert "7 tensors had to be copied" in written
    assert "Note: about embed" in written


# Odd runs


def test_a_run_where_nothing_was_recorded():
    run = Run({"kind": "activations", "model": {}, "sites": [{"name": "embed"}]}, {"embed": unreached()})
    assert "Nothing was recorded" in to_text(render_summary(run), 80)
    assert json.dumps(summary_json(run), allow_nan=False)


def test_a_run_without_sites():
    run = Run({"kind": "activations", "model": {}, "sites": []}, {})
    assert "Nothing was recorded" in to_text(render_summary(run), 80)
    assert summary_json(run)["sites"] == []


def test_a_run_of_one_site():
    run = run_of({"blocks.3.resid_post": gaussian()})
    assert re.search(r"^ +3 +", to_text(render_summary(run), 80), re.MULTILINE)
    assert json.dumps(summary_json(run), allow_nan=False)


def test_a_run_of_module_paths():
    run = run_of(
        {f"model.layers.{layer}.mlp.down_proj:in": gaussian(layer) for layer in range(5)} | {"lm_head:out": gaussian(9)}
    )
    written = to_text(render_summary(run), 120)
    assert re.search(r"model\.layers\.\*\.mlp\.down_proj:in +5 ", written)
    assert "lm_head:out" in written
    assert "of all sites" in written
    assert "Residual stream" not in written


def test_a_run_of_first_tokens_only():
    places = tokens(8, 1)
    state = oracle.site_state(oracle.store(gaussian()[:8], "float32"), dtype="float32", **places)
    run = Run(
        {"kind": "activations", "model": {"id": "m"}, "sites": [{"name": "blocks.0.resid_post"}]},
        {"blocks.0.resid_post": SiteState.from_native(state)},
    )
    written = to_text(render_summary(run), 120)
    assert "All tokens." in written
    assert "position 0" not in written
    assert "all tokens" in to_text(render_site(run["blocks.0.resid_post"], run), 120)
    assert list(summary_json(run)["sites"][0]["figures"]) == ["all"]


@pytest.mark.parametrize("value", [0.0, 1.5, np.nan, np.inf, 1e-40, 3e38])
def test_sites_of_one_value(value):
    run = run_of({"blocks.0.resid_post": np.full((64, 4), value), "blocks.1.resid_post": gaussian(n_dims=4)})
    for width in (80, 200):
        assert to_text(render_summary(run), width)
        assert to_text(render_site(run["blocks.0.resid_post"], run), width)
    assert json.dumps(summary_json(run), allow_nan=False)
    assert json.dumps(site_json(run["blocks.0.resid_post"], run), allow_nan=False)


def test_residual_sites_of_different_widths():
    run = run_of({"blocks.0.resid_post": gaussian(n_dims=4), "blocks.1.resid_post": gaussian(n_dims=6)})
    written = to_text(render_summary(run), 120)
    assert "Residual stream by depth" in written
    assert "Outlier dims" not in written


def test_tokens_are_never_markup(text):
    assert "'[bold]'" in text
    assert r"'\u200b'" in text
    assert "' 文字'" in text


# One site


def test_site_page_has_every_part(run):
    site = run["blocks.6.resid_post"]
    written = to_text(render_site(site.rest, run), 120)
    for expected in (
        "transformer.h.6",
        "blocks.7.resid_pre",
        "linear counts",
        "log counts",
        f"{site.rest.mean:.6f}",
        f"{site.rest.std:.5f}",
        "13, 44, 71",
        r"'\n'",
        "position 0",
    ):
        assert expected in written


def test_quantiles_say_whether_they_are_exact():
    values = {
        dtype: residual_run(lambda _, at: gaussian()[: at.size], n_layers=1, dtype=dtype)
        for dtype in ("bfloat16", "float32")
    }
    written = {dtype: to_text(render_site(run["blocks.0.resid_post"], run), 120) for dtype, run in values.items()}
    rows = {dtype: re.findall(r"^ +0\.25 .*", page, re.MULTILINE)[0] for dtype, page in written.items()}
    assert "exact" in rows["bfloat16"]
    assert re.search(r"0\.00\d", rows["float32"])
    assert "Exact values." in written["bfloat16"]


# JSON


def test_summary_json_has_the_figures(run):
    document = json.loads(json.dumps(summary_json(run), allow_nan=False))
    assert [site["name"] for site in document["sites"]] == list(run)
    site = next(site for site in document["sites"] if site["name"] == "blocks.6.resid_post")
    record = run["blocks.6.resid_post"].rest
    figures = site["figures"]["rest"]
    assert figures["std"] == pytest.approx(record.std, rel=1e-12)
    assert figures["excess_kurtosis"] == pytest.approx(record.excess_kurtosis, rel=1e-10)
    assert figures["largest"] == record.outliers["value"][0]
    assert figures["largest_dim"] == record.outliers["dim"][0] == 71
    assert figures["n"] == record.n
    assert document["outlier_dims"]["rest"]["persistent"] == [13, 44, 71]
    assert document["largest"]["rest"][0]["token"] == "\n"
    assert [point["label"] for point in document["norms"]] == [str(layer) for layer in range(N_LAYERS)]
    assert document["norms"][0]["growth"] is None


def test_site_json_has_the_arrays(run):
    document = json.loads(json.dumps(site_json(run["blocks.6.resid_post"].first, run), allow_nan=False))
    assert set(document["populations"]) == {"rest", "first", "all"}
    rest, record = document["populations"]["rest"], run["blocks.6.resid_post"].rest
    np.testing.assert_array_equal(rest["dims"]["rms"], record.dims.rms)
    assert sum(rest["histogram"]["counts"]) + rest["histogram"]["n_below"] + rest["histogram"]["n_above"] == record.n
    assert sum(rest["octaves"]["counts"]) == record.n
    assert rest["outlier_dims"]["RMS > 5 x median RMS"] == [13, 44, 71]
    assert all(q["low"] <= q["value"] <= q["high"] for q in rest["quantiles"])


# Consoles


def test_redirected_output_is_wide_and_has_no_trailing_blanks(run, monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    file = io.StringIO()
    console = result_console(file)
    assert console.width == REDIRECTED_WIDTH
    console.print(render_summary(run))
    lines = file.getvalue().splitlines()
    assert max(map(len, lines)) > 100
    assert not any(line != line.rstrip() for line in lines)
    assert "\x1b" not in file.getvalue()


def test_columns_no_color_and_force_color(run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "97")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("FORCE_COLOR", "1")
    file = io.StringIO()
    result_console(file).print(render_summary(run))
    assert "\x1b[" in file.getvalue()
    monkeypatch.setenv("NO_COLOR", "1")
    plain = io.StringIO()
    console = result_console(plain)
    assert console.width == 97
    console.print(render_summary(run))
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", plain.getvalue())


def test_an_encoding_without_block_characters_is_survived(run):
    raw = io.BytesIO()
    file = io.TextIOWrapper(raw, encoding="ascii")
    result_console(file).print(render_summary(run))
    file.flush()
    assert b"Outlier dims" in raw.getvalue()


# Costs


def test_reports_import_neither_torch_nor_transformers():
    code = (
        "import sys\n"
        "from lmfacts.render.terminal import json_documents, live, summary\n"
        "assert not {'torch', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize(
    "module", ["lmfacts.render.terminal.blocks", "lmfacts.render.terminal.summary", "lmfacts.render.terminal.site_page"]
)
def test_demonstrations_run(module):
    done = subprocess.run([sys.executable, "-m", module], check=True, capture_output=True, text=True)
    assert "▇" in done.stdout
