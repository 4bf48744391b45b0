"""Every quantity, in the order in which tables have them; `docs/export.md` repeats it."""

from __future__ import annotations

import difflib
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Final

from lmfacts.errors import UsageError
from lmfacts.quantities.of_sites import OF_BLOCK_FORMATS, OF_EACH_DIM, OF_SIZES, OF_TOKENS_AND_DIMS
from lmfacts.quantities.of_values import OF_VALUES
from lmfacts.quantities.of_weights import OF_EACH_ROW_AND_COLUMN, OF_WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmfacts.quantities.quantity import Quantity
    from lmfacts.quantities.value_figures import ValueFigures


__all__ = ["QUANTITIES", "choose_quantities", "json_figures"]

QUANTITIES: Final[dict[str, Quantity]] = {
    quantity.key: quantity
    for quantity in (
        *OF_SIZES,
        *OF_VALUES,
        *OF_TOKENS_AND_DIMS,
        *OF_BLOCK_FORMATS,
        *OF_WEIGHTS,
        *OF_EACH_DIM,
        *OF_EACH_ROW_AND_COLUMN,
    )
}
"""Key -> quantity: single values first, those per dim last."""


def json_figures(figures: ValueFigures, kind: str) -> dict[str, Any]:
    """The figures of a record in a JSON document, by key; those that do not apply are left out.

    Args:
        figures: those of the record.
        kind: the kind of its run.
    """
    values = {key: quantity.compute(figures) for key, quantity in QUANTITIES.items() if quantity.is_figure_of(kind)}
    return {key: value for key, value in values.items() if value is not None}


def choose_quantities(kind: str, patterns: str | Sequence[str] | None, dims: bool | None) -> list[Quantity]:
    """The quantities to export.

    Args:
        kind: the kind of run.
        patterns: names and globs, also joined by commas; None for those that are exported by default.
        dims: False leaves out those per dim, whatever the patterns say; True adds them if there are no patterns.

    Returns:
        Those chosen, in the order of `QUANTITIES`.

    Raises:
        UsageError: a pattern matches nothing, or nothing is left.
    """
    available = [quantity for quantity in QUANTITIES.values() if quantity.applies_to(kind)]
    if patterns is None:
        return [quantity for quantity in available if quantity.by_default or (dims and quantity.per)]
    given = [patterns] if isinstance(patterns, str) else patterns
    names: set[str] = set()
    for pattern in (part.strip() for text in given for part in text.split(",") if part.strip()):
        matching = [quantity.key for quantity in available if fnmatchcase(quantity.key, pattern)]
        if not matching:
            raise UsageError(_unknown(pattern, kind, [quantity.key for quantity in available]))
        names.update(matching)
    chosen = [quantity for quantity in available if quantity.key in names and not (quantity.per and dims is False)]
    if not chosen:
        wanted = ", ".join(given) or "nothing"
        raise UsageError(
            f"No statistic is left to export: {wanted} was asked for{' without dims' if dims is False else ''}."
        )
    return chosen


def _unknown(pattern: str, kind: str, names: list[str]) -> str:
    close = difflib.get_close_matches(pattern, names, n=3)
    hint = f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(names)}."
    return f"No statistic of {kind} matches {pattern!r}; {hint}"
