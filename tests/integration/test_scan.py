"""`lmfacts.scan` as a library user calls it."""

from __future__ import annotations

import os
import signal

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

import lmfacts
from lmfacts.demo import MODEL_DIR
from lmfacts.errors import CorpusError, ModelError, RunFileError, SiteNotFoundError, UsageError
from support.tiny import build


@pytest.fixture(scope="module")
def loaded():
    return AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype="auto").eval(), AutoTokenizer.from_pretrained(
        MODEL_DIR
    )


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "text.txt"
    file.write_text("The for statement is used to iterate over the elements of a sequence.\n" * 60)
    return file


def arrays(run):
    return {f"{name}/{key}": value for name in run for key, value in run[name].state.arrays()}


def test_a_scan_is_what_the_models_own_hidden_states_say(loaded, text, tmp_path):
    model, tokenizer = loaded
    run = lmfacts.scan(model, text, tokenizer=tokenizer, sites="resid", seq_len=64, out=tmp_path / "r.lmfacts")
    ids = [*text.read_bytes(), 256]
    rows = [ids[i : i + 64] for i in range(0, len(ids), 64)]
    with torch.inference_mode():
        hidden = [model(torch.tensor([row]), output_hidden_states=True).hidden_states for row in rows]
    for layer in range(model.config.n_layer - 1):
        values = torch.cat([states[layer + 1][0] for states in hidden]).double().numpy()
        site = run[f"blocks.{layer}.resid_post"]
        assert site.n == values.size
        # One row at a time and several rows at a time differ in the last bit of a bfloat16, now and then.
        np.testing.assert_allclose(site.dims.std, values.std(axis=0), rtol=2e-3)
        np.testing.assert_allclose(site.dims.absmax, np.abs(values).max(axis=0), rtol=2e-2)
    assert run.n_tokens == len(ids)
    assert run.n_sequences == len(rows)
    again = lmfacts.load(tmp_path / "r.lmfacts")
    assert again.metadata == run.metadata
    for name, value in arrays(run).items():
        np.testing.assert_array_equal(arrays(again)[name], value)


def test_what_a_run_says_of_itself(loaded, text, tmp_path):
    model, tokenizer = loaded
    run = lmfacts.scan(
        model, text, tokenizer=tokenizer, seq_len=32, batch_size=4, max_tokens=500, out=tmp_path / "r.lmfacts"
    )
    metadata = run.metadata
    assert run.complete
    assert run.n_tokens == 500
    assert metadata["model"]["family"] == "gpt2"
    assert metadata["model"]["dtype"] == "bfloat16"
    assert (
        metadata["settings"] | {"seq_len": 32, "batch_size": 4, "pack": True, "max_tokens": 500, "k": 64}
        == metadata["settings"]
    )
    assert metadata["corpus"]["files"][0]["path"] == str(text)
    assert metadata["timing"]["wall_s"] >= metadata["timing"]["model_s"] > 0
    assert all(entry["n_copies"] == 0 for entry in run.coverage.values())
    assert all(entry["n_tokens"] == 500 for entry in run.coverage.values())
    outlier = run["blocks.1.resid_post"].outliers[0]
    assert run.tokens[int(outlier["token_id"])] == chr(int(outlier["token_id"]))


def test_a_scan_that_has_no_more_time_is_complete_for_what_it_read(loaded, text):
    model, tokenizer = loaded
    run = lmfacts.scan(model, text, tokenizer=tokenizer, sites="embed", seq_len=32, batch_size=2, max_seconds=0.0)
    assert run.complete
    assert run.n_tokens == 64
    assert run.metadata["settings"]["max_seconds"] == 0.0


def test_an_emulated_dtype_is_said_before_the_first_batch(loaded, text, monkeypatch):
    monkeypatch.setattr("lmfacts.scans.activations.emulation_note", lambda dtype, device: f"{dtype} on {device}")
    model, tokenizer = loaded
    seen = []
    lmfacts.scan(model, text, tokenizer=tokenizer, sites="embed", max_tokens=64, progress=seen.append)
    notes = [progress.note for progress in seen]
    assert notes == ["torch.bfloat16 on cpu", *[""] * (len(seen) - 1)]


def test_the_batch_size_changes_neither_the_tokens_nor_the_fingerprints(loaded, text):
    model, tokenizer = loaded
    runs = [
        lmfacts.scan(model, text, tokenizer=tokenizer, sites="embed", batch_size=size, seq_len=50) for size in (1, 7)
    ]
    assert runs[0].metadata["token_hash"] == runs[1].metadata["token_hash"]
    assert runs[0].model["fingerprint"] == runs[1].model["fingerprint"]
    # The embedding rounds nothing, so that even its values are the same.
    one, other = (arrays(run) for run in runs)
    for name in one:
        if one[name].dtype != np.float64 or name.endswith("_values"):  # sums depend on the order of their terms
            np.testing.assert_array_equal(one[name], other[name])


def test_another_models_fingerprint_differs(loaded, text):
    model, tokenizer = loaded
    other = AutoModelForCausalLM.from_pretrained(MODEL_DIR.parent / "checkpoints" / "step-000768", dtype="auto").eval()
    runs = [lmfacts.scan(m, text, tokenizer=tokenizer, sites="embed", max_tokens=64) for m in (model, other)]
    assert runs[0].model["fingerprint"] != runs[1].model["fingerprint"]


