"""The statistics that are recorded of a site, each in a file of its own; they are found by listing this folder."""

from __future__ import annotations

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from lmfacts.run.statistic import Statistic

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["REQUIRED", "STATISTICS", "entry_of", "in_order", "recorded_in"]

_ENTRY_KEYS: Final = ("unit_sums", "blocks", "detail")
"""The keys of a site's entry that say of some statistics whether they were recorded; others are listed by name."""

_ENTRY_LIST: Final = "statistics"
"""The key of that list, which stands only where it is not empty."""


def _listed() -> dict[str, type[Statistic]]:
    statistics = {}
    for module in pkgutil.iter_modules(__path__):
        for value in vars(import_module(f"{__name__}.{module.name}")).values():
            if isinstance(value, type) and issubclass(value, Statistic) and value is not Statistic:
                statistics[value.name] = value
    return statistics


STATISTICS: Final[Mapping[str, type[Statistic]]] = _listed()
"""All of them, by name."""

REQUIRED: Final = frozenset(name for name, statistic in STATISTICS.items() if statistic.is_required)
"""The names of those that every state has."""


def in_order(names: frozenset[str]) -> list[type[Statistic]]:
    """Those with these names, in the order of all."""
    return [statistic for name, statistic in STATISTICS.items() if name in names]


def recorded_in(entry: Mapping[str, Any]) -> frozenset[str]:
    """The names of those that a site's entry in a run file says were recorded."""
    listed = entry.get(_ENTRY_LIST) or ()
    return frozenset(
        name
        for name, statistic in STATISTICS.items()
        if statistic.is_required or name in listed or (statistic.entry_key and entry.get(statistic.entry_key, False))
    )


def entry_of(names: Iterable[str]) -> dict[str, Any]:
    """What a site's entry says of the statistics that were recorded."""
    left = set(names) - REQUIRED
    entry: dict[str, Any] = {}
    for key in _ENTRY_KEYS:
        meant = {name for name, statistic in STATISTICS.items() if statistic.entry_key == key}
        entry[key] = meant <= left
        left -= meant if entry[key] else set()
    return entry | ({_ENTRY_LIST: sorted(left)} if left else {})
