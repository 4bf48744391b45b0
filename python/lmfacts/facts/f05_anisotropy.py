"""F5: whether tokens point in similar directions, and whether a few rogue dims are the reason."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.charts import Chart, Figure
from lmfacts.facts import requires
from lmfacts.facts.definition import Definition, Objection, PublishedValue
from lmfacts.facts.fact import Evidence, Measure, Table, Verdict
from lmfacts.facts.intervals import LEAST_SEQUENCES, LEAST_TOKENS, NO_DIM_BLOCKS, all_of, decided
from lmfacts.facts.site_checks import listed, number_of_layers, unrecorded_layers
from lmfacts.facts.strictness import Strictness, at_least, judged
from lmfacts.stats.jackknife import jackknife
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lmfacts.facts.fact import Fact
    from lmfacts.facts.inputs import Inputs
    from lmfacts.facts.runs_view import RunsView
    from lmfacts.run.site import SiteRecord
    from lmfacts.run.statistics.dim_blocks import DimBlocks
    from lmfacts.run.tokens import UnitSums

__all__ = ["DEFINITION"]

_MEAN_COSINE: Final = at_least(0.2)
_TOP_SHARE: Final = at_least(0.5)
_LAYERS: Final = at_least(0.5)
_N_TOP: Final = 3
_LEAST_SHARE_NAMED: Final = 0.05

_CLEARLY_ABOVE: Final = 10.0
_KIND: Final = "resid_post"
_FINAL: Final = "final_norm_out"

Interval = tuple[float, float]

ROGUE: Final = "rogue"
ANISOTROPIC: Final = "anisotropic, not rogue"
ISOTROPIC: Final = "near-isotropic"


@dataclass(frozen=True)
class _SiteCosines:
    """One site's numbers over `rest`.

    Attributes:
        name: `layer 3`.
        mean_cosine: A.
        top: the dims that contribute most.
        shares: their shares of A; NaN where A is not clearly above 0.
        spread: standard deviation of A if the tokens were isotropic.
        n_undirected: tokens without a direction: zero or not finite.
        intervals: of A and of the sum of the shares; None where the run keeps nothing to take them from.
    """

    name: str
    mean_cosine: float
    top: tuple[int, ...]
    shares: tuple[float, ...]
    spread: float
    n_undirected: int
    intervals: tuple[Interval, Interval] | None

    @classmethod
    def of(cls, name: str, site: SiteRecord) -> _SiteCosines:
        unit_sums = site.unit_sums
        assert unit_sums is not None
        contributions = unit_sums.cosine_contributions
        mean_cosine = float(contributions.sum())
        order = np.argsort(-contributions, kind="stable")[:_N_TOP]
        spread = float(np.sqrt(2 / max(site.n_dims, 1))) / max(unit_sums.n, 1)
        meaningful = mean_cosine > _CLEARLY_ABOVE * spread
        return cls(
            name=name,
            mean_cosine=mean_cosine,
            top=tuple(int(dim) for dim in order),
            shares=tuple(float(c) / mean_cosine if meaningful else np.nan for c in contributions[order]),
            spread=spread,
            n_undirected=site.n_tokens - unit_sums.n,
            intervals=None if site.dim_blocks is None else _intervals(unit_sums, site.dim_blocks, order),
        )

    @property
    def top_share(self) -> float:
        return float(sum(self.shares))

    @property
    def named(self) -> tuple[int, ...]:
        """Those of the top dims that bring at least 5 % of A each."""
        return tuple(dim for dim, share in zip(self.top, self.shares, strict=True) if share >= _LEAST_SHARE_NAMED)

    @property
    def named_share(self) -> float:
        return float(sum(share for share in self.shares if share >= _LEAST_SHARE_NAMED))

    def kind(self, strictness: Strictness = Strictness.STATED) -> str:
        """The class of the site by its numbers alone."""
        if not self.mean_cosine > _MEAN_COSINE.at(strictness):
            return ISOTROPIC
        return ROGUE if _TOP_SHARE.passed(self.top_share, strictness) else ANISOTROPIC

    def is_anisotropic(self, strictness: Strictness) -> bool | None:
        """Whether A is above its threshold; None where its interval spans that."""
        passed = self.kind(strictness) != ISOTROPIC
        if self.intervals is None:
            return passed
        return decided(self.mean_cosine, self.intervals[0], _MEAN_COSINE.at(strictness), passed=passed)

    def is_rogue(self, strictness: Strictness) -> bool | None:
        """Whether the top dims bring half of a large A as well; None where an interval leaves that open."""
        if self.intervals is None:
            return self.kind(strictness) == ROGUE
        is_anisotropic = self.is_anisotropic(strictness)
        if is_anisotropic is False:
            return False
        passed = _TOP_SHARE.passed(self.top_share, strictness)
        by_top = decided(self.top_share, self.intervals[1], _TOP_SHARE.at(strictness), passed=passed)
        return all_of(is_anisotropic, by_top)

    def in_words(self) -> str:
        """The deciding numbers: `mean cosine 0.83, 71 % of it from dims 1, 2, 3`."""
        cosine = f"mean cosine {numbers.number(self.mean_cosine)}"
        if self.kind() == ISOTROPIC:
            return cosine
        if not self.named:
            return f"{cosine}, to which no dim brings {100 * _LEAST_SHARE_NAMED:g} %"
        dims = f"dim{'' if len(self.named) == 1 else 's'} {listed(self.named)}"
        return f"{cosine}, {numbers.percent(self.named_share)} of it from {dims}"


def _intervals(unit_sums: UnitSums, blocks: DimBlocks, top: NDArray[np.int64]) -> tuple[Interval, Interval]:
    """Of the mean cosine, and of the part of it that the top dims bring.

    What the sum of squares loses with a block is taken as the block's share of the tokens: it is one of n terms.
    """
    cosines, shares = [], []
    for n, units in zip(blocks.n_directed, blocks.units, strict=True):
        n_left = unit_sums.n - int(n)
        squares = unit_sums.squares * (n_left / unit_sums.n)
        contributions = replace(unit_sums, n=n_left, sums=unit_sums.sums - units, squares=squares).cosine_contributions
        cosines.append(float(contributions.sum()))
        shares.append(float(contributions[top].sum()) / cosines[-1] if cosines[-1] else np.nan)
    contributions = unit_sums.cosine_contributions
    mean_cosine = float(contributions.sum())
    share = float(contributions[top].sum()) / mean_cosine if mean_cosine else np.nan
    return jackknife(mean_cosine, cosines), jackknife(share, shares)


def _check(inputs: Inputs) -> Fact:
    run = requires.activations(inputs)
    names = requires.layers_of(inputs, _KIND)
    sites = {f"layer {layer}": run[name].rest for layer, name in names.items()}
    if any(site.unit_sums is None for site in sites.values()):
        raise requires.NotApplicable(
            f"The run has no sums of the directions of tokens at {_KIND}.",
            requires.DEFAULT_SITES.format(model=inputs.model_argument),
        )
    requires.enough_text(run)
    requires.values(sites.values())
    layers = [_SiteCosines.of(name, site) for name, site in sites.items()]
    if without := [site.name for site in layers if np.isnan(site.mean_cosine)]:
        raise requires.Inconclusive(f"Fewer than two tokens of {without[0]} have a direction.")
    final = [_SiteCosines.of(_FINAL, run[_FINAL].rest)] if _has_unit_sums(run.get(_FINAL)) else []
    recorded = unrecorded_layers(list(names), number_of_layers(inputs, names), _KIND)
    has_interval = all(site.intervals is not None for site in layers)
    notes = (*recorded, *_notes([*layers, *final]), *([] if has_interval else [NO_DIM_BLOCKS]))
    return judged(functools.partial(_judge, layers, final, notes), has_interval=has_interval)


def _judge(
    layers: list[_SiteCosines], final: list[_SiteCosines], notes: tuple[str, ...], strictness: Strictness
) -> Fact:
    n_rogue = sum(site.kind(strictness) == ROGUE for site in layers)
    n_anisotropic = sum(site.kind(strictness) != ISOTROPIC for site in layers)
    rogue = [site.is_rogue(strictness) for site in layers]
    holds = _in_half_of(rogue, strictness)
    anisotropic = _in_half_of([site.is_anisotropic(strictness) for site in layers], strictness)
    summary = (
        f"{n_rogue} of {len(layers)} layers {'is' if n_rogue == 1 else 'are'} rogue, {n_anisotropic} anisotropic; "
        f"deepest layer: {layers[-1].in_words()}."
    )
    n_open = rogue.count(None)
    if holds is None:
        summary += f" Of {n_open} layer{'' if n_open == 1 else 's'} it is open, as an interval spans a threshold."
    return DEFINITION.fact(
        Verdict.INCONCLUSIVE if holds is None else Verdict.HOLDS if holds else Verdict.FAILS,
        summary,
        Evidence(
            measures=_measures(layers, n_rogue, n_anisotropic, strictness),
            tables=(_table([*layers, *final]),),
            notes=notes,
        ),
        fact_class=_class_of(rogue=holds, anisotropic=anisotropic),
    )


def _in_half_of(conditions: Sequence[bool | None], strictness: Strictness) -> bool | None:
    """Whether at least half of the layers pass; None where that depends on layers of which it is open."""
    n_sure, n_open = conditions.count(True), conditions.count(None)
    sure, possible = (_LAYERS.passed(n / len(conditions), strictness) for n in (n_sure, n_sure + n_open))
    return sure if sure == possible else None


def _class_of(*, rogue: bool | None, anisotropic: bool | None) -> str | None:
    if rogue is None or (not rogue and anisotropic is None):
        return None
    return ROGUE if rogue else ANISOTROPIC if anisotropic else ISOTROPIC


def _has_unit_sums(site: SiteRecord | None) -> bool:
    return site is not None and site.unit_sums is not None


def _measures(
    layers: Sequence[_SiteCosines], n_rogue: int, n_anisotropic: int, strictness: Strictness
) -> tuple[Measure, ...]:
    share = n_rogue / len(layers)
    deepest = layers[-1]
    anisotropic = deepest.kind(strictness) != ISOTROPIC
    of_cosine, of_share = deepest.intervals or (None, None)
    least_cosine = f"> {_MEAN_COSINE.at(strictness):g}"
    least_layers = _LAYERS.words(strictness)
    if strictness is not Strictness.STATED:
        least_layers += f", rogue from a mean cosine {least_cosine} and a top-3 share {_TOP_SHARE.words(strictness)}"
    return (
        Measure("share of rogue layers", share, least_layers, _LAYERS.passed(share, strictness)),
        Measure("share of anisotropic layers", n_anisotropic / len(layers)),
        Measure(f"mean cosine, {deepest.name}", deepest.mean_cosine, least_cosine, anisotropic, of_cosine),
        Measure(
            f"share of the top {_N_TOP} dims in it, {deepest.name}",
            deepest.top_share,
            _TOP_SHARE.words(strictness),
            _TOP_SHARE.passed(deepest.top_share, strictness) if anisotropic else None,
            of_share if anisotropic else None,
            note=f"dim{'' if len(deepest.named) == 1 else 's'} {listed(deepest.named)}"
            if anisotropic and deepest.named
            else "",
        ),
    )


def _table(sites: Sequence[_SiteCosines]) -> Table:
    return Table(
        "Mean cosine between tokens by layer",
        ("site", "mean cosine", "top dims", *(f"share {i + 1}" for i in range(_N_TOP)), "top-3 share", "class"),
        tuple(
            (
                site.name,
                site.mean_cosine,
                listed(site.named) or None,
                *(*site.shares, *[None] * (_N_TOP - len(site.shares))),
                site.top_share,
                site.kind(),
            )
            for site in sites
        ),
        "Over `rest`. Shares are of the mean cosine, where that is clearly above 0; a dim is named if its own is at "
        f"least 5 %. {_FINAL} is shown and not counted: it is not the output of a block.",
    )


def _notes(sites: Sequence[_SiteCosines]) -> tuple[str, ...]:
    spread = max(site.spread for site in sites)
    notes = [
        f"Isotropic tokens would have a mean cosine of 0, give or take {numbers.number(spread, 1)}.",
        "The mean cosine after each dim's mean is removed is not recorded: it needs a second pass over the text.",
    ]
    notes += [
        f"{site.name}: {numbers.count(site.n_undirected)} tokens without a direction (zero or not finite) are left out."
        for site in sites
        if site.n_undirected
    ]
    return tuple(notes)


# The figures


def _figures(view: RunsView) -> list[Figure]:
    """The mean cosine between tokens, and what three dims contribute to it."""
    cosines, shares = {}, {}
    for layer, site in view.residual.items():
        sums = site.unit_sums
        if sums is not None and sums.n > 1:
            contributions = sums.cosine_contributions
            cosines[layer] = float(contributions.sum())
            top = np.sort(contributions)[::-1][:_N_TOP].sum()
            shares[layer] = float(top / cosines[layer]) if cosines[layer] > 0 else float("nan")
    if not cosines:
        return []
    drawings = [
        _share_chart("f5-cosine", "Mean cosine between tokens", "0: no common direction", cosines, _MEAN_COSINE.value),
        _share_chart(
            "f5-share", "Part of it from the top 3 dims", "share of the mean cosine", shares, _TOP_SHARE.value
        ),
    ]
    return [
        Figure(
            "How far tokens point the same way",
            "The mean over all pairs of tokens of the cosine between them: 0 where directions are spread evenly, 1 "
            "where all point one way. It is a sum over dims; the second panel is the part of it that the three largest "
            "terms make up. Above both dashed lines, a few rogue dims make tokens look alike. Where the first is near "
            "0 the second means little.",
            tuple(drawings),
        )
    ]


def _share_chart(name: str, title: str, y: str, values: dict[int, float], threshold: float) -> Chart:
    layers, series = list(values), np.array(list(values.values()))
    finite = series[np.isfinite(series)]
    low = min(0.0, float(finite.min(initial=0.0)))
    chart = Chart(name, title, x="layer", y=y)
    chart.limits_x(layers[0] - 0.5, layers[-1] + 0.5)
    chart.limits_y(1.1 * low, max(1.05, float(finite.max(initial=0.0)) * 1.05))
    chart.whole_numbers()
    chart.rule(y=threshold)
    chart.line(layers, series, "blue")
    ends = f"from {numbers.number(float(series[0]))} at layer {layers[0]} to {numbers.number(float(series[-1]))}"
    return chart.described(f"{title}: {ends} at layer {layers[-1]}; threshold {threshold:g}.")


# The catalogue's entry

_ETHAYARAJH: Final = "Ethayarajh, 2019"

DEFINITION: Final = Definition(
    id="F5",
    title="Anisotropy from rogue dims",
    claim="Tokens of the residual stream point in similar directions, and a few rogue dims are the reason.",
    source="Timkey and van Schijndel, 2021, https://arxiv.org/abs/2109.04404",
    needs=("activations",),
    measured=(
        "The mean cosine between all pairs of tokens but those at position 0, at every resid_post, and how much of it "
        "each dim contributes. Both follow exactly from sums over the tokens' unit vectors, so no pairs are sampled."
    ),
    formula=(
        "U = sum over tokens of x / |x|;  Q_j = sum over tokens of (x_j / |x|)^2;  n tokens",
        "contribution CC_j = (U_j^2 - Q_j) / (n (n - 1))",
        "mean cosine A = sum_j CC_j = (|U|^2 - n) / (n (n - 1))",
    ),
    thresholds=(
        "A layer is anisotropic if A > 0.2, and rogue if also the three largest CC_j make up at least half of A.",
        "HOLDS: at least half of the layers are rogue (ours).",
        "FAILS: otherwise.",
        "Class: rogue, or anisotropic, not rogue if at least half of the layers are anisotropic, else near-isotropic.",
        (
            "INCONCLUSIVE: it depends on layers whose interval spans 0.2 or the half of A; of runs that keep none, the "
            "verdict would change with these and the half of the layers all 10 % lower or all 10 % higher (ours)."
        ),
        "A dim is named if its CC_j is at least 5 % of A (ours).",
        f"INCONCLUSIVE: fewer than {LEAST_SEQUENCES} sequences or {LEAST_TOKENS} tokens (ours).",
        "INCONCLUSIVE: a layer without values or with one value only (ours).",
    ),
    judge=_check,
    figures=_figures,
    objections=(
        Objection(
            "Machina and Mercer (NAACL 2024)",
            "Anisotropy is no property of all transformers: large Pythia models are nearly isotropic.",
        ),
    ),
    published=(
        PublishedValue("gpt2", "mean cosine, layers 2 to 8", "about 0.6", _ETHAYARAJH, "C"),
        PublishedValue("gpt2", "mean cosine, last layer", "about 0.99", _ETHAYARAJH, "C"),
        PublishedValue("large Pythia", "directions of tokens", "near-isotropic", "Machina and Mercer, NAACL 2024", "C"),
    ),
)
