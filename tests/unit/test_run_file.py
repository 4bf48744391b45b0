"""Writing and reading run files, and every way in which that can go wrong."""

from __future__ import annotations

import copy
import json
import multiprocessing
import os
import pickle
import re
import struct
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file

from lmfacts.errors import (
    LmfactsError,
    RunFileCorruptError,
    RunFileError,
    RunFileVersionError,
    UsageError,
)
from lmfacts.files import safetensors_view
from lmfacts.files.atomic import replacing
from lmfacts.files.destination import check_destination
from lmfacts.run import Run, load
from lmfacts.run.file import RunFile
from lmfacts.run.schema import metadata_problem
from lmfacts.run.state import SiteState
from support.run_files import assert_same, rewrite, use_all
from support.synthetic_runs import gaussian_run, residual_run
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


@pytest.fixture
def path(run, tmp_path):
    return run.save(tmp_path / "a.lmfacts")


# What goes in comes out


def test_a_run_comes_back_bit_for_bit(run, path):
    loaded = load(path)
    assert_same(loaded, run)
    assert loaded.path == path
    assert run.path is None


@settings(max_examples=25, deadline=None)
@given(
    options=st.fixed_dictionaries(
        {
            "seed": st.integers(0, 2**32 - 1),
            "dtype": st.sampled_from(["bfloat16", "float16", "float32", "float64"]),
            "n_layers": st.integers(0, 3),
            "n_dims": st.integers(1, 5),
            "n_sequences": st.integers(0, 3),
            "unit_sums": st.booleans(),
        }
    ),
    corpus=st.dictionaries(st.text(), st.text() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)),
)
def test_any_run_comes_back_bit_for_bit(tmp_path_factory, options, corpus):
    run = gaussian_run(**options, metadata={"corpus": corpus})
    path = tmp_path_factory.mktemp("runs") / "any.lmfacts"
    assert_same(load(run.save(path)), run)


def test_the_same_run_gives_the_same_bytes(run, path, tmp_path):
    again = load(path).save(tmp_path / "b.lmfacts")
    assert again.read_bytes() == path.read_bytes()


def test_a_file_can_be_saved_over_itself(run, path):
    load(path).save(path)
    assert_same(load(path), run)


def test_a_site_that_was_never_reached_is_kept(tmp_path):
    kept = ("outliers", "token_norms", "unit_sums")
    empty = {"dtype": "", "n_dims": 0, "k": 64, "threshold": 6.0, "statistics": kept}
    empty |= {"first/n_tokens": 0, "rest/n_tokens": 0}
    state = SiteState.from_native(empty)
    metadata = {"kind": "activations", "model": {}, "sites": [{"name": "embed"}], "complete": False}
    loaded = load(Run(metadata, {"embed": state}).save(tmp_path / "empty.lmfacts"))
    assert loaded["embed"].n_tokens == 0
    assert loaded["embed"].state.to_native() == state.to_native()
    assert "incomplete (no reason given)" in repr(loaded)


def test_unknown_keys_and_arrays_are_kept(run, path, tmp_path):
    def extend(document):
        document["future"] = {"a": [1, None]}
        document["sites"][0]["future"] = "b"

    further = {
        "arrays/future/array": np.arange(5.0),
        "arrays/mask": np.ones(3, bool),
        "blocks.0.resid_post/rest/future": np.arange(3, dtype=np.float32),
    }
    rewrite(path, extend, lambda arrays: arrays.update(further))
    loaded = load(load(path).save(tmp_path / "b.lmfacts"))
    assert loaded.extra_arrays["blocks.0.resid_post/rest/future"].tolist() == [0, 1, 2]
    assert loaded.metadata["future"] == {"a": [1, None]}
    assert loaded.metadata["sites"][0]["future"] == "b"
    assert loaded.extra_arrays["future/array"].tolist() == [0, 1, 2, 3, 4]
    assert loaded.extra_arrays["mask"].tolist() == [True] * 3
    assert Run(run.metadata, dict(loaded._states), {"x": np.ones(2)}).extra_arrays["x"].tolist() == [1, 1]


# What happens to the file of a run that is open


