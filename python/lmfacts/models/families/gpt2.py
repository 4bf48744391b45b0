"""GPT-2: learned positions, pre-norm blocks, q, k and v in one projection, each in one piece."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmfacts.models.adapter import Architecture, Draft, View, find_root, into, out
from lmfacts.models.family import Family
from lmfacts.models.weight_layout import Sizes, WeightTable, qkv_in_thirds
from lmfacts.sites import SiteKind

if TYPE_CHECKING:
    from torch import nn

__all__ = ["FAMILY"]


def describe(model: nn.Module) -> Architecture:
    """Describe a GPT-2 model. `c_attn`'s output is [..., 3 d]: the thirds are q, k and v.

    Raises:
        ModelError: the modules are not GPT-2's.
    """
    draft = Draft("gpt2", model, find_root(model, blocks="h", embed="wte"), blocks="h")
    d = draft.config.hidden_size
    draft.embed("wte", is_stream=False)
    for layer, block in enumerate(draft.blocks):
        draft.block(
            layer,
            {
                SiteKind.LN1_OUT: out("ln_1"),
                SiteKind.Q: out("attn.c_attn", View(width=3 * d, start=0, length=d)),
                SiteKind.K: out("attn.c_attn", View(width=3 * d, start=d, length=d)),
                SiteKind.V: out("attn.c_attn", View(width=3 * d, start=2 * d, length=d)),
                SiteKind.Z: into("attn.c_proj"),
                SiteKind.ATTN_OUT: out("attn"),
                SiteKind.RESID_MID: into("ln_2"),
                SiteKind.LN2_OUT: out("ln_2"),
                SiteKind.MLP_PRE: out("mlp.c_fc"),
                SiteKind.MLP_POST: into("mlp.c_proj"),
                SiteKind.MLP_OUT: out("mlp"),
            },
        )
        if hasattr(block, "crossattention"):
            draft.note("The blocks have cross-attention; what it adds is in resid_mid and has no site of its own.")
    draft.final_norm("ln_f")
    draft.head()
    draft.note("Learned positions are added after embed: blocks.0.resid_pre is the sum.")
    return draft.finish()


def weight_table(_sizes: Sizes) -> WeightTable:
    """GPT-2's parameters. Its matrices (Conv1D) are stored [in, out]; GGUF files have them as [out, in]."""
    return WeightTable(
        family="gpt2",
        norm_kind="layernorm",
        blocks="h",
        outside={"wte": "embed.W_E", "wpe": "pos_embed.W_pos", "ln_f": "ln_final", "lm_head": "unembed.W_U"},
        block={
            "ln_1": "ln1",
            "attn.c_attn": qkv_in_thirds(),
            "attn.c_proj": "W_O",
            "ln_2": "ln2",
            "mlp.c_fc": "W_in",
            "mlp.c_proj": "W_out",
        },
        conv1d="attn.c_attn",
        other_norms=frozenset({"ln_cross_attn"}),
    )


FAMILY = Family(model_types=("gpt2",), describe=describe, weight_table=weight_table)
