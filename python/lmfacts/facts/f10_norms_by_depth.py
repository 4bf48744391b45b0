"""F10: weights that write to the residual stream grow with depth, those that read it do not."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.analysis.weight_norms import NormTrend, norm_trends
from lmfacts.charts import Chart, Figure, Key
from lmfacts.charts.kinds import kind_color, kind_name
from lmfacts.facts import requires
from lmfacts.facts.definition import Definition, Objection, PublishedValue
from lmfacts.facts.fact import Evidence, Measure, Table, Verdict
from lmfacts.facts.strictness import Strictness, at_least, at_most, judged
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lmfacts.analysis.weight_norms import NormTrend
    from lmfacts.facts.fact import Cell, Fact
    from lmfacts.facts.inputs import Inputs
    from lmfacts.facts.runs_view import RunsView

__all__ = ["DEFINITION"]

_LEAST_RHO: Final = at_least(0.7)
_LEAST_GROWTH: Final = at_least(1.25, neutral=1.0)
_MOST_CHANGE: Final = at_most(1.35, neutral=1.0)
_LEAST_LAYERS: Final = 3
_SPOKEN_OF: Final = ("W_O", "W_out", "W_Q", "W_K", "W_in")
"""The kinds that the claim is about; W_gate has to agree where there is one."""

_HOW_TO_READ: Final = (
    "Total: exp(slope x layers) of the least-squares line of ln norm without the first layer. Folded: what reads is "
    "multiplied by the gain of the norm before it; what writes is centered over the output dims if that norm is a "
    "LayerNorm. A kind without a folded row has the same norms folded."
)


def _check(inputs: Inputs) -> Fact:
    run = requires.weights(inputs)
    trends = norm_trends(run)
    groups = {trend.group for trend in trends}
    if not {"writing", "reading"} <= groups:
        missing = " and ".join(
            what
            for group, what in (("writing", "write to it (W_O, W_out)"), ("reading", "read it (W_Q, W_K, W_in)"))
            if group not in groups
        )
        raise requires.NotApplicable(
            f"The run lacks weights, in two or more layers, that are known to {missing}: the residual stream."
        )
    spectral = _spectral_tables(norm_trends(run, "spectral"))
    return judged(functools.partial(_judge, inputs, trends, spectral), has_interval=False)


def _judge(inputs: Inputs, trends: Sequence[NormTrend], spectral: tuple[Table, ...], strictness: Strictness) -> Fact:
    raw = {trend.kind: trend for trend in trends if not trend.folded}
    folded = raw | {trend.kind: trend for trend in trends if trend.folded}
    verdict, raw_verdict = _verdict(folded, strictness), _verdict(raw, strictness)
    evidence = Evidence(
        measures=_measures(folded, strictness),
        tables=(_table("Frobenius norm by depth", trends, _HOW_TO_READ, strictness), *spectral),
        notes=(*_notes(verdict, raw_verdict, raw, inputs.norm_kind), *_left_out(folded)),
    )
    if verdict is Verdict.INCONCLUSIVE:
        return DEFINITION.fact(verdict, _why_open(folded, strictness), evidence)
    summary = f"{_summary(folded, strictness)} With raw norms: {raw_verdict.words}."
    return DEFINITION.fact(verdict, summary, evidence)


def _passes(trend: NormTrend, strictness: Strictness) -> bool | None:
    """Whether a kind does what is claimed of it; None where nothing is, or without a trend."""
    if trend.group == "value" or math.isnan(trend.total_factor):
        return None
    if trend.group == "writing":
        return _LEAST_RHO.passed(trend.spearman, strictness) and _LEAST_GROWTH.passed(trend.total_factor, strictness)
    return _is_constant(trend, strictness)


def _is_constant(trend: NormTrend, strictness: Strictness) -> bool:
    """Whether the total factor is within the limit of 1, whichever way it goes."""
    factor = trend.total_factor
    return _MOST_CHANGE.passed(max(factor, 1.0 / factor) if factor > 0 else math.inf, strictness)


def _missing(trends: Mapping[str, NormTrend]) -> list[str]:
    """The kinds of the claim that the checkpoint does not have, or in one layer only."""
    return [kind for kind in _SPOKEN_OF if kind not in {name.rpartition(".")[2] for name in trends}]


def _verdict(trends: Mapping[str, NormTrend], strictness: Strictness) -> Verdict:
    claimed = [trend for trend in trends.values() if trend.group != "value"]
    if _missing(trends) or any(math.isnan(trend.total_factor) for trend in claimed):
        return Verdict.INCONCLUSIVE
    return Verdict.HOLDS if all(_passes(trend, strictness) for trend in claimed) else Verdict.FAILS


def _why_open(trends: Mapping[str, NormTrend], strictness: Strictness) -> str:
    """Why there is no verdict."""
    n_layers = max(len(trend.norms) for trend in trends.values())
    if n_layers <= _LEAST_LAYERS:
        return f"{n_layers} layers are too few for a trend: at least {_LEAST_LAYERS} after the first are needed."
    missing = _missing(trends)
    if missing:
        others = [f"{t.kind} {_does(t, strictness)}" for t in trends.values() if _passes(t, strictness) is not None]
        return (
            f"The claim is about {_listed(_SPOKEN_OF)}, and the checkpoint has no {_listed(missing, 'or')} with a "
            f"known role in two or more layers{': of the others ' if others else ''}{_listed(others)}."
        )
    open_kinds = [t.kind for t in trends.values() if t.group != "value" and math.isnan(t.total_factor)]
    return f"{', '.join(open_kinds)}: fewer than {_LEAST_LAYERS} norms above zero after the first layer."


def _does(trend: NormTrend, strictness: Strictness) -> str:
    """What one kind does, in words."""
    passes = _passes(trend, strictness)
    if trend.group == "writing":
        return "grows" if passes else "does not grow"
    return "is constant" if passes else "is not constant"


def _listed(words: Sequence[str], last: str = "and") -> str:
    """`W_O, W_out and W_Q`."""
    return f" {last} ".join([", ".join(words[:-1]), words[-1]]) if len(words) > 1 else "".join(words)


def _summary(trends: Mapping[str, NormTrend], strictness: Strictness) -> str:
    """What the kinds do, those that fail first."""
    claimed = [trend for trend in trends.values() if trend.group != "value"]
    failing = [trend for trend in claimed if not _passes(trend, strictness)]
    if not failing:
        grow = " and ".join(f"{t.kind} {t.total_factor:.3g}x" for t in claimed if t.group == "writing")
        constant = ", ".join(f"{t.kind} {t.total_factor:.3g}x" for t in claimed if t.group == "reading")
        return (
            f"From layer 1 to the last the norms grow ({grow}) where they write and stay ({constant}) where they read."
        )
    parts = []
    writing = [_described(trend) for trend in failing if trend.group == "writing"]
    reading = [_described(trend) for trend in failing if trend.group == "reading"]
    if writing:
        parts.append(f"{', '.join(writing)} should grow")
    if reading:
        parts.append(f"{', '.join(reading)} should be constant")
    return f"From layer 1 to the last: {'; '.join(parts)} (folded)."


def _described(trend: NormTrend) -> str:
    rho = ""
    if trend.group == "writing" and trend.total_factor >= _LEAST_GROWTH.value:
        rho = f", rho {trend.spearman:.2f}"
    return f"{trend.kind} ({trend.total_factor:.3g}x{rho})"


def _measures(trends: Mapping[str, NormTrend], strictness: Strictness) -> tuple[Measure, ...]:
    measures = []
    for trend in trends.values():
        kind, factor = trend.kind, trend.total_factor
        note = f"{'folded' if trend.folded else 'raw'} norm"
        known = not math.isnan(factor)
        if trend.group == "writing":
            grows, ordered = (
                limit.passed(number, strictness) if known else None
                for limit, number in ((_LEAST_GROWTH, factor), (_LEAST_RHO, trend.spearman))
            )
            measures += [
                Measure(f"{kind}: total factor", factor, _LEAST_GROWTH.words(strictness), grows, note=note),
                Measure(f"rho of {kind}", trend.spearman, _LEAST_RHO.words(strictness), ordered, note=note),
            ]
            continue
        note += f", rho {trend.spearman:+.2f}"
        if trend.group == "value":
            measures.append(Measure(f"{kind}: total factor", factor, "expected to grow; decides nothing", note=note))
            continue
        most = _MOST_CHANGE.at(strictness)
        constant = _is_constant(trend, strictness) if known else None
        measures.append(Measure(f"{kind}: total factor", factor, f"1/{most:.4g} to {most:.4g}", constant, note=note))
    return tuple(measures)


def _table(title: str, trends: Sequence[NormTrend], note: str, strictness: Strictness | None) -> Table:
    """Norms by kind; with the thresholds that they are compared with, where they decide."""
    rows: list[tuple[Cell, ...]] = []
    for trend in trends:
        norms = list(trend.norms.values())
        row: tuple[Cell, ...] = (
            trend.kind,
            {"writing": "writes", "reading": "reads", "value": "reads; half of W_OV"}[trend.group],
            "folded" if trend.folded else "raw",
            norms[0],
            norms[1],
            norms[len(norms) // 2],
            norms[-1],
            100.0 * math.expm1(trend.slope),
            trend.total_factor,
            trend.spearman,
        )
        rows.append(row if strictness is None else (*row, _passes(trend, strictness)))
    columns = ("kind", "it", "norm", "first", "second", "middle", "last", "% per layer", "total", "rho")
    return Table(title, columns if strictness is None else (*columns, "as claimed"), tuple(rows), note)


def _spectral_tables(trends: Sequence[NormTrend]) -> tuple[Table, ...]:
    known = [trend for trend in trends if not math.isnan(trend.total_factor)]
    note = "Where singular values were computed; it decides nothing. What writes is not centered here."
    return (_table("Spectral norm by depth", known, note, None),) if known else ()


def _notes(
    verdict: Verdict, raw_verdict: Verdict, raw: Mapping[str, NormTrend], norm_kind: str | None
) -> tuple[str, ...]:
    notes = []
    if verdict is not raw_verdict:
        departing = [trend.kind for trend in raw.values() if _passes(trend, Strictness.STATED) is False]
        named = f" ({', '.join(departing)} would depart from the claim)" if departing else ""
        notes.append(
            f'Without folding the verdict would be "{raw_verdict.words}"{named}. '
            "The gains of the norms carry a part of the scale of the weights behind them."
        )
    if norm_kind is None or norm_kind == "unknown":
        notes.append("Which norm comes before which matrix is not known for this model, so that nothing is folded.")
    return tuple(notes)


def _left_out(trends: Mapping[str, NormTrend]) -> tuple[str, ...]:
    left_out = []
    for trend in trends.values():
        layers = [layer for layer, norm in trend.norms.items() if layer > 0 and not (norm > 0 and math.isfinite(norm))]
        if layers:
            left_out.append(f"{trend.kind} of layer {', '.join(map(str, layers))}")
    return (f"Left out of the trends, their norm being 0 or not finite: {'; '.join(left_out)}.",) if left_out else ()


_LMF: Final = "LM_facts_across_training, step 142,000, all layers, raw"


def _published(model: str, *values: str) -> PublishedValue:
    quantity = "slope of ln norm per layer / rho: attn.dense, 4h->h (write), fused qkv, h->4h (read)"
    return PublishedValue(model, quantity, ", ".join(values), _LMF, "A")


# The figures

_LEAST_REACH: Final = 1.4


def _figures(view: RunsView) -> list[Figure]:
    """Norms by depth, of weights that write and of weights that read, raw and folded."""
    if view.weights is None:
        return []
    trends = [trend for trend in norm_trends(view.weights.run) if _relative(trend)]
    raw = [trend for trend in trends if not trend.folded]
    folded = {trend.kind: trend for trend in trends if trend.folded}
    if not raw:
        return []
    panels: list[tuple[str, str, list[NormTrend]]] = []
    for group, word in ((("writing", "value"), "Writing"), (("reading",), "Reading")):
        chosen = [trend for trend in raw if trend.group in group]
        panels.append((f"f10-{word.lower()}", f"{word}, raw", chosen))
        if any(trend.kind in folded for trend in chosen):
            both = [folded.get(trend.kind, trend) for trend in chosen]
            panels.append((f"f10-{word.lower()}-folded", f"{word}, folded", both))
    shown = [(name, title, chosen) for name, title, chosen in panels if chosen]
    limits = _limits([trend for _, _, chosen in shown for trend in chosen])
    centered = (
        "; of those that write, the output is centered, as the next norm does"
        if view.inputs.norm_kind == "layernorm"
        else ""
    )
    return [
        Figure(
            "Frobenius norms by depth",
            "The norm of each kind of weight over the geometric mean of its own line, so that a constant kind is a "
            "flat line at 1. The claim is that weights which write to the residual stream grow and that those which "
            "read it are constant. W_V reads, and is half of what attention writes: it is drawn with the latter. "
            f"Folded, weights that read are multiplied by the gain of the norm before them{centered}: that is what "
            "acts on the stream. The first layer decides nothing and may lie off the axis.",
            tuple(_by_depth(name, title, chosen, limits) for name, title, chosen in shown),
            tuple(Key(kind_name(trend.kind), kind_color(trend.kind)) for trend in raw),
        )
    ]


def _limits(trends: Sequence[NormTrend]) -> tuple[float, float]:
    """One axis for all panels, from every layer but the first."""
    values = [value for trend in trends for layer, value in _relative(trend).items() if layer > 0]
    return min(*values, 1 / _LEAST_REACH) / 1.06, max(*values, _LEAST_REACH) * 1.06


def _by_depth(name: str, title: str, trends: Sequence[NormTrend], limits: tuple[float, float]) -> Chart:
    chart = Chart(name, title, x="layer", y="norm over its geometric mean")
    chart.margins(right=52)
    lines = {trend.kind: (_relative(trend), kind_color(trend.kind)) for trend in trends}
    layers = [layer for line, _ in lines.values() for layer in line]
    chart.limits_x(min(layers) - 0.5, max(layers) + 0.5)
    chart.limits_y(*limits)
    chart.log("y")
    chart.whole_numbers()
    chart.rule(y=1.0)
    for line, color in lines.values():
        chart.line(list(line), list(line.values()), color)
    chart.labels_at_the_end(
        [(kind_name(kind), list(line.values())[-1], color) for kind, (line, color) in lines.items()]
    )
    told = "; ".join(
        f"{kind_name(trend.kind)} changes by a factor of {numbers.number(trend.total_factor)}, rank correlation "
        f"with depth {trend.spearman:+.2f}"
        for trend in trends
        if not math.isnan(trend.total_factor)
    )
    return chart.described(f"{title}, without the first layer: {told or 'too few layers for a trend'}.")


def _relative(trend: NormTrend) -> dict[int, float]:
    """Layer -> norm over the geometric mean of the line, the first layer left out of the mean."""
    good = {layer: norm for layer, norm in trend.norms.items() if math.isfinite(norm) and norm > 0}
    deciding = [norm for layer, norm in good.items() if layer > 0]
    if not deciding:
        return {}
    middle = math.exp(float(np.mean(np.log(deciding))))
    return {layer: norm / middle for layer, norm in good.items()}


DEFINITION: Final = Definition(
    id="F10",
    title="Writing weights grow, reading weights are constant",
    claim="Over depth the norms of the weights that write to the residual stream grow, and those of the weights that "
    "read it are constant.",
    source='"Basic Facts about Language Model Internals" (2023), alignmentforum.org/posts/PDLfpRwSynu73mxGw, "Writing '
    'Weights Grow Throughout The Network And Reading Weights Are Constant"',
    needs=("weights",),
    measured="The Frobenius norm of each kind of matrix in each layer (of experts: their median), raw and "
    "folded, without the first layer. The verdict is that of the folded norms: a gain in front of a matrix "
    "scales what it reads as much as the matrix does. W_V is listed separately: it reads the stream, and is half of "
    "what attention writes.",
    formula=(
        "reading, folded: ||W diag(gain)||_F",
        "writing, folded (LayerNorm models): ||W - mean over the output dims||_F",
        "b: least-squares slope of ln norm on the layer, over layers 1 to L - 1",
        "total factor: exp(b (L - 2)); rho: Spearman's correlation of norm and layer",
    ),
    thresholds=(
        "a kind grows if rho >= 0.7 and its total factor is at least 1.25",
        "a kind is constant if its total factor is between 1/1.35 and 1.35",
        "HOLDS if W_O and W_out grow and W_Q, W_K, W_in are constant, folded; otherwise FAILS",
        "W_gate has to be constant too, where there is one (ours)",
        "INCONCLUSIVE if the checkpoint lacks one of these five kinds",
        "INCONCLUSIVE with fewer than 3 layers after the first (ours)",
        "10 % looser or stricter: of 0.7, and of the distance of 1.25 and 1.35 from 1 (ours)",
    ),
    judge=_check,
    figures=_figures,
    objections=(
        Objection(
            "lmfacts",
            "Folding decides the verdict: in GPT-2 small W_Q and W_K decline clearly, and look constant only after the "
            "gain before them is folded in. So both verdicts are given.",
        ),
        Objection(
            "Heimersheim & Turner (2023)",
            "What attention adds to the stream grows at the rate of W_OV's norm; no norm of an MLP weight grows as the "
            "MLP's output does.",
        ),
    ),
    published=(
        _published("pythia-70m-v0", "+0.001 / -0.09", "+0.144 / 1.00", "+0.214 / 0.77", "-0.030 / -0.77"),
        _published("pythia-160m-v0", "+0.021 / 0.58", "+0.056 / 0.97", "+0.093 / 0.64", "-0.014 / -0.46"),
        _published("pythia-410m-v0", "+0.007 / 0.41", "+0.019 / 0.92", "+0.039 / 0.62", "+0.002 / 0.18"),
        _published("pythia-1b-v0", "+0.027 / 0.73", "+0.042 / 0.99", "+0.013 / 0.01", "-0.002 / -0.22"),
        _published("pythia-1.4b-v0", "+0.007 / 0.42", "+0.018 / 0.87", "+0.025 / 0.85", "+0.006 / 0.53"),
    ),
)
