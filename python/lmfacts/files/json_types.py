"""Types of JSON values as data, and the sentence that says what in a document is not of its type."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Mapping

__all__ = [
    "BOOLEAN",
    "COUNT",
    "INTEGER",
    "NUMBER",
    "STRING",
    "Listed",
    "Mapped",
    "OrNull",
    "Record",
    "Scalar",
    "Type",
    "found_type",
]

T_co = TypeVar("T_co", covariant=True)

_LARGEST: Final = 1 << 63
_LONGEST: Final = 40
"""Characters of a value in a message."""

_FOUND: Final = {str: "a string", int: "an integer", float: "a number", bool: "true or false", type(None): "null"}


class Type(ABC, Generic[T_co]):
    """What a value may be, and what Python has for it."""

    name: str
    """As it is called in a message."""

    @abstractmethod
    def problem(self, value: Any, where: str) -> str | None:
        """What is wrong with the value under a key, as a sentence without its period, or None."""


@dataclass(frozen=True)
class Scalar(Type[T_co]):
    """A value that has no parts.

    Attributes:
        name: what it is called.
        test: whether a value is one.
    """

    name: str
    test: Callable[[Any], bool]

    def problem(self, value: Any, where: str) -> str | None:
        """See `Type`."""
        return None if self.test(value) else f"{where} is {found_type(value)}, expected {self.name}"


@dataclass(frozen=True)
class OrNull(Type[T_co | None]):
    """A value of a type, or null."""

    of: Type[T_co]
    name: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", f"{self.of.name} or null")

    def problem(self, value: Any, where: str) -> str | None:
        """See `Type`."""
        if value is None:
            return None
        problem = self.of.problem(value, where)
        return problem if problem is None or not problem.endswith(self.of.name) else f"{problem} or null"


@dataclass(frozen=True)
class Listed(Type[list[T_co]]):
    """A list of values of one type."""

    of: Type[T_co]
    name: str = "a list"

    def problem(self, value: Any, where: str) -> str | None:
        """See `Type`."""
        if not isinstance(value, list):
            return f"{where} is {found_type(value)}, expected {self.name}"
        return next((p for i, v in enumerate(value) if (p := self.of.problem(v, f"{where}[{i}]")) is not None), None)


@dataclass(frozen=True)
class Mapped(Type[dict[str, T_co]]):
    """An object with keys of any name, or of a pattern, and values of one type."""

    of: Type[T_co]
    keys: re.Pattern[str] | None = None
    key_name: str = ""
    name: str = "an object"

    def problem(self, value: Any, where: str) -> str | None:
        """See `Type`."""
        if not isinstance(value, dict):
            return f"{where} is {found_type(value)}, expected {self.name}"
        for key, inner in value.items():
            if self.keys is not None and self.keys.fullmatch(key) is None:
                return f"{where} has the key {_short(key)}, expected {self.key_name}"
            problem = self.of.problem(inner, f"{where}[{_short(key)}]")
            if problem is not None:
                return problem
        return None


@dataclass(frozen=True)
class Record(Type[dict[str, Any]]):
    """An object whose keys have types of their own; keys that are not listed hold anything.

    Attributes:
        required: keys that must be there.
        optional: keys that may be missing.
        name: what it is called.
    """

    required: Mapping[str, Type[Any]] = field(default_factory=dict)
    optional: Mapping[str, Type[Any]] = field(default_factory=dict)
    name: str = "an object"

    def problem(self, value: Any, where: str) -> str | None:
        """See `Type`; of the whole document, `where` is empty."""
        if not isinstance(value, dict):
            return f"{where or 'it'} is {found_type(value)}, expected {self.name}"
        before = f"{where}." if where else ""
        for key, of in self.required.items():
            if key not in value:
                return f"{before}{key} is missing, expected {of.name}"
        for key, of in (*self.required.items(), *self.optional.items()):
            problem = of.problem(value[key], f"{before}{key}") if key in value else None
            if problem is not None:
                return problem
        return None


def _is_integer(value: Any) -> bool:
    return type(value) is int and -_LARGEST <= value < _LARGEST


def _is_number(value: Any) -> bool:
    return _is_integer(value) or (type(value) is float and math.isfinite(value))


STRING: Final[Scalar[str]] = Scalar("a string", lambda value: isinstance(value, str))
BOOLEAN: Final[Scalar[bool]] = Scalar("true or false", lambda value: isinstance(value, bool))
INTEGER: Final[Scalar[int]] = Scalar("an integer of 64 bits", _is_integer)
COUNT: Final[Scalar[int]] = Scalar("a whole number, 0 or more", lambda value: _is_integer(value) and value >= 0)
NUMBER: Final[Scalar[float]] = Scalar("a finite number", _is_number)


def found_type(value: Any) -> str:
    """A value as it is shown in a message, with what it is."""
    if isinstance(value, dict | list):
        return "an object" if isinstance(value, dict) else "a list"
    what = _FOUND[type(value)]
    return what if value is None or isinstance(value, bool) else f"{what} ({_short(value)})"


def _short(value: Any) -> str:
    if isinstance(value, int) and abs(value) >= 1 << 128:
        return "of very many digits"  # which Python does not spell
    text = repr(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."
