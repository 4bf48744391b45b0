"""`lmfacts export`."""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from lmfacts.cli.exit_codes import ExitCode, complain, sentences
from lmfacts.cli.options import JsonOption

__all__ = ["export"]


class Table(StrEnum):
    """The tables, as choices."""

    STATISTICS = "statistics"
    OUTLIERS = "outliers"
    CODES = "codes"


class PopulationChoice(StrEnum):
    """The populations, as choices."""

    ALL = "all"
    FIRST = "first"
    REST = "rest"


@sentences
def export(
    run: Annotated[Path, typer.Argument(help="A run file.", show_default=False)],
    *,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="The file; its ending says the format: .csv, .parquet, ...", show_default=False
        ),
    ],
    table: Annotated[
        Table, typer.Option(help="One row per statistic, per largest value, or per 16-bit code.")
    ] = Table.STATISTICS,
    sites: Annotated[
        list[str] | None,
        typer.Option("--sites", "-s", help="Sites, presets or globs; all if not given.", show_default=False),
    ] = None,
    population: Annotated[
        list[PopulationChoice] | None,
        typer.Option(help="The tokens; all three if not given. Weights only have 'all'.", show_default=False),
    ] = None,
    statistics: Annotated[
        list[str] | None,
        typer.Option(help="Names or globs: std, 'quantile_*', 'dim_*'.", show_default=False),
    ] = None,
    dims: Annotated[
        bool | None,
        typer.Option(
            "--dims/--no-dims",
            help="Also the statistics of each dim (often millions of rows), or none of them whatever the globs say.",
            show_default=False,
        ),
    ] = None,
    json: JsonOption = False,
) -> ExitCode:
    """Write a run as a long table for pandas, Polars, DuckDB or a spreadsheet."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # no matrices are multiplied here: see show
    from lmfacts.export import export_run
    from lmfacts.run import load
    from lmfacts.writing.numbers import counted, file_size

    written = export_run(
        load(run),
        out,
        table=table.value,
        sites=sites or None,
        populations=[choice.value for choice in population] if population else None,
        statistics=statistics or None,
        dims=dims,
    )
    if json:
        from lmfacts.cli.output import print_json

        print_json(written.as_dict())
    hidden = table is Table.STATISTICS and not statistics and dims is None
    if statistics and not written.n_rows:
        complain(f"nothing in this run has {', '.join(statistics)}")
    size = f"{counted(written.n_rows, 'row')}, {counted(written.n_sites, 'site')}, {file_size(written.n_bytes)}"
    complain(f"saved {out}: {size}" + ("; --dims adds the statistics of each dim" if hidden else ""))
    return ExitCode.FINE
