"""Where the sites and the weights of a model are: one file per Hugging Face family, and what is done for all others.

Finding sites needs torch, naming weights does not: what needs it is loaded when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lmfacts.architectures.adapter import Architecture, Tap, View
from lmfacts.architectures.gguf_names import GgufName, gguf_config, gguf_tensor_names
from lmfacts.architectures.weight_layout import WeightLayout, WeightView
from lmfacts.architectures.weight_roles import tied_head, weight_views

if TYPE_CHECKING:
    from lmfacts.architectures.module_paths import module_taps
    from lmfacts.architectures.norms import norm_kind
    from lmfacts.architectures.registry import FAMILIES, describe
    from lmfacts.architectures.token_entry import TokenModules, token_modules
    from lmfacts.architectures.undescribed import architecture_for

__all__ = [
    "FAMILIES",
    "Architecture",
    "GgufName",
    "Tap",
    "TokenModules",
    "View",
    "WeightLayout",
    "WeightView",
    "architecture_for",
    "describe",
    "gguf_config",
    "gguf_tensor_names",
    "module_taps",
    "norm_kind",
    "tied_head",
    "token_modules",
    "weight_views",
]

_HOMES = {
    "FAMILIES": "registry",
    "TokenModules": "token_entry",
    "architecture_for": "undescribed",
    "describe": "registry",
    "module_taps": "module_paths",
    "norm_kind": "norms",
    "token_modules": "token_entry",
}


def __getattr__(name: str) -> Any:
    """Load what needs torch from its module."""
    if name in _HOMES:
        return getattr(import_module(f"lmfacts.architectures.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
