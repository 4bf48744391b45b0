"""F6: the kurtosis of the dims' scales, which says in one number how unequal the dims of a layer are."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.charts import Chart, Figure, Key
from lmfacts.facts import requires
from lmfacts.facts.definition import Definition, PublishedValue
from lmfacts.facts.fact import Evidence, Measure, Table, Verdict
from lmfacts.facts.intervals import LEAST_SEQUENCES, LEAST_TOKENS, NO_DIM_BLOCKS, decided, spans
from lmfacts.facts.site_checks import number_of_layers, unrecorded_layers
from lmfacts.facts.strictness import at_least, judged
from lmfacts.stats.jackknife import jackknife
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from lmfacts.facts.fact import Fact
    from lmfacts.facts.inputs import Inputs
    from lmfacts.facts.runs_view import RunsView
    from lmfacts.facts.strictness import Strictness
    from lmfacts.run.site import Population, SiteRecord

__all__ = ["DEFINITION", "feature_kurtosis"]

_MODERATE: Final = at_least(3.0)
_STRONG_ABOVE: Final = 50.0

_KIND: Final = "resid_post"


def feature_kurtosis(rms: NDArray[np.float64]) -> float:
    """Kurtosis of the scales, mean s^4 / (mean s^2)^2 over the dims (He et al., arXiv:2405.19279).

    Args:
        rms: root mean square s of each dim, [d]; dims without a finite one are left out.

    Returns:
        From 1 (all dims alike) to d (one dim holds everything); NaN where every s is 0 or not finite.
    """
    finite = rms[np.isfinite(rms)]
    largest = finite.max(initial=0.0)
    if not largest > 0:
        return float("nan")
    squares = (finite / largest) ** 2  # no overflow, and the ratio does not see the scale
    return float((squares**2).mean() / squares.mean() ** 2)


def _class_of(kurtosis: float) -> str:
    if not _MODERATE.passed(kurtosis):
        return "none"
    return "strong" if kurtosis > _STRONG_ABOVE else "moderate"


@dataclass(frozen=True)
class _Layer:
    """One layer's numbers; the dim is the one of the largest RMS over `rest`."""

    layer: int
    kurtosis: float
    of_first: float
    of_all: float
    dim: int
    ratio: float
    energy: float

    @classmethod
    def of(cls, layer: int, site: SiteRecord) -> _Layer:
        rms = np.nan_to_num(site.rest.dims.rms)
        dim, median = int(rms.argmax()), float(np.median(rms))
        squares = (rms / rms[dim]) ** 2
        return cls(
            layer=layer,
            kurtosis=feature_kurtosis(site.rest.dims.rms),
            of_first=feature_kurtosis(site.first.dims.rms),
            of_all=feature_kurtosis(site.dims.rms),
            dim=dim,
            ratio=float(rms[dim]) / median if median > 0 else float("nan"),
            energy=float(1 / squares.sum()),
        )


def _check(inputs: Inputs) -> Fact:
    run = requires.activations(inputs)
    names = requires.layers_of(inputs, _KIND)
    requires.enough_text(run)
    sites = {layer: run[name] for layer, name in names.items()}
    requires.values(site.rest for site in sites.values())
    layers = [_Layer.of(layer, site) for layer, site in sites.items()]
    interval = _interval(layers, sites.values())
    notes = [
        *unrecorded_layers(list(names), number_of_layers(inputs, names), _KIND),
        "The other measure of the paper, the mean over tokens of max|x| / median|x| (MMR), is not recorded.",
    ]
    if interval is None:
        notes.append(NO_DIM_BLOCKS)
    elif spans(interval, _STRONG_ABOVE):
        notes.append(f"The interval spans {_STRONG_ABOVE:g}, so the class is open between moderate and strong.")
    return judged(functools.partial(_judge, layers, interval, tuple(notes)), has_interval=interval is not None)


def _interval(layers: list[_Layer], sites: Iterable[SiteRecord]) -> tuple[float, float] | None:
    """That of the median kurtosis, by way of its logarithm; None where the run keeps nothing to take it from."""
    blocks = [site.rest.dim_blocks for site in sites]
    left_out = [[feature_kurtosis(rms) for rms in of_site.rms_left_out] for of_site in blocks if of_site is not None]
    if len(left_out) < len(layers):
        return None
    low, high = jackknife(math.log(_median(layers)), list(np.log(np.median(left_out, axis=0))))
    return math.exp(low), math.exp(high)


def _median(layers: list[_Layer]) -> float:
    return float(np.median([layer.kurtosis for layer in layers]))


