"""A run as a mapping over its sites, and the metadata it accepts."""

from __future__ import annotations

import math
import weakref
from pathlib import Path

import numpy as np
import pytest

from lmfacts.errors import SiteNotFoundError, UsageError
from lmfacts.run import Run, load
from support.synthetic_runs import gaussian_run
from support.synthetic_weights import weights_run


@pytest.fixture
def run():
    return gaussian_run(
        n_layers=3,
        metadata={
            "absent": {"blocks.0.resid_mid": "the block is parallel."},
            "coverage": {"blocks.0.resid_post": {"n_calls": 2, "n_tokens": 64, "n_copies": 0}},
            "token_text": {7: " the", 38: "\ud800 ünïcode \n"},
            "settings": {"k": 64, "pack": True},
            "contexts": [1, 2],
        },
    )


def test_a_run_is_a_mapping_over_sites(run):
    assert list(run) == ["blocks.0.resid_post", "blocks.1.resid_post", "blocks.2.resid_post"]
    assert len(run) == 3
    assert "blocks.1.resid_post" in run
    assert "blocks.1.resid_pre" in run
    assert "blocks.3.resid_post" not in run
    assert run["blocks.1.resid_pre"] is run["blocks.0.resid_post"]
    assert run["blocks.0.resid_post"].aliases == ("blocks.1.resid_pre",)
    assert run["blocks.0.resid_post"].module_path == "transformer.h.0"
    assert [site.name for site in run.values()] == list(run)
    assert run.get("nothing") is None
    assert run.resolve("blocks.2.resid_pre") == "blocks.1.resid_post"
    assert run.layers_of("resid_pre") == {1: "blocks.0.resid_post", 2: "blocks.1.resid_post"}
    assert run.layers_of("mlp_out") == {}
    assert "blocks.1.resid_pre" in run._ipython_key_completions_()
    assert hash(run) == hash(run)
    assert run == run  # noqa: PLR0124  identity is the point
    assert run != gaussian_run()


def test_an_unknown_site_names_the_closest_or_says_why(run):
    with pytest.raises(SiteNotFoundError, match=r"closest names: .*blocks\.1\.resid_post"):
        run["blocks.1.resid_pst"]
    with pytest.raises(SiteNotFoundError, match=r"has no blocks\.0\.resid_mid: the block is parallel\.$"):
        run["blocks.0.resid_mid"]
    with pytest.raises(SiteNotFoundError, match="has no site"):
        run.resolve("zzz")


def test_what_a_run_says_of_itself(run):
    assert (run.kind, run.n_tokens, run.n_sequences, run.complete, run.incomplete_reason) == (
        "activations",
        64,
        4,
        True,
        None,
    )
    assert run.tokens == {7: " the", 38: "\ud800 ünïcode \n"}
    assert run.model["id"] == "synthetic"
    assert run.settings == {"k": 64, "pack": True}
    assert run.coverage["blocks.0.resid_post"]["n_calls"] == 2
    assert run.absent == {"blocks.0.resid_mid": "the block is parallel."}
    assert run.metadata["contexts"] == [1, 2]
    assert run.metadata["schema"] == 2
    assert (run.tokenizer, run.corpus, run.machine, run.timing) == ({}, {}, {}, {})
    assert repr(run).startswith("Run of synthetic (activations): 3 sites, 64 tokens in 4 sequences, complete\n")
    assert "..." in repr(gaussian_run(n_layers=5))


def test_a_run_of_weights_has_tensors_and_read_no_tokens():
    run = weights_run(n_layers=1)
    assert f"(weights): {len(run)} weights, complete\n" in repr(run)


def test_entries_follow_from_the_states(run):
    entry = run.metadata["sites"][0]
    assert entry["n_tokens"] == {"first": 4, "rest": 60}
    assert (entry["dtype"], entry["n_dims"], entry["k"], entry["threshold"]) == ("float32", 8, 64, 6.0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "dreams"}, "kind is a string .'dreams'., expected one of activations"),
        ({"n_tokens": "many"}, r"n_tokens is a string \('many'\), expected a whole number, 0 or more"),
        ({"complete": 1}, r"complete is an integer \(1\), expected true or false"),
        ({"corpus": {"loss": math.nan}}, "JSON"),
        ({"corpus": {"bytes": b"x"}}, "JSON"),
        ({"token_text": {"x": "y"}}, "token id"),
        ({"token_text": {"1": 2}}, "expected a string"),
        ({"n_sequences": -1}, "n_sequences is an integer"),
        ({"sites": []}, "other sites"),
        ({"sites": [{}]}, "objects with a name"),
        ({"model": None}, "model is null, expected an object"),
    ],
)
def test_metadata_that_is_not_valid_is_refused(run, change, message):
    with pytest.raises(UsageError, match=message):
        Run({**run.metadata, **change}, {name: run[name].state for name in run})


def test_metadata_that_is_missing_or_double_is_refused(run):
    states = {name: run[name].state for name in run}
    for key in ("kind", "model", "sites"):
        with pytest.raises(UsageError, match=f"lacks {key}"):
            Run({k: v for k, v in run.metadata.items() if k != key}, states)
    entries = [{**entry, "aliases": ["same"]} for entry in run.metadata["sites"]]
    with pytest.raises(UsageError, match="two sites are named 'same'"):
        Run({**run.metadata, "sites": entries}, states)


def test_metadata_takes_numpy_scalars_and_paths(run):
    made = Run(
        {**run.metadata, "n_tokens": np.int64(5), "corpus": {"path": Path("x.txt"), "share": np.float32(0.5)}},
        {name: run[name].state for name in run},
    )
    assert made.n_tokens == 5
    assert made.corpus == {"path": "x.txt", "share": 0.5}


def test_a_walk_over_the_sites_does_not_hold_them_all(run, tmp_path):
    loaded = load(run.save(tmp_path / "a.lmfacts"))
    site = loaded["blocks.0.resid_post"]
    assert loaded["blocks.0.resid_post"] is site
    gone = weakref.ref(loaded["blocks.1.resid_post"])
    assert gone() is None
