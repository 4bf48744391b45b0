"""How norms changed with depth: those of the residual stream, and those of the weights of each kind."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from lmfacts.analysis.run_view import residual_depths
from lmfacts.comparison.noise import chances_of_norm, noises

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lmfacts.comparison.noise import Chance
    from lmfacts.comparison.site_change import SiteChange
    from lmfacts.run import Run
    from lmfacts.run.site import Population

__all__ = ["KindNormChange", "NormChange", "changes_of_norms", "changes_of_weight_norms"]


@dataclass(frozen=True)
class NormChange:
    """The norm of the residual stream's tokens at one depth.

    Attributes:
        name: the site.
        label: the layer, or `in` for what enters the first block.
        mean_log: mean ln norm in A and B.
        noise: what their difference stays below by chance on different text (`lmfacts.comparison.noise`); 0 where both
            runs read the same, NaN where it is not known.
    """

    name: str
    label: str
    mean_log: tuple[float, float]
    noise: float = 0.0

    @property
    def ratio(self) -> float:
        """Geometric mean of the norms in B over that in A."""
        return math.exp(self.mean_log[1] - self.mean_log[0])

    @property
    def counts(self) -> bool:
        """Whether the norms differ by more than different text explains."""
        return abs(self.mean_log[1] - self.mean_log[0]) > self.noise


@dataclass(frozen=True)
class KindNormChange:
    """The Frobenius norms of the weights of one kind.

    Attributes:
        kind: `W_O`.
        layers: the layer of each weight, None outside the blocks, in order of depth.
        norms: Frobenius norms of each in A and B.
        folded: the same, folded (`WeightRecord.frobenius_folded`).
    """

    kind: str
    layers: tuple[int | None, ...]
    norms: tuple[tuple[float, float], ...]
    folded: tuple[tuple[float, float], ...]


def changes_of_norms(
    a: Run[Any], b: Run[Any], population: Population, pairs: Mapping[str, str], *, paired: bool
) -> tuple[NormChange, ...]:
    """The norms by depth, over the sites of one kind that both runs have; empty where there are none.

    Args:
        a: run A.
        b: run B.
        population: the tokens looked at.
        pairs: name in A -> name in B of the sites that can be compared.
        paired: whether both runs read the same text.
    """
    depths = residual_depths(a, among=pairs)[1]
    changes: list[NormChange] = []
    chances: list[dict[str, Chance]] = []
    for depth in depths:
        in_a, in_b = (run[name].in_population(population) for run, name in ((a, depth.name), (b, pairs[depth.name])))
        changes.append(NormChange(depth.name, depth.label, (in_a.norms.mean_log, in_b.norms.mean_log)))
        chances.append({} if paired else chances_of_norm(in_a, in_b))
    if paired:
        return tuple(changes)
    known = [noise.get("log_norm", math.nan) for noise in noises(chances)]
    return tuple(replace(norm, noise=noise) for norm, noise in zip(changes, known, strict=True))


def changes_of_weight_norms(changes: Iterable[SiteChange]) -> tuple[KindNormChange, ...]:
    """The Frobenius norms of the matrices by kind, each kind where its first matrix is."""
    kinds: dict[str, list[SiteChange]] = {}
    for change in changes:
        if change.weight is not None and len(change.weight.shape) > 1:
            kinds.setdefault(change.kind, []).append(change)
    return tuple(
        KindNormChange(
            kind,
            tuple(change.layer for change in members),
            tuple(change.weight.frobenius for change in members if change.weight),
            tuple(change.weight.frobenius_folded for change in members if change.weight),
        )
        for kind, members in kinds.items()
    )
