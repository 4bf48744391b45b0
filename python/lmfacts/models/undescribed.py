"""Models without a description: an encoder with a decoder, say, or a model without a list of blocks.

Nothing in them has a site's name, but any module can still be recorded by its path.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from torch import nn

from lmfacts.errors import ModelError
from lmfacts.models.adapter import Architecture
from lmfacts.models.description import describe
from lmfacts.sites import SiteKind, is_module_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["UNDESCRIBED", "architecture_for", "undescribed"]

UNDESCRIBED: Final = "undescribed"
"""The `family` of a model whose modules are recorded by their paths alone."""


def architecture_for(model: nn.Module, sites: str | Sequence[str] | Callable[[str], bool]) -> Architecture:
    """The description of a model that recording these sites needs. The model is not changed.

    Where every site is named by a module's path (`encoder.block.0:out`), a description is nice to have: without
    one, the answer is `undescribed`, and the paths can be recorded all the same.

    Args:
        model: any module.
        sites: what is to be recorded, as `lmfacts.attach` takes it.

    Raises:
        ModelError: some site has a name, or a preset, a glob or a function asks for names, and the model cannot be
            described; or `model` is no `torch.nn.Module`.
    """
    try:
        return describe(model)
    except ModelError as error:
        if not isinstance(model, nn.Module) or not _are_paths(sites):
            raise
        return undescribed(model, str(error))


def undescribed(model: nn.Module, reason: str) -> Architecture:
    """The description of a model of which nothing is known but its modules: no blocks, and no site at all.

    Its root is the model itself, which its caller gives the tokens.

    Args:
        model: any module.
        reason: why it has no better description, a sentence; it is what is said of every site that is asked for.
    """
    absent = {kind.value: reason for kind in SiteKind if not kind.in_block}
    return Architecture(
        family=UNDESCRIBED,
        n_layers=0,
        n_dims=_width(model),
        taps=(),
        aliases=MappingProxyType({}),
        absent=MappingProxyType(absent),
        notes=(f"The model's inside is not described, so modules are recorded by their paths: {reason.rstrip('.')}.",),
        block_paths=(),
        root_path="",
    )


def _are_paths(sites: str | Sequence[str] | Callable[[str], bool]) -> bool:
    """Whether every site is named by the path of a module."""
    if callable(sites):
        return False
    listed = sites.split(",") if isinstance(sites, str) else sites
    patterns = [pattern.strip() for pattern in listed if pattern.strip()]
    return bool(patterns) and all(map(is_module_pattern, patterns))


def _width(model: nn.Module) -> int:
    """The size of the model's stream as far as its configuration or its only embedding says it; 0 where none does."""
    config = getattr(model, "config", None)
    for key in ("hidden_size", "d_model"):
        stated = getattr(config, key, None)
        if isinstance(stated, int):
            return stated
    widths = {module.embedding_dim for module in model.modules() if isinstance(module, nn.Embedding)}
    return widths.pop() if len(widths) == 1 else 0
