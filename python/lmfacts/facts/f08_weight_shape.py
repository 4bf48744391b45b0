"""F8: weights are nearly Gaussian."""

from __future__ import annotations

import functools
import math
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.analysis.block_matrices import (
    NO_MATRICES,
    MatrixShape,
    ValueShape,
    by_kind,
    evenly,
    matrix_shapes,
    median,
    without_k,
)
from lmfacts.charts import Chart, Figure, Key
from lmfacts.charts.colors import DIVERGING, HEAT
from lmfacts.charts.densities import LOG_RANGE, Body, add_log, add_log_line, share_text
from lmfacts.charts.heat_map import heat_map, step_keys
from lmfacts.charts.kinds import kind_name
from lmfacts.facts import requires
from lmfacts.facts.definition import Definition, Objection, PublishedValue
from lmfacts.facts.fact import Evidence, Measure, Table, Verdict
from lmfacts.facts.strictness import Strictness, at_least, at_most, judged
from lmfacts.stats.laws import fit_families, tied_families
from lmfacts.stats.shape import GAUSSIAN_WEIBULL_K, ks_median_mad, tail_exponent
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmfacts.facts.fact import Cell, Fact
    from lmfacts.facts.inputs import Inputs
    from lmfacts.facts.runs_view import RunsView
    from lmfacts.run import Run
    from lmfacts.run.weight import WeightRecord

__all__ = ["DEFINITION", "LEAST_VALUES", "Shape", "bounds_of", "shape_of", "verdict_between", "verdict_of"]

LEAST_VALUES: Final = 12_844
"""Values from which k is judged: 2.5 sampling SDs of a Gaussian's k, 1.36 / sqrt(N) each, then fit in its band."""

_LEAST_SIDE: Final = 32
_GAUSSIAN_K: Final = 1.205
_BODY_WIDTH: Final = at_most(0.03)
_OPEN_WIDTH: Final = 2.7
"""Two sampling SDs of k, times the root of the number of values: a k that near to a limit may lie on either side."""
_MOST_KURTOSIS: Final = at_most(0.3)
_MOST_MAX_Z: Final = at_most(1.25, neutral=1.0)
_BODY_SHARE: Final = at_least(0.9, neutral=1.0)
_GAUSSIAN_SHARE: Final = at_least(0.5)
_BODY_ONLY_SHARE: Final = at_least(0.8, neutral=1.0)
_N_WORST: Final = 5
_N_DEPTHS: Final = 5
_COLLAPSE: Final = 0.5


class Shape(StrEnum):
    """What one matrix is."""

    GAUSSIAN = "GAUSSIAN"
    BODY = "BODY"
    """Its body is Gaussian, its tails or its largest values are not."""
    NON_GAUSSIAN = "NON-GAUSSIAN"
    OPEN = "OPEN"
    """Its k is so near to a limit that it may be on either side."""
    INCONCLUSIVE = "INCONCLUSIVE"
    """Too few values, all of them equal, or so many equal ones that k means nothing."""


def bounds_of(values: ValueShape, strictness: Strictness = Strictness.STATED) -> tuple[Shape, Shape]:
    """What the values of one matrix are if the scatter of k went against a Gaussian body, and if it went for one."""
    if values.n < LEAST_VALUES or not values.std > 0 or math.isnan(values.weibull_k):
        return Shape.INCONCLUSIVE, Shape.INCONCLUSIVE
    away = abs(values.weibull_k - _GAUSSIAN_K) - _BODY_WIDTH.at(strictness)
    margin = _OPEN_WIDTH / math.sqrt(values.n)
    tails = _MOST_KURTOSIS.passed(abs(values.excess_kurtosis), strictness) and _MOST_MAX_Z.passed(
        values.max_z_ratio, strictness
    )
    body = Shape.GAUSSIAN if tails else Shape.BODY
    at_worst, at_best = (body if distance <= 0 else Shape.NON_GAUSSIAN for distance in (away + margin, away - margin))
    return at_worst, at_best


def shape_of(values: ValueShape, strictness: Strictness = Strictness.STATED) -> Shape:
    """Judge the values of one matrix."""
    at_worst, at_best = bounds_of(values, strictness)
    return at_worst if at_worst is at_best else Shape.OPEN


