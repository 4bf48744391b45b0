"""F9: the parameters of the norms are the exception: they are not Gaussian."""

from __future__ import annotations

import functools
import math
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.analysis.block_matrices import block_matrices, by_kind, matrix_shapes, median
from lmfacts.charts import Chart, Figure, Key
from lmfacts.charts.colors import SERIES
from lmfacts.facts import requires
from lmfacts.facts.definition import Definition, Objection, PublishedValue
from lmfacts.facts.fact import Evidence, Measure, Table, Verdict
from lmfacts.facts.strictness import Strictness, at_least, at_most, judged
from lmfacts.run.weight_arrays import SLICES_A_SIDE
from lmfacts.stats.shape import BIMODAL
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lmfacts.analysis.weights_view import WeightGroup
    from lmfacts.facts.fact import Cell, Fact
    from lmfacts.facts.inputs import Inputs
    from lmfacts.facts.runs_view import RunsView
    from lmfacts.run import Run
    from lmfacts.run.weight import WeightRecord

__all__ = ["DEFINITION", "is_flagged"]

_UNIFORM: Final = 5 / 9
_KURTOSIS: Final = at_least(1.5)
_BIMODALITY: Final = at_least(BIMODAL, neutral=_UNIFORM)
_SHARE: Final = at_least(0.8, neutral=1.0)
_RATIO: Final = at_most(0.5)
_LEAST_DIMS: Final = 96
_FAR: Final = 3.0
_BEYOND_3: Final = math.erfc(_FAR / math.sqrt(2.0))
_LAYER_SHARE: Final = 0.5
_MOST_DIMS: Final = 16

_NORM: Final = re.compile(r"norm|(?:^|[._])ln(?:$|[._\d])", re.IGNORECASE)
_HEAD_NORM: Final = re.compile(r"(?:^|[._])[qk]_?(?:norm|ln|layernorm)", re.IGNORECASE)
_LAYER: Final = re.compile(r"(?<=\.)\d+(?=\.)")
_FINAL: Final = "ln_final.gain"


@dataclass(frozen=True, eq=False)
class _Vector:
    """A gain or bias of a norm.

    Attributes:
        name: `blocks.3.ln1.gain`, or the parameter's name where it has no role.
        kind: the name without its block.
        layer: the block, or None.
        is_gain: a gain, not a bias.
        of_stream: whether its dims are those of the residual stream (norms of heads are not).
        values: float64 [d], as the norm multiplies with or adds them.
    """

    name: str
    kind: str
    layer: int | None
    is_gain: bool
    of_stream: bool
    values: NDArray[np.float64]

    @cached_property
    def z(self) -> NDArray[np.float64]:
        """(x - mean) / std; empty where all are equal."""
        finite = self.values[np.isfinite(self.values)]
        spread = float(finite.std()) if finite.size else 0.0
        if not spread > 0:
            return np.zeros(0)
        return np.asarray((self.values - finite.mean()) / spread)

    @cached_property
    def excess_kurtosis(self) -> float:
        """Fourth standardized moment less 3."""
        return float(np.nanmean(self.z**4)) - 3.0 if self.z.size else math.nan

    @cached_property
    def bimodality(self) -> float:
        """(skewness^2 + 1) / kurtosis."""
        return (float(np.nanmean(self.z**3)) ** 2 + 1.0) / (self.excess_kurtosis + 3.0) if self.z.size else math.nan

    @property
    def beyond_3(self) -> float:
        """Values more than 3 standard deviations from the mean, over the number that a Gaussian has there."""
        return float((np.abs(self.z) > _FAR).sum()) / (_BEYOND_3 * self.z.size) if self.z.size else math.nan

    @property
    def largest_over_median(self) -> float:
        """The largest |x| over the median |x|."""
        sizes = np.abs(self.values[np.isfinite(self.values)])
        middle = float(np.median(sizes)) if sizes.size else 0.0
        return float(sizes.max()) / middle if middle > 0 else math.nan

    @property
    def judged(self) -> bool:
        """Whether it is long enough and not constant."""
        return self.values.size >= _LEAST_DIMS and self.z.size > 0

    def flagged(self, strictness: Strictness = Strictness.STATED) -> bool:
        """Whether it is heavy-tailed or bimodal."""
        return is_flagged(self.excess_kurtosis, self.bimodality, strictness)


