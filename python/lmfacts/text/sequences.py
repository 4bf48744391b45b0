"""From text to batches of token ids, in an order that depends on the text alone."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from lmfacts.text.corpus import Corpus

__all__ = ["Batch", "Sequences"]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Sequences side by side, padded on the right.

    Attributes:
        input_ids: int64 [B, S].
        attention_mask: int64 [B, S], 0 for padding.
        n_bytes_read: bytes of the corpus that were read up to its end.
    """

    input_ids: NDArray[np.int64]
    attention_mask: NDArray[np.int64]
    n_bytes_read: int


@dataclass
class Sequences:
    """How a corpus becomes sequences.

    Packed: documents are joined by the tokenizer's end-of-text token and the stream is cut every `seq_len` tokens, each
    cut starting with the beginning-of-text token if the tokenizer puts one before texts. Otherwise: one document is one
    sequence, with the special tokens that the tokenizer gives it, cut off at `seq_len`.

    Attributes:
        corpus: the text.
        tokenizer: a Hugging Face tokenizer.
        seq_len: most tokens in a sequence.
        pack: see above.
        max_tokens: where to stop; the last sequence is cut so that this number is met exactly.
        n_documents: documents read to their end (or to where they were cut off) so far.
        n_cut_off: of these, how many were cut off because they were longer than a sequence.
    """

    corpus: Corpus
    tokenizer: Any
    seq_len: int
    pack: bool = True
    max_tokens: int | None = None
    n_documents: int = 0
    n_cut_off: int = 0
    _n_bytes: int = field(default=0, repr=False)

    def describe(self) -> dict[str, Any]:
        """What was chosen and what was read, for the run file."""
        return {
            **self.corpus.describe(),
            "packed": self.pack,
            "seq_len": self.seq_len,
            "bos_token": _name(self.tokenizer, self._around()[0]),
            "separator": _name(self.tokenizer, self._separator()) if self.pack else None,
            "n_documents": self.n_documents,
            "n_documents_cut_off": self.n_cut_off,
            "n_documents_skipped": self.corpus.n_skipped,
        }

    def notes(self) -> list[str]:
        """What a reader of the run should know of the text, a sentence each."""
        n = self.corpus.n_skipped
        if not n:
            return []
        many = "1 document was" if n == 1 else f"{n} documents were"
        return [f"{many} skipped; the first: {self.corpus.first_skipped}"]

    def batches(self, batch_size: int) -> Iterator[Batch]:
        """The sequences in batches of `batch_size`, the last one perhaps smaller."""
        waiting: list[list[int]] = []
        for sequence in self._limited():
            waiting.append(sequence)
            if len(waiting) == batch_size:
                yield self._batch(waiting)
                waiting = []
        if waiting:
            yield self._batch(waiting)

    def _batch(self, sequences: list[list[int]]) -> Batch:
        padding = next((i for i in (self.tokenizer.pad_token_id, self.tokenizer.eos_token_id) if i is not None), 0)
        shape = (len(sequences), max(map(len, sequences)))
        ids, mask = np.full(shape, padding, dtype=np.int64), np.zeros(shape, dtype=np.int64)
        for row, sequence in enumerate(sequences):
            ids[row, : len(sequence)] = sequence
            mask[row, : len(sequence)] = 1
        return Batch(ids, mask, self._n_bytes)

    def _limited(self) -> Iterator[list[int]]:
        left = self.max_tokens
        for sequence in self._packed() if self.pack else self._one_a_document():
            kept = sequence if left is None else sequence[:left]
            if kept:
                yield kept
            if left is not None:
                left -= len(kept)
                if left <= 0:
                    return

    def _around(self) -> tuple[list[int], list[int]]:
        """What the tokenizer puts before a text (its beginning-of-text token, or nothing) and after it."""
        bos = self.tokenizer.bos_token_id
        around = list(self.tokenizer("", add_special_tokens=True, verbose=False)["input_ids"])
        n_before = int(bos is not None and around[:1] == [bos])
        return around[:n_before], around[n_before:]

    def _separator(self) -> list[int]:
        eos = self.tokenizer.eos_token_id
        return [] if eos is None else [eos]

    def _ids(self, text: str) -> list[int]:
        return list(self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])

    def _packed(self) -> Iterator[list[int]]:
        (prefix, _), separator = self._around(), self._separator()
        room = self.seq_len - len(prefix)
        stream: list[int] = []
        for piece in self.corpus:
            stream += self._ids(piece.text)
            self._n_bytes += piece.n_bytes
            if piece.ends_document:
                stream += separator
                self.n_documents += 1
            whole = len(stream) // room * room
            for start in range(0, whole, room):
                yield prefix + stream[start : start + room]
            del stream[:whole]
        if stream:
            yield prefix + stream

    def _one_a_document(self) -> Iterator[list[int]]:
        prefix, suffix = self._around()
        ids: list[int] = []
        for piece in self.corpus:
            self._n_bytes += piece.n_bytes
            if len(ids) <= self.seq_len:
                ids += self._ids(piece.text)
            if piece.ends_document:
                whole = prefix + ids + suffix
                self.n_documents += 1
                self.n_cut_off += len(whole) > self.seq_len
                if ids:
                    yield whole[: self.seq_len]
                ids = []


def _name(tokenizer: Any, ids: list[int]) -> str | None:
    return str(tokenizer.convert_ids_to_tokens(ids[0])) if ids else None
