"""F2: which dims of the residual stream stand out, how far, and at which depths."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.analysis.outlier_dims import LEAST_LAYERS, LEAST_PERSISTENCE
from lmfacts.analysis.outlier_dims_by_depth import outlier_dims_by_depth
from lmfacts.quantities.outlier_criteria import OUTLIER_FACTOR, rms_outlier_dims
from lmfacts.render.page.document import Figure
from lmfacts.render.page.palette import COLORS, SERIES
from lmfacts.render.page.panel import panel
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from lmfacts.analysis.outlier_dims_by_depth import OutlierDims
    from lmfacts.render.page.document import Drawing
    from lmfacts.render.page.panel import Panel
    from lmfacts.render.page.runs_view import RunsView
    from lmfacts.run.site import Population, SiteRecord

    Floats = NDArray[np.float64]

__all__ = ["figures"]

_MOST_NAMED: Final = len(SERIES)
_MOST_OTHERS: Final = 40
_MOST_LISTED: Final = 12
_PROFILE_BINS: Final = 96
_DIMS_IN_A_BIN: Final = 4
_EDGE: Final = 0.06
_TITLES: Final[dict[Population, str]] = {"rest": "Without position 0", "first": "At position 0", "all": "All tokens"}


def figures(view: RunsView) -> list[Figure]:
    """The outlier dims by depth, and all dims at one depth."""
    if view.activations is None:
        return []
    drawings: list[Drawing] = []
    colors: dict[int, str] = {}
    for population in view.activations.populations:
        sites = view.residual_over(population)
        outlier_dims = outlier_dims_by_depth(view.activations, population)
        if sites and outlier_dims is not None:
            drawings += _panels(sites, outlier_dims, colors)
    if not drawings:
        return []
    return [
        Figure(
            "Outlier dims of the residual stream",
            "First, the scale (RMS) of single dims over that of the median dim, by depth. A dim above the dashed line, "
            f"{OUTLIER_FACTOR:g} times the median, is an outlier dim; one whose line is above it at "
            f"{100 * LEAST_PERSISTENCE:g} % of the layers between the first and the last persists. Those that are "
            "outlier dims at most layers are named, or without any those that come closest. Then all dims at one depth "
            "in the order of their index: the band spans the dims that do not stand out.",
            tuple(drawings),
        )
    ]


def _panels(sites: Mapping[int, SiteRecord], outlier_dims: OutlierDims, colors: dict[int, str]) -> list[Drawing]:
    """The panels of one population; a dim keeps the color that it has in `colors`, others get theirs there."""
    population = outlier_dims.population
    layers = np.array(list(sites))
    rms = np.stack([site.dims.rms for site in sites.values()])
    rms[~np.isfinite(rms)] = np.nan
    medians = np.array([np.median(row[~np.isnan(row)]) if not np.isnan(row).all() else np.nan for row in rms])
    with np.errstate(all="ignore"):
        ratios = rms / np.where(medians > 0, medians, np.nan)[:, np.newaxis]
    if np.isnan(ratios).all():
        return []
    at = np.zeros(ratios.shape, dtype=bool)
    for row, site in enumerate(sites.values()):
        at[row, rms_outlier_dims(site)] = True
    peaks = np.nan_to_num(ratios, nan=0.0).max(axis=0)
    outlying = [item.dim for item in outlier_dims.dims]  # the most persistent first
    rest = [dim for dim in np.argsort(-peaks, kind="stable")[: len(outlying) + 3].tolist() if dim not in outlying]
    order = np.array([*outlying, *rest][: max(len(outlying), 3)])  # without outlier dims, those that come closest
    named = order[:_MOST_NAMED]
    here = {colors[int(dim)] for dim in named if int(dim) in colors}
    unused = [color for color in SERIES if color not in colors.values()]
    free = iter(dict.fromkeys([*unused, *(color for color in SERIES if color not in here)]))
    palette = {int(dim): colors.get(int(dim)) or next(free) for dim in named}
    colors.update(palette)
    return [
        _by_depth(layers, ratios, order, palette, outlier_dims),
        _profile(sites, ratios, medians, at, population),
    ]


def _by_depth(
    layers: NDArray[np.int64],
    ratios: Floats,
    order: NDArray[np.int64],
    named: Mapping[int, str],
    outlier_dims: OutlierDims,
) -> Drawing:
    population = outlier_dims.population
    title = f"{_TITLES[population]}: by depth"
    with panel(f"f2-depth-{population}", title, x="layer", y="RMS over the median dim's") as p:
        p.margins(right=40)
        shown = ratios[:, order[:_MOST_OTHERS]]
        _limits(p, layers, shown)
        p.rule(y=OUTLIER_FACTOR)
        for dim in order[len(named) : _MOST_OTHERS]:
            p.line(layers, ratios[:, dim], "axis", width=1.0, above=2)
        labels = []
        for dim, color in reversed(list(named.items())):
            p.line(layers, ratios[:, dim], color)
            labels.append((f"{dim}", _last(ratios[:, dim]), color))
        p.labels_at_the_end(labels)
        names = ", ".join(
            f"dim {dim} up to {numbers.number(float(np.nanmax(ratios[:, dim])))} times the median" for dim in named
        )
        return p.drawing(f"{_TITLES[population]}: {_said_of(outlier_dims)}; {names}.")


def _said_of(found: OutlierDims) -> str:
    """How many dims are outlier dims, and which of them persist."""
    n_dims = len(found.dims)
    if not n_dims:
        return "No dim is an outlier dim anywhere"
    start = "1 dim is an outlier dim" if n_dims == 1 else f"{n_dims} dims are outlier dims"
    if len(found.layers) < LEAST_LAYERS:
        return f"{start} somewhere"
    if not found.persistent:
        return f"{start} somewhere, and none persists"
    listed = ", ".join(map(str, found.persistent[:_MOST_LISTED]))
    n_more = len(found.persistent) - _MOST_LISTED
    more = f" and {n_more} more" if n_more > 0 else ""
    return (
        f"{start} somewhere, and {len(found.persistent)} persist{'s' * (len(found.persistent) == 1)} ({listed}{more})"
    )


def _limits(p: Panel, layers: Sequence[int] | NDArray[np.int64], ratios: Floats) -> None:
    top = max(float(np.nanmax(ratios)), OUTLIER_FACTOR) * 1.3
    low = float(np.nanmin(np.where(ratios > 0, ratios, np.nan)))
    p.axes.set_xlim(layers[0] - 0.5, layers[-1] + 0.5)
    p.axes.set_ylim(max(min(low * 0.9, 0.9), top * 1e-5), top)
    p.log("y")
    p.whole_numbers()


def _last(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if finite.size else float("nan")


def _profile(
    sites: Mapping[int, SiteRecord], ratios: Floats, medians: Floats, at: NDArray[np.bool_], population: Population
) -> Drawing:
    """Every dim at the depth in the middle of those where most dims stand out, or in the middle of all."""
    good = np.flatnonzero(medians > 0)
    row = int(good[good.size // 2])
    layer = list(sites)[row]
    values = ratios[row]
    outlying = np.flatnonzero(at[row])
    bulk = np.where(at[row], np.nan, values)
    n_bins = max(1, min(_PROFILE_BINS, values.size // _DIMS_IN_A_BIN))
    edges = np.linspace(0, values.size, n_bins + 1).round().astype(int)
    parts = [bulk[a:b][np.isfinite(bulk[a:b])] for a, b in pairwise(edges.tolist())]
    low, high = (np.array([end(part) if part.size else np.nan for part in parts]) for end in (np.min, np.max))
    with panel(
        f"f2-dims-{population}", f"{_TITLES[population]}: layer {layer}", x="dim", y="RMS over the median dim's"
    ) as p:
        top = max(float(np.nanmax(values)), OUTLIER_FACTOR) * 1.6
        floor = max(float(np.nanmin(np.where(values > 0, values, np.nan))) * 0.8, top * 1e-5)
        p.axes.set_xlim(-0.01 * values.size, values.size * 1.01)
        p.axes.set_ylim(floor, top)
        p.log("y")
        low, high = (np.repeat(np.maximum(end, floor), 2) for end in (low, high))
        p.area(np.repeat(edges, 2)[1:-1], low, high)
        p.rule(y=OUTLIER_FACTOR)
        p.points(outlying, values[outlying], "orange")
        largest = outlying[np.argsort(-values[outlying])][:5]
        for dim in largest:
            p.axes.annotate(
                str(dim),
                (dim, values[dim]),
                xytext=(0, 5),
                textcoords="offset points",
                ha="center" if _EDGE < dim / values.size < 1 - _EDGE else "left" if dim < values.size / 2 else "right",
                fontsize=10.5,
                color=COLORS["ink"],
            )
        listed = ", ".join(f"{dim} at {numbers.number(float(values[dim]))}" for dim in largest)
        return p.drawing(
            f"{_TITLES[population]}, layer {layer}: {outlying.size} of {values.size:,} dims above "
            f"{OUTLIER_FACTOR:g} times the median" + (f"; the largest are {listed}." if largest.size else ".")
        )
