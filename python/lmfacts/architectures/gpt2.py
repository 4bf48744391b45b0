"""GPT-2: learned positions, pre-norm blocks, q, k and v in one projection, each in one piece."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmfacts.architectures.adapter import Architecture, Draft, View, find_root, into, out
from lmfacts.sites import SiteKind

if TYPE_CHECKING:
    from torch import nn

__all__ = ["describe"]


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
