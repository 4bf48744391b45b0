"""F5: whether tokens point in similar directions, and whether a few rogue dims are the reason."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts import formats
from lmfacts.facts.definition import Definition, Objection, PublishedValue
from lmfacts.facts.fact import Evidence, Measure, Table, Verdict
from lmfacts.facts.intervals import LEAST_SEQUENCES, LEAST_TOKENS, too_few_data
from lmfacts.facts.site_checks import degenerate, listed, number_of_layers, unrecorded_layers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmfacts.facts.fact import Fact
    from lmfacts.facts.inputs import Inputs
    from lmfacts.site_record import SiteRecord

__all__ = ["DEFINITION"]

ANISOTROPIC_ABOVE: Final = 0.2
ROGUE_SHARE: Final = 0.5
MIN_ROGUE_LAYERS: Final = 0.5
N_TOP: Final = 3

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
        order = np.argsort(-contributions, kind="stable")[:N_TOP]
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
    def kind(self) -> str:
        if not self.mean_cosine > ANISOTROPIC_ABOVE:
            return ISOTROPIC
        return ROGUE if self.top_share >= ROGUE_SHARE else ANISOTROPIC

    def in_words(self) -> str:
        """The deciding numbers: `mean cosine 0.83, 71 % of it from dims 1, 2, 3`."""
        cosine = f"mean cosine {formats.number(self.mean_cosine)}"
        if self.kind == ISOTROPIC:
            return cosine
        return f"{cosine}, {formats.percent(self.top_share)} of it from dims {listed(self.top)}"


def _check(inputs: Inputs) -> Fact:
    run = inputs.activations
    assert run is not None
    names = run.layers_of(_KIND)
    command = f"lmfacts scan {inputs.model_argument} --sites default"
    if not names:
        return DEFINITION.not_applicable(f"The run has no {_KIND} sites.", command)
    sites = {f"layer {layer}": run[name].rest for layer, name in names.items()}
    if any(site.unit_sums is None for site in sites.values()):
        return DEFINITION.not_applicable(f"The run has no sums of the directions of tokens at {_KIND}.", command)
    if reason := too_few_data(run) or degenerate(sites.values()):
        return DEFINITION.fact(Verdict.INCONCLUSIVE, reason)
    layers = [_SiteCosines.of(name, site) for name, site in sites.items()]
    if without := [site.name for site in layers if np.isnan(site.mean_cosine)]:
        return DEFINITION.fact(Verdict.INCONCLUSIVE, f"Fewer than two tokens of {without[0]} have a direction.")
    final = [_SiteCosines.of(_FINAL, run[_FINAL].rest)] if _has_unit_sums(run.get(_FINAL)) else []
    n_rogue = sum(site.kind == ROGUE for site in layers)
    n_anisotropic = sum(site.kind != ISOTROPIC for site in layers)
    holds = n_rogue >= MIN_ROGUE_LAYERS * len(layers)
    anisotropic = n_anisotropic >= MIN_ROGUE_LAYERS * len(layers)
    return DEFINITION.fact(
        Verdict.HOLDS if holds else Verdict.FAILS,
        f"{n_rogue} of {len(layers)} layers {'is' if n_rogue == 1 else 'are'} rogue, {n_anisotropic} anisotropic; "
        f"deepest layer: {layers[-1].in_words()}.",
        Evidence(
            measures=_measures(layers, n_rogue, n_anisotropic),
            tables=(_table([*layers, *final]),),
            notes=(*unrecorded_layers(list(names), number_of_layers(inputs, names), _KIND), *_notes([*layers, *final])),
        ),
        fact_class=ROGUE if holds else ANISOTROPIC if anisotropic else ISOTROPIC,
    )


def _has_unit_sums(site: SiteRecord | None) -> bool:
    return site is not None and site.unit_sums is not None


def _measures(layers: Sequence[_SiteCosines], n_rogue: int, n_anisotropic: int) -> tuple[Measure, ...]:
    share = n_rogue / len(layers)
    deepest = layers[-1]
    anisotropic = deepest.kind != ISOTROPIC
    return (
        Measure("share of rogue layers", share, f">= {MIN_ROGUE_LAYERS}", share >= MIN_ROGUE_LAYERS),
        Measure("share of anisotropic layers", n_anisotropic / len(layers)),
        Measure(f"mean cosine, {deepest.name}", deepest.mean_cosine, f"> {ANISOTROPIC_ABOVE}", anisotropic),
        Measure(
            f"share of the top {N_TOP} dims in it, {deepest.name}",
            deepest.top_share,
            f">= {ROGUE_SHARE}",
            deepest.top_share >= ROGUE_SHARE if anisotropic else None,
            note=f"dims {listed(deepest.top)}" if anisotropic else "",
        ),
    )


def _table(sites: Sequence[_SiteCosines]) -> Table:
    return Table(
        "Mean cosine between tokens by layer",
        ("site", "mean cosine", "top dims", *(f"share {i + 1}" for i in range(N_TOP)), "top-3 share", "class"),
        tuple(
            (
                site.name,
                site.mean_cosine,
                listed(site.top),
                *(*site.shares, *[None] * (N_TOP - len(site.shares))),
                site.top_share,
                site.kind,
            )
            for site in sites
        ),
        f"Over `rest`. Shares are of the mean cosine, where that is clearly above 0. {_FINAL} is shown and not "
        "counted: it is not the output of a block.",
    )


def _notes(sites: Sequence[_SiteCosines]) -> tuple[str, ...]:
    spread = max(site.spread for site in sites)
    notes = [
        f"Isotropic tokens would have a mean cosine of 0, give or take {formats.number(spread, 1)}.",
        "The mean cosine after each dim's mean is removed is not recorded: it needs a second pass over the text.",
        "There is no interval: sums of directions are not kept for each block of sequences.",
    ]
    notes += [
        f"{site.name}: {formats.count(site.n_undirected)} tokens without a direction (zero or not finite) are left out."
        for site in sites
        if site.n_undirected
    ]
    return tuple(notes)


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
        f"INCONCLUSIVE: fewer than {LEAST_SEQUENCES} sequences or {LEAST_TOKENS} tokens (ours).",
        "INCONCLUSIVE: a layer without values or with one value only (ours).",
    ),
    check=_check,
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
