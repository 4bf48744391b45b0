"""Text in: files, folders, standard input or the embedded text, read a piece at a time.

Nothing here knows tokenizers. A document is given as one or more pieces, so that a file of any size is read in constant
memory. A text file is one document; a line of a `.jsonl` file is one, and so is a record of a `.json` file.

The size of every file is asked for once, when the corpus is made. A file that grows is read to that size, so that a
corpus has an end, and what is said about it afterwards does not need the files. A pipe is read until its writers
close it.
"""

from __future__ import annotations

import io
import os
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

from lmfacts.errors import CorpusError, UsageError
from lmfacts.text.json_texts import Broken, JsonRecords, json_lines, text_of
from lmfacts.text.plain_text import Piece, text_pieces

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["Corpus", "Piece"]

_STDIN: Final = "-"
_STDIN_NAME: Final = "standard input"
_JSON_LINES: Final = (".jsonl", ".ndjson")
_IN_FOLDERS: Final = (".txt", *_JSON_LINES)
_NOT_YET: Final = (".csv", ".tsv", ".parquet", ".gz", ".zst", ".xz", ".bz2", ".zip", ".arrow")


@dataclass(frozen=True, slots=True)
class _Source:
    """One file, or standard input; `n_bytes` is None where its end is not known before it is reached."""

    path: str
    n_bytes: int | None

    @property
    def suffix(self) -> str:
        return Path(self.path).suffix.lower()


class Corpus:
    """The texts to be read. Checked before anything is loaded: every file exists, is readable and not empty.

    Attributes:
        n_bytes: size of all sources, or None where that is not known (standard input, pipes).
        inputs: the files and folders, and the descriptor of standard input, for `check_destination`.
        n_skipped: records that were left out so far since they are no text that a tokenizer can take.
        first_skipped: where the first of them is and why, or None.
    """

    def __init__(
        self,
        sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
        *,
        text_field: str = "text",
    ) -> None:
        """Find the files.

        Args:
            sources: files and folders (their `.txt`, `.jsonl` and `.ndjson` files, in order of path), `-` for standard
                input; the embedded text if None.
            text_field: the key that holds the text in the objects of `.jsonl` and `.json` files.

        Raises:
            FileNotFoundError: there is no such file.
            CorpusError: a file is empty, cannot be read, or is of a kind that is not read; standard input is closed.
            UsageError: a name is empty, or standard input is named twice; a list of sources has none.
        """
        self._text_field = text_field
        listed = [sources] if isinstance(sources, str | os.PathLike) else list(sources or [])
        if sources is not None and not listed:
            raise UsageError("corpus: expected files or folders, got an empty list; None stands for the embedded text")
        names = [os.fspath(source) for source in listed]
        if names.count(_STDIN) > 1:
            raise UsageError("corpus: expected standard input (-) once, got it twice")
        self._sources = [source for name in names for source in _sources(name)]
        self._embedded = not listed
        self.inputs: list[str | int] = [name for name in names if name != _STDIN]
        self.inputs += [source.path for source in self._sources if source.path != _STDIN]
        if _STDIN in names:
            self.inputs += _descriptor(_stdin())
        self.n_skipped = 0
        self.first_skipped: str | None = None
        if self._embedded:
            from lmfacts.demo.text import documents  # noqa: PLC0415  half a megabyte, only when it is asked for

            self.n_bytes: int | None = sum(len(text.encode()) for _, text in documents())
        else:
            sizes = [source.n_bytes for source in self._sources]
            self.n_bytes = None if None in sizes else sum(size or 0 for size in sizes)

    def __iter__(self) -> Iterator[Piece]:
        """The pieces in order.

        Raises:
            CorpusError: a source is not UTF-8 text, or a record of a `.jsonl` or `.json` file is not what it should be;
                a file is gone or cannot be read any more.
        """
        self.n_skipped, self.first_skipped = 0, None
        if self._embedded:
            from lmfacts.demo.text import documents  # noqa: PLC0415  as above

            for _, text in documents():
                yield Piece(text, ends_document=True, n_bytes=len(text.encode()))
        for source in self._sources:
            if source.path == _STDIN:
                yield from text_pieces(_stdin(), _STDIN_NAME)
                continue
            try:
                with _Opened(source) as stream:
                    yield from self._pieces(stream, source)
            except OSError as error:
                raise CorpusError(
                    f"{source.path}: expected text to read, and it cannot be read any more ({error.strerror or error})"
                ) from error

    def describe(self) -> dict[str, Any]:
        """What is read, for the run file; sizes of files are those that they had at first."""
        if self._embedded:
            from lmfacts.demo.text import fingerprint  # noqa: PLC0415  as above

            return {
                "kind": "embedded",
                "name": "pydoc_data.topics",
                "fingerprint": fingerprint(),
                "n_bytes": self.n_bytes,
            }
        if [source.path for source in self._sources] == [_STDIN]:
            return {"kind": "stdin"}
        files: list[dict[str, Any]] = [
            {"path": source.path} | ({} if source.n_bytes is None else {"n_bytes": source.n_bytes})
            for source in self._sources
        ]
        return {"kind": "files", "files": files, "n_bytes": self.n_bytes}

    def _pieces(self, stream: _Opened, source: _Source) -> Iterator[Piece]:
        if source.suffix in _JSON_LINES:
            values = json_lines(stream, source.path, stream.has_more)
        elif source.suffix == ".json":
            values = JsonRecords(stream, source.path).values()
        else:
            yield from text_pieces(stream, source.path, stream.has_more)
            return
        n_bytes_before = 0
        for value, where, n_bytes in values:
            text = text_of(value, where, self._text_field)
            if isinstance(text, Broken):
                self.n_skipped += 1
                self.first_skipped = self.first_skipped or f"{where}: {text.reason}"
                n_bytes_before += n_bytes
                continue
            yield Piece(text, ends_document=True, n_bytes=n_bytes_before + n_bytes)
            n_bytes_before = 0


