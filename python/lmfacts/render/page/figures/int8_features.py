"""F4: in how many layers and at how many positions single dims reach 6.0 at the inputs of the projections."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.analysis.outlier_dims import INT8_THRESHOLD, int8_features
from lmfacts.errors import UsageError
from lmfacts.render.page.document import Figure
from lmfacts.render.page.palette import COLORS
from lmfacts.render.page.panel import panel

if TYPE_CHECKING:
    from lmfacts.analysis.outlier_dims import Int8Features
    from lmfacts.render.page.document import Drawing
    from lmfacts.render.page.runs_view import RunsView
    from lmfacts.run.site import SiteRecord

__all__ = ["figures"]

_KINDS: Final = ("ln1_out", "z", "ln2_out")
_LAYER_SHARE: Final = 0.25
_POSITION_SHARE: Final = 0.06
_MOST_POINTS: Final = 300
_MOST_NAMED: Final = 8
_LABEL_WIDTH: Final = 0.12
_LABEL_HEIGHT: Final = 0.06


def figures(view: RunsView) -> list[Figure]:
    """The dims that reach the threshold anywhere."""
    layers = _layers(view)
    if not layers:
        return []
    try:
        features = int8_features(list(layers.values()))
    except UsageError:  # other widths or another threshold: F4 says so
        return []
    return [
        Figure(
            "How often single dims reach 6.0",
            "Each point is a dim that reaches a magnitude of 6 somewhere at the input of a projection. LLM.int8() "
            "calls it an outlier feature if it does so in at least a quarter of the layers and at 6 % of the "
            "positions, here of all pairs of layer and position: the shaded corner. Next to it, the number of dims "
            "that reach 6 at least once, by layer.",
            (_dims(features), _counts(layers)),
        )
    ]


def _layers(view: RunsView) -> dict[int, list[SiteRecord]]:
    found: dict[int, list[SiteRecord]] = {}
    for kind in _KINDS:
        for layer, site in view.sites_of(kind, "all").items():
            found.setdefault(layer, []).append(site)
    return dict(sorted(found.items()))


def _dims(features: Int8Features) -> Drawing:
    hit = np.flatnonzero(features.n_layers_hit)
    passed = features.dims(_LAYER_SHARE, _POSITION_SHARE)
    order = hit[np.lexsort((hit, -features.position_share[hit]))][:_MOST_POINTS]
    with panel("f4-dims", "Dims that reach 6.0", x="share of the layers", y="share of the positions") as p:
        p.axes.set_xlim(-0.02, 1.03)
        top = max(float(features.position_share.max(initial=0.0)) * 1.15, 2 * _POSITION_SHARE)
        p.axes.set_ylim(-0.02 * top, top)
        p.axes.fill_between([_LAYER_SHARE, 1.03], _POSITION_SHARE, top, color=COLORS["heat-0"], linewidth=0, zorder=1)
        p.rule(x=_LAYER_SHARE)
        p.rule(y=_POSITION_SHARE)
        p.percent("x")
        p.percent("y")
        inside = np.isin(order, passed)
        for chosen, color in ((order[~inside], "blue"), (order[inside], "orange")):
            p.points(features.layer_share[chosen], features.position_share[chosen], color, size=3.0)
        named: list[tuple[float, float]] = []
        for dim in order:
            x, y = float(features.layer_share[dim]), float(features.position_share[dim])
            covered = any(abs(x - other) < _LABEL_WIDTH and abs(y - at) < _LABEL_HEIGHT * top for other, at in named)
            if covered or len(named) == _MOST_NAMED:
                continue
            named.append((x, y))
            near_edge = x > 1 - _LABEL_WIDTH
            p.axes.annotate(
                str(dim),
                (x, y),
                xytext=(-6 if near_edge else 6, 0),
                textcoords="offset points",
                ha="right" if near_edge else "left",
                va="center",
                fontsize=10.5,
                color=COLORS["ink"],
            )
        if not hit.size:
            p.note("no dim reaches 6.0", 0.5, 0.5, align="center")
        listed = ", ".join(str(dim) for dim in passed[:_MOST_NAMED]) or "none"
        return p.drawing(
            f"{hit.size} dims reach 6.0 somewhere; in a quarter of the layers and at 6 % of the positions: {listed}."
        )


def _counts(layers: dict[int, list[SiteRecord]]) -> Drawing:
    counts = [int(np.any([site.dims.n_at_least > 0 for site in sites], axis=0).sum()) for sites in layers.values()]
    with panel("f4-layers", f"Dims with |x| ≥ {INT8_THRESHOLD:g}", x="layer", y="number of dims") as p:
        names = list(layers)
        p.axes.set_xlim(names[0] - 0.6, names[-1] + 0.6)
        p.axes.bar(names, counts, width=0.75, color=COLORS["blue"], linewidth=0)
        p.axes.set_ylim(0, max(*counts, 4) * 1.1 if len(counts) > 1 else max(counts[0], 4) * 1.1)
        p.whole_numbers()
        p.whole_numbers("y", 5)
        return p.drawing(f"Number of dims that reach 6.0 by layer: from {min(counts)} to {max(counts)}.")
