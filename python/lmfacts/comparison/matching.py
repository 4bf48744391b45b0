"""Which sites of two runs belong together, and which cannot be compared."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lmfacts.run.entries import WeightInfo

if TYPE_CHECKING:
    from lmfacts.run import Run
    from lmfacts.run.entries import SiteInfo
    from lmfacts.run.site import Population

__all__ = ["Matching", "NotComparable", "kind_and_layer", "match", "without_numbers"]

_BLOCK: Final = re.compile(r"blocks\.(\d+)\.(.+)")
_NUMBER: Final = re.compile(r"(?<=\.)\d+(?=\.)")


@dataclass(frozen=True)
class NotComparable:
    """A site that both runs have and that cannot be compared.

    Attributes:
        name: its name in A.
        reason: why not, in words, without a period.
    """

    name: str
    reason: str


@dataclass(frozen=True)
class Matching:
    """The sites of two runs.

    Attributes:
        pairs: the names in A and in B of the sites that can be compared, in A's order.
        not_comparable: sites of both runs that cannot be.
        only_a: names of sites that only A has.
        only_b: names of sites that only B has.
    """

    pairs: tuple[tuple[str, str], ...]
    not_comparable: tuple[NotComparable, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]


def match(a: Run[Any], b: Run[Any], population: Population) -> Matching:
    """Match sites by name, then by alias; weights by role, then by parameter and part."""
    entries_a, entries_b = _entries(a), _entries(b)
    by_parameter = {
        (entry.parameter, entry.part): name for name, entry in entries_b.items() if isinstance(entry, WeightInfo)
    }
    pairs: list[tuple[str, str]] = []
    refused: list[NotComparable] = []
    only_a: list[str] = []
    # A site that has its own name in both runs is never taken by another's alias.
    taken = set(entries_a) & set(entries_b)
    for name, entry in entries_a.items():
        other: str | None = name
        if name not in entries_b:
            candidates = [b.resolve(known) for known in (name, *entry.aliases) if known in b]
            if isinstance(entry, WeightInfo) and (entry.parameter, entry.part) in by_parameter:
                candidates.append(by_parameter[entry.parameter, entry.part])
            other = next((candidate for candidate in candidates if candidate not in taken), None)
        if other is None:
            only_a.append(name)
            continue
        taken.add(other)
        reason = _obstacle(entry, entries_b[other], population)
        if reason is None:
            pairs.append((name, other))
        else:
            refused.append(NotComparable(name, reason))
    only_b = [name for name in entries_b if name not in taken]
    return Matching(tuple(pairs), tuple(refused), tuple(only_a), tuple(only_b))


def kind_and_layer(name: str) -> tuple[str, int | None]:
    """The kind of a site and its layer: `blocks.3.z` is `z` of layer 3.

    A module's path has `*` for its first number; a site without a number is a kind of its own.
    """
    inside = _BLOCK.fullmatch(name)
    if inside:
        return inside[2], int(inside[1])
    number = _NUMBER.search(name)
    if number:
        return f"{name[: number.start()]}*{name[number.end() :]}", int(number[0])
    return name, None


def without_numbers(name: str) -> str:
    """A name with `*` for each of its numbers: `experts.3.W_in` is `experts.*.W_in`."""
    return _NUMBER.sub("*", name)


def _entries(run: Run[Any]) -> dict[str, SiteInfo]:
    return {entry.name: entry for entry in run.info.entries}


def _obstacle(a: SiteInfo, b: SiteInfo, population: Population) -> str | None:
    """Why two sites of one name cannot be compared, or None."""
    without = [side for side, entry in (("A", a), ("B", b)) if not _n_tokens(entry, population)]
    if without:
        return f"no tokens in {' and '.join(without)}"
    if isinstance(a, WeightInfo) and isinstance(b, WeightInfo):
        if a.shape != b.shape:
            return f"shape {_shape(a)} in A and {_shape(b)} in B"
    elif a.n_dims != b.n_dims:
        return f"{a.n_dims:,} dims in A and {b.n_dims:,} in B"
    return None


def _n_tokens(entry: SiteInfo, population: Population) -> int:
    return sum(entry.n_tokens.values()) if population == "all" else int(entry.n_tokens[population])


def _shape(weight: WeightInfo) -> str:
    return " x ".join(f"{size:,}" for size in weight.shape)
