"""OLMo 2: Llama's modules, but the norms are on the branches' outputs instead of their inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmfacts.models.adapter import Architecture, Missing, into, out
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
    """Describe an OLMo 2 model: `resid_mid = resid_pre + norm(attention(resid_pre))`, and the same for the MLP.

    Raises:
        ModelError: the modules are not OLMo 2's.
    """
    draft = open_draft("olmo2", model)
    for layer in range(len(draft.blocks)):
        draft.block(
            layer,
            {
                SiteKind.LN1_OUT: Missing(
                    "attention reads resid_pre itself; its norm comes after it and gives attn_out"
                ),
                **ATTENTION,
                SiteKind.ATTN_OUT: out("post_attention_layernorm"),
                SiteKind.RESID_MID: into("mlp"),
                SiteKind.LN2_OUT: Missing("the MLP reads resid_mid itself; its norm comes after it and gives mlp_out"),
                **GATED_MLP,
                SiteKind.MLP_OUT: out("post_feedforward_layernorm"),
            },
        )
    draft.note(
        "attn_out and mlp_out are taken after the norm on each branch, as they are added to the residual stream."
    )
    return draft.finish()


def weight_table(_sizes: Sizes) -> WeightTable:
    """The parameters of OLMo 2: its norms come after attention and MLP, so no matrix of a block reads one."""
    return WeightTable(
        family="olmo2",
        norm_kind="rmsnorm",
        blocks="layers",
        outside=OUTSIDE,
        block={**ATTENTION_WEIGHTS, **MLP_WEIGHTS},
        before={},
        other_norms=HEAD_NORMS | {"post_attention_layernorm", "post_feedforward_layernorm"},
    )


FAMILY = Family(model_types=("olmo2",), describe=describe, weight_table=weight_table)
