"""F15: panels of weight statistics that others publish: Weibull shape, and the power laws of WeightWatcher."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.analysis.block_matrices import (
    NO_MATRICES,
    block_matrices,
    by_kind,
    evenly,
    matrix_shapes,
    median,
    without_k,
)
from lmfacts.charts import Chart, Figure, Key
from lmfacts.charts.kinds import kind_color, kind_name
from lmfacts.facts import requires
from lmfacts.facts.definition import Definition, Objection, PublishedValue
from lmfacts.facts.f11_singular_values import spectra_command
from lmfacts.facts.fact import Evidence, Measure, Table, Verdict
from lmfacts.facts.runs_view import evenly_chosen
from lmfacts.stats.shape import GAUSSIAN_WEIBULL_K
from lmfacts.stats.spectrum import weightwatcher
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lmfacts.analysis.block_matrices import BlockMatrix, MatrixShape
    from lmfacts.analysis.weights_view import WeightGroup
    from lmfacts.facts.fact import Cell, Fact
    from lmfacts.facts.inputs import Inputs
    from lmfacts.facts.runs_view import RunsView
    from lmfacts.run import Run
    from lmfacts.run.weight import WeightRecord
    from lmfacts.stats.spectrum import PowerLawFit

__all__ = ["DEFINITION"]

_MOST_FITTED: Final = 8

_TRANSMISSION: Final = "1.186-1.204"
_SELECTION: Final = "0.76-0.99 or 1.10-1.16"
_BANDS: Final = {
    "W_Q": _SELECTION,
    "W_K": _SELECTION,
    "W_O": _TRANSMISSION,
    "W_gate": _TRANSMISSION,
    "W_in": _TRANSMISSION,
    "W_out": _TRANSMISSION,
}


@dataclass(frozen=True)
class _Fitted:
    """A matrix and its power law."""

    matrix: BlockMatrix
    fit: PowerLawFit

    @property
    def kind(self) -> str:
        """The kind of the matrix."""
        return self.matrix.kind


def _check(inputs: Inputs) -> Fact:
    run = requires.weights(inputs)
    matrices = block_matrices(run)
    if not matrices:
        raise requires.NotApplicable(NO_MATRICES)
    shapes = by_kind(matrix_shapes(run))
    fitted = by_kind(_fitted(run, matrices))
    k = median(shape.raw.weibull_k for group in shapes.values() for shape in group)
    alpha = median(each.fit.alpha for group in fitted.values() for each in group)
    low, high = _extreme_kinds(shapes)
    known = not math.isnan(k)
    summary = f"Median Weibull k {k:.3f} (Gaussian 1.205)" if known else "No matrix has a Weibull k"
    if known and low != high:
        summary += f", least in {low[0]} ({low[1]:.3f}), most in {high[0]} ({high[1]:.3f})"
    measures = [Measure("median Weibull k", k, note="of all matrices")]
    if not math.isnan(alpha):
        summary += f"; median WeightWatcher alpha {alpha:.2f}"
        measures.append(Measure("median WeightWatcher alpha", alpha, note="of the matrices that were fitted"))
    evidence = Evidence(
        tuple(measures),
        (_weibull_table(shapes), *([_alpha_table(fitted)] if fitted else [])),
        (*without_k(matrix_shapes(run)), *_notes(inputs.model_argument, matrices, fitted)),
    )
    return DEFINITION.fact(Verdict.MEASURED, f"{summary}.", evidence)


def _fitted(run: Run[WeightRecord], matrices: Sequence[BlockMatrix]) -> list[_Fitted]:
    """The power laws of a few matrices of each kind, evenly over depth."""
    fitted = []
    for group in by_kind(matrices).values():
        for matrix in evenly(group, _MOST_FITTED):
            values = run[matrix.name].singular_values
            if values is not None:
                fitted.append(_Fitted(matrix, weightwatcher(values)))
    return fitted


def _extreme_kinds(shapes: Mapping[str, Sequence[MatrixShape]]) -> tuple[tuple[str, float], tuple[str, float]]:
    """The kinds with the smallest and the largest median k."""
    medians = [(kind, median(shape.raw.weibull_k for shape in group)) for kind, group in shapes.items()]
    known = [entry for entry in medians if entry[1] > 0] or medians
    return min(known, key=lambda entry: entry[1]), max(known, key=lambda entry: entry[1])


def _weibull_table(shapes: Mapping[str, Sequence[MatrixShape]]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for kind, group in shapes.items():
        ks = [shape.raw.weibull_k for shape in group if shape.raw.weibull_k > 0]
        rows.append(
            (
                kind,
                len(group),
                median(ks),
                min(ks, default=None),
                max(ks, default=None),
                _BANDS.get(kind.rpartition(".")[2]),
                median(shape.raw.weibull_lambda for shape in group),
                median(shape.raw.weibull_lambda / shape.raw.std for shape in group if shape.raw.std > 0),
            )
        )
    return Table(
        "Weibull shape by kind",
        ("kind", "matrices", "k", "least", "most", "published k", "lambda", "lambda / std"),
        tuple(rows),
        "Medians. A Gaussian has k = 1.205 and lambda = 0.8875 std. Published bands (arXiv:2605.18898): W_O and MLP "
        '("transmission"); W_Q and W_K ("selection") in OLMo, or in models with grouped queries.',
    )


def _alpha_table(fitted: Mapping[str, Sequence[_Fitted]]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            kind,
            len(group),
            median(each.fit.alpha for each in group),
            median(each.fit.sigma for each in group),
            median(each.fit.distance for each in group),
            median(float(each.fit.n_tail) for each in group),
            median(float(each.matrix.rank) for each in group),
            median(each.fit.alpha_weighted for each in group),
            sum(each.fit.warning is not None for each in group),
        )
        for kind, group in fitted.items()
    ]
    return Table(
        "WeightWatcher by kind",
        ("kind", "fitted", "alpha", "sigma", "D", "n in tail", "of", "alpha weighted", "warnings"),
        tuple(rows),
        "Medians. alpha: < 2 over-trained, 2-4 heavy-tailed, 4-6 weakly so, > 6 under-trained, > 8 spurious, in the "
        "words of its authors. It is noisy: read it with sigma, the distance D, and how many of the eigenvalues are "
        "in the tail.",
    )


def _notes(model_id: str, matrices: Sequence[BlockMatrix], fitted: Mapping[str, Sequence[_Fitted]]) -> tuple[str, ...]:
    notes = []
    n = sum(len(group) for group in fitted.values())
    if not n:
        command = spectra_command(model_id, matrices)
        notes.append(f"The run has no singular values, so nothing is fitted to them; `{command}` computes them.")
    elif n < len(matrices):
        notes.append(
            f"Power laws are fitted to at most {_MOST_FITTED} matrices of each kind, evenly over depth: {n} of "
            f"{len(matrices)}. The page of a weight has its own."
        )
    notes += sorted(
        {
            f"{each.matrix.name}: {each.fit.warning}."
            for group in fitted.values()
            for each in group[:1]
            if each.fit.warning is not None
        }
    )
    return tuple(notes)


_DING: Final = "arXiv:2605.18898, NPM-Weibull, step 143,000"
_WW: Final = "Nature Communications 2021, table 2 (doi:10.1038/s41467-021-24025-8)"


def _weibull(model: str, ks: str, lambdas: str | None = None) -> tuple[PublishedValue, ...]:
    published = [PublishedValue(model, "Weibull k, medians: qkv, o, ffn_in, ffn_out", ks, _DING, "A")]
    if lambdas is not None:
        published.append(PublishedValue(model, "Weibull lambda, medians: qkv, o, ffn_in, ffn_out", lambdas, _DING, "A"))
    return tuple(published)


def _logs(model: str, values: str) -> PublishedValue:
    return PublishedValue(
        model, "<log10 ||W||_F>, <log10 ||W||_inf>, alpha-hat, <log ||X||_alpha^alpha>", values, _WW, "B"
    )


# The figures

_TRANSMISSION_BAND: Final = (1.186, 1.204)
_HEAVY_TAILED: Final = (2.0, 6.0)
_MOST_DRAWN: Final = 12
_MOST_ALPHA: Final = 12.0


def _figures(view: RunsView) -> list[Figure]:
    """Weibull k and alpha by depth."""
    groups = view.matrices
    shapes = {kind_name(group.kind): _finite(group.by_layer("weibull_k")) for group in groups}
    shapes = {kind: line for kind, line in shapes.items() if line}
    if not shapes:
        return []
    alphas = {kind_name(group.kind): line for group in groups if (line := _alphas(group))}
    drawings = [_shapes(shapes)]
    if alphas:
        drawings.append(_tails(alphas))
    return [
        Figure(
            "Weibull shape and WeightWatcher's alpha by depth",
            f"First, the shape k of the body of |w|: {GAUSSIAN_WEIBULL_K:.3f} for a Gaussian; the band is what "
            "arXiv:2605.18898 found for W_O and the MLP."
            + (
                " Then the exponent alpha of a power law fitted to the tail of the squared singular values; within the "
                "band, from 2 to 6, WeightWatcher calls a matrix heavy-tailed. It is noisy: a few matrices of each "
                "kind, and values above 12 are off the axis."
                if alphas
                else ""
            ),
            tuple(drawings),
            tuple(Key(kind, kind_color(kind)) for kind in shapes),
        )
    ]


def _finite(line: Mapping[int, float]) -> dict[int, float]:
    return {layer: value for layer, value in line.items() if math.isfinite(value)}


def _alphas(group: WeightGroup) -> dict[int, float]:
    """Layer -> alpha, at some layers evenly over depth."""
    by_layer = {f.weight.layer: f.weight for f in group.figures if f.weight.layer is not None}
    chosen = evenly_chosen(sorted(by_layer), _MOST_DRAWN)
    values = {layer: by_layer[layer].singular_values for layer in chosen}
    return _finite({layer: weightwatcher(spectrum).alpha for layer, spectrum in values.items() if spectrum is not None})


def _shapes(shapes: Mapping[str, Mapping[int, float]]) -> Chart:
    chart = Chart("f15-k", "Weibull shape of the body", x="layer", y="k")
    chart.band(*_TRANSMISSION_BAND, "heat-1")
    low = min(min(line.values()) for line in shapes.values())
    high = max(max(line.values()) for line in shapes.values())
    _lines(chart, shapes, min(low - 0.02, 1.1), max(high + 0.02, 1.26))
    chart.rule(y=GAUSSIAN_WEIBULL_K, label="Gaussian", color="ink")
    return chart.described(f"Weibull k, median over the layers: {_medians(shapes)}.")


def _tails(alphas: Mapping[str, Mapping[int, float]]) -> Chart:
    chart = Chart("f15-alpha", "WeightWatcher's alpha", x="layer", y="alpha")
    chart.band(*_HEAVY_TAILED, "heat-1")
    high = max(max(line.values()) for line in alphas.values())
    _lines(chart, alphas, 1.0, min(max(high * 1.05, 7.0), _MOST_ALPHA))
    for kind, line in alphas.items():
        chart.points(list(line), list(line.values()), kind_color(kind), size=2.4)
    return chart.described(f"WeightWatcher's alpha, median over the layers: {_medians(alphas)}.")


def _lines(chart: Chart, lines: Mapping[str, Mapping[int, float]], low: float, high: float) -> None:
    for kind, line in lines.items():
        chart.line(list(line), list(line.values()), kind_color(kind), width=1.6)
    layers = [layer for line in lines.values() for layer in line]
    chart.limits_x(min(layers) - 0.5, max(layers) + 0.5)
    chart.limits_y(low, high)
    chart.whole_numbers()


def _medians(lines: Mapping[str, Mapping[int, float]]) -> str:
    return ", ".join(f"{kind} {numbers.number(float(np.median(list(line.values()))))}" for kind, line in lines.items())


DEFINITION: Final = Definition(
    id="F15",
    title="Weibull and WeightWatcher panels",
    claim="No claim: two sets of statistics of weight matrices that others publish, measured in the same way.",
    source="Weibull: T. Ding (arXiv:2605.18898); WeightWatcher: Martin, Peng & Mahoney (Nature Communications 2021)",
    needs=("weights",),
    measured="Every matrix with a role inside the blocks, parts of fused ones separately. Weibull: the body of |w|. "
    f"WeightWatcher: the tail of the squared singular values of at most {_MOST_FITTED} matrices of each kind, evenly "
    "over depth.",
    formula=(
        "ln(-ln(1 - F)) = k ln |w| - k ln lambda by least squares, weighted by counts, where 0.1 <= F <= 0.9",
        "F of log10 |w| at the middles of 1024 bins over [-12, 2]",
        "alpha = 1 + n / sum ln(x_i / xmin) over the n eigenvalues x = s^2 from xmin on; sigma = (alpha - 1) / sqrt(n)",
        "D = max |1 - (x_i / xmin)^(1 - alpha) - i / n|, i = 0 to n - 1 in ascending order; xmin makes D least",
        "alpha weighted = alpha log10(largest eigenvalue)",
    ),
    thresholds=(
        "none: the verdict is always MEASURED",
        "fewer than 50 eigenvalues give a warning",
        "no k where a tenth of the values or more have one magnitude, as in weights of few bits (ours)",
    ),
    judge=_check,
    figures=_figures,
    objections=(
        Objection("lmfacts", "k sees only the body of |w|: about 1.20 does not mean that the tails are Gaussian."),
        Objection("lmfacts", "alpha is noisy, and differs between fused and split projections of q, k and v."),
    ),
    published=(
        PublishedValue("any Gaussian", "Weibull k, lambda / std", "1.2054, 0.8875", "arXiv:2605.18898", "A"),
        *_weibull("pythia-70m", "1.0488 1.1838 1.1903 1.1898", ".02783 .01860 .02600 .02101"),
        *_weibull("pythia-160m", "1.0982 1.1917 1.1927 1.1953", ".02516 .01568 .02411 .01888"),
        *_weibull("pythia-410m", "1.1466 1.1988 1.1991 1.2011", ".02122 .01797 .02080 .01716"),
        *_weibull("pythia-1b", "1.1758 1.1990 1.1997 1.1993", ".02014 .01877 .02015 .01733"),
        *_weibull("pythia-6.9b", "1.1726 1.1986 1.2026 1.2010"),
        _logs("GPT", "1.64 1.72 7.01 7.28"),
        _logs("GPT2-small", "2.04 2.54 9.62 9.87"),
        _logs("GPT2-medium", "2.08 2.58 9.74 10.01"),
        _logs("GPT2-large", "1.85 1.99 7.67 7.94"),
        _logs("GPT2-xl", "1.86 1.92 7.17 7.51"),
    ),
)