def is_flagged(excess_kurtosis: float, bimodality: float, strictness: Strictness = Strictness.STATED) -> bool:
    """Whether a sample is not Gaussian: heavy-tailed or bimodal."""
    return _KURTOSIS.passed(excess_kurtosis, strictness) or _BIMODALITY.passed(bimodality, strictness)


@dataclass(frozen=True)
class _Slices:
    """Rows and columns of the matrices that are as long as the gains, or nearly.

    Attributes:
        length: how many values they have; 0 without any.
        shapes: excess kurtosis and bimodality coefficient of each.
    """

    length: int
    shapes: tuple[tuple[float, float], ...]

    @classmethod
    def of(cls, run: Run[WeightRecord], n_dims: int) -> _Slices:
        """Of the matrices in the blocks: those whose length is nearest to `n_dims`, by their ratio."""
        slices = np.concatenate([np.zeros((0, 3)), *(run[m.name].slices for m in block_matrices(run))])
        slices = slices[(slices[:, 0] > 0) & np.isfinite(slices[:, 2])]
        if not slices.size:
            return cls(0, ())
        if (slices[:, 0] >= _LEAST_DIMS).any():
            slices = slices[slices[:, 0] >= _LEAST_DIMS]
        lengths = np.unique(slices[:, 0])
        nearest = lengths[np.argmin(np.abs(np.log(lengths / n_dims)))]
        _, third, fourth = slices[slices[:, 0] == nearest].T
        return cls(int(nearest), tuple(zip((fourth - 3.0).tolist(), ((third**2 + 1.0) / fourth).tolist(), strict=True)))

    def share(self, strictness: Strictness) -> float:
        """The share that is not Gaussian, by the same test; NaN without any."""
        if not self.shapes:
            return math.nan
        return sum(is_flagged(*shape, strictness) for shape in self.shapes) / len(self.shapes)


def _check(inputs: Inputs) -> Fact:
    run = requires.weights(inputs)
    vectors = _norm_vectors(run)
    gains = [vector for vector in vectors if vector.is_gain]
    if not gains:
        raise requires.NotApplicable("The checkpoint has no gains of norms: its norms have no parameters.")
    kept = [vector for vector in gains if vector.judged]
    notes = _notes(run, gains, kept)
    tables = (_kinds_table(vectors), *_kovaleva_table(vectors))
    if not kept:
        raise requires.Inconclusive(
            f"None of the {len(gains)} gain vectors can be judged: {_why_open(gains)}.",
            Evidence(tables=tables, notes=notes),
        )
    matrices = block_matrices(run)
    if matrices and not any(run[matrix.name].slices.size for matrix in matrices):
        raise requires.NotApplicable(
            "The run keeps no single rows and columns of the matrices to compare the gains with: it was recorded by an "
            "earlier version.",
            f"lmfacts weights {inputs.model_argument} -o weights.lmfacts",
        )
    lengths = Counter(vector.values.size for vector in kept)
    slices = _Slices.of(run, max(lengths, key=lambda length: (lengths[length], length)))
    evidence = Evidence(_described(run, kept), tables, notes)
    judge = functools.partial(_judge, gains, kept, slices, evidence, has_matrices=bool(matrices))
    return judged(judge, has_interval=False)


def _why_open(gains: Sequence[_Vector]) -> str:
    """Why no gain vector can be judged."""
    if not any(np.isfinite(vector.values).any() for vector in gains):
        return "they have no finite values"
    if all(vector.values.size < _LEAST_DIMS for vector in gains):
        return f"they have fewer than {_LEAST_DIMS} values, too few for a kurtosis"
    if any(vector.z.size for vector in gains):
        return f"they are constant or have fewer than {_LEAST_DIMS} values"
    return "they are constant, as before training"


