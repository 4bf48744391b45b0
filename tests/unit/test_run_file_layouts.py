"""How run files lay out their arrays: those of every schema are read, and say the same."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from lmfacts.errors import RunFileCorruptError, RunFileError
from lmfacts.run import Run, load
from support.run_files import arrays_of, assert_same, document_of, use_all
from support.synthetic_runs import gaussian_run
from support.synthetic_weights import weights_run


@pytest.fixture
def path(tmp_path):
    return gaussian_run(n_layers=3).save(tmp_path / "a.lmfacts")


def test_names_of_the_arrays(path):
    assert set(load_file(path)) == {f"sites/blocks.{layer}.resid_post" for layer in range(3)}
    names = set(arrays_of(path))
    assert {"blocks.1.resid_post/rest/moments", "blocks.1.resid_post/first/codes"} <= names
    assert not any(name.endswith("unit_sums") for name in names)


def test_arrays_of_a_site_are_packed_with_it(tmp_path):
    run = weights_run(1)
    path = run.save(tmp_path / "w.lmfacts")
    assert set(load_file(path)) == {f"sites/{name}" for name in run}
    assert "blocks.0.W_Q/singular_values" in arrays_of(path)


def test_a_file_takes_less_than_half_of_what_it_holds(tmp_path):
    run = gaussian_run(n_layers=2, n_dims=512)
    held = sum(array.nbytes for site in run.values() for _, array in site.state.arrays())
    assert run.save(tmp_path / "a.lmfacts").stat().st_size < 0.45 * held


GOLDEN = Path(__file__).parents[1] / "golden" / "run_files"


@pytest.mark.parametrize("kind", ["activations", "weights"])
def test_files_of_every_schema_are_read(kind, tmp_path):
    old, new = GOLDEN / f"{kind}_schema_1.lmfacts", GOLDEN / f"{kind}_schema_2.lmfacts"
    assert [document_of(path)["schema"] for path in (old, new)] == [1, 2]
    first, second = load(old), load(new)
    assert {**first.metadata, "schema": 2} == second.metadata
    for name in first:
        assert first[name].state.to_native() == second[name].state.to_native()
    held = [{name: array.tobytes() for name, array in run.extra_arrays.items()} for run in (first, second)]
    assert held[0] == held[1]
    assert bool(held[0]) == (kind == "weights")
    again = first.save(tmp_path / "again.lmfacts")
    assert_same(load(again), second)


def test_what_old_files_say():
    site = load(GOLDEN / "activations_schema_1.lmfacts")["blocks.0.resid_post"]
    assert (site.n_tokens, site.n_dims, site.dtype) == (64, 8, "float32")
    assert site.std == pytest.approx(1.00967, rel=1e-5)
    assert site.outliers["value"][0] == pytest.approx(-3.89942, rel=1e-5)
    weight = load(GOLDEN / "weights_schema_1.lmfacts")["blocks.0.W_Q"]
    assert weight.spectral == pytest.approx(0.825985, rel=1e-5)


def test_a_file_of_schema_1_with_other_arrays_than_it_promises(tmp_path):
    path = tmp_path / "old.lmfacts"
    stored = load_file(GOLDEN / "activations_schema_1.lmfacts")
    document = json.dumps(document_of(GOLDEN / "activations_schema_1.lmfacts"))
    for name, changed in (("codes", None), ("moments", np.ones((6, 3))), ("counts", np.ones(3, np.float32))):
        tensors = dict(stored)
        tensors["blocks.0.resid_post/rest/" + name] = changed
        save_file({k: v for k, v in tensors.items() if v is not None}, path, metadata={"lmfacts": document})
        with pytest.raises(RunFileCorruptError, match=f"the array blocks.0.resid_post/rest/{name} is"):
            load(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda tensors: tensors.pop("sites/blocks.1.resid_post"), r"sites/blocks\.1\.resid_post is missing"),
        (lambda tensors: tensors.update({"sites/blocks.9.resid_post": np.ones(3, np.uint8)}), "belongs to no site"),
        (
            lambda tensors: tensors.update({"sites/blocks.1.resid_post": np.ones(3)}),
            r"float64 \[3\], expected uint8",
        ),
        (lambda tensors: tensors.update({"sites/blocks.1.resid_post": np.ones(30, np.uint8)}), "are damaged"),
    ],
)
def test_tensors_that_contradict_the_document(path, change, reason):
    tensors = load_file(path)
    document = json.dumps(document_of(path))
    change(tensors)
    save_file(tensors, path, metadata={"lmfacts": document})
    with pytest.raises(RunFileCorruptError, match=reason):
        use_all(path)


@pytest.mark.parametrize("name", ["mask", "blocks.0.resid_post/mask"])
@pytest.mark.parametrize(
    "array",
    [np.float32(3.0), np.zeros((0, 5)), np.arange(6.0).reshape(2, 3).T, np.ones(3, bool), np.arange(3, dtype=">i4")],
)
def test_further_arrays_keep_their_shapes(tmp_path, name, array):
    run = gaussian_run(n_layers=1)
    with_array = Run(run.metadata, {site: run[site].state for site in run}, {name: np.asarray(array)})
    kept = load(with_array.save(tmp_path / "a.lmfacts")).extra_arrays[name]
    assert kept.shape == np.shape(array)
    assert kept.tolist() == np.asarray(array).tolist()


@pytest.mark.parametrize("array", [np.array(["text"]), np.array([None])])
def test_arrays_that_hold_no_numbers_are_refused(tmp_path, array):
    run = gaussian_run(n_layers=1)
    states = {site: run[site].state for site in run}
    with pytest.raises(RunFileError, match=r"Cannot write .*words: expected numbers"):
        Run(run.metadata, states, {"blocks.0.resid_post/words": array}).save(tmp_path / "a.lmfacts")
    assert not list(tmp_path.iterdir())
