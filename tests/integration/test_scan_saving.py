"""A scan that has measured is saved, whatever happens afterwards; what it could not save it does not start."""

from __future__ import annotations

import math
import os
import resource
import shutil
import signal
import tempfile
import threading
from pathlib import Path

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

import lmfacts
from lmfacts.demo import MODEL_DIR
from lmfacts.errors import CorpusError, DestinationError, UnsavedRunError, UsageError
from lmfacts.run import Run
from lmfacts.scans import saving
from lmfacts.scans.interruption import Interruption, interruptible

SEQ_LEN = 32
N_TOKENS = 10 * SEQ_LEN


@pytest.fixture(scope="module")
def demo():
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype="float32").eval()
    return model, AutoTokenizer.from_pretrained(MODEL_DIR)


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("x" * (N_TOKENS - 1))  # a token for each byte, and one at the end
    return file


@pytest.fixture
def out(tmp_path):
    return tmp_path / "run.lmfacts"


@pytest.fixture
def scan(demo, text, out):
    def scan(**options):
        given = {"corpus": text, "out": out, "sites": "embed", "seq_len": SEQ_LEN, "batch_size": 1, **options}
        return lmfacts.scan(demo[0], given.pop("corpus"), tokenizer=demo[1], **given)

    return scan


def at(n_tokens, act):
    """A progress callback that does something once: at a number of tokens, or when saving starts."""
    done = []

    def progress(event):
        if not done and (event.stage == "saving" if n_tokens is None else event.n_tokens >= n_tokens):
            done.append(event)
            act()

    return progress


# What happens while measuring


def test_a_corpus_that_is_deleted_when_it_was_read(scan, text, out):
    run = scan(progress=at(3 * SEQ_LEN, text.unlink))
    assert (run.complete, run.n_tokens) == (True, N_TOKENS)
    assert lmfacts.load(out).corpus["files"] == [{"path": str(text), "n_bytes": N_TOKENS - 1}]


def test_a_corpus_that_is_deleted_before_it_is_read(scan, text, out, tmp_path):
    later = tmp_path / "later.txt"
    later.write_text("more")
    with pytest.raises(CorpusError, match=r"later\.txt.*cannot be read any more") as caught:
        scan(corpus=[text, later], progress=at(0, later.unlink))
    assert f"is in {out}" in caught.value.__notes__[0]
    kept = lmfacts.load(out)
    assert kept.n_tokens == caught.value.run.n_tokens >= N_TOKENS - SEQ_LEN
    assert "cannot be read any more" in kept.incomplete_reason


class Own(BaseException):
    pass


@pytest.mark.parametrize("error", [ZeroDivisionError("division by zero"), KeyboardInterrupt(), SystemExit(3), Own()])
@pytest.mark.parametrize("to_file", [True, False])
def test_an_error_of_the_progress_callback(scan, out, error, to_file):
    def fail():
        raise error

    with pytest.raises(type(error)) as caught:
        scan(progress=at(2 * SEQ_LEN, fail), out=out if to_file else None)
    assert caught.value.run.n_tokens == 2 * SEQ_LEN
    assert caught.value.run.incomplete_reason == f"stopped by an error: {str(error) or type(error).__name__}"
    assert out.exists() == to_file
    assert not to_file or lmfacts.load(out).n_tokens == 2 * SEQ_LEN


