"""What a quantity is: something that can be said of a site or a weight in a number."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal

from lmfacts.run.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from lmfacts.quantities.site_figures import SiteFigures
    from lmfacts.quantities.value_figures import ValueFigures
    from lmfacts.quantities.weight_figures import WeightFigures

    Result = float | NDArray[Any] | None

__all__ = ["COUNT", "NONE", "SHARE", "VALUE", "Quantity", "of_sites", "of_values", "of_weights"]

VALUE: Final = "value"
"""The unit of the values themselves."""
COUNT: Final = "count"
SHARE: Final = "share"
NONE: Final = "-"
"""No unit: a ratio, an exponent."""

Written = Literal["by default", "by name"]
Scope = Literal["sites", "weights", "both"]


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """One entry of the catalogue.

    Attributes:
        key: its name, the same in tables, documents and options; no two have the same.
        unit: the unit of its value.
        definition: one sentence.
        of: what has it: `sites` (of activations and of gradients), `weights`, or `both`.
        compute: the value, from the figures of a record; an array for those that have many, in the order of `per`; None
            where the quantity does not apply or was not recorded, and NaN where it has no meaning (no values, values
            that are all equal).
        per: what an array counts, from 0; empty for a single value.
        exported: whether tables have it when no statistics are named; those with `per` never do.
        in_figures: of what it is one of the figures in JSON documents, which are those that take no time: `sites`,
            `weights`, `both`, or nothing.
        gaussian: what a Gaussian sample has, where reports measure the distance from that.
        limit: the distance from `gaussian` from which reports point at it.
    """

    key: str
    unit: str
    definition: str
    of: Scope
    compute: Callable[[Any], Result]
    per: str = ""
    exported: Written = "by default"
    in_figures: Scope | Literal[""] = ""
    gaussian: float = 0.0
    limit: float = math.inf

    @property
    def by_default(self) -> bool:
        """Whether tables have it when no statistics are named."""
        return self.exported == "by default" and not self.per

    def applies_to(self, kind: str) -> bool:
        """Whether runs of a kind (`activations`, `weights`, `gradients`) have it."""
        return self.of == "both" or (self.of == "sites") == KINDS[kind].reads_text

    def is_figure_of(self, kind: str) -> bool:
        """Whether JSON documents of a kind of run have it among the figures of a record."""
        return self.in_figures in ("both", "sites" if KINDS[kind].reads_text else "weights")

    def distance_from_gaussian(self, value: float) -> float:
        """How far a value is from what a Gaussian has, in its own unit; -1 for NaN, so that it comes last."""
        return -1.0 if math.isnan(value) else abs(value - self.gaussian)

    def is_notable(self, value: float) -> bool:
        """Whether a value is to be pointed at."""
        return self.distance_from_gaussian(value) > self.limit


def of_values(
    key: str, unit: str, definition: str, compute: Callable[[ValueFigures], Result], **options: Any
) -> Quantity:
    """A quantity of values, whatever these are."""
    return Quantity(key=key, unit=unit, definition=definition, of="both", compute=compute, **options)


def of_sites(
    key: str, unit: str, definition: str, compute: Callable[[SiteFigures], Result], **options: Any
) -> Quantity:
    """A quantity of tokens and dims."""
    return Quantity(key=key, unit=unit, definition=definition, of="sites", compute=compute, **options)


def of_weights(
    key: str, unit: str, definition: str, compute: Callable[[WeightFigures], Result], **options: Any
) -> Quantity:
    """A quantity of matrices and vectors."""
    return Quantity(key=key, unit=unit, definition=definition, of="weights", compute=compute, **options)
