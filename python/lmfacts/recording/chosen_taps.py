"""Which tensors of a model are recorded: one tap for each that was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmfacts.models import Architecture, Tap, module_taps
from lmfacts.sites import Site, SiteKind, is_module_pattern

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

__all__ = ["chosen_taps", "is_along_depth"]

_ALONG_DEPTH = frozenset(
    {SiteKind.EMBED, SiteKind.RESID_PRE, SiteKind.RESID_MID, SiteKind.RESID_POST, SiteKind.FINAL_NORM_OUT}
)
"""The sites of the stream: for them, unit sums are kept, and what varies from sequence to sequence."""


def is_along_depth(site: str) -> bool:
    """Whether a site is one of the residual stream."""
    return not is_module_pattern(site) and Site.parse(site).kind in _ALONG_DEPTH


def chosen_taps(
    model: nn.Module, architecture: Architecture, sites: str | Sequence[str] | Callable[[str], bool]
) -> list[Tap]:
    """One tap for each tensor that the patterns ask for, in depth order, then module paths in the model's."""
    if callable(sites):
        names, paths = architecture.select(sites), []
    else:
        listed = [part.strip() for part in sites.split(",")] if isinstance(sites, str) else list(sites)
        paths = [pattern for pattern in listed if is_module_pattern(pattern)]
        patterns = [pattern for pattern in listed if not is_module_pattern(pattern)]
        names = architecture.select(patterns) if patterns or not paths else []
    wanted = {architecture.owner(name) for name in names}
    taps = [tap for tap in architecture.taps if tap.site in wanted]
    by_path = {tap.site: tap for pattern in paths for tap in module_taps(model, pattern)}
    return [*taps, *by_path.values()]
