"""The first value that satisfies a condition."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["first"]

T = TypeVar("T")


def first(values: Iterable[T], is_wanted: Callable[[T], bool]) -> T | None:
    """The first value that is wanted; None if none is.

    A loop, since this is part of compiled graphs, and torch before 2.10 compiles no `next` of a generator.
    """
    for value in values:
        if is_wanted(value):
            return value
    return None
