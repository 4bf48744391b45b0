"""GPT-J: rotary, parallel blocks in which attention and MLP read the output of one norm."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmfacts.models.adapter import Architecture, Draft, Missing, find_root, into, out
from lmfacts.models.family import Family
from lmfacts.models.weight_layout import Sizes, WeightTable
from lmfacts.sites import SiteKind

if TYPE_CHECKING:
    from torch import nn

__all__ = ["FAMILY"]


def describe(model: nn.Module) -> Architecture:
    """Describe a GPT-J model.

    Raises:
        ModelError: the modules are not GPT-J's.
    """
    draft = Draft("gptj", model, find_root(model, blocks="h", embed="wte"), blocks="h")
    draft.embed("wte", is_stream=draft.config.embd_pdrop == 0)
    for layer in range(len(draft.blocks)):
        draft.block(
            layer,
            {
                SiteKind.LN1_OUT: out("ln_1"),
                SiteKind.Q: out("attn.q_proj"),
                SiteKind.K: out("attn.k_proj"),
                SiteKind.V: out("attn.v_proj"),
                SiteKind.Z: into("attn.out_proj"),
                SiteKind.ATTN_OUT: out("attn"),
                SiteKind.RESID_MID: Missing("parallel block: attention and MLP both start from resid_pre"),
                SiteKind.LN2_OUT: Missing("parallel block: attention and MLP read the same norm output, ln1_out"),
                SiteKind.MLP_PRE: out("mlp.fc_in"),
                SiteKind.MLP_POST: into("mlp.fc_out"),
                SiteKind.MLP_OUT: out("mlp"),
            },
        )
    draft.final_norm("ln_f")
    draft.head()
    return draft.finish()


def weight_table(_sizes: Sizes) -> WeightTable:
    """GPT-J's parameters; attention and MLP read one norm."""
    return WeightTable(
        family="gptj",
        norm_kind="layernorm",
        blocks="h",
        outside={"wte": "embed.W_E", "ln_f": "ln_final", "lm_head": "unembed.W_U"},
        block={
            "ln_1": "ln1",
            "attn.q_proj": "W_Q",
            "attn.k_proj": "W_K",
            "attn.v_proj": "W_V",
            "attn.out_proj": "W_O",
            "mlp.fc_in": "W_in",
            "mlp.fc_out": "W_out",
        },
    )


FAMILY = Family(model_types=("gptj",), describe=describe, weight_table=weight_table)