def _judge(
    gains: Sequence[_Vector],
    kept: Sequence[_Vector],
    slices: _Slices,
    described: Evidence,
    strictness: Strictness,
    *,
    has_matrices: bool,
) -> Fact:
    """The verdict; `described` is what does not depend on thresholds."""
    n_flagged = sum(vector.flagged(strictness) for vector in kept)
    share, of_slices = n_flagged / len(kept), slices.share(strictness)
    ratio = of_slices / share if share > 0 else math.nan if math.isnan(of_slices) else math.inf
    enough = slices.length >= _LEAST_DIMS
    often, rarely = _SHARE.passed(share, strictness), _RATIO.passed(ratio, strictness)
    test = f"excess kurtosis {_KURTOSIS.words(strictness)} or bimodality coefficient {_BIMODALITY.words(strictness)}"
    measures = (
        Measure(
            "share of gain vectors that are not Gaussian",
            share,
            _SHARE.words(strictness),
            often,
            note=f"of {len(kept)}; {test}",
        ),
        Measure(
            "share of rows and columns that are not Gaussian, over the gains'",
            ratio,
            _RATIO.words(strictness),
            rarely if enough else None,
            note=f"{of_slices:.3g} of {len(slices.shapes)} of {slices.length} values, by the same test"
            if slices.shapes
            else "",
        ),
        *described.measures,
    )
    evidence = Evidence(measures, described.tables, described.notes)
    beside_limit = f"{numbers.percent(n_flagged / len(kept))}, of {numbers.percent(_SHARE.value)} needed"
    counted = f"{n_flagged} of {len(kept)} gain vectors are not Gaussian ({beside_limit})"
    if not enough:
        why = "the run has no matrix in the blocks to compare them with"
        if has_matrices:
            why = "no row or column of the matrices in the blocks has values that vary, to compare them with"
        if slices.shapes:
            why = f"the rows and columns of the matrices have fewer than {_LEAST_DIMS} values, too few for a comparison"
        return DEFINITION.fact(Verdict.INCONCLUSIVE, f"{counted}, but {why}.", evidence)
    summary = (
        f"{counted}; of {len(slices.shapes):,} rows and columns of matrices, {slices.length} values each, "
        f"{numbers.percent(of_slices)} are not, by the same test{_final_summary(gains)}."
    )
    return DEFINITION.fact(Verdict.HOLDS if often and rarely else Verdict.FAILS, summary, evidence)


# What is looked at


def _norm_vectors(run: Run[WeightRecord]) -> list[_Vector]:
    """The gains and biases of norms: by role, and by name where a family's table names none."""
    offset = float(run.model.get("gain_offset") or 0.0)
    vectors = []
    for entry in run.info.weights:
        if len(entry.shape) != 1:
            continue
        kind = entry.weight_kind
        name = entry.name
        if kind is not None and not kind.rpartition(".")[0].startswith("ln"):
            continue
        if kind is None and _NORM.search(entry.parameter.rpartition(".")[0]) is None:
            continue
        is_gain = not name.endswith("bias")
        values = np.array(run[name].dims.mean)
        vectors.append(
            _Vector(
                name=name,
                kind=_LAYER.sub("*", name) if kind is None else kind,
                layer=entry.layer,
                is_gain=is_gain,
                of_stream=_HEAD_NORM.search(entry.parameter) is None,
                values=values + offset if is_gain else values,
            )
        )
    return vectors


def _outlier_dims(vectors: Sequence[_Vector]) -> tuple[dict[int, int], int]:
    """Dims with a gain or bias at least 3 sigma from its vector's mean: in how many layers, and of how many."""
    own = [vector for vector in vectors if vector.layer is not None and vector.of_stream]
    layers = {vector.layer for vector in own}
    hits: dict[int, set[int | None]] = {}
    for vector in own:
        for dim in np.flatnonzero(np.abs(vector.z) >= _FAR):
            hits.setdefault(int(dim), set()).add(vector.layer)
    return {dim: len(places) for dim, places in hits.items()}, len(layers)


# Evidence


def _described(run: Run[WeightRecord], kept: Sequence[_Vector]) -> tuple[Measure, ...]:
    """Numbers that decide nothing."""
    n_dims = min(vector.values.size for vector in kept)
    deviation = math.sqrt(24.0 / n_dims)
    final = next((vector for vector in kept if vector.kind == _FINAL), None)
    measures = [
        Measure(
            "median excess kurtosis of the gains",
            median(vector.excess_kurtosis for vector in kept),
            note=f"sampling SD sqrt(24 / d) = {deviation:.2f} at d = {n_dims}",
        ),
        Measure("median excess kurtosis of the matrices", median(m.raw.excess_kurtosis for m in matrix_shapes(run))),
        Measure("median bimodality coefficient of the gains", median(vector.bimodality for vector in kept)),
        Measure("median share beyond 3 SD, over a Gaussian's", median(vector.beyond_3 for vector in kept)),
    ]
    if final is not None:
        others = median(vector.largest_over_median for vector in kept if vector is not final)
        measures.append(
            Measure(
                "final norm: largest gain over the median",
                final.largest_over_median,
                note="" if math.isnan(others) else f"median of the other gains: {others:.3g}",
            )
        )
    return tuple(measures)


