"""Write the tables of `docs/export.md` from the code: `make tables`; `--check` says whether they are what it has.

The examples in the document are written by hand.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from lmfacts.export.formats import FORMATS
from lmfacts.export.tables import columns_of
from lmfacts.quantities.catalogue import QUANTITIES

if TYPE_CHECKING:
    from lmfacts.export.tables import Table
    from lmfacts.quantities.quantity import Quantity

DOCUMENT = Path(__file__).with_name("export.md")

COLUMNS: dict[str, tuple[Table, str]] = {
    "Columns of `statistics`": ("statistics", "activations"),
    "Columns of `outliers`": ("outliers", "activations"),
    "Columns of `outliers` of weights": ("outliers", "weights"),
    "Columns of `codes`": ("codes", "activations"),
}


def main() -> None:
    """Write the document, or with `--check` end with 1 where that would change it."""
    text = DOCUMENT.read_text(encoding="utf-8")
    written = with_tables(text)
    if "--check" not in sys.argv:
        DOCUMENT.write_text(written, encoding="utf-8")
    elif written != text:
        sys.exit(f"{DOCUMENT.name} is not what the code has: run `make tables`.")


def with_tables(text: str) -> str:
    """The document with every table as the code has it."""
    for heading, (table, kind) in COLUMNS.items():
        rows = [f"| `{column.name}` | {column.type} | {column.definition} |" for column in columns_of(table, kind)]
        text = _replaced(text, heading, ["| column | type | meaning |", "|---|---|---|", *rows])
    formats = [f"| `{suffix}` | {each.definition} |" for suffix, each in FORMATS.items()]
    text = _replaced(text, "Formats", ["| name ends in | is |", "|---|---|", *formats])
    return _replaced(text, "Statistics", statistics_table())


def statistics_table() -> list[str]:
    """The lines of the table of all quantities."""
    rows = [
        f"| `{q.key}` | {q.of} | {_written(q)} | {q.in_figures or '-'} | {q.unit} | {q.definition} |"
        for q in QUANTITIES.values()
    ]
    return ["| statistic | of | written | in JSON | unit | definition |", "|---|---|---|---|---|---|", *rows]


def _written(quantity: Quantity) -> str:
    return f"per {quantity.per}" if quantity.per else quantity.exported


def _replaced(text: str, heading: str, table: list[str]) -> str:
    """The document with another table under a heading."""
    pattern = re.compile(rf"(^## {re.escape(heading)}\n(?:(?!## )[^|\n].*\n|\n)*)((?:\|.*\n)+)", re.MULTILINE)
    written, n = pattern.subn(lambda found: found[1] + "\n".join(table) + "\n", text)
    if n != 1:
        raise ValueError(f"{DOCUMENT.name} has {n} tables under {heading!r}, expected one.")
    return written


if __name__ == "__main__":
    main()
