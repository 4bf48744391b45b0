"""Language models among other towers: which modules are found, and what is said of those that are not theirs."""

from __future__ import annotations

import functools

import pytest
import torch
import transformers
from torch import nn

import lmfacts
from lmfacts.demo import MODEL_DIR
from lmfacts.errors import HookError, ModelError, UsageError
from lmfacts.models import describe, generic
from lmfacts.models.towers import other_towers, reads_more_than_tokens
from support.capture import capture
from support.every_family import CAUSAL, VISION, build_family
from support.tiny import build

IDS = torch.tensor([[5, 6, 7, 8, 9, 10], [11, 12, 13, 14, 15, 16]])
FOUND = {
    "gemma3": ("gemma", "model.language_model"),
    "llava": ("llama", "model.language_model"),
    "qwen2_vl": ("generic", "model.language_model"),
    "qwen3_vl": ("generic", "model.language_model"),
    "mistral3": ("llama", "model.language_model"),
    "paligemma": ("llama", "model.language_model"),
    "smolvlm": ("llama", "model.text_model"),
    "internvl": ("llama", "model.language_model"),
    "aya_vision": ("generic", "model.language_model"),
    "mllama": ("generic", "model.language_model"),
    "git": ("generic", "git"),
}


@functools.cache
def model_of(model_type, auto="vision"):
    if model_type not in (VISION if auto == "vision" else CAUSAL):
        pytest.skip(f"this version of transformers has no {model_type}")
    return build_family(model_type, auto)


@pytest.mark.parametrize("model_type", sorted(FOUND))
def test_the_language_models_blocks_are_found(model_type):
    model = model_of(model_type)
    architecture = describe(model)
    assert (architecture.family, architecture.root_path) == FOUND[model_type]
    elsewhere = other_towers(model)
    assert elsewhere
    assert not any(tap.module_path.startswith(elsewhere) for tap in architecture.taps)
    assert any("other towers have no sites" in note for note in architecture.notes)
    captured = capture(model, architecture, {"input_ids": IDS}, output_hidden_states=True)
    states, values = captured.output.hidden_states, captured.values
    for layer in range(2):
        assert torch.equal(values[f"blocks.{layer}.resid_pre"], states[layer].flatten(0, 1))
        assert torch.equal(values[f"blocks.{layer}.resid_post"], states[layer + 1].flatten(0, 1))
    assert torch.equal(values["logits"], captured.output.logits.flatten(0, 1))


def test_images_come_between_the_embedding_and_the_first_block():
    model = model_of("llava")
    ids = IDS.clone()
    ids[:, 1:5] = model.config.image_token_id = 95
    architecture = describe(model)
    assert "blocks.0.resid_pre" not in architecture.aliases
    images = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    captured = capture(model, architecture, {"input_ids": ids, "pixel_values": images}, output_hidden_states=True)
    stream = captured.values["blocks.0.resid_pre"]
    assert torch.equal(stream, captured.output.hidden_states[0].flatten(0, 1))
    same = (stream == captured.values["embed"]).all(dim=-1).reshape(2, 6)
    assert same.tolist() == [[True, False, False, False, False, True]] * 2
    by_structure = generic.describe(model)
    assert "blocks.0.resid_pre" not in by_structure.aliases
    assert by_structure.block_paths == architecture.block_paths


@pytest.mark.parametrize(
    ("model_type", "family", "list_path"),
    [
        ("blip-2", "opt", "language_model.model.decoder.layers"),
        ("idefics", "generic", "model.layers"),
        ("pi0", "llama", "model.vlm.language_model.layers"),
    ],
)
def test_models_that_need_an_image_are_described_all_the_same(model_type, family, list_path):
    architecture = describe(model_of(model_type))
    assert architecture.family == family
    assert architecture.block_paths[0] == f"{list_path}.0"
    assert "blocks.3.resid_post" in architecture.sites


def test_a_language_model_alone_has_no_other_towers():
    model = build("gemma3_text")
    assert other_towers(model) == ()
    assert not reads_more_than_tokens(model, "model")
    assert describe(model).aliases["blocks.0.resid_pre"] == "embed"


def test_a_block_that_text_does_not_reach_is_absent():
    architecture = describe(model_of("mllama"))
    assert "does not run on text alone" in architecture.absent["blocks.3.resid_post"]
    assert "model.language_model.layers.3:out" in architecture.absent["blocks.3.resid_post"]


def test_a_known_tower_for_images_is_not_the_language_model():
    class Outer(nn.Module):
        """A model whose tower for images is a Llama, and comes first."""

        def __init__(self):
            super().__init__()
            self.config = transformers.LlavaConfig(
                vision_config=build("llama").config, text_config=build("gpt2").config, image_token_id=90
            )
            self.vision_tower = build("llama", head=False)
            self.vision_tower.config = self.config.vision_config
            self.language_model = build("gpt2")

        def forward(self, input_ids):
            return self.language_model(input_ids=input_ids)

    model = Outer()
    assert other_towers(model) == ("vision_tower",)
    architecture = describe(model)
    assert (architecture.family, architecture.root_path) == ("gpt2", "language_model.transformer")
    assert generic.describe(model).block_paths == architecture.block_paths


