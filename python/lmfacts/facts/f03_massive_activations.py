"""F3: a few values of the residual stream are a thousand times larger than the rest."""

from __future__ import annotations

import functools
import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lmfacts.charts import Chart, Figure, Key
from lmfacts.facts import requires
from lmfacts.facts.definition import Definition, Objection, PublishedValue
from lmfacts.facts.fact import Evidence, Measure, Table, Verdict
from lmfacts.facts.intervals import LEAST_SEQUENCES, all_of, any_of, decided, spans
from lmfacts.facts.site_checks import number_of_layers
from lmfacts.facts.strictness import Strictness, at_least, at_most, judged
from lmfacts.stats.cells import Cells
from lmfacts.stats.jackknife import jackknife
from lmfacts.writing import numbers
from lmfacts.writing.numbers import number, percent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lmfacts.facts.runs_view import RunsView
    from lmfacts.run.site import Population, SiteRecord

    Floats = NDArray[np.float64]
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from lmfacts.facts.fact import Cell, Fact
    from lmfacts.facts.inputs import Inputs
    from lmfacts.run import Run
    from lmfacts.stats.distribution import Distribution

__all__ = ["DEFINITION"]

_VALUE: Final = at_least(100.0)
_RATIO: Final = at_least(1000.0)
_SPIKE: Final = at_least(50.0)
_VARIATION: Final = at_most(0.10)
_N_BLOCKS: Final = 8
_MOST_PLACES: Final = 6
_MOST_TOKENS: Final = 4

_POPULATIONS: Final[tuple[Population, ...]] = ("all", "first", "rest")
_NO_INTERVAL: Final = (math.nan, math.nan)


@dataclass(frozen=True, eq=False)
class _Spikes:
    """The largest values of the sequences at one block's output, in one population.

    Attributes:
        layer: the block.
        maxima: `SiteRecord.sequence_maxima`.
        median: median |h| of all tokens of the site.
    """

    layer: int
    maxima: NDArray[np.void]
    median: float

    @cached_property
    def magnitudes(self) -> NDArray[np.float64]:
        return np.abs(np.asarray(self.maxima["value"], dtype=np.float64))

    @cached_property
    def largest(self) -> float:
        """M: mean over sequences of the largest magnitude."""
        return float(self.magnitudes.mean()) if self.maxima.size else math.nan

    @property
    def ratio(self) -> float:
        """The ratio r = M / m; NaN where m is 0."""
        return self.largest / self.median if self.median > 0 else math.nan

    @property
    def variation(self) -> float:
        """Standard deviation of the sequences' largest magnitudes over their mean."""
        if self.maxima.size < 2 or not self.largest > 0:  # noqa: PLR2004  one is no spread
            return math.nan
        return float(self.magnitudes.std(ddof=1)) / self.largest

    @cached_property
    def interval(self) -> tuple[float, float]:
        """Of M, over blocks of sequences."""
        block = self.maxima["sequence"] % _N_BLOCKS
        n = np.bincount(block, minlength=_N_BLOCKS)
        sums = np.bincount(block, weights=self.magnitudes, minlength=_N_BLOCKS)
        if not (n > 0).all():
            return _NO_INTERVAL
        return jackknife(self.largest, list((sums.sum() - sums) / (n.sum() - n)))

    @property
    def ratio_interval(self) -> tuple[float, float]:
        """Of r, the median taken as known."""
        if not self.median > 0:
            return _NO_INTERVAL
        low, high = self.interval
        return low / self.median, high / self.median

    def massive(self, strictness: Strictness) -> tuple[bool | None, bool | None]:
        """Whether M and whether r pass Sun's rule; None where that is open."""
        value, ratio = _VALUE.at(strictness), _RATIO.at(strictness)
        return (
            decided(self.largest, self.interval, value, passed=self.largest > value),
            decided(self.ratio, self.ratio_interval, ratio, passed=self.ratio >= ratio),
        )

    def share_by_themselves(self, strictness: Strictness) -> float:
        """Share of the sequences whose own largest value passes Sun's rule; NaN without sequences or ratio."""
        if not self.maxima.size or not self.median > 0:
            return math.nan
        passes = (self.magnitudes > _VALUE.at(strictness)) & (self.magnitudes >= _RATIO.at(strictness) * self.median)
        return float(passes.mean())

    def class_(self, strictness: Strictness) -> str:
        """The class by the numbers themselves."""
        if _RATIO.passed(self.ratio, strictness):
            return "massive" if self.largest > _VALUE.at(strictness) else "massive by ratio only"
        return "sub-threshold spikes" if _SPIKE.passed(self.ratio, strictness) else "none"


