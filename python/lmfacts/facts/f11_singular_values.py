"""F11: the singular values of all weights follow the same power law."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.analysis.block_matrices import NO_MATRICES, block_matrices, by_kind, median
from lmfacts.charts import Chart, Figure, Key
from lmfacts.charts.kinds import kind_color, kind_name
from lmfacts.facts import requires
from lmfacts.facts.definition import Definition, Objection, PublishedValue
from lmfacts.facts.fact import Evidence, Measure, Table, Verdict
from lmfacts.facts.strictness import Strictness, at_least, at_most, judged
from lmfacts.stats.spectrum import marchenko_pastur_edge, marchenko_pastur_quantiles, marchenko_pastur_slope
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from lmfacts.facts.runs_view import RunsView
    from lmfacts.run.weight import WeightRecord
    from lmfacts.stats.spectrum import Spectrum

    Floats = NDArray[np.float64]
    from collections.abc import Sequence

    from lmfacts.analysis.block_matrices import BlockMatrix
    from lmfacts.facts.fact import Cell, Fact
    from lmfacts.facts.inputs import Inputs
    from lmfacts.run import Run
    from lmfacts.stats.spectrum import WindowFit

__all__ = ["DEFINITION", "spectra_command"]

_LEAST_RANK: Final = 64
_LEAST_R2: Final = at_least(0.97, neutral=1.0)
_MOST_BEND: Final = at_most(0.2)
_STEEPER: Final = at_most(-0.05)
_ABOVE_SHARE: Final = at_least(0.01)
_SHARE: Final = at_least(0.8, neutral=1.0)
_MOST_CV: Final = at_most(0.25)
_USUAL_SPECTRA: Final = 4096

_FIT_COLUMNS: Final = ("kind", "matrices", "power laws", "slope", "R2 power", "R2 exp.")


@dataclass(frozen=True, eq=False)
class _Spectral:
    """What the singular values of one matrix say.

    Attributes:
        matrix: which one.
        head: fit over the head.
        body: fit over the body.
        null_slope: slope of the body of a random matrix of the same shape.
        edge: where the spectrum of noise would end.
        n_above: singular values above it.
        shuffled: whether the edge was measured on the shuffled entries.
        largest_over_edge: the largest singular value over the edge.
        ranks: stable rank, participation ratio and effective rank over the rank.
    """

    matrix: BlockMatrix
    head: WindowFit
    body: WindowFit
    null_slope: float
    edge: float
    n_above: int
    shuffled: bool
    largest_over_edge: float
    ranks: tuple[float, float, float]

    @property
    def kind(self) -> str:
        """The kind of the matrix."""
        return self.matrix.kind

    @property
    def judged(self) -> bool:
        """Whether it is large enough for a fit, and not zero."""
        return self.matrix.rank >= _LEAST_RANK and math.isfinite(self.head.slope) and math.isfinite(self.body.slope)

    def structured(self, strictness: Strictness = Strictness.STATED) -> bool:
        """Whether it is unlike noise, in its body and above the edge."""
        return _ABOVE_SHARE.passed(self.n_above / self.matrix.rank, strictness) and _STEEPER.passed(
            self.body.slope - self.null_slope, strictness
        )


def _check(inputs: Inputs) -> Fact:
    run = requires.weights(inputs)
    matrices = block_matrices(run)
    if not matrices:
        raise requires.NotApplicable(NO_MATRICES)
    spectra = [spectral for matrix in matrices if (spectral := _spectral(run, matrix)) is not None]
    if not spectra:
        names = {matrix.name for matrix in matrices}
        if all(entry.n_nonfinite for entry in run.info.weights if entry.name in names):
            raise requires.Inconclusive("Every matrix in the blocks holds NaN or infinities.")
        command = spectra_command(inputs.model_argument, matrices)
        raise requires.NotApplicable("The run has no singular values of matrices in the blocks.", command)
    fitted = [spectral for spectral in spectra if spectral.judged]
    notes = _notes(len(matrices), spectra, fitted)
    if not fitted:
        rank = max(spectral.matrix.rank for spectral in spectra)
        why = f"the largest rank is {rank}"
        if rank >= _LEAST_RANK:
            why = "every matrix that is large enough is zero or of low rank"
        raise requires.Inconclusive(
            f"No spectrum can be judged: {why}; fits need {_LEAST_RANK} singular values.", Evidence(notes=notes)
        )
    tables = (_head_table(fitted), _body_table(fitted), _noise_table(fitted))
    return judged(functools.partial(_judge, fitted, tables, notes), has_interval=False)


def _judge(
    fitted: Sequence[_Spectral], tables: tuple[Table, ...], notes: tuple[str, ...], strictness: Strictness
) -> Fact:
    head = _share(fitted, lambda s: is_power_law(s.head, strictness))
    body = _share(fitted, lambda s: is_power_law(s.body, strictness))
    structured = _share(fitted, lambda s: s.structured(strictness))
    variation = _variation(fitted, lambda s: s.body.slope)
    often, alike = _SHARE.words(strictness), _MOST_CV.words(strictness)
    in_head, in_body = (_SHARE.passed(share, strictness) for share in (head, body))
    same = _MOST_CV.passed(variation, strictness)
    holds = in_head and in_body and same
    evidence = Evidence(
        measures=(
            Measure("share with a power law in the head", head, often, in_head, note=_of(fitted)),
            Measure("share with a power law in the body", body, often, in_body, note=_of(fitted)),
            Measure(
                "CV of the kinds' body slopes",
                variation,
                alike,
                same,
                note=f"{len(by_kind(fitted))} kinds, the median slope of each",
            ),
            Measure("share that is structured", structured, note="steeper than noise, and above its edge"),
            Measure("CV of the kinds' head slopes", _variation(fitted, lambda s: s.head.slope)),
        ),
        tables=tables,
        notes=notes,
    )
    summary = (
        f"Power law in the head of {_percent(head)} and the body of {_percent(body)} of {len(fitted)} matrices "
        f"({_percent(structured)} are structured); CV of the kinds' slopes {variation:.2f}."
    )
    is_structured = not holds and _SHARE.passed(structured, strictness)
    return DEFINITION.fact(
        Verdict.HOLDS if holds else Verdict.FAILS,
        summary,
        evidence,
        fact_class="structured, no common power law" if is_structured else None,
    )


def is_power_law(fit: WindowFit, strictness: Strictness = Strictness.STATED) -> bool:
    """Whether a window is a power law: better than an exponential, straight, and as steep in both halves."""
    return (
        fit.r2_power > fit.r2_exponential
        and _LEAST_R2.passed(fit.r2_power, strictness)
        and _MOST_BEND.passed(fit.bend, strictness)
    )


def spectra_command(model_id: str, matrices: Sequence[BlockMatrix]) -> str:
    """The command that computes the singular values of these matrices."""
    rank = max(matrix.rank for matrix in matrices)
    option = f" --spectra {rank}" if rank > _USUAL_SPECTRA else ""
    return f"lmfacts weights {model_id}{option} -o weights.lmfacts"


def _spectral(run: Run[WeightRecord], matrix: BlockMatrix) -> _Spectral | None:
    record = run[matrix.name]
    spectrum = record.spectrum
    if spectrum is None:
        return None
    body = spectrum.body
    edge = spectrum.marchenko_pastur_edge if record.shuffled_edge is None else record.shuffled_edge
    return _Spectral(
        matrix,
        spectrum.head,
        body,
        marchenko_pastur_slope(*matrix.shape, (body.first, body.last)),
        edge,
        spectrum.n_above(edge),
        record.shuffled_edge is not None,
        spectrum.spectral_norm / edge if edge > 0 else math.nan,
        _ranks(spectrum, matrix.rank),
    )


def _ranks(spectrum: Spectrum, rank: int) -> tuple[float, float, float]:
    return spectrum.stable_rank / rank, spectrum.participation_ratio / rank, spectrum.effective_rank / rank


def _share(judged: Sequence[_Spectral], holds: Callable[[_Spectral], bool]) -> float:
    return sum(holds(spectral) for spectral in judged) / len(judged)


def _variation(judged: Sequence[_Spectral], slope: Callable[[_Spectral], float]) -> float:
    """Standard deviation over mean of the kinds' median slopes; 0 for one kind."""
    slopes = [median(slope(spectral) for spectral in group) for group in by_kind(judged).values()]
    mean = abs(float(np.mean(slopes)))
    return float(np.std(slopes)) / mean if mean > 0 else math.inf


