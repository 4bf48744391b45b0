"""Where the sites and the weights of a model are: one file for each Hugging Face family, and a way for all others.

Finding sites needs torch, naming weights does not: what needs it is loaded when it is first asked for.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from lmfacts.models.adapter import Architecture, Tap, View
from lmfacts.models.gguf_names import GgufName, gguf_config, gguf_tensor_names
from lmfacts.models.registry import FAMILIES
from lmfacts.models.weight_layout import WeightLayout, WeightView
from lmfacts.models.weight_roles import tied_head, weight_views

if TYPE_CHECKING:
    from lmfacts.models.description import describe
    from lmfacts.models.module_paths import module_taps
    from lmfacts.models.norms import norm_kind
    from lmfacts.models.token_entry import TokenModules, token_modules
    from lmfacts.models.undescribed import architecture_for

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
    "TokenModules": "token_entry",
    "architecture_for": "undescribed",
    "describe": "description",
    "module_taps": "module_paths",
    "norm_kind": "norms",
    "token_modules": "token_entry",
}


def __getattr__(name: str) -> Any:
    """Load what needs torch from its module."""
    if name in _HOMES:
        return getattr(import_module(f"lmfacts.models.{_HOMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
