"""How the norm of the residual stream grows with depth."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Final

from rich.text import Text

from lmfacts.analysis.residual_norms import residual_norms
from lmfacts.render.terminal.blocks import bar
from lmfacts.render.terminal.console import BULK, STANDOUT, paragraph, section
from lmfacts.render.terminal.depth_table import evenly
from lmfacts.render.terminal.table import Column, NumberTable
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from lmfacts.analysis.run_view import RunView

__all__ = ["NormChart"]

_MOST_ROWS: Final = 40


class NormChart:
    """The section of the summary on norms, or nothing where the residual stream was not recorded."""

    def __init__(self, view: RunView) -> None:
        """The chart of a run."""
        self.main = view.population
        self.points = residual_norms(view)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not any(point.mean > 0 for point in self.points):
            return
        with_first = self.main == "rest" and any(point.first_mean > 0 for point in self.points)
        width = max(10, (min(options.max_width, 140) - 34) // (2 if with_first else 1))
        top = max(_finite(point.mean) for point in self.points)
        first_top = max(_finite(point.first_mean) for point in self.points)
        title = "mean norm without position 0" if with_first else "mean norm"
        columns = [
            Column("layer"),
            Column(title if width >= len(title) else "mean norm", "left"),
            Column(""),
            Column("growth"),
        ]
        if with_first:
            columns += [Column("at position 0", "left", keep=90), Column("", keep=90)]
        rows: list[list[str | Text]] = []
        for point in evenly(self.points, _MOST_ROWS):
            row: list[str | Text] = [
                point.label,
                Text(bar(point.mean / top, width), style=BULK),
                numbers.number(point.mean),
                "" if math.isnan(point.growth) else f"{numbers.number(point.growth)}x",
            ]
            if with_first:
                row += [
                    Text(bar(point.first_mean / first_top, width) if first_top else "", style=STANDOUT),
                    numbers.number(point.first_mean),
                ]
            rows.append(row)
        yield section(
            "Norm of the residual stream by depth",
            paragraph(self._caption(with_first)),
            Text(""),
            NumberTable(columns, rows),
        )

    def _caption(self, with_first: bool) -> str:
        factors = [point.growth for point in self.points if point.growth > 0]
        scales = " The two charts have scales of their own." if with_first else ""
        if not factors:
            return f"L2 norm of a token's vector.{scales}"
        total = math.prod(factors)
        return (
            "L2 norm of a token's vector; growth is that of the geometric mean from one depth to the next: median "
            f"{numbers.number(statistics.median(factors))}x, {numbers.number(total)}x from the first to the last."
            f"{scales}"
        )


def _finite(value: float) -> float:
    return value if math.isfinite(value) else 0.0
