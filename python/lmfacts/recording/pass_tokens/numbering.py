"""Gives the tokens of one pass after another their sequences and positions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lmfacts._native import TokenBatch

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

    from lmfacts.recording.pass_tokens.call import Call

__all__ = ["TokenReader", "Tokens"]


@dataclass(frozen=True, eq=False)
class Tokens:
    """The tokens of one forward pass, B sequences of S columns.

    Attributes:
        native: the same for the accumulators, shared by all sites.
        sequence: int64 [B, S]: index of the sequence.
        position: int64 [B, S]: index within the sequence, padding not counted; 0 is the first real token.
        token_id: int64 [B, S]: -1 where only embeddings were given.
        real: bool [B, S]: False for padding.
        n_new_sequences: how many sequences began in this pass.
    """

    native: TokenBatch
    sequence: NDArray[np.int64]
    position: NDArray[np.int64]
    token_id: NDArray[np.int64]
    real: NDArray[np.bool_]
    n_new_sequences: int

    @property
    def n_real(self) -> int:
        """Number of tokens that are not padding."""
        return self.native.n_real

    @property
    def first_sequence(self) -> int | None:
        """The lowest index of a sequence that has a token in this pass; None if all is padding."""
        return int(self.sequence[self.real].min()) if self.real.any() else None

    def columns(self, chosen: slice | NDArray[Any]) -> TokenBatch:
        """Some columns of each row, for accumulators: those for which a model computes logits, say."""
        at = np.s_[:, chosen]
        return _native(self.sequence[at], self.position[at], self.token_id[at], self.real[at])


class TokenReader:
    """Numbers the sequences of one forward pass after another.

    Attributes:
        n_sequences: sequences so far.
        last: int64 [B]: the sequence of each row's last token in the pass before; None if there was none.
        n_odd_masks: passes whose mask had values that are neither 0 nor whole numbers.
    """

    def __init__(self) -> None:
        self.n_sequences = 0
        self.last: NDArray[np.int64] | None = None
        self.n_odd_masks = 0

    def number(self, call: Call) -> Tokens:
        """The tokens of a call, whose tensors lie in host memory."""
        n_rows, n_columns = call.shape
        token_id = np.full(call.shape, -1, dtype=np.int64) if call.ids is None else _int64(call.ids)
        real = np.ones(call.shape, dtype=np.bool_) if call.real is None else call.real.numpy()
        earlier = call.n_earlier if call.earlier is None else np.broadcast_to(_int64(call.earlier), n_rows)[:, None]
        in_row = np.cumsum(real, axis=1, dtype=np.int64) - 1
        position = in_row + earlier
        before = None if call.continues is None else call.continues.sequence
        if call.length is not None and int(call.length) == 0:
            before = None
        if before is not None:
            first, n_new = before, 0
        else:
            first, n_new = self.n_sequences + np.arange(n_rows), n_rows
        sequence = np.broadcast_to(first[:, None], call.shape)

        begins = None if before is not None or call.starts is None else _begins(_int64(call.starts) == 0, real)
        if begins is not None:
            sequence = self.n_sequences + np.cumsum(begins, dtype=np.int64).reshape(call.shape) - 1
            position = in_row - np.maximum.accumulate(np.where(begins, in_row, 0), axis=1)
            n_new = int(begins.sum())

        self.n_sequences += n_new
        self.last = sequence[:, -1].copy() if n_columns else None
        call.rows.sequence = self.last
        self.n_odd_masks += call.is_odd_mask is not None and bool(call.is_odd_mask)
        return Tokens(_native(sequence, position, token_id, real), sequence, position, token_id, real, n_new)


def _int64(tensor: torch.Tensor) -> NDArray[np.int64]:
    return tensor.numpy().astype(np.int64, copy=False)


def _native(
    sequence: NDArray[np.int64], position: NDArray[np.int64], token_id: NDArray[np.int64], real: NDArray[np.bool_]
) -> TokenBatch:
    return TokenBatch(_flat(sequence), _flat(position), _flat(token_id), _flat(real).view(np.uint8))


def _flat(values: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(values).reshape(-1)


def _begins(starts: NDArray[np.bool_], real: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Where in a batch a sequence begins, [B, S], if any begins inside a row; padding has no say."""
    restarts = starts & real
    first = real & (np.cumsum(real, axis=1) == 1)
    return restarts | first if (restarts & ~first).any() else None
