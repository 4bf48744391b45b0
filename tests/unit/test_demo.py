"""The embedded model: its files, its tokenizer, its text and its trainer."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoTokenizer

from lmfacts.demo import CHECKPOINTS, DEMO_DIR, MODEL_DIR, N_STEPS, TRAINING_FILE, checkpoint_folders, checkpoint_steps
from lmfacts.demo.byte_tokenizer import END_OF_TEXT, END_OF_TEXT_ID, build_tokenizer, encode_documents
from lmfacts.demo.text import documents, fingerprint
from lmfacts.demo.train import Settings, evaluate, main, train
from lmfacts.errors import CorpusError

if TYPE_CHECKING:
    from pathlib import Path

MAX_SHIPPED_BYTES = 12_000_000
# Other Python releases word the text a little differently, so the bound leaves room above the recorded loss.
MAX_FINAL_LOSS = 1.6


def load(folder: Path) -> torch.nn.Module:
    return AutoModelForCausalLM.from_pretrained(folder, local_files_only=True, dtype=torch.float32)


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(MODEL_DIR, local_files_only=True)


@pytest.fixture(scope="module")
def record():
    return json.loads(TRAINING_FILE.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def losses():
    """Step -> loss of each shipped checkpoint on a slice of the text that spans many documents."""
    stream = torch.tensor(encode_documents([text for _, text in documents()]))
    return {step: evaluate(load(folder), stream, 256, stride=64) for step, folder in CHECKPOINTS.items()}


def test_importing_the_demo_and_its_text_loads_no_torch():
    code = (
        "import sys, lmfacts.demo, lmfacts.demo.text\n"
        "loaded = {'torch', 'transformers', 'tokenizers', 'pydoc_data.topics'} & set(sys.modules)\n"
        "assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": str(DEMO_DIR.parents[1])})


def test_documents_are_named_sorted_and_not_empty():
    names = [name for name, _ in documents()]
    assert names == sorted(set(names))
    assert all(text.strip() for _, text in documents())
    assert sum(len(text) for _, text in documents()) > 300_000


def test_a_python_without_its_topics_is_told_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    with pytest.raises(CorpusError, match="Name a corpus of your own"):
        documents()


def test_fingerprint_is_that_of_the_documents():
    joined = "".join(f"{name}\0{text}\0" for name, text in documents())
    assert fingerprint() == hashlib.sha256(joined.encode()).hexdigest()


@pytest.mark.parametrize(
    ("n_steps", "steps"), [(1, (0, 1)), (5, (0, 1, 5)), (64, (0, 1, 4, 16, 64)), (1024, (0, 4, 16, 64, 256, 1024))]
)
def test_checkpoint_steps_are_spaced_by_four(n_steps, steps):
    assert checkpoint_steps(n_steps) == steps


def test_shipped_files_are_exactly_the_checkpoints_and_fit():
    folders = {path.parent for path in DEMO_DIR.rglob("model.safetensors")}
    assert folders == set(CHECKPOINTS.values())
    assert min(CHECKPOINTS) == 0
    assert list(CHECKPOINTS) == sorted(CHECKPOINTS)
    assert max(CHECKPOINTS) == N_STEPS
    assert CHECKPOINTS[N_STEPS] == MODEL_DIR
    shipped = [TRAINING_FILE, *(path for folder in CHECKPOINTS.values() for path in folder.iterdir())]
    assert sum(path.stat().st_size for path in shipped) < MAX_SHIPPED_BYTES


def test_training_record_agrees_with_the_files(record):
    assert {entry["step"]: DEMO_DIR / entry["folder"] for entry in record["checkpoints"]} == dict(CHECKPOINTS)
    assert Settings(**record["settings"] | {"betas": tuple(record["settings"]["betas"])}) == Settings()
    assert record["n_parameters"] == sum(parameter.numel() for parameter in load(MODEL_DIR).parameters())


@pytest.mark.parametrize("folder", CHECKPOINTS.values(), ids=lambda folder: folder.name)
def test_weights_are_bf16_and_stored_once(folder, record):
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}
    assert "lm_head.weight" not in tensors, "the tied embedding is stored twice"
    assert sum(tensor.numel() for tensor in tensors.values()) == record["n_parameters"], "a buffer is stored"
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_checkpoints_are_distinct():
    digests = {hashlib.sha256((folder / "model.safetensors").read_bytes()).digest() for folder in CHECKPOINTS.values()}
    assert len(digests) == len(CHECKPOINTS) == 6


def test_loss_falls_from_checkpoint_to_checkpoint(losses):
    ordered = list(losses.values())
    assert ordered == sorted(ordered, reverse=True)
    assert 5.0 < ordered[0] < 6.0, "the initialization is near ln(257) = 5.55"
    assert ordered[-1] < MAX_FINAL_LOSS


def test_recorded_losses_are_those_of_the_stored_weights(record):
    if record["text"]["sha256"] != fingerprint():
        pytest.skip("this Python's embedded text is not the one the model was trained on")
    stream = torch.tensor(encode_documents([text for _, text in documents()]))
    assert evaluate(load(MODEL_DIR), stream, 256) == pytest.approx(record["checkpoints"][-1]["loss"], abs=1e-3)


def test_folder_loads_in_its_stored_dtype_with_tied_embeddings():
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, local_files_only=True, dtype="auto")
    assert model.dtype == torch.bfloat16
    assert model.get_input_embeddings().weight.data_ptr() == model.get_output_embeddings().weight.data_ptr()


@given(text=st.text())
@example(text="tabs\tand\r\nnewlines\n\n  spaces  , isn't it ?")
@example(text="\x00\x01\x1b[0m\x7f\x85\u2028\ufeff")
@example(text="\U0001f469\u200d\U0001f52c e\u0301 \u00e9 \u6f22\u5b57 \U0010ffff")
def test_tokens_are_the_bytes_of_the_text(tokenizer, text):
    ids = tokenizer(text)["input_ids"]
    assert ids == list(text.encode())
    assert tokenizer.decode(ids) == text


def test_end_of_text_is_one_token(tokenizer):
    assert tokenizer(f"a{END_OF_TEXT}b")["input_ids"] == [97, END_OF_TEXT_ID, 98]
    assert tokenizer.decode([97, END_OF_TEXT_ID, 98]) == f"a{END_OF_TEXT}b"
    assert tokenizer.eos_token_id == tokenizer.bos_token_id == END_OF_TEXT_ID
    assert len(tokenizer) == 257


def test_stored_tokenizers_are_the_built_one(tmp_path):
    build_tokenizer(256).save_pretrained(tmp_path)
    expected = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))
    for folder in CHECKPOINTS.values():
        stored = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))
        assert stored["model"] == expected["model"]
        assert stored["added_tokens"] == expected["added_tokens"]


def test_encoded_documents_are_separated_by_the_end_of_text():
    assert encode_documents(["a", "é"]) == [256, 97, 256, 0xC3, 0xA9, 256]


def test_learning_rate_warms_up_then_falls_to_its_end():
    settings = Settings()
    rates = [settings.learning_rate_at(step) for step in range(1, settings.n_steps + 1)]
    peak = rates.index(max(rates))
    assert rates[peak] == settings.learning_rate
    assert peak == settings.n_warmup_steps - 1
    assert rates[:peak] == sorted(rates[:peak])
    assert rates[peak:] == sorted(rates[peak:], reverse=True)
    assert rates[-1] == pytest.approx(settings.final_learning_rate)


def test_short_training_writes_whole_folders_and_repeats_to_the_bit(tmp_path):
    settings = Settings(n_steps=5, n_sequences=2, n_positions=64, n_warmup_steps=2)
    generator_state = torch.random.get_rng_state()
    record = train(tmp_path / "first", settings)
    assert torch.equal(torch.random.get_rng_state(), generator_state)
    assert train(tmp_path / "second", settings) == record
    files = sorted(path.relative_to(tmp_path / "first") for path in (tmp_path / "first").rglob("*") if path.is_file())
    assert files == sorted(
        path.relative_to(tmp_path / "second") for path in (tmp_path / "second").rglob("*") if path.is_file()
    )
    for file in files:
        assert (tmp_path / "first" / file).read_bytes() == (tmp_path / "second" / file).read_bytes(), file
    folders = checkpoint_folders(tmp_path / "first", 5)
    assert list(folders) == [0, 1, 5]
    for folder in folders.values():
        assert load(folder).config.n_positions == 64
        assert AutoTokenizer.from_pretrained(folder, local_files_only=True)("hi")["input_ids"] == [104, 105]
    assert json.loads((tmp_path / "first" / "training.json").read_text(encoding="utf-8"))["settings"]["n_steps"] == 5


def test_training_over_an_earlier_one_leaves_no_stale_checkpoint(tmp_path):
    kept = tmp_path / "checkpoints" / "notes"
    stale = tmp_path / "checkpoints" / "step-000009"
    for folder in (kept, stale):
        folder.mkdir(parents=True)
    train(tmp_path, Settings(n_steps=1, n_sequences=1, n_positions=32))
    assert kept.exists()
    assert not stale.exists()


def test_another_seed_gives_another_model(tmp_path):
    weights = []
    for seed in (0, 1):
        train(tmp_path / str(seed), Settings(n_steps=1, seed=seed, n_sequences=1, n_positions=32))
        weights.append((tmp_path / str(seed) / "model" / "model.safetensors").read_bytes())
    assert weights[0] != weights[1]


def test_command_trains_into_a_folder(tmp_path):
    command = [sys.executable, "-m", "lmfacts.demo.train", "--out", str(tmp_path), "--steps", "1", "--threads", "1"]
    environment = os.environ | {"PYTHONPATH": str(DEMO_DIR.parents[1])}
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=environment)
    assert done.stdout == ""
    assert "checkpoint     1" in done.stderr
    record = json.loads((tmp_path / "training.json").read_text(encoding="utf-8"))
    assert record["machine"]["n_threads"] == 1
    assert [entry["step"] for entry in record["checkpoints"]] == [0, 1]


@pytest.mark.parametrize("arguments", [["--steps", "0"], ["--threads", "-1"], ["--steps", "many"]])
def test_command_refuses_a_number_that_cannot_be_meant(arguments, capsys):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    assert stop.value.code == 2
    assert arguments[0] in capsys.readouterr().err
