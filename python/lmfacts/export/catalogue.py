"""Every statistic that can be exported, in the order in which it is written. `docs/export.md` repeats this table."""

from __future__ import annotations

import difflib
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Final

from lmfacts.errors import UsageError
from lmfacts.export.activation_statistics import OF_EACH_DIM, OF_SIZES, OF_TOKENS_AND_DIMS
from lmfacts.export.value_statistics import OF_VALUES
from lmfacts.export.weight_statistics import OF_EACH_ROW_AND_COLUMN, OF_WEIGHTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmfacts.export.statistic import Statistic

__all__ = ["STATISTICS", "choose_statistics"]

STATISTICS: Final[tuple[Statistic, ...]] = (
    *OF_SIZES,
    *OF_VALUES,
    *OF_TOKENS_AND_DIMS,
    *OF_WEIGHTS,
    *OF_EACH_DIM,
    *OF_EACH_ROW_AND_COLUMN,
)
"""Every statistic: single values first, those per dim last."""


def choose_statistics(kind: str, patterns: str | Sequence[str] | None, dims: bool | None) -> list[Statistic]:
    """The statistics to export.

    Args:
        kind: the kind of run.
        patterns: names and globs, also joined by commas; None for those that are exported by default.
        dims: False leaves out those per dim, whatever the patterns say; True adds them if there are no patterns.

    Returns:
        Those chosen, in the order of `STATISTICS`.

    Raises:
        UsageError: a pattern matches nothing, or nothing is left.
    """
    available = [statistic for statistic in STATISTICS if statistic.applies_to(kind)]
    if patterns is None:
        return [statistic for statistic in available if statistic.by_default or (dims and statistic.per)]
    given = [patterns] if isinstance(patterns, str) else patterns
    names: set[str] = set()
    for pattern in (part.strip() for text in given for part in text.split(",") if part.strip()):
        found = [statistic.name for statistic in available if fnmatchcase(statistic.name, pattern)]
        if not found:
            raise UsageError(_unknown(pattern, kind, [statistic.name for statistic in available]))
        names.update(found)
    chosen = [s for s in available if s.name in names and not (s.per and dims is False)]
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