# Evidence


def _of(judged: Sequence[_Spectral]) -> str:
    return f"of {len(judged)} matrices"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _head_table(judged: Sequence[_Spectral]) -> Table:
    rows = tuple(_fit_row(kind, [s.head for s in group]) for kind, group in by_kind(judged).items())
    return Table(
        "Head by kind",
        _FIT_COLUMNS,
        rows,
        "Ranks 1 to max(16, r / 12); medians over the matrices of a kind. Slope of ln s on ln rank, R2 of that line, "
        "and R2 of the line of ln s on rank.",
    )


def _body_table(judged: Sequence[_Spectral]) -> Table:
    rows = tuple(
        (*_fit_row(kind, [s.body for s in group]), median(s.null_slope for s in group))
        for kind, group in by_kind(judged).items()
    )
    return Table(
        "Body by kind",
        (*_FIT_COLUMNS, "slope of noise"),
        rows,
        "Ranks r / 96 + 1 to r / 2. Noise: a random matrix of the same shape, with R2 exp. 0.999 and R2 power 0.85.",
    )


def _fit_row(kind: str, fits: Sequence[WindowFit]) -> tuple[Cell, ...]:
    return (
        kind,
        len(fits),
        sum(is_power_law(fit) for fit in fits),
        median(fit.slope for fit in fits),
        median(fit.r2_power for fit in fits),
        median(fit.r2_exponential for fit in fits),
    )