class _UpTo(io.RawIOBase):
    """A file to the size that it had; what was written after that is not read."""

    def __init__(self, path: str, n_bytes: int | None) -> None:
        self._file = Path(path).open("rb", buffering=0)  # noqa: SIM115  `close` closes it
        self._left = n_bytes

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        n_bytes = self._file.readinto(memoryview(buffer)[: self._left])
        if self._left is not None:
            self._left -= n_bytes or 0
        return n_bytes

    def has_more(self) -> bool:
        return self._left == 0 and bool(self._file.read(1))

    def close(self) -> None:
        self._file.close()
        super().close()


class _Opened(io.BufferedReader):
    """A source to its end."""

    def __init__(self, source: _Source) -> None:
        self._file = _UpTo(source.path, source.n_bytes)
        super().__init__(self._file)

    def has_more(self) -> bool:
        """Whether a file has grown; asked when it was read to the size that it had."""
        return self._file.has_more()


def _stdin() -> IO[bytes]:
    """Standard input as bytes."""
    stream = getattr(sys.stdin, "buffer", None)
    if stream is None or stream.closed:
        raise CorpusError("standard input: expected text, and it is closed here; name a file instead of -")
    standard_input: IO[bytes] = stream
    return standard_input


def _descriptor(stream: IO[bytes]) -> list[int]:
    try:
        return [stream.fileno()]
    except (OSError, ValueError):  # one that is made of memory has none
        return []


def _sources(name: str) -> list[_Source]:
    """The files that an argument stands for."""
    if name == _STDIN:
        _stdin()
        return [_Source(name, None)]
    if not name:
        raise UsageError("corpus: expected a file or folder, got an empty name; is a variable not set?")
    status = _status(name)
    if stat.S_ISDIR(status.st_mode):
        return _in_folder(name)
    source = _source(name, status)
    if source.suffix in _NOT_YET:
        raise CorpusError(
            f"{name}: expected a .txt, .jsonl or .json file, got {source.suffix}; write its text into one of those "
            "first"
        )
    if source.n_bytes == 0:
        raise CorpusError(f"{name}: expected text, got an empty file")
    return [source]


def _in_folder(folder: str) -> list[_Source]:
    def refuse(error: OSError) -> None:
        raise CorpusError(f"{error.filename}: expected a folder that can be read, got {error.strerror}") from error

    paths = [
        str(Path(parent) / name)
        for parent, _, names in os.walk(folder, onerror=refuse)
        for name in names
        if Path(name).suffix.lower() in _IN_FOLDERS
    ]
    if not paths:
        raise CorpusError(
            f"{folder}: expected .txt, .jsonl or .ndjson files in this folder, got none; name files of other kinds "
            "themselves"
        )
    sources = [_source(path, _status(path)) for path in sorted(paths)]
    filled = [source for source in sources if source.n_bytes]
    if not filled:
        raise CorpusError(f"{folder}: expected text, got {len(sources)} empty files")
    return filled


def _status(path: str) -> os.stat_result:
    """What a path stands for now."""
    try:
        return Path(path).stat()
    except FileNotFoundError:
        hint = "; the link points to nothing" if Path(path).is_symlink() else ""
        raise FileNotFoundError(f"{path}: no such file or folder; expected text to read{hint}") from None
    except (OSError, ValueError) as error:
        raise CorpusError(f"{path}: expected text to read, got {getattr(error, 'strerror', None) or error}") from error


def _source(path: str, status: os.stat_result) -> _Source:
    if stat.S_ISBLK(status.st_mode) or stat.S_ISSOCK(status.st_mode):
        raise CorpusError(f"{path}: expected text to read, got a device or socket")
    if not os.access(path, os.R_OK):
        raise CorpusError(f"{path}: expected text to read, got a file that may not be read")
    return _Source(path, status.st_size if stat.S_ISREG(status.st_mode) else None)
