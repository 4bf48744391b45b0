"""F2: a few dims of the residual stream stand out, and they are the same ones through the depth of the model."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.analysis.outlier_dims import LEAST_LAYERS, LEAST_PERSISTENCE, Persistence, counted_layers, persistence_of
from lmfacts.analysis.outlier_dims_by_depth import outlier_dims_by_depth
from lmfacts.charts import Chart, Figure
from lmfacts.charts.colors import SERIES
from lmfacts.facts import requires
from lmfacts.facts.definition import Definition, PublishedValue
from lmfacts.facts.fact import Evidence, Measure, Table, Verdict
from lmfacts.facts.intervals import LEAST_SEQUENCES, LEAST_TOKENS, NO_DIM_BLOCKS
from lmfacts.facts.site_checks import listed, number_of_layers, unrecorded_layers
from lmfacts.facts.strictness import Strictness, at_least, judged
from lmfacts.quantities.outlier_criteria import (
    OUTLIER_FACTOR,
    outlier_ratio_intervals,
    rms_outlier_dims,
    three_sigma_outlier_dims,
    variance_outlier_dims,
)
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from lmfacts.analysis.outlier_dims_by_depth import OutlierDims
    from lmfacts.facts.fact import Cell, Fact
    from lmfacts.facts.inputs import Inputs
    from lmfacts.facts.runs_view import RunsView
    from lmfacts.run.site import Population, SiteRecord

    Floats = NDArray[np.float64]

__all__ = ["DEFINITION"]

_FACTOR: Final = at_least(OUTLIER_FACTOR)
_PERSISTENCE: Final = at_least(LEAST_PERSISTENCE)
_JACCARD: Final = at_least(0.5)

_KIND: Final = "resid_post"
_POPULATIONS: Final[tuple[Population, ...]] = ("rest", "all", "first")
_MAIN: Final = "RMS > 5 x median"
_OTHER_CRITERIA: Final[dict[str, Callable[[SiteRecord], NDArray[np.int64]]]] = {
    "RMS > mean + 3 SD": three_sigma_outlier_dims,
    "variance > 5 x mean": variance_outlier_dims,
}
_MOST_DIMS: Final = 16
_MOST_DEPTHS: Final = 5


@dataclass(frozen=True)
class _Reading:
    """The outlier dims of one population by one criterion, judged with thresholds that may have been moved."""

    population: Population
    criterion: str
    persistence: Persistence
    strictness: Strictness

    @cached_property
    def dims(self) -> list[int]:
        """The persistent dims."""
        return [int(dim) for dim in self.persistence.dims(_PERSISTENCE.at(self.strictness))]

    @cached_property
    def jaccard(self) -> float:
        """Median overlap of neighboring layers."""
        return float(np.median(self.persistence.jaccard))

    @property
    def holds(self) -> bool:
        return bool(self.dims) and _JACCARD.passed(self.jaccard, self.strictness)


@dataclass(frozen=True)
class _Depths:
    """RMS of each dim at the layers looked at; arrays [layers, dims], over `rest` unless they say otherwise.

    `intervals` are the ends of those of `ratios`; None where the run keeps nothing to take them from.
    """

    layers: tuple[int, ...]
    rms: NDArray[np.float64]
    medians: NDArray[np.float64]
    means: NDArray[np.float64]
    first_energy: NDArray[np.float64]
    share_of_first: float
    intervals: tuple[NDArray[np.float64], NDArray[np.float64]] | None

    @classmethod
    def of(cls, sites: Mapping[int, SiteRecord]) -> _Depths:
        rest = [site.rest.dims for site in sites.values()]
        first = [site.first.dims for site in sites.values()]
        rms = np.stack([dims.rms for dims in rest])
        energy_rest = np.stack([dims.n * dims.rms**2 for dims in rest])
        energy_first = np.nan_to_num(np.stack([dims.n * dims.rms**2 for dims in first]))
        energy = energy_first + energy_rest
        return cls(
            layers=tuple(sites),
            rms=rms,
            medians=np.array([np.median(row[np.isfinite(row)]) for row in rms]),
            means=np.stack([dims.mean for dims in rest]),
            share_of_first=float(np.mean([site.first.n_tokens / site.n_tokens for site in sites.values()])),
            first_energy=energy_first / np.where(energy > 0, energy, np.nan),
            intervals=_intervals([site.rest for site in sites.values()]),
        )

    @cached_property
    def ratios(self) -> NDArray[np.float64]:
        """RMS over the layer's median RMS; 0 for dims without values."""
        return np.nan_to_num(self.rms / self.medians[:, np.newaxis])

    def sign_consistency(self, dim: int) -> float:
        """Share of the layers in which the dim's mean has its more frequent sign."""
        signs = np.sign(self.means[:, dim])
        return float(max((signs > 0).mean(), (signs < 0).mean()))

    def mean_first_energy(self, dim: int) -> float:
        """Share of position 0 in the dim's sum of squares, averaged over the layers; NaN without values."""
        shares = self.first_energy[:, dim]
        return float(shares[np.isfinite(shares)].mean()) if np.isfinite(shares).any() else float("nan")