def test_the_model_is_left_as_it_was(loaded, text):
    model, tokenizer = loaded

    def hooks():
        return [(dict(m._forward_hooks), dict(m._forward_pre_hooks)) for m in model.modules()]

    before = hooks()
    model.train()
    try:
        lmfacts.scan(model, text, tokenizer=tokenizer, max_tokens=64)
        assert model.training
    finally:
        model.eval()
    assert hooks() == before


def interrupting(number):
    def progress(event):
        if event.stage == "scanning" and event.n_tokens == 128:
            os.kill(os.getpid(), number)

    return progress


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_scan_is_saved_and_says_so(loaded, text, tmp_path, number):
    model, tokenizer = loaded
    before = signal.getsignal(number)
    out = tmp_path / "r.lmfacts"
    run = lmfacts.scan(
        model,
        text,
        tokenizer=tokenizer,
        sites="embed",
        seq_len=64,
        batch_size=1,
        out=out,
        progress=interrupting(number),
    )
    assert (run.complete, run.incomplete_reason, run.n_tokens) == (False, "interrupted", 128)
    assert lmfacts.load(out).n_tokens == 128
    assert signal.getsignal(number) == before


def test_an_error_in_the_middle_keeps_what_was_recorded(loaded, tmp_path):
    model, tokenizer = loaded
    good = tmp_path / "a.jsonl"
    good.write_text('{"text": "' + "x" * 500 + '"}\n' + '{"oops": 1}\n')
    out = tmp_path / "r.lmfacts"
    with pytest.raises(CorpusError, match="line 2") as error:
        lmfacts.scan(model, good, tokenizer=tokenizer, sites="embed", seq_len=64, batch_size=2, out=out)
    assert "What was recorded until then" in error.value.__notes__[0]
    kept = lmfacts.load(out)
    assert not kept.complete
    assert "line 2" in kept.incomplete_reason
    assert kept.n_tokens == 384


def test_nothing_is_written_when_nothing_was_recorded(loaded, tmp_path):
    model, tokenizer = loaded
    blank = tmp_path / "a.jsonl"
    blank.write_text('{"text": ""}\n')
    with pytest.raises(CorpusError, match="got none in the whole corpus"):
        lmfacts.scan(model, blank, tokenizer=tokenizer, pack=False, out=tmp_path / "r.lmfacts")
    assert [file.name for file in tmp_path.iterdir()] == ["a.jsonl"]


def test_nan_and_infinity_are_counted_and_poison_nothing(text):
    model = build("gpt2")
    ids = torch.randint(0, 90, (2, 16), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        model.transformer.wpe.weight[3, 5] = torch.nan
        model.transformer.wpe.weight[4, 6] = torch.inf
    with lmfacts.attach(model, "blocks.0.resid_pre") as recorder, torch.inference_mode():
        model(ids)
    site = recorder.run()["blocks.0.resid_pre"]
    assert (site.n_nan, site.n_inf) == (2, 2)
    assert site.dims.n_nonfinite.nonzero()[0].tolist() == [5, 6]
    assert np.isfinite(site.dims.mean).all()
    assert np.isfinite(site.std)


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"sites": "blocks.9.resid_post"}, SiteNotFoundError, "blocks.9.resid_post"),
        ({"sites": "nonsense"}, SiteNotFoundError, "nonsense"),
        ({"seq_len": 257}, UsageError, "at most 256"),
        ({"seq_len": 1}, UsageError, "at least 2"),
        ({"batch_size": 0}, UsageError, "batch_size"),
        ({"max_tokens": 0}, UsageError, "max_tokens"),
        ({"k": -1}, UsageError, "k: expected"),
        ({"threshold": float("nan")}, UsageError, "threshold"),
        ({"out": "nowhere/r.lmfacts"}, RunFileError, "nowhere"),
        ({"out": "."}, RunFileError, "is a folder"),
    ],
)
def test_arguments_that_cannot_be_meant(loaded, text, options, error, said):
    model, tokenizer = loaded
    with pytest.raises(error) as raised:
        lmfacts.scan(model, text, tokenizer=tokenizer, **options)
    assert said in str(raised.value)


@pytest.mark.parametrize("dtype", ["int8", "float8"])
def test_an_unknown_dtype(dtype):
    with pytest.raises(UsageError, match="dtype: expected one of auto"):
        lmfacts.scan("demo", dtype=dtype)


def test_an_unknown_device():
    with pytest.raises(UsageError, match="device: expected cpu"):
        lmfacts.scan("demo", device="tpu9")


def test_what_is_not_a_model(tmp_path, text):
    (tmp_path / "folder").mkdir()
    with pytest.raises(ModelError, match=r"without one"):
        lmfacts.scan(tmp_path / "folder", text)
    with pytest.raises(ModelError, match="another kind of file"):
        lmfacts.scan(text, text)
    with pytest.raises(FileNotFoundError, match="expected a model"):
        lmfacts.scan(tmp_path / "missing" / "model", text)
    with pytest.raises(ModelError, match="hub cannot be reached"):
        lmfacts.scan("nobody/no-such-model", text)
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + b"\0" * 100)
    with pytest.raises(ModelError, match=r"broken\.gguf: cannot be loaded"):
        lmfacts.scan(tmp_path / "broken.gguf", text)
    (tmp_path / "folder" / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ModelError):
        lmfacts.scan(tmp_path / "folder", text)