def verdict_of(shapes: Sequence[Shape], strictness: Strictness = Strictness.STATED) -> Verdict:
    """The verdict on a model from those of its matrices, none of them OPEN; INCONCLUSIVE if none could be judged."""
    counts = Counter(shape for shape in shapes if shape is not Shape.INCONCLUSIVE)
    n = counts.total()
    if not n:
        return Verdict.INCONCLUSIVE
    body = (n - counts[Shape.NON_GAUSSIAN]) / n
    if _BODY_SHARE.passed(body, strictness) and _GAUSSIAN_SHARE.passed(counts[Shape.GAUSSIAN] / n, strictness):
        return Verdict.HOLDS
    return Verdict.BODY_ONLY if _BODY_ONLY_SHARE.passed(body, strictness) else Verdict.FAILS


def verdict_between(bounds: Sequence[tuple[Shape, Shape]], strictness: Strictness = Strictness.STATED) -> Verdict:
    """The verdict from `bounds_of` matrices: INCONCLUSIVE if it depends on those that may be on either side."""
    at_worst, at_best = (verdict_of([pair[end] for pair in bounds], strictness) for end in (0, 1))
    return at_worst if at_worst is at_best else Verdict.INCONCLUSIVE


@dataclass(frozen=True)
class _Counts:
    """How many of the matrices that could be judged are what.

    Attributes:
        n: all of them.
        body: a Gaussian body, and at most as many.
        gaussian: Gaussian, and at most as many.
        n_open: those whose k is within two sampling SDs of a limit.
    """

    n: int
    body: tuple[int, int]
    gaussian: tuple[int, int]
    n_open: int

    @classmethod
    def of(cls, bounds: Sequence[tuple[Shape, Shape]]) -> _Counts:
        """From `bounds_of` all matrices."""
        kept = [pair for pair in bounds if Shape.INCONCLUSIVE not in pair]
        body, gaussian = (
            tuple(sum(pair[end] in shapes for pair in kept) for end in (0, 1))
            for shapes in ((Shape.GAUSSIAN, Shape.BODY), (Shape.GAUSSIAN,))
        )
        return cls(len(kept), (body[0], body[1]), (gaussian[0], gaussian[1]), sum(a is not b for a, b in kept))

    @property
    def words(self) -> str:
        """`10 have a Gaussian body, 5 of them Gaussian tails too; 2 are open`."""
        is_open = "is" if self.n_open == 1 else "are"
        return (
            f"{self.body[0]} have a Gaussian body, {self.gaussian[0]} of them Gaussian tails too"
            f"{f'; {self.n_open} {is_open} open' if self.n_open else ''}"
        )


def _check(inputs: Inputs) -> Fact:
    run = requires.weights(inputs)
    matrices = matrix_shapes(run)
    if not matrices:
        raise requires.NotApplicable(NO_MATRICES)
    kept = [matrix for matrix in matrices if shape_of(matrix.raw) is not Shape.INCONCLUSIVE]
    worst = sorted(kept, key=lambda matrix: -_tail(matrix))[:_N_WORST]
    evidence = Evidence(
        measures=_medians(kept),
        tables=(_kinds_table(matrices), _depth_table(matrices), *([_worst_table(run, worst)] if worst else [])),
        notes=(
            *_notes(matrices, kept),
            *_not_finite(run, matrices),
            *_family(run, worst),
            *_quantized(run, matrices),
        ),
    )
    if not kept:
        raise requires.Inconclusive(f"None of the {len(matrices)} matrices can be judged: {_why(matrices)}.", evidence)
    return judged(functools.partial(_judge, matrices, evidence), has_interval=False)


def _why(matrices: Sequence[MatrixShape]) -> str:
    """Why no matrix can be judged."""
    most = max(matrix.raw.n for matrix in matrices)
    if most < LEAST_VALUES:
        return f"the largest has {most:,} values, {LEAST_VALUES:,} are needed"
    reasons = [matrix.raw.no_k for matrix in matrices if matrix.raw.std > 0 and matrix.raw.no_k is not None]
    return reasons[0] if reasons else "those that are large enough hold one value only"