def _intervals(sites: Sequence[SiteRecord]) -> tuple[Floats, Floats] | None:
    """The ends of the intervals of each dim's RMS over the median one's, [layers, dims]."""
    ends = [of_site for site in sites if (of_site := outlier_ratio_intervals(site)) is not None]
    if len(ends) < len(sites):
        return None
    low, high = zip(*ends, strict=True)
    return np.stack(low), np.stack(high)


def _check(inputs: Inputs) -> Fact:
    run = requires.activations(inputs)
    names = requires.layers_of(inputs, _KIND)
    requires.enough_text(run)
    n_layers = number_of_layers(inputs, names)
    if len(names) < LEAST_LAYERS:
        raise requires.Inconclusive(
            f"The run has {_KIND} at {len(names)} layer{'' if len(names) == 1 else 's'}; "
            f"at least {LEAST_LAYERS} are needed."
        )
    counted = counted_layers(names, run.model.get("n_layers"))
    sites = {layer: run[names[layer]] for layer in counted}
    requires.values(site.rest for site in sites.values())
    widths = {site.n_dims for site in sites.values()}
    if len(widths) > 1:
        named = " and ".join(map(str, sorted(widths)))
        raise requires.Inconclusive(f"The layers of the stream differ in width: {named} dims.")
    depths = _Depths.of(sites)
    if not (depths.medians > 0).all():
        layer = depths.layers[int((depths.medians == 0).argmax())]
        raise requires.Inconclusive(f"Half of the dims or more are 0 at layer {layer}, so the median RMS is no scale.")
    notes = (
        *_said_of(counted, list(names), n_layers),
        *unrecorded_layers(list(names), n_layers, _KIND),
        *([NO_DIM_BLOCKS] if depths.intervals is None else []),
    )
    return judged(functools.partial(_judge, sites, depths, notes), has_interval=depths.intervals is not None)


def _judge(sites: Mapping[int, SiteRecord], depths: _Depths, notes: tuple[str, ...], strictness: Strictness) -> Fact:
    criteria: dict[str, Callable[[SiteRecord], NDArray[np.int64]]] = {
        _MAIN: functools.partial(rms_outlier_dims, factor=_FACTOR.at(strictness)),
        **_OTHER_CRITERIA,
    }
    readings = [
        _Reading(population, name, _persistence(sites, population, criterion), strictness)
        for population in _POPULATIONS
        for name, criterion in criteria.items()
        if population == "rest" or all(site.in_population(population).n_tokens for site in sites.values())
    ]
    main = {reading.population: reading for reading in readings if reading.criterion == _MAIN}
    open_dims = _deciding_dims(main["rest"], depths)
    summary = _summary(main, depths)
    if open_dims:
        summary += (
            f" It depends on dim{'' if len(open_dims) == 1 else 's'} {listed(open_dims)}, whose interval spans "
            f"{_FACTOR.at(strictness):g} x the median."
        )
    return DEFINITION.fact(
        Verdict.INCONCLUSIVE if open_dims else Verdict.HOLDS if main["rest"].holds else Verdict.FAILS,
        summary,
        Evidence(
            measures=_measures(main["rest"], depths),
            tables=(_dims_table(main, depths), _criteria_table(readings), _layers_table(main["rest"], depths)),
            notes=notes,
        ),
    )