@pytest.mark.parametrize("damage", ["overwritten", "cut short", "deleted", "replaced"])
def test_a_run_that_is_open_survives_its_file(run, path, damage):
    loaded = load(path)
    early = loaded["blocks.0.resid_post"]
    if damage == "overwritten":
        with path.open("rb+") as file:
            file.write(b"\xff" * path.stat().st_size)
    elif damage == "cut short":
        os.truncate(path, 100)
    elif damage == "deleted":
        path.unlink()
    else:
        gaussian_run(seed=1).save(path)
    assert_same(loaded, run)
    assert early.state.to_native() == run["blocks.0.resid_post"].state.to_native()
    assert_same(load(loaded.save(path)), run)


def test_a_file_that_somebody_writes_to_is_refused(path, monkeypatch):
    status = os.fstat

    def growing(descriptor):
        with path.open("ab") as file:
            file.write(b"x")
        return status(descriptor)

    monkeypatch.setattr(os, "fstat", growing)
    with pytest.raises(RunFileCorruptError, match="it is being written to"):
        load(path)


# Copies


def copied(run):
    yield pickle.loads(pickle.dumps(run))
    yield copy.deepcopy(run)
    yield copy.copy(run)


def test_a_run_and_its_sites_can_be_pickled_and_copied(run, path):
    for original in (run, load(path)):
        in_use = original["blocks.0.resid_post"]
        assert in_use.first.std > 0  # what was computed goes along
        for other in copied(original):
            assert_same(other, run)
            assert other.path == original.path
            assert other["blocks.1.resid_pre"] is other["blocks.0.resid_post"]
        for site in copied(in_use):
            assert site.name == in_use.name
            assert site.state.to_native() == in_use.state.to_native()
            assert (site.std, site.first.std) == (in_use.std, in_use.first.std)


def test_a_run_of_weights_can_be_pickled_and_copied(tmp_path):
    run = weights_run(1)
    for original in (run, load(run.save(tmp_path / "w.lmfacts"))):
        for other in copied(original):
            assert_same(other, run)
            assert {k: v.tobytes() for k, v in other.extra_arrays.items()} == {
                k: v.tobytes() for k, v in run.extra_arrays.items()
            }
        for weight in copied(original["blocks.0.W_Q"]):
            assert weight.scaled.excess_kurtosis == run["blocks.0.W_Q"].scaled.excess_kurtosis
            assert weight.spectral == run["blocks.0.W_Q"].spectral
        assert len(pickle.dumps(original["blocks.0.W_Q"])) < len(pickle.dumps(original)) / 4


def test_a_run_goes_to_another_process(path, run):
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert_same(pool.submit(copy.copy, load(path)).result(), run)


# Files that are no run files


def test_no_such_file(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no run file .*gone\.lmfacts"):
        load(tmp_path / "gone.lmfacts")


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "it is empty"),
        (b"x", "does not begin"),
        (b"Some text that is longer than a few bytes.", "does not begin"),
        (b"\x10" + b"\0" * 7 + b"{", "truncated"),
        (b"\x02" + b"\0" * 7 + b"{}", "not one that lmfacts wrote"),
        (b"\x04" + b"\0" * 7 + b"{{{{", "header"),
        (b"\xff" * 8 + b"{}", "truncated"),
    ],
)
def test_a_file_of_something_else(tmp_path, content, reason):
    path = tmp_path / "other"
    path.write_bytes(content)
    with pytest.raises(RunFileCorruptError, match=reason) as caught:
        load(path)
    assert str(path) in str(caught.value)


