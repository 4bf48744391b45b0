"""`docs/export.md` against the code: every table in it is what the code has, row by row."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from lmfacts.export.formats import FORMATS
from lmfacts.export.run_export import VERSION
from lmfacts.export.tables import columns_of
from lmfacts.quantities.catalogue import QUANTITIES

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")


def test_every_table_is_what_the_code_has():
    done = subprocess.run(
        [sys.executable, ROOT / "docs" / "write_tables.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_every_table_has_one_heading():
    lines = DOCUMENT.splitlines()
    starts = [i for i, line in enumerate(lines) if line.startswith("|") and not lines[i - 1].startswith("|")]
    assert len(starts) > 5
    assert all(set(lines[i + 1]) == {"|", "-"} for i in starts)


def test_a_table_that_is_not_what_the_code_has_is_seen(tmp_path):
    (tmp_path / "write_tables.py").write_bytes((ROOT / "docs" / "write_tables.py").read_bytes())
    (tmp_path / "export.md").write_text(DOCUMENT.replace("Smallest value, exact.", "Smallest value."), encoding="utf-8")
    command = [sys.executable, tmp_path / "write_tables.py"]
    assert subprocess.run([*command, "--check"], capture_output=True, check=False).returncode == 1
    subprocess.run(command, check=True)
    assert (tmp_path / "export.md").read_text(encoding="utf-8") == DOCUMENT


def test_columns_do_not_depend_on_the_kind_where_the_document_has_them_once():
    for table in ("statistics", "codes"):
        assert columns_of(table, "weights") == columns_of(table, "activations") == columns_of(table, "gradients")


def test_the_document_names_every_format_and_the_version():
    for suffix in FORMATS:
        assert f"`{suffix}`" in DOCUMENT
    assert f"version {VERSION}" in DOCUMENT


def test_names_are_unique_and_definitions_fit_a_markdown_table():
    names = [s.key for s in QUANTITIES.values()]
    assert len(set(names)) == len(names)
    for statistic in QUANTITIES.values():
        assert statistic.definition.endswith(".")
        assert statistic.unit
        assert not set("|\n") & set(statistic.definition + statistic.unit + statistic.per)