def _noise_table(judged: Sequence[_Spectral]) -> Table:
    rows: list[tuple[Cell, ...]] = [
        (
            kind,
            median(s.largest_over_edge for s in group),
            median(s.n_above / s.matrix.rank for s in group),
            sum(s.shuffled for s in group),
            sum(s.structured() for s in group),
            *(median(s.ranks[index] for s in group) for index in range(3)),
        )
        for kind, group in by_kind(judged).items()
    ]
    return Table(
        "Against noise by kind",
        (
            "kind",
            "largest / edge",
            "share above edge",
            "shuffled edges",
            "structured",
            "stable rank",
            "participation",
            "effective rank",
        ),
        tuple(rows),
        "Medians; the last three over the rank: participation and effective rank (weights s^2) of a square Gaussian "
        "matrix are 0.50 and 0.61. Shuffled edges: matrices of excess kurtosis above 5, whose edge was measured on "
        "their shuffled entries.",
    )


def _notes(n_matrices: int, spectra: Sequence[_Spectral], judged: Sequence[_Spectral]) -> tuple[str, ...]:
    notes = []
    absent, left_out = n_matrices - len(spectra), len(spectra) - len(judged)
    if absent:
        notes.append(
            f"{absent} of {n_matrices} matrices have no singular values in the run: they are larger than its "
            "--spectra, or hold values that are not finite."
        )
    if left_out:
        notes.append(
            f"{left_out} matrices are left out: a side is below {_LEAST_RANK}, or they are zero or of low rank."
        )
    if judged:
        n = sum(s.body.r2_exponential > s.body.r2_power for s in judged)
        notes.append(
            f"The body of {n} of {len(judged)} matrices is closer to an exponential in rank than to a power law; so is "
            "that of noise."
        )
    return tuple(notes)


# The figures

_LEAST_DRAWN_RANK: Final = 16
_MOST_DRAWN: Final = 220