def _final_summary(gains: Sequence[_Vector]) -> str:
    final = next((vector for vector in gains if vector.kind == _FINAL), None)
    if final is None or math.isnan(final.largest_over_median):
        return ""
    return f"; the final norm's largest gain is {final.largest_over_median:.3g}x its median"


def _kinds_table(vectors: Sequence[_Vector]) -> Table:
    rows: list[tuple[Cell, ...]] = []
    for kind, group in by_kind(vectors).items():
        worst = max(group, key=lambda vector: -math.inf if not vector.z.size else vector.excess_kurtosis)
        rows.append(
            (
                kind,
                len(group),
                sum(vector.flagged() for vector in group if vector.judged),
                median(vector.excess_kurtosis for vector in group),
                median(vector.bimodality for vector in group),
                median(vector.beyond_3 for vector in group),
                median(vector.largest_over_median for vector in group),
                worst.excess_kurtosis,
                worst.layer,
            )
        )
    return Table(
        "Parameters of norms by kind",
        (
            "kind",
            "vectors",
            "not Gaussian",
            "ex. kurtosis",
            "bimodality",
            "beyond 3 SD / expected",
            "largest / median",
            "worst",
            "in layer",
        ),
        tuple(rows),
        "Medians over the layers. Bimodality: (skewness^2 + 1) / kurtosis, a Gaussian has 0.333, a uniform law 0.556; "
        "0.6 or more suggests two modes, or strong skewness. Worst: the largest excess kurtosis.",
    )


def _kovaleva_table(vectors: Sequence[_Vector]) -> tuple[Table, ...]:
    hits, n_layers = _outlier_dims(vectors)
    if not n_layers:
        return ()
    often = sorted((dim for dim, n in hits.items() if n >= _LAYER_SHARE * n_layers), key=lambda dim: (-hits[dim], dim))
    rows: tuple[tuple[Cell, ...], ...] = tuple((dim, hits[dim], n_layers) for dim in often[:_MOST_DIMS])
    more = f" {len(often) - _MOST_DIMS} more dims are not listed." if len(often) > _MOST_DIMS else ""
    none = " There are none." if not often else ""
    return (
        Table(
            "Dims whose norm parameters stand out",
            ("dim", "layers", "of"),
            rows,
            "A gain or bias at least 3 SD from the mean of its vector, in the same dim, in at least half of the layers "
            f"(Kovaleva et al., arXiv:2105.06990).{more}{none}",
        ),
    )


def _notes(run: Run[WeightRecord], gains: Sequence[_Vector], kept: Sequence[_Vector]) -> tuple[str, ...]:
    notes = []
    if len(kept) < len(gains):
        notes.append(
            f"{len(gains) - len(kept)} of {len(gains)} gain vectors are constant or have fewer than {_LEAST_DIMS} "
            "values, and are left out of the shares."
        )
    bimodal = [v for v in kept if v.flagged() and not _KURTOSIS.passed(v.excess_kurtosis)]
    if bimodal:
        notes.append(
            f"{len(bimodal)} gain vectors are flagged by their bimodality alone: a test of kurtosis would miss them."
        )
    if run.model.get("norm_kind") == "rmsnorm":
        notes.append("RMSNorm has no biases.")
    return tuple(notes)


# The figures

_BANDS: Final = (0.0, 0.05, 0.5, 0.95, 1.0)
_MOST_KINDS: Final = 4
_BINS: Final = 60


