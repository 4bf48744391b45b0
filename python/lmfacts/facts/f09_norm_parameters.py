"""F9: the parameters of the norms are the exception: they are not Gaussian."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.facts.block_matrices import by_kind, matrix_shapes, median, weight
from lmfacts.facts.definition import Definition, Objection, PublishedValue
from lmfacts.facts.fact import Evidence, Measure, Table, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lmfacts.facts.fact import Cell, Fact
    from lmfacts.facts.inputs import Inputs
    from lmfacts.run import Run

__all__ = ["DEFINITION"]

_KURTOSIS: Final = 1.5
_BIMODALITY: Final = 0.555
_SHARE: Final = 0.8
_RATIO: Final = 5.0
_FLOOR: Final = 0.05
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

    @property
    def non_gaussian(self) -> bool:
        """Whether it is heavy-tailed or bimodal."""
        return self.excess_kurtosis > _KURTOSIS or self.bimodality > _BIMODALITY


def _check(inputs: Inputs) -> Fact:
    run = inputs.weights
    assert run is not None  # the catalogue sees to it
    vectors = _norm_vectors(run)
    gains = [vector for vector in vectors if vector.is_gain]
    if not gains:
        return DEFINITION.not_applicable("The checkpoint has no gains of norms: its norms have no parameters.")
    judged = [vector for vector in gains if vector.judged]
    tables = (_kinds_table(vectors), *_kovaleva_table(vectors))
    if not judged:
        why = "they are constant, as before training"
        if not any(np.isfinite(vector.values).any() for vector in gains):
            why = "they have no finite values"
        elif all(vector.values.size < _LEAST_DIMS for vector in gains):
            why = f"they have fewer than {_LEAST_DIMS} values, too few for a kurtosis"
        elif any(vector.z.size for vector in gains):
            why = f"they are constant or have fewer than {_LEAST_DIMS} values"
        return DEFINITION.fact(
            Verdict.INCONCLUSIVE,
            f"None of the {len(gains)} gain vectors can be judged: {why}.",
            Evidence(tables=tables, notes=_notes(run, gains, judged)),
        )
    flagged = [vector for vector in judged if vector.non_gaussian]
    share = len(flagged) / len(judged)
    of_gains = median(vector.excess_kurtosis for vector in judged)
    of_matrices = median(matrix.raw.excess_kurtosis for matrix in matrix_shapes(run))
    least = math.nan if math.isnan(of_matrices) else _RATIO * max(of_matrices, _FLOOR)
    evidence = Evidence(_measures(judged, share, of_gains, of_matrices, least), tables, _notes(run, gains, judged))
    counted = f"{len(flagged)} of {len(judged)} gain vectors are not Gaussian"
    if math.isnan(least):
        why = f"{counted}, but the run has no matrix in the blocks to compare them with."
        return DEFINITION.fact(Verdict.INCONCLUSIVE, why, evidence)
    holds = share >= _SHARE and of_gains >= least
    summary = (
        f"{counted}; their median excess kurtosis is {of_gains:.3g}, that of the matrices {of_matrices:.2g}"
        f"{_final_summary(gains)}."
    )
    return DEFINITION.fact(Verdict.HOLDS if holds else Verdict.FAILS, summary, evidence)


# What is looked at


def _norm_vectors(run: Run) -> list[_Vector]:
    """The gains and biases of norms: by role, and by name where a family's table names none."""
    offset = float(run.model.get("gain_offset") or 0.0)
    found = []
    for entry in run.metadata["sites"]:
        if len(entry["shape"]) != 1:
            continue
        kind = entry["weight_kind"]
        name = entry["name"]
        if kind is not None and not kind.rpartition(".")[0].startswith("ln"):
            continue
        if kind is None and _NORM.search(entry["parameter"].rpartition(".")[0]) is None:
            continue
        is_gain = not name.endswith("bias")
        values = np.array(weight(run, name).dims.mean)
        found.append(
            _Vector(
                name=name,
                kind=_LAYER.sub("*", name) if kind is None else kind,
                layer=entry["layer"],
                is_gain=is_gain,
                of_stream=_HEAD_NORM.search(entry["parameter"]) is None,
                values=values + offset if is_gain else values,
            )
        )
    return found


def _outlier_dims(vectors: Sequence[_Vector]) -> tuple[dict[int, int], int]:
    """Dims with a gain or bias at least 3 sigma from its vector's mean: in how many layers, and of how many."""
    own = [vector for vector in vectors if vector.layer is not None and vector.of_stream]
    layers = {vector.layer for vector in own}
    hits: dict[int, set[int | None]] = {}
    for vector in own:
        for dim in np.flatnonzero(np.abs(vector.z) >= _FAR):
            hits.setdefault(int(dim), set()).add(vector.layer)
    return {dim: len(found) for dim, found in hits.items()}, len(layers)


