"""The consoles that everything is printed to, and the styles it is printed in.

Results go to standard output, progress to standard error. A redirected result has the width of `COLUMNS`, or 160, so
that nothing is cut at 80. `NO_COLOR` and `FORCE_COLOR` are honored.

Nothing reaches a console that would steer a terminal or hide in a text: see `lmfacts.writing.visible_text`. Escape
sequences on a terminal are those of colors and of the live view alone.

Styles are few, named colors that are readable on a dark and on a light background; what matters is never said by color
alone, and never dim.
"""

from __future__ import annotations

import io
import os
import sys
from typing import IO, TYPE_CHECKING, Final

from rich.console import Console, Group
from rich.segment import Segment
from rich.text import Text

from lmfacts.writing.visible_text import visible, visible_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rich.console import ConsoleOptions, RenderableType

__all__ = [
    "SafeConsole",
    "heading",
    "on_terminal",
    "paragraph",
    "progress_console",
    "result_console",
    "section",
    "to_text",
    "visible_cell",
]

HEADING: Final = "bold"
BULK: Final = "cyan"
"""Graphics of the bulk of the values."""
STANDOUT: Final = "magenta"
"""Graphics and numbers of what stands out: outlier dims, tails, position 0."""
PROBLEM: Final = "bold red"

REDIRECTED_WIDTH: Final = 160
_PROSE_WIDTH: Final = 108
_NARROWEST: Final = 40


def result_console(file: IO[str] | None = None) -> Console:
    """The console for results.

    Args:
        file: where to print; standard output by default.
    """
    stream = sys.stdout if file is None else file
    _survive_narrow_encodings(stream)
    width = None if on_terminal(stream) else _redirected_width()
    return _ResultConsole(file=stream, width=width, highlight=False, markup=False, emoji=False, soft_wrap=False)


def progress_console() -> Console:
    """The console for progress and messages, on standard error."""
    _survive_narrow_encodings(sys.stderr)
    width = None if on_terminal(sys.stderr) else _redirected_width()
    return SafeConsole(stderr=True, width=width, highlight=False, markup=False, emoji=False)


class SafeConsole(Console):
    """A console that shows every character that is not visible as an escape.

    What lays text out makes it visible beforehand, so that escapes have room; this is for all that does not.
    """

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        """The segments of a renderable, their text visible."""
        for segment in super().render(renderable, options):
            if segment.control or segment.text.isprintable() or segment.text == "\n":
                yield segment
            else:
                yield Segment(visible(segment.text), segment.style)


class _ResultConsole(SafeConsole):
    """A console whose reader may leave: the rest goes nowhere, and the command ends as it would have."""

    def on_broken_pipe(self) -> None:
        self.quiet = True
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def on_terminal(stream: IO[str] | None) -> bool:
    """Whether a stream is a terminal that understands cursor movement; a closed one (None) is not."""
    return stream is not None and stream.isatty() and os.environ.get("TERM", "") not in ("dumb", "unknown")


def to_text(renderable: RenderableType, width: int = REDIRECTED_WIDTH) -> str:
    """A renderable as plain text, without colors and without blanks at the ends of lines."""
    console = SafeConsole(
        file=io.StringIO(), width=width, color_system=None, force_terminal=False, legacy_windows=False, _environ={}
    )
    with console.capture() as capture:
        console.print(renderable)
    return "".join(f"{line.rstrip()}\n" for line in capture.get().splitlines())


def section(title: str, *parts: RenderableType | None) -> RenderableType:
    """A titled part of a report, with a blank line before it; parts that are None are left out."""
    return Group(Text(""), heading(title), *(part for part in parts if part is not None))


def heading(title: str) -> RenderableType:
    """The title of a section, followed by a rule."""
    return _Heading(title)


def paragraph(*parts: str | Text, style: str = "") -> RenderableType:
    """Running text at a width that is easy to read, indented like the tables."""
    text = Text(style=style)
    for part in parts:
        text.append_text(visible_cell(part))
    return _Paragraph(text)


def visible_cell(text: str | Text, *, one_line: bool = False) -> Text:
    """A text to lay out, with everything escaped that is not visible.

    Args:
        text: the text; one with invisible characters loses the styles of its parts.
        one_line: whether line breaks are escaped too.
    """
    plain = text if isinstance(text, str) else text.plain
    if plain.isprintable() and not isinstance(text, str):
        return text
    shown = visible_line(plain) if one_line else visible(plain)
    if isinstance(text, str):
        return Text(shown)
    return text if shown == plain else Text(shown, style=text.style)


class _Heading:
    def __init__(self, title: str) -> None:
        self.title = title

    def __rich_console__(self, console: Console, options: object) -> Iterable[RenderableType]:
        title = Text(visible_line(self.title), style=HEADING, no_wrap=True, overflow="ellipsis")
        rule = min(console.width, _PROSE_WIDTH) - title.cell_len - 1
        if rule > 0:
            title.append(" " + "─" * rule, style="not bold")
        yield title


class _Paragraph:
    def __init__(self, text: Text) -> None:
        self.text = text

    def __rich_console__(self, console: Console, options: object) -> Iterable[RenderableType]:
        for line in self.text.wrap(console, max(min(console.width, _PROSE_WIDTH) - 2, 1)):
            line.rstrip()
            yield Text("  ", no_wrap=True).append_text(line)


def _redirected_width() -> int:
    columns = os.environ.get("COLUMNS", "")
    return max(int(columns), _NARROWEST) if columns.isascii() and columns.isdigit() else REDIRECTED_WIDTH


def _survive_narrow_encodings(stream: IO[str]) -> None:
    """Print `?` for what the stream's encoding lacks, instead of failing."""
    encoding = (getattr(stream, "encoding", None) or "utf-8").lower().replace("-", "")
    if isinstance(stream, io.TextIOWrapper) and not encoding.startswith("utf"):
        stream.reconfigure(errors="replace")
