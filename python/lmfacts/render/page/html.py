"""A page as one HTML file: style and drawings are in it, nothing is loaded, nothing runs."""

from __future__ import annotations

from functools import singledispatch
from html import escape as escape_html
from importlib.resources import files
from typing import TYPE_CHECKING, Final

from lmfacts.charts import Figure
from lmfacts.render.page.document import (
    Badge,
    Block,
    Code,
    CodeBlock,
    Column,
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
from lmfacts.render.page.draw import draw
from lmfacts.render.page.palette import style_sheet, themed
from lmfacts.render.terminal.verdicts import SIGNS
from lmfacts.writing.visible_text import visible

if TYPE_CHECKING:
    from lmfacts.charts import Key
    from lmfacts.facts.fact import Verdict
    from lmfacts.render.page.document import Page

__all__ = ["to_html"]

_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def escape(text: str) -> str:
    """Text in which nothing means anything to HTML, and everything is visible."""
    return escape_html(visible(text))


def to_html(page: Page) -> str:
    """The page as an HTML document. Every text in it is escaped."""
    style = files("lmfacts.render.page").joinpath("style.css").read_text(encoding="utf-8")
    body = "".join(map(_block, page.opening)) + "".join(map(_section, page.sections))
    title = f"{page.title}: {page.subtitle[:1].lower()}{page.subtitle[1:]}"
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(title)}</title>\n<style>\n{style_sheet()}{style}</style>\n</head>\n<body>\n<main>\n"
        f'<header>\n<p class="eyebrow">{escape(page.subtitle)}</p>\n<h1>{escape(page.title)}</h1>\n'
        f"</header>\n{body}</main>\n</body>\n</html>\n"
    )


def _section(section: Section) -> str:
    identifier = escape(section.id)
    badge = "" if section.verdict is None else f" {_badge(section.verdict)}"
    eyebrow = f'<span class="number">{escape(section.eyebrow)}</span> ' if section.eyebrow else ""
    blocks = "".join(map(_block, section.blocks))
    return (
        f'<section id="{identifier}" aria-labelledby="{identifier}-title">\n'
        f'<h2 id="{identifier}-title">{eyebrow}{escape(section.title)}{badge}</h2>\n{blocks}</section>\n'
    )


def _block(block: Block) -> str:
    match block:
        case Paragraph(words, kind):
            name = "" if kind == "text" else f' class="{kind}"'
            return f"<p{name}>{_words(words)}</p>\n"
        case Listing(items):
            return "<ul>\n" + "".join(f"<li>{_words(item)}</li>\n" for item in items) + "</ul>\n"
        case CodeBlock(lines):
            return f'<pre tabindex="0"><code>{escape(chr(10).join(lines))}</code></pre>\n'
        case TableBlock():
            return _table(block)
        case Figure():
            return _figure(block)
        case Details(title, blocks):
            inner = "".join(map(_block, blocks))
            return f"<details>\n<summary>{escape(title)}</summary>\n{inner}</details>\n"


def _table(table: TableBlock) -> str:
    label = escape(table.title or "Table")
    title = f'<p class="table-title">{escape(table.title)}</p>\n' if table.title else ""
    note = f'<p class="note">{_words(table.note)}</p>\n' if table.note else ""
    start = f'<table class="{table.layout}" aria-label="{label}">\n'
    if table.layout == "pairs":
        rows = "".join(
            f'<tr><th scope="row">{_words(name)}</th><td>{_words(value)}</td></tr>\n' for name, value in table.rows
        )
        return f"{title}{start}<tbody>\n{rows}</tbody></table>\n{note}"
    head = "".join(f'<th scope="col"{_kind(column)}>{escape(column.name)}</th>' for column in table.columns)
    rows = "".join(f"<tr>{_row(row, table.columns)}</tr>\n" for row in table.rows)
    if not table.rows:
        rows = f'<tr><td colspan="{len(table.columns)}">None.</td></tr>\n'
    body = f"{start}<thead><tr>{head}</tr></thead>\n<tbody>\n{rows}</tbody></table>"
    if table.layout == "verdicts":
        return f'<nav aria-label="Verdicts">{body}</nav>\n'
    # A box that scrolls must be reached by keyboard.
    return f'{title}<div class="scroll" role="region" tabindex="0" aria-label="{label}">{body}</div>\n{note}'


def _row(row: tuple[Words, ...], columns: tuple[Column, ...]) -> str:
    return "".join(
        f"<td{_kind(column)}{_label(column)}>{_words(cell)}</td>" for cell, column in zip(row, columns, strict=True)
    )


def _label(column: Column) -> str:
    return f' data-label="{escape(column.label)} "' if column.label else ""


def _kind(column: Column) -> str:
    return ' class="n"' if column.numeric else ' class="l"' if column.long else ""


def _figure(figure: Figure) -> str:
    panels = "".join(f'<div class="panel">{_labelled(draw(chart), chart.alt)}</div>\n' for chart in figure.charts)
    keys = f'<ul class="keys">{"".join(map(_key, figure.keys))}</ul>\n' if figure.keys else ""
    columns = {1: 1, 2: 2, 4: 2}.get(len(figure.charts), 3)
    return (
        f'<figure>\n<p class="figure-title">{escape(figure.title)}</p>\n'
        f'<div class="panels of-{columns}">\n{panels}</div>\n{keys}<figcaption>{escape(figure.caption)}</figcaption>\n'
        "</figure>\n"
    )


def _labelled(svg: str, alt: str) -> str:
    return themed(svg).replace("<svg ", f'<svg role="img" aria-label="{escape(alt)}" ', 1)


def _key(key: Key) -> str:
    return f'<li><span class="{key.style}" style="--key:var(--{key.color})"></span>{escape(key.label)}</li>'


def _words(words: Words) -> str:
    return "".join(map(_inline, words))


@singledispatch
def _inline(part: Inline) -> str:
    raise TypeError(f"not a part of a text: {part!r}")


@_inline.register
def _(part: str) -> str:
    return escape(part)


@_inline.register
def _(part: Code) -> str:
    return f"<code>{escape(part.text)}</code>"


@_inline.register
def _(part: Strong) -> str:
    return f"<strong>{escape(part.text)}</strong>"


@_inline.register
def _(part: Link) -> str:
    return f'<a href="{escape(part.target)}">{escape(part.text)}</a>'


@_inline.register
def _(part: Badge) -> str:
    return _badge(part.verdict)


@_inline.register
def _(part: Foreign) -> str:
    return f'<bdi class="token">{escape(part.text)}</bdi>'


@_inline.register
def _(part: Context) -> str:
    token = f"<mark>{escape(part.token)}</mark>"
    return f'<bdi class="context">{escape(part.before)}{token}{escape(part.after)}</bdi>'


def _badge(verdict: Verdict) -> str:
    name = verdict.value.lower()
    return f'<span class="badge {name}"><span aria-hidden="true">{SIGNS[verdict]}</span> {escape(verdict.words)}</span>'
