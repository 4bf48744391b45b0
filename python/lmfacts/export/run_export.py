"""`export_run`: one table of a run, in one file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import lmfacts
from lmfacts.errors import UsageError
from lmfacts.export.formats import require, suffix_of, writing
from lmfacts.export.tables import TABLES, blocks, columns_of
from lmfacts.files.atomic import replacing
from lmfacts.files.destination import check_destination
from lmfacts.quantities.catalogue import choose_quantities
from lmfacts.run.kinds import KINDS
from lmfacts.run.site import Population

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from lmfacts.export.tables import Table
    from lmfacts.run import Run

__all__ = ["VERSION", "Exported", "export_run"]

VERSION: Final = 1
"""Version of the tables; it grows when a column or a statistic changes its meaning or goes away."""

_POPULATIONS: Final[tuple[Population, ...]] = get_args(Population)
_OF_THE_RUN: Final = (
    *("kind", "model", "tokenizer", "settings", "n_sequences", "n_tokens", "token_hash", "created", "lmfacts"),
    *("complete", "incomplete_reason"),
)


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: the file.
        n_sites: number of sites or weights in it.
        n_rows: number of rows.
        n_bytes: size of the file.
        header: what Parquet and JSON files say about the table: `document`, `version`, `lmfacts` (which wrote it),
            `table`, `columns`, and `run`: what is known about the run.
    """

    path: Path
    n_sites: int
    n_rows: int
    n_bytes: int
    header: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """The same in plain JSON types, as one flat object."""
        written = {"path": str(self.path), "n_sites": self.n_sites, "n_rows": self.n_rows, "n_bytes": self.n_bytes}
        return self.header | written


def export_run(
    run: Run[Any],
    path: str | os.PathLike[str],
    *,
    table: Table = "statistics",
    sites: str | Sequence[str] | None = None,
    populations: Population | Sequence[Population] | None = None,
    statistics: str | Sequence[str] | None = None,
    dims: bool | None = None,
) -> Exported:
    """Write one table of a run, one row per value, to a file whose name says the format.

    The file is written atomically, site by site.

    Args:
        run: a run of activations, gradients or weights.
        path: its ending is one of `lmfacts.export.formats.FORMATS`; `.parquet` needs pyarrow.
        table: `statistics`; `outliers`, the largest values and where they are; `codes`, the code histograms.
        sites: presets, globs and names as `Run.select` takes them; all by default.
        populations: `all`, `first`, `rest`; by default the three of them, for weights `all`.
        statistics: names and globs of statistics (`dim_*`); by default those that are single values.
        dims: True adds the statistics per dim to the default ones; False leaves them out of those that were named.

    Returns:
        What was written.

    Raises:
        UsageError: an argument has no meaning.
        DestinationError: the file cannot be created there, or is the run's own.
        SiteNotFoundError: a site pattern matches nothing.
        MissingExtraError: pyarrow is needed and not installed.
        RunFileError: writing failed; what was at the path before is untouched.
    """
    suffix = suffix_of(path)
    if table not in TABLES:
        raise UsageError(f"A table is one of {', '.join(TABLES)}; got {table!r}.")
    if table != "statistics" and (statistics is not None or dims):
        raise UsageError(f"The table {table} has no statistics to choose: leave statistics and dims out.")
    chosen_populations = _populations(run.kind, populations)
    chosen_statistics = choose_quantities(run.kind, statistics, dims) if table == "statistics" else []
    names = list(run) if sites is None else run.select(sites)
    if sites is not None and not names:
        raise UsageError("No site was named: give site names, presets or globs, or leave sites out for all.")
    check_destination(path, [] if run.path is None else [run.path])
    require(suffix)
    columns = columns_of(table, run.kind)
    header = _header(run, table, [column.name for column in columns])
    n_rows = 0
    with replacing(path) as temporary:
        with writing(temporary, suffix, columns, header) as write:
            for name in names:
                for block in blocks(table, run, name, chosen_populations, chosen_statistics):
                    write(block)
                    n_rows += block.n_rows
        n_bytes = temporary.stat().st_size
    return Exported(Path(path), len(names), n_rows, n_bytes, header)


def _populations(kind: str, wanted: Population | Sequence[Population] | None) -> list[Population]:
    """The populations to export, in their order."""
    if wanted is None:
        return [population for population in _POPULATIONS if population in KINDS[kind].populations]
    given = [wanted] if isinstance(wanted, str) else wanted
    for population in given:
        if population not in _POPULATIONS:
            raise UsageError(
                f"A population is {', '.join(_POPULATIONS[:-1])} or {_POPULATIONS[-1]}; got {population!r}."
            )
        if population not in KINDS[kind].populations:
            raise UsageError(f"Weights have no population {population!r}: it is of tokens. Theirs is 'all'.")
    if not given:
        raise UsageError("No population was named: give all, first or rest.")
    return [population for population in _POPULATIONS if population in given]


def _header(run: Run[Any], table: Table, columns: list[str]) -> dict[str, Any]:
    return {
        "document": "lmfacts.export",
        "version": VERSION,
        "lmfacts": lmfacts.__version__,
        "table": table,
        "columns": columns,
        "run": {key: run.metadata[key] for key in _OF_THE_RUN},
    }
