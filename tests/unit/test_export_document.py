"""`docs/export.md` against the code: every table in it is what the code has, row by row."""

from __future__ import annotations

from pathlib import Path

import pytest

from lmfacts.export.catalogue import STATISTICS
from lmfacts.export.formats import SUFFIXES
from lmfacts.export.run_export import VERSION
from lmfacts.export.tables import columns_of

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "export.md").read_text(encoding="utf-8")

TABLES = [("statistics", "activations"), ("outliers", "activations"), ("outliers", "weights"), ("codes", "activations")]


def rows_of(heading):
    """The rows of the first table under a heading of the document."""
    section = DOCUMENT.split(f"## {heading}\n", 1)[1].split("\n## ", 1)[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return lines[2:]


def written(statistic):
    if statistic.by_default:
        return "by default"
    return f"per {statistic.per}" if statistic.per else "by name"


def statistic_rows():
    of = {"both": "both", "activations": "activations", "weights": "weights"}
    return [f"| `{s.name}` | {of[s.of]} | {written(s)} | {s.unit} | {s.definition} |" for s in STATISTICS]


def column_rows(table, kind):
    return [f"| `{c.name}` | {c.type} | {c.definition} |" for c in columns_of(table, kind)]


def test_every_statistic_is_in_the_document_and_no_other():
    assert rows_of("Statistics") == statistic_rows()


@pytest.mark.parametrize(("table", "kind"), TABLES)
def test_every_column_is_in_the_document(table, kind):
    heading = f"Columns of `{table}`" + (" of weights" if (table, kind) == ("outliers", "weights") else "")
    assert rows_of(heading) == column_rows(table, kind)


def test_columns_do_not_depend_on_the_kind_where_the_document_has_them_once():
    for table in ("statistics", "codes"):
        assert columns_of(table, "weights") == columns_of(table, "activations") == columns_of(table, "gradients")


def test_the_document_names_every_format_and_the_version():
    for suffix in SUFFIXES:
        assert f"`{suffix}`" in DOCUMENT
    assert f"version {VERSION}" in DOCUMENT


def test_names_are_unique_and_definitions_fit_a_markdown_table():
    names = [s.name for s in STATISTICS]
    assert len(set(names)) == len(names)
    for statistic in STATISTICS:
        assert statistic.definition.endswith(".")
        assert statistic.unit
        assert not set("|\n") & set(statistic.definition + statistic.unit + statistic.per)