def _deciding_dims(rest: _Reading, depths: _Depths) -> list[int]:
    """The dims whose interval spans the factor somewhere, where the verdict depends on the side they are on."""
    if depths.intervals is None:
        return []
    factor = _FACTOR.at(rest.strictness)
    low, high = (ends > factor for ends in depths.intervals)

    def holds(is_outlying: NDArray[np.bool_]) -> bool:
        by_layer = {layer: np.flatnonzero(row) for layer, row in zip(depths.layers, is_outlying, strict=True)}
        return replace(rest, persistence=Persistence(by_layer, is_outlying.sum(axis=0))).holds

    if holds(low) == holds(high) == rest.holds:
        return []
    return [int(dim) for dim in np.flatnonzero((high & ~low).any(axis=0))]


def _said_of(counted: list[int], recorded: list[int], n_layers: int) -> tuple[str, ...]:
    """What is to be said of the layers that persistence is counted over."""
    n_inner = sum(1 <= layer <= n_layers - 2 for layer in recorded)
    between = f"{n_inner} recorded layer{'' if n_inner == 1 else 's'} between the first and the last"
    if counted == recorded:
        return (f"Only {between}: all {len(recorded)} recorded layers are counted, the outer ones too.",)
    few = f"Only {between}: persistence and overlap rest on few layers."
    return (few,) if n_inner < LEAST_LAYERS else ()


def _persistence(
    sites: Mapping[int, SiteRecord], population: Population, criterion: Callable[[SiteRecord], NDArray[np.int64]]
) -> Persistence:
    return persistence_of({layer: site.in_population(population) for layer, site in sites.items()}, criterion)


def _summary(main: Mapping[Population, _Reading], depths: _Depths) -> str:
    rest = main["rest"]
    if rest.dims:
        one = len(rest.dims) == 1
        dims = f"Dim {listed(rest.dims)} is an" if one else f"{len(rest.dims)} dims ({listed(rest.dims)}) are"
        below = "" if rest.holds else f", below {_JACCARD.value:g}"
        sentence = (
            f"{dims} outlier dim{'' if one else 's'} in at least 75 % of layers; "
            f"median overlap of neighbors {rest.jaccard:.2f}{below}."
        )
    elif rest.persistence.n_layers_outlying.any():
        top = int(rest.persistence.n_layers_outlying.argmax())
        sentence = (
            "No dim is an outlier dim in at least 75 % of layers; the most persistent, "
            f"dim {top}, is one in {numbers.percent(float(rest.persistence.share[top]))}."
        )
    else:
        ratios = depths.ratios
        layer, dim = np.unravel_index(int(ratios.argmax()), ratios.shape)
        sentence = (
            f"No dim has an RMS above 5 x the median; the largest is {numbers.number(float(ratios[layer, dim]))} x "
            f"(dim {dim}, layer {depths.layers[layer]})."
        )
    first = main.get("first")
    if first is not None and first.holds and not rest.holds:
        sentence += f" At position 0 the claim holds (dim{'' if len(first.dims) == 1 else 's'} {listed(first.dims)})."
    return sentence


