"""The runs that a page is about, as its figures read them."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING

from lmfacts.analysis.run_view import RunView
from lmfacts.analysis.weights_view import WeightsView

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmfacts.facts.inputs import Inputs
    from lmfacts.run.site import Population, SiteRecord

__all__ = ["RunsView", "evenly_chosen", "model_name"]

_PATH_END = re.compile(r"[^/\\]+$")
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


def evenly_chosen(layers: Sequence[int], most: int = N_DEPTHS) -> list[int]:
    """The layers at the shares 0, 1/4, 1/2, 3/4 and 1 of the depth."""
    last = len(layers) - 1
    return [layers[i] for i in sorted({round(share * last / (most - 1)) for share in range(most)})] if layers else []


def model_name(model_id: str) -> str:
    """A model's id to show: the last part of a path, so that a page tells nobody where files lie; else the id."""
    is_path = model_id.startswith(("/", "\\", ".", "~")) or bool(re.match(r"[A-Za-z]:[\\/]", model_id))
    end = _PATH_END.search(model_id.rstrip("/\\"))
    return end[0] if is_path and end else model_id
