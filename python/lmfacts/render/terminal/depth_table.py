"""The residual stream by depth: what its values look like, layer by layer."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
from rich.text import Text

from lmfacts.render.terminal.blocks import histogram_line
from lmfacts.render.terminal.console import BULK, PROBLEM, STANDOUT, paragraph, section
from lmfacts.render.terminal.table import Column, NumberTable
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from lmfacts.analysis.run_view import RunView
    from lmfacts.quantities.site_figures import SiteFigures

__all__ = ["HISTOGRAM_LIMIT", "DepthTable", "evenly", "histogram_text", "histogram_width"]

HISTOGRAM_LIMIT: Final = 8
"""Half the range of small histograms, in stds of the body."""

Item = TypeVar("Item")

_MOST_ROWS: Final = 40
_APART: Final = 1.5
"""Position 0 differs from the rest if its std or its largest value differs by this factor somewhere."""


def evenly(items: Sequence[Item], most: int) -> list[Item]:
    """At most `most` of the items, evenly spaced, the first and the last among them."""
    if len(items) <= most:
        return list(items)
    return [items[int(index)] for index in np.unique(np.rint(np.linspace(0, len(items) - 1, most)).astype(int))]


def histogram_width(available: int) -> int:
    """How many characters a small histogram gets in a table of this width; odd, so that the median has a bin."""
    return 17 if available < 100 else 25 if available < 150 else 33  # noqa: PLR2004  columns of the terminal


def histogram_text(figures: SiteFigures, n_bins: int) -> Text:
    """A small histogram with logarithmic counts; arrows at its ends where there are values beyond its range."""
    counts, _, n_below, n_above = figures.histogram(n_bins, HISTOGRAM_LIMIT)
    text = Text("◂" if n_below else " ", style=STANDOUT)
    text.append(histogram_line(counts), style=BULK)
    return text.append("▸" if n_above else " ", style=STANDOUT)


class DepthTable:
    """The section of the summary that goes through the residual stream, or nothing where it was not recorded."""

    def __init__(self, view: RunView) -> None:
        """The table of a run."""
        self.view = view
        self.population = view.population
        self.depths = evenly(view.depths, _MOST_ROWS)
        self.main = [view.figures(depth.name, view.population) for depth in self.depths]
        self.first = [view.figures(depth.name, "first") for depth in self.depths]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self.depths:
            return
        columns = [
            Column("layer"),
            Column("   distribution", "left"),
            Column("mean", keep=20),
            Column("std"),
            Column("pooled", group="excess kurtosis", alone="ex. kurtosis"),
            Column("median dim", group="excess kurtosis", keep=70),
            Column("> 6 std", keep=60),
            Column("largest"),
            Column("dim"),
        ]
        first_apart = self.population == "rest" and self._first_is_apart()
        if first_apart:
            columns += [
                Column("std", group="position 0", keep=50),
                Column("largest", group="position 0", keep=80),
                Column("dim", group="position 0", keep=80),
            ]
        yield section(
            f"Residual stream by depth ({self.view.residual_kind})",
            self._caption(first_apart=first_apart),
            Text(""),
            NumberTable(columns, [self._row(i, options.max_width, first_apart) for i in range(len(self.depths))]),
        )

    def _caption(self, *, first_apart: bool) -> RenderableType:
        tokens = "All tokens but position 0 of each sequence. " if self.population == "rest" else "All tokens. "
        if self.population == "rest" and any(figures.n_values for figures in self.first):
            if first_apart:
                tokens = "All tokens but position 0 of each sequence, which is shown separately. "
            else:
                tokens += f"Position 0 is like them (std and largest value within a factor of {_APART}). "
        some = (
            f"{len(self.depths)} of {len(self.view.depths)} depths are shown. "
            if len(self.view.depths) > len(self.depths)
            else ""
        )
        return paragraph(
            tokens,
            some,
            f"A histogram has logarithmic counts over ±{HISTOGRAM_LIMIT} std of the body (IQR / 1.349): a Gaussian is "
            "a parabola, and ",
            Text("◂ ▸", style=STANDOUT),
            " say that there are values beyond. A Gaussian has excess kurtosis 0 and 2e-9 of its values beyond 6 std.",
        )

    def _row(self, index: int, available: int, first_apart: bool) -> list[str | Text]:
        main, first = self.main[index], self.first[index]
        row: list[str | Text] = [self.depths[index].label]
        if main.n_values:
            row += [
                histogram_text(main, histogram_width(available)),
                numbers.number(main.mean, 2),
                numbers.number(main.std),
                numbers.signed(main.excess_kurtosis),
                numbers.signed(main.median_dim_excess_kurtosis, 2),
                numbers.share(main.beyond_6),
                numbers.number(main.largest),
                str(main.largest_dim),
            ]
        else:
            row += [Text("no finite values", style=PROBLEM), *[""] * 7]
        if first_apart:
            row += [numbers.number(first.std), numbers.number(first.largest)]
            row.append(str(first.largest_dim) if first.n_values else "-")
        return row

    def _first_is_apart(self) -> bool:
        return any(
            not 1 / _APART <= ratio <= _APART
            for main, first in zip(self.main, self.first, strict=True)
            if main.n_values and first.n_values
            for ratio in (_ratio(first.std, main.std), _ratio(first.largest, main.largest))
        )


def _ratio(a: float, b: float) -> float:
    if a == b:
        return 1.0
    return abs(a / b) if b else np.inf
