"""Writing blocks of rows to Parquet, CSV and JSON, one block after the other, so that memory stays as it is.

Numbers are written so that reading them gives the same float64. No value is null in Parquet and JSON and an empty cell
in CSV. JSON has no infinities: they are null there.
"""

from __future__ import annotations

import gzip
import json
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from importlib import import_module
from io import TextIOWrapper
from typing import TYPE_CHECKING, Any, Final, TextIO

import numpy as np

from lmfacts.errors import MissingExtraError, UsageError

if TYPE_CHECKING:
    import os
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from numpy.typing import NDArray

    from lmfacts.export.tables import Block, Column, Content

    Write = Callable[[Block], None]
    Writer = Callable[[Path, Sequence[Column], Mapping[str, Any]], AbstractContextManager[Write]]

__all__ = ["FORMATS", "METADATA_KEY", "Format", "require", "suffix_of", "writing"]

METADATA_KEY: Final = "lmfacts"
"""The key of Parquet's metadata under which the JSON text about the run stands."""

_GZIP_LEVEL: Final = 4
_ROWS_OF_A_GROUP: Final = 1 << 18


def suffix_of(path: str | os.PathLike[str]) -> str:
    """The entry of `FORMATS` that a name ends with.

    Raises:
        UsageError: there is none.
    """
    name = str(path).casefold()
    for suffix in FORMATS:
        if name.endswith(suffix):
            return suffix
    *others, last = FORMATS
    raise UsageError(f"Cannot tell the format from the name {path}: it has to end in {', '.join(others)} or {last}.")


def require(suffix: str) -> None:
    """Check that what a format needs is installed.

    Raises:
        MissingExtraError: it is not.
    """
    if FORMATS[suffix].needs_arrow:
        _arrow("pyarrow.parquet")


@contextmanager
def writing(path: Path, suffix: str, columns: Sequence[Column], header: Mapping[str, Any]) -> Iterator[Write]:
    """Open a file for rows; the file is whole after the body.

    Args:
        path: where to write; what is there is overwritten.
        suffix: the format.
        columns: the columns of the blocks.
        header: what to say about the table, in plain JSON types; CSV leaves it out.

    Yields:
        What writes a block.
    """
    with FORMATS[suffix].writer(path, columns, header) as write:
        yield write


# CSV and JSON


@contextmanager
def _csv(path: Path, columns: Sequence[Column], _header: Mapping[str, Any]) -> Iterator[Write]:
    with path.open("w", encoding="utf-8", newline="") as file:
        yield _csv_lines(file, columns)


@contextmanager
def _csv_gz(path: Path, columns: Sequence[Column], _header: Mapping[str, Any]) -> Iterator[Write]:
    # Without a name and a time inside, the same run gives the same bytes.
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", _GZIP_LEVEL, raw, mtime=0) as packed,
        TextIOWrapper(packed, encoding="utf-8", newline="") as file,
    ):
        yield _csv_lines(file, columns)


def _csv_lines(file: TextIO, columns: Sequence[Column]) -> Write:
    file.write(",".join(column.name for column in columns) + "\n")
    heads = ["", *[","] * (len(columns) - 1)]

    def write(block: Block) -> None:
        file.write(_lines(block, heads, "\n", _csv_text, ""))

    return write


@contextmanager
def _json(path: Path, columns: Sequence[Column], header: Mapping[str, Any]) -> Iterator[Write]:
    heads = [f", {json.dumps(column.name)}: " for column in columns]
    heads[0] = ",\n{" + heads[0].removeprefix(", ")
    with path.open("w", encoding="utf-8", newline="") as file:
        file.write(json.dumps(header, allow_nan=False).removesuffix("}") + ', "rows": [')
        skipped = 1  # the first row has no comma before it

        def write(block: Block) -> None:
            nonlocal skipped
            file.write(_lines(block, heads, "}", _json_text, "null")[skipped:])
            skipped = 0

        yield write
        file.write("\n]}\n")


def _lines(block: Block, heads: Sequence[str], end: str, spell: Callable[[str], str], null: str) -> str:
    """The rows of a block as text.

    Args:
        block: the rows.
        heads: what stands before the cell of each column.
        end: what stands after the last.
        spell: how a string is written.
        null: how no value is written.
    """
    # What is the same in all rows is put together once; what differs is laid between it by slices, which takes a tenth
    # of a microsecond a row.
    parts: list[list[str]] = []
    same = ""
    for head, cells in zip(heads, block.cells, strict=True):
        text = _spelled(cells, spell, null)
        same += head
        if isinstance(text, str):
            same += text
        else:
            parts += [[same] * block.n_rows, text]
            same = ""
    parts.append([same + end] * block.n_rows)
    pieces = [""] * (block.n_rows * len(parts))
    for place, part in enumerate(parts):
        pieces[place :: len(parts)] = part
    return "".join(pieces)


def _spelled(cells: Content, spell: Callable[[str], str], null: str) -> str | list[str]:
    """The cells of a column as text: one for all rows, or one for each."""
    if isinstance(cells, np.ndarray):
        return _numbers(cells, null)
    if isinstance(cells, range):
        return _counted(cells)
    if isinstance(cells, list):
        return [_one(cell, spell, null) for cell in cells]
    return _one(cells, spell, null)


