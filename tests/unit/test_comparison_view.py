"""A comparison on the screen and as a document, where the golden files do not show it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from lmfacts.comparison import compare
from lmfacts.report.comparison_json import comparison_json
from lmfacts.report.comparison_sites import ranges, ratio_text
from lmfacts.report.comparison_view import render_comparison
from lmfacts.report.console import to_text
from support.synthetic_runs import gaussian_run, residual_run
from support.synthetic_weights import weights_run


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (1.0, "0"),
        (1.1, "+10 %"),
        (0.97, "-3.0 %"),
        (1.0000001, "~0"),
        (3.4, "3.40x"),
        (0.01, "0.0100x"),
        (0.0, "0x"),
        (math.nan, "-"),
    ],
)
def test_ratios(ratio, text):
    assert ratio_text(ratio) == text


def test_ranges():
    assert ranges([]) == ""
    assert ranges([3]) == "3"
    assert ranges([4, 0, 1, 2, 9, 8, 2]) == "0-2, 4, 8-9"


def text(a, b, width=100, **options):
    return to_text(render_comparison(compare(a, b), **options), width)


def test_nothing_changed():
    shown = text(gaussian_run(), gaussian_run())
    assert "Nothing: no number that is compared differs at any of 3 sites." in shown
    assert "Changed most" not in shown
    assert "by kind" not in shown
    assert "The same at every depth" in shown


def test_no_difference_beyond_rounding():
    shown = text(gaussian_run(n_sequences=64), gaussian_run(n_sequences=64, dtype="bfloat16"))
    assert "No difference beyond rounding at any of 3 sites." in shown
    assert "float32 in A and bfloat16 in B" in shown
    assert "Changed most" not in shown


def test_as_many_sites_as_asked_for():
    a, b = gaussian_run(n_layers=9, n_dims=16), gaussian_run(n_layers=9, n_dims=16, seed=1)
    shown = text(a, b, top=2)
    order = [site.name for site in compare(a, b).by_effect]
    most = shown.split("Changed most")[1].split("All sites by kind")[0]
    assert [name for name in order if name in most] == order[:2]
    assert "and 7 more with smaller effects" in most


@pytest.mark.parametrize("width", [40, 80, 100, 140])
def test_no_line_is_wider_than_the_screen(width):
    weights = weights_run(3), weights_run(3, extra={"blocks.1.W_O": np.ones((48, 48)), "extra.bias": np.zeros(5)})
    odd = [
        residual_run(lambda layer, at, f=f: np.outer(f + np.arange(at.size), [0.0, 1e-30, 1e30]) * layer, n_layers=2)
        for f in (0.0, 1.0)
    ]
    for a, b in (weights, odd, (gaussian_run(), gaussian_run(seed=2))):
        assert max(map(len, text(a, b, width).splitlines())) <= width


def hollow(value):
    return residual_run(lambda _layer, at: np.full((at.size, 8), value), n_layers=3)


@pytest.mark.parametrize(
    "values", [(0.0, 0.0), (0.0, 1.0), (1.0, 0.0), (math.nan, 1.0), (1.0, math.inf), (math.nan,) * 2]
)
def test_sites_of_one_value(values):
    a, b = map(hollow, values)
    shown = text(a, b)
    assert "What changed" in shown
    assert "nan" not in shown.replace("nance", "").lower().replace("nan or infinities", "")
    document = json.loads(json.dumps(comparison_json(compare(a, b)), allow_nan=False))
    assert document["n_sites"] == 3


def test_markup_in_names_is_printed_as_it_is():
    model = {"model": {"id": "[bold]model[/bold]"}}
    assert "[bold]model[/bold]" in text(gaussian_run(metadata=model), gaussian_run(metadata=model))


def test_the_document():
    a = gaussian_run(n_dims=16, metadata={"token_hash": "x"})
    b = gaussian_run(n_dims=16, metadata={"token_hash": "y"}, seed=3)
    found = compare(a, b)
    document = json.loads(json.dumps(comparison_json(found), allow_nan=False))
    assert document["document"] == "lmfacts.comparison"
    assert document["version"] == 1
    assert document["caveats"] == list(found.caveats)
    assert [site["name"] for site in document["sites"]] == [site.name for site in found.by_effect]
    first, expected = document["sites"][0], found.by_effect[0]
    assert first["effect"] == document["largest_effect"] == expected.effect
    assert first["decided_by"] == expected.decided_by.key
    assert {item["key"] for item in first["differences"]} >= {"levy", "wasserstein", "std", "dim_scale", "dim_mean"}
    assert first["ks"] == expected.distances.ks
    assert first["dims"][0]["log_rms_ratio"] == expected.dims[0].log_rms_ratio
    assert first["weight"] is None
    assert len(document["norms"]) == 3
    assert document["facts"][0]["id"] == "F1"
    assert document["facts"][0]["a"]["verdict"] == str(found.facts[0].a.verdict)


def test_the_document_of_weights():
    document = comparison_json(compare(weights_run(2), weights_run(3)))
    json.dumps(document, allow_nan=False)
    assert document["only_b"]
    assert document["n_identical"] == document["n_sites"] - document["n_changed"]
    sites = {site["name"]: site for site in document["sites"]}
    assert sites["blocks.1.W_O"]["weight"]["shape"] == [48, 48]
    assert sites["blocks.1.W_O"]["weight"]["spectral_ratio"] == 1
    assert sites["ln_final.gain"]["decided_by"] == "relative_change"
    kinds = {norm["kind"]: norm for norm in document["weight_norms"]}
    assert kinds["W_O"]["frobenius_a"] == kinds["W_O"]["frobenius_b"]
    assert kinds["W_O"]["layers"] == [0, 1]
