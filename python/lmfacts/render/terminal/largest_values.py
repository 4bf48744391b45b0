"""The largest values of a run or of a site, with the tokens they sit on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from lmfacts.analysis.largest_values import largest_values
from lmfacts.render.terminal.console import STANDOUT, paragraph, section
from lmfacts.render.terminal.populations import POPULATION_TITLES
from lmfacts.render.terminal.table import Column, NumberTable
from lmfacts.render.terminal.token_text import quoted
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from lmfacts.analysis.largest_values import LargestValue
    from lmfacts.analysis.run_view import RunView
    from lmfacts.run.site import SiteRecord

__all__ = ["WHAT_A_DASH_SAYS", "LargestValuesSection", "outlier_table", "token_name"]

_MOST_TOKENS: Final = 4

WHAT_A_DASH_SAYS: Final = (
    "A dash: which token it is on is not known; this run has tokens for the largest values of a whole site only."
)


def token_name(token_id: int | None, text: str | None, width: int | None = None) -> str:
    """A token in quotes, or its id where its text is not known; a dash where it is not known which token it is."""
    if token_id is None:
        return "-"
    if text is not None:
        return quoted(text, width)
    return f"id {token_id}" if token_id >= 0 else "unknown"


class LargestValuesSection:
    """The section of the summary with the largest values; nothing where no outliers were kept."""

    def __init__(self, view: RunView, most: int = 8) -> None:
        """The section of a run, with at most so many rows per population."""
        self.by_population = {population: largest_values(view, population, most) for population in view.populations}
        self.in_stream = bool(view.depths)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not any(self.by_population.values()):
            return
        where = "of the residual stream" if self.in_stream else "of all sites"
        shown = [item for largest in self.by_population.values() for item in largest]
        unknown = f" {WHAT_A_DASH_SAYS}" if any(item.position is None for item in shown) else ""
        parts: list[RenderableType] = [paragraph(f"The largest |x| {where}, one row per dim.{unknown}")]
        for population, largest in self.by_population.items():
            if largest:
                title = Text(POPULATION_TITLES[population], style="bold")
                parts += [Text(""), paragraph(title), self._table(largest)]
        yield section("Largest values", *parts)

    @staticmethod
    def _table(largest: Sequence[LargestValue]) -> RenderableType:
        columns = [
            Column("value"),
            Column("dim"),
            Column("token", "left"),
            Column("sequence", keep=80),
            Column("position", keep=90),
            Column("site", "left"),
            Column("outliers of the dim, by token", "left", keep=50, shrink_to=29),
        ]
        rows: list[list[str | Text]] = [
            [
                numbers.signed(item.value, 4),
                Text(str(item.dim), style=f"bold {STANDOUT}"),
                token_name(item.token_id, item.token, 16),
                "-" if item.sequence is None else str(item.sequence),
                "-" if item.position is None else str(item.position),
                item.site,
                _tokens(item) or "-",
            ]
            for item in largest
        ]
        return NumberTable(columns, rows)


def _tokens(item: LargestValue) -> str:
    """The most frequent tokens with how often each occurs."""
    shown = [f"{token_name(token, text, 12)} {n}x" for token, text, n in item.tokens[:_MOST_TOKENS]]
    return ", ".join([*shown, "..."] if len(item.tokens) > _MOST_TOKENS else shown)


def outlier_table(site: SiteRecord, text: Mapping[int, str], most: int) -> RenderableType:
    """The largest values of one site over its population, with the texts of tokens by id."""
    columns = [
        Column("value"),
        Column("dim"),
        Column("token", "left"),
        Column("token id", keep=50),
        Column("sequence", keep=80),
        Column("position", keep=90),
    ]
    rows: list[list[str | Text]] = [
        [
            numbers.signed(value, 6),
            Text(str(dim), style=f"bold {STANDOUT}"),
            token_name(token_id, text.get(token_id), 24),
            *(str(known) if known >= 0 else "-" for known in (token_id, sequence, position)),
        ]
        for value, sequence, position, dim, token_id in site.outliers[:most].tolist()
    ]
    return NumberTable(columns, rows)