def test_an_error_of_the_progress_callback_when_all_was_read(scan, out):
    with pytest.raises(ZeroDivisionError):
        scan(progress=at(None, lambda: 1 // 0))
    assert (lmfacts.load(out).complete, lmfacts.load(out).n_tokens) == (True, N_TOKENS)


def test_records_that_were_skipped_are_counted_and_noted(scan, tmp_path):
    records = tmp_path / "a.jsonl"
    records.write_text('{"text":"some words"}\n{"text":"bad \\ud83d lone"}\n')
    run = scan(corpus=records)
    assert run.corpus["n_documents_skipped"] == 1
    assert [note for note in run.metadata["notes"] if "skipped" in note] == [
        f"1 document was skipped; the first: {records}, line 2: '\\ud83d' is half of a surrogate pair"
    ]
    records.write_text('{"text":"bad \\ud83d lone"}\n')
    with pytest.raises(CorpusError, match=r"got none in the whole corpus .1 document was skipped"):
        scan(corpus=records, pack=False)


# Signals


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_scan_and_saves_it(scan, out, number):
    before = signal.getsignal(number)
    run = scan(progress=at(2 * SEQ_LEN, lambda: os.kill(os.getpid(), number)))
    assert (run.incomplete_reason, run.n_tokens) == ("interrupted", 2 * SEQ_LEN)
    assert lmfacts.load(out).n_tokens == 2 * SEQ_LEN
    assert signal.getsignal(number) == before


def test_a_terminal_that_is_gone_is_an_interruption(scan, out):
    def hang_up():
        os.kill(os.getpid(), signal.SIGHUP)
        raise OSError(5, "Input/output error")

    with pytest.raises(OSError, match="Input/output"):
        scan(progress=at(2 * SEQ_LEN, hang_up))
    assert (lmfacts.load(out).incomplete_reason, lmfacts.load(out).n_tokens) == ("interrupted", 2 * SEQ_LEN)


def test_what_was_ignored_stays_ignored(scan):
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        run = scan(progress=at(2 * SEQ_LEN, lambda: os.kill(os.getpid(), signal.SIGHUP)))
    finally:
        signal.signal(signal.SIGHUP, before)
    assert run.complete


def test_a_second_signal_drops_the_batch(scan, demo, out):
    calls = []

    def stop_twice(_module, _args):
        calls.append(1)
        if len(calls) == 5:  # the first forward pass is a trial
            os.kill(os.getpid(), signal.SIGINT)
            os.kill(os.getpid(), signal.SIGINT)

    handle = demo[0].transformer.h[1].register_forward_pre_hook(stop_twice)
    try:
        run = scan()
    finally:
        handle.remove()
    assert len(calls) == 5
    assert run.incomplete_reason == "interrupted"
    assert run.n_tokens in (3 * SEQ_LEN, 4 * SEQ_LEN)
    assert lmfacts.load(out).n_tokens == run.n_tokens


@pytest.mark.parametrize("before", [0, 2])
@pytest.mark.parametrize("while_saving", [1, 2, 3])
def test_saving_is_finished_unless_somebody_insists(scan, out, monkeypatch, before, while_saving):
    save = Run.save

    def interrupted(run, path):
        for _ in range(while_saving):
            os.kill(os.getpid(), signal.SIGINT)
        return save(run, path)

    def press():
        for _ in range(before):
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(Run, "save", interrupted)
    out.write_text("an older file")
    if while_saving < (2 if before else 3):
        run = scan(progress=at(2 * SEQ_LEN, press))
        assert run.complete == (before == 0)
        assert lmfacts.load(out).n_tokens == run.n_tokens
    else:
        with pytest.raises(KeyboardInterrupt):
            scan(progress=at(2 * SEQ_LEN, press))
        assert out.read_text() == "an older file"


def test_a_stop_before_anything_was_recorded_replaces_nothing(scan, out):
    out.write_text("an older file")
    with pytest.raises(KeyboardInterrupt):
        scan(progress=at(0, lambda: os.kill(os.getpid(), signal.SIGINT)))
    assert out.read_text() == "an older file"


def test_weights_that_are_measured_are_saved(out, monkeypatch):
    save = Run.save
    monkeypatch.setattr(Run, "save", lambda run, path: (os.kill(os.getpid(), signal.SIGTERM), save(run, path))[1])
    run = lmfacts.scan_weights("demo", spectra=0, out=out)
    assert lmfacts.load(out).metadata == run.metadata
    with pytest.raises(KeyboardInterrupt):
        lmfacts.scan_weights("demo", spectra=0, progress=lambda *_: os.kill(os.getpid(), signal.SIGTERM))


def test_a_request_just_before_a_wait_ends_it():
    interruption = Interruption()
    interruption.request()
    with pytest.raises(KeyboardInterrupt), interruption.waiting():
        pytest.fail("it waits")


def test_in_another_thread_signals_are_left_alone():
    before, seen = signal.getsignal(signal.SIGINT), []

    def look():
        with interruptible():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [before]


# A disk that is full, a folder that is gone


def test_a_run_that_cannot_be_saved_goes_elsewhere_and_with_the_error(scan, out, tmp_path, monkeypatch):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(elsewhere))
    folder = tmp_path / "removed"
    folder.mkdir()
    with pytest.raises(UnsavedRunError, match=r"no folder .*removed.* It was saved as .*elsewhere") as caught:
        scan(out=folder / "run.lmfacts", progress=at(2 * SEQ_LEN, folder.rmdir))
    assert caught.value.exit_code == 1
    assert (caught.value.run.n_tokens, caught.value.run.path) == (N_TOKENS, caught.value.path)
    assert lmfacts.load(caught.value.path).metadata == caught.value.run.metadata
    assert caught.value.path.parent == elsewhere


def test_a_full_disk_leaves_no_half_file_and_the_run(scan, out, tmp_path, monkeypatch):
    for place in ("elsewhere", "home"):
        (tmp_path / place).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "elsewhere"))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    out.write_text("an older file")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))  # noqa: E731  the system's own refusal
    try:
        with pytest.raises(UnsavedRunError, match=r"Cannot write .*run\.lmfacts.*No other place was found") as caught:
            scan(progress=at(None, limit))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert out.read_text() == "an older file"
    assert sorted(path.name for path in tmp_path.rglob("*")) == ["elsewhere", "home", "run.lmfacts", "text.txt"]
    run = caught.value.run
    assert caught.value.path is None
    assert lmfacts.load(run.save(out)).n_tokens == N_TOKENS