def _figures(view: RunsView) -> list[Figure]:
    """Gains by depth, the gains of the final norm, and kurtosis beside that of the matrices."""
    if view.weights is None:
        return []
    gains = [group for group in view.weights.vectors if group.kind.endswith("gain") and _filled(group)]
    if not gains:
        return []
    blocks = [group for group in gains if len(_filled(group)) > 1][:_MOST_KINDS]
    drawings = [_by_depth(group) for group in blocks]
    final = [weight for group in gains if group not in blocks for weight in _filled(group)]
    drawings += [_entries(weight) for weight in final[:1]]
    drawings.append(_kurtosis(view, gains))
    n = len(blocks)
    return [
        Figure(
            "Gains of the norms",
            (
                "By depth: the darker band holds 90 % of a norm's gains, the lines are the smallest and the largest. "
                if n
                else ""
            )
            + ("Then the gains of the final norm as a histogram, with its extremes marked. " if final else "")
            + "The last panel compares the excess kurtosis of gains with that of the matrices of the same layer: the "
            "claim is that norms are the exception. A kurtosis alone misses gains with two humps.",
            tuple(drawings),
            (
                Key("90 % of the gains", "fill", "area"),
                Key("median gain", "blue"),
                Key("smallest and largest gain", "orange"),
            )
            if n
            else (),
        )
    ]


def _filled(group: WeightGroup) -> list[WeightRecord]:
    return [figures.weight for figures in group.figures if figures.weight.n]


def _by_depth(group: WeightGroup) -> Chart:
    weights = _filled(group)
    layers = [index if weight.layer is None else weight.layer for index, weight in enumerate(weights)]
    bands = np.array([weight.quantile(_BANDS) for weight in weights])
    bands[:, 0], bands[:, -1] = [weight.min for weight in weights], [weight.max for weight in weights]
    name = f"f9-{group.kind.replace('.', '-').replace('*', 'n')}"
    chart = Chart(name, f"{group.kind} by depth", x="layer", y="gain")
    low, lower, median, upper, high = bands.T
    chart.limits_x(layers[0] - 0.5, layers[-1] + 0.5)
    chart.whole_numbers()
    chart.rule(y=0.0, color="ink")
    chart.area(layers, lower, upper)
    chart.line(layers, low, "orange", width=1.3)
    chart.line(layers, high, "orange", width=1.3)
    chart.line(layers, median, "blue")
    return chart.described(
        f"{group.kind} by layer: medians from {numbers.number(float(median.min()))} to "
        f"{numbers.number(float(median.max()))}, single gains from {numbers.number(float(low.min()))} to "
        f"{numbers.number(float(high.max()))}."
    )


def _entries(weight: WeightRecord) -> Chart:
    """The gains of one norm as a histogram over their whole range; the smallest and the largest with their dims."""
    values = weight.dims.mean  # a vector is one row: the mean of each dim is its value
    finite = np.flatnonzero(np.isfinite(values))
    least, most = finite[np.argmin(values[finite])], finite[np.argmax(values[finite])]
    margin = 0.05 * float(values[most] - values[least]) or 0.5
    edges = np.linspace(values[least] - margin, values[most] + margin, _BINS + 1)
    counts, _ = np.histogram(values[finite], edges)
    chart = Chart("f9-final", weight.name, x="gain", y="number of gains per bin")
    floor = 0.5
    chart.limits_x(edges[0], edges[-1])
    chart.limits_y(floor, max(float(counts.max()) * 1.6, 4.0))
    chart.log("y")
    chart.bars(edges, np.maximum(counts, floor), "blue", floor=floor)
    for dim, word, place in ((least, "smallest", 0.02), (most, "largest", 0.985)):
        value = numbers.number(float(values[dim])).replace("-", "\N{MINUS SIGN}")
        chart.note(f"{word}: {value}, dim {dim}", place, 0.95, align="left" if dim == least else "right")
    return chart.described(
        f"Gains of {weight.name}: median {numbers.number(float(np.median(values[finite])))}, from "
        f"{numbers.number(float(values[least]))} at dim {least} to {numbers.number(float(values[most]))} at dim "
        f"{most}."
    )


