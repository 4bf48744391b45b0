"""All facts in their order: those of lmfacts, one a file, and those that other packages bring."""

from __future__ import annotations

import difflib
import re
import warnings
from dataclasses import replace
from functools import cache
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any, Final

from lmfacts.errors import UsageError
from lmfacts.facts.definition import Definition
from lmfacts.facts.inputs import Inputs
from lmfacts.run import Run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from lmfacts.facts.fact import Fact

__all__ = ["CATALOGUE", "GROUP", "catalogue", "check", "definition"]

GROUP: Final = "lmfacts.facts"
"""The group of entry points by which other packages bring facts: each names a `Definition`."""

_FILE: Final = re.compile(r"f(\d+)\w*")


def _own() -> dict[str, Definition]:
    """The definition in each file of this folder that is named after a fact, in the facts' order."""
    names = [module.name for module in iter_modules([str(Path(__file__).parent)]) if _FILE.fullmatch(module.name)]
    definitions = [import_module(f"lmfacts.facts.{name}").DEFINITION for name in names]
    return {each.id: each for each in sorted(definitions, key=_place)}


def _place(entry: Definition) -> tuple[int, str]:
    """By number, then by letter: F1, F2, F12, F12b."""
    number = re.search(r"\d+", entry.id)
    return (int(number[0]) if number else 0, entry.id)


CATALOGUE: Final[Mapping[str, Definition]] = _own()
"""The facts of lmfacts by id, in order."""


@cache
def catalogue() -> Mapping[str, Definition]:
    """All facts by id: those of lmfacts, then those of other packages, each with its package.

    A fact that cannot be loaded, or has the id of another, is left out with a warning that names its package.
    """
    from importlib.metadata import entry_points  # noqa: PLC0415  slow to load

    known = dict(CATALOGUE)
    for entry in sorted(
        entry_points(group=GROUP), key=lambda entry: (entry.dist.name if entry.dist else "", entry.name)
    ):
        package = entry.dist.name if entry.dist else entry.value
        try:
            loaded = entry.load()
        except Exception as error:  # noqa: BLE001  somebody else's code
            _left_out(package, entry.name, f"it cannot be loaded ({type(error).__name__}: {error})")
            continue
        if not isinstance(loaded, Definition):
            _left_out(package, entry.name, f"expected a lmfacts.facts.Definition, found a {type(loaded).__name__}")
        elif loaded.id.upper() in known:
            holder = known[loaded.id.upper()].package or "lmfacts"
            _left_out(package, entry.name, f"the id {loaded.id} is that of a fact of {holder}")
        else:
            known[loaded.id.upper()] = replace(loaded, id=loaded.id.upper(), package=package)
    return known


def _left_out(package: str, name: str, reason: str) -> None:
    warnings.warn(f"The fact {name!r} of the package {package} is left out: {reason}.", stacklevel=3)


def definition(fact_id: str, known: Mapping[str, Definition] | None = None) -> Definition:
    """The definition of a fact; its id may be in lower case.

    Args:
        fact_id: the id.
        known: where to look it up; by default all that are installed.

    Raises:
        UsageError: there is no such fact.
    """
    known = catalogue() if known is None else known
    entry = known.get(fact_id.upper())
    if entry is None:
        close = difflib.get_close_matches(fact_id.upper(), known, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise UsageError(f"The catalogue has no fact {fact_id!r}.{hint} It has {', '.join(known)}.")
    return entry


def check(
    *runs: Run[Any] | Iterable[Run[Any]] | Inputs,
    only: Sequence[str] | None = None,
    known: Mapping[str, Definition] | None = None,
) -> list[Fact]:
    """Check facts on runs of one model.

        lmfacts.check(lmfacts.load("gpt2.lmfacts"), lmfacts.load("gpt2-weights.lmfacts"))

    Args:
        runs: at most one of each kind.
        only: ids of the facts to check; all by default.
        known: the catalogue; by default all facts that are installed.

    Returns:
        The facts in the catalogue's order; NOT-APPLICABLE where a run that is needed is not given.

    Raises:
        UsageError: no runs, two of one kind, or an id that the catalogue lacks.
        MismatchedRunsError: runs of different models.
    """
    known = catalogue() if known is None else known
    inputs = runs[0] if len(runs) == 1 and isinstance(runs[0], Inputs) else Inputs.of(_flat(runs))
    wanted = set(known) if only is None else {definition(fact_id, known).id for fact_id in only}
    return [entry.check(inputs) for fact_id, entry in known.items() if fact_id in wanted]


def _flat(given: Iterable[Run[Any] | Iterable[Run[Any]] | Inputs]) -> list[Run[Any]]:
    runs: list[Run[Any]] = []
    for each in given:
        if isinstance(each, Run):
            runs.append(each)
        else:
            runs += each.runs if isinstance(each, Inputs) else each
    return runs
