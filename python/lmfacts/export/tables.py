"""The exported tables: their columns, and their rows in blocks of one site or less."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

import numpy as np

from lmfacts.quantities.figures import figures_of
from lmfacts.run.kinds import KINDS
from lmfacts.run.site import SiteRecord
from lmfacts.sites import is_module_pattern
from lmfacts.stats.codes import MAGNITUDE, SIGN, cell_bounds, infinity_code

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lmfacts.quantities.quantity import Quantity
    from lmfacts.run import Run
    from lmfacts.run.record import Record
    from lmfacts.run.site import Population
    from lmfacts.run.weight import WeightRecord

__all__ = ["TABLES", "Block", "Column", "Content", "Table", "blocks", "columns_of"]

Table = Literal["statistics", "outliers", "codes"]

TABLES: Final[tuple[Table, ...]] = ("statistics", "outliers", "codes")
"""The tables that can be written."""

Content: TypeAlias = "str | int | range | list[str | None] | list[int | None] | NDArray[Any] | None"
"""The cells of a column in a block: a value that all rows share (None for no value), or one for each row.

An array holds numbers; NaN stands for no value.
"""


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: its name.
        type: what its cells hold.
        definition: what they mean.
    """

    name: str
    type: Literal["string", "float64", "int64"]
    definition: str


@dataclass(frozen=True, eq=False)
class Block:
    """Some rows.

    Attributes:
        n_rows: how many.
        cells: for each column of the table, in order.
    """

    n_rows: int
    cells: Sequence[Content]


_SITE: Final = Column("site", "string", "Name of the site or weight, as the run stores it; aliases are not repeated.")
_POPULATION: Final = Column(
    "population",
    "string",
    "`first`: position 0 of each sequence; `rest`: every other token; `all`: both. Weights: `all`.",
)
_PLACE: Final = (
    Column("layer", "int64", "The block, from 0; empty outside the blocks."),
    Column(
        "kind",
        "string",
        "What the name says without its block (`resid_post`, `W_O`); empty for modules named by path and "
        "weights without a role.",
    ),
)

_STATISTICS: Final = (
    _SITE,
    _POPULATION,
    Column("statistic", "string", "Name of the statistic: see below."),
    Column("value", "float64", "Its value; empty where it has no meaning (no values, values that are all equal)."),
    Column("dim", "int64", "For a statistic per dim, which one, from 0; empty for all others."),
    *_PLACE,
)

_OUTLIERS: Final = (
    _SITE,
    _POPULATION,
    Column("value", "float64", "The value; rows are in order of magnitude, the largest first."),
    Column("sequence", "int64", "Its sequence, in order of reading, from 0; -1 where that is not known."),
    Column("position", "int64", "Its position in the sequence, from 0; -1 where that is not known."),
    Column("dim", "int64", "Its dim, from 0."),
    Column("token_id", "int64", "The token it sits on; empty where that is unknown."),
    Column("token", "string", "The token's text; empty where that is unknown."),
    *_PLACE,
)

_OUTLIERS_OF_WEIGHTS: Final = (
    _SITE,
    _POPULATION,
    Column("value", "float64", "The value; rows are in order of magnitude, the largest first."),
    Column("row", "int64", "Its output dim, from 0; 0 for a vector."),
    Column("column", "int64", "Its input dim, from 0; the place in a vector."),
    *_PLACE,
)

_CODES: Final = (
    _SITE,
    _POPULATION,
    Column("code", "int64", "The 16-bit code: all of a bfloat16 or float16 value, the upper half of a float32."),
    Column("low", "float64", "The smallest value that has this code; empty for a NaN."),
    Column("high", "float64", "The largest; the same as `low` for bfloat16 and float16."),
    Column("count", "int64", "How many values have it."),
    *_PLACE,
)


def columns_of(table: Table, kind: str) -> tuple[Column, ...]:
    """The columns of a table of a run of some kind, in order."""
    if table == "statistics":
        return _STATISTICS
    if table == "codes":
        return _CODES
    return _OUTLIERS if KINDS[kind].reads_text else _OUTLIERS_OF_WEIGHTS


def blocks(
    table: Table, run: Run[Any], name: str, populations: Sequence[Population], statistics: Sequence[Quantity]
) -> Iterator[Block]:
    """The rows of one site.

    Args:
        table: which table.
        run: the run.
        name: the stored name of the site.
        populations: the populations, in order.
        statistics: those to compute, for the table of statistics.
    """
    record: Record = run[name]
    layer, kind = _place(record)
    rows = {"statistics": lambda of: _statistics(of, statistics), "codes": _codes}.get(table, _outliers(run.tokens))
    for population in populations:
        over = record.in_population(population) if isinstance(record, SiteRecord) else record
        for n_rows, cells in rows(over):
            if n_rows:
                yield Block(n_rows, (name, population, *cells, layer, kind))


_Rows = Iterator[tuple[int, tuple[Content, ...]]]


def _statistics(record: Record, statistics: Sequence[Quantity]) -> _Rows:
    figures = figures_of(record)
    names: list[str | None] = []
    values: list[float] = []
    per_dim = []
    for statistic in statistics:
        value = statistic.compute(figures)
        if value is None:
            continue
        if statistic.per:
            array = np.asarray(value, dtype=np.float64)
            per_dim.append((array.size, (statistic.key, array, range(array.size))))
        else:
            names.append(statistic.key)
            values.append(float(value))
    yield len(names), (names, np.array(values, dtype=np.float64), None)
    yield from per_dim


def _outliers(tokens: dict[int, str]) -> Callable[[Record], _Rows]:
    def rows(record: Record) -> _Rows:
        if not isinstance(record, SiteRecord):
            values, matrix_rows, columns = cast("WeightRecord", record).largest
            yield values.size, (values, matrix_rows, columns)
            return
        outliers = record.outliers
        value, sequence, position, dim, token_id = (outliers[field] for field in outliers.dtype.names or ())
        ids = token_id.tolist()
        known: list[int | None] = [None if number < 0 else number for number in ids]
        text: list[str | None] = [tokens.get(number) for number in ids]
        yield outliers.size, (value, sequence, position, dim, known, text)

    return rows


def _codes(record: Record) -> _Rows:
    codes, counts = record.codes()
    low, high = (np.full(codes.size, np.nan) for _ in range(2))
    infinity, magnitudes = infinity_code(record.dtype), codes & np.uint16(MAGNITUDE)
    finite = magnitudes < infinity
    low[finite], high[finite] = cell_bounds(codes[finite], record.dtype)
    infinite = magnitudes == infinity
    low[infinite] = high[infinite] = np.where(codes[infinite] & np.uint16(SIGN), -np.inf, np.inf)
    yield codes.size, (codes.astype(np.int64), low, high, counts.astype(np.int64))


_IN_BLOCK: Final = re.compile(r"blocks\.(\d+)\.(.+)", re.DOTALL)


def _place(record: Record) -> tuple[int | None, str | None]:
    """Layer and kind of a site or a weight."""
    if not isinstance(record, SiteRecord):
        weight = cast("WeightRecord", record)
        return weight.layer, weight.kind
    if is_module_pattern(record.name):
        return None, None
    inside = _IN_BLOCK.fullmatch(record.name)
    return (int(inside[1]), inside[2]) if inside else (None, record.name)
