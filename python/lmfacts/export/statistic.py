"""What an exported statistic is, and what it is computed from."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from lmfacts.quantities.value_figures import ValueFigures
from lmfacts.run.kinds import KINDS
from lmfacts.stats.shape import ShapeStatistics, shape_statistics

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from lmfacts.run.record import Record
    from lmfacts.run.site import SiteRecord
    from lmfacts.run.weight import WeightRecord

    Compute = Callable[["Source"], float | NDArray[Any] | None]

__all__ = ["COUNT", "NONE", "QUANTILES", "SHARE", "VALUE", "Source", "Statistic"]

VALUE: Final = "value"
"""The unit of the values themselves."""

COUNT: Final = "count"
SHARE: Final = "share"

NONE: Final = "-"
"""No unit: a ratio, an exponent."""

QUANTILES: Final = (0.0001, 0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999, 0.9999)
"""The quantiles that are exported."""


class Source:
    """One site over one population, or one weight, and what several statistics share.

    Attributes:
        record: the record, over its population.
    """

    def __init__(self, record: Record) -> None:
        self.record = record

    @property
    def site(self) -> SiteRecord:
        """The record as one of a site, for the statistics that only sites have."""
        return cast("SiteRecord", self.record)

    @property
    def weight(self) -> WeightRecord:
        """The record as one of a weight, for the statistics that only weights have."""
        return cast("WeightRecord", self.record)

    @cached_property
    def quantiles(self) -> dict[float, float]:
        """`QUANTILES`, each with its value."""
        return dict(zip(QUANTILES, self.record.quantile(QUANTILES).tolist(), strict=True))

    @cached_property
    def shape(self) -> ShapeStatistics:
        """How far the distribution is from a Gaussian."""
        return shape_statistics(self.record.distribution)

    @cached_property
    def figures(self) -> ValueFigures:
        """The figures of the reports."""
        return ValueFigures(self.record)


@dataclass(frozen=True)
class Statistic:
    """A statistic of the exported table.

    Attributes:
        name: its name in the column `statistic`; no two have the same.
        unit: the unit of its value.
        definition: one sentence.
        of: what runs have it: `activations` (and gradients), `weights`, or `both`.
        compute: the value; an array for those per dim, by dim; None where the statistic does not apply or was not
            recorded, and NaN where it has no meaning (no values, values that are all equal).
        per: what the column `dim` counts, from 0, for a statistic that has many values; empty for a single value.
        by_default: whether it is exported when no statistics are named.
    """

    name: str
    unit: str
    definition: str
    of: Literal["activations", "weights", "both"]
    compute: Compute
    per: str = ""
    by_default: bool = True

    def applies_to(self, kind: str) -> bool:
        """Whether runs of a kind (`activations`, `weights`, `gradients`) have it."""
        return self.of == "both" or (self.of == "activations") == KINDS[kind].reads_text
