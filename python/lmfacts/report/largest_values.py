"""The largest values of a run or of a site, with the tokens they sit on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rich.text import Text

from lmfacts import formats
from lmfacts.report.console import STANDOUT, paragraph, section
from lmfacts.report.run_view import POPULATION_TITLES
from lmfacts.report.table import Column, NumberTable
from lmfacts.report.token_text import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from lmfacts.report.run_view import RunView
    from lmfacts.site_record import Population, SiteRecord

__all__ = ["LargestValue", "LargestValuesSection", "find_largest", "outlier_table", "token_name"]

_MOST_TOKENS: Final = 4


@dataclass(frozen=True, slots=True)
class LargestValue:
    """The value of largest magnitude of one dim.

    Attributes:
        value: the value.
        site: where it is.
        sequence, position, dim: which token and coordinate.
        token_id: id of the token; -1 if it is not known.
        token: its text, or None if that is not known.
        n_tokens: how many of the recorded outliers (k per site) sit on this dim, counted by (sequence, position).
        tokens: those outliers' tokens as (token id, text, number of places), most frequent first.
    """

    value: float
    site: str
    sequence: int
    position: int
    dim: int
    token_id: int
    token: str | None
    n_tokens: int
    tokens: tuple[tuple[int, str | None, int], ...]


def find_largest(view: RunView, population: Population) -> list[LargestValue]:
    """The largest values of the residual stream, or of all sites where it was not recorded: one for each dim.

    Only values among the k outliers of their site can be listed. Outside the residual stream, equal numbers of a dim at
    different kinds of site mean different things, so each dim of each site is listed by itself.
    """
    text = view.tokens
    in_stream = bool(view.depths)
    names = list(dict.fromkeys(depth.name for depth in view.depths)) if in_stream else list(view.run)
    best: dict[tuple[str, int], tuple[float, str, int, int, int]] = {}
    places: dict[tuple[str, int], dict[tuple[int, int], int]] = {}
    for name in names:
        for value, sequence, position, dim, token_id in view.site(name, population).outliers.tolist():
            key = ("" if in_stream else name, dim)
            places.setdefault(key, {})[sequence, position] = token_id
            if key not in best or abs(value) > abs(best[key][0]):
                best[key] = (value, name, sequence, position, token_id)
    largest = []
    for key, (value, name, sequence, position, token_id) in best.items():
        counts = Counter(places[key].values()).most_common()
        tokens = tuple((other, text.get(other), n) for other, n in counts)
        largest.append(
            LargestValue(
                value, name, sequence, position, key[1], token_id, text.get(token_id), len(places[key]), tokens
            )
        )
    largest.sort(key=lambda item: -abs(item.value))
    return largest


def token_name(token_id: int, text: str | None, width: int | None = None) -> str:
    """A token in quotes, or its id where its text is not known."""
    if text is not None:
        return quoted(text, width)
    return f"id {token_id}" if token_id >= 0 else "unknown"


class LargestValuesSection:
    """The section of the summary with the largest values; nothing where no outliers were kept."""

    def __init__(self, view: RunView, most: int = 8) -> None:
        """The section of a run, with at most so many rows per population."""
        self.most = most
        self.found = {population: find_largest(view, population) for population in view.populations}
        self.in_stream = bool(view.depths)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not any(self.found.values()):
            return
        where = "of the residual stream" if self.in_stream else "of all sites"
        parts: list[RenderableType] = [paragraph(f"The largest |x| {where}, one row per dim.")]
        for population, largest in self.found.items():
            if largest:
                title = Text(POPULATION_TITLES[population], style="bold")
                parts += [Text(""), paragraph(title), self._table(largest[: self.most])]
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
                formats.signed(item.value, 4),
                Text(str(item.dim), style=f"bold {STANDOUT}"),
                token_name(item.token_id, item.token, 16),
                str(item.sequence),
                str(item.position),
                item.site,
                _tokens(item),
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
            formats.signed(value, 6),
            Text(str(dim), style=f"bold {STANDOUT}"),
            token_name(token_id, text.get(token_id), 24),
            str(token_id) if token_id >= 0 else "-",
            str(sequence),
            str(position),
        ]
        for value, sequence, position, dim, token_id in site.outliers[:most].tolist()
    ]
    return NumberTable(columns, rows)
