"""GPT-NeoX and Pythia: rotary, parallel blocks with two norms (or sequential ones), q, k and v interleaved by head."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmfacts.models.adapter import Architecture, Draft, Missing, View, find_root, into, out
from lmfacts.models.family import Family
from lmfacts.models.weight_layout import Sizes, WeightTable, qkv_by_head
from lmfacts.sites import SiteKind

if TYPE_CHECKING:
    from torch import nn

__all__ = ["FAMILY"]


def describe(model: nn.Module) -> Architecture:
    """Describe a GPT-NeoX model.

    The projection's output is [..., 3 d], read as [..., head, (q, k, v), d_head]. With `use_parallel_residual` (Pythia)
    both norms read the block's input and there is no `resid_mid`; without it the block is sequential.

    Raises:
        ModelError: the modules are not GPT-NeoX's.
    """
    draft = Draft("gpt_neox", model, find_root(model, blocks="layers", embed="embed_in"), blocks="layers")
    n_heads = draft.config.num_attention_heads
    d = draft.config.hidden_size
    d_head = d // n_heads
    draft.embed("embed_in", is_stream=draft.config.hidden_dropout == 0)
    for layer in range(len(draft.blocks)):
        draft.block(
            layer,
            {
                SiteKind.LN1_OUT: out("input_layernorm"),
                SiteKind.Q: out("attention.query_key_value", View(3 * d, 0, d_head, n_heads)),
                SiteKind.K: out("attention.query_key_value", View(3 * d, d_head, d_head, n_heads)),
                SiteKind.V: out("attention.query_key_value", View(3 * d, 2 * d_head, d_head, n_heads)),
                SiteKind.Z: into("attention.dense"),
                SiteKind.ATTN_OUT: out("post_attention_dropout"),
                SiteKind.RESID_MID: Missing("parallel block: attention and MLP both read resid_pre")
                if draft.config.use_parallel_residual
                else into("post_attention_layernorm"),
                SiteKind.LN2_OUT: out("post_attention_layernorm"),
                SiteKind.MLP_PRE: out("mlp.dense_h_to_4h"),
                SiteKind.MLP_POST: into("mlp.dense_4h_to_h"),
                SiteKind.MLP_OUT: out("post_mlp_dropout"),
            },
        )
    draft.final_norm("final_layer_norm")
    draft.head()
    return draft.finish()


def weight_table(sizes: Sizes) -> WeightTable:
    """GPT-NeoX's parameters; files call the head `embed_out`, transformers 5 `lm_head`."""
    return WeightTable(
        family="gpt_neox",
        norm_kind="layernorm",
        blocks="layers",
        outside={
            "embed_in": "embed.W_E",
            "final_layer_norm": "ln_final",
            "embed_out": "unembed.W_U",
            "lm_head": "unembed.W_U",
        },
        block={
            "input_layernorm": "ln1",
            "attention.query_key_value": qkv_by_head(sizes),
            "attention.dense": "W_O",
            "post_attention_layernorm": "ln2",
            "mlp.dense_h_to_4h": "W_in",
            "mlp.dense_4h_to_h": "W_out",
        },
        head="embed_out.weight",
    )


FAMILY = Family(model_types=("gpt_neox",), describe=describe, weight_table=weight_table)