def test_a_folder_and_a_pipe(tmp_path):
    with pytest.raises(RunFileCorruptError, match="it is a folder"):
        load(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(RunFileCorruptError, match="not a regular file"):
        load(tmp_path / "pipe")


def test_a_path_below_a_file(path):
    with pytest.raises(RunFileError, match="Cannot read"):
        load(path / "x")


def test_a_safetensors_file_of_something_else(tmp_path):
    path = tmp_path / "model.safetensors"
    save_file({"weight": np.ones(3)}, path, metadata={"format": "pt"})
    with pytest.raises(RunFileCorruptError, match="not one that lmfacts wrote"):
        load(path)


def test_a_newer_schema(path):
    rewrite(path, lambda document: document.update(schema=3, lmfacts="9.9", sites="other"))
    with pytest.raises(RunFileVersionError, match=r"schema version 3 \(written by lmfacts 9\.9\).*Update"):
        load(path)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda _: "{", "not valid JSON"),
        (lambda _: "[1]", "it is a list, expected an object"),
        (lambda _: "[" * 100_000, "not valid JSON"),
        (lambda _: '{"schema": NaN}', "it holds NaN"),
        (lambda d: d.update(schema=0), "does not exist"),
        (lambda d: d.update(schema="1"), r"schema is a string \('1'\), expected a whole number"),
        (lambda d: d.pop("coverage"), "coverage is missing"),
        (lambda d: d["sites"][0].pop("k"), r"sites\[0\]\.k is missing"),
        (lambda d: d["sites"].append(3), r"sites\[3\] is an integer \(3\), expected an object"),
        (lambda d: d["sites"][0].update(n_dims=9), r"moments has shape \[6, 8\], expected \[6, 9\]"),
        (
            lambda d: d["sites"][0].update(n_dims=-1),
            r"sites\[0\]\.n_dims is an integer \(-1\), expected a whole number, 0 or more",
        ),
        (lambda d: d["sites"][0].update(unit_sums=True), "unit_sums is missing"),
        (lambda d: d["sites"][0].update(dtype="int3"), r"dtype is a string \('int3'\), expected one of bfloat16"),
        (
            lambda d: d["sites"][0].update(aliases=[1]),
            r"sites\[0\]\.aliases\[0\] is an integer \(1\), expected a string",
        ),
        (lambda d: d["sites"][0]["n_tokens"].update(rest=True), r"sites\[0\]\.n_tokens\.rest is true or false"),
        (lambda d: d["sites"][0].update(dtype=""), r"dtype is empty, expected one"),
        (
            lambda d: d["sites"][0].update(threshold="6"),
            r"sites\[0\]\.threshold is a string \('6'\), expected a finite number",
        ),
        (lambda d: json.dumps(d).replace("6.0", "1e999"), "expected a finite number"),
        (lambda d: d["sites"][0].update(k=2**63), "k is an integer"),
        (
            lambda d: d["model"].update(n_layers=2**40),
            "model.n_layers .* expected a number of layers, at most 100,000 or",
        ),
        (lambda d: d["model"].update(id=[]), "model.id is a list, expected a string or null"),
        (lambda d: d["timing"].update(wall_s="1"), "timing.wall_s is a string"),
        (lambda d: d["coverage"].update({"embed": {"n_copies": {}}}), r"coverage\['embed'\].n_copies is an object"),
        (lambda d: d["absent"].update({"embed": None}), r"absent\['embed'\] is null, expected a string"),
        (lambda d: d["token_text"].update({"--1": "x"}), "token_text has the key '--1', expected a token id"),
        (lambda d: d.update(notes="a note"), "notes is a string"),
        (lambda d: d.update(token_context={"1": {}}), "token_context has the key '1', expected SEQUENCE:POSITION"),
        (lambda d: d["corpus"].update(files=[{"n_bytes": -1}]), r"corpus.files\[0\].n_bytes is an integer"),
        (lambda d: d["sites"][0].update(name="x"), "sites/x is missing"),
    ],
)
def test_metadata_that_does_not_fit(path, change, reason):
    rewrite(path, change)
    with pytest.raises(RunFileCorruptError, match=reason) as caught:
        use_all(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "change",
    [
        lambda arrays: arrays.pop("blocks.0.resid_post/rest/codes"),
        lambda arrays: arrays.update({"blocks.0.resid_post/rest/moments": np.ones((6, 3))}),
        lambda arrays: arrays.update({"blocks.0.resid_post/rest/moments": np.ones((6, 8), np.float32)}),
        lambda arrays: arrays.update({"blocks.0.resid_post/rest/outlier_index": np.ones(4, np.int64)}),
    ],
)
def test_arrays_that_contradict_the_header(path, change):
    rewrite(path, arrays=change)
    with pytest.raises(RunFileCorruptError, match=r"the array(s of)? blocks\.0\.resid_post"):
        use_all(path)


def test_arrays_that_contradict_each_other_are_found_when_read(path):
    rewrite(path, lambda document: document["sites"][1]["n_tokens"].update(rest=61))
    loaded = load(path)
    assert loaded["blocks.0.resid_post"].n_tokens == 64
    with pytest.raises(RunFileCorruptError, match=r"blocks\.1\.resid_post contradict each other .* add up to"):
        loaded["blocks.1.resid_post"]


