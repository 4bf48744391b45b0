"""Which kind of norm a model has: it decides what of the residual stream its blocks can see."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from torch.nn import LayerNorm

if TYPE_CHECKING:
    from torch import nn

    from lmfacts.models.adapter import Architecture

__all__ = ["norm_kind"]


def norm_kind(model: nn.Module, architecture: Architecture) -> Literal["layernorm", "rmsnorm"] | None:
    """The kind of the final norm: `layernorm` takes off the mean over the dims, `rmsnorm` does not; None if unknown."""
    paths = [tap.module_path for tap in architecture.taps if tap.site == "final_norm_out"]
    if not paths:
        return None
    norm = model.get_submodule(paths[0])
    if isinstance(norm, LayerNorm):
        return "layernorm"
    return "rmsnorm" if "rmsnorm" in type(norm).__name__.lower() else None
