"""The sites that changed most, and all of them by kind."""

from __future__ import annotations

import math
import statistics
from itertools import pairwise
from typing import TYPE_CHECKING, Final

from rich.text import Text

from lmfacts.render.terminal.console import STANDOUT, paragraph, section
from lmfacts.render.terminal.table import Column, NumberTable
from lmfacts.stats.count_sketch import STANDARD_ERROR
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

    from lmfacts.comparison import Comparison, SiteChange, WeightChange

__all__ = ["ChangedByKind", "MostChanged", "in_layers", "quiet", "ranges", "ratio_text"]

_MOST_KINDS: Final = 40
_FAR: Final = 2.0
_LEAST: Final = 5e-6
_NOTHING: Final = "~0"
_QUIET: Final = "bright_black"
"""Rows of what different text explains, or of what cannot be judged; their effect is 0 or a dash."""
_ABOUT_ZERO: Final = " ~0 stands for less than 5e-6, and for a distance that the cells of two dtypes explain."


def ratio_text(ratio: float) -> str:
    """A ratio as a change in percent, or as a factor where it is far from 1: `+1.2 %`, `3.4x`."""
    if math.isnan(ratio) or ratio == 1:
        return numbers.number(ratio - 1)
    if not 1 / _FAR < ratio < _FAR:
        return f"{numbers.number(ratio)}x"
    return f"{numbers.signed(100 * (ratio - 1), 2)} %" if abs(ratio - 1) >= _LEAST else _NOTHING


def ranges(numbers: Iterable[int]) -> str:
    """Whole numbers in short: `0-3, 7`."""
    ordered = sorted(set(numbers))
    if not ordered:
        return ""
    starts = [ordered[0], *(after for before, after in pairwise(ordered) if after != before + 1)]
    ends = [*(before for before, after in pairwise(ordered) if after != before + 1), ordered[-1]]
    return ", ".join(f"{start}" if start == end else f"{start}-{end}" for start, end in zip(starts, ends, strict=True))


def in_layers(kind: str, sites: Sequence[SiteChange]) -> str:
    """A kind of site with its layers: `z 0-3`."""
    layers = ranges(site.layer for site in sites if site.layer is not None)
    return f"{kind} {layers}" if layers else kind


class MostChanged:
    """The section on the sites with the largest effects, and on different text on those within their noise."""

    def __init__(self, comparison: Comparison, top: int) -> None:
        """The first `top` sites of a comparison."""
        self.changed = comparison.beyond(0.0)
        self.within = [] if comparison.paired else sorted(_within_noise(comparison.sites), key=_nearness, reverse=True)
        self.shown = [*self.changed, *self.within][:top]
        self.weights = not comparison.a.info.run_kind.reads_text
        self.paired = comparison.paired

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self.shown:
            return
        columns = [
            Column("weight" if self.weights else "site", "left", shrink_to=20, cut="start"),
            *((Column("effect"),) if self.paired else _EXCESS_COLUMNS),
            Column("largest by", "left"),
            Column("KS", keep=80),
            Column("W1", keep=85),
            Column("mean", keep=60),
            Column("std", keep=90),
            *(_WEIGHT_COLUMNS if self.weights else _SITE_COLUMNS),
        ]
        rows = [self._row(site) for site in self.shown]
        yield section(
            "Changed most" if self.changed else "Nearest to noise",
            paragraph(
                "" if self.paired else "Excess: size less noise; a site within its noise has none, and is grey. ",
                "KS: Kolmogorov-Smirnov distance. W1: Wasserstein distance, and mean: its change, in A's standard "
                "deviations.",
                "" if self.weights else " Norm: of the tokens, geometric mean.",
                self._estimated(),
                _about_zero(rows),
            ),
            Text(""),
            NumberTable(columns, rows),
            paragraph(more) if (more := self._more()) else None,
        )

    def _more(self) -> str:
        """How many are not shown."""
        n_changed = max(len(self.changed) - len(self.shown), 0)
        n_within = len(self.changed) + len(self.within) - len(self.shown) - n_changed
        parts = [f"{n_changed:,} more with smaller effects"] * bool(n_changed)
        parts += [f"{n_within:,} {'more ' * (not parts)}within noise"] * bool(n_within)
        return f"and {' and '.join(parts)}" if parts else ""

    def _estimated(self) -> str:
        if not any(site.weight is not None and site.weight.known == "estimated" for site in self.shown):
            return ""
        return (
            " Change: norm of B - A over norm of A, of matrices estimated from sketches (standard error "
            f"{numbers.number(100 * STANDARD_ERROR, 2)} % of itself)."
        )

    def _row(self, site: SiteChange) -> list[str | Text]:
        foremost, counts = site.foremost, site.effect > 0
        effect = Text(numbers.number(site.effect), style=STANDOUT)
        excess = (
            [] if self.paired or foremost is None else [numbers.number(foremost.size), numbers.number(foremost.noise)]
        )
        row: list[str | Text] = [
            site.name,
            effect if counts else "0",
            *excess,
            foremost.label if foremost else "",
            _distance(_ks(site)),
            _distance(_wasserstein(site)),
            numbers.signed(site.mean_shift, 2),
            ratio_text(site.std_ratio),
            *(self._weight_cells(site) if self.weights else self._site_cells(site)),
        ]
        return row if counts else quiet(row)

    @staticmethod
    def _site_cells(site: SiteChange) -> list[str | Text]:
        (dims,) = site.dims
        return [
            _scale(dims.log_rms_ratio),
            "-" if dims.dim is None else str(dims.dim),
            _kurtosis(site),
            ratio_text(site.largest_ratio),
            "-" if math.isnan(site.log_norm_shift) else ratio_text(math.exp(site.log_norm_shift)),
            _outlier_dims(site),
        ]

    @staticmethod
    def _weight_cells(site: SiteChange) -> list[str | Text]:
        weight = site.weight
        assert weight is not None
        scales = [_scale(axis.log_rms_ratio) for axis in site.dims] or ["", ""]
        k_a, k_b = weight.weibull_k
        return [
            _change(weight),
            ratio_text(weight.frobenius_ratio),
            ratio_text(weight.spectral_ratio),
            numbers.signed(k_b - k_a, 2),
            *scales,
            _kurtosis(site),
            ratio_text(site.largest_ratio),
        ]


