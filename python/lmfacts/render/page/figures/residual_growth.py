"""F7: how the norm of the residual stream grows with depth."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.analysis.residual_norms import mean_log_norm
from lmfacts.facts.f07_residual_growth import fit_window
from lmfacts.render.page.document import Figure, Key
from lmfacts.render.page.palette import depth_color
from lmfacts.render.page.panel import panel
from lmfacts.render.page.runs_view import evenly_chosen
from lmfacts.stats.cells import Cells
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lmfacts.render.page.document import Drawing
    from lmfacts.render.page.runs_view import RunsView
    from lmfacts.run.site import SiteRecord

    Floats = NDArray[np.float64]

__all__ = ["figures"]

_LEAST_POINTS: Final = 5  # as F7 asks for
_BINS: Final = 36


def figures(view: RunsView) -> list[Figure]:
    """Norms by depth with the exponential that is fitted, the growth of each layer, and the norms of tokens."""
    centered = view.inputs.norm_kind == "layernorm"
    sites = view.sites_of("resid_pre", view.population) or view.residual
    main = _norms(sites, centered=centered)
    if np.isnan(list(main.values())).all():
        return []
    first = _norms(view.sites_of("resid_pre", "first") or view.residual_over("first"), centered=centered)
    if view.population != "rest" or np.isnan(list(first.values())).all():
        first = {}
    drawings = [_by_depth(view, main, first), _growth(main)]
    keys = [Key("without position 0" if view.population == "rest" else "all tokens", "blue")]
    if first:
        keys.append(Key("position 0", "orange"))
    if _fitted(view, main).any():
        keys.append(Key("fitted exponential", "ink", "dashed"))
    chosen = evenly_chosen([layer for layer, site in sites.items() if site.norms.n and site.norms.max > 0])
    if chosen:
        drawings.append(_distributions({layer: sites[layer] for layer in chosen}))
        keys += [Key(f"norms at layer {layer}", depth_color(i, len(chosen))) for i, layer in enumerate(chosen)]
    minus = " after the token's mean is subtracted, as LayerNorm does" if centered else ""
    return [
        Figure(
            "Norm of the residual stream by depth",
            f"The geometric mean of the tokens' L2 norms as they enter each layer{minus}. On this axis exponential "
            "growth is a straight line; a dashed one, where there is one, is fitted over the layers that decide. The "
            "second panel is the factor from each layer to the next: a constant one is exponential growth. The third "
            "is how the norms of single tokens are distributed.",
            tuple(drawings),
            tuple(keys),
        )
    ]


def _norms(sites: dict[int, SiteRecord], *, centered: bool) -> dict[int, float]:
    """Layer -> mean ln norm."""
    return {layer: mean_log_norm(site, centered=centered) for layer, site in sites.items()}


def _by_depth(view: RunsView, main: dict[int, float], first: dict[int, float]) -> Drawing:
    layers = np.array(list(main))
    y = np.array(list(main.values()))
    with panel("f7-depth", "Norm by depth", x="layer", y="L2 norm") as p:
        found = np.array([*main.values(), *first.values()])
        found = np.exp(found[np.isfinite(found)])
        p.axes.set_xlim(layers[0] - 0.5, layers[-1] + 0.5)
        p.axes.set_ylim(float(found.min()) / 1.3, float(found.max()) * 1.3)
        p.log("y")
        p.whole_numbers()
        p.line(layers, np.exp(y), "blue")
        p.points(layers, np.exp(y), "blue", size=2.0)
        if first:
            p.line(list(first), np.exp(list(first.values())), "orange")
        chosen = _fitted(view, main)
        growth = ""
        if chosen.any():
            slope, start = np.polyfit(layers[chosen], y[chosen], 1)
            ends = layers[chosen][[0, -1]]
            p.line(ends, np.exp(start + slope * ends), "ink", style="dashed", width=1.5, above=4)
            growth = f"; fitted over layers {ends[0]} to {ends[1]}, a factor of {np.exp(slope):.3f} per layer"
        return p.drawing(
            f"The norm goes from {numbers.number(float(np.exp(y[0])))} at layer {layers[0]} to "
            f"{numbers.number(float(np.exp(y[-1])))} at layer {layers[-1]}{growth}."
        )


def _fitted(view: RunsView, main: dict[int, float]) -> NDArray[np.bool_]:
    """Which layers decide: those of F7, or none where they are too few."""
    layers, y = np.array(list(main)), np.array(list(main.values()))
    chosen = np.isin(layers, list(fit_window(view.inputs.n_layers or int(layers[-1]) + 1))) & np.isfinite(y)
    return chosen if chosen.sum() >= _LEAST_POINTS else np.zeros(layers.size, dtype=bool)


def _growth(main: dict[int, float]) -> Drawing:
    factors = {a: float(np.exp(main[b] - main[a])) for a, b in pairwise(main)}
    layers, values = np.array(list(factors)), np.array(list(factors.values()))
    finite = values[np.isfinite(values)]
    with panel("f7-factor", "Factor to the next layer", x="layer", y="1: no growth") as p:
        if not finite.size:
            p.note("one layer only", 0.5, 0.5, align="center")
            return p.drawing("There is one layer only.")
        # The first layers often grow many times over: the axis is for the others.
        low = float(finite.min())
        top = max(float(np.quantile(finite, 0.9)) * 1.15, 1.1)
        p.axes.set_xlim(layers[0] - 0.5, layers[-1] + 0.5)
        p.axes.set_ylim(min(0.95, low * 0.97), top)
        p.whole_numbers()
        p.rule(y=1.0, color="ink")
        p.line(layers, values, "blue")
        p.points(layers, values, "blue", size=2.0)
        over = np.flatnonzero(values > top)
        if over.size:
            told = ", ".join(f"{numbers.number(float(values[i]), 2)} at {layers[i]}" for i in over[:3])
            p.note(f"off the axis: {told}", 0.98, 0.95, align="right")
        return p.drawing(
            f"Factors from each layer to the next: median {numbers.number(float(np.median(finite)))}, from "
            f"{numbers.number(low)} to {numbers.number(float(finite.max()))}."
        )


def _distributions(sites: dict[int, SiteRecord]) -> Drawing:
    """Histograms of the norms of tokens on a logarithmic axis, each with bins of its own and as tall as the others."""
    ends = {layer: site.norms.quantile([0.001, 0.999]) for layer, site in sites.items()}
    ends = {layer: end for layer, end in ends.items() if 0 < end[0] < end[1]}
    with panel("f7-tokens", "Norms of single tokens", x="L2 norm", y="number of tokens, over its peak") as p:
        if not ends:
            p.note("all tokens have the same norm", 0.5, 0.5, align="center")
            return p.drawing("All tokens of a layer have the same norm.")
        p.axes.set_xlim(min(end[0] for end in ends.values()) / 1.2, max(end[1] for end in ends.values()) * 1.2)
        p.log("x")
        p.axes.set_ylim(0, 1.05)
        for i, (layer, site) in enumerate(sites.items()):
            if layer in ends:
                edges = np.geomspace(ends[layer][0], ends[layer][1], _BINS + 1)
                masses = np.diff(Cells.of(site.norms.distribution).cdf(edges))
                heights = np.concatenate([[0.0], masses / masses.max(), [0.0]])
                middles = np.concatenate([[edges[0]], np.sqrt(edges[:-1] * edges[1:]), [edges[-1]]])
                p.line(middles, heights, depth_color(i, len(sites)), width=1.5)
        told = "; ".join(
            f"layer {layer}: half of the tokens between {numbers.number(float(a))} and {numbers.number(float(b))}"
            for layer, site in sites.items()
            for a, b in [site.norms.quantile([0.25, 0.75])]
        )
        return p.drawing(f"Norms of tokens by depth. {told}.")