def _measures(rest: _Reading, depths: _Depths) -> tuple[Measure, ...]:
    share = float(rest.persistence.share.max())
    ratios = depths.ratios
    layer, dim = np.unravel_index(int(ratios.argmax()), ratios.shape)
    least = _PERSISTENCE.words(rest.strictness)
    if rest.strictness is not Strictness.STATED:
        least += f", with RMS > {_FACTOR.at(rest.strictness):g} x median"
    return (
        Measure("persistent outlier dims", len(rest.dims)),
        Measure("largest persistence of a dim", share, least, bool(rest.dims)),
        Measure(
            "median overlap of neighboring layers (Jaccard)",
            rest.jaccard,
            _JACCARD.words(rest.strictness),
            _JACCARD.passed(rest.jaccard, rest.strictness),
        ),
        Measure(
            "largest RMS / median RMS",
            float(ratios[layer, dim]),
            interval=None
            if depths.intervals is None
            else (float(depths.intervals[0][layer, dim]), float(depths.intervals[1][layer, dim])),
            note=f"dim {dim}, layer {depths.layers[layer]}; above 5 it is an outlier dim there",
        ),
    )


def _dims_table(main: Mapping[Population, _Reading], depths: _Depths) -> Table:
    """One row for each dim that is persistent in some population, or else for the most persistent ones."""
    ratios = depths.ratios
    chosen = {dim for reading in main.values() for dim in reading.dims}
    if not chosen:
        chosen = {
            int(dim) for reading in main.values() for dim in np.flatnonzero(reading.persistence.n_layers_outlying)
        }
    ordered = sorted(chosen, key=lambda dim: (-ratios[:, dim].mean(), dim))
    shown = sorted({round(q * (len(depths.layers) - 1)) for q in np.linspace(0, 1, _MOST_DEPTHS)})
    rows: list[tuple[Cell, ...]] = [
        (
            dim,
            *(float(main[p].persistence.share[dim]) if p in main else None for p in _POPULATIONS),
            *(float(ratios[index, dim]) for index in shown),
            depths.sign_consistency(dim),
            depths.mean_first_energy(dim),
        )
        for dim in ordered[:_MOST_DIMS]
    ]
    more = f" {len(ordered) - _MOST_DIMS} more dims are not shown." if len(ordered) > _MOST_DIMS else ""
    return Table(
        "Outlier dims",
        (
            "dim",
            *(f"persistence, {population}" for population in _POPULATIONS),
            *(f"RMS / median, layer {depths.layers[index]}" for index in shown),
            "same sign",
            "share of position 0",
        ),
        tuple(rows),
        "Persistence: share of layers in which the dim is an outlier dim. RMS / median: over `rest`. Same sign: share "
        "of layers in which the dim's mean has its more frequent sign. Share of position 0: of the dim's sum of "
        f"squares, averaged over layers; {numbers.percent(depths.share_of_first)} of the tokens are there.{more}",
    )


def _criteria_table(readings: Sequence[_Reading]) -> Table:
    return Table(
        "Persistent dims by population and criterion",
        ("population", "criterion", "persistent dims", "number", "median overlap", "claim holds"),
        tuple((r.population, r.criterion, listed(r.dims) or None, len(r.dims), r.jaccard, r.holds) for r in readings),
        f"The verdict is that of `rest` by {_MAIN}.",
    )


def _layers_table(rest: _Reading, depths: _Depths) -> Table:
    ratios = depths.ratios
    return Table(
        "Outlier dims of each layer (`rest`)",
        ("layer", "outlier dims", "number", "median RMS", "largest RMS / median", "dim"),
        tuple(
            (layer, listed(dims) or None, int(dims.size), float(median), float(row.max()), int(row.argmax()))
            for (layer, dims), median, row in zip(
                rest.persistence.by_layer.items(), depths.medians, ratios, strict=True
            )
        ),
        "Dim: that of the largest RMS.",
    )


# The figures

_MOST_NAMED: Final = len(SERIES)
_MOST_OTHERS: Final = 40
_MOST_LISTED: Final = 12
_PROFILE_BINS: Final = 96
_DIMS_IN_A_BIN: Final = 4
_EDGE: Final = 0.06
_TITLES: Final[dict[Population, str]] = {"rest": "Without position 0", "first": "At position 0", "all": "All tokens"}


def _figures(view: RunsView) -> list[Figure]:
    """The outlier dims by depth, and all dims at one depth."""
    if view.activations is None:
        return []
    drawings: list[Chart] = []
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


