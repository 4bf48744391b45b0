"""Reading exported tables back with plain readers, one per format, into one form."""

from __future__ import annotations

import csv
import gzip
import json
from typing import TYPE_CHECKING, Any, Final

import pyarrow.parquet as pq

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

INTEGERS: Final = frozenset({"dim", "layer", "sequence", "position", "token_id", "row", "column", "code", "count"})
FLOATS: Final = frozenset({"value", "low", "high"})

Row = dict[str, Any]


def read(path: Path) -> list[Row]:
    """The rows of a table; no value is None, whatever the format calls it."""
    if path.name.endswith(".parquet"):
        rows: list[Row] = pq.read_table(path).to_pylist()
        return rows
    if path.name.endswith(".json"):
        document = json.loads(path.read_text(encoding="utf-8"), parse_constant=_refused)
        assert all(list(row) == document["columns"] for row in document["rows"])
        return list(document["rows"])
    opened: Callable[..., Any] = gzip.open if path.name.endswith(".gz") else open
    with opened(path, "rt", encoding="utf-8", newline="") as file:
        return [{name: _cell(name, text) for name, text in row.items()} for row in csv.DictReader(file, strict=True)]


def statistics_of(rows: Iterable[Row]) -> dict[tuple[str, str, str, int | None], float | None]:
    """(site, population, statistic, dim) -> value, of a table of statistics, in which no key comes twice."""
    found = {}
    for row in rows:
        key = (row["site"], row["population"], row["statistic"], row["dim"])
        assert key not in found
        found[key] = row["value"]
    return found


def _cell(name: str, text: str) -> object:
    if text == "":
        return None
    return int(text) if name in INTEGERS else float(text) if name in FLOATS else text


def _refused(constant: str) -> None:
    raise AssertionError(f"{constant} is not JSON")
