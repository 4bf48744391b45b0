"""Models with adapters, as PEFT puts them around a model: the same sites, the same roles, the same module paths."""

from __future__ import annotations

import peft
import pytest
import torch
from torch import nn

import lmfacts
from lmfacts.models import describe, generic, module_taps
from support.capture import capture, capture_taps
from support.tiny import batch, build


class Adapted(nn.Module):
    """A linear layer with a matrix of low rank beside it, built as PEFT builds it."""

    def __init__(self, base_layer):
        super().__init__()
        self.base_layer = base_layer
        width = base_layer(torch.zeros(1, 32)).shape[-1]
        self.lora_A = nn.ModuleDict({"default": nn.Linear(32, 2, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(2, width, bias=False)})

    def forward(self, x):
        return self.base_layer(x) + self.lora_B["default"](self.lora_A["default"](x))


class Copied(nn.Module):
    """A module whose trained copy is used in its place."""

    def __init__(self, module):
        super().__init__()
        self.original_module = module
        self.modules_to_save = nn.ModuleDict(
            {"default": nn.Linear(module.in_features, module.out_features, bias=False)}
        )

    def forward(self, x):
        return self.modules_to_save["default"](x)


class Passing(nn.Module):
    """A module that has the attributes of the one it wraps."""

    def __init__(self, name, wrapped):
        super().__init__()
        self.wrapped = name
        setattr(self, name, wrapped)

    def __getattr__(self, name):
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "wrapped":
                raise
            return getattr(getattr(self, self.wrapped), name)

    def forward(self, *args, **kwargs):
        return getattr(self, self.wrapped)(*args, **kwargs)


PROJECTIONS = {"llama": ("self_attn", "q_proj"), "gpt2": ("attn", "c_attn"), "opt": ("self_attn", "q_proj")}


def adapted(name, *, head=True):
    """A model with adapters on the projection to q."""
    torch.manual_seed(0)
    model = build(name, head=head)
    attention, projection = PROJECTIONS[name]
    for path in describe(model).block_paths:
        parent = model.get_submodule(f"{path}.{attention}")
        setattr(parent, projection, Adapted(getattr(parent, projection)))
    if head and name == "llama":
        model.lm_head = Copied(model.lm_head)
    return Passing("base_model", Passing("model", model)).eval()


@pytest.mark.parametrize("head", [True, False])
@pytest.mark.parametrize("name", sorted(PROJECTIONS))
def test_an_adapted_model_has_the_sites_of_its_family(name, head):
    bare, model = build(name, head=head), adapted(name, head=head)
    without, architecture = describe(bare), describe(model)
    assert architecture.family == without.family
    assert architecture.sites == without.sites
    assert architecture.aliases == without.aliases
    assert architecture.block_paths == tuple(f"base_model.model.{path}" for path in without.block_paths)
    assert {tap.module_path for tap in architecture.taps} <= {path for path, _ in model.named_modules()}
    assert generic.describe(model).block_paths == architecture.block_paths
    inputs = batch(bare)
    values = capture(model, architecture, inputs).values
    attention, projection = PROJECTIONS[name]
    layer = model.get_submodule(f"{architecture.block_paths[0]}.{attention}.{projection}")
    with torch.no_grad():
        expected = layer(values["blocks.0.ln1_out"])[:, :32]
        base = layer.base_layer(values["blocks.0.ln1_out"])[:, :32]
    assert torch.equal(values["blocks.0.q"], expected)
    assert not torch.allclose(values["blocks.0.q"], base, atol=1e-3)
    if head:
        with torch.no_grad():
            assert torch.equal(values["logits"], model(**inputs).logits.flatten(0, 1))


def test_paths_of_the_wrapped_model_are_found():
    model, inputs = adapted("llama"), batch(build("llama"))
    inner = module_taps(model, "model.layers.*.mlp.down_proj:in")
    assert [tap.site for tap in inner] == [f"model.layers.{layer}.mlp.down_proj:in" for layer in range(3)]
    whole = module_taps(model, "base_model.model.model.layers.*.mlp.down_proj:in")
    assert [tap.module_path for tap in inner] == [tap.module_path for tap in whole]
    assert whole[0].site == "base_model.model.model.layers.0.mlp.down_proj:in"
    values = capture_taps(model, [*inner, *whole], inputs).values
    assert torch.equal(values[inner[0].site], values[whole[0].site])
    base = module_taps(model, "model.layers.0.self_attn.q_proj.base_layer:out")
    assert base[0].module_path == "base_model.model.model.layers.0.self_attn.q_proj.base_layer"


@pytest.mark.parametrize("name", sorted(PROJECTIONS))
def test_weights_keep_their_roles(name):
    bare, run = lmfacts.scan_weights(build(name)), lmfacts.scan_weights(adapted(name))
    assert {entry["role"] for entry in run.metadata["sites"] if entry["role"]} == {
        entry["role"] for entry in bare.metadata["sites"] if entry["role"]
    }
    assert run["blocks.0.W_Q"].frobenius == bare["blocks.0.W_Q"].frobenius
    assert "base_layer" in run["blocks.0.W_Q"].parameter
    assert any("without what they add" in note for note in run.metadata["notes"])
    if name == "llama":
        assert run["unembed.W_U"].parameter.endswith("lm_head.modules_to_save.default.weight")
        assert any(site.endswith("lm_head.original_module.weight") for site in run)


@pytest.mark.filterwarnings("ignore::FutureWarning")  # PEFT asks transformers by names that it has renamed
def test_peft_itself():
    bare = build("llama")
    inputs = batch(bare)
    settings = peft.LoraConfig(
        r=2, target_modules=["q_proj", "down_proj"], task_type="CAUSAL_LM", init_lora_weights=False
    )
    model = peft.get_peft_model(build("llama"), settings).eval()
    assert describe(model).sites == describe(bare).sites
    values = capture(model, describe(model), inputs).values
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    with torch.no_grad():
        assert torch.equal(values["blocks.0.q"], layer(values["blocks.0.ln1_out"]))
