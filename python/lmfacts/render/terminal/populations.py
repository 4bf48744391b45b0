"""What populations are called in headings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from lmfacts.run.site import Population

__all__ = ["POPULATION_TITLES"]

POPULATION_TITLES: Final[dict[Population, str]] = {
    "rest": "Without position 0",
    "first": "At position 0",
    "all": "All tokens",
}
