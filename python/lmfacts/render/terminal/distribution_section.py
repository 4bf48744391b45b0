"""The two tall histograms of a page: linear and logarithmic counts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from lmfacts.render.terminal.console import paragraph, section
from lmfacts.render.terminal.histogram_plot import HistogramPlot, beside, tail_limit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from lmfacts.quantities.value_figures import ValueFigures

__all__ = ["DistributionSection"]

_SIDE_BY_SIDE: Final = 110


class DistributionSection:
    """The two tall histograms, beside each other where there is room."""

    def __init__(self, figures: ValueFigures, title: str) -> None:
        """The section under a title."""
        self.figures = figures
        self.title = title

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        width = options.max_width
        side_by_side = width >= _SIDE_BY_SIDE
        n_bins = (min((width - 25) // 2, 71) if side_by_side else min(width - 12, 71)) // 2 * 2 - 1
        linear = HistogramPlot(self.figures, n_bins=n_bins, limit=5)
        logarithmic = HistogramPlot(self.figures, n_bins=n_bins, limit=tail_limit(self.figures), log=True)
        plots: Iterable[RenderableType]
        plots = beside(linear, logarithmic) if side_by_side else [linear, Text(""), logarithmic]
        yield section(
            self.title,
            paragraph("Dots: a Gaussian with the median and std of the body (IQR / 1.349).", ""),
            Text(""),
            *plots,
        )
