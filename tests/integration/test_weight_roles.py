"""Roles of the tiny models' weights, against what the models' own forward code computes with them."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

from lmfacts.checkpoints import open_weights
from lmfacts.models import tied_head, weight_views
from support.tiny import MODELS, TINY
from support.truth import blocks_of, own_qkv


@pytest.fixture(scope="module", params=TINY)
def saved(request, tmp_path_factory):
    """A tiny model, its folder, and every view's values, [rows, cols] or [n], from the file."""
    model = TINY[request.param]()
    folder = tmp_path_factory.mktemp("model")
    model.save_pretrained(folder)
    return request.param, model, folder


def values_of(source):
    layout = weight_views(source.shapes, source.config)
    tensors = {tensor.name: tensor for tensor in source.tensors}
    values = {}
    for view in layout.views:
        array = view(source.read(tensors[view.parameter]))
        flat = array.reshape(view.shape)
        assert view.name not in values
        values[view.name] = (view, np.array(flat.T if view.transposed else flat))
    return layout, values


def matrix(values, role):
    """A role's matrix as [out, in]."""
    return torch.from_numpy(values[role][1])


def test_every_value_is_seen_exactly_once(saved):
    _name, model, folder = saved
    with open_weights(folder) as source:
        layout, _values = values_of(source)
        assert sum(view.n_values for view in layout.views) == sum(tensor.n_values for tensor in source.tensors)
        for tensor in source.tensors:
            views = [view for view in layout.views if view.parameter == tensor.name]
            marks = np.zeros(tensor.shape, np.uint8)
            for view in views:
                seen = view(marks)
                if not np.shares_memory(seen, marks):  # a bias whose parts are interleaved
                    assert marks.ndim == 1
                    order = view(np.arange(marks.size))
                    marks[order] += 1
                else:
                    seen += 1
                assert math.prod(seen.shape) == view.n_values
            assert (marks == 1).all(), tensor.name
    stored = {name for file in folder.glob("*.safetensors") for name in load_file(file)}
    assert {tensor.name for tensor in source.tensors} == stored
    unique = {id(parameter): parameter for parameter in model.parameters()}
    assert sum(tensor.n_values for tensor in source.tensors) == sum(each.numel() for each in unique.values())


def test_every_matrix_of_a_block_has_a_role_but_routers(saved):
    name, model, folder = saved
    with open_weights(folder) as source:
        layout = weight_views(source.shapes, source.config)
    assert layout.n_layers == len(blocks_of(name, model))
    assert layout.notes == (() if not name.startswith("opt") else layout.notes)
    nameless = {view.parameter.rsplit(".", 2)[-2] for view in layout.views if view.role is None}
    assert nameless <= MODELS[name].without_role
    roles = {view.role for view in layout.views}
    parts = MODELS[name].parts
    is_gated = bool(parts.w_up) or parts.w_in == "mlp.gate_up_proj"
    for layer in range(layout.n_layers):
        for kind in ("W_Q", "W_K", "W_V", "W_O"):
            assert f"blocks.{layer}.{kind}" in roles
        if not parts.moe:
            assert f"blocks.{layer}.W_in" in roles
            assert f"blocks.{layer}.W_out" in roles
            assert (f"blocks.{layer}.W_gate" in roles) == is_gated
    assert "embed.W_E" in roles
    assert ("unembed.W_U" in roles) != (layout.aliases == {"unembed.W_U": "embed.W_E"})
    assert all(view.is_norm == ("norm" in view.parameter or ".ln" in view.parameter) for view in layout.views)


def test_projections_are_what_the_attention_computes(saved):
    name, model, folder = saved
    generator = torch.Generator().manual_seed(2)
    with open_weights(folder) as source, torch.no_grad():
        _, values = values_of(source)
        for layer, block in enumerate(blocks_of(name, model)):
            x = torch.randn(2, 5, values[f"blocks.{layer}.W_Q"][1].shape[1], generator=generator)
            for kind, expected in zip("QKV", own_qkv(block, MODELS[name].parts, x), strict=True):
                found = x @ matrix(values, f"blocks.{layer}.W_{kind}").T
                bias = values.get(f"blocks.{layer}.b_{kind}")
                found = found if bias is None else found + torch.from_numpy(bias[1])
                torch.testing.assert_close(found, expected.reshape(found.shape), rtol=1e-4, atol=1e-4)
            w_o = block.get_submodule(MODELS[name].parts.w_o)
            z = torch.randn(3, values[f"blocks.{layer}.W_O"][1].shape[1], generator=generator)
            found = z @ matrix(values, f"blocks.{layer}.W_O").T
            bias = values.get(f"blocks.{layer}.b_O")
            found = found if bias is None else found + torch.from_numpy(bias[1])
            torch.testing.assert_close(found, w_o(z), rtol=1e-4, atol=1e-4)


