"""A run of weights by kinds: each weight fetched once, its figures shared by all that ask for them."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.quantities.catalogue import QUANTITIES
from lmfacts.quantities.weight_figures import WeightFigures

if TYPE_CHECKING:
    from lmfacts.run import Run
    from lmfacts.run.weight import WeightRecord

__all__ = ["WeightGroup", "WeightsView"]

_ORDER: Final = ("embed.W_E", "pos_embed.W_pos", "W_Q", "W_K", "W_V", "W_O", "W_in", "W_gate", "W_out")
"""Kinds of matrices in the order of the forward pass, whatever the order in the file; other kinds follow."""

_NUMBER: Final = re.compile(r"(?<=\.)\d+(?=\.)")


@dataclass(frozen=True)
class WeightGroup:
    """The weights of one kind.

    Attributes:
        kind: the role without its block; `*` stands for the number of an expert, or of a layer in a parameter's name.
        figures: those of each weight, in order of depth.
    """

    kind: str
    figures: list[WeightFigures]

    @property
    def is_matrix(self) -> bool:
        """Whether these are matrices."""
        return self.figures[0].weight.is_matrix

    @property
    def shape(self) -> tuple[int, ...] | None:
        """Their shape, or None where it differs."""
        shapes = {figures.weight.shape for figures in self.figures}
        return shapes.pop() if len(shapes) == 1 else None

    def values(self, quantity: str) -> list[float]:
        """A figure of each weight that has it."""
        values = [float(getattr(figures, quantity)) for figures in self.figures]
        return [value for value in values if not math.isnan(value)]

    def median(self, quantity: str) -> float:
        """The median of a figure over the weights; NaN if none has it."""
        values = self.values(quantity)
        return float(np.median(values)) if values else math.nan

    def worst(self, quantity: str) -> WeightFigures:
        """The weight whose figure is farthest from a Gaussian's; the first where none has it."""
        distance = QUANTITIES[quantity].distance_from_gaussian
        return max(self.figures, key=lambda figures: distance(getattr(figures, quantity)))

    def by_layer(self, quantity: str) -> dict[int, float]:
        """A figure by layer, the median where a layer has several (experts); without those outside the blocks."""
        by_layer: dict[int, list[float]] = {}
        for figures in self.figures:
            if figures.weight.layer is not None:
                by_layer.setdefault(figures.weight.layer, []).append(float(getattr(figures, quantity)))
        return {layer: float(np.median(values)) for layer, values in sorted(by_layer.items())}


class WeightsView:
    """A run of weights, with what the sections of a report share.

    Attributes:
        run: the run.
    """

    def __init__(self, run: Run[WeightRecord]) -> None:
        self.run = run

    @cached_property
    def figures(self) -> dict[str, WeightFigures]:
        """The figures of each weight by name, in order of depth."""
        return {name: WeightFigures(self.run[name]) for name in self.run}

    @cached_property
    def groups(self) -> list[WeightGroup]:
        """The weights by kind, each kind where its first weight is in depth; matrices and vectors separately."""
        groups: dict[tuple[str, bool], WeightGroup] = {}
        for figures in self.figures.values():
            weight = figures.weight
            kind = _NUMBER.sub("*", weight.name if weight.kind is None else weight.kind)
            groups.setdefault((kind, weight.is_matrix), WeightGroup(kind, [])).figures.append(figures)
        return list(groups.values())

    @property
    def matrices(self) -> list[WeightGroup]:
        """The kinds of matrices."""
        return sorted((group for group in self.groups if group.is_matrix), key=_place)

    @property
    def vectors(self) -> list[WeightGroup]:
        """The kinds of vectors: gains and biases."""
        return [group for group in self.groups if not group.is_matrix]

    @cached_property
    def n_layers(self) -> int:
        """Number of blocks that have weights."""
        layers = [figures.weight.layer for figures in self.figures.values()]
        return max((layer for layer in layers if layer is not None), default=-1) + 1


def _place(group: WeightGroup) -> int:
    kind = group.kind.removeprefix("experts.*.")
    if kind in _ORDER:
        return _ORDER.index(kind)
    return len(_ORDER) + (group.kind == "unembed.W_U")
