"""F10: the norms of weights that write to the residual stream and of those that read it, by depth."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.analysis.weight_norms import norm_trends
from lmfacts.render.page.document import Figure, Key
from lmfacts.render.page.figures.weights_by_kind import kind_color, kind_name
from lmfacts.render.page.panel import panel
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmfacts.analysis.weight_norms import NormTrend
    from lmfacts.render.page.document import Drawing
    from lmfacts.render.page.runs_view import RunsView

__all__ = ["figures"]

_LEAST_REACH: Final = 1.4


def figures(view: RunsView) -> list[Figure]:
    """Norms by depth, of weights that write and of weights that read, raw and folded."""
    if view.weights is None:
        return []
    trends = [trend for trend in norm_trends(view.weights.run) if _relative(trend)]
    raw = [trend for trend in trends if not trend.folded]
    folded = {trend.kind: trend for trend in trends if trend.folded}
    if not raw:
        return []
    panels: list[tuple[str, str, list[NormTrend]]] = []
    for group, word in ((("writing", "value"), "Writing"), (("reading",), "Reading")):
        chosen = [trend for trend in raw if trend.group in group]
        panels.append((f"f10-{word.lower()}", f"{word}, raw", chosen))
        if any(trend.kind in folded for trend in chosen):
            both = [folded.get(trend.kind, trend) for trend in chosen]
            panels.append((f"f10-{word.lower()}-folded", f"{word}, folded", both))
    shown = [(name, title, chosen) for name, title, chosen in panels if chosen]
    limits = _limits([trend for _, _, chosen in shown for trend in chosen])
    centered = (
        "; of those that write, the output is centered, as the next norm does"
        if view.inputs.norm_kind == "layernorm"
        else ""
    )
    return [
        Figure(
            "Frobenius norms by depth",
            "The norm of each kind of weight over the geometric mean of its own line, so that a constant kind is a "
            "flat line at 1. The claim is that weights which write to the residual stream grow and that those which "
            "read it are constant. W_V reads, and is half of what attention writes: it is drawn with the latter. "
            f"Folded, weights that read are multiplied by the gain of the norm before them{centered}: that is what "
            "acts on the stream. The first layer decides nothing and may lie off the axis.",
            tuple(_by_depth(name, title, chosen, limits) for name, title, chosen in shown),
            tuple(Key(kind_name(trend.kind), kind_color(trend.kind)) for trend in raw),
        )
    ]


def _limits(trends: Sequence[NormTrend]) -> tuple[float, float]:
    """One axis for all panels, from every layer but the first."""
    values = [value for trend in trends for layer, value in _relative(trend).items() if layer > 0]
    return min(*values, 1 / _LEAST_REACH) / 1.06, max(*values, _LEAST_REACH) * 1.06


def _by_depth(name: str, title: str, trends: Sequence[NormTrend], limits: tuple[float, float]) -> Drawing:
    with panel(name, title, x="layer", y="norm over its geometric mean") as p:
        p.margins(right=52)
        lines = {trend.kind: (_relative(trend), kind_color(trend.kind)) for trend in trends}
        layers = [layer for line, _ in lines.values() for layer in line]
        p.axes.set_xlim(min(layers) - 0.5, max(layers) + 0.5)
        p.axes.set_ylim(*limits)
        p.log("y")
        p.whole_numbers()
        p.rule(y=1.0)
        for line, color in lines.values():
            p.line(list(line), list(line.values()), color)
        p.labels_at_the_end(
            [(kind_name(kind), list(line.values())[-1], color) for kind, (line, color) in lines.items()]
        )
        told = "; ".join(
            f"{kind_name(trend.kind)} changes by a factor of {numbers.number(trend.total_factor)}, rank correlation "
            f"with depth {trend.spearman:+.2f}"
            for trend in trends
            if not math.isnan(trend.total_factor)
        )
        return p.drawing(f"{title}, without the first layer: {told or 'too few layers for a trend'}.")


def _relative(trend: NormTrend) -> dict[int, float]:
    """Layer -> norm over the geometric mean of the line, the first layer left out of the mean."""
    good = {layer: norm for layer, norm in trend.norms.items() if math.isfinite(norm) and norm > 0}
    deciding = [norm for layer, norm in good.items() if layer > 0]
    if not deciding:
        return {}
    middle = math.exp(float(np.mean(np.log(deciding))))
    return {layer: norm / middle for layer, norm in good.items()}
