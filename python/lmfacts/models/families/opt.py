"""OPT: learned positions, pre-norm blocks; OPT-350m has post-norm blocks and narrower embeddings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmfacts.models.adapter import Architecture, Draft, Missing, Point, Same, find_root, into, out
from lmfacts.models.family import Family
from lmfacts.models.weight_layout import PRE_NORM, Sizes, WeightTable
from lmfacts.sites import SiteKind

if TYPE_CHECKING:
    from torch import nn

__all__ = ["FAMILY"]


def describe(model: nn.Module) -> Architecture:
    """Describe an OPT model.

    `q` is the projection's output; OPT scales it by d_head^-1/2 afterwards. The MLP works on [sequences * positions,
    d], so `resid_mid`, `ln2_out` and the MLP's sites have two axes; in the post-norm variant `resid_mid` has three.

    In the post-norm variant (`do_layer_norm_before` False) a norm follows each sum: `resid_mid = resid_pre + attn_out`,
    `ln1_out` is its norm and what the MLP reads, and `resid_post`, the block's output, is the norm of `ln1_out +
    mlp_out`; `ln2_out` is that same tensor.

    Raises:
        ModelError: the modules are not OPT's.
    """
    draft = Draft("opt", model, find_root(model, blocks="layers", embed="embed_tokens"), blocks="layers")
    config = draft.config
    draft.embed("embed_tokens", is_stream=False)
    pre_norm = config.do_layer_norm_before
    resid_mid: Point = into("final_layer_norm" if pre_norm else "self_attn_layer_norm")
    for layer in range(len(draft.blocks)):
        draft.block(
            layer,
            {
                SiteKind.LN1_OUT: out("self_attn_layer_norm"),
                SiteKind.Q: out("self_attn.q_proj"),
                SiteKind.K: out("self_attn.k_proj"),
                SiteKind.V: out("self_attn.v_proj"),
                SiteKind.Z: into("self_attn.out_proj"),
                SiteKind.ATTN_OUT: out("self_attn"),
                SiteKind.RESID_MID: resid_mid,
                SiteKind.LN2_OUT: out("final_layer_norm") if pre_norm else Same(SiteKind.RESID_POST),
                SiteKind.MLP_PRE: out("fc1"),
                SiteKind.MLP_POST: into("fc2"),
                SiteKind.MLP_OUT: out("fc2"),
            },
        )
    has_final_norm = getattr(draft.root, "final_layer_norm", None) is not None
    draft.final_norm(
        "final_layer_norm" if has_final_norm else Missing("this variant of OPT has no norm after the blocks")
    )
    draft.head()
    draft.note("Learned positions are added after embed: blocks.0.resid_pre is the sum.")
    if not pre_norm:
        draft.note(
            "Post-norm blocks: a norm follows each sum, so resid_post is the norm of ln1_out + mlp_out, and ln1_out is "
            "the norm of resid_mid."
        )
    if config.word_embed_proj_dim != config.hidden_size:
        draft.note(
            f"embed has {config.word_embed_proj_dim} dims and is projected to {config.hidden_size}; the last block's "
            "output is projected back before the head."
        )
    if config.dropout > 0:
        draft.note("In training mode dropout acts on attn_out and mlp_out after they are recorded.")
    return draft.finish()


def weight_table(sizes: Sizes) -> WeightTable:
    """OPT's parameters. In the post-norm variant a block reads the norm at the end of the one before it."""
    pre_norm = sizes.get("do_layer_norm_before", True)
    post_norm = {**dict.fromkeys(("W_Q", "W_K", "W_V"), ("previous.ln2",)), "W_in": ("ln1",)}
    is_projected = sizes.number("word_embed_proj_dim") not in (None, sizes.number("hidden_size"))
    before_head = "ln_final" if pre_norm else "previous.ln2"
    return WeightTable(
        family="opt",
        norm_kind="layernorm",
        blocks="layers",
        outside={
            "embed_tokens": "embed.W_E",
            "embed_positions": "pos_embed.W_pos",
            "final_layer_norm": "ln_final",
            "lm_head": "unembed.W_U",
        },
        block={
            "self_attn_layer_norm": "ln1",
            "self_attn.q_proj": "W_Q",
            "self_attn.k_proj": "W_K",
            "self_attn.v_proj": "W_V",
            "self_attn.out_proj": "W_O",
            "final_layer_norm": "ln2",
            "fc1": "W_in",
            "fc2": "W_out",
        },
        before=PRE_NORM if pre_norm else post_norm,
        before_head=None if is_projected else before_head,
        notes=("The first two rows of OPT's pos_embed.W_pos are never used for a token's position.",),
    )


FAMILY = Family(model_types=("opt",), describe=describe, weight_table=weight_table)
