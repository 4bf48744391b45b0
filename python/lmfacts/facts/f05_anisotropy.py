"""F5: whether tokens point in similar directions, and whether a few rogue dims are the reason."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.charts import Chart, Figure
from lmfacts.facts import requires
from lmfacts.facts.definition import Definition, Objection, PublishedValue
from lmfacts.facts.fact import Evidence, Measure, Table, Verdict
from lmfacts.facts.intervals import LEAST_SEQUENCES, LEAST_TOKENS
from lmfacts.facts.site_checks import listed, number_of_layers, unrecorded_layers
from lmfacts.facts.strictness import Strictness, at_least, judged
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lmfacts.facts.runs_view import RunsView
    from lmfacts.run.site import SiteRecord

    Floats = NDArray[np.float64]
    from collections.abc import Sequence

    from lmfacts.facts.fact import Fact
    from lmfacts.facts.inputs import Inputs

__all__ = ["DEFINITION"]

_MEAN_COSINE: Final = at_least(0.2)
_TOP_SHARE: Final = at_least(0.5)
_LAYERS: Final = at_least(0.5)
_N_TOP: Final = 3
_LEAST_SHARE_NAMED: Final = 0.05

_CLEARLY_ABOVE: Final = 10.0
_KIND: Final = "resid_post"
_FINAL: Final = "final_norm_out"

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
    """

    name: str
    mean_cosine: float
    top: tuple[int, ...]
    shares: tuple[float, ...]
    spread: float
    n_undirected: int

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
        """The class of the site."""
        if not self.mean_cosine > _MEAN_COSINE.at(strictness):
            return ISOTROPIC
        return ROGUE if _TOP_SHARE.passed(self.top_share, strictness) else ANISOTROPIC

    def in_words(self) -> str:
        """The deciding numbers: `mean cosine 0.83, 71 % of it from dims 1, 2, 3`."""
        cosine = f"mean cosine {numbers.number(self.mean_cosine)}"
        if self.kind() == ISOTROPIC:
            return cosine
        if not self.named:
            return f"{cosine}, to which no dim brings {100 * _LEAST_SHARE_NAMED:g} %"
        dims = f"dim{'' if len(self.named) == 1 else 's'} {listed(self.named)}"
        return f"{cosine}, {numbers.percent(self.named_share)} of it from {dims}"


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
    notes = (*recorded, *_notes([*layers, *final]))
    return judged(functools.partial(_judge, layers, final, notes), has_interval=False)


def _judge(
    layers: list[_SiteCosines], final: list[_SiteCosines], notes: tuple[str, ...], strictness: Strictness
) -> Fact:
    n_rogue = sum(site.kind(strictness) == ROGUE for site in layers)
    n_anisotropic = sum(site.kind(strictness) != ISOTROPIC for site in layers)
    holds = _LAYERS.passed(n_rogue / len(layers), strictness)
    anisotropic = _LAYERS.passed(n_anisotropic / len(layers), strictness)
    return DEFINITION.fact(
        Verdict.HOLDS if holds else Verdict.FAILS,
        f"{n_rogue} of {len(layers)} layers {'is' if n_rogue == 1 else 'are'} rogue, {n_anisotropic} anisotropic; "
        f"deepest layer: {layers[-1].in_words()}.",
        Evidence(
            measures=_measures(layers, n_rogue, n_anisotropic, strictness),
            tables=(_table([*layers, *final]),),
            notes=notes,
        ),
        fact_class=ROGUE if holds else ANISOTROPIC if anisotropic else ISOTROPIC,
    )


def _has_unit_sums(site: SiteRecord | None) -> bool:
    return site is not None and site.unit_sums is not None


def _measures(
    layers: Sequence[_SiteCosines], n_rogue: int, n_anisotropic: int, strictness: Strictness
) -> tuple[Measure, ...]:
    share = n_rogue / len(layers)
    deepest = layers[-1]
    anisotropic = deepest.kind(strictness) != ISOTROPIC
    least_cosine = f"> {_MEAN_COSINE.at(strictness):g}"
    least_layers = _LAYERS.words(strictness)
    if strictness is not Strictness.STATED:
        least_layers += f", rogue from a mean cosine {least_cosine} and a top-3 share {_TOP_SHARE.words(strictness)}"
    return (
        Measure("share of rogue layers", share, least_layers, _LAYERS.passed(share, strictness)),
        Measure("share of anisotropic layers", n_anisotropic / len(layers)),
        Measure(f"mean cosine, {deepest.name}", deepest.mean_cosine, least_cosine, anisotropic),
        Measure(
            f"share of the top {_N_TOP} dims in it, {deepest.name}",
            deepest.top_share,
            _TOP_SHARE.words(strictness),
            _TOP_SHARE.passed(deepest.top_share, strictness) if anisotropic else None,
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
        (
            "There is no interval: sums of directions are not kept for each block of sequences. Instead the verdict "
            "has to be the same with thresholds 10 % looser or stricter."
        ),
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
            "INCONCLUSIVE: the verdict would change with 0.2, the half of A and the half of the layers all 10 % lower "
            "or all 10 % higher (ours)."
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
