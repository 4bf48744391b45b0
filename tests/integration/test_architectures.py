"""Every family's taps against the model itself: hidden states, residual sums, norms, projections, patterns."""

from __future__ import annotations

import functools

import pytest
import torch
import transformers

from lmfacts.errors import HookError, ModelError, SiteNotFoundError, UsageError
from lmfacts.models import FAMILIES, Tap, View, describe, module_taps
from lmfacts.sites import Site, SiteKind
from support.capture import capture, capture_taps
from support.tiny import MODELS, TINY, batch, build
from support.truth import check, check_attention

ALL = sorted(TINY)
PARALLEL = {name for name in ALL if MODELS[name].parts.sums == "parallel"}


@functools.cache
def seen(name, side="right"):
    """A tiny model, its description, a batch, and what one forward pass of it shows."""
    model = build(name)
    architecture = describe(model)
    inputs = batch(model, side)
    return model, architecture, inputs, capture(model, architecture, inputs)


def test_every_model_type_has_a_tiny_model():
    elsewhere = {"gemma3", "gemma3n", "gemma3n_text"}  # test_towers.py
    assert {name.partition(":")[0] for name in ALL} | elsewhere == set(FAMILIES)


@pytest.mark.parametrize("side", ["right", "left", "none"])
@pytest.mark.parametrize("name", ALL)
def test_sites_have_the_values_of_the_model(name, side):
    model, _, inputs, captured = seen(name, side)
    check(name, model, captured.values, inputs)


@pytest.mark.parametrize("name", ALL)
def test_q_k_v_and_z_give_the_attention_pattern(name):
    model, architecture, _, _ = seen(name)
    inputs = batch(model, "none")
    if MODELS[name].is_rotary and not getattr(model.config, "alibi", False):
        # Where every position is 0 rotary embeddings change nothing, and q and k are what the pattern is made of.
        inputs["position_ids"] = torch.zeros_like(inputs["input_ids"])
    captured = capture(model, architecture, inputs, output_attentions=True)
    check_attention(name, model, captured.values, captured.output.attentions)


@pytest.mark.parametrize("name", ALL)
def test_a_wrong_value_at_any_site_is_noticed(name):
    model, architecture, inputs, captured = seen(name)
    noise = torch.Generator().manual_seed(3)
    last = f"blocks.{architecture.n_layers - 1}."
    for site in captured.values:
        if site.startswith("blocks.") and not site.startswith(("blocks.0.", last)):
            continue
        wrong = captured.values[site] + 0.05 * torch.randn(captured.values[site].shape, generator=noise)
        with pytest.raises(AssertionError, match="off by"):
            check(name, model, {**captured.values, site: wrong}, inputs)


SWAPS = [
    ("q", "k"),
    ("k", "v"),
    ("z", "v"),
    ("ln1_out", "ln2_out"),
    ("attn_out", "mlp_out"),
    ("mlp_pre", "mlp_post"),
    ("resid_pre", "resid_mid"),
    ("resid_mid", "resid_post"),
    ("ln2_out", "resid_mid"),
    ("attn_out", "z"),
]


@pytest.mark.parametrize("name", ALL)
def test_taps_on_each_others_modules_are_noticed(name):
    model, architecture, inputs, captured = seen(name)
    for one, other in SWAPS:
        a, b = (f"blocks.1.{kind}" for kind in (one, other))
        if a in architecture.sites and b in architecture.sites and architecture.owner(a) != architecture.owner(b):
            swapped = {**captured.values, a: captured.values[b], b: captured.values[a]}
            with pytest.raises((AssertionError, RuntimeError)):
                check(name, model, swapped, inputs)


@pytest.mark.parametrize("name", ALL)
def test_each_site_is_tapped_or_an_alias_or_absent_with_a_reason(name):
    _, architecture, _, _ = seen(name)
    layers = range(architecture.n_layers)
    expected = {str(Site(kind, layer)) for kind in SiteKind if kind.in_block for layer in layers}
    expected |= {str(Site(kind)) for kind in SiteKind if not kind.in_block}
    tapped = [tap.site for tap in architecture.taps]
    assert len(tapped) == len(set(tapped))
    assert sorted([*tapped, *architecture.aliases, *architecture.absent]) == sorted(expected)
    assert set(architecture.aliases.values()) <= set(tapped)
    assert list(architecture.sites) == sorted(architecture.sites, key=Site.parse)
    for reason in architecture.absent.values():
        assert len(reason.split()) >= 5
        assert not reason.endswith(".")
    for kind, sites in (("resid_mid", PARALLEL), ("resid_pre", set()), ("resid_post", set())):
        assert (f"blocks.0.{kind}" in architecture.absent) == (name in sites)


