"""The norm of the residual stream by depth."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lmfacts.analysis.run_view import RunView
    from lmfacts.run.site import SiteRecord

__all__ = ["NormPoint", "mean_log_norm", "residual_norms"]


@dataclass(frozen=True, slots=True)
class NormPoint:
    """The L2 norms of the tokens at one depth.

    Attributes:
        label: the layer, or `in`.
        name: name of the site.
        mean: mean norm of the main population (all but position 0, where there are others).
        growth: geometric mean of the norms over that one depth before; NaN at the first.
        first_mean: mean norm at position 0.
    """

    label: str
    name: str
    mean: float
    growth: float
    first_mean: float


def residual_norms(view: RunView) -> list[NormPoint]:
    """The norms at each depth of the residual stream; empty where it was not recorded."""
    norms = [view.site(depth.name, view.population).norms for depth in view.depths]
    if not norms:
        return []
    growth = [math.nan, *(math.exp(after.mean_log - before.mean_log) for before, after in pairwise(norms))]
    return [
        NormPoint(depth.label, depth.name, norm.mean, factor, view.site(depth.name, "first").norms.mean)
        for depth, norm, factor in zip(view.depths, norms, growth, strict=True)
    ]


def mean_log_norm(site: SiteRecord, *, centered: bool) -> float:
    """Mean ln norm of a site's tokens over its population.

    Args:
        site: the site.
        centered: after each token's mean over its dims is subtracted, as LayerNorm does.
    """
    return site.norms.mean_log_centered if centered else site.norms.mean_log