def dense_mlp(values, prefix, x, act):
    """The MLP with these roles; `act` is what the model applies."""

    def linear(kind, y):
        bias = values.get(f"{prefix}b_{kind}")
        product = y @ matrix(values, f"{prefix}W_{kind}").T
        return product if bias is None else product + torch.from_numpy(bias[1])

    hidden = act(linear("gate", x)) * linear("in", x) if f"{prefix}W_gate" in values else act(linear("in", x))
    return linear("out", hidden)


def test_mlps_are_what_the_model_computes(saved):
    name, model, folder = saved
    parts = MODELS[name].parts
    generator = torch.Generator().manual_seed(3)
    with open_weights(folder) as source, torch.no_grad():
        _, values = values_of(source)
        for layer, block in enumerate(blocks_of(name, model)):
            prefix = f"blocks.{layer}."
            if parts.moe:
                check_experts(block.mlp, values, prefix, generator)
                continue
            x = torch.randn(4, values[f"{prefix}W_in"][1].shape[1], generator=generator)
            pre = block.get_submodule(parts.w_in)(x)
            if parts.w_in == "mlp.gate_up_proj":
                pre, up = pre.chunk(2, dim=-1)
            else:
                up = block.get_submodule(parts.w_up)(x) if parts.w_up else torch.ones_like(pre)
            act = block.get_submodule(parts.act)
            expected = block.get_submodule(parts.w_out)(act(pre) * up)
            torch.testing.assert_close(dense_mlp(values, prefix, x, act), expected, rtol=1e-3, atol=1e-3)


def check_experts(mlp, values, prefix, generator):
    """Each expert against the module's own, by routing all tokens to it."""
    if hasattr(mlp, "down_proj"):
        x = torch.randn(4, values[f"{prefix}W_in"][1].shape[1], generator=generator)
        torch.testing.assert_close(dense_mlp(values, prefix, x, mlp.act_fn), mlp(x), rtol=1e-3, atol=1e-3)
        return
    n_experts = mlp.experts.gate_up_proj.shape[0]
    for expert in range(n_experts):
        scope = f"{prefix}experts.{expert}."
        x = torch.randn(4, values[f"{scope}W_in"][1].shape[1], generator=generator)
        chosen = torch.full((4, 1), expert)
        expected = mlp.experts(x, chosen, torch.ones(4, 1))
        torch.testing.assert_close(dense_mlp(values, scope, x, mlp.experts.act_fn), expected, rtol=1e-3, atol=1e-3)
    shared = getattr(mlp, "shared_expert", None)
    assert (f"{prefix}shared_expert.W_in" in values) == (shared is not None)
    if shared is not None:
        x = torch.randn(4, shared.gate_proj.in_features, generator=generator)
        found = dense_mlp(values, f"{prefix}shared_expert.", x, shared.act_fn)
        torch.testing.assert_close(found, shared(x), rtol=1e-3, atol=1e-3)


def test_norms_embeddings_and_head_are_the_models(saved):
    name, model, folder = saved
    with open_weights(folder) as source:
        layout, values = values_of(source)
    parts = MODELS[name].parts
    assert torch.equal(matrix(values, "embed.W_E"), model.get_input_embeddings().weight)
    head = layout.aliases.get("unembed.W_U", "unembed.W_U")
    assert torch.equal(matrix(values, head), model.get_output_embeddings().weight)
    for layer, block in enumerate(blocks_of(name, model)):
        for norm, path in (("ln1", parts.norm1), ("ln2", parts.norm2)):
            assert (f"blocks.{layer}.{norm}.gain" in values) == bool(path)
            if path:
                module = block.get_submodule(path)
                assert torch.equal(matrix(values, f"blocks.{layer}.{norm}.gain"), module.weight)
                if layout.norm_kind == "layernorm":
                    assert torch.equal(matrix(values, f"blocks.{layer}.{norm}.bias"), module.bias)
    assert ("ln_final.gain" in values) == bool(parts.final_norm)
    assert layout.gain_offset == (1.0 if name.startswith("gemma") else 0.0)
    assert layout.norm_kind == ("layernorm" if "blocks.0.ln1.bias" in values else "rmsnorm")


