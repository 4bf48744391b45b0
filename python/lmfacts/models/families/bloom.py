"""BLOOM: ALiBi, a norm after the embedding, q, k, v interleaved by head, modules that add the residual themselves."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmfacts.models.adapter import Architecture, Draft, Missing, Point, View, find_root, into, out
from lmfacts.models.family import Family
from lmfacts.models.weight_layout import Sizes, WeightTable, qkv_by_head
from lmfacts.sites import SiteKind

if TYPE_CHECKING:
    from torch import nn

__all__ = ["FAMILY"]


def describe(model: nn.Module) -> Architecture:
    """Describe a BLOOM model.

    The attention and MLP modules take the residual and return the sum, so `attn_out` and `mlp_out` are the outputs of
    their last dense layers. The projection's output is [..., 3 d], read as [..., head, (q, k, v), d_head].

    Raises:
        ModelError: the modules are not BLOOM's.
    """
    draft = Draft("bloom", model, find_root(model, blocks="h", embed="word_embeddings"), blocks="h")
    config = draft.config
    n_heads = config.n_head
    d = config.hidden_size
    d_head = d // n_heads
    # Only then does the model multiply slices of the dense layers' weights itself, without calling the layers.
    sliced = config.pretraining_tp > 1 and config.slow_but_exact
    bypassed = Missing(
        "with slow_but_exact the model does not call its dense layers; set config.slow_but_exact = False"
    )

    def unless_sliced(point: Point) -> Point | Missing:
        return bypassed if sliced else point

    draft.embed("word_embeddings", is_stream=False)
    for layer in range(len(draft.blocks)):
        draft.block(
            layer,
            {
                SiteKind.LN1_OUT: out("input_layernorm"),
                SiteKind.Q: out("self_attention.query_key_value", View(3 * d, 0, d_head, n_heads)),
                SiteKind.K: out("self_attention.query_key_value", View(3 * d, d_head, d_head, n_heads)),
                SiteKind.V: out("self_attention.query_key_value", View(3 * d, 2 * d_head, d_head, n_heads)),
                SiteKind.Z: unless_sliced(into("self_attention.dense")),
                SiteKind.ATTN_OUT: unless_sliced(out("self_attention.dense")),
                SiteKind.RESID_MID: into("post_attention_layernorm"),
                SiteKind.LN2_OUT: out("post_attention_layernorm"),
                SiteKind.MLP_PRE: out("mlp.dense_h_to_4h"),
                SiteKind.MLP_POST: unless_sliced(into("mlp.dense_4h_to_h")),
                SiteKind.MLP_OUT: unless_sliced(out("mlp.dense_4h_to_h")),
            },
        )
    draft.final_norm("ln_f")
    draft.head()
    draft.note("A norm follows the embedding: blocks.0.resid_pre is its output, embed its input.")
    if config.apply_residual_connection_post_layernorm:
        draft.note(
            "The residual is taken after the norms: resid_mid is ln1_out + attn_out, resid_post ln2_out + mlp_out."
        )
    if config.hidden_dropout > 0:
        draft.note("In training mode dropout acts on attn_out and mlp_out after they are recorded.")
    return draft.finish()


def weight_table(sizes: Sizes) -> WeightTable:
    """BLOOM's parameters."""
    return WeightTable(
        family="bloom",
        norm_kind="layernorm",
        blocks="h",
        outside={"word_embeddings": "embed.W_E", "ln_f": "ln_final", "lm_head": "unembed.W_U"},
        block={
            "input_layernorm": "ln1",
            "self_attention.query_key_value": qkv_by_head(sizes),
            "self_attention.dense": "W_O",
            "post_attention_layernorm": "ln2",
            "mlp.dense_h_to_4h": "W_in",
            "mlp.dense_4h_to_h": "W_out",
        },
        other_norms=frozenset({"word_embeddings_layernorm"}),
    )


FAMILY = Family(model_types=("bloom",), describe=describe, weight_table=weight_table)