def _median_magnitude(distribution: Distribution) -> float:
    """Median |h|; 0 where at least half of the values are, which the cell of zero would hide."""
    if 2 * distribution.n_zero >= distribution.n:
        return 0.0
    return float(distribution.cells.folded().quantile(0.5))


def _read(run: Run, names: Mapping[int, str]) -> dict[Population, list[_Spikes]]:
    """What each block's output has, by population; without the blocks that have no maxima."""
    by_population: dict[Population, list[_Spikes]] = {population: [] for population in _POPULATIONS}
    for layer, name in names.items():
        site = run[name]
        if not site.all.sequence_maxima.size:
            continue
        median = _median_magnitude(site.all.distribution)
        for population in _POPULATIONS:
            maxima = site.in_population(population).sequence_maxima
            by_population[population].append(_Spikes(layer, maxima, median))
    return by_population


def _check(inputs: Inputs) -> Fact:
    run = requires.activations(inputs)
    names = requires.layers_of(inputs, "resid_post")
    requires.enough_text(run)
    by_population = _read(run, names)
    layers = by_population["all"]
    if not layers:
        if any(run[name].all.n for name in names.values()):
            raise requires.NotApplicable(
                "The run does not keep the largest value of each sequence: it was recorded by an earlier version.",
                requires.RESIDUAL_SITES.format(model=inputs.model_argument),
            )
        raise requires.Inconclusive("The outputs of the blocks have no finite values.")
    usable = [spikes for spikes in layers if math.isfinite(spikes.ratio)]
    if not usable:
        raise requires.Inconclusive(
            "At every block at least half of the values are zero, so that no ratio has a meaning."
        )
    n_maxima = max(spikes.maxima.size for spikes in usable)
    if n_maxima < LEAST_SEQUENCES:
        raise requires.Inconclusive(
            f"{n_maxima} sequences have a largest value; at least {LEAST_SEQUENCES} are needed."
        )
    n_layers = number_of_layers(inputs, names)
    return judged(functools.partial(_judge, run, by_population, usable, n_layers), has_interval=True)


def _judge(
    run: Run,
    by_population: Mapping[Population, list[_Spikes]],
    usable: list[_Spikes],
    n_layers: int,
    strictness: Strictness,
) -> Fact:
    """The verdict; one block is enough for it to hold, and all of them are needed for it to fail."""
    passes = {spikes.layer: all_of(*spikes.massive(strictness)) for spikes in usable}
    holding = [spikes for spikes in usable if passes[spikes.layer]]
    open_ = [spikes for spikes in usable if passes[spikes.layer] is None]
    n_unread = n_layers - len(usable)
    holds = any_of(*passes.values(), None if n_unread else False)
    peak = max(holding or open_ or usable, key=lambda spikes: spikes.ratio)
    fact_class = None if holds is None else peak.class_(strictness)

    where = _where(run, peak)
    size = f"the largest value of a sequence averages {number(peak.largest)}, {number(peak.ratio, 4)} x the median"
    if holds:
        verdict = Verdict.HOLDS
        layers = ("Layer " if len(holding) == 1 else "Layers ") + _ranges([spikes.layer for spikes in holding])
        summary = f"{layers}: {size} at layer {peak.layer} ({where}); CV {percent(peak.variation)}."
    elif holds is None:
        verdict = Verdict.INCONCLUSIVE
        large, far = peak.massive(strictness)
        doubts = " and ".join(
            f"the interval of {what} spans {threshold:,.0f}"
            for what, passed, threshold in (("M", large, _VALUE.at(strictness)), ("r", far, _RATIO.at(strictness)))
            if passed is None
        )
        if not open_:
            doubts = f"{n_unread} of {n_layers} layers could not be read (not recorded, or without a finite ratio)"
        summary = f"At layer {peak.layer} {size}, but {doubts}."
    else:
        verdict = Verdict.FAILS
        summary = f"At layer {peak.layer} {size} ({where}): {_WORDS[peak.class_(strictness)]}."
    evidence = Evidence(
        _measures(peak, passes, strictness),
        (_by_population(run, by_population), _by_layer(run, by_population["all"], passes), _by_place(run, peak)),
        _notes(peak, len(usable), strictness, holds=bool(holds)),
    )
    return DEFINITION.fact(verdict, summary, evidence, fact_class=fact_class)