def test_a_file_without_permission(path, monkeypatch):
    def refuse(*_arguments, **_options):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    with pytest.raises(RunFileError, match=r"Cannot read .*a\.lmfacts: Permission denied"):
        load(path)


def header_only(header, data=b""):
    """A safetensors file with that header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


ENTRY = {"dtype": "U16", "shape": [2], "data_offsets": [0, 4]}


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ({"a": {**ENTRY, "dtype": "X7"}}, "about the array a"),
        ({"a": {**ENTRY, "shape": [-2]}}, "about the array a"),
        ({"a": {**ENTRY, "shape": [2.0]}}, "about the array a"),
        ({"a": {**ENTRY, "shape": [2**70, 2**70]}}, "about the array a"),
        ({"a": {**ENTRY, "shape": 2}}, "about the array a"),
        ({"a": {**ENTRY, "data_offsets": [4, 0]}}, "about the array a"),
        ({"a": {**ENTRY, "data_offsets": [-4, 0]}}, "about the array a"),
        ({"a": {**ENTRY, "data_offsets": [0]}}, "about the array a"),
        ({"a": [1]}, "about the array a"),
        ({"a": {"dtype": "U16"}}, "about the array a"),
        ({"a": ENTRY, "b": {**ENTRY, "data_offsets": [4, 8]}}, "its header promises"),
        ({}, "does not describe its contents"),
        ({"__metadata__": {"lmfacts": 1}}, "object of strings"),
        (b"{" + b"[" * 50_000, "not valid JSON"),
        (b'{"\xff": 1}', "not valid JSON"),
    ],
)
def test_headers_that_say_what_cannot_be(tmp_path, header, reason):
    path = tmp_path / "a.lmfacts"
    path.write_bytes(header_only(header, b"\0" * 4))
    with pytest.raises(RunFileCorruptError, match=reason):
        load(path)


def weights_document(change):
    """The metadata of a run of weights, changed."""
    document = json.loads(json.dumps(weights_run(1).metadata))
    change(document["sites"][0])
    return document


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda entry: entry.pop("parameter"), "parameter is missing, expected a string"),
        (lambda entry: entry.update(shape=[]), "shape is a list, expected a list of one size or more"),
        (lambda entry: entry.update(shape=[48, 200]), r"shape is \[48, 200\], expected that of 48 dims"),
        (lambda entry: entry.update(shape=[300, 48]), "another number of values"),
        (lambda entry: entry.update(shape=[2, 100, 48]), "expected that of 48 dims"),
        (lambda entry: entry.update(layer=-1), "layer is an integer"),
        (lambda entry: entry.update(transposed=None), "transposed is null, expected true or false"),
        (lambda entry: entry.update(frobenius="1"), "frobenius is a string"),
    ],
)
def test_entries_of_weights_that_do_not_fit(change, reason):
    assert re.search(reason, metadata_problem(weights_document(change)))
    assert metadata_problem(weights_document(lambda _: None)) is None


# Damage


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The bytes of a small run, and where to write them."""
    folder = tmp_path_factory.mktemp("damage")
    run = residual_run(
        lambda _, positions: np.arange(positions.size * 2.0).reshape(-1, 2), n_layers=1, n_sequences=1, n_positions=3
    )
    return run.save(folder / "small.lmfacts").read_bytes(), folder / "damaged.lmfacts"


def test_truncation_at_every_byte(small):
    content, path = small
    path.write_bytes(content)
    use_all(path)
    for n_bytes in range(len(content) - 1, -1, -1):
        os.truncate(path, n_bytes)
        with pytest.raises(RunFileCorruptError, match="not a readable run file"):
            load(path)


def test_bytes_after_the_end(small):
    content, path = small
    path.write_bytes(content + b"\0")
    with pytest.raises(RunFileCorruptError):
        load(path)


@pytest.mark.filterwarnings("ignore")  # nonsense values may overflow
@pytest.mark.parametrize("seed", range(4))
def test_flipped_bits_give_a_run_or_an_error_of_ours(small, seed):
    content, path = small
    rng = np.random.default_rng(seed)
    n_header = 8 + struct.unpack("<Q", content[:8])[0]
    damaged = 0
    for _ in range(500):
        flipped = bytearray(content)
        limit = n_header if rng.random() < 0.8 else len(content)
        for _ in range(rng.integers(1, 3)):
            flipped[rng.integers(limit)] ^= 1 << rng.integers(8)
        path.write_bytes(flipped)
        try:
            use_all(path)
        except RunFileError:
            damaged += 1
        except LmfactsError as error:
            # A run that reads well can still hold a range that no histogram can be made of.
            assert isinstance(error, UsageError)  # noqa: PT017  either outcome is right
    assert damaged > 100


