"""A run as it is read across depth: each site fetched once, its figures shared by all that ask for them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from lmfacts.quantities.site_figures import SiteFigures

if TYPE_CHECKING:
    from collections.abc import Container

    from lmfacts.run import Run
    from lmfacts.run.site import Population, SiteRecord

__all__ = ["RESIDUAL_KINDS", "Depth", "RunView", "main_population", "residual_depths"]

RESIDUAL_KINDS: Final = ("resid_post", "resid_pre", "resid_mid")
"""The kinds of site that the residual stream can be followed by, the one that is preferred first."""


@dataclass(frozen=True, slots=True)
class Depth:
    """A depth of the residual stream.

    Attributes:
        label: the layer's number, or `in` for what enters the first block.
        layer: the layer; -1 for `in`.
        name: name of the site.
    """

    label: str
    layer: int
    name: str


class RunView:
    """A run, with what several analyses or sections of a report share.

    Attributes:
        run: the run.
        population: the population that is described first: `rest`, or `all` where there are no other tokens than those
            at position 0.
        populations: it, and `first` where that is another one.
        residual_kind: the kind of site that the residual stream is followed by: `resid_post`, else `resid_pre`, else
            `resid_mid`; empty where none was recorded.
        depths: its sites, after what enters the first block if `resid_post` is followed.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self.population: Population = main_population(run)
        self.populations: tuple[Population, ...] = ("rest", "first") if self.population == "rest" else ("all",)
        self.residual_kind, self.depths = residual_depths(run)
        self._sites: dict[str, SiteRecord] = {}
        self._figures: dict[tuple[str, Population], SiteFigures] = {}

    def site(self, name: str, population: Population = "all") -> SiteRecord:
        """The record of a stored site."""
        if name not in self._sites:
            self._sites[name] = self.run[name]
        return self._sites[name].in_population(population)

    def figures(self, name: str, population: Population) -> SiteFigures:
        """The figures of a stored site."""
        key = (name, population)
        if key not in self._figures:
            self._figures[key] = SiteFigures(self.site(name, population))
        return self._figures[key]

    @cached_property
    def tokens(self) -> dict[int, str]:
        """Token id -> text."""
        return self.run.tokens

    @property
    def any_tokens(self) -> bool:
        """Whether any site was reached by any token."""
        return any(entry.was_reached for entry in self.run.info.entries)


def main_population(run: Run[Any]) -> Population:
    """`rest`, or `all` where a run has no tokens but those at position 0."""
    has_rest = any(entry.n_tokens["rest"] for entry in run.info.entries)
    return "rest" if has_rest or not run.info.sites else "all"


def residual_depths(run: Run[Any], among: Container[str] | None = None) -> tuple[str, list[Depth]]:
    """The kind of site to follow the residual stream by, and its sites by depth; empty if none was recorded.

    Args:
        run: the run.
        among: the stored names that count; by default all.
    """
    for kind in RESIDUAL_KINDS:
        layers = run.layers_of(kind)
        depths = [Depth(str(layer), layer, name) for layer, name in layers.items() if among is None or name in among]
        if not depths:
            continue
        if kind == "resid_post" and "blocks.0.resid_pre" in run:
            first = run.resolve("blocks.0.resid_pre")
            if among is None or first in among:
                depths.insert(0, Depth("in", -1, first))
        return kind, depths
    return "", []