@pytest.mark.parametrize("model_type", ["cpmant", "prophetnet", "reformer"])
def test_a_stream_that_is_not_one_of_tokens_has_no_sites(model_type):
    architecture = describe(model_of(model_type, "causal"))
    assert architecture.n_layers == 4
    for site in ("blocks.0.resid_pre", "blocks.3.resid_post"):
        assert "which does not say what belongs to which token" in architecture.absent[site]
    assert "logits" in architecture.sites


@pytest.mark.parametrize("n_shared", [0, 1])
def test_gemma_3n_works_on_one_stream_of_a_stack(n_shared):
    config = model_of("gemma3n_text", "causal").config
    config = type(config)(**{**config.to_dict(), "num_kv_shared_layers": n_shared})
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    architecture = describe(model)
    assert architecture.family == "gemma3n"
    captured = capture(model, architecture, {"input_ids": IDS}, output_hidden_states=True)
    states, values = captured.output.hidden_states, captured.values
    assert set(captured.n_calls.values()) == {1}
    for layer in range(3):
        assert torch.equal(values[f"blocks.{layer}.resid_pre"], states[layer][0].flatten(0, 1))
        assert torch.equal(values[f"blocks.{layer}.resid_post"], states[layer + 1][0].flatten(0, 1))
        block = model.get_submodule(architecture.block_paths[layer])
        with torch.no_grad():
            mixture = block.altup.predict(states[layer])[0].flatten(0, 1)
            assert torch.equal(values[f"blocks.{layer}.ln1_out"], block.input_layernorm(mixture))
            middle = mixture + values[f"blocks.{layer}.attn_out"] + block.laurel(values[f"blocks.{layer}.ln1_out"])
            torch.testing.assert_close(values[f"blocks.{layer}.resid_mid"], middle / 2**0.5)
    assert torch.equal(values["blocks.3.resid_post"], states[4][0].flatten(0, 1))
    cap = config.final_logit_softcapping
    with torch.no_grad():
        logits = cap * torch.tanh(model.lm_head(values["final_norm_out"]) / cap)
    torch.testing.assert_close(values["logits"], logits)
    assert torch.equal(values["logits"], captured.output.logits.flatten(0, 1))
    assert ("blocks.3.k" in architecture.absent) == (n_shared == 1)
    with pytest.raises(HookError, match="expected a stack of 2 tensors"):
        architecture.tap("blocks.0.resid_post").cut(torch.zeros(3, 2, 6, 32))


def test_blocks_that_run_again_are_named():
    architecture = describe(model_of("dory", "causal"))
    assert any("Blocks 1, 2 run more than once" in note for note in architecture.notes)
    assert not any("run more than once" in note for note in describe(build("llama")).notes)


@pytest.mark.parametrize("model_type", ["florence2", "t5gemma2"])
def test_an_encoder_with_a_decoder_is_refused_whatever_it_sees(model_type):
    if model_type not in VISION:
        pytest.skip(f"this version of transformers has no {model_type}")
    config = transformers.models.auto.configuration_auto.CONFIG_MAPPING[model_type]()
    with torch.device("meta"):
        model = transformers.AutoModelForImageTextToText.from_config(config)
    with pytest.raises(ModelError, match="encoder with a decoder"):
        describe(model)


def saved(model, folder):
    """A checkpoint with the tokenizer of the embedded model."""
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(MODEL_DIR).save_pretrained(folder)
    return folder


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("What is read is written here, and then again. " * 20)
    return path


def test_scan_of_a_model_that_reads_images(tmp_path, text):
    folder = saved(build_family("llava", "vision", vocab_size=260), tmp_path / "llava")
    with pytest.raises(UsageError, match="at most 64 tokens"):
        lmfacts.scan(folder, text, seq_len=65)
    run = lmfacts.scan(folder, text, sites="resid,logits", max_tokens=200)
    assert run.metadata["complete"]
    assert run.metadata["n_tokens"] == 200
    assert run.metadata["model"]["architecture"] == "LlavaForConditionalGeneration"
    assert run["blocks.3.resid_post"].n_tokens == 200


@pytest.mark.parametrize("kind", ["T5", "Bart"])
def test_scan_refuses_an_encoder_with_a_decoder(kind, tmp_path, text):
    config = getattr(transformers, f"{kind}Config")(vocab_size=260, d_model=16)
    with torch.device("meta"):
        model = getattr(transformers, f"{kind}ForConditionalGeneration")(config)
    folder = tmp_path / "model"
    config.architectures = [type(model).__name__]
    config.save_pretrained(folder)
    with pytest.raises(ModelError, match=r"encoder with a decoder.*attach with paths of its modules"):
        lmfacts.scan(folder, text)
