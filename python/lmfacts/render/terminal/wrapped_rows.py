"""Rows of numbers and of text that wraps inside its own column, so that nothing is cut.

Where the columns do not fit beside each other, the table goes on below itself, with its first column again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

from rich.cells import cell_len
from rich.measure import Measurement
from rich.text import Text

from lmfacts.render.terminal.console import visible_cell

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console, ConsoleOptions

__all__ = ["WrappedColumn", "WrappedRows"]

_INDENT: Final = 2
_LONG_WORD: Final = 20
"""Words longer than this may be broken to make room."""

_WIDEST: Final = 108
"""The most that a table takes where one of its columns is running text."""


@dataclass(frozen=True, slots=True)
class WrappedColumn:
    """A column of `WrappedRows`.

    Attributes:
        header: its heading, or empty.
        align: where its cells stand.
        wraps: whether its cells are text that may go on below itself; other cells are never broken.
        least: the width that text is left before columns are moved below; its longest word anyhow.
    """

    header: str = ""
    align: Literal["left", "right"] = "left"
    wraps: bool = False
    least: int = 0


class WrappedRows:
    """Rows of cells, aligned; headings wrap before anything else does."""

    def __init__(self, columns: Sequence[WrappedColumn], rows: Sequence[Sequence[str | Text]], *, gap: int = 2) -> None:
        """A table.

        Args:
            columns: its columns.
            rows: a cell for each of them; plain strings are printed as they are.
            gap: blanks between columns.
        """
        self.columns = tuple(columns)
        self.rows = [[visible_cell(cell) for cell in row] for row in rows]
        self.gap = gap
        indices = range(len(self.columns))
        self._cells = [max((_longest(row[index], "\n") for row in self.rows), default=0) for index in indices]
        self._words = [max((_longest(row[index], None) for row in self.rows), default=0) for index in indices]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Text]:
        for number, part in enumerate(self._parts(options.max_width)):
            if number:
                yield Text("")
            widths = self._widths(part, options.max_width)
            if any(self.columns[index].header for index in part):
                yield from self._lines(console, part, widths, self._headings(part), top=False)
            for row in self.rows:
                yield from self._lines(console, part, widths, row, top=True)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(min(40, options.max_width), options.max_width)

    def _headings(self, part: Sequence[int]) -> list[Text]:
        shown = set(part)
        return [
            Text(column.header if index in shown else "", style="bold") for index, column in enumerate(self.columns)
        ]

    def _lines(
        self, console: Console, part: Sequence[int], widths: Sequence[int], row: Sequence[Text], *, top: bool
    ) -> Iterable[Text]:
        """The lines of one row: short cells stand at its top, or at its bottom."""
        wrapped = [
            list(row[index].wrap(console, max(width, 1))) or [Text("")]
            for index, width in zip(part, widths, strict=True)
        ]
        height = max(map(len, wrapped))
        for number in range(height):
            line = Text(" " * _INDENT, no_wrap=True, overflow="ellipsis")
            for place, (index, width) in enumerate(zip(part, widths, strict=True)):
                at = number if top else number - height + len(wrapped[place])
                cell = wrapped[place][at].copy() if 0 <= at < len(wrapped[place]) else Text("")
                cell.rstrip()
                blanks = " " * max(width - cell.cell_len, 0)
                line.append(" " * self.gap if place else "")
                if self.columns[index].align == "right":
                    line.append(blanks).append_text(cell)
                else:
                    line.append_text(cell).append(blanks)
            line.rstrip()
            yield line

    def _parts(self, available: int) -> list[list[int]]:
        """The columns that are shown together: all, or as many as fit behind the first."""
        parts: list[list[int]] = []
        for index in range(len(self.columns)):
            if parts and (len(parts[-1]) == 1 or self._least(parts[-1], index) <= available):
                parts[-1].append(index)
            else:
                parts.append([0, index] if parts else [index])
        return parts

    def _least(self, part: Sequence[int], index: int) -> int:
        """The width that these columns need at least."""
        widths = [self._narrow(each) for each in (*part, index)]
        return _INDENT + sum(widths) + self.gap * (len(widths) - 1)

    def _narrow(self, index: int) -> int:
        """A column's width if its heading wraps, and its text as well."""
        column = self.columns[index]
        heading = max(map(len, column.header.split()), default=0)
        text = max(min(self._words[index], _LONG_WORD), min(self._cells[index], column.least))
        return max(heading, text if column.wraps else self._cells[index])

    def _widths(self, part: Sequence[int], available: int) -> list[int]:
        """Each column as wide as it would like to be, if there is room; else as little narrower as possible."""
        wanted = [max(self._cells[index], len(self.columns[index].header)) for index in part]
        if any(self.columns[index].wraps for index in part):
            available = min(available, _WIDEST)
        room = available - _INDENT - self.gap * (len(part) - 1)
        if sum(wanted) > room:
            # Headings first, then text, the widest first.
            wanted = [
                width if self.columns[index].wraps else self._narrow(index)
                for index, width in zip(part, wanted, strict=True)
            ]
        least = [self._narrow(index) for index in part]
        while sum(wanted) > room:
            spare = [width - low for width, low in zip(wanted, least, strict=True)]
            if max(spare) <= 0:
                break
            wanted[max((place for place in range(len(part)) if spare[place] > 0), key=wanted.__getitem__)] -= 1
        return wanted


def _longest(cell: Text, separator: str | None) -> int:
    """The width of the longest line of a cell, or of its longest word."""
    return max(map(cell_len, cell.plain.split(separator)), default=0)
