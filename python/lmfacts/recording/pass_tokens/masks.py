"""The forms of an attention mask, and what each says of which tokens are real.

| form | what it says |
|---|---|
| None | every token is real |
| [B, M], M at least the pass's S columns | not zero: a real token. The M columns are those of the cache and the pass |
| the same with numbers above 1 | documents, numbered; several sequences stand in a row |
| [B or 1, heads, S or 1, M], bool or integers | not zero: query attends to key |
| the same, floating | added to the scores: below -9,999 the query does not attend to the key |
| a mapping of such (one for each kind of layer) | the one for full attention, or else the first that is there |

Of a mask with queries, a token is real if its own query attends to it. Queries that attend to everything, although the
last one does not, are padding too: that is how a mask is filled where softmax would have nothing left.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from lmfacts.errors import HookError

__all__ = ["Mask", "mask_tensor", "read_mask"]

_NOT_ATTENDED = -9_999.0
"""What is added to the scores of a key that is not attended to is below this: -10,000, the least number, -inf."""


@dataclass(frozen=True, eq=False)
class Mask:
    """What a mask says.

    Attributes:
        real: bool [B, S]: the pass's columns that are tokens.
        keys: bool [B, M]: the same for all columns of the mask, those of earlier passes first.
        starts: int64 [B, S], 0 where a document begins, or None where none does; only for masks that may number them.
        is_odd: bool, no axes: whether there are values that are neither 0 nor whole numbers; None if there cannot be.
    """

    real: torch.Tensor
    keys: torch.Tensor
    starts: torch.Tensor | None = None
    is_odd: torch.Tensor | None = None


def mask_tensor(mask: object) -> torch.Tensor | None:
    """The tensor of a mask: itself, or the one of a mapping that says most.

    Raises:
        HookError: it is of another kind.
    """
    if mask is None or isinstance(mask, torch.Tensor):
        return mask if mask is None else mask.detach()
    if isinstance(mask, Mapping):
        ordered = [mask.get("full_attention"), *mask.values()]
        return next((mask_tensor(each) for each in ordered if each is not None), None)
    raise HookError(
        f"expected an attention_mask that is a tensor, got {type(mask).__name__}; "
        "a mask in this form does not say which tokens are padding"
    )


def read_mask(mask: torch.Tensor, shape: tuple[int, int], n_cached: int | torch.Tensor | None) -> Mask:
    """What a mask says of the tokens of a pass.

    Args:
        mask: as `mask_tensor` gives it.
        shape: sequences and columns of the pass, [B, S].
        n_cached: columns that earlier passes have seen; None if nobody counts them, so that the pass's columns are the
            mask's last.

    Raises:
        HookError: its shape does not fit the pass.
    """
    n_rows, n_columns = shape
    if mask.ndim == 1 and n_rows == 1:
        mask = mask[None]
    if mask.ndim == 3:  # noqa: PLR2004  [B, queries, keys]
        mask = mask[:, None]
    has_queries = mask.ndim == 4  # noqa: PLR2004  [B, heads, queries, keys]
    fits = mask.ndim in (2, 4) and mask.shape[0] in (1, n_rows) and mask.shape[-1] >= n_columns
    if not fits or (has_queries and (mask.shape[2] not in (1, n_columns) or mask.shape[1] == 0)):
        raise HookError(
            f"expected an attention_mask of shape [{n_rows}, {n_columns}] (1 for real tokens, 0 for padding), or of "
            f"as many columns as the cache and the pass have together, or one of queries and keys [{n_rows}, heads, "
            f"{n_columns}, columns], got shape {tuple(mask.shape)}; it does not say which tokens are padding"
        )
    mask = mask.expand(n_rows, *mask.shape[1:])
    columns = _columns_of_pass(mask.shape[-1], n_columns, n_cached, mask.device)
    if has_queries:
        return _of_queries(mask[:, 0], n_columns, columns)
    keys = mask != 0
    odd = (mask.frac() != 0).any() if mask.is_floating_point() else None  # NaN and infinity leave a NaN
    numbered = mask.dtype not in (torch.bool, torch.uint8)
    starts = _document_starts(_at(mask, columns)) if numbered and n_columns > 1 else None
    return Mask(_at(keys, columns), keys, starts, odd)


def _columns_of_pass(
    width: int, n_columns: int, n_cached: int | torch.Tensor | None, device: torch.device
) -> slice | torch.Tensor:
    """Which columns of a mask are the pass's: those behind the cache's, or the last if it is not as wide as both."""
    if isinstance(n_cached, torch.Tensor):
        behind = torch.where(n_cached + n_columns <= width, n_cached, width - n_columns).to(device)
        return behind + torch.arange(n_columns, device=device)
    start = n_cached if n_cached is not None and n_cached + n_columns <= width else width - n_columns
    return slice(start, start + n_columns)


def _at(values: torch.Tensor, columns: slice | torch.Tensor) -> torch.Tensor:
    return values[..., columns] if isinstance(columns, slice) else values.index_select(-1, columns)


def _of_queries(mask: torch.Tensor, n_columns: int, columns: slice | torch.Tensor) -> Mask:
    """The same from [B, queries, keys] of one head."""
    attends = mask > _NOT_ATTENDED if mask.is_floating_point() else mask != 0
    keys = attends[:, -1]
    if attends.shape[1] != n_columns or n_columns == 1:  # one row of keys for all queries
        return Mask(_at(keys, columns), keys)
    to_itself = _at(attends, columns).diagonal(dim1=1, dim2=2)
    filled = attends.all(dim=2) & ~keys.all(dim=1, keepdim=True)
    return Mask(to_itself & ~filled, keys)


def _document_starts(mask: torch.Tensor) -> torch.Tensor:
    """0 where the number of a document differs from that of the last token before, 1 elsewhere; int64 [B, S]."""
    whole = mask.trunc() if mask.is_floating_point() else mask
    number = torch.where((whole > 1) & (whole < torch.inf), whole, (mask != 0).to(mask.dtype))
    at = torch.arange(mask.shape[1], device=mask.device).expand(mask.shape)
    # The last real token up to each column; before the first one, the column itself.
    last_real = torch.where(number != 0, at, -1).cummax(dim=1).values
    before = torch.cat([at[:, :1], last_real[:, :-1]], dim=1)
    earlier = number.gather(1, torch.where(before < 0, at, before))
    begins = (number != 0) & (earlier != 0) & (number != earlier)
    return (~begins).long()