def _judge(matrices: Sequence[MatrixShape], measured: Evidence, strictness: Strictness) -> Fact:
    """The verdict; `measured` is what does not depend on thresholds."""
    raw = [bounds_of(matrix.raw, strictness) for matrix in matrices]
    scaled = [_scaled_bounds(matrix, strictness) for matrix in matrices]
    verdict, scaled_verdict = verdict_between(raw, strictness), verdict_between(scaled, strictness)
    counts, scaled_counts = _Counts.of(raw), _Counts.of(scaled)
    measures = (
        *_measures("", counts, strictness),
        *_measures("after scaling: ", scaled_counts, strictness, decides=False),
        *measured.measures,
    )
    evidence = Evidence(measures, measured.tables, measured.notes)
    summary = f"Of {counts.n} matrices {counts.words}"
    if scaled_counts.n:
        said = "" if scaled_verdict is Verdict.INCONCLUSIVE else f", which alone would be: {scaled_verdict.words}"
        summary += f"; with row and column scales divided out {scaled_counts.words}{said}"
    if verdict is Verdict.INCONCLUSIVE:
        summary += f". The open ones decide: their k is within 2.7 / sqrt(N), two sampling SDs, of {_GAUSSIAN_K} +- "
        return DEFINITION.fact(verdict, f"{summary}{_BODY_WIDTH.at(strictness):g}.", evidence)
    up_to_scales = scaled_verdict is Verdict.HOLDS and verdict is not Verdict.HOLDS
    return DEFINITION.fact(
        verdict, f"{summary}.", evidence, fact_class="Gaussian up to scales" if up_to_scales else None
    )


def _scaled_bounds(matrix: MatrixShape, strictness: Strictness) -> tuple[Shape, Shape]:
    if matrix.matrix.rank < _LEAST_SIDE:
        return Shape.INCONCLUSIVE, Shape.INCONCLUSIVE
    return bounds_of(matrix.scaled, strictness)


# Evidence


def _measures(prefix: str, counts: _Counts, strictness: Strictness, *, decides: bool = True) -> tuple[Measure, ...]:
    if not counts.n:
        return ()
    body_words = f"{_BODY_SHARE.words(strictness)} (BODY-ONLY: {_BODY_ONLY_SHARE.at(strictness):.4g})"
    measures = []
    for name, (least, most), threshold, words in (
        ("share with a Gaussian body", counts.body, _BODY_SHARE, body_words),
        ("share that is Gaussian", counts.gaussian, _GAUSSIAN_SHARE, _GAUSSIAN_SHARE.words(strictness)),
    ):
        passed = [threshold.passed(n / counts.n, strictness) for n in (least, most)]
        note = f"{least} of {counts.n} matrices" + (f", or up to {most} with open ones" if most > least else "")
        decided = passed[0] if decides and passed[0] is passed[1] else None
        measures.append(Measure(f"{prefix}{name}", least / counts.n, words, decided, note=note))
    return tuple(measures)


def _medians(matrices: Sequence[MatrixShape]) -> tuple[Measure, ...]:
    if not matrices:
        return ()
    return (
        Measure("median Weibull k", median(m.raw.weibull_k for m in matrices), "Gaussian 1.205 +- 0.03"),
        Measure("median Weibull k after scaling", median(m.scaled.weibull_k for m in matrices)),
        Measure("median excess kurtosis", median(m.raw.excess_kurtosis for m in matrices), "Gaussian 0 +- 0.3"),
        Measure("median excess kurtosis after scaling", median(m.scaled.excess_kurtosis for m in matrices)),
        Measure(
            "median of max |z| over the expected",
            median(m.raw.max_z_ratio for m in matrices),
            f"Gaussian {_MOST_MAX_Z.words()}",
        ),
        Measure("largest |mean| over std", max(abs(m.raw.mean) / m.raw.std for m in matrices)),
    )