def test_the_norm_before_a_matrix_is_the_one_whose_output_it_reads(saved):
    """With that norm's gain changed, what the matrix reads changes in proportion, and by no other norm's gain."""
    name, model, folder = saved
    with open_weights(folder) as source:
        layout = weight_views(source.shapes, source.config)
    parts = MODELS[name].parts
    blocks = blocks_of(name, model)
    reads = {"W_Q": "", "W_in": parts.w_in}
    if parts.moe:
        reads["W_in"] = ""
    attention = blocks[1].get_submodule(parts.attn)
    first = next(n for n in ("c_attn", "qkv_proj", "query_key_value", "q_proj") if hasattr(attention, n))
    reads["W_Q"] = f"{parts.attn}.{first}"
    for kind, path in reads.items():
        if not path:
            continue
        role = f"blocks.1.{kind}"
        taken = {}

        def hook(_module, args, taken=taken):
            taken["x"] = args[0].detach().clone()

        handle = blocks[1].get_submodule(path).register_forward_pre_hook(hook)
        ids = torch.randint(4, 90, (1, 6), generator=torch.Generator().manual_seed(4))
        with torch.no_grad():
            model(ids)
            before = taken["x"]
            affected = set()
            for layer in (0, 1):
                for norm, module_path in (("ln1", parts.norm1), ("ln2", parts.norm2)):
                    if not module_path:
                        continue
                    module = blocks[layer].get_submodule(module_path)
                    saved_weight = module.weight.clone()
                    module.weight.mul_(0).add_(
                        7.0 * saved_weight if layout.gain_offset == 0 else 7 * (1 + saved_weight) - 1
                    )
                    bias = getattr(module, "bias", None)
                    saved_bias = None if bias is None else bias.clone()
                    if bias is not None:
                        bias.mul_(7.0)
                    model(ids)
                    if torch.allclose(taken["x"], 7 * before, rtol=1e-3, atol=1e-3):
                        affected.add(f"blocks.{layer}.{norm}.gain")
                    module.weight.copy_(saved_weight)
                    if bias is not None:
                        bias.copy_(saved_bias)
        handle.remove()
        found = {layout.preceding_norm[role]} if role in layout.preceding_norm else set()
        assert found == affected, role


def test_stored_orientation(saved):
    name, _model, folder = saved
    with open_weights(folder) as source:
        layout = weight_views(source.shapes, source.config)
    turned = {view.kind for view in layout.views if view.transposed}
    assert turned == ({"W_Q", "W_K", "W_V", "W_O", "W_in", "W_out"} if MODELS[name].is_transposed else set())


def test_a_model_in_memory_gives_the_same_roles_and_values(saved):
    _name, model, folder = saved
    with open_weights(folder) as source:
        layout, values = values_of(source)
    with open_weights(model) as source:
        layout_here, values_here = values_of(source)
        assert source.format == "module"
    assert {view.role for view in layout.views} == {view.role for view in layout_here.views}
    assert layout_here.preceding_norm == layout.preceding_norm
    assert layout_here.aliases == layout.aliases
    for role, (view, array) in values.items():
        if view.role is not None:
            np.testing.assert_array_equal(array, values_here[role][1])


def test_names_without_the_base_models_prefix_mean_the_same(saved):
    _name, _model, folder = saved
    with open_weights(folder) as source:
        layout = weight_views(source.shapes, source.config)
        prefixes = ("transformer.", "gpt_neox.", "model.decoder.", "model.")

        def bare(parameter):
            prefix = next((each for each in prefixes if parameter.startswith(each)), "")
            return parameter.removeprefix(prefix)

        for rename in (bare, lambda parameter: f"module._orig_mod.{parameter}"):
            renamed = weight_views({rename(key): shape for key, shape in source.shapes.items()}, source.config)
            assert [view.role for view in renamed.views] == [view.role for view in layout.views]