_WORDS: Final = {
    "none": "nothing massive",
    "sub-threshold spikes": "spikes, but short of massive",
    "massive by ratio only": "massive by ratio, but not above 100",
}


def _measures(peak: _Spikes, passes: Mapping[int, bool | None], strictness: Strictness) -> tuple[Measure, ...]:
    large, far = peak.massive(strictness)
    here = f"at layer {peak.layer}"
    value = f"> {_VALUE.at(strictness):g}"
    return (
        Measure("M, mean largest |h| of a sequence", peak.largest, value, large, peak.interval, here),
        Measure("r = M / m", peak.ratio, _RATIO.words(strictness), far, peak.ratio_interval, here),
        Measure("m, median |h|", peak.median, note=here),
        Measure(
            "CV of the largest |h| over sequences",
            peak.variation,
            _VARIATION.words(strictness),
            _is_steady(peak, strictness),
            note="constancy; " + here,
        ),
        Measure("share of sequences that pass by themselves", peak.share_by_themselves(strictness), note=here),
        Measure("layers that pass", float(sum(passed is True for passed in passes.values()))),
    )


def _is_steady(peak: _Spikes, strictness: Strictness) -> bool | None:
    return None if math.isnan(peak.variation) else _VARIATION.passed(peak.variation, strictness)


def _notes(peak: _Spikes, n_layers: int, strictness: Strictness, *, holds: bool) -> tuple[str, ...]:
    notes = []
    n_passing = round(peak.share_by_themselves(strictness) * peak.maxima.size)
    if 0 < n_passing < peak.maxima.size:
        notes.append(
            f"By themselves {n_passing} of {peak.maxima.size} sequences pass the rule at layer {peak.layer}: M "
            "averages them with those that do not."
        )
    if holds and n_layers > 1:
        notes.append(
            f"One layer of {n_layers} is enough, so each is a chance to pass by luck. In a simulation of layers that "
            "vary independently (64 sequences, normal values, a true r of 950, a CV of 30 %) the claim was wrongly "
            "found to hold in 5 % of models with 32 layers, and in 13 % of those with 80."
        )
    if peak.ratio < _RATIO.value and spans(peak.ratio_interval, _SPIKE.value):
        notes.append("The interval of r spans 50, so the class is open between none and sub-threshold spikes.")
    if _is_steady(peak, strictness) is False and peak.class_(strictness) != "none":
        notes.append(
            f"The largest values are not constant: over sequences their magnitude varies by {percent(peak.variation)} "
            "of its mean, where massive activations keep theirs within 10 %."
        )
    return tuple(notes)


def _by_population(run: Run, by_population: Mapping[Population, list[_Spikes]]) -> Table:
    """Each population at the layer where its own ratio is largest."""
    rows: list[tuple[Cell, ...]] = []
    for population in _POPULATIONS:
        usable = [spikes for spikes in by_population[population] if math.isfinite(spikes.ratio)]
        if usable:
            top = max(usable, key=lambda spikes: spikes.ratio)
            rows.append(
                (
                    population,
                    top.layer,
                    top.largest,
                    top.ratio,
                    *_place(run, top),
                    top.variation,
                    top.class_(Strictness.STATED),
                )
            )
    return Table(
        "The largest values of sequences by population, each at the layer of its largest r",
        ("tokens", "layer", "M", "r", "dim", "position", "token", "CV", "class"),
        tuple(rows),
        note="first is position 0 of each sequence, rest every other token; r is over the median |h| of all tokens.",
    )