def _one(cell: str | float | None, spell: Callable[[str], str], null: str) -> str:
    if cell is None:
        return null
    return spell(cell) if isinstance(cell, str) else repr(cell)


def _numbers(values: NDArray[Any], null: str) -> list[str]:
    """Numbers in the shortest form that gives them back; NaN, and infinities where JSON is written, as `null`."""
    texts = list(map(repr, values.tolist()))
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        replaced = np.isnan(values) if null == "" else ~np.isfinite(values)
        for index in np.flatnonzero(replaced).tolist():
            texts[index] = null
    return texts


@lru_cache(maxsize=16)
def _counted(numbers: range) -> list[str]:
    """The dims of a site as text: the same for all its statistics."""
    return list(map(repr, numbers))


def _csv_text(text: str) -> str:
    """A string as a cell, quoted where it has to be."""
    text = _valid(text)
    return '"' + text.replace('"', '""') + '"' if not text or any(mark in text for mark in ',"\r\n') else text


def _json_text(text: str) -> str:
    return json.dumps(_valid(text))


def _valid(text: str) -> str:
    """A string that UTF-8 can hold: lone surrogates, which a tokenizer can give, are spelled out."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


# Parquet


@contextmanager
def _parquet(path: Path, columns: Sequence[Column], header: Mapping[str, Any]) -> Iterator[Write]:
    arrow, parquet = _arrow("pyarrow"), _arrow("pyarrow.parquet")
    types = {"string": arrow.string(), "float64": arrow.float64(), "int64": arrow.int64()}
    schema = arrow.schema(
        [(column.name, types[column.type]) for column in columns],
        metadata={METADATA_KEY: json.dumps(header, allow_nan=False)},
    )
    few = [column.name for column in columns if column.type != "float64"]
    pending: list[Any] = []
    n_pending = 0
    with parquet.ParquetWriter(path, schema, compression="zstd", use_dictionary=few) as file:

        def flush() -> None:
            nonlocal n_pending
            file.write_table(arrow.Table.from_batches(pending, schema), row_group_size=max(n_pending, 1))
            pending.clear()
            n_pending = 0

        def write(block: Block) -> None:
            nonlocal n_pending
            arrays = [
                _array(arrow, cells, field.type, block.n_rows) for cells, field in zip(block.cells, schema, strict=True)
            ]
            pending.append(arrow.RecordBatch.from_arrays(arrays, schema=schema))
            n_pending += block.n_rows
            if n_pending >= _ROWS_OF_A_GROUP:
                flush()

        yield write
        flush()


def _array(arrow: Any, cells: Content, of_type: Any, n_rows: int) -> Any:
    """The cells of a column as an Arrow array."""
    if cells is None:
        return arrow.nulls(n_rows, of_type)
    if isinstance(cells, range):
        return arrow.array(np.arange(cells.start, cells.stop, cells.step), of_type)
    if isinstance(cells, np.ndarray):
        return arrow.array(cells, of_type, from_pandas=True)  # NaN becomes null
    if isinstance(cells, list):
        return arrow.array([_valid(cell) if isinstance(cell, str) else cell for cell in cells], of_type)
    return arrow.repeat(arrow.scalar(_valid(cells) if isinstance(cells, str) else cells, of_type), n_rows)


def _arrow(module: str) -> Any:
    """A module of pyarrow, imported when it is first needed."""
    try:
        return import_module(module)
    except ImportError:
        raise MissingExtraError(
            "Writing Parquet needs the package pyarrow; install: pip install 'lmfacts[export]'. CSV needs nothing."
        ) from None


@dataclass(frozen=True)
class Format:
    """What a table can be written as.

    Attributes:
        writer: opens a file for the columns and what is said of the table, and gives what writes a block.
        definition: what such a file is, in Markdown.
        needs_arrow: whether it is written with pyarrow, which is an extra.
    """

    writer: Writer
    definition: str
    needs_arrow: bool = False


FORMATS: Final[dict[str, Format]] = {
    ".parquet": Format(
        _parquet,
        'needs pyarrow: `pip install "lmfacts[export]"`. The smallest, and the fastest to read. What is known about '
        f"the run is a JSON text in the file's metadata under the key `{METADATA_KEY}`",
        needs_arrow=True,
    ),
    ".csv": Format(
        _csv,
        r"UTF-8, comma, a header line, `\n`; cells are quoted where they have to be. It holds the table and nothing "
        "else: `--json` prints what is known about the run",
    ),
    ".csv.gz": Format(_csv_gz, "the same, compressed"),
    ".json": Format(
        _json,
        'one object: `document` (`"lmfacts.export"`), `version`, `lmfacts` (the version that wrote it), `table`, '
        "`columns`, `run` (kind, model, tokenizer, settings, numbers of sequences and tokens, token hash, whether it "
        "is complete), and `rows`: a list of objects, one a line",
    ),
}
"""By how the name of a file ends."""