# Writing


def files_in(folder):
    return sorted(entry.name for entry in folder.iterdir())


def test_a_missing_folder_is_refused_before_any_work(run, tmp_path, monkeypatch):
    monkeypatch.setattr(SiteState, "arrays", lambda _: pytest.fail("work was done"))
    with pytest.raises(RunFileError, match=r"no folder .*nowhere"):
        run.save(tmp_path / "nowhere" / "a.lmfacts")
    with pytest.raises(RunFileError, match="it is a folder"):
        run.save(tmp_path)
    with pytest.raises(RunFileError, match="no folder"):
        check_destination(tmp_path / "nowhere" / "a.lmfacts")
    assert files_in(tmp_path) == []


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), MemoryError()])
def test_a_failure_leaves_the_old_file_and_nothing_else(run, path, monkeypatch, error):
    def fail(arrays, filename, metadata):
        Path(filename).write_bytes(b"half")
        raise error

    before = path.read_bytes()
    monkeypatch.setattr("safetensors.numpy.save_file", fail)
    with pytest.raises(RunFileError if isinstance(error, OSError) else type(error)) as caught:
        run.save(path)
    if isinstance(error, OSError):
        assert "No space left" in str(caught.value)
        assert str(path) in str(caught.value)
    assert path.read_bytes() == before
    assert files_in(path.parent) == ["a.lmfacts"]


def test_a_failure_of_the_rename_leaves_nothing(tmp_path, monkeypatch):
    def fail(_self, _target):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(RunFileError, match="Permission denied"), replacing(tmp_path / "a") as temporary:
        temporary.write_bytes(b"whole")
    assert files_in(tmp_path) == []


def test_the_file_is_flushed_before_it_gets_its_name(tmp_path, monkeypatch):
    order = []
    flush, rename = os.fsync, Path.replace
    monkeypatch.setattr(os, "fsync", lambda descriptor: (order.append("flush"), flush(descriptor)))
    monkeypatch.setattr(Path, "replace", lambda self, target: (order.append("rename"), rename(self, target))[1])
    with replacing(tmp_path / "a") as temporary:
        assert temporary.parent.parent == tmp_path
        temporary.write_bytes(b"whole")
    assert order == ["flush", "rename", "flush"]
    assert (tmp_path / "a").read_bytes() == b"whole"


def test_a_link_keeps_pointing_at_the_file(run, tmp_path):
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "a.lmfacts"
    link = tmp_path / "link.lmfacts"
    link.symlink_to(target)
    run.save(link)
    assert link.is_symlink()
    assert_same(load(target), run)


def test_permissions_are_those_of_any_new_file(run, tmp_path):
    plain = tmp_path / "plain"
    plain.touch()
    assert run.save(tmp_path / "a.lmfacts").stat().st_mode == plain.stat().st_mode


def test_reading_needs_no_torch(path):
    code = f"import sys, lmfacts.run; lmfacts.run.load({str(path)!r}); print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert "lmfacts.run.record" in loaded
    assert not loaded & {"torch", "transformers", "datasets", "scipy", "rich", "typer", "lmfacts._native"}
    # What is packed is unpacked by the native module, which brings nothing with it.
    code = f"import sys, lmfacts.run; lmfacts.run.load({str(path)!r})['embed'].std; print(*sorted(sys.modules))"
    code = code.replace("embed", "blocks.0.resid_post")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not set(done.stdout.split()) & {"torch", "transformers", "datasets", "rich", "typer"}


def test_of_a_large_file_that_is_no_run_only_the_header_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(safetensors_view, "_content", lambda _path: pytest.fail("all of it is read"))
    for begin, said in ((b"", "its header is not valid JSON"), (b"\x02" + bytes(7) + b"{}", "does not describe")):
        with (tmp_path / "x.lmfacts").open("wb") as file:
            file.write(begin)
            file.truncate(1 << 40)
        with pytest.raises(RunFileCorruptError, match=said):
            RunFile(tmp_path / "x.lmfacts")