def test_an_error_and_a_full_disk(scan, out, monkeypatch):
    def fail(_run, _path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Run, "save", fail)
    with pytest.raises(ZeroDivisionError) as caught:
        scan(progress=at(2 * SEQ_LEN, lambda: 1 // 0))
    assert "No space left on device" in caught.value.__notes__[0]
    assert caught.value.run.n_tokens == 2 * SEQ_LEN
    assert not out.exists()
    assert saving.save_measured.__module__ == "lmfacts.scans.saving"


# Refused before the work


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"threshold": math.inf}, "threshold: expected a number of at least 0 that is not infinite"),
        ({"threshold": math.nan}, "threshold: expected"),
        ({"threshold": -1.0}, "threshold: expected"),
        ({"batch_size": math.inf}, "batch_size: expected a whole number"),
        ({"seq_len": 2.5}, "seq_len: expected a whole number"),
        ({"k": 2**70}, "k: expected a number"),
        ({"k": -1}, "k: expected a number"),
        ({"max_tokens": "many"}, "max_tokens: expected a whole number"),
        ({"max_seconds": math.inf}, "cannot be written as JSON"),
    ],
)
def test_what_the_run_file_cannot_hold_is_refused_before_the_scan(scan, out, options, said):
    def progress(event):
        assert event.stage != "scanning"

    with pytest.raises(UsageError, match=said):
        scan(**options, progress=progress)
    assert not out.exists()


def test_what_a_model_says_of_itself_is_no_reason_to_lose_its_run(scan, demo, out, monkeypatch):
    monkeypatch.setattr(demo[0].config, "name_or_path", Path("/models/demo"))
    scan(pack=1)
    assert (lmfacts.load(out).model["id"], lmfacts.load(out).settings["pack"]) == ("/models/demo", True)
    assert lmfacts.scan_weights(demo[0], spectra=False, out=out).model["id"] == "/models/demo"


def test_numbers_of_numpy_are_numbers(scan):
    run = scan(batch_size=np.int64(2), threshold=np.float32(2.5), max_tokens=np.int32(64))
    assert (run.n_tokens, run.settings["threshold"], run.settings["batch_size"]) == (64, 2.5, 2)


def test_an_input_is_no_output(scan, text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hard.txt").hardlink_to(text)
    before = text.read_bytes()
    for given, written in ((text, text), (tmp_path, "text.txt"), ([text], "hard.txt"), (tmp_path, "./hard.txt")):
        with pytest.raises(DestinationError, match="which is read"):
            scan(corpus=given, out=written)
    assert text.read_bytes() == before
    model = tmp_path / "model"
    shutil.copytree(MODEL_DIR, model)
    for source, name in (
        (model, "model.safetensors"),
        (model, "tokenizer.json"),
        (model / "model.safetensors", "config.json"),
    ):
        (model / name).touch()
        with pytest.raises(DestinationError, match="which is read"):
            lmfacts.scan_weights(source, out=model / name)
    with pytest.raises(DestinationError, match="which is read"):
        lmfacts.scan(model, text, out=model / "model.safetensors")
