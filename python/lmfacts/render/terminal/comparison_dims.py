"""The outlier dims that came and went."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from rich.text import Text

from lmfacts.quantities.outlier_criteria import OUTLIER_FACTOR
from lmfacts.render.terminal.comparison_sites import quiet, ranges
from lmfacts.render.terminal.console import STANDOUT, paragraph, section
from lmfacts.render.terminal.table import Column, NumberTable
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from lmfacts.comparison import Comparison, OutlierDimChange, SiteChange

__all__ = ["OutlierDimsChanged"]

_MOST_ROWS: Final = 20
_MOST_ROWS_OF_TEXT: Final = 5
"""On different text, where what came and went cannot be told from noise."""


@dataclass
class _Row:
    """A dim of one kind of site that came, or went, at some layers."""

    kind: str
    axis: str
    dim: int
    gained: bool
    places: list[tuple[SiteChange, OutlierDimChange]] = field(default_factory=list)

    @property
    def clearest(self) -> tuple[SiteChange, OutlierDimChange]:
        """Where it changed most."""
        return max(self.places, key=lambda place: _size(place[1]))


class OutlierDimsChanged:
    """The section on outlier dims gained and lost; nothing where there are none."""

    def __init__(self, comparison: Comparison) -> None:
        """The section of a comparison."""
        rows: dict[tuple[str, str, int, bool], _Row] = {}
        self.n_gained = self.n_lost = self.n_kept = 0
        for site in comparison.sites:
            for dims in site.dims:
                self.n_gained += len(dims.gained)
                self.n_lost += len(dims.lost)
                self.n_kept += dims.n_kept
                for gained, changes in ((True, dims.gained), (False, dims.lost)):
                    for change in changes:
                        key = (site.kind, dims.axis, change.dim, gained)
                        rows.setdefault(key, _Row(*key)).places.append((site, change))
        self.rows = sorted(rows.values(), key=lambda row: -_size(row.clearest[1]))
        self.paired = comparison.paired
        self.with_axis = any(row.axis != "dim" for row in self.rows)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self.rows:
            return
        columns = [
            Column("kind", "left", shrink_to=12, cut="start"),
            Column("dim", "left"),
            Column("", "left"),
            Column("sites"),
            Column("layers", "left", shrink_to=8),
            Column("A", group="RMS over median, where it changed most"),
            Column("B", group="RMS over median, where it changed most"),
            Column("at layer", group="RMS over median, where it changed most", keep=60),
        ]
        most = _MOST_ROWS if self.paired else _MOST_ROWS_OF_TEXT
        rows = [self._row(row) for row in self.rows[:most]]
        n_more = len(self.rows) - len(rows)
        of_text = "" if self.paired else " How many of them the text alone explains cannot be judged."
        yield section(
            "Outlier dims gained and lost",
            paragraph(
                f"An outlier dim has more than {OUTLIER_FACTOR:g} times the RMS of its site's median dim. Counted at "
                f"each site {self.n_gained:,} came, {self.n_lost:,} went, and {self.n_kept:,} are there in both runs. "
                f"Those that changed most come first.{of_text}"
            ),
            Text(""),
            NumberTable(columns, rows if self.paired else [quiet(row) for row in rows]),
            paragraph(f"and {n_more:,} more") if n_more > 0 else None,
        )

    def _row(self, row: _Row) -> list[str | Text]:
        site, change = row.clearest
        return [
            row.kind,
            f"{row.axis.removesuffix('dim')}{row.dim}" if self.with_axis else str(row.dim),
            Text("gained" if row.gained else "lost", style=STANDOUT),
            str(len(row.places)),
            ranges(place.layer for place, _ in row.places if place.layer is not None),
            f"{numbers.number(change.ratio_a, 4)}x",
            f"{numbers.number(change.ratio_b, 4)}x",
            "" if site.layer is None else str(site.layer),
        ]


def _size(change: OutlierDimChange) -> float:
    """How far its RMS over the median moved, as a factor."""
    least, largest = sorted((change.ratio_a, change.ratio_b))
    return largest / least if least > 0 else math.inf