def _kinds_table(matrices: Sequence[MatrixShape]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for kind, group in by_kind(matrices).items():
        counts = Counter(shape_of(matrix.raw) for matrix in group)
        worst = max(group, key=_tail)
        rows.append(
            (
                kind,
                len(group),
                counts[Shape.GAUSSIAN],
                counts[Shape.BODY],
                counts[Shape.NON_GAUSSIAN],
                counts[Shape.OPEN],
                median(m.raw.weibull_k for m in group),
                median(m.scaled.weibull_k for m in group),
                median(m.raw.excess_kurtosis for m in group),
                median(m.scaled.excess_kurtosis for m in group),
                worst.raw.excess_kurtosis,
                worst.matrix.layer,
            )
        )
    return Table(
        "By kind",
        (
            "kind",
            "matrices",
            "Gaussian",
            "body only",
            "non-Gaussian",
            "open",
            "k",
            "k scaled",
            "ex. kurtosis",
            "scaled",
            "worst",
            "in layer",
        ),
        tuple(rows),
        "Medians. Open: k within two sampling SDs of a limit. Scaled: columns, then rows, divided by their root mean "
        "squares. Worst: the largest excess kurtosis.",
    )


def _depth_table(matrices: Sequence[MatrixShape]) -> Table:
    layers = evenly(sorted({matrix.matrix.layer for matrix in matrices}), _N_DEPTHS)
    rows: list[tuple[Cell, ...]] = []
    for kind, group in by_kind(matrices).items():
        cells = [median(m.raw.excess_kurtosis for m in group if m.matrix.layer == layer) for layer in layers]
        rows.append((kind, *cells))
    return Table("Excess kurtosis by depth", ("kind", *(f"layer {layer}" for layer in layers)), tuple(rows))


def _worst_table(run: Run[WeightRecord], worst: Sequence[MatrixShape]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for matrix in worst:
        distribution = run[matrix.matrix.name].distribution
        rows.append(
            (
                matrix.matrix.name,
                str(shape_of(matrix.raw)),
                matrix.raw.excess_kurtosis,
                matrix.scaled.excess_kurtosis,
                matrix.raw.weibull_k,
                matrix.raw.max_z_ratio,
                tail_exponent(distribution),
                ks_median_mad(distribution),
            )
        )
    return Table(
        "Farthest from a Gaussian",
        (
            "matrix",
            "is",
            "ex. kurtosis",
            "scaled",
            "k",
            "max |z| / expected",
            "tail exponent",
            "KS to N(median, MAD)",
        ),
        tuple(rows),
        "By excess kurtosis. A Gaussian has k 1.205, tail exponent 1.62 and 0 or 1 elsewhere; a logistic law has 1.21, "
        "k 1.159, tail exponent 1.13, KS 0.0148.",
    )


def _family(run: Run[WeightRecord], worst: Sequence[MatrixShape]) -> tuple[str, ...]:
    """What describes the first of the worst; of one only, since a fit takes as long as the shapes of 30 matrices."""
    if not worst or shape_of(worst[0].raw) is Shape.GAUSSIAN:
        return ()
    name = worst[0].matrix.name
    fits = fit_families(run[name].distribution)
    behind = [fit.gap for fit in fits if fit.name == "Gaussian"]
    if not behind:
        return ()
    best = " or ".join(fit.name for fit in tied_families(fits))
    return (f"{name} is best described by: {best}; a Gaussian is {behind[0]:.2g} nats per value behind.",)


def _tail(matrix: MatrixShape) -> float:
    return -math.inf if math.isnan(matrix.raw.excess_kurtosis) else matrix.raw.excess_kurtosis


def _notes(matrices: Sequence[MatrixShape], kept: Sequence[MatrixShape]) -> tuple[str, ...]:
    notes = []
    left = len(matrices) - len(kept)
    if left:
        notes.append(
            f"{left} of {len(matrices)} matrices have fewer than {LEAST_VALUES:,} values, only one value, or no k, and "
            "are left out of the shares."
        )
    notes += without_k(matrices)
    before = median(matrix.raw.excess_kurtosis for matrix in kept)
    after = median(matrix.scaled.excess_kurtosis for matrix in kept)
    if before > _MOST_KURTOSIS.value:
        change = f"takes the median excess kurtosis from {before:.2f} to {after:.2f}"
        cause = (
            "most of the tails are rows and columns of different scale"
            if after <= _COLLAPSE * before
            else "the tails are in the values themselves, not in the scales of rows and columns"
        )
        notes.append(f"Dividing by the RMS of columns and rows {change}: {cause}.")
    return tuple(notes)


def _not_finite(run: Run[WeightRecord], matrices: Sequence[MatrixShape]) -> tuple[str, ...]:
    names = {matrix.matrix.name for matrix in matrices}
    n = sum(entry.name in names and bool(entry.n_nonfinite) for entry in run.info.weights)
    if not n:
        return ()
    return (f"{n} of {len(matrices)} matrices hold NaN or infinities; all figures are of their finite values.",)


def _quantized(run: Run[WeightRecord], matrices: Sequence[MatrixShape]) -> tuple[str, ...]:
    names = {matrix.matrix.name for matrix in matrices}
    kinds = Counter(entry.quantization for entry in run.info.weights if entry.name in names and entry.quantization)
    if not kinds:
        return ()
    note = (
        f"{kinds.total()} matrices are stored quantized ({', '.join(sorted(kinds))}): what is measured are the few "
        "values that a code can stand for, times the scale of its group."
    )
    return (note,)


# The figures

_KURTOSIS_STEPS: Final = (0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
_K_STEPS: Final = (-0.12, -0.06, -0.03, -0.01, 0.01, 0.03, 0.06, 0.12)


def _figures(view: RunsView) -> list[Figure]:
    """Maps of kind by depth, and one matrix of each kind."""
    groups = view.matrices
    if not groups:
        return []
    raw = {kind_name(group.kind): group.by_layer("excess_kurtosis") for group in groups}
    scaled = {kind_name(group.kind): group.by_layer("scaled_excess_kurtosis") for group in groups}
    shape = {
        kind_name(group.kind): {layer: k - GAUSSIAN_WEIBULL_K for layer, k in group.by_layer("weibull_k").items()}
        for group in groups
    }
    tails = Figure(
        "Excess kurtosis by kind and depth",
        "A Gaussian has 0; darker cells have heavier tails (in a dark color scheme, lighter ones). The first map is "
        "the raw weights. In the second each column and then each row is divided by its RMS: where a cell "
        "loses its color, the tails came from rows and columns of different scale, and what is left is Gaussian.",
        (
            heat_map("f8-raw", "As they are", raw, _KURTOSIS_STEPS, HEAT, alt=_told("Excess kurtosis", raw)),
            heat_map(
                "f8-scaled",
                "Scales divided out",
                scaled,
                _KURTOSIS_STEPS,
                HEAT,
                alt=_told("Excess kurtosis, scaled", scaled),
            ),
        ),
        tuple(Key(label, color, "area") for label, color in zip(step_keys(_KURTOSIS_STEPS), HEAT, strict=True)),
    )
    body = Figure(
        "Weibull shape of the body by kind and depth",
        f"The shape k of a Weibull law fitted to the body of |w|, less {GAUSSIAN_WEIBULL_K:.3f}, which a Gaussian has. "
        "Below it (orange), small weights are more frequent than in a Gaussian, as in an exponential law (k = 1). It "
        "says nothing of tails.",
        (heat_map("f8-k", "k less a Gaussian's", shape, _K_STEPS, DIVERGING, alt=_told("k less a Gaussian's", shape)),),
        tuple(Key(label, color, "area") for label, color in zip(step_keys(_K_STEPS), DIVERGING, strict=True)),
    )
    one = _one_of_each(view)
    return [tails, body, *([one] if one is not None else [])]


def _told(what: str, rows: dict[str, dict[int, float]]) -> str:
    parts = []
    for kind, row in rows.items():
        finite = [value for value in row.values() if np.isfinite(value)]
        if finite:
            parts.append(f"{kind} from {numbers.number(min(finite))} to {numbers.number(max(finite))}")
    return f"{what} by kind and layer: {'; '.join(parts)}."


def _one_of_each(view: RunsView) -> Figure | None:
    drawings: list[Chart] = []
    for kind, weight in view.middle_matrices.items():
        body = Body.of(weight.distribution)
        if body is None:
            continue
        scaled = Body.of(weight.scaled.distribution) if weight.scaled.n else None
        name = f"f8-{kind.replace(' ', '-').replace('_', '-')}"
        chart = Chart(name, f"{kind}, layer {weight.layer}", x="std of the body from the median", y="density")
        add_log(chart, body)
        if scaled is not None:
            add_log_line(chart, scaled, "orange")
        drawings.append(
            chart.described(
                f"Histogram of {weight.name} with logarithmic counts: excess kurtosis "
                f"{numbers.number(weight.excess_kurtosis)}, scaled "
                f"{numbers.number(weight.scaled.excess_kurtosis)}; {share_text(body.beyond(LOG_RANGE))} beyond "
                f"{LOG_RANGE:.0f} standard deviations of the body."
            )
        )
    if not drawings:
        return None
    return Figure(
        "One matrix of each kind, logarithmic",
        "A Gaussian is the dashed parabola. The orange line has the same entries after rows and columns are divided by "
        "their scale.",
        tuple(drawings),
        (
            Key("entries", "fill", "area"),
            Key("scales divided out", "orange"),
            Key("Gaussian with the same median and MAD", "ink", "dashed"),
        ),
    )


# The catalogue's entry

_LMF: Final = "LM_facts_across_training, weight_statistics, step 142,000"

DEFINITION: Final = Definition(
    id="F8",
    title="Weights are nearly Gaussian",
    claim="The values of a weight matrix are distributed nearly like a Gaussian, with slightly heavier tails.",
    source='"Basic Facts about Language Model Internals" (2023), alignmentforum.org/posts/PDLfpRwSynu73mxGw, "Weights '
    'Are Nearly Gaussian"',
    needs=("weights",),
    measured="Every matrix with a role inside the blocks: parts of fused ones separately, each expert on its own; no "
    "embeddings, no positions, no head. All values of a matrix at once, as they are and once more after dividing its "
    "columns, then its rows, by their root mean squares: heavy tails that vanish then were differences of scale.",
    formula=(
        "Weibull k: least squares of ln(-ln(1 - F)) on ln |w| where 0.1 <= F <= 0.9; a Gaussian has 1.205",
        "sampling SD of k for N Gaussian values: 1.36 / sqrt(N) (by simulation)",
        "excess kurtosis: mean(z^4) - 3 with z = (w - mean) / std",
        "expected max |z| of N values: Phi^-1(1 - 0.28 / N)",
        "scaled: w_ij / rms_j(column), then / rms_i(row)",
    ),
    thresholds=(
        "a matrix is BODY if |k - 1.205| <= 0.03, otherwise NON-GAUSSIAN",
        "it is GAUSSIAN if it is BODY, |excess kurtosis| <= 0.3 and max |z| <= 1.25 x the expected",
        "HOLDS if at least 90 % of the matrices are BODY or GAUSSIAN, and at least 50 % GAUSSIAN",
        "BODY-ONLY if at least 80 % are BODY or GAUSSIAN; otherwise FAILS",
        "a matrix whose k is within two sampling SDs, 2.7 / sqrt(N), of a limit is open",
        "INCONCLUSIVE if the open ones decide",
        "scaled weights are judged by the same rules; the class is `Gaussian up to scales` if only they HOLD (ours)",
        f"matrices below {LEAST_VALUES:,} values are left out: 2.5 SD of a Gaussian's k must fit in 0.03 (ours)",
        f"scaled weights of matrices with a side below {_LEAST_SIDE} are left out: scaling thins their tails (ours)",
        "matrices without a k, a tenth of whose values or more have one magnitude, are left out (ours)",
        "INCONCLUSIVE if no matrix can be judged (ours)",
        "10 % looser or stricter: of the distance of 1.25, 80 % and 90 % from 1, and of the other limits (ours)",
    ),
    judge=_check,
    figures=_figures,
    objections=(
        Objection(
            "Fabien Roger, ryan_greenblatt",
            "Said of activations: an exponential or logistic law fits the tails better than a Gaussian does. Here, "
            "too, a Gaussian body says little about the tails.",
        ),
        Objection(
            "BF3, the addendum on training",
            "No simple law fits weights at the end of training; sums and products of Gaussians come closer.",
        ),
        Objection(
            "T. Ding (arXiv:2605.18898)",
            "Weibull k sees only the body: k of 1.20 goes together with values 23 standard deviations out.",
        ),
    ),
    published=(
        PublishedValue("any Gaussian", "Weibull k, lambda / std", "1.2054, 0.8875", "arXiv:2605.18898", "A"),
        PublishedValue("pythia-70m-v0", "max/std, median of layers: qkv, 4h->h", "11.5, 23.4", _LMF, "A"),
        PublishedValue("pythia-160m-v0", "max/std, median of layers: qkv, 4h->h", "12.0, 21.9", _LMF, "A"),
        PublishedValue("pythia-410m-v0", "max/std, median of layers: h->4h", "6.6", _LMF, "A"),
        PublishedValue("pythia-1b-v0", "max/std, median of layers: 4h->h", "27.8", _LMF, "A"),
        PublishedValue("pythia-1.4b-v0", "max/std, median of layers: qkv", "11.1", _LMF, "A"),
    ),
)