def _panels(sites: Mapping[int, SiteRecord], outlier_dims: OutlierDims, colors: dict[int, str]) -> list[Chart]:
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
) -> Chart:
    population = outlier_dims.population
    title = f"{_TITLES[population]}: by depth"
    chart = Chart(f"f2-depth-{population}", title, x="layer", y="RMS over the median dim's")
    chart.margins(right=40)
    shown = ratios[:, order[:_MOST_OTHERS]]
    _limits(chart, layers, shown)
    chart.rule(y=OUTLIER_FACTOR)
    for dim in order[len(named) : _MOST_OTHERS]:
        chart.line(layers, ratios[:, dim], "axis", width=1.0, above=2)
    labels = []
    for dim, color in reversed(list(named.items())):
        chart.line(layers, ratios[:, dim], color)
        labels.append((f"{dim}", _last(ratios[:, dim]), color))
    chart.labels_at_the_end(labels)
    names = ", ".join(
        f"dim {dim} up to {numbers.number(float(np.nanmax(ratios[:, dim])))} times the median" for dim in named
    )
    return chart.described(f"{_TITLES[population]}: {_persisting(outlier_dims)}; {names}.")


def _persisting(outlier_dims: OutlierDims) -> str:
    """How many dims are outlier dims, and which of them persist."""
    n_dims = len(outlier_dims.dims)
    if not n_dims:
        return "No dim is an outlier dim anywhere"
    start = "1 dim is an outlier dim" if n_dims == 1 else f"{n_dims} dims are outlier dims"
    if len(outlier_dims.layers) < LEAST_LAYERS:
        return f"{start} somewhere"
    if not outlier_dims.persistent:
        return f"{start} somewhere, and none persists"
    listed = ", ".join(map(str, outlier_dims.persistent[:_MOST_LISTED]))
    n_more = len(outlier_dims.persistent) - _MOST_LISTED
    more = f" and {n_more} more" if n_more > 0 else ""
    persistent = "1 persists" if len(outlier_dims.persistent) == 1 else f"{len(outlier_dims.persistent)} persist"
    return f"{start} somewhere, and {persistent} ({listed}{more})"


def _limits(chart: Chart, layers: Sequence[int] | NDArray[np.int64], ratios: Floats) -> None:
    top = max(float(np.nanmax(ratios)), OUTLIER_FACTOR) * 1.3
    low = float(np.nanmin(np.where(ratios > 0, ratios, np.nan)))
    chart.limits_x(layers[0] - 0.5, layers[-1] + 0.5)
    chart.limits_y(max(min(low * 0.9, 0.9), top * 1e-5), top)
    chart.log("y")
    chart.whole_numbers()


def _last(values: Floats) -> float:
    finite = values[np.isfinite(values)]
    return float(finite[-1]) if finite.size else float("nan")


def _profile(
    sites: Mapping[int, SiteRecord], ratios: Floats, medians: Floats, at: NDArray[np.bool_], population: Population
) -> Chart:
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
    chart = Chart(
        f"f2-dims-{population}", f"{_TITLES[population]}: layer {layer}", x="dim", y="RMS over the median dim's"
    )
    top = max(float(np.nanmax(values)), OUTLIER_FACTOR) * 1.6
    floor = max(float(np.nanmin(np.where(values > 0, values, np.nan))) * 0.8, top * 1e-5)
    chart.limits_x(-0.01 * values.size, values.size * 1.01)
    chart.limits_y(floor, top)
    chart.log("y")
    low, high = (np.repeat(np.maximum(end, floor), 2) for end in (low, high))
    chart.area(np.repeat(edges, 2)[1:-1], low, high)
    chart.rule(y=OUTLIER_FACTOR)
    chart.points(outlying, values[outlying], "orange")
    largest = outlying[np.argsort(-values[outlying])][:5]
    for dim in largest:
        is_left = dim < values.size / 2
        inside = _EDGE < dim / values.size < 1 - _EDGE
        chart.label(str(dim), dim, values[dim], 0, 5, align="center" if inside else "left" if is_left else "right")
    listed = ", ".join(f"{dim} at {numbers.number(float(values[dim]))}" for dim in largest)
    return chart.described(
        f"{_TITLES[population]}, layer {layer}: {outlying.size} of {values.size:,} dims above "
        f"{OUTLIER_FACTOR:g} times the median" + (f"; the largest are {listed}." if largest.size else ".")
    )