@pytest.mark.parametrize("name", ALL)
def test_taps_point_at_the_models_own_tensors(name):
    model, architecture, inputs, captured = seen(name)
    n_tokens = inputs["input_ids"].numel()
    assert all(captured.shared.values())
    assert set(captured.n_calls.values()) == {1}
    assert {values.shape[0] for values in captured.values.values()} == {n_tokens}
    widths = {"resid_pre", "resid_mid", "resid_post", "ln1_out", "ln2_out", "attn_out", "mlp_out"}
    for site, values in captured.values.items():
        if site.rpartition(".")[2] in widths:
            assert values.shape[1] == architecture.n_dims == model.config.hidden_size
    for tap in architecture.taps:
        if tap.view is not None:
            assert captured.values[tap.site].shape[1] == tap.view.n_dims
            assert len(captured.shapes[tap.site]) == 2 + tap.dim_axes


@pytest.mark.parametrize("name", ALL)
def test_aliases_are_the_very_tensor(name):
    model, architecture, inputs, _ = seen(name)
    tensors = {}

    def keep(key):
        def hook(_module, args, kwargs, output=None):
            tap = Tap(key, key, "in" if output is None else "out")
            tensors[key] = tap.tensor(args, kwargs, output)

        return hook

    handles = []
    for path in architecture.block_paths:
        block = model.get_submodule(path)
        handles.append(block.register_forward_pre_hook(keep(f"{path}:in"), with_kwargs=True))
        handles.append(block.register_forward_hook(keep(f"{path}:out"), with_kwargs=True))
    embedding = model.get_input_embeddings()
    handles.append(embedding.register_forward_hook(keep("embed"), with_kwargs=True))
    with torch.no_grad():
        model(**inputs)
    for handle in handles:
        handle.remove()
    blocks = architecture.block_paths
    for layer in range(1, len(blocks)):
        assert architecture.aliases[f"blocks.{layer}.resid_pre"] == f"blocks.{layer - 1}.resid_post"
        assert tensors[f"{blocks[layer]}:in"] is tensors[f"{blocks[layer - 1]}:out"]
    same = tensors[f"{blocks[0]}:in"] is tensors["embed"]
    assert (architecture.aliases.get("blocks.0.resid_pre") == "embed") == same


@pytest.mark.parametrize("name", ALL)
def test_a_base_model_has_the_same_sites_but_no_logits(name):
    whole, architecture, inputs, captured = seen(name)
    base = whole.base_model
    without_head = describe(base)
    assert "AutoModelForCausalLM" in without_head.absent["logits"]
    assert set(without_head.sites) == set(architecture.sites) - {"logits"}
    values = capture(base, without_head, inputs).values
    for site in without_head.sites:
        assert torch.equal(values[site], captured.values[site])
    root = base.get_submodule(without_head.root_path)
    assert root is whole.get_submodule(architecture.root_path)


@pytest.mark.parametrize("name", ALL)
def test_the_root_receives_the_tokens(name):
    model, architecture, inputs, _ = seen(name)
    received = {}

    def hook(_module, args, kwargs):
        received.update(kwargs)
        received.setdefault("input_ids", args[0] if args else None)

    handle = model.get_submodule(architecture.root_path).register_forward_pre_hook(hook, with_kwargs=True)
    with torch.no_grad():
        model(**inputs)
    handle.remove()
    assert torch.equal(received["input_ids"], inputs["input_ids"])
    assert torch.equal(received["attention_mask"], inputs["attention_mask"])


@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "phi3", "gptj", "gpt_neo"])
def test_branches_are_taken_after_dropout(name):
    model = build(name)
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.3
    architecture = describe(model)
    model.train()
    values = capture(model, architecture, batch(model)).values
    branches = values["blocks.1.attn_out"] + values["blocks.1.mlp_out"]
    torch.testing.assert_close(values["blocks.1.resid_pre"] + branches, values["blocks.1.resid_post"])
    assert (values["blocks.1.attn_out"] == 0).float().mean() > 0.2


def test_dropout_after_the_embedding_ends_the_alias():
    model = build("gpt_neox")
    assert describe(model).aliases["blocks.0.resid_pre"] == "embed"
    model.config.hidden_dropout = 0.1
    assert describe(model).tap("blocks.0.resid_pre").side == "in"


def test_layouts_of_fused_projections_are_views():
    interleaved = describe(build("gpt_neox")).tap("blocks.0.k")
    assert interleaved.view == View(width=120, start=8, length=8, n_groups=5)
    assert interleaved.dim_axes == 2
    grouped = describe(build("falcon:new_decoder")).tap("blocks.0.q")
    assert grouped.view == View(width=80, start=0, length=24, n_groups=2)
    assert describe(build("gpt2")).tap("blocks.0.v").dim_axes == 1
    fused = torch.arange(240.0).reshape(2, 120)
    part = interleaved.view(fused)
    assert part.shape == (2, 5, 8)
    assert part.untyped_storage().data_ptr() == fused.untyped_storage().data_ptr()
    assert part[1, 2].tolist() == list(range(176, 184))
    with pytest.raises(HookError, match=r"last axis has 120 values, got shape \(2, 60\)"):
        interleaved.view(fused[:, :60])


