"""Gemma 2 and 3: Llama's modules, with a norm before and after attention and MLP; the first Gemma is like Llama."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmfacts.models.adapter import Architecture, into, out
from lmfacts.models.families.llama import (
    ATTENTION,
    ATTENTION_WEIGHTS,
    GATED_MLP,
    HEAD_NORMS,
    MLP_WEIGHTS,
    OUTSIDE,
    open_draft,
)
from lmfacts.models.family import Family
from lmfacts.models.weight_layout import Sizes, WeightTable
from lmfacts.sites import SiteKind

if TYPE_CHECKING:
    from torch import nn

__all__ = ["FAMILY"]


def describe(model: nn.Module) -> Architecture:
    """Describe a Gemma 2 or 3 model.

    `attn_out` and `mlp_out` are what is added to the residual stream, so they are taken after the norms on the branches
    (`post_attention_layernorm`, `post_feedforward_layernorm`). `embed` is the scaled embedding, sqrt(d) times the
    weights.

    Raises:
        ModelError: the modules are not Gemma's.
    """
    draft = open_draft("gemma", model)
    for layer in range(len(draft.blocks)):
        draft.block(
            layer,
            {
                SiteKind.LN1_OUT: out("input_layernorm"),
                **ATTENTION,
                SiteKind.ATTN_OUT: out("post_attention_layernorm"),
                SiteKind.RESID_MID: into("pre_feedforward_layernorm"),
                SiteKind.LN2_OUT: out("pre_feedforward_layernorm"),
                **GATED_MLP,
                SiteKind.MLP_OUT: out("post_feedforward_layernorm"),
            },
        )
    draft.note(
        "attn_out and mlp_out are taken after the norm on each branch, as they are added to the residual stream."
    )
    return draft.finish()


def weight_table(_sizes: Sizes) -> WeightTable:
    """The parameters of Gemma 2 and 3, which multiply by 1 + gain; the norms on the branches have no role."""
    return WeightTable(
        family="gemma",
        norm_kind="rmsnorm",
        blocks="layers",
        outside=OUTSIDE,
        block={
            "input_layernorm": "ln1",
            "pre_feedforward_layernorm": "ln2",
            **ATTENTION_WEIGHTS,
            **MLP_WEIGHTS,
        },
        gain_offset=1.0,
        other_norms=HEAD_NORMS | {"post_attention_layernorm", "post_feedforward_layernorm"},
    )


FAMILY = Family(model_types=("gemma2", "gemma3", "gemma3_text"), describe=describe, weight_table=weight_table)
