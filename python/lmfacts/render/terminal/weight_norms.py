"""The section on how the norms of the weights that read and write the residual stream change with depth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
from rich.text import Text

from lmfacts.analysis.weight_norms import norm_trends
from lmfacts.render.terminal.blocks import resample, sparkline
from lmfacts.render.terminal.console import BULK, paragraph, section
from lmfacts.render.terminal.table import Column, NumberTable
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from rich.console import Console, ConsoleOptions, RenderResult

    from lmfacts.analysis.weight_norms import NormTrend
    from lmfacts.analysis.weights_view import WeightsView

__all__ = ["WeightNorms"]

_LEAST_FACTOR: Final = 1.35


class WeightNorms:
    """The section of the summary on norms, or nothing where there are fewer than two layers."""

    def __init__(self, view: WeightsView) -> None:
        """The section of a run."""
        self.trends = norm_trends(view.run)
        self.layer_norm = view.run.model.norm_kind == "layernorm"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self.trends:
            return
        available = options.max_width
        n_layers = max(len(trend.norms) for trend in self.trends)
        width = min(n_layers, 24 if available < 100 else 48)  # noqa: PLR2004  columns of the terminal
        span = max(_usual_deviation(self.trends), math.log(_LEAST_FACTOR))
        columns = [
            Column("", "left", keep=60),
            Column("kind", "left"),
            Column("norm", "left"),
            Column("by depth", "left"),
            Column("first", keep=55),
            Column("second", keep=50),
            Column("middle", keep=45),
            Column("last", keep=56),
            Column("per layer"),
            Column("total"),
            Column("rho"),
        ]
        rows = []
        previous = ""
        for trend in self.trends:
            norms = np.array(list(trend.norms.values()))
            title = trend.group if trend.group != previous else ""
            rows.append(
                [
                    title,
                    "" if trend.folded else trend.kind,
                    "folded" if trend.folded else "raw",
                    Text(sparkline(resample(_deviations(norms), width), -span, span), style=BULK),
                    *(numbers.number(float(norms[i])) for i in (0, min(1, norms.size - 1), norms.size // 2, -1)),
                    _percent_change(trend.slope),
                    "-" if math.isnan(trend.total_factor) else f"{numbers.number(trend.total_factor)}x",
                    "-" if math.isnan(trend.spearman) else f"{trend.spearman:+.2f}",
                ]
            )
            previous = trend.group
        written = "those that write to it are centered over the output dims, as the next norm does. "
        yield section(
            "Norm by depth: weights that write to the residual stream, and that read it",
            paragraph(
                "Frobenius norms. Folded: those that read the stream are multiplied by the gain of the norm before them"
                + ("; " + written if self.layer_norm else ". ")
                + "Sparklines share a logarithmic scale: each norm over the median of its row, from "
                f"{numbers.number(math.exp(-span), 2)}x to {numbers.number(math.exp(span), 2)}x or beyond. Per layer "
                "and total: the least-squares line of ln norm, without the first layer; rho: Spearman's rank "
                "correlation with depth. W_V, which reads, is half of what attention writes."
            ),
            Text(""),
            NumberTable(columns, rows),
        )


def _deviations(norms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ln of each norm over their median; NaN where that has no meaning."""
    good = np.where(np.isfinite(norms) & (norms > 0), norms, np.nan)
    if np.isnan(good).all():
        return good
    return np.asarray(np.log(good / np.nanmedian(good)))


def _usual_deviation(trends: Sequence[NormTrend]) -> float:
    """What 95 % of the deviations stay within, the first layer's left out: it is often unlike the others."""
    deviations = np.concatenate([np.abs(_deviations(np.array(list(trend.norms.values())))[1:]) for trend in trends])
    finite = deviations[np.isfinite(deviations)]
    return float(np.quantile(finite, 0.95)) if finite.size else 0.0


def _percent_change(slope: float) -> str:
    return "-" if math.isnan(slope) else f"{100 * math.expm1(slope):+.1f} %"
