"""Gemma 3n: Gemma's blocks around a stream that is a stack of several, of which each block works on one (AltUp)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmfacts.models.adapter import Architecture, Draft, Missing, Plane, find_root, into, out
from lmfacts.models.families.llama import ATTENTION, ATTENTION_WEIGHTS, GATED_MLP, HEAD_NORMS, MLP_WEIGHTS, OUTSIDE
from lmfacts.models.family import Family
from lmfacts.models.weight_layout import Sizes, WeightTable
from lmfacts.sites import Site, SiteKind

if TYPE_CHECKING:
    from torch import nn

    from lmfacts.models.adapter import Point

__all__ = ["FAMILY"]

_SHARED = Missing("this block attends to the keys and values of an earlier one, and has none of its own")


def describe(model: nn.Module) -> Architecture:
    """Describe a Gemma 3n model.

    `resid_pre` and `resid_post` are the active stream of the stack that enters and leaves a block. A block does not
    add to that stream itself: it reads a mixture of all (the input of `input_layernorm`), and its result corrects all.
    `resid_mid` is what the MLP's norm reads: (mixture + attn_out + a short cut of low rank) / sqrt(2).

    Raises:
        ModelError: the modules are not Gemma 3n's.
    """
    draft = Draft("gemma3n", model, find_root(model, blocks="layers", embed="embed_tokens"), blocks="layers")
    active = Plane(draft.config.altup_active_idx, draft.config.altup_num_inputs)
    draft.embed("embed_tokens", is_stream=False)
    for layer, block in enumerate(draft.blocks):
        attention: dict[SiteKind, Point | Missing] = {**ATTENTION}
        if getattr(block.self_attn, "is_kv_shared_layer", False):
            attention |= {SiteKind.K: _SHARED, SiteKind.V: _SHARED}
        draft.block(
            layer,
            {
                SiteKind.LN1_OUT: out("input_layernorm"),
                **attention,
                SiteKind.ATTN_OUT: out("post_attention_layernorm"),
                SiteKind.RESID_MID: into("pre_feedforward_layernorm"),
                SiteKind.LN2_OUT: out("pre_feedforward_layernorm"),
                **GATED_MLP,
                SiteKind.MLP_OUT: out("post_feedforward_layernorm"),
            },
        )
        draft.tap(Site(SiteKind.RESID_POST, layer), draft.block_path(layer), "out", active)
    draft.tap(Site(SiteKind.RESID_PRE, 0), draft.block_path(0), "in", active)
    draft.final_norm("norm")
    draft.head(is_final=getattr(draft.config, "final_logit_softcapping", None) is None)
    draft.note(
        f"The stream is a stack of {active.length}, of which the active one ({active.index}) is recorded. A block "
        "reads a mixture of all of them and corrects all of them: resid_post is not resid_mid + mlp_out."
    )
    return draft.finish()


def weight_table(_sizes: Sizes) -> WeightTable:
    """The parameters of Gemma 3n, whose norms multiply by the gain alone; what belongs to the stack has no role."""
    return WeightTable(
        family="gemma3n",
        norm_kind="rmsnorm",
        blocks="layers",
        outside=OUTSIDE,
        block={
            "input_layernorm": "ln1",
            "pre_feedforward_layernorm": "ln2",
            **ATTENTION_WEIGHTS,
            **MLP_WEIGHTS,
        },
        other_norms=HEAD_NORMS
        | {
            "post_attention_layernorm",
            "post_feedforward_layernorm",
            "post_per_layer_input_norm",
            "laurel.post_laurel_norm",
            "altup.router_norm",
        },
    )


FAMILY = Family(model_types=("gemma3n", "gemma3n_text"), describe=describe, weight_table=weight_table)
