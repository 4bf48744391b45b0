"""Llama and the models built like it: Mistral, Qwen 2 and 3, Gemma (the first), SmolLM."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmfacts.models.adapter import Architecture, Draft, Point, find_root, into, out
from lmfacts.models.family import Family
from lmfacts.models.weight_layout import Sizes, WeightTable
from lmfacts.sites import SiteKind

if TYPE_CHECKING:
    from torch import nn

__all__ = [
    "ATTENTION",
    "ATTENTION_WEIGHTS",
    "FAMILY",
    "GATED_MLP",
    "HEAD_NORMS",
    "MLP_WEIGHTS",
    "OUTSIDE",
    "open_draft",
]

ATTENTION: dict[SiteKind, Point] = {
    SiteKind.Q: out("self_attn.q_proj"),
    SiteKind.K: out("self_attn.k_proj"),
    SiteKind.V: out("self_attn.v_proj"),
    SiteKind.Z: into("self_attn.o_proj"),
}
"""Separate projections: q, k and v are their outputs, before `q_norm` and `k_norm`, if there are such, and rotary."""

GATED_MLP: dict[SiteKind, Point] = {
    SiteKind.MLP_PRE: out("mlp.gate_proj"),
    SiteKind.MLP_POST: into("mlp.down_proj"),
}
"""`down_proj(act(gate_proj(x)) * up_proj(x))`: the gate is what enters the activation function."""


def open_draft(family: str, model: nn.Module) -> Draft:
    """A draft with everything outside the blocks: `embed_tokens`, `norm`, the head.

    The embedding's output enters the first block as it is. Gemma scales it inside its embedding module; an
    implementation that scales it elsewhere has a plain embedding, and then the first block's input is a site of its
    own.
    """
    draft = Draft(family, model, find_root(model, blocks="layers", embed="embed_tokens"), blocks="layers")
    scaled = str(draft.config.model_type).startswith("gemma")
    draft.embed("embed_tokens", is_stream=not scaled or hasattr(draft.root.embed_tokens, "embed_scale"))
    draft.final_norm("norm")
    draft.head(is_final=getattr(draft.config, "final_logit_softcapping", None) is None)
    if draft.blocks and hasattr(getattr(draft.blocks[0], "self_attn", None), "q_norm"):
        draft.note(
            "q and k are the projections' outputs; this model then normalizes them (q_norm, k_norm) before rotary."
        )
    return draft


def describe(model: nn.Module) -> Architecture:
    """Describe a model of Llama's layout: pre-norm, separate projections, gated MLP.

    Raises:
        ModelError: the modules are not Llama's.
    """
    draft = open_draft("llama", model)
    for layer in range(len(draft.blocks)):
        draft.block(
            layer,
            {
                SiteKind.LN1_OUT: out("input_layernorm"),
                **ATTENTION,
                SiteKind.ATTN_OUT: out("self_attn"),
                SiteKind.RESID_MID: into("post_attention_layernorm"),
                SiteKind.LN2_OUT: out("post_attention_layernorm"),
                **GATED_MLP,
                SiteKind.MLP_OUT: out("mlp"),
            },
        )
    return draft.finish()


OUTSIDE: dict[str, str] = {"embed_tokens": "embed.W_E", "norm": "ln_final", "lm_head": "unembed.W_U"}
"""The parameters outside the blocks."""

ATTENTION_WEIGHTS: dict[str, str] = {
    "self_attn.q_proj": "W_Q",
    "self_attn.k_proj": "W_K",
    "self_attn.v_proj": "W_V",
    "self_attn.o_proj": "W_O",
}
"""Separate projections."""

MLP_WEIGHTS: dict[str, str] = {"mlp.gate_proj": "W_gate", "mlp.up_proj": "W_in", "mlp.down_proj": "W_out"}
"""A gated MLP; W_in is what the gate multiplies."""

HEAD_NORMS = frozenset({"self_attn.q_norm", "self_attn.k_norm"})
"""Norms of q and k, which have no role."""


def weight_table(sizes: Sizes) -> WeightTable:
    """The parameters of a model of Llama's layout; the first Gemma multiplies by 1 + gain."""
    return WeightTable(
        family="llama",
        norm_kind="rmsnorm",
        blocks="layers",
        outside=OUTSIDE,
        block={
            "input_layernorm": "ln1",
            "post_attention_layernorm": "ln2",
            **ATTENTION_WEIGHTS,
            **MLP_WEIGHTS,
        },
        gain_offset=1.0 if sizes.model_type == "gemma" else 0.0,
        other_norms=HEAD_NORMS,
    )


FAMILY = Family(
    model_types=("llama", "mistral", "qwen2", "qwen3", "smollm3", "gemma"), describe=describe, weight_table=weight_table
)