def _kurtosis(view: RunsView, gains: list[WeightGroup]) -> Chart:
    """Excess kurtosis of gains and of matrices by layer."""
    every: dict[int, list[float]] = {}
    for group in view.matrices:
        for layer, value in group.by_layer("excess_kurtosis").items():
            if math.isfinite(value):
                every.setdefault(layer, []).append(value)
    medians = {layer: float(np.median(values)) for layer, values in sorted(every.items())}
    chart = Chart("f9-kurtosis", "Excess kurtosis: gains and matrices", x="layer", y="Gaussian: 0")
    chart.margins(right=66)
    labels, tops, span = [], [_KURTOSIS.value * 2], [*medians]
    for group, color in zip(gains, ("orange", "green", "purple", *SERIES), strict=False):
        values = group.by_layer("excess_kurtosis")
        if len(values) > 1:
            chart.line(list(values), list(values.values()), color)
            last = next((v for v in reversed(values.values()) if math.isfinite(v)), math.nan)
            labels.append((group.kind.removesuffix(".gain"), last, color))
            tops += [value for value in values.values() if math.isfinite(value)]
            span += list(values)
    chart.line(list(medians), list(medians.values()), "blue")
    if medians:
        labels.append(("matrices", list(medians.values())[-1], "blue"))
        tops += list(medians.values())
    chart.limits_x(min(span, default=0) - 0.5, max(span, default=0) + 0.5)
    chart.symmetric_log(min(tops), max(tops))
    chart.whole_numbers()
    chart.rule(y=_KURTOSIS.value)
    chart.labels_at_the_end(labels)
    told = "; ".join(f"{kind} ends at {numbers.number(value)}" for kind, value, _ in labels)
    return chart.described(f"Excess kurtosis by layer: {told}.")


# The catalogue's entry

_LMF: Final = "LM_facts_across_training, weight_statistics, step 142,000"

DEFINITION: Final = Definition(
    id="F9",
    title="Norm parameters are not Gaussian",
    claim="Gains and biases of the norms are the exception among the weights: they have strong outliers, those of the "
    "final norm the most.",
    source='"Basic Facts about Language Model Internals" (2023), alignmentforum.org/posts/PDLfpRwSynu73mxGw, "Except '
    'For LayerNorm Parameters"',
    needs=("weights",),
    measured="Every gain and bias of a norm, as one sample of d values; the verdict rests on the gains. They are "
    f"compared with samples of the same length from the matrices in the blocks: {SLICES_A_SIDE} rows and "
    f"{SLICES_A_SIDE} columns of each, drawn at random, of those lengths the one nearest to d. Norms inside the heads "
    "count as gains, but not in the list of dims.",
    formula=(
        "excess kurtosis: mean(z^4) - 3, with a sampling SD of sqrt(24 / d) for a Gaussian",
        "bimodality coefficient: (skewness^2 + 1) / kurtosis",
        "beyond 3 SD: n(|z| > 3) / (0.0027 d)",
    ),
    thresholds=(
        "a vector is not Gaussian if its excess kurtosis is at least 1.5 or its bimodality coefficient at least 0.6",
        "0.6 (ours): above the 5/9 of a uniform law, which has no two modes",
        "HOLDS if at least 80 % of the gain vectors are not Gaussian, and",
        "the share among rows and columns of the matrices is at most half of theirs (ours); otherwise FAILS",
        f"vectors that are constant or shorter than {_LEAST_DIMS} are left out: 3 sampling SDs must fit in 1.5 (ours)",
        "INCONCLUSIVE if no gain vector is left, or no row or column as long as that (ours)",
        "10 % looser or stricter: of the distance of 80 % from 1 and of 0.6 from 5/9, and of the other limits (ours)",
    ),
    judge=_check,
    figures=_figures,
    objections=(
        Objection(
            "Kovaleva et al. (arXiv:2105.06990)",
            "The outliers are few and at the same dims in most layers: they are a mechanism of their own rather than "
            "the tail of a distribution.",
        ),
    ),
    published=(
        PublishedValue("pythia-70m-v0", "ln_f gain: mean / std / max", "6.780 / 1.676 / 17.70", _LMF, "A"),
        PublishedValue("pythia-160m-v0", "ln_f gain: mean / std / max", "3.167 / 0.214 / 4.27", _LMF, "A"),
        PublishedValue("pythia-410m-v0", "ln_f gain: mean / std / max", "2.597 / 0.192 / 3.03", _LMF, "A"),
        PublishedValue("pythia-1b-v0", "ln_f gain: mean / std / max", "2.531 / 0.122 / 3.72", _LMF, "A"),
        PublishedValue("pythia-1.4b-v0", "ln_f gain: mean / std / max", "2.976 / 0.269 / 3.71", _LMF, "A"),
    ),
)