def _by_layer(run: Run, layers: Sequence[_Spikes], passes: Mapping[int, bool | None]) -> Table:
    words = {True: "yes", False: "no", None: "open"}
    rows = tuple(
        (
            spikes.layer,
            spikes.largest,
            spikes.median,
            spikes.ratio,
            *_place(run, spikes),
            spikes.variation,
            spikes.share_by_themselves(Strictness.STATED),
            words[passes.get(spikes.layer)],
        )
        for spikes in layers
    )
    return Table(
        "The largest values of sequences by layer, all tokens",
        ("layer", "M", "m", "r", "dim", "position", "token", "CV", "pass by themselves", "massive"),
        rows,
        note="Dim, position and token are those of more than half of the sequences, a dash where none has so many. "
        "Pass by themselves: share of the sequences with max |h| > 100 and max |h| / m >= 1000.",
    )


def _by_place(run: Run, peak: _Spikes) -> Table:
    """Where the largest values sit, the places of most sequences first."""
    groups: dict[tuple[int, int], list[np.void]] = {}
    for one in peak.maxima:
        groups.setdefault((int(one["dim"]), int(one["position"])), []).append(one)

    def row(place: tuple[int, int]) -> tuple[Cell, ...]:
        values = [float(one["value"]) for one in groups[place]]
        tokens = Counter(int(one["token_id"]) for one in groups[place])
        most = [f"{text} x {n}" for token_id, n in tokens.most_common(_MOST_TOKENS) if (text := _token(run, token_id))]
        more = len(tokens) - len(most)
        named = ", ".join(most) + (f" and {more} more" if most and more > 0 else "")
        return *place, len(values), float(np.mean(values)), named or None

    rows = sorted(
        (row(place) for place in groups), key=lambda cells: (-float(cells[2] or 0), -abs(float(cells[3] or 0)))
    )
    pairs = "1 pair" if len(groups) == 1 else f"{len(groups)} pairs"
    return Table(
        f"Where the largest value of a sequence sits, layer {peak.layer}",
        ("dim", "position", "sequences", "mean value", "tokens"),
        tuple(rows[:_MOST_PLACES]),
        note=f"{peak.maxima.size} sequences; {pairs} of dim and position.",
    )


def _place(run: Run, spikes: _Spikes) -> tuple[Cell, Cell, Cell]:
    """The dim, the position and the token of more than half of the sequences; None where none has so many."""
    dim, position, token_id = (_majority(spikes.maxima[name]) for name in ("dim", "position", "token_id"))
    return dim, position, None if token_id is None else _token(run, token_id)


def _majority(values: NDArray[Any]) -> int | None:
    """What more than half of the values are."""
    if not values.size:
        return None
    value, n = Counter(values.tolist()).most_common(1)[0]
    return int(value) if 2 * n > values.size else None


def _token(run: Run, token_id: int) -> str | None:
    if token_id < 0:
        return None
    text = run.tokens.get(token_id)
    return f"id {token_id}" if text is None else repr(text)


def _where(run: Run, spikes: _Spikes) -> str:
    dim, position, token = _place(run, spikes)
    parts = [
        "various dims" if dim is None else f"dim {dim}",
        "various positions" if position is None else f"position {position}",
        *([] if token is None else [f"token {token}"]),
    ]
    return ", ".join(parts)


def _ranges(layers: Sequence[int]) -> str:
    """Layers as ranges: `2-29`, `1, 3-4`."""
    runs: list[list[int]] = []
    for layer in layers:
        if runs and layer == runs[-1][-1] + 1:
            runs[-1].append(layer)
        else:
            runs.append([layer])
    return ", ".join(str(one[0]) if len(one) == 1 else f"{one[0]}-{one[-1]}" for one in runs)


# The figures

_LABELS: Final[dict[Population, str]] = {
    "first": "largest |x| at position 0",
    "rest": "largest |x| elsewhere",
    "all": "largest |x|",
}
_COLORS: Final[dict[Population, str]] = {"first": "orange", "rest": "purple", "all": "orange"}


