"""Falcon: parallel blocks with one norm or two, or sequential ones; three layouts of q, k and v in one projection."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmfacts.models.adapter import Architecture, Draft, Missing, Point, View, find_root, into, out
from lmfacts.models.family import Family
from lmfacts.models.weight_layout import FUSED_ORDER, Sizes, WeightTable, qkv, qkv_in_a_row
from lmfacts.sites import SiteKind

if TYPE_CHECKING:
    from torch import nn

    from lmfacts.models.weight_layout import Part

__all__ = ["FAMILY"]


def describe(model: nn.Module) -> Architecture:
    """Describe a Falcon model of any variant.

    - `new_decoder_architecture` (40B, 180B, 11B): always parallel, with norms `ln_attn` and `ln_mlp` (40B, 180B) or
      one.
    - `parallel_attn` (7B): parallel, one norm for attention and MLP.
    - neither (RW): sequential, two norms.

    Raises:
        ModelError: the modules are not Falcon's.
    """
    draft = Draft("falcon", model, find_root(model, blocks="h", embed="word_embeddings"), blocks="h")
    parallel = draft.config.new_decoder_architecture or draft.config.parallel_attn
    draft.embed("word_embeddings", is_stream=True)
    n_heads = draft.config.num_attention_heads
    q, k, v = _qkv(
        n_heads,
        draft.config.num_kv_heads,
        draft.config.hidden_size // n_heads,
        new_decoder=draft.config.new_decoder_architecture,
        multi_query=draft.config.multi_query,
    )
    for layer, block in enumerate(draft.blocks):
        ln1: Point
        ln2: Point | Missing
        if hasattr(block, "ln_attn"):
            ln1, ln2 = out("ln_attn"), out("ln_mlp")
        elif parallel:
            ln1 = out("input_layernorm")
            ln2 = Missing("parallel block: attention and MLP read the same norm output, ln1_out")
        else:
            ln1, ln2 = out("input_layernorm"), out("post_attention_layernorm")
        draft.block(
            layer,
            {
                SiteKind.LN1_OUT: ln1,
                SiteKind.Q: out("self_attention.query_key_value", q),
                SiteKind.K: out("self_attention.query_key_value", k),
                SiteKind.V: out("self_attention.query_key_value", v),
                SiteKind.Z: into("self_attention.dense"),
                SiteKind.ATTN_OUT: out("self_attention"),
                SiteKind.RESID_MID: Missing("parallel block: attention and MLP both start from resid_pre")
                if parallel
                else into("post_attention_layernorm"),
                SiteKind.LN2_OUT: ln2,
                SiteKind.MLP_PRE: out("mlp.dense_h_to_4h"),
                SiteKind.MLP_POST: into("mlp.dense_4h_to_h"),
                SiteKind.MLP_OUT: out("mlp"),
            },
        )
    draft.final_norm("ln_f")
    draft.head()
    if draft.config.hidden_dropout > 0 or draft.config.attention_dropout > 0:
        draft.note("In training mode dropout acts on attn_out and mlp_out after they are recorded.")
    return draft.finish()


def _qkv(
    n_heads: int, n_kv_heads: int, d_head: int, *, new_decoder: bool, multi_query: bool
) -> tuple[View, View, View]:
    """Where q, k and v lie in the projection's output (g query heads share a key-value head; h is d_head wide).

    - new decoder: per key-value head, g query heads, then k, then v: [..., n_kv, (g h, h, h)];
    - multi-query: all query heads, then the one k, then the one v: [..., n h + h + h];
    - otherwise, per head, q, k and v: [..., n, (h, h, h)].
    """
    if new_decoder:
        n_groups = n_kv_heads
        queries = n_heads // n_groups * d_head
    elif multi_query:
        n_groups = 1
        queries = n_heads * d_head
    else:
        n_groups = n_heads
        queries = d_head
    width = n_groups * (queries + 2 * d_head)
    return (
        View(width, 0, queries, n_groups),
        View(width, queries, d_head, n_groups),
        View(width, queries + d_head, d_head, n_groups),
    )


def weight_table(sizes: Sizes) -> WeightTable:
    """Falcon's parameters, of any variant; a block that has no second norm reads one for attention and MLP."""
    return WeightTable(
        family="falcon",
        norm_kind="layernorm",
        blocks="h",
        outside={"word_embeddings": "embed.W_E", "ln_f": "ln_final", "lm_head": "unembed.W_U"},
        block={
            "input_layernorm": "ln1",
            "ln_attn": "ln1",
            "ln_mlp": "ln2",
            "post_attention_layernorm": "ln2",
            "self_attention.query_key_value": _parts(sizes),
            "self_attention.dense": "W_O",
            "mlp.dense_h_to_4h": "W_in",
            "mlp.dense_4h_to_h": "W_out",
        },
    )


def _parts(sizes: Sizes) -> tuple[Part, ...]:
    """q, k and v in the fused projection; not to be cut where the configuration lacks a size."""
    if sizes.get(FUSED_ORDER) == "q,k,v":
        return qkv_in_a_row(sizes)
    n_heads, n_kv_heads, d_head = sizes.n_heads, sizes.n_kv_heads, sizes.d_head
    if n_heads is None or n_kv_heads is None or d_head is None:
        return qkv(None)
    # These are the configuration class's own defaults for what a file leaves out.
    new_decoder, multi_query = sizes.get("new_decoder_architecture", False), sizes.get("multi_query", True)
    return qkv(_qkv(n_heads, n_kv_heads, d_head, new_decoder=bool(new_decoder), multi_query=bool(multi_query)))


FAMILY = Family(model_types=("falcon",), describe=describe, weight_table=weight_table)
