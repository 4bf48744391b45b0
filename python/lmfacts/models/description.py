"""The description of a model: from the family of its configuration's `model_type`, or else by structure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from lmfacts.errors import ModelError
from lmfacts.models import generic
from lmfacts.models.registry import FAMILIES
from lmfacts.models.towers import is_inside, other_towers

if TYPE_CHECKING:
    from lmfacts.models.adapter import Architecture

__all__ = ["describe"]


def describe(model: nn.Module) -> Architecture:
    """Say where the sites of a model are. The model is not changed.

    The model may be a causal LM, its base model without a head, or either inside a wrapper (`torch.compile`, data
    parallel, a vision-language model with a known language model in it). A model of an unknown family, or one that
    lacks a module its family has, is described by structure and a short trial run (see `generic`), and the notes say
    so.

    Raises:
        UnknownArchitectureError: no list of blocks can be found.
        ModelError: this is not a decoder-only language model.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(
            "expected a torch.nn.Module such as AutoModelForCausalLM.from_pretrained(...) gives, "
            f"got {type(model).__name__}"
        )
    model_type = _known_model_type(model)
    if model_type is None:
        return generic.describe(model)
    try:
        return FAMILIES[model_type].describe(model)
    except (ModelError, AttributeError) as error:
        note = f"The configuration says {model_type!r}, but {error}; the model is described by structure."
        return generic.describe(model, notes=[note])


def _known_model_type(model: nn.Module) -> str | None:
    """The known `model_type` of the model, or of the outermost known language model inside it."""
    elsewhere = other_towers(model)
    for path, module in model.named_modules():
        if is_inside(path, elsewhere):
            continue
        model_type = getattr(getattr(module, "config", None), "model_type", None)
        if isinstance(model_type, str) and model_type in FAMILIES:
            return model_type
    return None
