"""Reads from a forward pass's arguments which tokens it is about: where each stands, and which are padding."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lmfacts._native import TokenBatch
from lmfacts.errors import HookError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

__all__ = ["TokenReader", "Tokens", "check_mask", "n_cached_tokens", "shape_of_ids"]


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


class TokenReader:
    """Numbers the sequences of one forward pass after another.

    - `attention_mask` [B, S] says what is padding, on whichever side; positions count real tokens only.
    - With a key-value cache the mask is longer than the input, and the pass goes on with the sequences of the pass
      before.
    - `position_ids` that start again at 0 within a row (several documents in one row) begin a new sequence there.
    """

    def __init__(self) -> None:
        self.n_sequences = 0
        self.last: NDArray[np.int64] | None = None

    def read(self, root: torch.nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Tokens:
        """The tokens of the pass that starts when a module's forward is called with these arguments; see `number`."""
        names = inspect.signature(root.forward).parameters
        return self.number({**dict(zip(names, args, strict=False)), **kwargs})

    def number(self, given: Mapping[str, Any], *, n_cached: int | None = None) -> Tokens:
        """The tokens of the pass that starts with these arguments.

        Args:
            given: the arguments of the transformer's forward, by their names.
            n_cached: how many tokens of each sequence earlier passes have seen, if it was asked before.

        Raises:
            HookError: neither token ids nor embeddings were given, or the mask is not one of [B, S].
        """
        token_id = _token_ids(given)
        n_rows, n_columns = token_id.shape
        mask = _mask(given.get("attention_mask"), n_rows, n_columns)
        if n_cached is None:
            n_cached = n_cached_tokens(given, n_rows, n_columns)
        if mask is None:
            mask = np.ones((n_rows, n_cached + n_columns), dtype=np.bool_)
        real = mask[:, -n_columns:] if n_columns else mask[:, :0]
        position = np.cumsum(mask, axis=1, dtype=np.int64)[:, mask.shape[1] - n_columns :] - 1
        if mask.shape[1] == n_columns:
            position += n_cached

        continues = n_cached > 0 and self.last is not None and len(self.last) == n_rows
        first = self.last if continues and self.last is not None else self.n_sequences + np.arange(n_rows)
        sequence = np.broadcast_to(first[:, None], (n_rows, n_columns))
        n_new = 0 if continues else n_rows

        begins = None if continues else _begins(given.get("position_ids"), real)
        if begins is not None:
            sequence = self.n_sequences + np.cumsum(begins, dtype=np.int64).reshape(n_rows, n_columns) - 1
            in_row = np.cumsum(real, axis=1, dtype=np.int64) - 1
            position = in_row - np.maximum.accumulate(np.where(begins, in_row, 0), axis=1)
            n_new = int(begins.sum())

        self.n_sequences += n_new
        self.last = sequence[:, -1].copy() if n_columns else None
        native = TokenBatch(_flat(sequence), _flat(position), _flat(token_id), _flat(real).view(np.uint8))
        return Tokens(native, sequence, position, token_id, real, n_new)


def _flat(values: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(values).reshape(-1)


def _ids(given: Mapping[str, Any]) -> torch.Tensor | None:
    ids = given.get("input_ids")
    if ids is None:
        ids = given.get("input")
    if not isinstance(ids, torch.Tensor):
        return None
    return ids.detach() if ids.ndim > 1 else ids.detach().reshape(1, -1)


def _token_ids(given: Mapping[str, Any]) -> NDArray[np.int64]:
    ids = _ids(given)
    if ids is None:
        return np.full(shape_of_ids(given), -1, dtype=np.int64)
    return ids.cpu().numpy().astype(np.int64, copy=False)


def shape_of_ids(given: Mapping[str, Any]) -> tuple[int, int]:
    """Sequences and columns of a pass, [B, S], from the ids or the embeddings.

    Raises:
        HookError: neither was given.
    """
    ids, embeddings = _ids(given), given.get("inputs_embeds")
    if ids is not None:
        return ids.shape[0], ids.shape[1]
    if isinstance(embeddings, torch.Tensor):
        return embeddings.shape[0], embeddings.shape[1]
    raise HookError(
        f"expected input_ids or inputs_embeds in the call of the model, got {', '.join(given) or 'no arguments'}; "
        "lmfacts needs to know which tokens a forward pass is about"
    )


def check_mask(mask: object, n_rows: int, n_columns: int) -> torch.Tensor | None:
    """The mask, if it is one of [B, at least S] or none.

    Raises:
        HookError: it is in another form.
    """
    if mask is None:
        return None
    if not isinstance(mask, torch.Tensor) or mask.ndim != 2 or mask.shape[0] != n_rows or mask.shape[1] < n_columns:  # noqa: PLR2004  axes
        found = f"shape {tuple(mask.shape)}" if isinstance(mask, torch.Tensor) else type(mask).__name__
        raise HookError(
            f"expected an attention_mask of shape [{n_rows}, {n_columns}] (1 for real tokens, 0 for padding), "
            f"got {found}; a mask in another form does not say which tokens are padding"
        )
    return mask.detach()


def _mask(mask: object, n_rows: int, n_columns: int) -> NDArray[np.bool_] | None:
    checked = check_mask(mask, n_rows, n_columns)
    return None if checked is None else (checked != 0).cpu().numpy()


def n_cached_tokens(given: Mapping[str, Any], n_rows: int, n_columns: int) -> int:
    """How many tokens of each sequence earlier passes have seen already."""
    mask = check_mask(given.get("attention_mask"), n_rows, n_columns)
    from_mask = 0 if mask is None else mask.shape[1] - n_columns
    if from_mask > 0:
        return from_mask
    cache = given.get("past_key_values")
    length = getattr(cache, "get_seq_length", None)
    return int(length()) if callable(length) else 0


def _begins(position_ids: object, real: NDArray[np.bool_]) -> NDArray[np.bool_] | None:
    """Where in a batch a sequence begins, [B, S], if any begins inside a row; padding has no say."""
    n_columns = real.shape[1]
    if not isinstance(position_ids, torch.Tensor) or position_ids.shape[-1] != n_columns or position_ids.ndim > 2:  # noqa: PLR2004  axes
        return None
    restarts = (position_ids.detach() == 0).cpu().numpy() & real
    first = real & (np.cumsum(real, axis=1) == 1)
    return restarts | first if (restarts & ~first).any() else None
