"""Where the sites and the weights of a model are: one file per Hugging Face family, and what is done for all others."""

from lmfacts.architectures.adapter import Architecture, Tap, View
from lmfacts.architectures.gguf_names import GgufName, gguf_config, gguf_tensor_names
from lmfacts.architectures.module_paths import module_taps
from lmfacts.architectures.registry import FAMILIES, describe
from lmfacts.architectures.weight_layout import WeightLayout, WeightView
from lmfacts.architectures.weight_roles import tied_head, weight_views

__all__ = [
    "FAMILIES",
    "Architecture",
    "GgufName",
    "Tap",
    "View",
    "WeightLayout",
    "WeightView",
    "describe",
    "gguf_config",
    "gguf_tensor_names",
    "module_taps",
    "tied_head",
    "weight_views",
]