_EXCESS_COLUMNS: Final = (Column("excess"), Column("size"), Column("noise"))
_KNOWN: Final = {"exact": "", "estimated": "est. ", "at least": ">= "}

_SITE_COLUMNS: Final = (
    Column("scale", group="dim of largest change", alone="dim scale", keep=75),
    Column("dim", group="dim of largest change", keep=55),
    Column("ex. kurtosis", keep=40),
    Column("max |x|", keep=45),
    Column("norm", keep=50),
    Column("outlier dims", keep=35),
)

_WEIGHT_COLUMNS: Final = (
    Column("change", keep=88),
    Column("Frobenius", keep=70),
    Column("spectral", keep=65),
    Column("k", keep=50),
    Column("output", group="largest scale of a dim", alone="output dim", keep=58),
    Column("input", group="largest scale of a dim", alone="input dim", keep=56),
    Column("ex. kurtosis", keep=40),
    Column("max |x|", keep=45),
)


class ChangedByKind:
    """The section on all sites by kind; nothing of what is identical, or differs in the last bits of sums only."""

    def __init__(self, comparison: Comparison) -> None:
        """The table of a comparison."""
        self.weights = not comparison.a.info.run_kind.reads_text
        kinds: dict[str, list[SiteChange]] = {}
        for site in comparison.sites:
            kinds.setdefault(site.kind, []).append(site)
        told = any(site.effect > 0 or site.dtypes[0] != site.dtypes[1] for site in comparison.sites)
        told = told or not comparison.paired
        self.paired = comparison.paired
        self.kinds = {kind: sites for kind, sites in kinds.items() if told and not all(s.identical for s in sites)}

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self.kinds:
            return
        any_effect = any(site.effect > 0 for sites in self.kinds.values() for site in sites)
        any_noise = not self.paired and any(site.judged for sites in self.kinds.values() for site in sites)
        any_effect = any_effect or any_noise
        group = "effect" if self.paired else "excess"
        effect = [
            Column("changed", keep=80),
            Column("median", group=group),
            Column("largest", group=group),
            *([Column("noise", group=group)] if any_noise else []),
            Column("layer", group=group, keep=90),
            Column("by", "left", group=group, keep=60),
        ]
        columns = [
            Column("kind", "left", shrink_to=20, cut="start"),
            Column("n", keep=85),
            *(effect if any_effect else ()),
            Column("KS", group="largest difference", keep=50),
            Column("W1", group="largest difference", keep=75),
            Column("std", group="largest difference", keep=78),
            Column("dim scale", group="largest difference", keep=70),
            Column("change" if self.weights else "dim mean", group="largest difference", keep=65),
        ]
        told = {kind: self._differences(sites) for kind, sites in self.kinds.items()}
        rows = [
            self._row(kind, sites, told[kind], any_effect=any_effect, any_noise=any_noise)
            for kind, sites in self.kinds.items()
            if any(site.effect > 0 for site in sites) or not set(told[kind]) <= {"0", "-", _NOTHING}
        ]
        if not rows:
            return
        n_more = len(rows) - _MOST_KINDS
        within = "rounding" if self.paired else "rounding or noise"
        yield section(
            "All weights by kind" if self.weights else "All sites by kind",
            paragraph(f"Largest differences, whether they count or are within {within}.", _about_zero(rows)),
            Text(""),
            NumberTable(columns, rows[:_MOST_KINDS]),
            paragraph(f"and {n_more:,} more kinds") if n_more > 0 else None,
        )

    @staticmethod
    def _row(
        kind: str, sites: list[SiteChange], told: list[str], *, any_effect: bool, any_noise: bool
    ) -> list[str | Text]:
        effect = _effect(sites, with_noise=any_noise) if any_effect else []
        row: list[str | Text] = [kind, str(len(sites)), *effect, *told]
        return row if not any_noise or any(site.effect > 0 for site in sites) else quiet(row)

    def _differences(self, sites: list[SiteChange]) -> list[str]:
        return [
            _distance(_largest(sites, _ks)),
            _distance(_largest(sites, _wasserstein)),
            ratio_text(_farthest(sites)),
            _scale(_largest(sites, lambda site: max((_size(d.log_rms_ratio) for d in site.dims), default=math.nan))),
            self._last(sites),
        ]

    def _last(self, sites: list[SiteChange]) -> str:
        if not self.weights:
            return _distance(_largest(sites, self._dim_mean))
        changes = [site.weight for site in sites if site.weight and not math.isnan(site.weight.relative_change)]
        if not changes:
            return "-"
        return _change(max(changes, key=lambda weight: weight.relative_change))

    @staticmethod
    def _dim_mean(site: SiteChange) -> float:
        return max((_size(dims.mean_shift) for dims in site.dims), default=math.nan)


