"""F8: weights are nearly Gaussian."""

from __future__ import annotations

import math
from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from lmfacts.distribution_shape import ks_median_mad, tail_exponent
from lmfacts.facts.block_matrices import (
    NO_MATRICES,
    MatrixShape,
    ValueShape,
    by_kind,
    evenly,
    matrix_shapes,
    median,
    weight,
)
from lmfacts.facts.definition import Definition, Objection, PublishedValue
from lmfacts.facts.fact import Evidence, Measure, Table, Verdict
from lmfacts.families import fit_families, tied_families

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmfacts.facts.fact import Cell, Fact
    from lmfacts.facts.inputs import Inputs
    from lmfacts.run import Run

__all__ = ["DEFINITION", "LEAST_VALUES", "Shape", "shape_of", "verdict_of"]

LEAST_VALUES: Final = 12_844
"""Values from which k is judged: 2.5 sampling SDs of a Gaussian's k, 1.36 / sqrt(N) each, then fit in its band."""

_LEAST_SIDE: Final = 32
_GAUSSIAN_K: Final = 1.205
_BODY_WIDTH: Final = 0.03
_MOST_KURTOSIS: Final = 0.3
_MOST_MAX_Z: Final = 1.25
_BODY_SHARE: Final = 0.9
_GAUSSIAN_SHARE: Final = 0.5
_BODY_ONLY_SHARE: Final = 0.8
_N_WORST: Final = 5
_N_DEPTHS: Final = 5
_COLLAPSE: Final = 0.5


class Shape(StrEnum):
    """What one matrix is."""

    GAUSSIAN = "GAUSSIAN"
    BODY = "BODY"
    """Its body is Gaussian, its tails or its largest values are not."""
    NON_GAUSSIAN = "NON-GAUSSIAN"
    INCONCLUSIVE = "INCONCLUSIVE"
    """Too few values, or all of them equal."""


def shape_of(values: ValueShape) -> Shape:
    """Judge the values of one matrix."""
    if values.n < LEAST_VALUES or not values.std > 0:
        return Shape.INCONCLUSIVE
    if not abs(values.weibull_k - _GAUSSIAN_K) <= _BODY_WIDTH:
        return Shape.NON_GAUSSIAN
    tails = abs(values.excess_kurtosis) <= _MOST_KURTOSIS and values.max_z_ratio <= _MOST_MAX_Z
    return Shape.GAUSSIAN if tails else Shape.BODY


def verdict_of(shapes: Sequence[Shape]) -> Verdict:
    """The verdict on a model from those of its matrices; INCONCLUSIVE if none could be judged."""
    counts = Counter(shape for shape in shapes if shape is not Shape.INCONCLUSIVE)
    n = counts.total()
    if not n:
        return Verdict.INCONCLUSIVE
    body = (n - counts[Shape.NON_GAUSSIAN]) / n
    if body >= _BODY_SHARE and counts[Shape.GAUSSIAN] / n >= _GAUSSIAN_SHARE:
        return Verdict.HOLDS
    return Verdict.BODY_ONLY if body >= _BODY_ONLY_SHARE else Verdict.FAILS


def _check(inputs: Inputs) -> Fact:
    run = inputs.weights
    assert run is not None  # the catalogue sees to it
    matrices = matrix_shapes(run)
    if not matrices:
        return DEFINITION.not_applicable(NO_MATRICES)
    raw = [shape_of(matrix.raw) for matrix in matrices]
    scaled = [_scaled_shape(matrix) for matrix in matrices]
    verdict, scaled_verdict = verdict_of(raw), verdict_of(scaled)
    judged = [(matrix, shape) for matrix, shape in zip(matrices, raw, strict=True) if shape is not Shape.INCONCLUSIVE]
    worst = sorted(judged, key=lambda entry: -_tail(entry[0]))[:_N_WORST]
    evidence = Evidence(
        measures=(*_measures("", raw), *_measures("after scaling: ", scaled, decides=False), *_medians(judged)),
        tables=(_kinds_table(matrices, raw), _depth_table(matrices), *([_worst_table(run, worst)] if worst else [])),
        notes=(*_notes(raw, judged), *_not_finite(run, matrices), *_family(run, worst), *_quantized(run, matrices)),
    )
    if verdict is Verdict.INCONCLUSIVE:
        most = max(matrix.raw.n for matrix in matrices)
        why = f"the largest has {most:,} values, {LEAST_VALUES:,} are needed"
        if most >= LEAST_VALUES:
            why = "those that are large enough hold one value only"
        return DEFINITION.fact(verdict, f"None of the {len(matrices)} matrices can be judged: {why}.", evidence)
    summary = _counted(raw)
    if scaled_verdict is not Verdict.INCONCLUSIVE:
        summary += f"; with row and column scales divided out {_counts(scaled)} ({scaled_verdict})"
    up_to_scales = scaled_verdict is Verdict.HOLDS and verdict is not Verdict.HOLDS
    return DEFINITION.fact(
        verdict, f"{summary}.", evidence, fact_class="Gaussian up to scales" if up_to_scales else None
    )