def test_without_a_configuration_nothing_is_guessed():
    model = TINY["gpt_neox"]()
    shapes = {name: tuple(each.shape) for name, each in model.named_parameters()}
    layout = weight_views(shapes, None)
    assert layout.family == "generic"
    assert not layout.preceding_norm
    fused = [view for view in layout.views if "query_key_value" in view.parameter]
    assert all(view.role is None and view.part is None for view in fused)
    assert "no configuration" in layout.notes[0]
    gpt2 = weight_views({name: tuple(each.shape) for name, each in TINY["gpt2"]().named_parameters()}, None)
    assert gpt2.family == "gpt2"
    assert "blocks.0.W_Q" in {view.role for view in gpt2.views}


def test_a_fused_tensor_that_does_not_fit_the_configuration_stays_whole():
    config = {"model_type": "gpt_neox", "num_attention_heads": 5, "hidden_size": 40}
    shapes = {"gpt_neox.layers.0.attention.query_key_value.weight": (121, 40)}
    layout = weight_views(shapes, config)
    assert [view.name for view in layout.views] == list(shapes)
    assert "left whole" in layout.notes[0]
    layout = weight_views({"gpt_neox.layers.0.attention.query_key_value.weight": (120, 40)}, {"model_type": "gpt_neox"})
    assert [view.role for view in layout.views] == [None]


def test_masks_and_frequencies_of_old_checkpoints_are_no_parameters():
    shapes = {"h.0.attn.bias": (1, 1, 64, 64), "h.0.attn.masked_bias": (), "h.0.attn.c_attn.bias": (96,)}
    layout = weight_views(shapes, {"model_type": "gpt2"})
    assert [(view.parameter, view.is_parameter) for view in layout.views[:2]] == [
        ("h.0.attn.bias", False),
        ("h.0.attn.masked_bias", False),
    ]
    assert [view.role for view in layout.views[2:]] == ["blocks.0.b_Q", "blocks.0.b_K", "blocks.0.b_V"]
    assert layout.views[1](np.float32(-1e4).reshape(())).shape == (1,)


def test_an_unknown_family_has_roles_by_name_and_says_so():
    shapes = {
        "model.embed_tokens.weight": (50, 8),
        "model.layers.0.self_attn.q_proj.weight": (8, 8),
        "model.layers.0.cross_attn.q_proj.weight": (8, 8),
        "model.layers.0.self_attn.k_proj.weight": (8, 8),
        "model.layers.0.mlp.experts.3.up_proj.weight": (16, 8),
        "model.layers.0.input_layernorm.weight": (8,),
        "vision.layers.4.self_attn.q_proj.weight": (8, 8),
    }
    layout = weight_views(shapes, {"model_type": "strange"})
    roles = {view.parameter: view.role for view in layout.views}
    assert roles["model.layers.0.self_attn.k_proj.weight"] == "blocks.0.W_K"
    assert roles["model.layers.0.self_attn.q_proj.weight"] is None
    assert roles["model.layers.0.mlp.experts.3.up_proj.weight"] == "blocks.0.experts.3.W_in"
    assert roles["vision.layers.4.self_attn.q_proj.weight"] is None
    assert next(view for view in layout.views if "input_layernorm" in view.parameter).is_norm
    assert layout.n_layers == 1
    assert "'strange'" in layout.notes[0]
    assert "blocks.0.W_Q" in layout.notes[1]
    assert not layout.preceding_norm


def test_a_tie_is_claimed_only_for_a_model_with_a_head():
    names = ["transformer.wte.weight"]
    assert tied_head(names, {"model_type": "gpt2"}) == ("lm_head.weight", "transformer.wte.weight")
    assert tied_head(names, {"model_type": "gpt2", "architectures": ["GPT2Model"]}) is None
    assert tied_head(names, {"model_type": "gpt2", "tie_word_embeddings": False}) is None
    assert tied_head(names, None) is None
    assert tied_head([*names, "lm_head.weight"], {"model_type": "gpt2"}) is None


def test_a_shard_of_gpt2_without_the_projection_that_shows_the_orientation():
    layout = weight_views({"h.1.mlp.c_fc.weight": (8, 32)}, {"model_type": "gpt2"})
    assert [(view.role, view.transposed) for view in layout.views] == [("blocks.1.W_in", True)]


def test_a_view_refuses_an_array_of_another_shape():
    view = weight_views({"h.0.attn.c_attn.weight": (8, 24)}, {"model_type": "gpt2"}).views[0]
    with pytest.raises(Exception, match=r"expected an array of shape \[8, 24\], got \[24, 8\]"):
        view(np.zeros((24, 8)))
