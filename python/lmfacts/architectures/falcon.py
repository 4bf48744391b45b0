"""Falcon: parallel blocks with one norm or two, or sequential ones; three layouts of q, k and v in one projection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmfacts.architectures.adapter import Architecture, Draft, Missing, Point, View, find_root, into, out
from lmfacts.sites import SiteKind

if TYPE_CHECKING:
    from torch import nn

__all__ = ["describe"]


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
    q, k, v = _qkv(draft.config)
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


def _qkv(config: Any) -> tuple[View, View, View]:
    """Where q, k and v lie in the projection's output (g query heads share a key-value head; h is d_head wide).

    - new decoder: per key-value head, g query heads, then k, then v: [..., n_kv, (g h, h, h)];
    - multi-query: all query heads, then the one k, then the one v: [..., n h + h + h];
    - otherwise, per head, q, k and v: [..., n, (h, h, h)].
    """
    n_heads = config.num_attention_heads
    d_head = config.hidden_size // n_heads
    if config.new_decoder_architecture:
        n_groups = config.num_kv_heads
        queries = n_heads // n_groups * d_head
    elif config.multi_query:
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
