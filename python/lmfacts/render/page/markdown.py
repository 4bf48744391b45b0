"""A page as Markdown, in GitHub's dialect; its drawings are files beside it, in light colors."""

from __future__ import annotations

import os
import re
from functools import singledispatch
from html import escape
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from lmfacts.charts import Figure
from lmfacts.render.page.document import (
    Badge,
    Block,
    Code,
    CodeBlock,
    Context,
    Details,
    Foreign,
    Inline,
    Link,
    Listing,
    Paragraph,
    Section,
    Strong,
    TableBlock,
    Words,
)
from lmfacts.render.terminal.verdicts import SIGNS
from lmfacts.writing.visible_text import visible

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmfacts.charts import Key
    from lmfacts.render.page.document import Page

__all__ = ["to_markdown"]

_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]#|~$])")
_LINE_START: Final = re.compile(r"^(\s*\d*)([-+.)])(?=\s|$)")
_BACKTICKS: Final = re.compile(r"`+")
_STYLES: Final = {"line": "line", "dashed": "dashed line", "dotted": "dotted line", "area": "area", "point": "points"}


def to_markdown(page: Page, figures_folder: str) -> str:
    """The page as Markdown. Every text in it is escaped.

    Args:
        page: the page.
        figures_folder: where its drawings are, relative to the file: `NAME.svg` for each chart.
    """
    parts = [f"# {_escaped(page.title)}", _escaped(page.subtitle)]
    parts += [_block(block, figures_folder) for block in page.opening]
    for section in page.sections:
        parts += _section(section, figures_folder)
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(section: Section, folder: str) -> list[str]:
    eyebrow = f"{section.eyebrow} " if section.eyebrow else ""
    badge = "" if section.verdict is None else f": {SIGNS[section.verdict]} {section.verdict.words}"
    heading = f'<a id="{escape(section.id)}"></a>\n\n## {_escaped(eyebrow + section.title + badge)}'
    return [heading, *(_block(block, folder) for block in section.blocks)]


def _block(block: Block, folder: str) -> str:
    match block:
        case Paragraph(words, kind):
            text = _LINE_START.sub(r"\1\\\2", _words(words))
            return f"> {text}" if kind == "warning" else text
        case Listing(items):
            return "\n".join(f"- {_words(item)}" for item in items)
        case CodeBlock(lines):
            return _fenced(lines)
        case TableBlock():
            return _table(block)
        case Figure():
            return _figure(block, folder)
        case Details(title, blocks):
            return "\n\n".join([f"#### {_escaped(title)}", *(_block(inner, folder) for inner in blocks)])


def _fenced(lines: Sequence[str]) -> str:
    """Lines as they are, between fences longer than any in them."""
    text = visible("\n".join(lines))
    fence = "`" * max(3, 1 + max(map(len, _BACKTICKS.findall(text)), default=0))
    return f"{fence}text\n{text}\n{fence}"


def _table(table: TableBlock) -> str:
    parts = [f"**{_escaped(table.title)}**"] if table.title else []
    if table.layout == "pairs":
        parts.append("\n".join(f"- **{_words(label)}:** {_words(value)}" for label, value in table.rows))
    else:
        rows = [
            "| " + " | ".join(_escaped(column.name) for column in table.columns) + " |",
            "|" + "|".join("---:" if column.numeric else ":---" for column in table.columns) + "|",
        ]
        rows += ["| " + " | ".join(map(_words, row)) + " |" for row in table.rows]
        parts.append("\n".join(rows))
    if table.note:
        parts.append(_words(table.note))
    return "\n\n".join(parts)


def _figure(figure: Figure, folder: str) -> str:
    images = "\n".join(f"![{_escaped(chart.alt)}]({_file(folder)}/{chart.name}.svg)" for chart in figure.charts)
    keys = [f"Key: {'; '.join(map(_key, figure.keys))}."] if figure.keys else []
    return "\n\n".join([f"**{_escaped(figure.title)}**", images, *keys, _escaped(figure.caption)])


def _key(key: Key) -> str:
    color = key.color.replace("fill-", "light ").replace("fill", "light blue").replace("ink", "black")
    color = color.replace("heat", "blue shade").replace("low", "orange shade").replace("high", "blue shade")
    color = color.replace("level", "gray").replace("depth", "depth color")
    return _escaped(f"{color.replace('-', ' ')} {_STYLES[key.style]}: {key.label}")


def _words(words: Words) -> str:
    return "".join(map(_inline, words))


def _escaped(text: str) -> str:
    """A text on one line in which nothing means anything to Markdown or HTML, with what is not visible escaped."""
    one_line = " ".join(visible(text).splitlines())
    return _SPECIAL.sub(r"\\\1", escape(one_line, quote=False))


def _file(name: str) -> str:
    """A file's name as a relative address."""
    return quote(os.fsencode(name), safe="")


def _address(target: str) -> str:
    """The target of a link or an image, percent-encoded where it could end it."""
    return quote(target, safe="/:#?&=%@+,;~", errors="replace")


def _code(text: str) -> str:
    """Text in a code element, which unlike backticks can hold anything, in a table too."""
    return f"<code>{_escaped(text)}</code>"


@singledispatch
def _inline(part: Inline) -> str:
    raise TypeError(f"not a part of a text: {part!r}")


@_inline.register
def _(part: str) -> str:
    return _escaped(part)


@_inline.register
def _(part: Code) -> str:
    return _code(part.text)


@_inline.register
def _(part: Strong) -> str:
    return f"**{_escaped(part.text.strip())}**" + " " * part.text.endswith(" ")


@_inline.register
def _(part: Link) -> str:
    return f"[{_escaped(part.text)}]({_address(part.target)})"


@_inline.register
def _(part: Badge) -> str:
    return f"{SIGNS[part.verdict]} **{part.verdict.words}**"


@_inline.register
def _(part: Foreign) -> str:
    return _code(part.text)


@_inline.register
def _(part: Context) -> str:
    return f"{_code(part.before)} **{_code(part.token)}** {_code(part.after)}"
