"""Models that see or hear as well: which of their modules are the language model, and which are not.

Such a model has one configuration with others in it, one for each tower. The language model's is the one that
`get_text_config` names; a module whose configuration is one of the others belongs to a tower for images or sound, and
its blocks are never taken for the language model's.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

__all__ = ["is_inside", "other_towers", "reads_more_than_tokens", "stated_embedding", "text_config"]

_SENSES: Final = re.compile(r"vision|image|video|audio|speech|qformer|perceiver|mm_|vq_|visual")


def text_config(config: Any) -> Any:
    """The configuration of the language model, which may be a part of the whole's; None if there is none at all."""
    getter = getattr(config, "get_text_config", None)
    if not callable(getter):
        return config
    try:
        return getter()
    except ValueError:  # several are there, and the whole's says which sizes belong to none of them
        return config


def other_towers(model: nn.Module) -> tuple[str, ...]:
    """The paths of the modules that are towers for images or sound, outermost first."""
    senses = [(path, config) for path, module in model.named_modules() for config in _senses(module)]
    towers: list[str] = []
    for path, module in model.named_modules():
        config = getattr(module, "config", None)
        if config is None or is_inside(path, towers):
            continue
        if any(is_inside(path, [owner]) and path != owner and _is_config(config, sense) for owner, sense in senses):
            towers.append(path)
    return tuple(towers)


def reads_more_than_tokens(model: nn.Module, root_path: str) -> bool:
    """Whether the language model at `root_path` is part of a model that may put other things between the tokens."""
    return any(True for path, module in model.named_modules() if is_inside(root_path, [path]) for _ in _senses(module))


def stated_embedding(model: nn.Module) -> nn.Module | None:
    """The token embedding that the model, or else the outermost of its modules that says anything, says it has."""
    elsewhere = other_towers(model)
    for path, module in model.named_modules():
        getter = getattr(module, "get_input_embeddings", None)
        if not callable(getter) or is_inside(path, elsewhere):
            continue
        try:
            given: Any = getter()
        except (AttributeError, NotImplementedError):  # what the getter raises where a model has none
            continue
        if callable(given):
            embedding: nn.Module = given
            return embedding
    return None


def is_inside(path: str, owners: list[str] | tuple[str, ...]) -> bool:
    """Whether a module is one of these, or lies in one of them."""
    return any(not owner or path == owner or path.startswith(f"{owner}.") for owner in owners)


def _senses(module: nn.Module) -> Iterator[Any]:
    """The configurations inside a module's that are of images or sound."""
    config = getattr(module, "config", None)
    names = getattr(config, "sub_configs", None)
    text = text_config(config)
    for name in names if isinstance(names, dict) else ():
        inner = getattr(config, name, None)
        if inner is not None and inner is not text and _SENSES.search(name):
            yield inner


def _is_config(config: Any, sense: Any) -> bool:
    """Whether a module's configuration is this one; some models give a copy to the module."""
    return config is sense or (
        type(config) is type(sense) and getattr(config, "model_type", "") == getattr(sense, "model_type", None)
    )
