"""SmolLM2-135M: facts, explanations, report, comparison and tables from one run of activations and one of weights."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys

import numpy as np
import pytest

import lmfacts
from lmfacts.facts import CATALOGUE, Verdict
from support.smollm import gguf_path

pytestmark = pytest.mark.real_model


def command(*arguments):
    done = subprocess.run(
        [sys.executable, "-m", "lmfacts", *map(str, arguments)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("smollm")
    activations, weights = folder / "activations.lmfacts", folder / "weights.lmfacts"
    lmfacts.scan(gguf_path(), seq_len=128, max_tokens=2048, batch_size=4, out=activations)
    lmfacts.scan_weights(gguf_path(), spectra=600).save(weights)
    return activations, weights


@pytest.fixture(scope="module")
def facts(runs):
    done = command("facts", *runs, "--json")
    assert done.returncode == 0, done.stderr
    return {fact["id"]: fact for fact in json.loads(done.stdout)["facts"]}


def test_every_fact_has_a_verdict(facts):
    assert list(facts) == list(CATALOGUE)
    assert {fact["verdict"] for fact in facts.values()} <= set(Verdict)
    assert not [fact["id"] for fact in facts.values() if fact["verdict"] == "NOT-APPLICABLE"]


def test_what_is_known_of_this_model_is_found(facts):
    # test_smollm.py finds its outlier dims with NumPy; its first token carries a massive activation.
    assert facts["F2"]["verdict"] == "HOLDS"
    assert "(247, 308, 371, 507)" in facts["F2"]["summary"]
    assert (facts["F3"]["verdict"], facts["F3"]["class"]) == ("HOLDS", "massive")
    assert "dim 507, position 0" in facts["F3"]["summary"]
    assert (facts["F6"]["verdict"], facts["F6"]["class"]) == ("HOLDS", "strong")
    assert facts["F5"]["class"] == "rogue"
    # 4-bit weights are far from Gaussian entry by entry, and less so once scales are divided out.
    assert facts["F8"]["verdict"] == "FAILS"


def test_all_facts_can_be_explained(runs):
    done = command("facts", *runs, "--explain", "all")
    assert done.returncode == 0, done.stderr
    for entry in CATALOGUE.values():
        assert entry.title in done.stdout


def test_requirements_set_the_exit_code(runs):
    assert command("facts", *runs, "--require", "F2").returncode == 0
    failed = command("facts", *runs, "--require", "F2", "--require", "F8")
    assert failed.returncode == 4
    assert "F8" in failed.stderr
    assert "F2" not in failed.stderr


def test_the_report_has_every_fact_and_needs_nothing_else(runs, tmp_path):
    page = tmp_path / "report.html"
    done = command("report", *runs, "-o", page)
    assert done.returncode == 0, done.stderr
    text = page.read_text(encoding="utf-8")
    for entry in CATALOGUE.values():
        assert entry.title in text
    assert text.count("<svg") >= 10
    assert "<script" not in text
    assert "<link" not in text
    assert 'src="http' not in text
    assert command("report", *runs, "-o", tmp_path / "report.md").returncode == 0


def test_the_largest_values_are_those_of_the_dims_and_not_of_what_was_kept(runs):
    # At the last block more than three dims are larger than all but the 64 largest values.
    activations, _ = runs
    done = command("show", activations, "--json")
    assert done.returncode == 0, done.stderr
    largest = json.loads(done.stdout)["largest"]["rest"]
    run = lmfacts.load(activations)
    stream = ["embed", *run.layers_of("resid_post").values()]
    absmax = np.stack([run[name].rest.dims.absmax for name in stream])
    order = np.argsort(-absmax.max(axis=0), kind="stable")[: len(largest)]
    assert [item["dim"] for item in largest] == order.tolist()
    assert [abs(item["value"]) for item in largest] == absmax.max(axis=0)[order].tolist()
    assert [item["site"] for item in largest] == [stream[row] for row in absmax.argmax(axis=0)[order]]
    for item in largest:
        record = run[item["site"]].rest
        found = record.largest_of_dims
        assert found is not None
        keys = ("value", "sequence", "position", "token_id")
        assert [item[key] for key in keys] == [of_dims[item["dim"]].item() for of_dims in found]
    # Two of the first eight are not among those 64, and have their tokens all the same.
    crowded_out = {item["dim"] for item in largest[:8] if item["dim"] not in run[item["site"]].rest.outliers["dim"]}
    assert {31, 322} <= crowded_out
    assert all(item["token"] for item in largest[:8])


def test_a_run_against_itself_has_no_difference(runs):
    activations, _ = runs
    done = command("compare", activations, activations, "--threshold", "0", "--require-same-facts")
    assert done.returncode == 0, done.stderr


def test_tables_hold_what_the_run_holds(runs, tmp_path):
    activations, _ = runs
    assert command("export", activations, "-o", tmp_path / "t.csv").returncode == 0
    run = lmfacts.load(activations)
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        rows = {(row["site"], row["population"], row["statistic"]): row["value"] for row in csv.DictReader(file)}
    for site in ("blocks.7.resid_post", "blocks.29.mlp_post", "embed"):
        assert float(rows[site, "rest", "std"]) == run[site].rest.std