def _figures(view: RunsView) -> list[Figure]:
    """The spectra of one layer's matrices, and what all layers have."""
    chosen = {kind: weight for kind, weight in view.middle_matrices.items() if _spectrum(weight) is not None}
    if not chosen:
        return []
    drawings = tuple(_one(kind, weight) for kind, weight in chosen.items())
    one = Figure(
        "Singular values of one matrix of each kind",
        "Singular values by rank on logarithmic axes, over the largest that a random matrix of the same size and scale "
        "has: those above 1 are structure. A power law is a straight line, but so, nearly, is pure noise (dotted) over "
        "most of its ranks: what counts is how much steeper the values fall, and whether the power law (orange) "
        "follows the body better than an exponential in rank (green).",
        drawings,
        (
            Key("singular values", "blue"),
            Key("random matrix", "ink", "dotted"),
            Key("power law, fitted to the body", "orange", "dashed"),
            Key("exponential, fitted to the body", "green", "dashed"),
        ),
    )
    slopes = _by_depth(view, "f11-slope", "Slope of the body", "ln s against ln rank", lambda s: s.body.slope)
    above = _by_depth(
        view,
        "f11-above",
        "Share above the edge of noise",
        "share of the singular values",
        lambda s: s.n_above(s.marchenko_pastur_edge) / max(s.values.size, 1),
    )
    kinds = [kind_name(group.kind) for group in view.matrices]
    depth = Figure(
        "The same by depth",
        "Lines of one kind that stay together and near those of the others would be one pattern for all. The slope is "
        "that of the power law fitted to the middle ranks.",
        (slopes, above),
        tuple(Key(kind, kind_color(kind)) for kind in kinds),
    )
    return [one, depth]


def _spectrum(weight: WeightRecord) -> Spectrum | None:
    spectrum = weight.spectrum
    usable = spectrum is not None and spectrum.rank >= _LEAST_DRAWN_RANK and spectrum.marchenko_pastur_edge > 0
    return spectrum if usable else None


def _one(kind: str, weight: WeightRecord) -> Chart:
    spectrum = weight.spectrum
    assert spectrum is not None
    values = spectrum.values[: spectrum.rank] / spectrum.marchenko_pastur_edge
    noise = marchenko_pastur_quantiles(*spectrum.shape) / marchenko_pastur_edge(*spectrum.shape, 1.0)
    drawn = np.unique(np.geomspace(1, values.size, _MOST_DRAWN).round().astype(int))
    ranks = np.arange(1, noise.size + 1)
    name = f"f11-{kind.replace(' ', '-').replace('_', '-')}"
    chart = Chart(name, f"{kind}, layer {weight.layer}", x="rank", y="over the edge of noise")
    top = max(float(values[0]), 1.0) * 1.5
    chart.limits_x(0.85, noise.size * 1.2)
    # The very last ranks fall off a cliff that would take most of the axis.
    chart.limits_y(max(float(values[int(0.97 * (values.size - 1))]) * 0.7, top * 1e-4), top)
    chart.log("x")
    chart.log("y")
    chart.rule(y=1.0)
    null = np.unique(np.geomspace(1, noise.size, _MOST_DRAWN).round().astype(int))
    chart.line(null, noise[null - 1], "ink", style="dotted", width=1.5)
    chart.line(drawn, values[drawn - 1], "blue", width=2.0)
    body = spectrum.body
    if math.isfinite(body.slope):
        _fits(chart, values, ranks, body.first, body.last)
    return chart.described(
        f"Spectrum of {weight.name}: the largest singular value is {numbers.number(float(values[0]))} times the "
        f"edge of noise, {spectrum.n_above(spectrum.marchenko_pastur_edge)} of {spectrum.values.size} lie above "
        f"it. Body: slope {numbers.number(body.slope)}, R2 {numbers.number(body.r2_power)} for a power law and "
        f"{numbers.number(body.r2_exponential)} for an exponential."
    )


def _fits(chart: Chart, values: Floats, ranks: NDArray[np.int64], first: int, last: int) -> None:
    """Both least-squares fits of the body, drawn over it."""
    x, y = ranks[first - 1 : last].astype(float), np.log(values[first - 1 : last])
    for of, color in ((np.log, "orange"), (np.asarray, "green")):
        slope, start = np.polyfit(of(x), y, 1)
        chart.line(x, np.exp(start + slope * of(x)), color, style="dashed", width=1.6, above=4)


