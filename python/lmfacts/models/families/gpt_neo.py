"""GPT-Neo: GPT-2's block with separate q, k, v projections, alternating global and local attention."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmfacts.models.adapter import Architecture, Draft, find_root, into, out
from lmfacts.models.family import Family
from lmfacts.models.weight_layout import Sizes, WeightTable
from lmfacts.sites import SiteKind

if TYPE_CHECKING:
    from torch import nn

__all__ = ["FAMILY"]


def describe(model: nn.Module) -> Architecture:
    """Describe a GPT-Neo model, whose attention proper lies one level deeper, in `attn.attention`.

    Raises:
        ModelError: the modules are not GPT-Neo's.
    """
    draft = Draft("gpt_neo", model, find_root(model, blocks="h", embed="wte"), blocks="h")
    draft.embed("wte", is_stream=False)
    for layer in range(len(draft.blocks)):
        draft.block(
            layer,
            {
                SiteKind.LN1_OUT: out("ln_1"),
                SiteKind.Q: out("attn.attention.q_proj"),
                SiteKind.K: out("attn.attention.k_proj"),
                SiteKind.V: out("attn.attention.v_proj"),
                SiteKind.Z: into("attn.attention.out_proj"),
                SiteKind.ATTN_OUT: out("attn"),
                SiteKind.RESID_MID: into("ln_2"),
                SiteKind.LN2_OUT: out("ln_2"),
                SiteKind.MLP_PRE: out("mlp.c_fc"),
                SiteKind.MLP_POST: into("mlp.c_proj"),
                SiteKind.MLP_OUT: out("mlp"),
            },
        )
    draft.final_norm("ln_f")
    draft.head()
    draft.note("Learned positions are added after embed: blocks.0.resid_pre is the sum.")
    return draft.finish()


def weight_table(_sizes: Sizes) -> WeightTable:
    """GPT-Neo's parameters."""
    return WeightTable(
        family="gpt_neo",
        norm_kind="layernorm",
        blocks="h",
        outside={"wte": "embed.W_E", "wpe": "pos_embed.W_pos", "ln_f": "ln_final", "lm_head": "unembed.W_U"},
        block={
            "ln_1": "ln1",
            "attn.attention.q_proj": "W_Q",
            "attn.attention.k_proj": "W_K",
            "attn.attention.v_proj": "W_V",
            "attn.attention.out_proj": "W_O",
            "ln_2": "ln2",
            "mlp.c_fc": "W_in",
            "mlp.c_proj": "W_out",
        },
    )


FAMILY = Family(model_types=("gpt_neo",), describe=describe, weight_table=weight_table)
