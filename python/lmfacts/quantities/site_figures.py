"""The figures of one site over one population: those of its values, and those of its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lmfacts.quantities.value_figures import ValueFigures

if TYPE_CHECKING:
    from lmfacts.run.site import SiteRecord

__all__ = ["SiteFigures"]


class SiteFigures(ValueFigures):
    """What reports say about a site over its population.

    Attributes:
        site: the record, over one population.
    """

    def __init__(self, site: SiteRecord) -> None:
        super().__init__(site)
        self.site = site
