"""The outlier dims of the residual stream: which they are, at how many depths, and how far they stand out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from rich.text import Text

from lmfacts.analysis.outlier_dims import (
    LEAST_LAYERS,
    LEAST_PERSISTENCE,
    OUTLIER_FACTOR,
    counted_layers,
    persistence_of,
)
from lmfacts.render.terminal.blocks import resample, sparkline
from lmfacts.render.terminal.console import BULK, STANDOUT, paragraph, section
from lmfacts.render.terminal.run_view import POPULATION_TITLES
from lmfacts.render.terminal.table import Column, NumberTable
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from lmfacts.render.terminal.run_view import RunView
    from lmfacts.run.site import Population

__all__ = ["CRITERION", "OutlierDim", "OutlierDims", "OutlierDimsSection", "find_outlier_dims"]

CRITERION: Final = f"RMS above {OUTLIER_FACTOR:g} times the median dim's RMS"
"""What makes a dim an outlier dim here: `lmfacts.analysis.outlier_dims.rms_outlier_dims`."""

_MOST_ROWS: Final = 10


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


def find_outlier_dims(view: RunView, population: Population) -> OutlierDims | None:
    """The outlier dims of the residual stream, or None without tokens or recorded depths (of one width)."""
    sites = {depth.layer: view.site(depth.name, population) for depth in view.depths if depth.layer >= 0}
    sites = {layer: site for layer, site in sites.items() if site.n_tokens}
    if len({site.n_dims for site in sites.values()}) != 1:
        return None
    found = persistence_of(sites)
    counted = persistence_of({layer: sites[layer] for layer in counted_layers(sites, view.run.model.n_layers)})
    layers = np.array(found.layers)
    rms = np.stack([site.dims.rms for site in sites.values()])
    with np.errstate(all="ignore"):
        medians = np.array([np.median(row[np.isfinite(row)]) if np.isfinite(row).any() else np.nan for row in rms])
        ratios = rms / np.where(medians > 0, medians, np.nan)[:, np.newaxis]
    dims = []
    for dim in np.flatnonzero(found.n_layers_outlying):
        at = np.array([dim in outlying for outlying in found.by_layer.values()])
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
        layers=found.layers,
        counted_layers=counted.layers,
        median_jaccard=float(np.median(jaccard)) if jaccard.size else float("nan"),
        persistent=tuple(int(dim) for dim in counted.dims()) if len(sites) >= LEAST_LAYERS else (),
        dims=tuple(dims),
    )


class OutlierDimsSection:
    """The section of the summary on outlier dims, or nothing where the residual stream was not recorded."""

    def __init__(self, view: RunView) -> None:
        """The section of a run."""
        self.found = [found for p in view.populations if (found := find_outlier_dims(view, p)) is not None]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self.found:
            return
        parts: list[RenderableType] = [
            paragraph(
                f"Criterion: {CRITERION}, at each depth. The sparkline is RMS over median RMS by depth, on a log scale "
                "from 1 to the largest; mean / RMS is near ±1 for a dim that is all but constant."
            )
        ]
        for found in self.found:
            parts += [Text(""), self._verdict(found)]
            if found.dims:
                parts.append(self._table(found, options.max_width))
                n_more = len(found.dims) - _MOST_ROWS
                if n_more > 0:
                    parts.append(paragraph(f"and {n_more} more"))
        yield section(f"Outlier dims of the residual stream ({self.found[0].kind})", *parts)

    @staticmethod
    def _verdict(found: OutlierDims) -> RenderableType:
        n_dims, n_layers = len(found.dims), len(found.layers)
        text = Text().append(f"{POPULATION_TITLES[found.population]}: ", style="bold")
        if not n_dims:
            return paragraph(text, f"no outlier dim at any of {_depths(n_layers)}.")
        dims = f"{n_dims} outlier dim{'' if n_dims == 1 else 's'}"
        if n_layers < LEAST_LAYERS:
            return paragraph(text, f"{dims} at {_depths(n_layers)}; persistence needs {LEAST_LAYERS} depths.")
        enough = f"at {100 * LEAST_PERSISTENCE:g} % of {_depths(len(found.counted_layers))} or more"
        if len(found.counted_layers) < n_layers:
            enough += ", without the first and the last"
        if found.persistent:
            listed = ", ".join(str(dim) for dim in found.persistent[:_MOST_ROWS])
            more = ", ..." if len(found.persistent) > _MOST_ROWS else ""
            noun = "outlier dim persists" if len(found.persistent) == 1 else "outlier dims persist"
            text.append(f"{len(found.persistent)} {noun} ({enough}): ")
            text.append(listed + more, style=f"bold {STANDOUT}").append(".")
        else:
            text.append(f"{dims}, none persistent ({enough}).")
        if not np.isnan(found.median_jaccard):
            text.append(f" Overlap of neighboring depths (Jaccard, median): {found.median_jaccard:.2f}.")
        return paragraph(text)

    @staticmethod
    def _table(found: OutlierDims, available: int) -> RenderableType:
        shown = found.dims[:_MOST_ROWS]
        width = 16 if available < 100 else 32 if available < 150 else 48  # noqa: PLR2004  columns of the terminal
        with np.errstate(divide="ignore", invalid="ignore"):
            series = [np.log(resample(item.rms_over_median, width)) for item in shown]
        high = max((float(s[np.isfinite(s)].max(initial=0.0)) for s in series), default=1.0)
        n_layers = len(found.layers)
        columns = [
            Column("dim"),
            Column("outlier at"),
            Column("persistence", keep=60),
            Column("by depth", "left"),
            Column("RMS / median", group="at its peak"),
            Column("layer", group="at its peak", keep=90),
            Column("mean", group="at its peak", keep=70),
            Column("mean / RMS", group="at its peak", keep=80),
        ]
        rows: list[list[str | Text]] = [
            [
                Text(str(item.dim), style=f"bold {STANDOUT}"),
                f"{len(item.layers)} of {n_layers}",
                numbers.percent(item.persistence),
                Text(sparkline(s, 0.0, high), style=BULK),
                f"{numbers.number(item.peak_ratio)}x",
                str(item.peak_layer),
                numbers.signed(item.peak_mean),
                f"{item.peak_mean_over_rms:+.2f}",
            ]
            for item, s in zip(shown, series, strict=True)
        ]
        return NumberTable(columns, rows)


def _depths(n: int) -> str:
    return f"{n} depth{'' if n == 1 else 's'}"
