"""F7: the norm of the residual stream grows by a constant factor per layer."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.facts.definition import Definition, PublishedValue
from lmfacts.facts.fact import Evidence, Measure, Table, Verdict
from lmfacts.facts.intervals import all_of, decided, jackknife, too_few_data

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lmfacts.facts.fact import Fact
    from lmfacts.facts.inputs import Inputs
    from lmfacts.moments import Moments
    from lmfacts.run import Run

__all__ = ["DEFINITION", "GrowthFit", "fit_window", "growth_fit"]

_FIRST_SHARE: Final = 0.10
_LAST_SHARE: Final = 0.85
_LEAST_LAYERS: Final = 5
_LEAST_GROWTH: Final = 1.01
_LEAST_R2: Final = 0.97
_LARGEST_EXPONENT: Final = 709.0


def fit_window(n_layers: int) -> range:
    """The layers that are fitted: round(0.10 L) to round(0.85 L) or the last, halves up; 5 to 41 of 48."""
    first, last = (math.floor(share * n_layers + 0.5) for share in (_FIRST_SHARE, _LAST_SHARE))
    return range(first, min(last + 1, n_layers))


@dataclass(frozen=True)
class GrowthFit:
    """Least squares of y, the mean ln norm, on the layer.

    Attributes:
        growth: exp(slope of the line), the factor per layer.
        r2: share of the variance of y that the line explains; NaN where y is constant.
        r2_quadratic: share that a parabola explains.
        curvature: coefficient of (layer - mean layer)^2.
    """

    growth: float
    r2: float
    r2_quadratic: float
    curvature: float


def growth_fit(layers: Sequence[int], y: NDArray[np.float64]) -> GrowthFit:
    """Fit a line and a parabola to the mean ln norms of at least 4 layers."""
    x = np.asarray(layers, dtype=np.float64)
    x -= x.mean()
    total = float(((y - y.mean()) ** 2).sum())

    def fit(degree: int) -> tuple[NDArray[np.float64], float]:
        design = np.vander(x, degree + 1, increasing=True)
        coefficients = np.linalg.lstsq(design, y, rcond=None)[0]
        rest = float(((y - design @ coefficients) ** 2).sum())
        return np.asarray(coefficients, dtype=np.float64), 1.0 - rest / total if total > 0 else math.nan

    line, r2 = fit(1)
    parabola, r2_quadratic = fit(2)
    return GrowthFit(_exp(float(line[1])), r2, r2_quadratic, float(parabola[2]))


@dataclass(frozen=True, eq=False)
class _Layer:
    """The ln norms that enter one block.

    Attributes:
        y: mean ln norm of the tokens past position 0, of centered vectors where the model has LayerNorm.
        y_plain: the same of the vectors as they are.
        y_first: mean ln norm at position 0, centered as y is.
        left_out: y without each block of sequences; empty where blocks were not recorded.
    """

    y: float
    y_plain: float
    y_first: float
    left_out: NDArray[np.float64]


def _read_layer(run: Run, name: str, *, centered: bool) -> _Layer:
    site = run[name]
    norms, first = site.rest.norms, site.first.norms
    blocks = site.rest.blocks
    left_out = np.empty(0)
    if blocks is not None:
        left_out = _means_left_out(blocks.log_centered_norms if centered else blocks.log_norms)
    return _Layer(
        y=norms.mean_log_centered if centered else norms.mean_log,
        y_plain=norms.mean_log,
        y_first=first.mean_log_centered if centered else first.mean_log,
        left_out=left_out,
    )


def _means_left_out(moments: Moments) -> NDArray[np.float64]:
    """The mean of all blocks but one, for each; NaN where that leaves nothing."""
    n = moments.n.sum() - moments.n
    sums = moments.n * moments.mean
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(n > 0, (sums.sum() - sums) / n, np.nan)


def _check(inputs: Inputs) -> Fact:
    run = inputs.activations
    assert run is not None
    names = run.layers_of("resid_pre")
    if not names:
        return DEFINITION.not_applicable(
            "The run has no resid_pre sites.", f"lmfacts scan {inputs.model_argument} --sites default"
        )
    too_few = too_few_data(run)
    if too_few:
        return DEFINITION.fact(Verdict.INCONCLUSIVE, too_few)
    n_layers = inputs.n_layers or max(names) + 1
    window = fit_window(n_layers)
    fitted = [layer for layer in names if layer in window]
    if len(fitted) < _LEAST_LAYERS:
        return DEFINITION.fact(
            Verdict.INCONCLUSIVE,
            f"{_counted(len(fitted))} from {window.start} to {window.stop - 1} recorded, of {n_layers} in the model; "
            f"a fit needs at least {_LEAST_LAYERS}.",
        )
    centered = inputs.norm_kind == "layernorm"
    layers = {layer: _read_layer(run, name, centered=centered) for layer, name in names.items()}
    if not all(layer.left_out.size for layer in layers.values()):
        return DEFINITION.not_applicable(
            "The run keeps no blocks of sequences, so there is nothing to take intervals from: it was recorded by an "
            "earlier version.",
            f"lmfacts scan {inputs.model_argument} --sites resid",
        )
    hollow = [layer for layer in fitted if not math.isfinite(layers[layer].y)]
    if hollow:
        return DEFINITION.fact(
            Verdict.INCONCLUSIVE,
            f"No token past position 0 has a finite norm above zero at layer {', '.join(map(str, hollow))}.",
            Evidence(tables=(_table(layers, fitted),)),
        )
    return _judge(inputs, layers, fitted)


def _judge(inputs: Inputs, layers: dict[int, _Layer], fitted: list[int]) -> Fact:
    """The verdict from layers that all have norms."""
    full = growth_fit(fitted, np.array([layers[layer].y for layer in fitted]))
    without = np.array([layers[layer].left_out for layer in fitted])
    left_out = [growth_fit(fitted, without[:, j]) for j in range(without.shape[1])]
    growth, r2, curvature = (
        jackknife(getattr(full, name), [getattr(fit, name) for fit in left_out])
        for name in ("growth", "r2", "curvature")
    )
    grows = decided(full.growth, growth, _LEAST_GROWTH, passed=full.growth >= _LEAST_GROWTH)
    straight = decided(full.r2, r2, _LEAST_R2, passed=full.r2 >= _LEAST_R2)
    holds = all_of(grows, straight)

    span = f"layers {fitted[0]} to {fitted[-1]}"
    numbers = f"the norm changes by a factor of {full.growth:.3f} per layer over {span} (R2 {full.r2:.3f})"
    fact_class = None
    if holds:
        verdict, fact_class = Verdict.HOLDS, "exponential"
        summary = f"T{numbers[1:]}: exponential growth."
    elif holds is None:
        verdict = Verdict.INCONCLUSIVE
        doubts = [
            f"the interval of {what} spans {threshold}"
            for what, passed, threshold in (
                ("the factor", grows, _LEAST_GROWTH),
                ("R2", straight, _LEAST_R2),
            )
            if passed is None
        ]
        summary = f"T{numbers[1:]}, but {' and '.join(doubts)}."
    else:
        verdict = Verdict.FAILS
        fact_class = _class_of(full, curvature)
        summary = f"T{numbers[1:]}: {_WORDS[fact_class]}."
    measures = (
        Measure("factor per layer", full.growth, f">= {_LEAST_GROWTH}", grows, growth),
        Measure("R2 of a straight line in ln norm", full.r2, f">= {_LEAST_R2}", straight, r2),
        Measure("R2 of a parabola", full.r2_quadratic),
        Measure(
            "quadratic term per layer^2",
            full.curvature,
            "> 0, interval above 0, for super-exponential",
            None,
            curvature,
            note="decides the class, not the verdict",
        ),
    )
    return DEFINITION.fact(
        verdict,
        summary,
        Evidence((*measures, *_plain_measure(inputs, layers, fitted)), (_table(layers, fitted),), _notes(inputs, full)),
        fact_class=fact_class,
    )


_WORDS: Final = {
    "non-growing": f"it does not grow by {100 * (_LEAST_GROWTH - 1):.0f} % per layer",
    "super-exponential": "growth that speeds up with depth, super-exponential",
    "irregular": "no steady exponential",
}


def _class_of(fit: GrowthFit, curvature: tuple[float, float]) -> str:
    if fit.growth < _LEAST_GROWTH:
        return "non-growing"
    return "super-exponential" if fit.curvature > 0 and curvature[0] > 0 else "irregular"


def _plain_measure(inputs: Inputs, layers: dict[int, _Layer], fitted: list[int]) -> tuple[Measure, ...]:
    """The factor of vectors that are not centered, where the verdict is about centered ones."""
    if inputs.norm_kind != "layernorm":
        return ()
    plain = growth_fit(fitted, np.array([layers[layer].y_plain for layer in fitted]))
    return (Measure("factor per layer of vectors as they are", plain.growth, note="mean of each token not subtracted"),)


def _notes(inputs: Inputs, fit: GrowthFit) -> tuple[str, ...]:
    notes = []
    if inputs.norm_kind is None:
        notes.append(
            "The runs do not say which norm the model has: norms of the vectors as they are. A model with LayerNorm "
            "sees them without their mean."
        )
    if fit.growth >= _LEAST_GROWTH and fit.curvature < 0:
        notes.append("The quadratic term is negative: growth slows down with depth.")
    return tuple(notes)


def _table(layers: dict[int, _Layer], fitted: list[int]) -> Table:
    rows = []
    for layer, of in layers.items():
        after = layers.get(layer + 1)
        rows.append(
            (
                layer,
                of.y,
                _exp(of.y),
                math.nan if after is None else _exp(after.y - of.y),
                _exp(of.y_first),
                "yes" if layer in fitted else "no",
            )
        )
    return Table(
        "Norm of the residual stream by layer",
        ("layer", "mean ln norm", "norm", "factor to the next", "norm at position 0", "fitted"),
        tuple(rows),
        note="Norms are geometric means over tokens; those at position 0 are no part of the fit.",
    )


def _exp(x: float) -> float:
    """e^x, infinite where float64 ends."""
    return math.exp(x) if x < _LARGEST_EXPONENT else math.inf


def _counted(n: int) -> str:
    return "1 layer" if n == 1 else f"{n} layers"


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
        "y_l = a + b l, least squares over l = round(0.10 L) .. round(0.85 L)",
        "g = exp(b); R2 = 1 - residual / total sum of squares",
        "quadratic: y_l = a + b l + c (l - mean l)^2",
    ),
    thresholds=(
        "HOLDS (exponential) if R2 >= 0.97 and g >= 1.01",
        (
            "FAILS otherwise: non-growing if g < 1.01, else super-exponential if c > 0 and its 90 % interval lies "
            "above 0, else irregular"
        ),
        (
            "INCONCLUSIVE if the interval of g or R2 spans its threshold and the verdict hangs on it, with fewer than "
            "8 sequences, or with fewer than 128 tokens or 5 layers to fit (ours)"
        ),
    ),
    check=_check,
    published=(
        PublishedValue("gpt2-xl", "factor per layer, layers 5-41 of 48", "1.045", "Heimersheim & Turner 2023", "B"),
        PublishedValue(
            "gpt2, distilgpt2", "shape of the growth", "super-exponential", "Heimersheim & Turner 2023", "B"
        ),
        PublishedValue("some Pythia models", "norm by depth", "falls in places", "Heimersheim & Turner 2023", "B"),
    ),
)
