"""Phi-3: Llama's block with q, k, v in one projection and gate and up in another."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmfacts.models.adapter import Architecture, View, into, out
from lmfacts.models.families.llama import OUTSIDE, open_draft
from lmfacts.models.family import Family
from lmfacts.models.weight_layout import Sizes, WeightTable, halves, qkv_in_a_row
from lmfacts.sites import SiteKind

if TYPE_CHECKING:
    from torch import nn

__all__ = ["FAMILY"]


def describe(model: nn.Module) -> Architecture:
    """Describe a Phi-3 model.

    `qkv_proj`'s output is q, k, v one after the other, [..., (n + 2 n_kv) d_head]; `gate_up_proj`'s is [..., 2
    neurons], the gate first.

    Raises:
        ModelError: the modules are not Phi-3's.
    """
    draft = open_draft("phi3", model)
    config = draft.config
    d_head = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    q_size = config.num_attention_heads * d_head
    kv_size = config.num_key_value_heads * d_head
    width = q_size + 2 * kv_size
    for layer in range(len(draft.blocks)):
        draft.block(
            layer,
            {
                SiteKind.LN1_OUT: out("input_layernorm"),
                SiteKind.Q: out("self_attn.qkv_proj", View(width, 0, q_size)),
                SiteKind.K: out("self_attn.qkv_proj", View(width, q_size, kv_size)),
                SiteKind.V: out("self_attn.qkv_proj", View(width, q_size + kv_size, kv_size)),
                SiteKind.Z: into("self_attn.o_proj"),
                SiteKind.ATTN_OUT: out("resid_attn_dropout"),
                SiteKind.RESID_MID: into("post_attention_layernorm"),
                SiteKind.LN2_OUT: out("post_attention_layernorm"),
                SiteKind.MLP_PRE: out(
                    "mlp.gate_up_proj", View(2 * config.intermediate_size, 0, config.intermediate_size)
                ),
                SiteKind.MLP_POST: into("mlp.down_proj"),
                SiteKind.MLP_OUT: out("resid_mlp_dropout"),
            },
        )
    return draft.finish()


def weight_table(sizes: Sizes) -> WeightTable:
    """Phi-3's parameters: two fused projections, cut as in `describe`."""
    return WeightTable(
        family="phi3",
        norm_kind="rmsnorm",
        blocks="layers",
        outside=OUTSIDE,
        block={
            "input_layernorm": "ln1",
            "self_attn.qkv_proj": qkv_in_a_row(sizes),
            "self_attn.o_proj": "W_O",
            "post_attention_layernorm": "ln2",
            "mlp.gate_up_proj": halves(("W_gate", "gate"), ("W_in", "up")),
            "mlp.down_proj": "W_out",
        },
    )


FAMILY = Family(model_types=("phi3",), describe=describe, weight_table=weight_table)
