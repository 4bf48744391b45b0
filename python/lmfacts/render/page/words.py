"""Texts as inline parts of a page: links found in them, and texts that a run brought along."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from lmfacts.render.page.document import Code, Context, Foreign, Link
from lmfacts.render.terminal.token_text import quoted
from lmfacts.writing.cells import cell, whole_or_number

if TYPE_CHECKING:
    from lmfacts.facts.fact import Cell
    from lmfacts.render.page.document import Inline, Words
    from lmfacts.run.info import ContextInfo

__all__ = ["cell_text", "context_of", "linked", "number", "token", "typeset"]

_ADDRESS: Final = re.compile(
    r"https?://[^\s<>\"']+[^\s<>\"'.,;:)\]]|arXiv:\d{4}\.\d{4,5}|doi:10\.\d{4,}/[^\s<>\"']+[^\s<>\"'.,;:)\]]"
    r"|`[^`]+`|(?:alignmentforum\.org|lesswrong\.com)/posts/\w+"
)
_MOST_BEFORE, _MOST_AFTER = 70, 40
_TOKEN_CELLS: Final = 18
_MISSING: Final = "\N{EN DASH}"


def typeset(text: str) -> str:
    """A plain text of the catalogue, which is ASCII, with the signs that a page has: `≤`, `≥`, `±`."""
    return text.replace("<=", "≤").replace(">=", "≥").replace("+-", "±")


def linked(text: str) -> Words:
    """A text of the catalogue, typeset: addresses, arXiv numbers and DOIs are links, names in backticks are code."""
    text = typeset(text)
    words: list[Inline] = []
    end = 0
    for match in _ADDRESS.finditer(text):
        address = match[0]
        part = Code(address[1:-1]) if address.startswith("`") else Link(_shown(address), _target(address))
        words += [text[end : match.start()], part]
        end = match.end()
    words.append(text[end:])
    return tuple(word for word in words if word)


def number(value: float) -> str:
    """A number with four digits; a whole one as it is; a dash for NaN."""
    return whole_or_number(value, 4, _MISSING)


def cell_text(value: Cell, column: str) -> str:
    """A cell of a table of evidence."""
    return cell(value, column, _MISSING)


def token(token_id: int, text: str | None) -> Inline:
    """A token in quotes, or its id where its text is not known."""
    if text is None:
        return f"id {token_id}" if token_id >= 0 else "unknown"
    return Foreign(quoted(text, _TOKEN_CELLS))


def context_of(context: ContextInfo | None) -> Inline:
    """The text around a token, as the run's metadata has it; a dash without."""
    if not context:
        return _MISSING
    before, after = context.before or "", context.after or ""
    start = "… " if len(before) > _MOST_BEFORE else ""
    end = " …" if len(after) > _MOST_AFTER else ""
    return Context(
        start + _visible(before[-_MOST_BEFORE:]),
        _visible(context.token or ""),
        _visible(after[:_MOST_AFTER]) + end,
    )


def _visible(text: str) -> str:
    """A text with what cannot be seen escaped, as in a quoted token, but without quotes."""
    return "'".join(quoted(piece)[1:-1] for piece in text.split("'"))


def _target(address: str) -> str:
    if address.startswith("arXiv:"):
        return f"https://arxiv.org/abs/{address.removeprefix('arXiv:')}"
    if address.startswith("doi:"):
        return f"https://doi.org/{address.removeprefix('doi:')}"
    return address if address.startswith("http") else f"https://www.{address}"


def _shown(address: str) -> str:
    return address.removeprefix("https://").removeprefix("http://").removeprefix("www.")
