"""The outlier dims of the residual stream: which they are, at how many depths, and how far they are from the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.analysis.outlier_dims import LEAST_LAYERS, counted_layers, persistence_of
from lmfacts.quantities.outlier_criteria import OUTLIER_FACTOR

if TYPE_CHECKING:
    from lmfacts.analysis.run_view import RunView
    from lmfacts.run.site import Population

__all__ = ["CRITERION", "OutlierDim", "OutlierDims", "outlier_dims_by_depth"]

CRITERION: Final = f"RMS above {OUTLIER_FACTOR:g} times the median dim's RMS"
"""What makes a dim an outlier dim here: `lmfacts.quantities.outlier_criteria.rms_outlier_dims`."""


@dataclass(frozen=True, slots=True)
class OutlierDim:
    """A dim that is an outlier dim somewhere.

    Attributes:
        dim: the dim.
        layers: the layers at which it is one.
        persistence: the share of the counted layers at which it is one.
        rms_over_median: its RMS over the median dim's, at each layer looked at; NaN where that is not defined.
        peak_layer: the layer at which that ratio is largest.
        peak_ratio: the ratio there.
        peak_mean: its mean there.
        peak_mean_over_rms: mean / RMS there: near +1 or -1 if the dim is a constant, near 0 if it varies about 0.
    """

    dim: int
    layers: tuple[int, ...]
    persistence: float
    rms_over_median: tuple[float, ...]
    peak_layer: int
    peak_ratio: float
    peak_mean: float
    peak_mean_over_rms: float


@dataclass(frozen=True, slots=True)
class OutlierDims:
    """The outlier dims of one kind of site over one population.

    Attributes:
        kind: the kind of site that was followed through the layers.
        population: the tokens looked at.
        criterion: the criterion, in words.
        layers: the layers looked at.
        counted_layers: those that persistence and overlap are counted over, as fact F2 does: see
            `lmfacts.analysis.outlier_dims.counted_layers`.
        median_jaccard: overlap of the outlier dims of neighboring counted layers, median; NaN with fewer than two.
        persistent: the dims that are outlier dims in at least three quarters of the counted layers, ascending; none
            where fewer than three layers were recorded.
        dims: the outlier dims, the most persistent first, then by number of layers, then by peak ratio.
    """

    kind: str
    population: Population
    criterion: str
    layers: tuple[int, ...]
    counted_layers: tuple[int, ...]
    median_jaccard: float
    persistent: tuple[int, ...]
    dims: tuple[OutlierDim, ...]


def outlier_dims_by_depth(view: RunView, population: Population) -> OutlierDims | None:
    """The outlier dims of the residual stream, or None without tokens or recorded depths (of one width)."""
    sites = {depth.layer: view.site(depth.name, population) for depth in view.depths if depth.layer >= 0}
    sites = {layer: site for layer, site in sites.items() if site.n_tokens}
    if len({site.n_dims for site in sites.values()}) != 1:
        return None
    persistence = persistence_of(sites)
    counted = persistence_of({layer: sites[layer] for layer in counted_layers(sites, view.run.model.n_layers)})
    layers = np.array(persistence.layers)
    rms = np.stack([site.dims.rms for site in sites.values()])
    with np.errstate(all="ignore"):
        medians = np.array([np.median(row[np.isfinite(row)]) if np.isfinite(row).any() else np.nan for row in rms])
        ratios = rms / np.where(medians > 0, medians, np.nan)[:, np.newaxis]
    dims = []
    for dim in np.flatnonzero(persistence.n_layers_outlying):
        at = np.array([dim in outlying for outlying in persistence.by_layer.values()])
        ratio = ratios[:, dim]
        # With a median of 0 an outlier dim has no ratio: take its first layer.
        peak = int(np.nanargmax(ratio)) if np.isfinite(ratio).any() else int(at.argmax())
        mean = float(sites[int(layers[peak])].dims.mean[dim])
        dims.append(
            OutlierDim(
                dim=int(dim),
                layers=tuple(int(layer) for layer in layers[at]),
                persistence=float(counted.share[dim]),
                rms_over_median=tuple(float(r) for r in ratio),
                peak_layer=int(layers[peak]),
                peak_ratio=float(ratio[peak]),
                peak_mean=mean,
                peak_mean_over_rms=mean / float(rms[peak, dim]),
            )
        )
    dims.sort(
        key=lambda item: (-item.persistence, -len(item.layers), -np.nan_to_num(item.peak_ratio, nan=np.inf), item.dim)
    )
    jaccard = counted.jaccard
    return OutlierDims(
        kind=view.residual_kind,
        population=population,
        criterion=CRITERION,
        layers=persistence.layers,
        counted_layers=counted.layers,
        median_jaccard=float(np.median(jaccard)) if jaccard.size else float("nan"),
        persistent=tuple(int(dim) for dim in counted.dims()) if len(sites) >= LEAST_LAYERS else (),
        dims=tuple(dims),
    )
