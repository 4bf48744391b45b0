"""F7: the norm of the residual stream grows by a constant factor per layer."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.analysis.residual_norms import mean_log_norm
from lmfacts.charts import Chart, Figure, Key
from lmfacts.charts.colors import depth_color
from lmfacts.facts import requires
from lmfacts.facts.definition import Definition, PublishedValue
from lmfacts.facts.fact import Evidence, Measure, Table, Verdict
from lmfacts.facts.intervals import all_of, decided
from lmfacts.facts.runs_view import evenly_chosen
from lmfacts.facts.strictness import at_least, judged
from lmfacts.stats.cells import Cells
from lmfacts.stats.growth_laws import exp, growth_fit
from lmfacts.stats.jackknife import jackknife
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lmfacts.facts.runs_view import RunsView
    from lmfacts.run.site import SiteRecord

    Floats = NDArray[np.float64]
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lmfacts.facts.fact import Fact
    from lmfacts.facts.inputs import Inputs
    from lmfacts.facts.strictness import Strictness
    from lmfacts.run import Run
    from lmfacts.stats.growth_laws import GrowthFit
    from lmfacts.stats.moments import Moments

__all__ = ["DEFINITION", "LEAST_ADVANTAGE", "LEAST_GROWTH", "LEAST_R2", "fit_window"]

_FIRST_SHARE: Final = 0.10
_LAST_SHARE: Final = 0.85
_LEAST_LAYERS: Final = 5
LEAST_GROWTH: Final = at_least(1.01, neutral=1.0)
LEAST_R2: Final = at_least(0.97, neutral=1.0)
LEAST_ADVANTAGE: Final = at_least(1.5, neutral=1.0)
_OPEN: Final = "growing, law open"
_MOST_TOLD: Final = 1e6
"""Beyond it, a ratio of residuals is that of rounding errors."""


def fit_window(n_layers: int) -> range:
    """The layers that are fitted: round(0.10 L) to round(0.85 L) or the last, halves up; 5 to 41 of 48."""
    first, last = (math.floor(share * n_layers + 0.5) for share in (_FIRST_SHARE, _LAST_SHARE))
    return range(first, min(last + 1, n_layers))


@dataclass(frozen=True, eq=False)
class _Layer:
    """The ln norms that enter one block.

    Attributes:
        y: mean ln norm of the tokens past position 0, of centered vectors where the model has LayerNorm.
        y_plain: the same of the raw vectors.
        y_first: mean ln norm at position 0, centered as y is.
        left_out: y without each block of sequences; empty where blocks were not recorded.
    """

    y: float
    y_plain: float
    y_first: float
    left_out: NDArray[np.float64]


def _read_layer(run: Run, name: str, *, centered: bool) -> _Layer:
    site = run[name]
    blocks = site.rest.blocks
    left_out = np.empty(0)
    if blocks is not None:
        left_out = _means_left_out(blocks.log_centered_norms if centered else blocks.log_norms)
    return _Layer(
        y=mean_log_norm(site.rest, centered=centered),
        y_plain=mean_log_norm(site.rest, centered=False),
        y_first=mean_log_norm(site.first, centered=centered),
        left_out=left_out,
    )


def _means_left_out(moments: Moments) -> NDArray[np.float64]:
    """The mean of all blocks but one, for each; NaN where that leaves nothing."""
    n = moments.n.sum() - moments.n
    sums = moments.n * moments.mean
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(n > 0, (sums.sum() - sums) / n, np.nan)


def _check(inputs: Inputs) -> Fact:
    run = requires.activations(inputs)
    names = requires.layers_of(inputs, "resid_pre")
    requires.enough_text(run)
    n_layers = inputs.n_layers or max(names) + 1
    window = fit_window(n_layers)
    fitted = [layer for layer in names if layer in window]
    if len(window) < _LEAST_LAYERS:
        raise requires.NotApplicable(
            f"The model has {_counted(n_layers)}, of which {len(window)} would be fitted; a fit needs at least "
            f"{_LEAST_LAYERS}."
        )
    if len(fitted) < _LEAST_LAYERS:
        raise requires.Inconclusive(
            f"{_counted(len(fitted))} from {window.start} to {window.stop - 1} recorded, of {n_layers} in the model; "
            f"a fit needs at least {_LEAST_LAYERS}."
        )
    centered = inputs.norm_kind == "layernorm"
    layers = {layer: _read_layer(run, name, centered=centered) for layer, name in names.items()}
    if not all(layer.left_out.size for layer in layers.values()):
        raise requires.NotApplicable(
            "The run keeps no blocks of sequences, so there is nothing to take intervals from: it was recorded by an "
            "earlier version.",
            requires.RESIDUAL_SITES.format(model=inputs.model_argument),
        )
    hollow = [layer for layer in fitted if not math.isfinite(layers[layer].y)]
    if hollow:
        raise requires.Inconclusive(
            f"No token past position 0 has a finite norm above zero at layer {', '.join(map(str, hollow))}.",
            Evidence(tables=(_table(layers, fitted),)),
        )
    growth = _Growth.of(layers, fitted)
    return judged(functools.partial(_judge, inputs, layers, growth), has_interval=True)


@dataclass(frozen=True)
class _Growth:
    """The fit, and the intervals of what decides.

    Attributes:
        layers: the layers that are fitted.
        fit: of all sequences.
        growth: interval of the factor per layer.
        r2: interval of R2.
        advantage: interval of the residuals' ratio, by way of its logarithm.
        curvature: interval of the quadratic term.
    """

    layers: tuple[int, ...]
    fit: GrowthFit
    growth: tuple[float, float]
    r2: tuple[float, float]
    advantage: tuple[float, float]
    curvature: tuple[float, float]

    @classmethod
    def of(cls, layers: dict[int, _Layer], fitted: list[int]) -> _Growth:
        """From layers that all have norms."""
        full = growth_fit(fitted, np.array([layers[layer].y for layer in fitted]))
        without = np.array([layers[layer].left_out for layer in fitted])
        left_out = [growth_fit(fitted, without[:, j]) for j in range(without.shape[1])]
        growth, r2, curvature = (
            jackknife(getattr(full, name), [getattr(fit, name) for fit in left_out])
            for name in ("growth", "r2", "curvature")
        )
        low, high = jackknife(math.log(full.advantage), [math.log(fit.advantage) for fit in left_out])
        return cls(tuple(fitted), full, growth, r2, (exp(low), exp(high)), curvature)

    def is_exponential(self, strictness: Strictness) -> bool | None:
        """Whether the exponential explains more than the other laws; None where the data do not tell."""
        least = LEAST_ADVANTAGE.at(strictness)
        if self.fit.advantage >= least:
            return decided(self.fit.advantage, self.advantage, least, passed=True)
        if self.fit.advantage <= 1 / least:
            return decided(self.fit.advantage, self.advantage, 1 / least, passed=False)
        return None


def _judge(inputs: Inputs, layers: dict[int, _Layer], growth: _Growth, strictness: Strictness) -> Fact:
    full = growth.fit
    least_growth, least_r2 = LEAST_GROWTH.at(strictness), LEAST_R2.at(strictness)
    grows = decided(full.growth, growth.growth, least_growth, passed=full.growth >= least_growth)
    straight = decided(full.r2, growth.r2, least_r2, passed=full.r2 >= least_r2)
    best = growth.is_exponential(strictness)
    holds = all_of(grows, straight, best)

    span = f"layers {growth.layers[0]} to {growth.layers[-1]}"
    numbers = f"the norm changes by a factor of {full.growth:.3f} per layer over {span} ({_straightness(full)})"
    ratio = f"{_times(full.advantage)} the residual of the exponential"
    fact_class = None
    if holds:
        verdict, fact_class = Verdict.HOLDS, "exponential"
        summary = f"T{numbers[1:]}: exponential growth; the best other law ({full.rival}) leaves {ratio}."
    elif holds is None:
        verdict = Verdict.INCONCLUSIVE
        fact_class = _OPEN if grows and straight and best is None else None
        doubts = [
            f"{what} has no interval, as too few blocks of sequences have norms"
            if math.isnan(interval[0])
            else f"the interval of {what} spans {threshold:g}"
            for what, passed, interval, threshold in (
                ("the factor", grows, growth.growth, least_growth),
                ("R2", straight, growth.r2, least_r2),
            )
            if passed is None
        ]
        if best is None:
            doubts.append(_too_close(growth, strictness))
        summary = f"T{numbers[1:]}, but {' and '.join(doubts)}."
    else:
        verdict = Verdict.FAILS
        fact_class = _class_of(growth, strictness)
        summary = f"T{numbers[1:]}: {_words(fact_class, full)}."
    measures: tuple[Measure, ...] = (
        Measure("factor per layer", full.growth, LEAST_GROWTH.words(strictness), grows, growth.growth),
        Measure("R2 of the exponential, a line in ln norm", full.r2, LEAST_R2.words(strictness), straight, growth.r2),
        Measure(
            "residual of the best other law over the exponential's",
            full.advantage,
            LEAST_ADVANTAGE.words(strictness),
            best,
            growth.advantage,
            note=f"{full.rival}, R2 {full.r2_rival:.4f}; at most 1/{LEAST_ADVANTAGE.at(strictness):.4g}: another law",
        ),
        Measure("R2 of the linear law", full.r2_linear),
        Measure("R2 of the square-root law", full.r2_square_root),
        Measure("R2 of a parabola in ln norm", full.r2_quadratic),
        Measure(
            "quadratic term per layer^2",
            full.curvature,
            "> 0, interval above 0, for super-exponential",
            None,
            growth.curvature,
            note="decides the class, not the verdict",
        ),
    )
    measures += _plain_measure(inputs, layers, growth.layers)
    evidence = Evidence(measures, (_table(layers, growth.layers),), _notes(inputs, growth, verdict))
    return DEFINITION.fact(verdict, summary, evidence, fact_class=fact_class)


def _words(fact_class: str, fit: GrowthFit) -> str:
    if fact_class == fit.rival:
        return f"growth by a {fact_class} law, whose residual is {_times(fit.advantage)} that of the exponential"
    return {
        "non-growing": f"it does not grow by {100 * (LEAST_GROWTH.value - 1):.0f} % per layer",
        "super-exponential": "growth that speeds up with depth, super-exponential",
        "irregular": "no steady exponential",
    }[fact_class]


def _straightness(fit: GrowthFit) -> str:
    return "constant" if math.isnan(fit.r2) else f"R2 {fit.r2:.3f}"


def _too_close(growth: _Growth, strictness: Strictness) -> str:
    """Why it is open which law explains more: the ratio of residuals, or its interval."""
    fit, least = growth.fit, LEAST_ADVANTAGE.at(strictness)
    leaves = f"the {fit.rival} law leaves {_times(fit.advantage)} the residual of the exponential"
    if not 1 / least < fit.advantage < least:
        limit = f"{least:.4g}" if fit.advantage >= least else f"1/{least:.4g}"
        return f"{leaves}, with an interval that spans {limit}"
    return f"{leaves}, too close to tell"


def _times(ratio: float) -> str:
    """A ratio of residuals in words; beyond a million it is that of rounding errors."""
    return "more than a million times" if ratio > _MOST_TOLD else f"{ratio:.3g} times"


def _class_of(growth: _Growth, strictness: Strictness) -> str:
    """Why it fails."""
    if not LEAST_GROWTH.passed(growth.fit.growth, strictness):
        return "non-growing"
    if growth.is_exponential(strictness) is False and LEAST_R2.passed(growth.fit.r2_rival, strictness):
        return growth.fit.rival
    return "super-exponential" if growth.fit.curvature > 0 and growth.curvature[0] > 0 else "irregular"


def _plain_measure(inputs: Inputs, layers: dict[int, _Layer], fitted: Sequence[int]) -> tuple[Measure, ...]:
    """The factor of vectors that are not centered, where the verdict is about centered ones."""
    if inputs.norm_kind != "layernorm":
        return ()
    plain = growth_fit(fitted, np.array([layers[layer].y_plain for layer in fitted]))
    return (Measure("factor per layer of raw vectors", plain.growth, note="mean of each token not subtracted"),)


def _notes(inputs: Inputs, growth: _Growth, verdict: Verdict) -> tuple[str, ...]:
    notes = []
    if inputs.norm_kind is None:
        notes.append(
            "The runs do not say which norm the model has: norms of the raw vectors. A model with LayerNorm "
            "sees them without their mean."
        )
    if LEAST_GROWTH.passed(growth.fit.growth) and (growth.curvature[1] < 0 or growth.curvature[0] > 0):
        first, last = (f"{factor:.3f}" for factor in growth.fit.growth_at_ends(growth.layers))
        sign, does = ("negative", "slows down") if growth.curvature[1] < 0 else ("positive", "speeds up")
        if first != last:
            notes.append(
                f"The quadratic term is {sign}: the growth of ln norm {does} with depth, by the parabola from a factor "
                f"of {first} per layer at layer {growth.layers[0]} to {last} at layer {growth.layers[-1]}."
            )
    if verdict is Verdict.HOLDS:
        notes.append(
            f"Laws are told apart on {len(growth.layers)} layers: a ln norm that drifts upward by independent steps "
            "can look exponential, too."
        )
    return tuple(notes)


def _table(layers: dict[int, _Layer], fitted: Sequence[int]) -> Table:
    rows = []
    for layer, of in layers.items():
        after = layers.get(layer + 1)
        rows.append(
            (
                layer,
                of.y,
                exp(of.y),
                math.nan if after is None else exp(after.y - of.y),
                exp(of.y_first),
                "yes" if layer in fitted else "no",
            )
        )
    return Table(
        "Norm of the residual stream by layer",
        ("layer", "mean ln norm", "norm", "factor to the next", "norm at position 0", "fitted"),
        tuple(rows),
        note="Norms are geometric means over tokens; those at position 0 are no part of the fit.",
    )


def _counted(n: int) -> str:
    return "1 layer" if n == 1 else f"{n} layers"


# The figures

_BINS: Final = 36


def _figures(view: RunsView) -> list[Figure]:
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


def _by_depth(view: RunsView, main: dict[int, float], first: dict[int, float]) -> Chart:
    layers = np.array(list(main))
    y = np.array(list(main.values()))
    chart = Chart("f7-depth", "Norm by depth", x="layer", y="L2 norm")
    norms = np.array([*main.values(), *first.values()])
    norms = np.exp(norms[np.isfinite(norms)])
    chart.limits_x(layers[0] - 0.5, layers[-1] + 0.5)
    chart.limits_y(float(norms.min()) / 1.3, float(norms.max()) * 1.3)
    chart.log("y")
    chart.whole_numbers()
    chart.line(layers, np.exp(y), "blue")
    chart.points(layers, np.exp(y), "blue", size=2.0)
    if first:
        chart.line(list(first), np.exp(list(first.values())), "orange")
    chosen = _fitted(view, main)
    growth = ""
    if chosen.any():
        slope, start = np.polyfit(layers[chosen], y[chosen], 1)
        ends = layers[chosen][[0, -1]]
        chart.line(ends, np.exp(start + slope * ends), "ink", style="dashed", width=1.5, above=4)
        growth = f"; fitted over layers {ends[0]} to {ends[1]}, a factor of {np.exp(slope):.3f} per layer"
    return chart.described(
        f"The norm goes from {numbers.number(float(np.exp(y[0])))} at layer {layers[0]} to "
        f"{numbers.number(float(np.exp(y[-1])))} at layer {layers[-1]}{growth}."
    )


def _fitted(view: RunsView, main: dict[int, float]) -> NDArray[np.bool_]:
    """Which layers decide: those of F7, or none where they are too few."""
    layers, y = np.array(list(main)), np.array(list(main.values()))
    chosen = np.isin(layers, list(fit_window(view.inputs.n_layers or int(layers[-1]) + 1))) & np.isfinite(y)
    return chosen if chosen.sum() >= _LEAST_LAYERS else np.zeros(layers.size, dtype=bool)


def _growth(main: dict[int, float]) -> Chart:
    factors = {a: float(np.exp(main[b] - main[a])) for a, b in pairwise(main)}
    layers, values = np.array(list(factors)), np.array(list(factors.values()))
    finite = values[np.isfinite(values)]
    chart = Chart("f7-factor", "Factor to the next layer", x="layer", y="1: no growth")
    if not finite.size:
        chart.note("one layer only", 0.5, 0.5, align="center")
        return chart.described("There is one layer only.")
    # The first layers often grow many times over: the axis is for the others.
    low = float(finite.min())
    top = max(float(np.quantile(finite, 0.9)) * 1.15, 1.1)
    chart.limits_x(layers[0] - 0.5, layers[-1] + 0.5)
    chart.limits_y(min(0.95, low * 0.97), top)
    chart.whole_numbers()
    chart.rule(y=1.0, color="ink")
    chart.line(layers, values, "blue")
    chart.points(layers, values, "blue", size=2.0)
    over = np.flatnonzero(values > top)
    if over.size:
        told = ", ".join(f"{numbers.number(float(values[i]), 2)} at {layers[i]}" for i in over[:3])
        chart.note(f"off the axis: {told}", 0.98, 0.95, align="right")
    return chart.described(
        f"Factors from each layer to the next: median {numbers.number(float(np.median(finite)))}, from "
        f"{numbers.number(low)} to {numbers.number(float(finite.max()))}."
    )


def _distributions(sites: dict[int, SiteRecord]) -> Chart:
    """Histograms of the norms of tokens on a logarithmic axis, each with bins of its own and as tall as the others."""
    ends = {layer: site.norms.quantile([0.001, 0.999]) for layer, site in sites.items()}
    ends = {layer: end for layer, end in ends.items() if 0 < end[0] < end[1]}
    chart = Chart("f7-tokens", "Norms of single tokens", x="L2 norm", y="number of tokens, over its peak")
    if not ends:
        chart.note("all tokens have the same norm", 0.5, 0.5, align="center")
        return chart.described("All tokens of a layer have the same norm.")
    chart.limits_x(min(end[0] for end in ends.values()) / 1.2, max(end[1] for end in ends.values()) * 1.2)
    chart.log("x")
    chart.limits_y(0, 1.05)
    for i, (layer, site) in enumerate(sites.items()):
        if layer in ends:
            edges = np.geomspace(ends[layer][0], ends[layer][1], _BINS + 1)
            masses = np.diff(Cells.of(site.norms.distribution).cdf(edges))
            heights = np.concatenate([[0.0], masses / masses.max(), [0.0]])
            middles = np.concatenate([[edges[0]], np.sqrt(edges[:-1] * edges[1:]), [edges[-1]]])
            chart.line(middles, heights, depth_color(i, len(sites)), width=1.5)
    told = "; ".join(
        f"layer {layer}: half of the tokens between {numbers.number(float(a))} and {numbers.number(float(b))}"
        for layer, site in sites.items()
        for a, b in [site.norms.quantile([0.25, 0.75])]
    )
    return chart.described(f"Norms of tokens by depth. {told}.")


DEFINITION: Final = Definition(
    id="F7",
    title="Residual norm growth",
    claim="The norm of the residual stream grows exponentially with depth: by a constant factor per layer.",
    source="Heimersheim & Turner, Residual stream norms grow exponentially over the forward pass, LessWrong, May 2023",
    needs=("activations",),
    measured=(
        "The L2 norm of every token past position 0 as it enters each block (resid_pre). In a model with LayerNorm the "
        "token's mean over dims is subtracted first, as the norm itself would; with RMSNorm it is not. The first and "
        "last layers, which often do their own thing, are left out of the fit. Intervals are over 8 blocks of "
        "sequences."
    ),
    formula=(
        "y_l = mean over tokens of ln ||x_l||",
        "exponential: y_l = a + b l, least squares over l = round(0.10 L) .. round(0.85 L)",
        "linear: y_l = ln(a + b l); square root: y_l = 1/2 ln(a + b l), by least squares of the same y_l",
        "g = exp(b); R2 = 1 - residual / total sum of squares",
        "quadratic: y_l = a + b l + c (l - mean l)^2",
    ),
    thresholds=(
        (
            "HOLDS (exponential) if R2 >= 0.97, g >= 1.01, and the best other law leaves at least 1.5 times the "
            "residual sum of squares"
        ),
        "INCONCLUSIVE (growing, law open) if that ratio lies between 1/1.5 and 1.5, or its interval spans the limit",
        (
            "FAILS otherwise: non-growing if g < 1.01; linear or square root if that law leaves at most 1/1.5 of the "
            "residual and has R2 >= 0.97; else super-exponential if c > 0 and its 90 % interval lies above 0; else "
            "irregular"
        ),
        (
            "INCONCLUSIVE if the interval of g or R2 spans its threshold and the verdict depends on it, with fewer "
            "than 8 sequences, or with fewer than 128 tokens or 5 layers to fit (ours)"
        ),
        "10 % looser or stricter: of the distance of 0.97, 1.01 and 1.5 from 1 (ours)",
    ),
    judge=_check,
    figures=_figures,
    published=(
        PublishedValue("gpt2-xl", "factor per layer, layers 5-41 of 48", "1.045", "Heimersheim & Turner 2023", "B"),
        PublishedValue(
            "gpt2, distilgpt2", "shape of the growth", "super-exponential", "Heimersheim & Turner 2023", "B"
        ),
        PublishedValue("some Pythia models", "norm by depth", "falls in places", "Heimersheim & Turner 2023", "B"),
    ),
)