def _figures(view: RunsView) -> list[Figure]:
    """The largest and the median magnitude by depth, and the largest of each sequence."""
    if view.activations is None:
        return []
    largest = {
        population: {layer: _largest(site) for layer, site in view.residual_over(population).items()}
        for population in view.activations.populations
    }
    medians = {layer: _median(site) for layer, site in view.residual_over("all").items()}
    drawing = _by_depth(largest, medians)
    if drawing is None:
        return []
    sequences = _by_sequence(view.residual_over("all"))
    ends = (
        " The second panel has the largest value of each of the first sequences, at the depth where values are "
        "largest, in order of size: where the points are level, the value hardly depends on the text."
        if sequences is not None
        else ""
    )
    return [
        Figure(
            "The largest values against the typical ones",
            "The largest magnitude in the residual stream and the median magnitude over all tokens, by depth. Sun et "
            "al. "
            "call a value massive that is above 100 and about 1000 times the median: above both dashed lines." + ends,
            (drawing, *([sequences] if sequences is not None else [])),
            (
                *(Key(_LABELS[population], _COLORS[population]) for population in reversed(largest)),
                Key("median |x| of all tokens", "blue"),
                Key("1000 times the median", "blue", "dashed"),
                Key("100", "gray", "dashed"),
            ),
        )
    ]


def _largest(site: SiteRecord) -> float:
    absmax = site.dims.absmax
    absmax = absmax[np.isfinite(absmax)]
    return float(absmax.max()) if absmax.size else float("nan")


def _median(site: SiteRecord) -> float:
    """Median |x|; NaN where it is 0."""
    median = float(Cells.of(site.distribution).folded().quantile(0.5))
    return median if median > 0 else float("nan")


def _by_depth(largest: dict[Population, dict[int, float]], medians: dict[int, float]) -> Chart | None:
    layers, median = np.array(list(medians)), np.array(list(medians.values()))
    tops = [value for line in largest.values() for value in line.values() if value > 0]
    if not tops or np.isnan(median).all():
        return None
    chart = Chart("f3-depth", "Largest and typical magnitudes", x="layer", y="|x|")
    chart.limits_x(layers[0] - 0.5, layers[-1] + 0.5)
    top = max(*tops, _VALUE.value, _RATIO.value * float(np.nanmax(median)))
    chart.limits_y(float(np.nanmin(median)) / 1.8, top * 1.8)
    chart.log("y")
    chart.whole_numbers()
    chart.rule(y=_VALUE.value)
    chart.line(layers, _RATIO.value * median, "blue", style="dashed", width=1.2)
    chart.line(layers, median, "blue")
    told = []
    for population, line in largest.items():
        values = np.array(list(line.values()))
        chart.line(list(line), np.where(values > 0, values, np.nan), _COLORS[population])
        ratios = {layer: value / medians[layer] for layer, value in line.items() if value / medians[layer] > 0}
        if ratios:
            at = max(ratios, key=ratios.__getitem__)
            told.append(
                f"{_LABELS[population]} is at most {numbers.number(max(line.values()))}, and "
                f"{numbers.number(ratios[at])} times the median at layer {at}"
            )
    return chart.described(f"Magnitudes by depth: {'; '.join(told)}.")


def _by_sequence(sites: dict[int, SiteRecord]) -> Chart | None:
    """The largest value of each sequence at the depth where the largest of all is."""
    recorded = {layer: site for layer, site in sites.items() if site.sequence_maxima.size}
    if not recorded:
        return None
    layer = max(recorded, key=lambda which: float(np.nan_to_num(_largest(recorded[which]))))
    values = np.sort(np.abs(recorded[layer].sequence_maxima["value"]))[::-1]
    values = values[np.isfinite(values) & (values > 0)]
    if not values.size:
        return None
    chart = Chart("f3-sequences", f"Layer {layer}: largest |x| of each sequence", x="sequences, by size", y="|x|")
    chart.margins(left=52)
    chart.limits_x(0, values.size + 1)
    chart.limits_y(0, float(values[0]) * 1.12)
    chart.whole_numbers()
    chart.points(np.arange(1, values.size + 1), values, "orange", size=2.6)
    spread = float(values.std() / values.mean())
    return chart.described(
        f"Layer {layer}: the largest magnitude of each of {values.size} sequences goes from "
        f"{numbers.number(float(values[0]))} down to {numbers.number(float(values[-1]))}; the coefficient of "
        f"variation is {numbers.percent(spread)}."
    )