# Evidence


def _measures(
    judged: Sequence[_Vector], share: float, of_gains: float, of_matrices: float, least: float
) -> tuple[Measure, ...]:
    n_dims = min(vector.values.size for vector in judged)
    deviation = math.sqrt(24.0 / n_dims)
    final = next((vector for vector in judged if vector.kind == _FINAL), None)
    known = not math.isnan(least)
    measures = [
        Measure(
            "share of gain vectors that are not Gaussian",
            share,
            f">= {_SHARE:g}",
            share >= _SHARE,
            note=f"of {len(judged)}; excess kurtosis > {_KURTOSIS:g} or bimodality coefficient > {_BIMODALITY:g}",
        ),
        Measure(
            "median excess kurtosis of the gains",
            of_gains,
            f">= {least:.3g}, {_RATIO:g} x the matrices'" if known else "",
            of_gains >= least if known else None,
            note=f"sampling SD sqrt(24 / d) = {deviation:.2f} at d = {n_dims}",
        ),
        Measure(
            "median excess kurtosis of the matrices",
            of_matrices,
            note=f"taken as {_FLOOR:g}" if of_matrices < _FLOOR else "",
        ),
        Measure("median bimodality coefficient of the gains", median(vector.bimodality for vector in judged)),
        Measure(
            "median share beyond 3 SD, over a Gaussian's",
            median(vector.beyond_3 for vector in judged),
        ),
    ]
    if final is not None:
        others = median(vector.largest_over_median for vector in judged if vector is not final)
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
                sum(vector.non_gaussian for vector in group if vector.judged),
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
        "Medians over the layers. Bimodality: (skewness^2 + 1) / kurtosis, a Gaussian has 0.333; more than 0.555 "
        "suggests two modes, or strong skewness. Worst: the largest excess kurtosis.",
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


def _notes(run: Run, gains: Sequence[_Vector], judged: Sequence[_Vector]) -> tuple[str, ...]:
    notes = []
    if len(judged) < len(gains):
        notes.append(
            f"{len(gains) - len(judged)} of {len(gains)} gain vectors are constant or have fewer than {_LEAST_DIMS} "
            "values, and are left out of the shares."
        )
    bimodal = [v for v in judged if v.bimodality > _BIMODALITY and not v.excess_kurtosis > _KURTOSIS]
    if bimodal:
        notes.append(
            f"{len(bimodal)} gain vectors are flagged by their bimodality alone: a test of kurtosis would miss them."
        )
    if run.model.get("norm_kind") == "rmsnorm":
        notes.append("RMSNorm has no biases.")
    return tuple(notes)


_LMF: Final = "LM_facts_across_training, weight_statistics, step 142,000"

DEFINITION: Final = Definition(
    id="F9",
    title="Norm parameters are not Gaussian",
    claim="Gains and biases of the norms are the exception among the weights: they have strong outliers, those of the "
    "final norm the most.",
    source='"Basic Facts about Language Model Internals" (2023), alignmentforum.org/posts/PDLfpRwSynu73mxGw, "Except '
    'For LayerNorm Parameters"',
    needs=("weights",),
    measured="Every gain and bias of a norm, as one sample of d values; the verdict rests on the gains. Beside them: "
    "the matrices in the blocks, all values of each as one sample. Norms inside the heads count as gains, but not in "
    "the list of dims.",
    formula=(
        "excess kurtosis: mean(z^4) - 3, with a sampling SD of sqrt(24 / d) for a Gaussian",
        "bimodality coefficient: (skewness^2 + 1) / kurtosis",
        "beyond 3 SD: n(|z| > 3) / (0.0027 d)",
    ),
    thresholds=(
        "a gain vector is not Gaussian if its excess kurtosis is above 1.5 or its bimodality coefficient above 0.555",
        "HOLDS if at least 80 % of the gain vectors are not Gaussian, and",
        "their median excess kurtosis is at least 5 x the matrices', which is taken as 0.05 where less (floor: ours)",
        "otherwise FAILS",
        f"vectors that are constant or shorter than {_LEAST_DIMS} are left out: 3 sampling SDs must fit in 1.5 (ours)",
        "INCONCLUSIVE if no gain vector or no matrix is left (ours)",
    ),
    check=_check,
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