# The catalogue's entry

_MASSIVE_DIMS: Final = "Ran-Milo, Ofek and Mendel (arXiv:2604.14722)"
_REPLICATION: Final = "replication of arXiv:2604.14722"
_REPLICATION_AT_0: Final = f"{_REPLICATION}: mean + 3 SD on wpe[0] + MLP1(wpe[0])"

DEFINITION: Final = Definition(
    id="F2",
    title="Outlier dims that persist through depth",
    claim="A few dims of the residual stream are far larger than the others, and they are the same in most layers.",
    source=(
        'Basic Facts about Language Model Internals (2023), "Outliers Are Consistent Through The Residual Stream", '
        "https://www.lesswrong.com/posts/PDLfpRwSynu73mxGw"
    ),
    needs=("activations",),
    measured=(
        "The root mean square (RMS) of each dim at every resid_post, over all tokens but those at position 0 (`rest`). "
        "The first and the last layer are left out. The same is done for all tokens, and for position 0 alone, where "
        "some models keep their largest values; and by two other criteria of the literature."
    ),
    formula=(
        "O(l) = {j: RMS_j > 5 x median RMS} at layer l",
        "persistence of j = share of layers l in [1, L-2] with j in O(l)",
        "overlap of neighbors = |O(l) and O(l+1)| / |O(l) or O(l+1)|; 0 where both are empty",
        "also: RMS_j > mean + 3 SD over the dims; variance_j > 5 x the mean variance (Rudman et al., arXiv:2310.17715)",
    ),
    thresholds=(
        "HOLDS: some dim has a persistence of at least 0.75, and the median overlap of neighbors is at least 0.5.",
        "FAILS: otherwise.",
        (
            "INCONCLUSIVE: it depends on dims whose interval of RMS over the median spans 5; of runs that keep none, "
            "the verdict would change with the factor of 5, the persistence and the overlap all 10 % lower or higher "
            "(ours)."
        ),
        "The verdict is that of `rest`; those of `all` and `first` are in the evidence.",
        f"INCONCLUSIVE: fewer than {LEAST_SEQUENCES} sequences, {LEAST_TOKENS} tokens or {LEAST_LAYERS} layers (ours).",
        "INCONCLUSIVE: a layer without values, with one value only, or whose median RMS is 0 (ours).",
        "With fewer than two layers in [1, L-2], all layers count (ours).",
    ),
    judge=_check,
    figures=_figures,
    published=(
        PublishedValue("gpt2", "persistent outlier dims", "138, 378, 447, each > 15 SD", _MASSIVE_DIMS, "B"),
        PublishedValue("gpt2-medium", "massive dims", "9, 238, 268, 428, 580, 608", _REPLICATION_AT_0, "B"),
        PublishedValue("gpt2-large", "massive dims", "8, 24, 248, 440, 792, 870", _REPLICATION_AT_0, "B"),
        PublishedValue("opt-125m", "massive dims", "130, 353, 422", _REPLICATION, "B"),
        PublishedValue("opt-1.3b", "massive dims", "236, 572, 1177, 1192, 1359", _REPLICATION, "B"),
        PublishedValue("gpt-neo-125m", "massive dims", "522, 536, 647", _REPLICATION, "B"),
        PublishedValue("gpt-neo-1.3B", "massive dims", "352, 486, 858, 1448, 1467, 1826", _REPLICATION, "B"),
        PublishedValue(
            "five re-trainings of GPT-2 small", "overlap of their outlier dims", "Jaccard 0.00", _REPLICATION, "B"
        ),
    ),
)