# The catalogue's entry

_SUN: Final = "Sun et al., arXiv:2402.17762"
_OWEN: Final = "Owen et al. 2025, arXiv:2503.22329"
_GALLEGO: Final = "Gallego-Feliciano et al., arXiv:2508.03616"

DEFINITION: Final = Definition(
    id="F3",
    title="Massive activations",
    claim=(
        "A few values of the residual stream, at fixed dims and mostly at the first token, are about a thousand times "
        "larger than the typical value, and hardly depend on the input."
    ),
    source="Sun et al., Massive Activations in Large Language Models, arXiv:2402.17762",
    needs=("activations",),
    measured=(
        "At the output of every block (resid_post), the last one included, before the final norm. M is the largest "
        "magnitude of a sequence, averaged over the first 64 sequences of the scan. The paper divides each sequence's "
        "by its own median; here m is the median of all recorded tokens of the block, position 0 included. Position 0 "
        "(first) and the other tokens (rest) are also shown separately. Intervals are over 8 blocks of sequences, m "
        "taken as known."
    ),
    formula=(
        "M = mean over sequences of max |h|",
        "m = median of |h| over all tokens and dims",
        "r = M / m",
        "CV = standard deviation / mean of max |h| over sequences",
        "a sequence passes by itself if its max |h| > 100 and max |h| / m >= 1000",
    ),
    thresholds=(
        "HOLDS if M > 100 and r >= 1000 at the output of at least one block (ours: one is enough)",
        (
            "FAILS otherwise, by the block of largest r: none if r < 50, sub-threshold spikes if r < 1000, massive by "
            "ratio only if r >= 1000 and M <= 100"
        ),
        "Constant over sequences if CV <= 10 %; told apart, it does not change the verdict",
        (
            "INCONCLUSIVE if the verdict depends on an interval that spans 100 or 1000, or with fewer than 8 sequences "
            "or 128 tokens (ours)"
        ),
        "10 % looser or stricter: 100 and 1000 both lower or both higher; the intervals say what is open (ours)",
        "INCONCLUSIVE if no block passes and some were not recorded, or have no finite values or no median (ours)",
    ),
    judge=_check,
    figures=_figures,
    objections=(
        Objection(
            "Gallego-Feliciano et al.",
            "The rule on absolute size misses small models; the ratio of the largest to the median tells more.",
        ),
        Objection(
            "Owen et al.",
            "Massive values are not always needed: setting them to zero ruins Llama-2-7B and leaves gpt2 and OPT-6.7B "
            "as they were.",
        ),
    ),
    published=(
        PublishedValue("LLaMA2-7B", "after layer 2, delimiter, dims 2533 and 1415", "2546.8, -1502.0", _SUN, "B"),
        PublishedValue("LLaMA2-7B", "position 0, dims 2533 and 1415", "767.6, -458.55", _SUN, "B"),
        PublishedValue("LLaMA2-13B", "position 0, dims 4743 and 2100", "-1223.5, -717.95", _SUN, "B"),
        PublishedValue("LLaMA2-7B", "median |h|", "about 0.2", _SUN, "B"),
        PublishedValue("gpt2", "tokens with massive values", "the starting token only", _SUN, "B"),
        PublishedValue("Llama-2-7B", "max |h|, blocks 1-29", "2400-2512", _OWEN, "A"),
        PublishedValue("Llama-3.2-1B", "max |h|, blocks 1-14, without / with BOS", "384 / 217", _OWEN, "A"),
        PublishedValue("OPT-6.7B", "max |h|, block 0 -> block 15", "148 -> 334", _OWEN, "A"),
        PublishedValue("falcon-11B", "max |h|", "4416-4512", _OWEN, "A"),
        PublishedValue(
            "Pythia 14M / 1.4B / 12B", "max / median |h| at the end of training", "83 / 2350 / 3200", _GALLEGO, "B"
        ),
        PublishedValue("Pythia", "CV over sequences", "4.2-7.0 %", _GALLEGO, "B"),
    ),
)
