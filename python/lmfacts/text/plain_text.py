"""A plain text, cut into pieces that a tokenizer can be given one after the other."""

from __future__ import annotations

import codecs
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from lmfacts.errors import CorpusError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["Piece", "text_pieces"]

_BLOCK_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class Piece:
    """A stretch of a document's text.

    Attributes:
        text: the text.
        ends_document: whether the document ends with it.
        n_bytes: bytes of the source that were read for it.
    """

    text: str
    ends_document: bool
    n_bytes: int


def text_pieces(stream: IO[bytes], name: str, is_cut: Callable[[], bool] = lambda: False) -> Iterator[Piece]:
    """A text as pieces that end at the end of a line where there is one, else of a word.

    A piece is given when the next one is known to exist, so that the last one can say that the document ends.

    Args:
        stream: the text.
        name: what to call it.
        is_cut: asked at the end, whether the stream may end within a character.

    Raises:
        CorpusError: it is not UTF-8 text, or there is none.
    """
    decoder = codecs.getincrementaldecoder("utf-8-sig")()
    waiting: Piece | None = None
    text, n_bytes, offset = "", 0, 0
    while True:
        block = stream.read(_BLOCK_BYTES)
        try:
            text += decoder.decode(block, final=not block and not is_cut())
        except UnicodeDecodeError as error:
            raise CorpusError(
                _not_text(name, f"byte {error.object[error.start]:#04x} near position {offset}")
            ) from None
        if "\0" in text:
            raise CorpusError(_not_text(name, f"a zero byte near position {offset}"))
        offset += len(block)
        n_bytes += len(block)
        cut = len(text) if not block else _cut(text)
        if cut:
            if waiting is not None:
                yield waiting
            waiting = Piece(text[:cut], ends_document=False, n_bytes=n_bytes)
            text, n_bytes = text[cut:], 0
        if not block:
            break
    if waiting is None:
        raise CorpusError(f"{name}: expected text, got nothing")
    yield Piece(waiting.text, ends_document=True, n_bytes=waiting.n_bytes)


def _cut(text: str) -> int:
    """Where to end a piece: after the last line end, else before the last space, else nowhere yet.

    A very long word is cut in the end, so that memory stays bounded.
    """
    at = text.rfind("\n") + 1 or max(text.rfind(" "), 0)
    return at or (len(text) if len(text) > 16 * _BLOCK_BYTES else 0)


def _not_text(name: str, got: str) -> str:
    return f"{name}: expected UTF-8 text, got {got}; a binary file or another encoding cannot be read"