def _scaled_shape(matrix: MatrixShape) -> Shape:
    return shape_of(matrix.scaled) if matrix.matrix.rank >= _LEAST_SIDE else Shape.INCONCLUSIVE


def _shares(shapes: Sequence[Shape]) -> tuple[int, int, int]:
    """How many were judged, how many of them have a Gaussian body, how many are Gaussian."""
    counts = Counter(shapes)
    n = len(shapes) - counts[Shape.INCONCLUSIVE]
    return n, n - counts[Shape.NON_GAUSSIAN], counts[Shape.GAUSSIAN]


def _counted(shapes: Sequence[Shape]) -> str:
    n, body, gaussian = _shares(shapes)
    return f"Of {n} matrices {body} have a Gaussian body and {gaussian} are Gaussian"


def _counts(shapes: Sequence[Shape]) -> str:
    _, body, gaussian = _shares(shapes)
    return f"{body} and {gaussian}"


# Evidence


def _measures(prefix: str, shapes: Sequence[Shape], *, decides: bool = True) -> tuple[Measure, ...]:
    n, n_body, n_gaussian = _shares(shapes)
    if not n:
        return ()
    body, gaussian = n_body / n, n_gaussian / n
    return (
        Measure(
            f"{prefix}share with a Gaussian body",
            body,
            f">= {_BODY_SHARE:g} (BODY-ONLY: {_BODY_ONLY_SHARE:g})",
            body >= _BODY_SHARE if decides else None,
            note=f"{n_body} of {n} matrices",
        ),
        Measure(
            f"{prefix}share that is Gaussian",
            gaussian,
            f">= {_GAUSSIAN_SHARE:g}",
            gaussian >= _GAUSSIAN_SHARE if decides else None,
            note=f"{n_gaussian} of {n} matrices",
        ),
    )


def _medians(judged: Sequence[tuple[MatrixShape, Shape]]) -> tuple[Measure, ...]:
    if not judged:
        return ()
    matrices = [matrix for matrix, _ in judged]
    return (
        Measure("median Weibull k", median(m.raw.weibull_k for m in matrices), "Gaussian 1.205 +- 0.03"),
        Measure("median Weibull k after scaling", median(m.scaled.weibull_k for m in matrices)),
        Measure("median excess kurtosis", median(m.raw.excess_kurtosis for m in matrices), "Gaussian 0 +- 0.3"),
        Measure("median excess kurtosis after scaling", median(m.scaled.excess_kurtosis for m in matrices)),
        Measure(
            "median of max |z| over the expected",
            median(m.raw.max_z_ratio for m in matrices),
            f"Gaussian <= {_MOST_MAX_Z:g}",
        ),
        Measure("largest |mean| over std", max(abs(m.raw.mean) / m.raw.std for m in matrices)),
    )


def _kinds_table(matrices: Sequence[MatrixShape], shapes: Sequence[Shape]) -> Table:
    of = {matrix.matrix.name: shape for matrix, shape in zip(matrices, shapes, strict=True)}
    rows: list[tuple[Cell, ...]] = []
    for kind, group in by_kind(matrices).items():
        counts = Counter(of[matrix.matrix.name] for matrix in group)
        worst = max(group, key=_tail)
        rows.append(
            (
                kind,
                len(group),
                counts[Shape.GAUSSIAN],
                counts[Shape.BODY],
                counts[Shape.NON_GAUSSIAN],
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
            "k",
            "k scaled",
            "ex. kurtosis",
            "scaled",
            "worst",
            "in layer",
        ),
        tuple(rows),
        "Medians. Scaled: columns, then rows, divided by their root mean squares. Worst: the largest excess kurtosis.",
    )


