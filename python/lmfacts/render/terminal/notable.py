"""How figures that are to be pointed at are printed."""

from __future__ import annotations

from lmfacts.quantities.catalogue import QUANTITIES
from lmfacts.render.terminal.console import STANDOUT

__all__ = ["distance_from_gaussian", "emphasis", "is_notable"]


def is_notable(quantity: str, value: float) -> bool:
    """Whether a figure of that key is to be pointed at; those that the catalogue does not have never are."""
    known = QUANTITIES.get(quantity)
    return known is not None and known.is_notable(value)


def distance_from_gaussian(quantity: str, value: float) -> float:
    """How far a figure of that key is from what a Gaussian has; -1 for NaN, so that it comes last."""
    return QUANTITIES[quantity].distance_from_gaussian(value)


def emphasis(quantity: str, value: float) -> str:
    """The style that a figure is printed in."""
    return STANDOUT if is_notable(quantity, value) else ""
