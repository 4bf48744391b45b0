"""The figures of a record, whatever it is of."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from lmfacts.quantities.site_figures import SiteFigures
from lmfacts.quantities.weight_figures import WeightFigures
from lmfacts.run.site import SiteRecord

if TYPE_CHECKING:
    from lmfacts.quantities.value_figures import ValueFigures
    from lmfacts.run.record import Record
    from lmfacts.run.weight import WeightRecord

__all__ = ["figures_of"]


def figures_of(record: Record) -> ValueFigures:
    """Those of a site over its population, or of a weight."""
    # Asked in this order, so that a run of activations does not load what weights need.
    return SiteFigures(record) if isinstance(record, SiteRecord) else WeightFigures(cast("WeightRecord", record))
