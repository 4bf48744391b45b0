"""The runs of a model as charts read them."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from lmfacts.analysis.run_view import RunView
from lmfacts.analysis.weights_view import WeightsView
from lmfacts.charts.kinds import kind_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmfacts.analysis.weights_view import WeightGroup
    from lmfacts.facts.inputs import Inputs
    from lmfacts.run.site import Population, SiteRecord
    from lmfacts.run.weight import WeightRecord

__all__ = ["RunsView", "evenly_chosen"]

N_DEPTHS = 5


class RunsView:
    """Runs of one model, each site and weight of them read once.

    Attributes:
        inputs: the runs.
        activations: the run of activations, or None.
        weights: the run of weights, or None.
    """

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.activations = None if inputs.activations is None else RunView(inputs.activations)
        self.weights = None if inputs.weights is None else WeightsView(inputs.weights)

    @property
    def population(self) -> Population:
        """The main population of the activations."""
        return "rest" if self.activations is None else self.activations.population

    @cached_property
    def residual(self) -> dict[int, SiteRecord]:
        """Layer -> site of the residual stream over the main population; empty where nothing was recorded."""
        return self.residual_over(self.population)

    def residual_over(self, population: Population) -> dict[int, SiteRecord]:
        """Layer -> site of the residual stream that has values in a population."""
        view = self.activations
        if view is None:
            return {}
        sites = {depth.layer: view.site(depth.name, population) for depth in view.depths if depth.layer >= 0}
        return {layer: site for layer, site in sites.items() if site.n_tokens and site.n_dims}

    def sites_of(self, kind: str, population: Population) -> dict[int, SiteRecord]:
        """Layer -> site of a kind that has tokens in a population."""
        view = self.activations
        if view is None:
            return {}
        sites = {layer: view.site(name, population) for layer, name in view.run.layers_of(kind).items()}
        return {layer: site for layer, site in sites.items() if site.n_tokens and site.n_dims}

    @cached_property
    def depths(self) -> list[int]:
        """Five layers of the residual stream, first and last among them: those whose dims were counted, if any."""
        in_detail = [layer for layer, site in self.residual.items() if site.dim_histograms is not None]
        return evenly_chosen(in_detail or list(self.residual))

    @cached_property
    def matrices(self) -> list[WeightGroup]:
        """The kinds of matrices of the blocks, embeddings left out, in the order of the forward pass."""
        if self.weights is None:
            return []
        return [group for group in self.weights.matrices if any(f.weight.layer is not None for f in group.figures)]

    @cached_property
    def middle_matrices(self) -> dict[str, WeightRecord]:
        """Kind, as charts write it -> its matrix in the middle of the model."""
        matrices = {}
        for group in self.matrices:
            weights = [figures.weight for figures in group.figures if figures.weight.layer is not None]
            matrices[kind_name(group.kind)] = weights[len(weights) // 2]
        return matrices


def evenly_chosen(layers: Sequence[int], most: int = N_DEPTHS) -> list[int]:
    """The layers at the shares 0, 1/4, 1/2, 3/4 and 1 of the depth."""
    last = len(layers) - 1
    return [layers[i] for i in sorted({round(share * last / (most - 1)) for share in range(most)})] if layers else []
