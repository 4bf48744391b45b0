"""Tokens written so that every character can be seen."""

from __future__ import annotations

import unicodedata

from rich.cells import cell_len

from lmfacts.writing.visible_text import escaped

__all__ = ["quoted"]


def quoted(text: str, width: int | None = None) -> str:
    r"""A token in quotes, with what cannot be seen escaped: `' the'`, `'\n'`, `'\u200b'`.

    Control and format characters, lone surrogates, unassigned characters, every space but U+0020, and marks that would
    combine with a quote are escaped as in Python; visible characters stay, however wide.

    Args:
        text: the token.
        width: the most cells the result may take, cut with an ellipsis after the quote; None for all of it.
    """
    quote = '"' if "'" in text and '"' not in text else "'"
    pieces = [_visible(character, quote, alone=index == 0) for index, character in enumerate(text)]
    whole = f"{quote}{''.join(pieces)}{quote}"
    if width is None or cell_len(whole) <= width:
        return whole
    kept, used = "", 3  # the two quotes and the ellipsis
    for piece in pieces:
        used += cell_len(piece)
        if used > width:
            break
        kept += piece
    return f"{quote}{kept}{quote}…"


def _visible(character: str, quote: str, *, alone: bool) -> str:
    if character in ("\\", quote):
        return "\\" + character
    is_mark = unicodedata.category(character).startswith("M")
    is_variation_selector = "\ufe00" <= character <= "\ufe0f"
    if character.isprintable() and not is_variation_selector and not (is_mark and alone):
        return character
    return escaped(character)