def _by_depth(view: RunsView, name: str, title: str, y: str, value: Callable[[Spectrum], float]) -> Chart:
    chart = Chart(name, title, x="layer", y=y)
    told, span, ends = [], [0], [0.0]
    for group in view.matrices:
        by_layer: dict[int, list[float]] = {}
        for figures_of_one in group.figures:
            weight = figures_of_one.weight
            spectrum = _spectrum(weight)
            if spectrum is not None and weight.layer is not None:
                by_layer.setdefault(weight.layer, []).append(value(spectrum))
        line = {layer: float(np.median(values)) for layer, values in sorted(by_layer.items())}
        if line:
            chart.line(list(line), list(line.values()), kind_color(group.kind))
            middle = float(np.median(list(line.values())))
            told.append(f"{kind_name(group.kind)} {numbers.number(middle)}")
            span += list(line)
            ends += [v for v in line.values() if math.isfinite(v)]
    chart.limits_x(min(span) - 0.5, max(span) + 0.5)
    reach = max(ends) - min(ends) or 1.0
    chart.limits_y(min(ends) - 0.06 * reach * (min(ends) < 0), max(ends) + 0.06 * reach)
    chart.whole_numbers()
    if min(ends) >= 0:
        chart.percent("y")
    return chart.described(f"{title}, median over the layers: {', '.join(told)}.")


# The catalogue's entry

_GAUSSIAN: Final = "i.i.d. Gaussian 768 x 768"
_LINES: Final = "slope, R2_pow, R2_exp on ranks"

DEFINITION: Final = Definition(
    id="F11",
    title="Singular values follow one power law",
    claim="The singular values of all weight matrices show the same pattern: a power law in rank.",
    source='"Basic Facts about Language Model Internals" (2023), alignmentforum.org/posts/PDLfpRwSynu73mxGw, "All '
    'Weight Parameters Show The Same Singular Value Pattern (Power Law)"',
    needs=("weights",),
    measured="The singular values of every matrix with a role inside the blocks. A straight line of ln s against ln "
    "rank is no evidence on its own, since noise has one too; so each fit is compared with an exponential in rank, "
    "against the slopes of its own halves, and against a random matrix of the same shape. The fits of WeightWatcher "
    "are in F15.",
    formula=(
        "ln s_k = a + b ln k over a window of ranks k from 1: slope b, R2_pow; ln s_k = a + c k: R2_exp",
        "head: ranks 1 to max(16, r / 12); body: ranks r / 96 + 1 to r / 2 (1 to 64 and 9 to 384 of 768)",
        "edge of noise: sigma (sqrt m + sqrt n)",
        "if the excess kurtosis is above 5: 1.05 (ours) x the largest singular value of 3 shuffles of the entries",
        "slope of noise: that of the quantiles of the Marchenko-Pastur law",
    ),
    thresholds=(
        "structured: at least 1 % of the singular values above the edge, and a body slope <= that of noise - 0.05",
        "a window is a power law if R2_pow > R2_exp, R2_pow >= 0.97, and both halves have its slope within 20 %",
        "HOLDS if at least 80 % of the matrices are power laws in the head and 80 % in the body, and",
        "the CV over the kinds of their median body slopes is at most 0.25; otherwise FAILS (ours)",
        "the class is `structured, no common power law` if it FAILS with at least 80 % structured (ours)",
        "10 % looser or stricter: of the distance of 0.97 and 80 % from 1, and of the other limits (ours)",
        f"matrices of rank below {_LEAST_RANK} are left out; INCONCLUSIVE if none is left (ours)",
    ),
    judge=_check,
    figures=_figures,
    objections=(
        Objection(
            "lmfacts",
            "A matrix of independent Gaussian entries has a line of R2 0.85, too. In trained attention matrices an "
            "exponential in rank usually beats the power law in the body.",
        ),
        Objection(
            "Staats, Thamm & Rosenow (arXiv:2410.17770)",
            "Trained matrices depart from the law of random ones at both ends of the spectrum, each type of layer in "
            "its own way.",
        ),
    ),
    published=(
        PublishedValue(_GAUSSIAN, f"{_LINES} 9-384", "-0.270, 0.85, 0.999", "simulation", "A"),
        PublishedValue(_GAUSSIAN, f"{_LINES} 1-64", "-0.052, 0.88, 0.99", "simulation", "A"),
        PublishedValue(_GAUSSIAN, "participation ratio, effective rank", "383, 465", "simulation", "A"),
    ),
)
