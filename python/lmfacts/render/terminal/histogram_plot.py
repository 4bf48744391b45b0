"""A tall histogram with axes, beside the Gaussian of the same body."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
from rich.text import Text

from lmfacts.render.terminal.blocks import MARK, tall_histogram
from lmfacts.render.terminal.console import BULK, STANDOUT
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from rich.console import Console, ConsoleOptions

    from lmfacts.quantities.value_figures import ValueFigures

__all__ = ["HistogramPlot", "beside", "tail_limit"]

_LABEL_WIDTH: Final = 8
_TICKS: Final = (1, 2, 4, 5, 10, 20)
_MOST_TICKS: Final = 7


def tail_limit(figures: ValueFigures, least: int = 6, most: int = 20) -> int:
    """Half the range, in stds of the body, that shows the tails: up to the farthest value, within bounds."""
    if not figures.n_values or not figures.body_std > 0:
        return least
    farthest = max(abs(figures.record.max - figures.median), abs(figures.record.min - figures.median))
    return int(min(max(math.ceil(min(farthest / figures.body_std, most)), least), most))


class HistogramPlot:
    """The counts over +- `limit` stds of the body about the median, with dots where the body's Gaussian would be."""

    def __init__(self, figures: ValueFigures, *, n_bins: int, limit: int, height: int = 9, log: bool = False) -> None:
        """A plot of a site over its population.

        Args:
            figures: of the site.
            n_bins: number of bins, one column each.
            limit: half the range, in stds of the body.
            height: lines of the histogram itself.
            log: logarithmic counts.
        """
        self.figures = figures
        self.n_bins = n_bins
        self.limit = limit
        self.height = height
        self.log = log

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Text]:
        for line in self.lines():
            line.rstrip()
            yield line

    @property
    def width(self) -> int:
        """Cells from the left edge to the end of the axis."""
        return _LABEL_WIDTH + 2 + self.n_bins

    def lines(self) -> list[Text]:
        """The plot, line by line."""
        counts, edges, n_below, n_above = self.figures.histogram(self.n_bins, self.limit)
        expected = self._gaussian(edges)
        rows = tall_histogram(counts, self.height, log=self.log, expected=expected)
        top = int(counts.max(initial=0))
        title = f"{'log' if self.log else 'linear'} counts"
        lines = [Text(f"{'':{_LABEL_WIDTH}}  {title}", style="bold")]
        for number, row in enumerate(rows):
            label = numbers.approximate(top) if number == 0 else "1" if self.log and number == len(rows) - 1 else ""
            line = Text(f"{_short(label):>{_LABEL_WIDTH}} ")
            line.append("┤" if label else "│")
            for character in row:
                line.append(character, style=STANDOUT if character == MARK else BULK)
            lines.append(line)
        lines += self._axis(edges)
        if n_below or n_above:
            lines.append(Text(f"{'':{_LABEL_WIDTH}}  {self._beyond(n_below, n_above)}"))
        return lines

    def _beyond(self, n_below: int, n_above: int) -> str:
        """How many values lie outside the plot, in as much detail as there is room below it."""
        share = numbers.share((n_below + n_above) / self.figures.n_values)
        short = f"beyond: {numbers.approximate(n_below)} below, {numbers.approximate(n_above)} above"
        told = (
            f"beyond: {n_below:,} below, {n_above:,} above ({share} of all)",
            f"{short} ({share} of all)",
            short,
            f"beyond: {share} of all",
        )
        return next((text for text in told if len(text) <= self.n_bins), told[-1])

    def _axis(self, edges: NDArray[np.float64]) -> list[Text]:
        """The horizontal axis: a line with ticks, stds of the body, and values."""
        step = next((s for s in _TICKS if 2 * self.limit / s <= _MOST_TICKS), _TICKS[-1])
        ticks = range(-(self.limit // step) * step, self.limit + 1, step)
        line, stds, values = (["─"] * self.n_bins, *([" "] * (self.n_bins + _LABEL_WIDTH) for _ in range(2)))
        half = (edges[-1] - edges[0]) / 2
        for tick in ticks:
            column = min(round((tick + self.limit) / (2 * self.limit) * self.n_bins - 0.5), self.n_bins - 1)
            line[max(column, 0)] = "┴"
            _write(stds, column, f"{tick:+d}" if tick else "0")
            _write(values, column, numbers.number(self.figures.median + tick / self.limit * half))
        return [
            Text(f"{'':{_LABEL_WIDTH}} └{''.join(line)}"),
            Text(f"{'std':>{_LABEL_WIDTH}}  {''.join(stds).rstrip()}"),
            Text(f"{'value':>{_LABEL_WIDTH}}  {''.join(values).rstrip()}"),
        ]

    def _gaussian(self, edges: NDArray[np.float64]) -> NDArray[np.float64]:
        """The counts of a Gaussian with the body's median and std and as many values."""
        if not self.figures.n_values or not self.figures.body_std > 0:
            return np.zeros(self.n_bins)
        z = (edges - self.figures.median) / self.figures.body_std
        # The complementary error function of |z| keeps the far tails from cancelling.
        tail = np.array([math.erfc(abs(x) / math.sqrt(2)) / 2 for x in z])
        same_side = (z[:-1] < 0) == (z[1:] <= 0)
        mass = np.where(same_side, np.abs(np.diff(tail)), 1 - tail[:-1] - tail[1:])
        return mass * self.figures.n_values


def beside(left: HistogramPlot, right: HistogramPlot, gap: int = 3) -> list[Text]:
    """Two plots side by side, as lines."""
    a, b = left.lines(), right.lines()
    lines = []
    for number in range(max(len(a), len(b))):
        line = a[number].copy() if number < len(a) else Text()
        line.pad_right(left.width + gap - line.cell_len)
        line.append_text(b[number] if number < len(b) else Text())
        line.rstrip()
        lines.append(line)
    return lines


def _write(row: list[str], column: int, text: str) -> None:
    """Center a label at a column, unless it would touch the one before."""
    start = max(column - len(text) // 2, 0)
    if start + len(text) <= len(row) and all(c == " " for c in row[max(start - 1, 0) : start + len(text) + 1]):
        row[start : start + len(text)] = text


def _short(label: str) -> str:
    """A large count that fits the margin: `1.99e9`."""
    for word, exponent in ((" trillion", "T"), (" billion", "G"), (" million", "M")):
        label = label.replace(word, exponent)
    return label
