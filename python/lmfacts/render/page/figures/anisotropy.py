"""F5 and F6: how far the directions of tokens agree, and how unequal the scales of dims are, by depth."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.render.page.document import Figure, Key
from lmfacts.render.page.panel import panel
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lmfacts.render.page.document import Drawing
    from lmfacts.render.page.runs_view import RunsView
    from lmfacts.run.site import Population, SiteRecord
    from lmfacts.run.tokens import UnitSums

    Floats = NDArray[np.float64]

__all__ = ["anisotropy_figures", "kurtosis_figures"]

_ANISOTROPIC: Final = 0.2
_ROGUE: Final = 0.5
_MODERATE, _STRONG = 3.0, 50.0
_N_TOP: Final = 3


# F5


def anisotropy_figures(view: RunsView) -> list[Figure]:
    """The mean cosine between tokens, and what three dims contribute to it."""
    cosines, shares = {}, {}
    for layer, site in view.residual.items():
        sums = site.unit_sums
        if sums is not None and sums.n > 1:
            contributions = _contributions(sums)
            cosines[layer] = float(contributions.sum())
            top = np.sort(contributions)[::-1][:_N_TOP].sum()
            shares[layer] = float(top / cosines[layer]) if cosines[layer] > 0 else float("nan")
    if not cosines:
        return []
    drawings = [
        _share_panel("f5-cosine", "Mean cosine between tokens", "0: no common direction", cosines, _ANISOTROPIC),
        _share_panel("f5-share", "Part of it from the top 3 dims", "share of the mean cosine", shares, _ROGUE),
    ]
    return [
        Figure(
            "How far tokens point the same way",
            "The mean over all pairs of tokens of the cosine between them: 0 where directions are spread evenly, 1 "
            "where all point one way. It is a sum over dims; the second panel is the part of it that the three largest "
            "terms make up. Above both dashed lines, a few rogue dims make tokens look alike. Where the first is near "
            "0 the second means little.",
            tuple(drawings),
        )
    ]


def _contributions(sums: UnitSums) -> Floats:
    """Contribution of each dim to the mean cosine: (U_j^2 - Q_j) / (n (n - 1)) (FACTS F5)."""
    return np.asarray((sums.sums**2 - sums.squares) / (sums.n * (sums.n - 1.0)))


def _share_panel(name: str, title: str, y: str, values: dict[int, float], threshold: float) -> Drawing:
    layers, series = list(values), np.array(list(values.values()))
    finite = series[np.isfinite(series)]
    low = min(0.0, float(finite.min(initial=0.0)))
    with panel(name, title, x="layer", y=y) as p:
        p.axes.set_xlim(layers[0] - 0.5, layers[-1] + 0.5)
        p.axes.set_ylim(1.1 * low, max(1.05, float(finite.max(initial=0.0)) * 1.05))
        p.whole_numbers()
        p.rule(y=threshold)
        p.line(layers, series, "blue")
        ends = f"from {numbers.number(float(series[0]))} at layer {layers[0]} to {numbers.number(float(series[-1]))}"
        return p.drawing(f"{title}: {ends} at layer {layers[-1]}; threshold {threshold:g}.")


# F6


def kurtosis_figures(view: RunsView) -> list[Figure]:
    """He et al.'s kurtosis over dims by depth."""
    if view.activations is None:
        return []
    found = {}
    for population in view.activations.populations:
        values = {layer: _kurtosis(site) for layer, site in view.residual_over(population).items()}
        values = {layer: value for layer, value in values.items() if np.isfinite(value)}
        if values:
            found[population] = values
    if not found:
        return []
    n_dims = max(site.n_dims for site in view.residual_over("all").values())
    colors: dict[Population, str] = {"rest": "blue", "all": "blue", "first": "orange"}
    with panel(
        "f6-depth", "Kurtosis over the dims' RMS", x="layer", y=f"1: all dims alike; {n_dims:,}: one dim only"
    ) as p:
        layers = sorted({layer for values in found.values() for layer in values})
        p.axes.set_xlim(layers[0] - 0.5, layers[-1] + 0.5)
        p.axes.set_ylim(0.85, n_dims * 1.15)
        p.log("y")
        p.whole_numbers()
        p.rule(y=_MODERATE, label="moderate: 3")
        p.rule(y=_STRONG, label="strong: 50")
        for population, values in found.items():
            p.line(list(values), list(values.values()), colors[population])
        told = "; ".join(
            f"{_WORDS[population]} it is largest at layer {max(values, key=values.__getitem__)}, "
            f"{numbers.number(max(values.values()))}"
            for population, values in found.items()
        )
        drawing = p.drawing(f"Kurtosis over dims by layer: {told}.")
    return [
        Figure(
            "How unequal the dims are",
            "The mean over dims of the fourth power of their RMS over the squared mean of its square. Unlike the "
            "excess kurtosis of values, it sees only that dims have different scales. It is 1 where all have the same, "
            "and the number of dims where one has everything.",
            (drawing,),
            tuple(Key(_WORDS[population], colors[population]) for population in found),
        )
    ]


_WORDS: Final[dict[Population, str]] = {
    "rest": "without position 0",
    "first": "at position 0",
    "all": "over all tokens",
}


def _kurtosis(site: SiteRecord) -> float:
    """mean_j s_j^4 / (mean_j s_j^2)^2 with s_j the RMS of dim j (He et al., arXiv:2405.19279)."""
    rms = site.dims.rms
    rms = rms[np.isfinite(rms)]
    scale = float(rms.max(initial=0.0))
    if not 0 < scale < np.inf:
        return float("nan")
    squares = (rms / scale) ** 2
    return float((squares**2).mean() / squares.mean() ** 2)
