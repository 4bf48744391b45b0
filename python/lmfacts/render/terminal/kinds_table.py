"""All recorded sites, one row per kind: the range over the layers, and the layer that is least like a Gaussian."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.text import Text

from lmfacts.render.terminal.console import PROBLEM, paragraph, section
from lmfacts.render.terminal.depth_table import histogram_text, histogram_width
from lmfacts.render.terminal.table import Column, NumberTable
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from lmfacts.analysis.run_view import RunView
    from lmfacts.quantities.site_figures import SiteFigures

__all__ = ["KindsTable", "SiteGroup", "group_sites"]

_MOST_ROWS: Final = 40
_BLOCK: Final = re.compile(r"blocks\.(\d+)\.(.+)")
_NUMBER: Final = re.compile(r"(?<=\.)\d+(?=\.)")


@dataclass(frozen=True, slots=True)
class SiteGroup:
    """The sites of one kind.

    Attributes:
        name: the kind, or the module path with `*` for its layer.
        sites: label -> site name; the label is the layer's number, or empty for a site by itself.
        figures: the figures of each site that has values, by label.
    """

    name: str
    sites: dict[str, str]
    figures: dict[str, SiteFigures]

    def range_of(self, quantity: str) -> tuple[float, float]:
        """The smallest and the largest value of a figure over the sites."""
        values = [getattr(figures, quantity) for figures in self.figures.values()]
        return min(values), max(values)

    @property
    def worst(self) -> str:
        """Label of the site whose pooled excess kurtosis is farthest from 0."""
        return max(self.figures, key=lambda label: _magnitude(self.figures[label].excess_kurtosis))

    @property
    def largest(self) -> str:
        """Label of the site with the value of largest magnitude."""
        return max(self.figures, key=lambda label: _magnitude(self.figures[label].largest))


def group_sites(view: RunView) -> list[SiteGroup]:
    """The stored sites by kind, each group where its first site is in depth."""
    groups: dict[str, SiteGroup] = {}
    for name in view.run:
        inside = _BLOCK.fullmatch(name)
        number = _NUMBER.search(name)
        if inside:
            kind, label = inside[2], inside[1]
        elif number:
            kind, label = f"{name[: number.start()]}*{name[number.end() :]}", number[0]
        else:
            kind, label = name, ""
        group = groups.setdefault(kind, SiteGroup(kind, {}, {}))
        group.sites[label] = name
        figures = view.figures(name, view.population)
        if figures.n_values:
            group.figures[label] = figures
    return list(groups.values())


class KindsTable:
    """The section of the summary on all sites by kind."""

    def __init__(self, view: RunView) -> None:
        """The table of a run."""
        self.population = view.population
        self.groups = group_sites(view)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self.groups:
            return
        n_bins = histogram_width(options.max_width)
        columns = [
            Column("kind", "left", shrink_to=34, cut="start"),
            Column("sites", keep=85),
            Column("std", keep=92),
            Column("excess kurtosis", keep=95),
            Column("layer", keep=90, group="least Gaussian layer", alone="worst layer"),
            Column("median dim", keep=40, group="least Gaussian layer"),
            Column("> 6 std", keep=50, group="least Gaussian layer"),
            Column("   distribution", "left", keep=60, group="least Gaussian layer"),
            Column("value", group="largest"),
            Column("layer", group="largest"),
            Column("dim", group="largest"),
        ]
        shown = self.groups[:_MOST_ROWS]
        n_more = len(self.groups) - len(shown)
        yield section(
            "All sites by kind",
            paragraph(
                f"Ranges over the layers, {'without position 0' if self.population == 'rest' else 'all tokens'}. The "
                "least Gaussian layer is the one whose pooled excess kurtosis is farthest from 0."
            ),
            Text(""),
            NumberTable(columns, [self._row(group, n_bins) for group in shown]),
            paragraph(f"and {n_more} more kinds") if n_more > 0 else None,
        )

    @staticmethod
    def _row(group: SiteGroup, n_bins: int) -> list[str | Text]:
        if not group.figures:
            return [group.name, str(len(group.sites)), Text("no values", style=PROBLEM), *[""] * 8]
        worst, largest = group.figures[group.worst], group.figures[group.largest]
        return [
            group.name,
            str(len(group.sites)),
            _span(*group.range_of("std")),
            _span(*group.range_of("excess_kurtosis"), signed=True),
            group.worst or "-",
            numbers.signed(worst.median_dim_excess_kurtosis, 2),
            numbers.share(worst.beyond_6),
            histogram_text(worst, n_bins),
            numbers.number(largest.largest),
            group.largest or "-",
            str(largest.largest_dim),
        ]


def _span(low: float, high: float, *, signed: bool = False) -> str:
    written = [numbers.signed(x, 2) if signed else numbers.number(x, 2) for x in (low, high)]
    return written[0] if written[0] == written[1] else f"{written[0]} to {written[1]}"


def _magnitude(value: float) -> float:
    """The magnitude, with NaN before every number."""
    return abs(value) if value == value else -1.0  # noqa: PLR0124  NaN differs from itself
