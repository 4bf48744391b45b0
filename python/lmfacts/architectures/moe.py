"""Mixtral and the Qwen mixtures of experts, at block level: what goes on inside the experts has no site."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmfacts.architectures.adapter import Architecture, Missing, Point, into, out
from lmfacts.architectures.llama import ATTENTION, GATED_MLP, open_draft
from lmfacts.sites import SiteKind

if TYPE_CHECKING:
    from torch import nn

__all__ = ["describe"]

_EXPERTS = Missing(
    "mixture of experts: each token goes through its own experts, so the block has no one set of neurons"
)


def describe(model: nn.Module) -> Architecture:
    """Describe a Mixtral, Qwen2-MoE or Qwen3-MoE model; `mlp_out` is the experts' weighted sum, with any shared one.

    Layers with a dense MLP among the others (`mlp_only_layers`, `decoder_sparse_step`) have all MLP sites.

    Raises:
        ModelError: the modules are not those of these families.
    """
    draft = open_draft("moe", model)
    for layer, block in enumerate(draft.blocks):
        # transformers 4 called Mixtral's MLP block_sparse_moe.
        mlp = "mlp" if hasattr(block, "mlp") else "block_sparse_moe"
        dense = hasattr(getattr(block, mlp, None), "down_proj")
        neurons: dict[SiteKind, Point] | dict[SiteKind, Missing] = (
            GATED_MLP if dense else {SiteKind.MLP_PRE: _EXPERTS, SiteKind.MLP_POST: _EXPERTS}
        )
        draft.block(
            layer,
            {
                SiteKind.LN1_OUT: out("input_layernorm"),
                **ATTENTION,
                SiteKind.ATTN_OUT: out("self_attn"),
                SiteKind.RESID_MID: into("post_attention_layernorm"),
                SiteKind.LN2_OUT: out("post_attention_layernorm"),
                **neurons,
                SiteKind.MLP_OUT: out(mlp),
            },
        )
    return draft.finish()
