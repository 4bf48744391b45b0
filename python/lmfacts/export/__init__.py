"""Runs as long tables for pandas, Polars, DuckDB and spreadsheets; `docs/export.md` has the schema.

`catalogue` lists the statistics, `tables` makes the rows, `formats` writes them, `export_run` is what to call. Nothing
here imports torch, and only Parquet needs more than NumPy.
"""

from __future__ import annotations

from lmfacts.export.run_export import Exported, export_run

__all__ = ["Exported", "export_run"]
