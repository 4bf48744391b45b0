"""What the sites of the tiny models have to be, computed without lmfacts, from the models themselves.

`check` holds the values at a model's sites against each other and against the model's hidden states and modules: the
residual sums, the norms, the projections, the activation functions. `check_attention` adds the attention patterns.
Every site takes part in at least one comparison.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import torch

from support.tiny import MODELS
from support.tiny_model import LLAMA_PARTS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transformers import PreTrainedModel

    from support.tiny_model import Parts

__all__ = ["blocks_of", "check", "check_attention", "own_qkv"]

_TOLERANCE = 2e-5


def _close(what: str, found: torch.Tensor, expected: torch.Tensor) -> None:
    expected = expected.reshape(found.shape)
    worst = (found - expected).abs().max().item()
    scale = max(1.0, expected.abs().max().item())
    assert worst <= _TOLERANCE * scale, f"{what}: off by {worst:.3g}"


def _root(name: str, model: PreTrainedModel) -> torch.nn.Module:
    return model.get_submodule(MODELS[name].root)


def blocks_of(name: str, model: PreTrainedModel) -> list[torch.nn.Module]:
    """The blocks of a tiny model."""
    return list(getattr(_root(name, model), MODELS[name].blocks))


def check(name: str, model: PreTrainedModel, values: Mapping[str, torch.Tensor], inputs: Mapping[str, Any]) -> None:
    """Hold the values at a tiny model's sites, [tokens, dims] each, against the model.

    Raises:
        AssertionError: a site has other values than it must have.
    """
    with torch.no_grad():
        output = model(**inputs, output_hidden_states=True)
        blocks = blocks_of(name, model)
        hidden = output.hidden_states
        assert len(hidden) == len(blocks) + 1
        embedded = model.get_input_embeddings()(inputs["input_ids"])
        _close("embed", values["embed"], embedded)
        for layer, block in enumerate(blocks):
            at = {site.rpartition(".")[2]: x for site, x in values.items() if site.startswith(f"blocks.{layer}.")}
            _close("resid_pre", at["resid_pre"], hidden[layer])
            if layer + 1 < len(blocks):
                _close("resid_post", at["resid_post"], hidden[layer + 1])
            _check_block(MODELS[name].parts, block, at)
            shape = (*inputs["input_ids"].shape, -1)
            read = at["ln1_out"] if "ln1_out" in at and MODELS[name].parts.sums != "post_norm" else at["resid_pre"]
            for kind, expected in zip("qkv", own_qkv(block, MODELS[name].parts, read.reshape(shape)), strict=True):
                _close(kind, at[kind], expected)
        _check_end(name, model, values, output)


def _check_block(parts: Parts, block: torch.nn.Module, at: Mapping[str, torch.Tensor]) -> None:
    """The sums, norms and projections of one block."""
    _check_sums(parts, at)
    norm1, norm2 = (at.get(kind) for kind in ("ln1_out", "ln2_out"))
    if parts.sums == "post_norm":
        _close("ln1_out", at["ln1_out"], _apply(block, parts.norm1, at["resid_mid"]))
        _close("ln2_out", at["ln2_out"], _apply(block, parts.norm2, at["ln1_out"] + at["mlp_out"]))
        read = at["ln1_out"]
    else:
        assert (norm1 is not None) == bool(parts.norm1)
        assert (norm2 is not None) == bool(parts.norm2)
        stream = at["resid_pre"] if parts.sums == "parallel" else at["resid_mid"]
        if norm1 is not None:
            _close("ln1_out", norm1, _apply(block, parts.norm1, at["resid_pre"]))
        if norm2 is not None:
            _close("ln2_out", norm2, _apply(block, parts.norm2, stream))
        # One norm serves both branches of a parallel block; without any, the MLP reads the stream.
        read = norm2 if norm2 is not None else norm1 if norm1 is not None else stream
    _close("attn_out", at["attn_out"], _apply(block, parts.post_attn, _apply(block, parts.w_o, at["z"])))
    _check_mlp(parts, block, at, read)


def _check_sums(parts: Parts, at: Mapping[str, torch.Tensor]) -> None:
    """What enters the residual stream where."""
    match parts.sums:
        case "sequential":
            _close("resid_mid", at["resid_mid"], at["resid_pre"] + at["attn_out"])
            _close("resid_post", at["resid_post"], at["resid_mid"] + at["mlp_out"])
        case "parallel":
            assert "resid_mid" not in at
            _close("resid_post", at["resid_post"], at["resid_pre"] + at["attn_out"] + at["mlp_out"])
        case "normed_residual":
            _close("resid_mid", at["resid_mid"], at["ln1_out"] + at["attn_out"])
            _close("resid_post", at["resid_post"], at["ln2_out"] + at["mlp_out"])
        case "post_norm":
            _close("resid_mid", at["resid_mid"], at["resid_pre"] + at["attn_out"])
            _close("resid_post", at["resid_post"], at["ln2_out"])


def _check_mlp(parts: Parts, block: torch.nn.Module, at: Mapping[str, torch.Tensor], read: torch.Tensor) -> None:
    """What the MLP makes of `read`."""
    if parts.moe and not hasattr(block.get_submodule(parts.moe), "down_proj"):
        assert "mlp_pre" not in at
        assert "mlp_post" not in at
        _close("mlp_out", at["mlp_out"], block.get_submodule(parts.moe)(read.unsqueeze(0)))
        return
    if parts.moe:
        parts = LLAMA_PARTS
    pre = _apply(block, parts.w_in, read)
    if parts.w_in == "mlp.gate_up_proj":
        pre, up = pre.chunk(2, dim=-1)
    else:
        up = _apply(block, parts.w_up, read) if parts.w_up else torch.ones_like(pre)
    _close("mlp_pre", at["mlp_pre"], pre)
    _close("mlp_post", at["mlp_post"], _apply(block, parts.act, at["mlp_pre"]) * up)
    _close("mlp_out", at["mlp_out"], _apply(block, parts.post_mlp, _apply(block, parts.w_out, at["mlp_post"])))


def _apply(block: torch.nn.Module, path: str, x: torch.Tensor) -> torch.Tensor:
    """A module of the block applied to `x`; `x` itself where the family has no such module."""
    result: torch.Tensor = block.get_submodule(path)(x) if path else x
    return result


def _check_end(name: str, model: PreTrainedModel, values: Mapping[str, torch.Tensor], output: Any) -> None:
    """The final norm and the logits."""
    root = _root(name, model)
    last = values[f"blocks.{len(blocks_of(name, model)) - 1}.resid_post"]
    if MODELS[name].parts.final_norm:
        last = root.get_submodule(MODELS[name].parts.final_norm)(last)
        _close("final_norm_out", values["final_norm_out"], last)
        last = values["final_norm_out"]
    project = getattr(root, "project_out", None)
    last = last if project is None else project(last)
    _close("hidden_states[-1]", last, output.hidden_states[-1])
    head: Any = model
    logits = head.get_output_embeddings()(last)
    cap = getattr(model.config, "final_logit_softcapping", None)
    logits = logits if cap is None else cap * torch.tanh(logits / cap)
    _close("logits", values["logits"], logits)
    _close("logits", values["logits"], output.logits)


def own_qkv(block: Any, parts: Parts, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """q, k and v of `x` [sequences, positions, d], split as the attention's own forward does; heads side by side."""
    attention = block.get_submodule(parts.attn)
    if hasattr(attention, "c_attn"):
        q, k, v = attention.c_attn(x).split(attention.split_size, dim=2)
        return q, k, v
    if hasattr(attention, "qkv_proj"):
        qkv = attention.qkv_proj(x)
        query_pos = attention.config.num_attention_heads * attention.head_dim
        key_pos = query_pos + attention.num_key_value_heads * attention.head_dim
        return qkv[..., :query_pos], qkv[..., query_pos:key_pos], qkv[..., key_pos:]
    if hasattr(attention, "_reshape"):
        q, k, v = (part.transpose(1, 2).flatten(2) for part in attention._reshape(attention.query_key_value(x)))
        return q, k, v
    if hasattr(attention, "_split_heads") and hasattr(attention, "query_key_value"):
        q, k, v = attention._split_heads(attention.query_key_value(x))
        if attention.new_decoder_architecture:
            # Falcon repeats each key-value head for the query heads that share it.
            n_shared = attention.num_heads // attention.num_kv_heads
            k, v = k[:, :, ::n_shared], v[:, :, ::n_shared]
        return q.flatten(2), k.flatten(2), v.flatten(2)
    if hasattr(attention, "query_key_value"):
        qkv = attention.query_key_value(x).view(*x.shape[:-1], -1, 3 * attention.head_size).transpose(1, 2)
        q, k, v = (part.transpose(1, 2).flatten(2) for part in qkv.chunk(3, dim=-1))
        return q, k, v
    return attention.q_proj(x), attention.k_proj(x), attention.v_proj(x)


