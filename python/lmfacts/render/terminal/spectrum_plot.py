"""Singular values against their rank, both on logarithmic scales, beside those of a random matrix."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
from rich.text import Text

from lmfacts.render.terminal.blocks import MARK, RISING
from lmfacts.render.terminal.console import BULK, STANDOUT
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from rich.console import Console, ConsoleOptions

    from lmfacts.stats.spectrum import Spectrum

__all__ = ["SpectrumPlot"]

_LABEL_WIDTH: Final = 8
_WIDEST: Final = 100
_DEEPEST: Final = 1e-3
"""Singular values below this share of the largest are drawn at the bottom."""
_SHOWN: Final = 0.97
"""So are those after this share of the ranks, where they fall off a cliff."""
_STEPS: Final = (1, 2, 5)


class SpectrumPlot:
    """A filled curve of the singular values, dots for those of a null, and a line at the Marchenko-Pastur edge."""

    def __init__(self, spectrum: Spectrum, null: NDArray[np.float64] | None = None, height: int = 12) -> None:
        """A plot of a spectrum.

        Args:
            spectrum: of a matrix that is not all zero.
            null: as many singular values, largest first, drawn as dots.
            height: lines of the drawing.
        """
        self.spectrum = spectrum
        self.null = null
        self.height = height

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Text]:
        width = min(options.max_width - _LABEL_WIDTH - 4, _WIDEST)
        for line in self.lines(max(width, 10)):
            line.rstrip()
            yield line

    def lines(self, width: int) -> list[Text]:
        """The plot, with `width` columns."""
        values = self.spectrum.values
        top = max(
            float(values[0]), 0.0 if self.null is None else float(self.null[0]), self.spectrum.marchenko_pastur_edge
        )
        bottom = max(0.8 * float(values[int(_SHOWN * (values.size - 1))]), _DEEPEST * top)
        span = math.log(top / bottom) or 1.0
        ranks = np.exp(np.linspace(0.0, math.log(values.size), width))
        drawn = _heights(values, ranks, bottom, span) * self.height
        dots = None if self.null is None else _heights(self.null, ranks, bottom, span) * self.height
        edge_row = int(math.log(self.spectrum.marchenko_pastur_edge / bottom) / span * self.height - 1e-9)
        lines = []
        for row in range(self.height - 1, -1, -1):
            # A row is named by its middle, as the eye reads it.
            level = bottom * math.exp((row + 0.5) / self.height * span)
            label = numbers.number(level, 2) if row % 3 == 2 or row == 0 else ""  # noqa: PLR2004  every third
            if row == edge_row:
                label = "edge"
            line = Text(f"{label:>{_LABEL_WIDTH}} ")
            line.append("┤" if label else "│")
            for column in range(width):
                line.append_text(
                    self._cell(row, drawn[column], None if dots is None else dots[column], row == edge_row)
                )
            lines.append(line)
        return [*lines, *_axis(ranks, width)]

    @staticmethod
    def _cell(row: int, height: float, dot: float | None, at_edge: bool) -> Text:
        if dot is not None and row <= dot < row + 1:
            return Text(MARK, style=STANDOUT)
        filled = round((height - row) * 8)
        if filled > 0:
            return Text(RISING[min(filled, 8) - 1], style=BULK)
        return Text("╌" if at_edge else " ")


def _heights(
    values: NDArray[np.float64], ranks: NDArray[np.float64], bottom: float, span: float
) -> NDArray[np.float64]:
    """Where each column's value is, from 0 at the bottom to 1 at the top."""
    logs = np.log(np.maximum(values, bottom * 1e-6))
    at = np.interp(np.log(ranks), np.log(np.arange(1, values.size + 1)), logs)
    return np.asarray(np.clip((at - math.log(bottom)) / span, 0.0, 1.0 - 1e-9))


def _axis(ranks: NDArray[np.float64], width: int) -> list[Text]:
    last = round(float(ranks[-1]))
    line, labels = ["─"] * width, [" "] * (width + _LABEL_WIDTH)
    ticks = [step * 10**decade for decade in range(len(str(last))) for step in _STEPS]
    for tick in [last, *(tick for tick in ticks if tick < last)]:
        column = round(math.log(tick) / math.log(last) * (width - 1)) if last > 1 else 0
        text = f"{tick:,}"
        start = max(column - len(text) // 2, 0)
        free = all(c == " " for c in labels[max(start - 1, 0) : start + len(text) + 1])
        if free and start + len(text) <= len(labels):
            labels[start : start + len(text)] = text
            line[column] = "┴"
    return [
        Text(f"{'':{_LABEL_WIDTH}} └{''.join(line)}"),
        Text(f"{'rank':>{_LABEL_WIDTH}}  {''.join(labels).rstrip()}"),
    ]
