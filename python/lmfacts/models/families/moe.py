"""Mixtral and the Qwen mixtures of experts, at block level: what goes on inside the experts has no site."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmfacts.models.adapter import Architecture, Missing, Point, into, out
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
from lmfacts.models.weight_layout import Part, Sizes, WeightTable, halves
from lmfacts.sites import SiteKind

if TYPE_CHECKING:
    from torch import nn

__all__ = ["FAMILY"]

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


_GATE_UP: tuple[Part, ...] = halves(("experts.*.W_gate", "gate"), ("experts.*.W_in", "up"))


def _mlp_weights(mlp: str) -> dict[str, str | tuple[Part, ...]]:
    """The names of experts: each in its own tensors, all in one, and (GGUF) all in one for each projection."""
    table: dict[str, str | tuple[Part, ...]] = {f"{mlp}.experts.gate_up_proj": _GATE_UP}
    for kind, names in {
        "W_gate": ("gate_proj", "w1"),
        "W_in": ("up_proj", "w3"),
        "W_out": ("down_proj", "w2"),
    }.items():
        table |= {f"{mlp}.experts.*.{name}": f"experts.*.{kind}" for name in names}
        table[f"{mlp}.experts.{names[0]}"] = f"experts.*.{kind}"
        table[f"{mlp}.shared_expert.{names[0]}"] = f"shared_expert.{kind}"
    return table


def weight_table(_sizes: Sizes) -> WeightTable:
    """The parameters of Mixtral and the Qwen mixtures: an expert's roles are `experts.5.W_in`; routers have none."""
    return WeightTable(
        family="moe",
        norm_kind="rmsnorm",
        blocks="layers",
        outside=OUTSIDE,
        block={
            "input_layernorm": "ln1",
            "post_attention_layernorm": "ln2",
            **ATTENTION_WEIGHTS,
            **MLP_WEIGHTS,
            **_mlp_weights("mlp"),
            **_mlp_weights("block_sparse_moe"),
        },
        other_norms=HEAD_NORMS,
    )


FAMILY = Family(model_types=("mixtral", "qwen2_moe", "qwen3_moe"), describe=describe, weight_table=weight_table)