def _judge(
    layers: list[_Layer], interval: tuple[float, float] | None, notes: tuple[str, ...], strictness: Strictness
) -> Fact:
    median = _median(layers)
    top = max(layers, key=lambda layer: layer.kurtosis)
    passed = _MODERATE.passed(median, strictness)
    holds = passed if interval is None else decided(median, interval, _MODERATE.at(strictness), passed=passed)
    summary = (
        f"The dims' RMS has a median kurtosis of {numbers.number(median)} over {len(layers)} "
        f"layer{'' if len(layers) == 1 else 's'} (1 if all dims were alike), at most {numbers.number(top.kurtosis)} "
        f"at layer {top.layer} (dim {top.dim})."
    )
    if holds is None:
        unknown = math.isnan(interval[0]) if interval is not None else True
        summary += " It has no interval." if unknown else f" Its interval spans {_MODERATE.at(strictness):g}."
    return DEFINITION.fact(
        Verdict.INCONCLUSIVE if holds is None else Verdict.HOLDS if holds else Verdict.FAILS,
        summary,
        Evidence(
            measures=(
                Measure("median kurtosis over layers", median, _MODERATE.words(strictness), passed, interval),
                Measure("largest kurtosis", top.kurtosis, note=f"layer {top.layer}, led by dim {top.dim}"),
                Measure(
                    "share of layers with outlier features",
                    float(np.mean([_MODERATE.passed(layer.kurtosis, strictness) for layer in layers])),
                ),
            ),
            tables=(_table(layers),),
            notes=notes,
        ),
        fact_class=None if holds is None else _class_of(median),
    )


def _table(layers: list[_Layer]) -> Table:
    return Table(
        "Kurtosis of the dims' RMS by layer",
        ("layer", "kurtosis", "class", "position 0", "all tokens", "dim", "RMS / median", "share of energy"),
        tuple(
            (x.layer, x.kurtosis, _class_of(x.kurtosis), x.of_first, x.of_all, x.dim, x.ratio, x.energy) for x in layers
        ),
        "Dim: that of the largest RMS. Share of energy: of the sum of squares of all dims. All is over `rest`, but for "
        "the kurtosis at position 0 and over all tokens.",
    )


# The figures


def _figures(view: RunsView) -> list[Figure]:
    """He et al.'s kurtosis over dims by depth."""
    if view.activations is None:
        return []
    by_population = {}
    for population in view.activations.populations:
        values = {layer: feature_kurtosis(site.dims.rms) for layer, site in view.residual_over(population).items()}
        values = {layer: value for layer, value in values.items() if np.isfinite(value)}
        if values:
            by_population[population] = values
    if not by_population:
        return []
    n_dims = max(site.n_dims for site in view.residual_over("all").values())
    colors: dict[Population, str] = {"rest": "blue", "all": "blue", "first": "orange"}
    chart = Chart(
        "f6-depth", "Kurtosis over the dims' RMS", x="layer", y=f"1: all dims alike; {n_dims:,}: one dim only"
    )
    layers = sorted({layer for values in by_population.values() for layer in values})
    chart.limits_x(layers[0] - 0.5, layers[-1] + 0.5)
    chart.limits_y(0.85, n_dims * 1.15)
    chart.log("y")
    chart.whole_numbers()
    chart.rule(y=_MODERATE.value, label="moderate: 3")
    chart.rule(y=_STRONG_ABOVE, label="strong: 50")
    for population, values in by_population.items():
        chart.line(list(values), list(values.values()), colors[population])
    told = "; ".join(
        f"{_WORDS[population]} it is largest at layer {max(values, key=values.__getitem__)}, "
        f"{numbers.number(max(values.values()))}"
        for population, values in by_population.items()
    )
    drawing = chart.described(f"Kurtosis over dims by layer: {told}.")
    return [
        Figure(
            "How unequal the dims are",
            "The mean over dims of the fourth power of their RMS over the squared mean of its square. Unlike the "
            "excess kurtosis of values, it sees only that dims have different scales. It is 1 where all have the same, "
            "and the number of dims where one has everything.",
            (drawing,),
            tuple(Key(_WORDS[population], colors[population]) for population in by_population),
        )
    ]


_WORDS: Final[dict[Population, str]] = {
    "rest": "without position 0",
    "first": "at position 0",
    "all": "over all tokens",
}


DEFINITION: Final = Definition(
    id="F6",
    title="Outlier features by kurtosis",
    claim="A few dims carry so much of the residual stream that the scales of the dims have a high kurtosis.",
    source="He et al., 2024, https://arxiv.org/abs/2405.19279",
    needs=("activations",),
    measured=(
        "The RMS of each dim at every resid_post, over all tokens but those at position 0, and how unequal these RMS "
        "are across the dims. This is not the kurtosis of the pooled values, which also grows when each dim by itself "
        "has heavy tails."
    ),
    formula=("s_j = sqrt(mean over tokens of x_j^2)", "kurtosis = mean_j s_j^4 / (mean_j s_j^2)^2, from 1 to d"),
    thresholds=(
        "Classes: none below 3, moderate from 3 to 50, strong above 50.",
        "HOLDS: the median over the layers is at least 3 (ours: the median decides for the model).",
        "FAILS: otherwise.",
        (
            "INCONCLUSIVE: the interval of the median spans 3; of runs that keep none, the verdict would change with a "
            "limit of 2.7 or 3.3 (ours)."
        ),
        f"INCONCLUSIVE: fewer than {LEAST_SEQUENCES} sequences or {LEAST_TOKENS} tokens (ours).",
        "INCONCLUSIVE: a layer without values or with one value only (ours).",
    ),
    judge=_check,
    figures=_figures,
    published=(PublishedValue("any, at initialization", "kurtosis", "about 1", "He et al. (arXiv:2405.19279)", "B"),),
)
