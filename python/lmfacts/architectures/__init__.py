"""Where the sites of a model are: one file per Hugging Face family, and an adapter by structure for all others."""

from lmfacts.architectures.adapter import Architecture, Tap, View
from lmfacts.architectures.module_paths import module_taps
from lmfacts.architectures.registry import FAMILIES, describe

__all__ = ["FAMILIES", "Architecture", "Tap", "View", "describe", "module_taps"]
