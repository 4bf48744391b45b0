"""Text in: files, folders, standard input or the embedded text, read a piece at a time.

Nothing here knows tokenizers. A document is given as one or more pieces, so that a file of any size is read in constant
memory. A text file is one document; a line of a `.jsonl` file is one.
"""

from __future__ import annotations

import codecs
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from lmfacts.errors import CorpusError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Corpus", "Piece"]

_BLOCK_BYTES = 1 << 16
_NOT_YET = {".csv", ".parquet", ".gz", ".zst", ".xz", ".bz2", ".zip", ".arrow"}
_STDIN = "-"


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a document's text.

    Attributes:
        text: the text.
        ends_document: whether the document ends with it.
        n_bytes: bytes of the source that were read for it.
    """

    text: str
    ends_document: bool
    n_bytes: int


class Corpus:
    """What is to be read, checked before anything is loaded: every file exists, is readable and not empty.

    Attributes:
        n_bytes: size of all sources, or None where that is not known (standard input).
    """

    def __init__(
        self,
        sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
        *,
        text_field: str = "text",
    ) -> None:
        """Find the files.

        Args:
            sources: files and folders (their `.txt` and `.jsonl` files, in order of path), `-` for standard input; the
                embedded text if None or empty.
            text_field: the key that holds the text in the objects of a `.jsonl` file.

        Raises:
            FileNotFoundError: there is no such file.
            CorpusError: a file is empty, or of a kind that is not read.
        """
        self._text_field = text_field
        listed = [sources] if isinstance(sources, str | os.PathLike) else list(sources or [])
        self._files = [file for source in listed for file in _files(os.fspath(source))]
        self._embedded = not listed
        if self._embedded:
            from lmfacts.demo.text import documents  # noqa: PLC0415  half a megabyte, only when it is asked for

            self.n_bytes: int | None = sum(len(text.encode()) for _, text in documents())
        elif _STDIN in self._files:
            self.n_bytes = None
        else:
            self.n_bytes = sum(Path(file).stat().st_size for file in self._files)

    def __iter__(self) -> Iterator[Piece]:
        """The pieces in order.

        Raises:
            CorpusError: a source is not UTF-8 text, or a line of a `.jsonl` file is not what it should be.
        """
        if self._embedded:
            from lmfacts.demo.text import documents  # noqa: PLC0415  as above

            for _, text in documents():
                yield Piece(text, ends_document=True, n_bytes=len(text.encode()))
        for file in self._files:
            if file == _STDIN:
                yield from _text_pieces(sys.stdin.buffer, "standard input")
            else:
                with Path(file).open("rb") as stream:
                    yield from self._jsonl(stream, file) if file.endswith(".jsonl") else _text_pieces(stream, file)

    def describe(self) -> dict[str, Any]:
        """What is read, for the run file."""
        if self._embedded:
            from lmfacts.demo.text import fingerprint  # noqa: PLC0415  as above

            return {
                "kind": "embedded",
                "name": "pydoc_data.topics",
                "fingerprint": fingerprint(),
                "n_bytes": self.n_bytes,
            }
        if self._files == [_STDIN]:
            return {"kind": "stdin"}
        files = [
            {"path": file} if file == _STDIN else {"path": file, "n_bytes": Path(file).stat().st_size}
            for file in self._files
        ]
        return {"kind": "files", "files": files, "n_bytes": self.n_bytes}

    def _jsonl(self, stream: IO[bytes], name: str) -> Iterator[Piece]:
        for number, line in enumerate(stream, start=1):
            where = f"{name}, line {number}"
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8").strip()
            except UnicodeDecodeError as error:
                raise CorpusError(f"{where}: expected UTF-8 text, got byte {line[error.start]:#04x}") from None
            if text:
                yield Piece(self._text_of(text, where), ends_document=True, n_bytes=len(line))

    def _text_of(self, line: str, where: str) -> str:
        try:
            value = json.loads(line)
        except ValueError as error:
            raise CorpusError(
                f"{where}: expected a JSON object with a {self._text_field!r} field, got {error}"
            ) from None
        if isinstance(value, dict):
            if self._text_field not in value:
                fields = ", ".join(map(repr, value)) or "none"
                raise CorpusError(
                    f"{where}: expected a field {self._text_field!r}, got the fields {fields}; "
                    "name the right one with --text-field"
                )
            value = value[self._text_field]
        if not isinstance(value, str):
            raise CorpusError(f"{where}: expected text, got {type(value).__name__}")
        return value


def _files(source: str) -> list[str]:
    if source == _STDIN:
        return [source]
    path = Path(source)
    if path.is_dir():
        found = sorted(str(file) for file in path.rglob("*") if file.suffix in (".txt", ".jsonl") and file.is_file())
        if not found:
            raise CorpusError(f"{source}: expected .txt or .jsonl files in this folder, got none")
        files = [file for file in found if Path(file).stat().st_size]
        if not files:
            raise CorpusError(f"{source}: expected text, got {len(found)} empty files")
        return files
    if not path.exists():
        raise FileNotFoundError(f"{source}: no such file or folder; expected text to read")
    if path.suffix in _NOT_YET:
        raise CorpusError(
            f"{source}: expected a .txt or .jsonl file, got {path.suffix}; write its text into one of those first"
        )
    if path.is_file() and path.stat().st_size == 0:
        raise CorpusError(f"{source}: expected text, got an empty file")
    return [source]


def _text_pieces(stream: IO[bytes], name: str) -> Iterator[Piece]:
    """A text as pieces that end at the end of a line where there is one, else of a word.

    A piece is given when the next one is known to exist, so that the last one can say that the document ends.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    waiting: Piece | None = None
    text, n_bytes, offset = "", 0, 0
    while True:
        block = stream.read(_BLOCK_BYTES)
        try:
            text += decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            raise CorpusError(
                _not_text(name, f"byte {error.object[error.start]:#04x} near position {offset}")
            ) from None
        if "\0" in text:
            raise CorpusError(_not_text(name, f"a zero byte near position {offset}"))
        offset += len(block)
        n_bytes += len(block)
        cut = len(text) if not block else _cut(text)
        if cut:
            if waiting is not None:
                yield waiting
            waiting = Piece(text[:cut], ends_document=False, n_bytes=n_bytes)
            text, n_bytes = text[cut:], 0
        if not block:
            break
    if waiting is None:
        raise CorpusError(f"{name}: expected text, got nothing")
    yield Piece(waiting.text, ends_document=True, n_bytes=waiting.n_bytes)


def _cut(text: str) -> int:
    """Where to end a piece: after the last line end, else before the last space, else nowhere yet.

    A very long word is cut in the end, so that memory stays bounded.
    """
    at = text.rfind("\n") + 1 or max(text.rfind(" "), 0)
    return at or (len(text) if len(text) > 16 * _BLOCK_BYTES else 0)


def _not_text(name: str, found: str) -> str:
    return f"{name}: expected UTF-8 text, got {found}; a binary file or another encoding cannot be read"
