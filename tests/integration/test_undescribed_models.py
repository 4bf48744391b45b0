"""Models that have no description: recorded by the paths of their modules."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from torch import nn
from typer.testing import CliRunner

import lmfacts
from lmfacts.cli import application
from lmfacts.errors import ModelError, SiteNotFoundError, UnknownArchitectureError
from lmfacts.models import architecture_for, describe
from support.tiny import build


class Plain(nn.Module):
    """A model without a list of blocks."""

    def __init__(self):
        super().__init__()
        self.emb = nn.Embedding(20, 8)
        self.a = nn.Linear(8, 8)

    def forward(self, idx):
        return self.a(self.emb(idx))


def t5():
    config = transformers.T5Config(vocab_size=50, d_model=16, d_ff=24, num_layers=2, num_heads=2, d_kv=8)
    return transformers.T5ForConditionalGeneration(config).eval()


def bart():
    small = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    config = transformers.BartConfig(vocab_size=50, d_model=16, max_position_embeddings=32, **small, **heads)
    return transformers.BartForConditionalGeneration(config).eval()


def whisper():
    small = {"encoder_layers": 1, "decoder_layers": 1, "encoder_ffn_dim": 24, "decoder_ffn_dim": 24}
    heads = {"encoder_attention_heads": 2, "decoder_attention_heads": 2}
    tokens = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2, "decoder_start_token_id": 1}
    config = transformers.WhisperConfig(vocab_size=50, d_model=16, num_mel_bins=8, **small, **heads, **tokens)
    return transformers.WhisperForConditionalGeneration(config).eval()


@pytest.mark.parametrize(
    ("make", "path", "reason", "width"),
    [
        (Plain, "a:out", "expected a ModuleList of blocks in Plain", 8),
        (t5, "encoder.block.*:out", "encoder with a decoder", 16),
        (bart, "model.decoder.layers.0.fc1:out", "encoder with a decoder", 16),
        (whisper, "model.encoder.layers.0:in", "encoder with a decoder", 16),
    ],
)
def test_paths_need_no_description(make, path, reason, width):
    model = make()
    for asked in (path, [path], f"{path}, {path}", (path, "*:in")):
        architecture = architecture_for(model, asked)
        assert (architecture.family, architecture.n_layers, architecture.n_dims) == ("undescribed", 0, width)
        assert (architecture.taps, architecture.block_paths, architecture.root_path) == ((), (), "")
        assert reason in architecture.notes[0]
        for site in ("embed", "final_norm_out", "logits"):
            with pytest.raises(SiteNotFoundError, match=reason):
                architecture.select(site)
    with pytest.raises(ModelError, match=reason):
        describe(model)
    for asked in ("default", "resid", f"{path},embed", [path, "blocks.*.z"], lambda _site: True, "", []):
        with pytest.raises(ModelError, match=reason):
            architecture_for(model, asked)


def test_a_model_with_a_description_keeps_it():
    model = build("gpt2")
    assert architecture_for(model, "transformer.h.0:out") == describe(model)
    assert architecture_for(model, "resid") == describe(model)
    for wrong in ("gpt2", None):
        with pytest.raises(ModelError, match=r"expected a torch\.nn\.Module"):
            architecture_for(wrong, "h.0:out")


def test_the_errors_advice_can_be_followed():
    model = Plain()
    ids = torch.tensor([[3, 4, 5], [6, 7, 8]])
    with pytest.raises(UnknownArchitectureError, match="name modules by their paths"):
        lmfacts.attach(model)
    with torch.no_grad(), lmfacts.attach(model, "a:out,a:in", on_error="raise") as recorder:
        model(ids)
    run = recorder.run()
    assert run.metadata["complete"]
    assert (run.metadata["n_tokens"], run.metadata["n_sequences"]) == (6, 2)
    expected = model(ids).detach().double().flatten(0, 1).numpy()
    assert np.abs(run["a:out"].dims.mean - expected.mean(0)).max() < 1e-12
    assert run["a:out"].n_tokens == run["a:in"].n_tokens == 6


def test_the_outputs_of_encoders_and_decoders_have_all_their_tokens():
    model, ids = bart(), torch.tensor([[3, 4, 5, 6], [7, 8, 9, 10]])
    said = torch.tensor([[2, 11, 12], [2, 13, 14]])
    paths = ["model.encoder.layers.0:out", "model.decoder.layers.0:out", "model.decoder.layers.0.fc1:out"]
    with torch.no_grad(), lmfacts.attach(model, paths, on_error="raise") as recorder:
        model(input_ids=ids, decoder_input_ids=said)
    run = recorder.run()
    assert [run[path].n_tokens for path in paths] == [8, 6, 6]
    with torch.no_grad():
        expected = model.get_encoder()(ids).last_hidden_state.double().flatten(0, 1).numpy()
    assert np.abs(run[paths[0]].dims.mean - expected.mean(0)).max() < 1e-6


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A run file of a model that has no description."""
    torch.manual_seed(0)
    model, path = Plain(), tmp_path_factory.mktemp("runs") / "plain.lmfacts"
    with torch.no_grad(), lmfacts.attach(model, "a:out,a:in") as recorder:
        for _ in range(3):
            model(torch.randint(0, 20, (4, 9)))
    recorder.run().save(path)
    return path


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        (["show"], "recorded by their paths"),
        (["show", "a:out"], "Moments"),
        (["show", "--json"], '"family": "undescribed"'),
        (["facts"], "NOT-APPLICABLE"),
        (["facts", "--json"], '"n_layers": 0'),
        (["compare", "."], "2 sites"),
        (["export", "-o", "x.csv"], "2 sites"),
        (["report", "-o", "x.html"], "saved"),
        (["report", "-o", "x.md"], "saved"),
    ],
)
def test_its_run_can_be_read_by_every_command(saved, command, expected, monkeypatch):
    monkeypatch.chdir(saved.parent)
    name, *rest = [saved.name if word == "." else word for word in command]
    done = CliRunner().invoke(application(), [name, saved.name, *rest])
    assert done.exit_code == 0, done.output
    assert expected in " ".join(done.output.split())  # lines break where the terminal's width says