def _change(weight: WeightChange) -> str:
    """The relative change and how it is known; nothing is said of none."""
    change = _distance(weight.relative_change)
    return change if change in ("0", "-", _NOTHING) else f"{_KNOWN[weight.known]}{change}"


def _effect(sites: list[SiteChange], *, with_noise: bool) -> list[str | Text]:
    """How many of the sites changed, the median and the largest effect, its noise, where that is, and by what."""
    judged = [site for site in sites if site.judged]
    if not judged:
        return [*["-"] * (4 if with_noise else 3), "", ""]
    worst = max(judged, key=lambda site: (site.effect, _nearness(site)))
    foremost = worst.foremost if with_noise else worst.decided_by
    return [
        str(sum(site.effect > 0 for site in judged)),
        numbers.number(statistics.median(site.effect for site in judged), 2),
        Text(numbers.number(worst.effect), style=STANDOUT if worst.effect else ""),
        *([numbers.number(foremost.noise if foremost else math.nan, 2)] if with_noise else []),
        str(worst.layer) if (worst.effect or with_noise) and worst.layer is not None else "",
        foremost.label if foremost else "",
    ]


def _within_noise(sites: Iterable[SiteChange]) -> list[SiteChange]:
    """The sites that can be judged and did not change beyond their noise."""
    return [site for site in sites if site.judged and not site.effect and not site.identical]


def _nearness(site: SiteChange) -> float:
    """How near to its noise a site is at its foremost difference: 1 is at it."""
    foremost = site.foremost
    if foremost is None or not foremost.size:
        return 0.0
    return foremost.size / foremost.noise if foremost.noise > 0 else math.inf


def quiet(row: Sequence[str | Text]) -> list[str | Text]:
    """A row in grey."""
    return [Text(cell if isinstance(cell, str) else cell.plain, style=_QUIET) for cell in row]


def _about_zero(rows: Iterable[Sequence[str | Text]]) -> str:
    """What ~0 stands for, if it is there."""
    return _ABOUT_ZERO if any(_NOTHING in row for row in rows) else ""


def _ks(site: SiteChange) -> float:
    """The KS distance, or next to nothing where it is within its resolution."""
    return _beyond(site.distances.ks, site.distances.ks_resolution)


def _wasserstein(site: SiteChange) -> float:
    """The Wasserstein distance, likewise."""
    return _beyond(site.distances.wasserstein, site.distances.wasserstein_resolution)


def _beyond(distance: float, resolution: float) -> float:
    return min(distance, _LEAST / 2) if distance <= resolution else distance


def _largest(sites: Iterable[SiteChange], of: Callable[[SiteChange], float]) -> float:
    return max((value for site in sites if not math.isnan(value := of(site))), default=math.nan)


def _farthest(sites: Iterable[SiteChange]) -> float:
    """The ratio of standard deviations that is farthest from 1."""
    ratios = [site.std_ratio for site in sites if site.std_ratio > 0]
    return max(ratios, key=lambda ratio: abs(math.log(ratio)), default=math.nan)


def _size(value: float) -> float:
    return -1.0 if math.isnan(value) else abs(value)


def _distance(value: float) -> str:
    return numbers.number(value, 2) if not 0 < value < _LEAST else _NOTHING


def _scale(log_ratio: float) -> str:
    return "-" if math.isnan(log_ratio) or log_ratio < -700 else ratio_text(math.exp(log_ratio))  # noqa: PLR2004  underflow


def _kurtosis(site: SiteChange) -> str:
    a, b = (numbers.signed(value, 2) for value in site.excess_kurtosis)
    return a if a == b else f"{a} to {b}"


def _outlier_dims(site: SiteChange) -> str:
    gained, lost = (sum(len(getattr(dims, which)) for dims in site.dims) for which in ("gained", "lost"))
    return " ".join([f"+{gained}"] * bool(gained) + [f"-{lost}"] * bool(lost))
