"""A page as data: sections of paragraphs, tables and figures, without a word of HTML or Markdown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from lmfacts.charts import Figure

if TYPE_CHECKING:
    from lmfacts.facts.fact import Verdict

__all__ = [
    "Badge",
    "Block",
    "Code",
    "CodeBlock",
    "Column",
    "Context",
    "Details",
    "Foreign",
    "Inline",
    "Link",
    "Listing",
    "Page",
    "Paragraph",
    "Section",
    "Strong",
    "TableBlock",
    "Words",
]


@dataclass(frozen=True)
class Code:
    """A name or a command within a sentence."""

    text: str


@dataclass(frozen=True)
class Strong:
    """Words that stand out."""

    text: str


@dataclass(frozen=True)
class Link:
    """A link: `target` is `#id` of a section, or an address."""

    text: str
    target: str


@dataclass(frozen=True)
class Badge:
    """A verdict as a label."""

    verdict: Verdict


@dataclass(frozen=True)
class Foreign:
    """Text that a run brought along, of any script and direction."""

    text: str


@dataclass(frozen=True)
class Context:
    """A token that a run brought along, and the text around it."""

    before: str
    token: str
    after: str


Inline = str | Code | Strong | Link | Badge | Foreign | Context
Words = tuple[Inline, ...]
"""A run of text."""


@dataclass(frozen=True)
class Paragraph:
    """A paragraph.

    Attributes:
        words: what it says.
        kind: `text`, `lead` (the sentence to read if only one is read), `note` (smaller), or `warning` (loud).
    """

    words: Words
    kind: Literal["text", "lead", "note", "warning"] = "text"


@dataclass(frozen=True)
class Listing:
    """A list with bullets."""

    items: tuple[Words, ...]


@dataclass(frozen=True)
class CodeBlock:
    """Lines to be shown as they are: a command or formulas."""

    lines: tuple[str, ...]


@dataclass(frozen=True)
class Column:
    """A column of a table.

    Attributes:
        name: its heading.
        numeric: whether it holds numbers, which are set flush right.
        long: whether it holds texts that need several lines; others stay on one.
        label: what to write in front of a cell where headings are not shown, or empty.
    """

    name: str
    numeric: bool = False
    long: bool = False
    label: str = ""


@dataclass(frozen=True)
class TableBlock:
    """A table.

    Attributes:
        columns: its columns.
        rows: the cells, as many in each row as there are columns.
        title: what the rows are, or empty.
        note: how to read it.
        layout: `data`, `stacked` (on a narrow screen the cells of a row are put below each other), `pairs` (the first
            column names the second), or `verdicts` (the table of contents).
    """

    columns: tuple[Column, ...]
    rows: tuple[tuple[Words, ...], ...]
    title: str = ""
    note: Words = ()
    layout: Literal["data", "stacked", "pairs", "verdicts"] = "data"


@dataclass(frozen=True)
class Details:
    """Blocks that a reader opens if they care."""

    title: str
    blocks: tuple[Block, ...]


@dataclass(frozen=True)
class Section:
    """A part of the page that can be linked to.

    Attributes:
        id: unique on the page.
        title: its heading.
        blocks: what it holds.
        verdict: the verdict of a fact, or None.
        eyebrow: a few words above the heading, such as the fact's number.
    """

    id: str
    title: str
    blocks: tuple[Block, ...]
    verdict: Verdict | None = None
    eyebrow: str = ""


@dataclass(frozen=True)
class Page:
    """The whole page.

    Attributes:
        title: name of the model.
        subtitle: what the page is.
        opening: blocks before the first section.
        sections: the rest.
    """

    title: str
    subtitle: str
    opening: tuple[Block, ...]
    sections: tuple[Section, ...]

    @property
    def figures(self) -> tuple[Figure, ...]:
        """Every figure, in order."""
        return tuple(_figures(self.opening)) + tuple(f for section in self.sections for f in _figures(section.blocks))


Block = Paragraph | Listing | CodeBlock | TableBlock | Figure | Details


def _figures(blocks: tuple[Block, ...]) -> list[Figure]:
    figures: list[Figure] = []
    for block in blocks:
        if isinstance(block, Figure):
            figures.append(block)
        elif isinstance(block, Details):
            figures += _figures(block.blocks)
    return figures
