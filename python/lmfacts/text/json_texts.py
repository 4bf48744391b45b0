"""Texts out of JSON: one value a line, or a file that is one list of records, one record, or several in a row."""

from __future__ import annotations

import codecs
import json
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING, Any, Final

from lmfacts.errors import CorpusError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["Broken", "JsonRecords", "json_lines", "text_of"]

_BLOCK_BYTES: Final = 1 << 16
_LONGEST_TOKEN: Final = 16
"""Characters at the end of what was read in which an error may mean that a word, a number or an escape goes on."""

_MOST_NAMES: Final = 20
_LONGEST_NAME: Final = 80
"""Of the fields that a message lists."""

_BLANK: Final = " \t\r\n"
_NAMES: Final = {list: "a list", dict: "an object", bool: "true or false", int: "a number", float: "a number"}


@dataclass(frozen=True, slots=True)
class Broken:
    """A record whose text cannot be used, and why."""

    reason: str


def text_of(value: Any, where: str, text_field: str) -> str | Broken:
    r"""The text of a record: of a string the string, of an object the value of a key.

    A text with half a surrogate pair (`\ud83d` alone) cannot be written as UTF-8, and no tokenizer takes it. Texts are
    cut in the middle of a character often enough that one of them should not end a long scan.

    Raises:
        CorpusError: there is no text.
    """
    if isinstance(value, dict):
        if text_field not in value:
            fields = _listed(value)
            raise CorpusError(
                f"{where}: expected a field {text_field!r}, got the fields {fields}; "
                "name the right one with --text-field"
            )
        value = value[text_field]
    if not isinstance(value, str):
        hint = "; a file that is one list of records is read if its name ends in .json" if type(value) is list else ""
        raise CorpusError(f"{where}: expected text, got {_NAMES.get(type(value), 'null')}{hint}")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return Broken(f"{value[error.start]!r} is half of a surrogate pair")
    return value


def json_lines(
    stream: IO[bytes], name: str, is_cut: Callable[[], bool] = lambda: False
) -> Iterator[tuple[Any, str, int]]:
    """Each line's value, where it is, and the bytes that it takes; blank lines are left out.

    Args:
        stream: the lines.
        name: what to call it.
        is_cut: asked at the end, whether the stream may end within a line, which is left out then.

    Raises:
        CorpusError: a line is not UTF-8, or no JSON.
    """
    for number, line in enumerate(stream, start=1):
        where = f"{name}, line {number}"
        if not line.endswith(b"\n") and is_cut():
            return
        try:
            text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
        except UnicodeDecodeError as error:
            raise CorpusError(f"{where}: expected UTF-8 text, got byte {line[error.start]:#04x}") from None
        if not text:
            continue
        try:
            value = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise CorpusError(f"{where}: expected a JSON object or string, got {_why(error)}") from None
        yield value, where, len(line)


class JsonRecords:
    """The records of a JSON file, read as far as is needed for the next one."""

    def __init__(self, stream: IO[bytes], name: str) -> None:
        self._stream = stream
        self._name = name
        self._decode = codecs.getincrementaldecoder("utf-8-sig")().decode
        self._parse = json.JSONDecoder().raw_decode
        self._text = ""
        self._at = 0
        self._n_bytes = 0
        self._n_records = 0

    def values(self) -> Iterator[tuple[Any, str, int]]:
        """The values of the list that the file is, or those that stand in it one after the other.

        Raises:
            CorpusError: it is not UTF-8, or no JSON, or holds something after the list.
        """
        if self._next() != "[":
            while self._next():
                yield self._value()
            return
        self._at += 1
        if self._next() != "]":
            yield self._value()
            while self._next() == ",":
                self._at += 1
                yield self._value()
        if self._next() != "]":
            raise self._wrong(f"{self._next()!r} where , or ] should be" if self._next() else "an end before its ]")
        self._at += 1
        if self._next():
            raise CorpusError(f"{self._name}: expected one JSON list or records in a row, got something after a list")

    def _value(self) -> tuple[Any, str, int]:
        self._next()
        while True:
            try:
                value, end = self._parse(self._text, self._at)
            except RecursionError as error:
                raise self._wrong(_why(error)) from None
            except ValueError as error:
                # Reading on helps where the text ends too soon.
                at = getattr(error, "pos", 0)
                is_end = at > len(self._text) - _LONGEST_TOKEN or str(error).startswith("Unterminated string")
                if is_end and self._read():
                    continue
                raise self._wrong(_why(error)) from None
            if end == len(self._text) and self._read():
                continue  # a number may go on
            break
        self._at = end
        self._n_records += 1
        n_bytes, self._n_bytes = self._n_bytes, 0
        return value, f"{self._name}, record {self._n_records}", n_bytes

    def _next(self) -> str:
        """The next character that is not blank, where reading goes on then; empty at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _BLANK:
                    return self._text[self._at]
                self._at += 1
            if not self._read():
                return ""

    def _read(self) -> bool:
        """Read on, as much again as is there; False at the end."""
        self._text, self._at = self._text[self._at :], 0
        block = self._stream.read(max(_BLOCK_BYTES, len(self._text)))
        try:
            self._text += self._decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise CorpusError(
                f"{self._name}: expected UTF-8 text, got byte {error.object[error.start]:#04x} after record "
                f"{self._n_records}"
            ) from None
        self._n_bytes += len(block)
        return bool(block)

    def _wrong(self, got: str) -> CorpusError:
        return CorpusError(f"{self._name}, record {self._n_records + 1}: expected JSON, got {got}")


def _listed(fields: Iterable[str]) -> str:
    """The first few keys of an object, each of a length that can be read."""
    names = [name if len(name) <= _LONGEST_NAME else f"{name[:_LONGEST_NAME]}..." for name in fields]
    more = f" and {len(names) - _MOST_NAMES} more" if len(names) > _MOST_NAMES else ""
    return f"{', '.join(map(repr, names[:_MOST_NAMES]))}{more}" if names else "none"


def _why(error: Exception) -> str:
    return "values nested too deeply" if isinstance(error, RecursionError) else str(error)
