"""F4: outlier features by the definition of LLM.int8(): dims that reach 6.0 in many layers and at many positions."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.analysis.outlier_dims import INT8_THRESHOLD, int8_features
from lmfacts.charts import Chart, Figure
from lmfacts.errors import UsageError
from lmfacts.facts import requires
from lmfacts.facts.definition import Definition, PublishedValue
from lmfacts.facts.fact import Evidence, Measure, Table, Verdict
from lmfacts.facts.intervals import LEAST_SEQUENCES
from lmfacts.facts.site_checks import listed, number_of_layers
from lmfacts.facts.strictness import Strictness, at_least, judged
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from lmfacts.analysis.outlier_dims import Int8Features
    from lmfacts.facts.fact import Cell, Fact
    from lmfacts.facts.inputs import Inputs
    from lmfacts.facts.runs_view import RunsView
    from lmfacts.run import Run
    from lmfacts.run.site import SiteRecord

__all__ = ["DEFINITION", "LEAST_POSITIONS"]

_LAYER_SHARE: Final = at_least(0.25)
_POSITION_SHARE: Final = at_least(0.06)

LEAST_POSITIONS: Final = 4240
"""Positions from which the 90 % interval of a share of 6 %, 1.645 sqrt(.06 .94 / n) either way, lies within a tenth of
it, were positions independent (ours)."""

_KINDS: Final = ("ln1_out", "z", "ln2_out")
_NORM_KINDS: Final = ("ln1_out", "ln2_out")
_MOST_DIMS: Final = 16


@dataclass(frozen=True, eq=False)
class _ProjectionInputs:
    """What enters the projections, as far as it was recorded.

    Attributes:
        layers: layer -> its sites, all of the width of the norms' outputs.
        kinds: the kinds among them.
        unrecorded: the kinds that the model has and the run lacks at some layer.
        notes: what else is to be said.
    """

    layers: Mapping[int, Sequence[SiteRecord]]
    kinds: tuple[str, ...]
    unrecorded: tuple[str, ...]
    notes: tuple[str, ...]

    @classmethod
    def of(cls, run: Run, names: Mapping[str, Mapping[int, str]], n_layers: int) -> _ProjectionInputs:
        """From a run that has the output of some norm; `names` is kind -> layer -> name."""
        width = next(run[name].n_dims for kind in _NORM_KINDS for name in names[kind].values())
        by_kind = {kind: {layer: run[name] for layer, name in names[kind].items()} for kind in _KINDS}
        fitting = {
            kind: {layer: site for layer, site in sites.items() if site.n_dims == width}
            for kind, sites in by_kind.items()
        }
        absent = {
            kind: {layer: run.absent.get(f"blocks.{layer}.{kind}") for layer in range(n_layers)} for kind in _KINDS
        }
        notes = []
        if fitting["z"]:
            notes.append("The dims of z are those of the heads; they are counted under the same numbers, as published.")
        elif by_kind["z"]:
            widths = sorted({site.n_dims for site in by_kind["z"].values()})
            notes.append(f"z is left out: it has {listed(widths)} dims, and the outputs of the norms {width}.")
        for kind in _KINDS:
            reason = next((reason for reason in absent[kind].values() if reason), None)
            if reason and not by_kind[kind]:
                notes.append(f"The model has no {kind}: {reason.rstrip('.')}.")
        layers = {
            layer: [fitting[kind][layer] for kind in _KINDS if layer in fitting[kind]] for layer in range(n_layers)
        }
        return cls(
            layers={layer: sites for layer, sites in layers.items() if sites},
            kinds=tuple(kind for kind in _KINDS if fitting[kind]),
            unrecorded=tuple(
                kind
                for kind in _KINDS
                if any(layer not in by_kind[kind] and not reason for layer, reason in absent[kind].items())
            ),
            notes=tuple(notes),
        )

    def sites(self) -> list[SiteRecord]:
        """All of them, by depth."""
        return [site for sites in self.layers.values() for site in sites]


@dataclass(frozen=True, eq=False)
class _Shares:
    """How the dims fare; arrays of length d. Both readings of the share of positions lie between two bounds.

    Attributes:
        n_layers_hit: layers in which the dim is hit.
        layers: their share.
        at_least: least share of the pairs of layer and position that are hit, by which the verdict goes.
        at_most: the most it can be.
        any_at_least: least share of the positions that are hit in at least one layer.
        any_at_most: the most it can be.
        one_sided: whether all hits have one sign.
        smallest: the dim's smallest value.
        largest: its largest value.
    """

    n_layers_hit: NDArray[np.int64]
    layers: NDArray[np.float64]
    at_least: NDArray[np.float64]
    at_most: NDArray[np.float64]
    any_at_least: NDArray[np.float64]
    any_at_most: NDArray[np.float64]
    one_sided: NDArray[np.bool_]
    smallest: NDArray[np.float64]
    largest: NDArray[np.float64]

    @classmethod
    def of(cls, inputs: _ProjectionInputs) -> _Shares:
        features = int8_features(list(inputs.layers.values()))
        dims = [site.dims.moments for site in inputs.sites()]
        return cls(
            n_layers_hit=features.n_layers_hit,
            layers=features.layer_share,
            at_least=features.position_share,
            at_most=features.position_share_upper,
            any_at_least=features.any_layer_share,
            any_at_most=features.any_layer_share_upper,
            one_sided=features.one_sided,
            smallest=np.min([moments.min for moments in dims], axis=0),
            largest=np.max([moments.max for moments in dims], axis=0),
        )

    def in_many_layers(self, strictness: Strictness = Strictness.STATED) -> NDArray[np.bool_]:
        """Whether a dim passes the share of layers."""
        return self.layers >= _LAYER_SHARE.at(strictness)

    def passing(self, positions: NDArray[np.float64], strictness: Strictness = Strictness.STATED) -> NDArray[np.int64]:
        """Dims that pass both shares, with this bound of the share of positions."""
        return np.flatnonzero(self.in_many_layers(strictness) & (positions >= _POSITION_SHARE.at(strictness)))

    def order(self) -> NDArray[np.int64]:
        """The dims that are hit, closest to a feature first: those that pass, then those hit in enough layers."""
        hit = np.flatnonzero(self.n_layers_hit)
        in_few = ~self.in_many_layers()[hit]
        fails = ~np.isin(hit, self.passing(self.at_least))
        return hit[np.lexsort((-self.layers[hit], -self.at_least[hit], -self.at_most[hit], in_few, fails))]


def _check(inputs: Inputs) -> Fact:
    run = requires.activations(inputs)
    names = {kind: run.layers_of(kind) for kind in _KINDS}
    if not any(names[kind] for kind in _NORM_KINDS):
        reason = run.absent.get("blocks.0.ln1_out")
        if reason:
            raise requires.NotApplicable(f"The model has no ln1_out: {reason.rstrip('.')}.")
        raise requires.NotApplicable(
            "The run has no ln1_out or ln2_out sites.", requires.DEFAULT_SITES.format(model=inputs.model_argument)
        )
    n_layers = number_of_layers(inputs, [layer for of_kind in names.values() for layer in of_kind])
    sites = _ProjectionInputs.of(run, names, n_layers)
    threshold = next((site.threshold for site in sites.sites() if site.threshold != INT8_THRESHOLD), None)
    if threshold is not None:
        raise requires.NotApplicable(
            f"The run counted values from {numbers.number(threshold)}, and the definition needs those from 6.",
            f"lmfacts scan {inputs.model_argument} --threshold 6",
        )
    requires.enough_text(run)
    if run.n_tokens < LEAST_POSITIONS:
        raise requires.Inconclusive(
            f"{run.n_tokens:,} positions; at least {LEAST_POSITIONS:,} are needed to tell 6 % of them from 5.4 or 6.6."
        )
    if len(sites.layers) < n_layers:
        raise requires.Inconclusive(
            f"The inputs of the projections were recorded at {len(sites.layers)} of {n_layers} layers; all are needed."
        )
    requires.values(sites.sites())
    return judged(functools.partial(_judge, sites, _Shares.of(sites)), has_interval=False)


def _judge(sites: _ProjectionInputs, shares: _Shares, strictness: Strictness) -> Fact:
    verdict, summary = _decide(shares, sites, strictness)
    evidence = Evidence(_measures(shares, strictness), (_table(shares),), (*sites.notes, *_NOTES))
    return DEFINITION.fact(verdict, summary, evidence)


_NOTES: Final = (
    "Share of positions: of all pairs of layer and position. The verdict goes by it.",
    (
        "The paper can also be read as the share of the positions that are hit in at least one layer. Which positions "
        "the layers have in common is not recorded, so there are bounds: the largest share of a layer, and the sum of "
        "all. Where the two readings disagree, or may, the verdict is open."
    ),
    (
        "A position hit at two sites of a layer counts once. Counts do not tell which those are, hence the two bounds "
        "of either reading."
    ),
    "One value in a layer is enough to hit it, so the share of layers grows with the amount of text.",
    "The quartiles of the paper are not recorded; the table has the smallest and the largest value.",
    (
        "There is no interval: counts of single dims are not kept for each block of sequences. Instead there have to "
        "be so many positions that sampling alone moves a share of 6 % by a tenth at most, and the verdict has to be "
        "the same with shares 10 % lower or higher. The magnitude of 6.0 cannot be moved: what reaches it was "
        "counted while the run was recorded."
    ),
)


def _decide(shares: _Shares, sites: _ProjectionInputs, strictness: Strictness) -> tuple[Verdict, str]:
    surely, possibly, any_surely, any_possibly = (
        shares.passing(bound, strictness)
        for bound in (shares.at_least, shares.at_most, shares.any_at_least, shares.any_at_most)
    )
    where = " and ".join(filter(None, (", ".join(sites.kinds[:-1]), sites.kinds[-1])))
    if surely.size:
        # A dim that passes by all pairs passes by the other reading too: a mean is at most the largest of its terms.
        who = f"Dim {listed(surely)} reaches" if surely.size == 1 else f"{surely.size} dims ({listed(surely)}) reach"
        return Verdict.HOLDS, (
            f"{who} 6.0 in at least 25 % of layers and 6 % of positions; on average "
            f"{numbers.percent(_mean(shares.layers[surely]))} and {numbers.percent(_mean(shares.at_least[surely]))}."
        )
    if possibly.size:
        dim = int(possibly[np.argmax(shares.at_most[possibly])])
        return Verdict.INCONCLUSIVE, (
            f"Dim {dim} reaches 6.0 at {numbers.percent(float(shares.at_least[dim]))} to "
            f"{numbers.percent(float(shares.at_most[dim]))} of positions (6 % needed): hits at the sites of a layer "
            "overlap by an unknown amount."
        )
    if any_possibly.size:
        among = any_surely if any_surely.size else any_possibly
        dim = int(among[np.argmax(shares.any_at_least[among])])
        low, high = (float(bound[dim]) for bound in (shares.any_at_least, shares.any_at_most))
        return Verdict.INCONCLUSIVE, (
            f"The two readings of the paper {'disagree' if any_surely.size else 'may disagree'}: dim {dim} reaches 6.0 "
            f"at {'' if shares.at_least[dim] == shares.at_most[dim] else 'no more than '}"
            f"{numbers.percent(float(shares.at_most[dim]))} of the pairs of layer and position, but at "
            f"{numbers.percent(low)} to {numbers.percent(high)} of the positions in some layer (6 % needed)."
        )
    if not shares.n_layers_hit.any():
        closest = f"No value reaches 6.0 at {where}."
    else:
        dim = int(shares.order()[0])
        closest = (
            f"No dim reaches 6.0 in 25 % of layers and 6 % of positions; closest is dim {dim} with "
            f"{numbers.percent(float(shares.layers[dim]))} and {numbers.percent(float(shares.at_most[dim]))}."
        )
    if sites.unrecorded:
        return Verdict.INCONCLUSIVE, f"{closest} Not all sites were recorded: {', '.join(sites.unrecorded)}."
    return Verdict.FAILS, closest


def _measures(shares: _Shares, strictness: Strictness) -> tuple[Measure, ...]:
    surely, possibly = (shares.passing(bound, strictness) for bound in (shares.at_least, shares.at_most))
    often = np.flatnonzero(shares.in_many_layers(strictness))
    most_layers = float(shares.layers.max())
    bounds = {
        "largest share of positions, at least": shares.at_least,
        "largest share of positions, at most": shares.at_most,
        "largest share of positions hit in some layer, at least": shares.any_at_least,
        "largest share of positions hit in some layer, at most": shares.any_at_most,
    }
    largest = {name: float(bound[often].max(initial=0.0)) for name, bound in bounds.items()}
    return (
        Measure("outlier features, at least", surely.size),
        Measure("outlier features, at most", possibly.size),
        Measure("of them one-sided", int(shares.one_sided[surely].sum())),
        Measure("their mean share of layers", _mean(shares.layers[surely])),
        Measure("their mean share of positions, at least", _mean(shares.at_least[surely])),
        Measure(
            "largest share of layers of a dim",
            most_layers,
            _LAYER_SHARE.words(strictness),
            _LAYER_SHARE.passed(most_layers, strictness),
        ),
        *(
            Measure(
                name,
                value,
                _POSITION_SHARE.words(strictness),
                _POSITION_SHARE.passed(value, strictness),
                note="of the dims that pass the share of layers",
            )
            for name, value in largest.items()
        ),
    )


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else float("nan")


def _table(shares: _Shares) -> Table:
    order = shares.order()
    surely = set(shares.passing(shares.at_least).tolist())
    rows: list[tuple[Cell, ...]] = [
        (
            int(dim),
            int(dim) in surely,
            int(shares.n_layers_hit[dim]),
            float(shares.layers[dim]),
            float(shares.at_least[dim]),
            float(shares.at_most[dim]),
            float(shares.any_at_least[dim]),
            float(shares.any_at_most[dim]),
            bool(shares.one_sided[dim]),
            float(shares.smallest[dim]),
            float(shares.largest[dim]),
        )
        for dim in order[:_MOST_DIMS]
    ]
    more = f"{order.size - _MOST_DIMS} more dims are hit." if order.size > _MOST_DIMS else ""
    return Table(
        "Dims with values of magnitude 6.0 or more",
        (
            "dim",
            "passes",
            "layers hit",
            "share of layers",
            "share of positions, at least",
            "at most",
            "hit in some layer, at least",
            "hit in some layer, at most",
            "one-sided",
            "smallest",
            "largest",
        ),
        tuple(rows),
        more,
    )


# The figures

_MOST_POINTS: Final = 300
_MOST_NAMED: Final = 8
_LABEL_WIDTH: Final = 0.12
_LABEL_HEIGHT: Final = 0.06


def _figures(view: RunsView) -> list[Figure]:
    """The dims that reach the threshold anywhere."""
    layers = _layers(view)
    if not layers:
        return []
    try:
        features = int8_features(list(layers.values()))
    except UsageError:  # other widths or another threshold: F4 says so
        return []
    return [
        Figure(
            "How often single dims reach 6.0",
            "Each point is a dim that reaches a magnitude of 6 somewhere at the input of a projection. LLM.int8() "
            "calls it an outlier feature if it does so in at least a quarter of the layers and at 6 % of the "
            "positions, here of all pairs of layer and position: the shaded corner. Next to it, the number of dims "
            "that reach 6 at least once, by layer.",
            (_dims(features), _counts(layers)),
        )
    ]


def _layers(view: RunsView) -> dict[int, list[SiteRecord]]:
    by_layer: dict[int, list[SiteRecord]] = {}
    for kind in _KINDS:
        for layer, site in view.sites_of(kind, "all").items():
            by_layer.setdefault(layer, []).append(site)
    return dict(sorted(by_layer.items()))


def _dims(features: Int8Features) -> Chart:
    hit = np.flatnonzero(features.n_layers_hit)
    passed = features.dims(_LAYER_SHARE.value, _POSITION_SHARE.value)
    order = hit[np.lexsort((hit, -features.position_share[hit]))][:_MOST_POINTS]
    chart = Chart("f4-dims", "Dims that reach 6.0", x="share of the layers", y="share of the positions")
    chart.limits_x(-0.02, 1.03)
    top = max(float(features.position_share.max(initial=0.0)) * 1.15, 2 * _POSITION_SHARE.value)
    chart.limits_y(-0.02 * top, top)
    chart.area([_LAYER_SHARE.value, 1.03], _POSITION_SHARE.value, top, "heat-0", above=1)
    chart.rule(x=_LAYER_SHARE.value)
    chart.rule(y=_POSITION_SHARE.value)
    chart.percent("x")
    chart.percent("y")
    inside = np.isin(order, passed)
    for chosen, color in ((order[~inside], "blue"), (order[inside], "orange")):
        chart.points(features.layer_share[chosen], features.position_share[chosen], color, size=3.0)
    named: list[tuple[float, float]] = []
    for dim in order:
        x, y = float(features.layer_share[dim]), float(features.position_share[dim])
        covered = any(abs(x - other) < _LABEL_WIDTH and abs(y - at) < _LABEL_HEIGHT * top for other, at in named)
        if covered or len(named) == _MOST_NAMED:
            continue
        named.append((x, y))
        near_edge = x > 1 - _LABEL_WIDTH
        chart.label(str(dim), x, y, -6 if near_edge else 6, 0, align="right" if near_edge else "left", is_centered=True)
    if not hit.size:
        chart.note("no dim reaches 6.0", 0.5, 0.5, align="center")
    listed = ", ".join(str(dim) for dim in passed[:_MOST_NAMED]) or "none"
    return chart.described(
        f"{hit.size} dims reach 6.0 somewhere; in a quarter of the layers and at 6 % of the positions: {listed}."
    )


def _counts(layers: dict[int, list[SiteRecord]]) -> Chart:
    counts = [int(np.any([site.dims.n_at_least > 0 for site in sites], axis=0).sum()) for sites in layers.values()]
    chart = Chart("f4-layers", f"Dims with |x| ≥ {INT8_THRESHOLD:g}", x="layer", y="number of dims")
    names = list(layers)
    chart.limits_x(names[0] - 0.6, names[-1] + 0.6)
    chart.columns(names, counts, "blue")
    chart.limits_y(0, max(*counts, 4) * 1.1 if len(counts) > 1 else max(counts[0], 4) * 1.1)
    chart.whole_numbers()
    chart.whole_numbers("y", 5)
    return chart.described(f"Number of dims that reach 6.0 by layer: from {min(counts)} to {max(counts)}.")


# The catalogue's entry

_TABLE_4: Final = (
    # model, outlier features, of them one-sided, layers %, positions %, quartiles
    ("gpt2 (117M)", 1, 1, 25, 6, (-8, -7, -6)),
    ("gpt2-medium (345M)", 2, 1, 29, 18, (6, 7, 8)),
    ("gpt2-large (762M)", 2, 0, 31, 16, (-9, -6, 9)),
    ("gpt2-xl (1.5B)", 2, 1, 41, 35, (-11, -9, -7)),
    ("FSEQ 125M", 2, 2, 25, 22, (-40, -23, -11)),
    ("FSEQ 1.3B", 4, 3, 64, 47, (-33, -21, -11)),
    ("FSEQ 2.7B", 5, 5, 52, 18, (-25, -16, -9)),
    ("GPT-J 6B", 6, 6, 62, 28, (-21, -17, -14)),
    ("FSEQ 6.7B", 6, 6, 100, 75, (-44, -40, -35)),
    ("FSEQ 13B", 7, 6, 100, 73, (-63, -58, -45)),
)
_PAPER: Final = "LLM.int8() (arXiv:2208.07339), Table 4, on C4"

DEFINITION: Final = Definition(
    id="F4",
    title="Outlier features of LLM.int8()",
    claim="A few dims of what enters the projections reach a magnitude of 6 in many layers and at many positions.",
    source="Dettmers et al., LLM.int8(), 2022, https://arxiv.org/abs/2208.07339",
    needs=("activations",),
    measured=(
        "Values of magnitude 6.0 or more in each dim of the inputs of the projections (ln1_out, z, ln2_out), over all "
        "tokens. The residual stream itself is not looked at: its values are far larger in some models."
    ),
    formula=(
        "dim j hits a layer if |x_j| >= 6.0 for some token at one of the layer's sites",
        "share of layers = layers hit / layers",
        "share of positions = pairs of layer and position at which some site of the layer is hit / all such pairs",
        "lower bound: the largest share of a layer's sites; upper bound: their sum, at most 1; mean over layers",
        "other reading = positions hit in at least one layer / positions",
        "its lower bound: the largest share of all sites; its upper bound: the sum of all, at most 1",
        "one-sided: all values of magnitude 6.0 or more have one sign",
    ),
    thresholds=(
        "HOLDS: some dim passes 25 % of layers and, by the lower bound, 6 % of positions.",
        "FAILS: no dim passes both by the upper bound, by either reading of the share of positions.",
        "INCONCLUSIVE: some dim passes, but by the upper bound only (ours).",
        (
            "INCONCLUSIVE: no dim passes, but some does or may by the other reading, in which a position counts if it "
            "is hit in some layer (ours)."
        ),
        (
            "INCONCLUSIVE: the verdict would change with 25 % and 6 % both 10 % lower or both 10 % higher (ours). 6.0 "
            "does not move: it was counted while the run was recorded."
        ),
        "INCONCLUSIVE: no dim passes and not all of the sites were recorded, or some layer was not at all (ours).",
        f"INCONCLUSIVE: fewer than {LEAST_SEQUENCES} sequences or {LEAST_POSITIONS} positions (ours).",
        "INCONCLUSIVE: a site without values or with one value only (ours).",
    ),
    judge=_check,
    figures=_figures,
    published=(
        *(
            PublishedValue(
                model,
                "outlier features",
                f"{n} ({sided} one-sided), {layers} % of layers, {positions} % of positions, quartiles {quartiles}",
                _PAPER,
                "B",
            )
            for model, n, sided, layers, positions, quartiles in _TABLE_4
        ),
        PublishedValue(
            "from 6.0B to 6.7B parameters",
            "growth of the outlier features",
            "65 to 100 % of layers, 35 to 75 % of positions",
            "LLM.int8() (arXiv:2208.07339)",
            "B",
        ),
        PublishedValue(
            "up to 13B",
            "perplexity with the outlier features set to 0",
            "+600 to +1000 % (7 random dims: +0.1 %)",
            "LLM.int8() (arXiv:2208.07339)",
            "B",
        ),
    ),
)
