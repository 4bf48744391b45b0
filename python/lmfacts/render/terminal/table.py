"""A table for numbers that never wraps a row: where it does not fit, its least important columns are left out."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby, islice
from typing import TYPE_CHECKING, Final, Literal

from rich.cells import cell_len
from rich.measure import Measurement
from rich.text import Text

from lmfacts.render.terminal.console import visible_cell

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console, ConsoleOptions

__all__ = ["ALWAYS", "Column", "NumberTable"]

ALWAYS: Final = 100
"""The `keep` of a column that is never left out."""

_GAP: Final = 2
_INDENT: Final = 2


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a `NumberTable`.

    Attributes:
        header: its heading, one line.
        align: where its cells stand.
        keep: how much it matters; the columns with the lowest number are left out first, and those with `ALWAYS` never.
        group: a heading over neighboring columns of the same group, or empty.
        alone: its heading where it is all that is left of its group.
        shrink_to: the width down to which long cells may be cut with an ellipsis; None for a column of fixed width.
        cut: which end of a long cell is left out.
    """

    header: str
    align: Literal["left", "right"] = "right"
    keep: int = ALWAYS
    group: str = ""
    alone: str = ""
    shrink_to: int | None = None
    cut: Literal["start", "end"] = "end"


class NumberTable:
    """Rows of short cells, aligned, under one line of headings and, where there are groups, a line above it.

    Cells that are plain strings are printed as they are: no markup. Where all that remains is still too wide, lines are
    cut with an ellipsis.
    """

    def __init__(self, columns: Sequence[Column], rows: Sequence[Sequence[str | Text]]) -> None:
        """A table of columns, and rows with a cell for each of them."""
        self.columns = tuple(columns)
        self.rows = [[visible_cell(cell, one_line=True) for cell in row] for row in rows]
        self._cell_widths = [
            max((row[index].cell_len for row in self.rows), default=0) for index in range(len(self.columns))
        ]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Text]:
        layout = self._fitting(options.max_width)
        if layout.headings:
            yield _joined([Text(heading) for heading in layout.headings])
        columns = [self.columns[index] for index in layout.shown]
        headers = [Text(header, style="bold") for header in layout.headers]
        for cells in (headers, *([row[index] for index in layout.shown] for row in self.rows)):
            placed = zip(cells, columns, layout.widths, strict=True)
            yield _joined([_placed(cell, column, width) for cell, column, width in placed])

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        width = min(self._fitting(options.max_width).total, options.max_width)
        return Measurement(width, width)

    def _fitting(self, available: int) -> _Layout:
        """The most important columns that fit."""
        shown = list(range(len(self.columns)))
        while True:
            layout = self._layout(shown)
            spare = sum(
                max(0, layout.widths[place] - shrink_to)
                for place, index in enumerate(shown)
                if (shrink_to := self.columns[index].shrink_to) is not None
            )
            least = min(shown, key=lambda index: (self.columns[index].keep, -index))
            if layout.total - spare <= available or self.columns[least].keep >= ALWAYS:
                self._shrink(layout, available)
                return layout
            shown.remove(least)

    def _layout(self, shown: Sequence[int]) -> _Layout:
        """Widths and headings if these columns are shown."""
        groups = [list(members) for _, members in groupby(shown, key=lambda index: self.columns[index].group)]
        headers: list[str] = []
        widths: list[int] = []
        titles: list[tuple[str, int]] = []
        for members in groups:
            title = self.columns[members[0]].group
            lone = self.columns[members[0]].alone if title and len(members) == 1 else ""
            names = [lone] if lone else [self.columns[index].header for index in members]
            own = [max(self._cell_widths[index], len(name)) for index, name in zip(members, names, strict=True)]
            title = "" if lone else title
            own[-1] += max(0, len(title) - sum(own) - _GAP * (len(own) - 1))
            headers += names
            widths += own
            titles.append((title, len(own)))
        return _Layout(list(shown), headers, widths, titles)

    def _shrink(self, layout: _Layout, available: int) -> None:
        """Take what is too much from the columns that may be cut."""
        for place, index in enumerate(layout.shown):
            least = self.columns[index].shrink_to
            if least is not None:
                excess = layout.total - available
                layout.widths[place] -= max(0, min(excess, layout.widths[place] - least))


@dataclass(slots=True)
class _Layout:
    """Which columns are shown, and how."""

    shown: list[int]
    headers: list[str]
    widths: list[int]
    titles: list[tuple[str, int]]
    """Of each group its heading, or nothing, and the number of its columns that are shown."""

    @property
    def headings(self) -> list[str]:
        """The headings of groups, as wide as their columns; none where no group has one."""
        if not any(title for title, _ in self.titles):
            return []
        widths = iter(self.widths)
        return [_over(title, sum(islice(widths, n)) + _GAP * (n - 1)) for title, n in self.titles]

    @property
    def total(self) -> int:
        return _INDENT + sum(self.widths) + _GAP * (len(self.widths) - 1)


def _over(title: str, width: int) -> str:
    """The heading of a group of columns, with dashes to its ends where there is room."""
    rule = width - len(title)
    if not title or rule < 4:  # noqa: PLR2004  a blank and a dash on each side, or none
        return title.center(width)
    left = rule // 2
    return f"{'─' * (left - 1)} {title} {'─' * (rule - left - 1)}"


def _placed(cell: Text, column: Column, width: int) -> Text:
    """A cell with blanks on its free side."""
    cell = _cut(cell, width, column.cut)
    blanks = " " * (width - cell.cell_len)
    return Text(blanks).append_text(cell) if column.align == "right" else cell.copy().append(blanks)


def _cut(cell: Text, width: int, end: Literal["start", "end"]) -> Text:
    """A cell of at most `width` cells, with an ellipsis where something was left out."""
    if cell.cell_len <= width:
        return cell
    if end == "start":
        plain = cell.plain[-width:]  # what takes no cell, an accent, may go with the rest
        while plain and cell_len(plain) > width - 1:
            plain = plain[1:]
        return Text(f"…{plain}", style=cell.style)
    shorter = cell.copy()
    shorter.truncate(width, overflow="ellipsis")
    return shorter


def _joined(cells: Sequence[Text]) -> Text:
    line = Text(" " * _INDENT, no_wrap=True, overflow="ellipsis")
    for number, cell in enumerate(cells):
        if number:
            line.append(" " * _GAP)
        line.append_text(cell)
    line.rstrip()
    return line