def _depth_table(matrices: Sequence[MatrixShape]) -> Table:
    layers = evenly(sorted({matrix.matrix.layer for matrix in matrices}), _N_DEPTHS)
    rows: list[tuple[Cell, ...]] = []
    for kind, group in by_kind(matrices).items():
        cells = [median(m.raw.excess_kurtosis for m in group if m.matrix.layer == layer) for layer in layers]
        rows.append((kind, *cells))
    return Table("Excess kurtosis by depth", ("kind", *(f"layer {layer}" for layer in layers)), tuple(rows))


def _worst_table(run: Run, worst: Sequence[tuple[MatrixShape, Shape]]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for matrix, shape in worst:
        distribution = weight(run, matrix.matrix.name).distribution
        rows.append(
            (
                matrix.matrix.name,
                str(shape),
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


def _family(run: Run, worst: Sequence[tuple[MatrixShape, Shape]]) -> tuple[str, ...]:
    """What describes the first of the worst; of one only, since a fit takes as long as the shapes of 30 matrices."""
    if not worst or worst[0][1] is Shape.GAUSSIAN:
        return ()
    name = worst[0][0].matrix.name
    fits = fit_families(weight(run, name).distribution)
    behind = [fit.gap for fit in fits if fit.name == "Gaussian"]
    if not behind:
        return ()
    best = " or ".join(fit.name for fit in tied_families(fits))
    return (f"{name} is best described by: {best}; a Gaussian is {behind[0]:.2g} nats per value behind.",)


def _tail(matrix: MatrixShape) -> float:
    return -math.inf if math.isnan(matrix.raw.excess_kurtosis) else matrix.raw.excess_kurtosis


def _notes(shapes: Sequence[Shape], judged: Sequence[tuple[MatrixShape, Shape]]) -> tuple[str, ...]:
    notes = []
    left = len(shapes) - len(judged)
    if left:
        notes.append(
            f"{left} of {len(shapes)} matrices have fewer than {LEAST_VALUES:,} values, or only one value, and are "
            "left out of the shares."
        )
    before = median(matrix.raw.excess_kurtosis for matrix, _ in judged)
    after = median(matrix.scaled.excess_kurtosis for matrix, _ in judged)
    if before > _MOST_KURTOSIS:
        change = f"takes the median excess kurtosis from {before:.2f} to {after:.2f}"
        cause = (
            "most of the tails are rows and columns of different scale"
            if after <= _COLLAPSE * before
            else "the tails are in the values themselves, not in the scales of rows and columns"
        )
        notes.append(f"Dividing by the RMS of columns and rows {change}: {cause}.")
    return tuple(notes)


def _not_finite(run: Run, matrices: Sequence[MatrixShape]) -> tuple[str, ...]:
    names = {matrix.matrix.name for matrix in matrices}
    n = sum(entry["name"] in names and bool(entry.get("n_nonfinite")) for entry in run.metadata["sites"])
    if not n:
        return ()
    return (f"{n} of {len(matrices)} matrices hold NaN or infinities; all figures are of their finite values.",)


def _quantized(run: Run, matrices: Sequence[MatrixShape]) -> tuple[str, ...]:
    names = {matrix.matrix.name for matrix in matrices}
    kinds = Counter(
        entry["quantization"] for entry in run.metadata["sites"] if entry["name"] in names and entry["quantization"]
    )
    if not kinds:
        return ()
    note = (
        f"{kinds.total()} matrices are stored quantized ({', '.join(sorted(kinds))}): what is measured are the few "
        "values that a code can stand for, times the scale of its group."
    )
    return (note,)


_LMF: Final = "LM_facts_across_training, weight_statistics, step 142,000"

DEFINITION: Final = Definition(
    id="F8",
    title="Weights are nearly Gaussian",
    claim="The values of a weight matrix are distributed nearly like a Gaussian, with slightly heavier tails.",
    source='"Basic Facts about Language Model Internals" (2023), alignmentforum.org/posts/PDLfpRwSynu73mxGw, "Weights '
    'Are Nearly Gaussian"',
    needs=("weights",),
    measured="Every matrix with a role inside the blocks: parts of fused ones apart, each expert on its own; no "
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
        "scaled weights are judged by the same rules; the class is `Gaussian up to scales` if only they HOLD (ours)",
        f"matrices below {LEAST_VALUES:,} values are left out: 2.5 SD of a Gaussian's k must fit in 0.03 (ours)",
        f"scaled weights of matrices with a side below {_LEAST_SIDE} are left out: scaling thins their tails (ours)",
        "INCONCLUSIVE if no matrix can be judged (ours)",
    ),
    check=_check,
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
