"""A comparison on the screen and as a document, where the golden files do not show it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from lmfacts.comparison import compare
from lmfacts.render.terminal.comparison_json import comparison_json
from lmfacts.render.terminal.comparison_sites import ranges, ratio_text
from lmfacts.render.terminal.comparison_view import render_comparison
from lmfacts.render.terminal.console import to_text
from support.accumulated_runs import accumulated_run
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


SAME = {"metadata": {"token_hash": "the same"}}


def test_nothing_changed():
    shown = text(gaussian_run(), gaussian_run())
    assert "Nothing: no number that is compared differs at any of 3 sites." in shown
    assert "Changed most" not in shown
    assert "by kind" not in shown
    assert "The same at every depth" in shown


def test_no_difference_beyond_rounding():
    shown = text(gaussian_run(n_sequences=64, **SAME), gaussian_run(n_sequences=64, dtype="bfloat16", **SAME))
    assert "No difference beyond rounding at any of 3 sites." in shown
    assert "float32 in A and bfloat16 in B" in shown
    assert "Changed most" not in shown


def test_as_many_sites_as_asked_for():
    a, b = (gaussian_run(n_layers=9, n_dims=16, seed=seed, **SAME) for seed in (0, 1))
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


def test_outlier_dims_of_different_text_are_said_to_be_open():
    def run(seed, text):
        scales = np.exp(1.5 * np.random.default_rng(seed).normal(size=64))
        return residual_run(
            lambda _, at: np.random.default_rng(9).normal(size=(at.size, 64)) * scales,
            n_layers=1,
            metadata={"token_hash": text},
        )

    same = text(run(0, "a"), run(1, "a"))
    other = text(run(0, "a"), run(1, "b"))
    open_question = "How many of them the text alone explains cannot be judged."
    assert open_question not in " ".join(same.split())
    assert open_question in " ".join(other.split())
    sections = [
        shown.split("Outlier dims gained and lost")[1].split("Norm of the residual")[0] for shown in (same, other)
    ]
    counts = [section.count(" gained ") + section.count(" lost ") for section in sections]
    assert counts[0] > counts[1] == 5


def test_markup_in_names_is_printed_as_it_is():
    model = {"model": {"id": "[bold]model[/bold]"}}
    assert "[bold]model[/bold]" in text(gaussian_run(metadata=model), gaussian_run(metadata=model))


def test_the_document():
    a, b = (gaussian_run(n_dims=16, metadata={"token_hash": "x"}, seed=seed) for seed in (0, 3))
    found = compare(a, b)
    document = json.loads(json.dumps(comparison_json(found), allow_nan=False))
    assert document["document"] == "lmfacts.comparison"
    assert document["version"] == 2
    assert document["paired"] is True
    assert document["caveats"] == list(found.caveats)
    assert [site["name"] for site in document["sites"]] == [site.name for site in found.by_effect]
    first, expected = document["sites"][0], found.by_effect[0]
    assert first["effect"] == document["largest_effect"] == expected.effect
    assert first["noise"] == 0
    assert first["decided_by"] == expected.decided_by.key
    assert {item["key"] for item in first["differences"]} >= {"levy", "wasserstein", "std", "dim_scale", "dim_mean"}
    assert all(item["excess"] == item["size"] * item["counts"] for item in first["differences"])
    assert first["ks"] == expected.distances.ks
    assert first["dims"][0]["log_rms_ratio"] == expected.dims[0].log_rms_ratio
    assert first["weight"] is None
    assert len(document["norms"]) == 3
    assert document["facts"][0]["id"] == "F1"
    assert document["facts"][0]["a"]["verdict"] == str(found.facts[0].a.verdict)


def of_other_text(seed, **options):
    """A run of another text, whose blocks are kept by codes."""
    return gaussian_run(seed=seed, n_dims=16, n_sequences=16, metadata={"token_hash": str(seed)}, **options)


def test_the_document_of_different_text():
    found = compare(of_other_text(0, blocks=True, detail=True), of_other_text(1, blocks=True, detail=True))
    document = json.loads(json.dumps(comparison_json(found), allow_nan=False))
    assert document["paired"] is False
    assert (document["n_judged"], document["n_changed"], document["largest_effect"]) == (3, 0, 0)
    site = next(site for site in document["sites"] if site["name"] == "blocks.1.resid_post")
    by_key = {item["key"]: item for item in site["differences"]}
    assert site["judged"] is True
    assert site["decided_by"] is None
    assert site["noise"] in {item["noise"] for item in by_key.values()}
    for key in ("levy", "wasserstein", "mean", "std"):
        assert 0 < by_key[key]["size"] < by_key[key]["noise"]
        assert by_key[key]["judged"] is True
        assert by_key[key]["excess"] == 0
    for key in ("dim_scale", "dim_mean"):
        assert by_key[key]["noise"] is None
        assert by_key[key]["judged"] is by_key[key]["counts"] is False
        assert by_key[key]["size"] > 0

    document = comparison_json(compare(of_other_text(0), of_other_text(1)))
    json.dumps(document, allow_nan=False)
    assert (document["n_judged"], document["n_changed"], document["largest_effect"]) == (0, 0, None)
    assert document["median_effect"] is None
    assert {site["effect"] for site in document["sites"]} == {site["noise"] for site in document["sites"]} == {None}


def test_same_and_different_text_on_the_screen():
    paired = text(gaussian_run(**SAME), gaussian_run(seed=1, **SAME))
    assert "paired: both runs read the same text" in paired
    assert "3 of 3 sites changed. The largest effect is" in paired
    assert "noise" not in paired

    a, b = (of_other_text(seed, blocks=True, detail=True) for seed in (0, 1))
    within = text(a, b)
    assert "paired" not in within
    assert "No difference beyond the noise of different text at any of 3 sites." in within
    assert "Nearest to noise" in within
    assert "Changed most" not in within
    assert "Within the noise of different text at every depth." in within
    assert " ".join(within.split()).count("What cannot be judged counts as no change: differences of single dims.") == 1

    rngs = [np.random.default_rng(seed) for seed in (0, 1)]
    all_known = text(*(accumulated_run(lambda _, at, __, rng=rng: rng.normal(size=(at.size, 8))) for rng in rngs))
    assert "On different text a difference counts by its excess" in all_known
    assert "cannot be judged" not in all_known

    unknown = text(of_other_text(0), of_other_text(1))
    assert "What changed cannot be judged at any of 3 sites without the same text." in unknown
    assert "at these sites, for which fewer than 8 blocks of sequences are kept, and of single dims." in " ".join(
        unknown.split()
    )
    assert " ".join(unknown.split()).count("What cannot be judged") == 1
    assert "not judged" not in unknown  # where it is every site, a sentence says so
    assert "how much of that the text does is not known." in " ".join(unknown.split())


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
