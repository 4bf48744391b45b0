"""What a family's file says of its models: the one object that `registry` looks for in it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from lmfacts.models.adapter import Architecture
    from lmfacts.models.weight_layout import Sizes, WeightTable

__all__ = ["Family"]


@dataclass(frozen=True, slots=True)
class Family:
    """Models of one layout.

    Attributes:
        model_types: the `model_type` of each configuration that has this layout; no two families share one.
        describe: where the sites of a model are. It raises `ModelError` or `AttributeError` for a model that is built
            otherwise than its configuration says.
        weight_table: what the parameters are, given the sizes in a configuration. It needs no torch.
    """

    model_types: tuple[str, ...]
    describe: Callable[[nn.Module], Architecture]
    weight_table: Callable[[Sizes], WeightTable]
