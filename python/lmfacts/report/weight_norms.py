"""How the norms of the weights that read and write the residual stream change with depth, raw and folded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np
from rich.text import Text

from lmfacts.report import formats
from lmfacts.report.blocks import resample, sparkline
from lmfacts.report.console import BULK, paragraph, section
from lmfacts.report.table import Column, NumberTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from rich.console import Console, ConsoleOptions, RenderResult

    from lmfacts.report.weights_view import WeightsView

__all__ = ["READING", "WRITING", "NormTrend", "WeightNorms", "norm_trends", "spearman"]

READING: Final = ("W_Q", "W_K", "W_in", "W_gate", "W_V")
"""The kinds that read the residual stream, through the norm before them."""

WRITING: Final = ("W_O", "W_out")
"""The kinds that write to it."""

_LEAST_LAYERS: Final = 3
_SAME: Final = 1e-9
_LEAST_FACTOR: Final = 1.35


@dataclass(frozen=True)
class NormTrend:
    """The Frobenius norm of one kind of weight by depth.

    The slope is that of the least-squares line of ln norm on the layer over all layers but the first block's;
    NaN with fewer than 3 of them. So is Spearman's correlation.

    Attributes:
        kind: `W_O`.
        group: `writing`, `reading` (W_V apart: it reads, and is half of what attention writes), or `value`.
        folded: whether the norms are folded (see `WeightRecord.frobenius_folded`).
        norms: layer -> norm; where a layer has several (experts), their median.
        slope: change of ln norm per layer.
        total_factor: exp(slope x the distance from the second to the last layer): L - 2 of L layers.
        spearman: rank correlation of norm and layer.
    """

    kind: str
    group: Literal["writing", "reading", "value"]
    folded: bool
    norms: dict[int, float]
    slope: float
    total_factor: float
    spearman: float


def norm_trends(view: WeightsView) -> list[NormTrend]:
    """The trends of the kinds that write, then of those that read; raw, and folded where that differs somewhere."""
    groups = {group.kind.removeprefix("experts.*."): group for group in view.matrices}
    trends = []
    for kind in (*WRITING, *READING):
        group = groups.get(kind)
        if group is None or len({figures.weight.layer for figures in group.figures}) < 2:  # noqa: PLR2004
            continue
        raw = _by_layer({f.weight.name: (f.weight.layer, f.weight.frobenius) for f in group.figures})
        folded = _by_layer({f.weight.name: (f.weight.layer, f.weight.frobenius_folded) for f in group.figures})
        name: Literal["writing", "reading", "value"]
        name = "writing" if kind in WRITING else "value" if kind == "W_V" else "reading"
        trends.append(_trend(group.kind, name, raw, folded=False))
        if any(abs(folded[layer] - norm) > _SAME * norm for layer, norm in raw.items()):
            trends.append(_trend(group.kind, name, folded, folded=True))
    return trends


def spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Rank correlation, ties at their middle rank; NaN with fewer than 3 pairs or where all are equal."""
    if x.size < _LEAST_LAYERS:
        return math.nan
    a, b = (_ranks(values) - (values.size - 1) / 2 for values in (x, y))
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale > 0 else math.nan


class WeightNorms:
    """The section of the summary on norms, or nothing where there are fewer than two layers."""

    def __init__(self, view: WeightsView) -> None:
        """The section of a run."""
        self.trends = norm_trends(view)
        self.layer_norm = view.run.model.get("norm_kind") == "layernorm"

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self.trends:
            return
        available = options.max_width
        n_layers = max(len(trend.norms) for trend in self.trends)
        width = min(n_layers, 24 if available < 100 else 48)  # noqa: PLR2004
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
                    *(formats.number(float(norms[i])) for i in (0, min(1, norms.size - 1), norms.size // 2, -1)),
                    _percent_change(trend.slope),
                    "-" if math.isnan(trend.total_factor) else f"{formats.number(trend.total_factor)}x",
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
                f"{formats.number(math.exp(-span), 2)}x to {formats.number(math.exp(span), 2)}x or beyond. Per layer "
                "and total: the least-squares line of ln norm, without the first layer; rho: Spearman's rank "
                "correlation with depth. W_V, which reads, is half of what attention writes."
            ),
            Text(""),
            NumberTable(columns, rows),
        )


def _trend(
    kind: str, group: Literal["writing", "reading", "value"], norms: dict[int, float], *, folded: bool
) -> NormTrend:
    layers, values = np.array(list(norms), dtype=np.float64), np.array(list(norms.values()))
    later = (layers > 0) & (values > 0) & np.isfinite(values)
    x, y = layers[later], values[later]
    if x.size < _LEAST_LAYERS:
        return NormTrend(kind, group, folded, norms, math.nan, math.nan, math.nan)
    centered = x - x.mean()
    slope = float(centered @ np.log(y) / (centered @ centered))
    total = math.exp(slope * float(x[-1] - x[0]))
    return NormTrend(kind, group, folded, norms, slope, total, spearman(x, y))


def _by_layer(norms: Mapping[str, tuple[int | None, float]]) -> dict[int, float]:
    found: dict[int, list[float]] = {}
    for layer, norm in norms.values():
        if layer is not None:
            found.setdefault(layer, []).append(norm)
    return {layer: float(np.median(values)) for layer, values in sorted(found.items())}


def _deviations(norms: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ln of each norm over their median; NaN where that has no meaning."""
    good = np.where(np.isfinite(norms) & (norms > 0), norms, np.nan)
    if np.isnan(good).all():
        return good
    return np.asarray(np.log(good / np.nanmedian(good)))


def _usual_deviation(trends: Sequence[NormTrend]) -> float:
    """What 95 % of the deviations stay within, the first layer's left out: it is often unlike the others."""
    found = np.concatenate([np.abs(_deviations(np.array(list(trend.norms.values())))[1:]) for trend in trends])
    finite = found[np.isfinite(found)]
    return float(np.quantile(finite, 0.95)) if finite.size else 0.0


def _percent_change(slope: float) -> str:
    return "-" if math.isnan(slope) else f"{100 * math.expm1(slope):+.1f} %"


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 0, ties at their middle."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts + 1) / 2)[inverse], dtype=np.float64)
