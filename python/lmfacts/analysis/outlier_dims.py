"""Whether the dims that stand out are the same ones through the depth of a model."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.errors import UsageError
from lmfacts.quantities.outlier_criteria import rms_outlier_dims

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from numpy.typing import NDArray

    from lmfacts.run import Run
    from lmfacts.run.site import Population, SiteRecord

__all__ = [
    "LEAST_LAYERS",
    "LEAST_PERSISTENCE",
    "Int8Features",
    "Persistence",
    "counted_layers",
    "int8_features",
    "persistence",
    "persistence_of",
]

INT8_THRESHOLD: Final = 6.0
"""The magnitude from which LLM.int8() calls a value an outlier."""

LEAST_PERSISTENCE: Final = 0.75
"""A dim that is an outlier dim in at least this share of the counted layers is persistent."""

LEAST_LAYERS: Final = 3
"""Recorded layers below which nothing is said to persist."""


@dataclass(frozen=True, eq=False)
class Int8Features:
    """How the dims fare by LLM.int8()'s definition of an outlier feature; arrays of length d.

    Attributes:
        n_layers: number of layers looked at.
        n_layers_hit: int64, in how many layers some value of the dim at some site reaches the threshold.
        layer_share: n_layers_hit / n_layers.
        position_share: share of the (layer, position) pairs at which the dim reaches the threshold: the mean over
            layers of the site with the largest share. A position hit at two sites of a layer counts once, and counts
            alone do not tell which those are, so this is the least the share can be.
        position_share_upper: the most it can be: the sites' shares added, at most 1 per layer.
        any_layer_share: share of the positions at which the dim reaches the threshold in at least one layer, the other
            reading of the paper: the least it can be, which is the largest share of a site.
        any_layer_share_upper: the most it can be: the shares of all sites of all layers added, at most 1.
        one_sided: bool, whether the dim is hit by values of one sign only (False where it is not hit).
    """

    n_layers: int
    n_layers_hit: NDArray[np.int64]
    position_share: NDArray[np.float64]
    position_share_upper: NDArray[np.float64]
    any_layer_share: NDArray[np.float64]
    any_layer_share_upper: NDArray[np.float64]
    one_sided: NDArray[np.bool_]

    @property
    def layer_share(self) -> NDArray[np.float64]:
        """Share of the layers in which the dim is hit."""
        return self.n_layers_hit / max(self.n_layers, 1)

    def dims(self, min_layer_share: float = 0.25, min_position_share: float = 0.06) -> NDArray[np.int64]:
        """Dims that pass both shares (by default those of the paper)."""
        return np.flatnonzero((self.layer_share >= min_layer_share) & (self.position_share >= min_position_share))


def int8_features(layers: Sequence[Sequence[SiteRecord]]) -> Int8Features:
    """Count values with |x| >= 6.0 per dim at the inputs of the projections (LLM.int8(), arXiv:2208.07339).

    Args:
        layers: for each layer its sites (the paper: `ln1_out`, `z` and `ln2_out`), all of one width.

    Raises:
        UsageError: no sites, sites of different widths, or sites recorded with another threshold.
    """
    sites = [site for layer in layers for site in layer]
    widths = {site.n_dims for site in sites}
    if len(widths) != 1 or not all(layers):
        raise UsageError(
            f"Outlier features need at least one site per layer, all of one width; got the widths {sorted(widths)}."
        )
    for site in sites:
        if site.threshold != INT8_THRESHOLD:
            raise UsageError(
                f"{site.name} counted values of at least {site.threshold}, not of {INT8_THRESHOLD}: record it with "
                f"the threshold {INT8_THRESHOLD}."
            )
    (width,) = widths
    n_layers_hit = np.zeros(width, dtype=np.int64)
    least, greatest = np.zeros(width), np.zeros(width)
    any_least, any_greatest = np.zeros(width), np.zeros(width)
    above, below = np.zeros(width, dtype=np.bool_), np.zeros(width, dtype=np.bool_)
    for layer in layers:
        shares = np.stack([site.dims.n_at_least / max(site.n_tokens, 1) for site in layer])
        n_layers_hit += (shares > 0).any(axis=0)
        least += shares.max(axis=0)
        greatest += np.minimum(shares.sum(axis=0), 1.0)
        any_least = np.maximum(any_least, shares.max(axis=0))
        any_greatest = np.minimum(any_greatest + shares.sum(axis=0), 1.0)
        for site in layer:
            above |= site.dims.max >= INT8_THRESHOLD
            below |= site.dims.min <= -INT8_THRESHOLD
    n_layers = len(layers)
    return Int8Features(
        n_layers=n_layers,
        n_layers_hit=n_layers_hit,
        position_share=least / n_layers,
        position_share_upper=greatest / n_layers,
        any_layer_share=any_least,
        any_layer_share_upper=any_greatest,
        one_sided=above ^ below,
    )


@dataclass(frozen=True, eq=False)
class Persistence:
    """At how many depths each dim is an outlier dim.

    Attributes:
        by_layer: layer -> its outlier dims, in order of depth.
        n_layers_outlying: int64 [d], number of these layers at which the dim is an outlier dim.
    """

    by_layer: Mapping[int, NDArray[np.int64]]
    n_layers_outlying: NDArray[np.int64]

    @property
    def layers(self) -> tuple[int, ...]:
        """The layers looked at."""
        return tuple(self.by_layer)

    @property
    def share(self) -> NDArray[np.float64]:
        """Share of the layers at which each dim is an outlier dim, float64 [d]; 0 without layers."""
        return self.n_layers_outlying / max(len(self.by_layer), 1)

    @property
    def jaccard(self) -> NDArray[np.float64]:
        """Overlap of the outlier dims of each two layers in sequence, [number of layers - 1].

        |A and B| / |A or B|; 0 where both are empty.
        """
        return np.array(
            [np.intersect1d(a, b).size / max(np.union1d(a, b).size, 1) for a, b in pairwise(self.by_layer.values())]
        )

    def dims(self, min_share: float = LEAST_PERSISTENCE) -> NDArray[np.int64]:
        """Dims that are outlier dims in at least this share of the layers (and in one)."""
        return np.flatnonzero((self.share >= min_share) & (self.n_layers_outlying > 0))


def counted_layers(recorded: Iterable[int], n_layers: int | None = None) -> list[int]:
    """The layers that persistence is counted over: those between the model's first and its last.

    Where fewer than two of them were recorded, all recorded layers are counted.

    Args:
        recorded: the recorded layers.
        n_layers: number of blocks of the model; None, or fewer than there are recorded: as many as those show.

    Returns:
        The counted layers, ascending.
    """
    layers = sorted(recorded)
    last = max(n_layers or 0, 1 + max(layers, default=-1)) - 1
    inner = [layer for layer in layers if 1 <= layer < last]
    return inner if len(inner) > 1 else layers


def persistence_of(
    sites: Mapping[int, SiteRecord], criterion: Callable[[SiteRecord], NDArray[np.int64]] = rms_outlier_dims
) -> Persistence:
    """Apply a criterion at each depth.

    Args:
        sites: layer -> site, in order of depth, all of one width.
        criterion: a function of this module, or any that gives dims.

    Raises:
        UsageError: sites of different widths.
    """
    widths = {site.n_dims for site in sites.values()}
    if len(widths) > 1:
        raise UsageError(f"Persistence needs sites of one width; got the widths {sorted(widths)}.")
    by_layer = {layer: criterion(site) for layer, site in sites.items()}
    n_layers_outlying = np.zeros(max(widths, default=0), dtype=np.int64)
    for dims in by_layer.values():
        n_layers_outlying[dims] += 1
    return Persistence(by_layer, n_layers_outlying)


def persistence(
    run: Run,
    *,
    population: Population = "rest",
    kind: str = "resid_post",
    layers: Sequence[int] | None = None,
    criterion: Callable[[SiteRecord], NDArray[np.int64]] = rms_outlier_dims,
) -> Persistence:
    """At how many depths of a run each dim is an outlier dim.

    Args:
        run: a run of activations.
        population: the population of tokens.
        kind: the kind of site to follow through the blocks.
        layers: the layers to look at; by default the `counted_layers` of those the run has.
        criterion: a function of this module, or any that gives dims.

    Raises:
        SiteNotFoundError: the run lacks the site at one of `layers`.
    """
    chosen = counted_layers(run.layers_of(kind), run.model.n_layers) if layers is None else sorted(layers)
    return persistence_of(
        {layer: run[f"blocks.{layer}.{kind}"].in_population(population) for layer in chosen}, criterion
    )