def check_attention(
    name: str, model: PreTrainedModel, values: Mapping[str, torch.Tensor], patterns: tuple[torch.Tensor, ...]
) -> None:
    """Hold q, k, v and z against the attention patterns that the model reports, [sequences, heads, queries, keys].

    z must be the pattern times v. Without rotation (all positions 0) and without ALiBi, the pattern must be the softmax
    of the scaled q k^T. This knows nothing of the projections' layouts.
    """
    for layer, (block, pattern) in enumerate(zip(blocks_of(name, model), patterns, strict=True)):
        attention: Any = block.get_submodule(MODELS[name].parts.attn)
        n_sequences, n_heads, n_positions, _ = pattern.shape
        shape = (n_sequences, n_positions, -1)
        z = values[f"blocks.{layer}.z"].reshape(shape)
        d_head = z.shape[-1] // n_heads
        q, k, v = (values[f"blocks.{layer}.{kind}"].reshape(shape) for kind in "qkv")
        norm_width = attention.q_norm.weight.numel() if hasattr(attention, "q_norm") else 0
        if norm_width > d_head:
            q, k = attention.q_norm(q), attention.k_norm(k)
        q, k, v = (torch.unflatten(part, -1, (-1, d_head)).transpose(1, 2) for part in (q, k, v))
        if norm_width == d_head:
            q, k = attention.q_norm(q), attention.k_norm(k)
        k, v = (part.repeat_interleave(n_heads // part.shape[1], dim=1) for part in (k, v))
        _close("z", z, (pattern @ v).transpose(1, 2).reshape(z.shape))
        if getattr(model.config, "alibi", False) or model.config.model_type == "bloom":
            continue
        scores = q @ k.transpose(-1, -2) * _scale(attention, d_head)
        cap = getattr(model.config, "attn_logit_softcapping", None)
        scores = scores if cap is None else cap * torch.tanh(scores / cap)
        expected = scores.masked_fill(pattern == 0, -math.inf).softmax(-1)
        _close("pattern", pattern, expected)


def _scale(attention: Any, d_head: int) -> float:
    """What the model multiplies q k^T by."""
    if type(attention).__name__ == "GPTNeoSelfAttention":
        return 1.0
    return float(getattr(attention, "scaling", d_head**-0.5))
