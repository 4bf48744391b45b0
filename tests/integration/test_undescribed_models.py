"""Models that have no description: recorded by the paths of their modules."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from lmfacts.architectures import architecture_for, describe, module_taps
from lmfacts.errors import ModelError, SiteNotFoundError, UnknownArchitectureError
from support.capture import capture_taps
from support.tiny import build

transformers = pytest.importorskip("transformers")


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
    with pytest.raises(UnknownArchitectureError, match="name modules by their paths"):
        describe(model)
    taps = module_taps(model, "a:out")
    values = capture_taps(model, taps, {"idx": torch.tensor([[3, 4, 5]])}).values
    assert values["a:out"].shape == (3, 8)
