"""The outlier dims of the residual stream: which they are, at how many depths, and how far they stand out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np
from rich.text import Text

from lmfacts.analysis.outlier_dims import LEAST_LAYERS, LEAST_PERSISTENCE
from lmfacts.analysis.outlier_dims_by_depth import CRITERION, outlier_dims_by_depth
from lmfacts.render.terminal.blocks import resample, sparkline
from lmfacts.render.terminal.console import BULK, STANDOUT, paragraph, section
from lmfacts.render.terminal.populations import POPULATION_TITLES
from lmfacts.render.terminal.table import Column, NumberTable
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from lmfacts.analysis.outlier_dims_by_depth import OutlierDims
    from lmfacts.analysis.run_view import RunView

__all__ = ["OutlierDimsSection"]

_MOST_ROWS: Final = 10


class OutlierDimsSection:
    """The section of the summary on outlier dims, or nothing where the residual stream was not recorded."""

    def __init__(self, view: RunView) -> None:
        """The section of a run."""
        by_population = (outlier_dims_by_depth(view, population) for population in view.populations)
        self.by_population = [outlier_dims for outlier_dims in by_population if outlier_dims is not None]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self.by_population:
            return
        parts: list[RenderableType] = [
            paragraph(
                f"Criterion: {CRITERION}, at each depth. The sparkline is RMS over median RMS by depth, on a log scale "
                "from 1 to the largest; mean / RMS is near ±1 for a dim that is all but constant."
            )
        ]
        for outlier_dims in self.by_population:
            parts += [Text(""), self._verdict(outlier_dims)]
            if outlier_dims.dims:
                parts.append(self._table(outlier_dims, options.max_width))
                n_more = len(outlier_dims.dims) - _MOST_ROWS
                if n_more > 0:
                    parts.append(paragraph(f"and {n_more} more"))
        yield section(f"Outlier dims of the residual stream ({self.by_population[0].kind})", *parts)

    @staticmethod
    def _verdict(outlier_dims: OutlierDims) -> RenderableType:
        n_dims, n_layers = len(outlier_dims.dims), len(outlier_dims.layers)
        text = Text().append(f"{POPULATION_TITLES[outlier_dims.population]}: ", style="bold")
        if not n_dims:
            return paragraph(text, f"no outlier dim at any of {_depths(n_layers)}.")
        dims = f"{n_dims} outlier dim{'' if n_dims == 1 else 's'}"
        if n_layers < LEAST_LAYERS:
            return paragraph(text, f"{dims} at {_depths(n_layers)}; persistence needs {LEAST_LAYERS} depths.")
        enough = f"at {100 * LEAST_PERSISTENCE:g} % of {_depths(len(outlier_dims.counted_layers))} or more"
        if len(outlier_dims.counted_layers) < n_layers:
            enough += ", without the first and the last"
        if outlier_dims.persistent:
            listed = ", ".join(str(dim) for dim in outlier_dims.persistent[:_MOST_ROWS])
            more = ", ..." if len(outlier_dims.persistent) > _MOST_ROWS else ""
            noun = "outlier dim persists" if len(outlier_dims.persistent) == 1 else "outlier dims persist"
            text.append(f"{len(outlier_dims.persistent)} {noun} ({enough}): ")
            text.append(listed + more, style=f"bold {STANDOUT}").append(".")
        else:
            text.append(f"{dims}, none persistent ({enough}).")
        if not np.isnan(outlier_dims.median_jaccard):
            text.append(f" Overlap of neighboring depths (Jaccard, median): {outlier_dims.median_jaccard:.2f}.")
        return paragraph(text)

    @staticmethod
    def _table(outlier_dims: OutlierDims, available: int) -> RenderableType:
        shown = outlier_dims.dims[:_MOST_ROWS]
        width = 16 if available < 100 else 32 if available < 150 else 48  # noqa: PLR2004  columns of the terminal
        with np.errstate(divide="ignore", invalid="ignore"):
            series = [np.log(resample(item.rms_over_median, width)) for item in shown]
        high = max((float(s[np.isfinite(s)].max(initial=0.0)) for s in series), default=1.0)
        n_layers = len(outlier_dims.layers)
        columns = [
            Column("dim"),
            Column("outlier at"),
            Column("persistence", keep=60),
            Column("by depth", "left"),
            Column("RMS / median", group="at its peak"),
            Column("layer", group="at its peak", keep=90),
            Column("mean", group="at its peak", keep=70),
            Column("mean / RMS", group="at its peak", keep=80),
        ]
        rows: list[list[str | Text]] = [
            [
                Text(str(item.dim), style=f"bold {STANDOUT}"),
                f"{len(item.layers)} of {n_layers}",
                numbers.percent(item.persistence),
                Text(sparkline(s, 0.0, high), style=BULK),
                f"{numbers.number(item.peak_ratio)}x",
                str(item.peak_layer),
                numbers.signed(item.peak_mean),
                f"{item.peak_mean_over_rms:+.2f}",
            ]
            for item, s in zip(shown, series, strict=True)
        ]
        return NumberTable(columns, rows)


def _depths(n: int) -> str:
    return f"{n} depth{'' if n == 1 else 's'}"