def test_capped_logits_are_the_models_own():
    model = build("gemma2")
    architecture = describe(model)
    tap = architecture.tap("logits")
    assert (tap.module_path, tap.key) == ("", "logits")
    assert any("lm_head:out" in note for note in architecture.notes)
    inputs = batch(model)
    for options in ({}, {"labels": inputs["input_ids"]}, {"labels": inputs["input_ids"], "return_dict": False}):
        logits = capture(model, architecture, inputs, **options).values["logits"]
        with torch.no_grad():
            assert torch.equal(logits, model(**inputs).logits.flatten(0, 1))


def test_bloom_without_its_dense_layers():
    model = build("bloom")
    model.config.pretraining_tp = 2
    model.config.slow_but_exact = True
    architecture = describe(model)
    for kind in ("z", "attn_out", "mlp_post", "mlp_out"):
        assert "slow_but_exact" in architecture.absent[f"blocks.0.{kind}"]


def test_a_module_without_a_tensor_is_an_error_that_names_it():
    tap = Tap("blocks.0.z", "model.layers.0.self_attn.o_proj", "in")
    with pytest.raises(HookError, match=r"expected a tensor as the input of module 'model\.layers\.0.*got NoneType"):
        tap.tensor((), {"mask": 1})
    tensor = torch.zeros(2)
    assert tap.tensor((), {"hidden_states": tensor}) is tensor
    output = Tap("blocks.0.attn_out", "attn", "out")
    assert output.tensor((), {}, (tensor, None)) is tensor
    assert output.tensor((), {}, [tensor]) is tensor
    assert output.tensor((), {}, {"first": tensor}) is tensor
    for empty in ((), {}, None, (None, tensor)):
        with pytest.raises(HookError):
            output.tensor((), {}, empty)


def test_an_absent_site_is_explained():
    architecture = describe(build("gptj"))
    with pytest.raises(SiteNotFoundError, match="parallel block"):
        architecture.tap("blocks.0.resid_mid")
    with pytest.raises(SiteNotFoundError, match="no site has this name"):
        architecture.tap("blocks.9.resid_mid")
    with pytest.raises(SiteNotFoundError, match=r"this model has no site 'blocks\.0\.ln2_out': parallel block"):
        architecture.select("ln2_out")
    assert architecture.select("blocks.-1.z") == ["blocks.1.z"]
    assert architecture.tap("blocks.1.resid_pre").site == "blocks.0.resid_post"


def test_wrapped_models_keep_their_sites():
    class Wrapper(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.module = model

        def forward(self, **inputs):
            return self.module(**inputs)

    for name in ("llama", "gpt2", "gemma2"):
        model, architecture, inputs, captured = seen(name)
        wrapped = Wrapper(model)
        described = describe(wrapped)
        assert described.sites == architecture.sites
        assert described.root_path == f"module.{architecture.root_path}"
        values = capture(wrapped, described, inputs).values
        assert all(torch.equal(values[site], captured.values[site]) for site in values)
        compiled = torch.compile(model, backend="eager")
        assert describe(compiled).block_paths[0] == f"_orig_mod.{architecture.block_paths[0]}"


def test_a_language_model_inside_a_vision_model():
    text = build("gemma3_text").config
    vision = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    config = transformers.Gemma3Config(
        text_config=text.to_dict(), vision_config={**vision, "image_size": 28, "patch_size": 14}, mm_tokens_per_image=4
    )
    model = transformers.Gemma3ForConditionalGeneration(config).eval()
    architecture = describe(model)
    assert (architecture.family, architecture.root_path) == ("gemma", "model.language_model")
    values = capture(model, architecture, batch(build("gemma3_text"))).values
    assert values["blocks.0.resid_pre"].shape == (33, 32)


def test_modules_by_path():
    model = build("llama")
    taps = module_taps(model, "model.layers.*.mlp.down_proj:in")
    assert [tap.site for tap in taps] == [f"model.layers.{layer}.mlp.down_proj:in" for layer in range(3)]
    values = capture_taps(model, taps, batch(model)).values
    expected = seen("llama")[3].values
    assert torch.equal(values["model.layers.2.mlp.down_proj:in"], expected["blocks.2.mlp_post"])
    assert [tap.side for tap in module_taps(model, "lm_head:out")] == ["out"]
    assert all(":" not in tap.module_path and tap.module_path != "model.layers" for tap in module_taps(model, "*:out"))
    with pytest.raises(SiteNotFoundError, match=r"did you mean model\.layers\.0\.mlp\.down_proj"):
        module_taps(model, "model.layers.0.mlp.downproj:in")
    with pytest.raises(UsageError, match="with a side"):
        module_taps(model, "model.layers.0.mlp")


def test_what_is_no_language_model_is_refused():
    with pytest.raises(ModelError, match=r"expected a torch\.nn\.Module .* got str"):
        describe("gpt2")
    with pytest.raises(ModelError, match="expected one token embedding"):
        describe(torch.nn.Linear(3, 4))
