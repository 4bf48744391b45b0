"""Two runs compared: per site and per fact, what changed and how much."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmfacts.analysis.run_view import main_population
from lmfacts.comparison.fact_change import FactChange, changes_of_facts
from lmfacts.comparison.matching import NotComparable, match
from lmfacts.comparison.noise import chances_of_site, noises
from lmfacts.comparison.norm_change import KindNormChange, NormChange, changes_of_norms, changes_of_weight_norms
from lmfacts.comparison.run_differences import are_paired, differences_of_runs
from lmfacts.comparison.site_change import SiteChange, change_of_record
from lmfacts.errors import MismatchedRunsError, UsageError
from lmfacts.run.site import SiteRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmfacts.comparison.noise import Chance
    from lmfacts.run import Run
    from lmfacts.run.site import Population

__all__ = ["Comparison", "compare"]


@dataclass(frozen=True, eq=False)
class Comparison:
    """What changed from run A to run B.

    Attributes:
        a: run A.
        b: run B.
        population: the tokens that were compared; `all` for weights.
        sites: the sites that both have, in A's order of depth.
        not_comparable: sites of both that cannot be compared.
        only_a: names of sites that only A has.
        only_b: names of sites that only B has.
        facts: the catalogue for both, in its order.
        norms: the residual stream's norm by depth; empty for weights.
        weight_norms: Frobenius norms of weights by kind; empty for activations.
        caveats: sentences on what else differs between the runs.
        paired: whether both runs read the same text, or are of weights: nothing differs by chance.
    """

    a: Run[Any]
    b: Run[Any]
    population: Population
    sites: tuple[SiteChange, ...]
    not_comparable: tuple[NotComparable, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    facts: tuple[FactChange, ...]
    norms: tuple[NormChange, ...]
    weight_norms: tuple[KindNormChange, ...]
    caveats: tuple[str, ...]
    paired: bool

    @property
    def by_effect(self) -> list[SiteChange]:
        """The sites, those with the largest effect first, and in order of depth where it is the same."""
        return sorted(self.sites, key=lambda site: -site.effect)

    def beyond(self, threshold: float) -> list[SiteChange]:
        """The sites whose effect, which is an excess over noise, is larger than the threshold, the largest first."""
        return [site for site in self.by_effect if site.effect > threshold]

    @property
    def judged(self) -> list[SiteChange]:
        """The sites of which something can be judged: all between runs of the same text."""
        return [site for site in self.sites if site.judged]

    @property
    def changed_facts(self) -> list[FactChange]:
        """The facts whose verdict or class is another one."""
        return [fact for fact in self.facts if fact.verdict_changed]


def compare(a: Run[Any], b: Run[Any], *, population: Population | None = None) -> Comparison:
    """Compare run B with run A: every site that both have, and every fact.

    Args:
        a: what is compared with; effects are in its units.
        b: what may have changed.
        population: the tokens to compare; by default all but position 0 (`rest`), or all where one of the runs has no
            others. Weights have no populations.

    Raises:
        UsageError: a population given for weights, or none of that name.
        MismatchedRunsError: runs of different kinds, or without a site in common that can be compared.
    """
    if a.kind != b.kind:
        raise MismatchedRunsError(
            f"A is a run of {a.kind} and B one of {b.kind}: two runs of one kind can be compared. Scan both models the "
            "same way."
        )
    chosen = _population(a, b, population)
    matching = match(a, b, chosen)
    if not matching.pairs:
        raise MismatchedRunsError(_nothing_in_common(a, b, matching.not_comparable))
    paired = are_paired(a, b)
    sites = _sites(a, b, chosen, matching.pairs, paired=paired)
    weights = not a.info.run_kind.reads_text
    return Comparison(
        a=a,
        b=b,
        population=chosen,
        sites=sites,
        not_comparable=matching.not_comparable,
        only_a=matching.only_a,
        only_b=matching.only_b,
        facts=changes_of_facts(a, b),
        norms=() if weights else changes_of_norms(a, b, chosen, dict(matching.pairs), paired=paired),
        weight_norms=changes_of_weight_norms(sites),
        caveats=differences_of_runs(a, b),
        paired=paired,
    )


def _sites(
    a: Run[Any], b: Run[Any], population: Population, pairs: Sequence[tuple[str, str]], *, paired: bool
) -> tuple[SiteChange, ...]:
    """What changed at each site, with its noise where the runs read different text."""
    changes: list[SiteChange] = []
    chances: list[dict[str, Chance]] = []
    for name_a, name_b in pairs:
        record_a, record_b = a[name_a], b[name_b]
        if isinstance(record_a, SiteRecord):
            record_a, record_b = record_a.in_population(population), record_b.in_population(population)
        changes.append(change_of_record(record_a, record_b))
        chances.append({} if paired else chances_of_site(record_a, record_b))
    if paired:
        return tuple(changes)
    return tuple(change.with_noise(known) for change, known in zip(changes, noises(chances), strict=True))


def _population(a: Run[Any], b: Run[Any], asked: Population | None) -> Population:
    if not a.info.run_kind.reads_text:
        if asked not in (None, "all"):
            raise UsageError(f"population: weights have no tokens, so that there is no population {asked!r} to compare")
        return "all"
    if asked is not None:
        if asked not in ("all", "first", "rest"):
            raise UsageError(f"population: expected all, first or rest, got {asked!r}")
        return asked
    return "rest" if main_population(a) == main_population(b) == "rest" else "all"


def _nothing_in_common(a: Run[Any], b: Run[Any], refused: tuple[NotComparable, ...]) -> str:
    if refused:
        first = refused[0]
        others = f", and {len(refused) - 1} more likewise" if len(refused) > 1 else ""
        return f"The runs have no site that can be compared: {first.name} has {first.reason}{others}."
    named = ", ".join([next(iter(run), "no site") for run in (a, b)])
    return (
        f"The runs have no site in common (A has {len(a)}, B has {len(b)}; the first are {named}). Record the same "
        "sites of both models."
    )
