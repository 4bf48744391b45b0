"""What a call says about its tokens, worked out on the device of its arguments, and what the next call needs of it."""

from __future__ import annotations

import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch

from lmfacts.recording.pass_tokens.caches import Cached
from lmfacts.recording.pass_tokens.masks import mask_tensor, read_mask

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from lmfacts.recording.pass_tokens.arguments import Arguments
    from lmfacts.recording.pass_tokens.masks import Mask

__all__ = ["Call", "CallReader", "EndOfText", "Rows"]

_MOST_CACHES = 64


@dataclass(frozen=True)
class EndOfText:
    """The ids by which the padding after the end of a generated row is known.

    Attributes:
        padding: what rows that have ended are filled with; None if that is not known.
        ends: the ids of end-of-sequence tokens.
    """

    padding: int | None = None
    ends: tuple[int, ...] = ()

    @classmethod
    def of(cls, model: Any, tokenizer: Any = None) -> EndOfText:
        """From a tokenizer and, for what it does not say, from a model's configuration."""
        configs = [getattr(model, "generation_config", None), getattr(model, "config", None)]
        ends: list[int] = []
        for source in (tokenizer, *configs):
            stated = getattr(source, "eos_token_id", None)
            ends += stated if isinstance(stated, list | tuple) else [stated] if isinstance(stated, int) else []
        paddings = (getattr(source, "pad_token_id", None) for source in (tokenizer, *configs))
        padding = next((padding for padding in paddings if isinstance(padding, int)), ends[0] if ends else None)
        return cls(padding, tuple(dict.fromkeys(ends)))


@dataclass(eq=False)
class Rows:
    """Where the rows of a pass stand when it is over, for a pass that goes on with them.

    Attributes:
        n_rows: rows.
        n_columns: columns read so far, those of earlier passes among them; a tensor where only a device knows.
        n_real: int64 [n_rows]: real tokens among them, on the device of the call; None if all columns are real.
        has_ended: bool [n_rows]: whether the last token was the end of a generated text; None if none can have ended.
        sequence: int64 [n_rows]: the sequence of each row's last token, as soon as the host has numbered the pass.
    """

    n_rows: int
    n_columns: int | torch.Tensor
    n_real: torch.Tensor | None = None
    has_ended: torch.Tensor | None = None
    sequence: NDArray[np.int64] | None = None


@dataclass(frozen=True, eq=False)
class Call:
    """The tokens of a pass, B sequences of S columns, before they are numbered. Tensors lie where the arguments lay.

    Attributes:
        shape: [B, S].
        ids: integers [B, S]; None where only embeddings were given.
        real: bool [B, S]: False for padding; None if there is none.
        starts: integers [B or 1, S], 0 where a sequence begins inside a row; None if that is nowhere.
        earlier: int64 [B]: real tokens of each row that were read before; None if `n_earlier` says it for all rows.
        n_earlier: the same for all rows.
        length: columns in the cache, where only a device knows them: the pass goes on from `continues` if not 0.
        continues: the rows that the pass goes on with; None if it begins sequences.
        rows: the rows after the pass.
        is_odd_mask: bool, no axes: whether the mask has values that are neither 0 nor whole numbers; None if not.
    """

    shape: tuple[int, int]
    ids: torch.Tensor | None
    real: torch.Tensor | None
    starts: torch.Tensor | None
    earlier: torch.Tensor | None
    n_earlier: int
    length: torch.Tensor | None
    continues: Rows | None
    rows: Rows
    is_odd_mask: torch.Tensor | None = None


@dataclass
class CallReader:
    """Reads one call after another, and remembers which rows each cache holds.

    Attributes:
        end: how padding after the end of a generated text is known.
    """

    end: EndOfText = field(default_factory=EndOfText)
    _of_caches: dict[int, tuple[weakref.ref[Any], Rows]] = field(default_factory=dict)
    _last: Rows | None = None

    def read(self, arguments: Arguments) -> Call:
        """What a call with these arguments says about its tokens.

        Raises:
            HookError: neither token ids nor embeddings were given, or the mask has a form that cannot be read. Nothing
                of the call is remembered then.
        """
        shape = arguments.shape
        n_rows, n_columns = shape
        given_mask = mask_tensor(arguments.mask)
        known = self._known_rows(arguments.cache)
        held = arguments.cached or Cached.now(arguments.cache)
        cached = self._cached(arguments.cache, held, known, n_rows)
        counted = None if arguments.cache is None else cached
        mask = None if given_mask is None else read_mask(given_mask, shape, counted)
        if not isinstance(cached, torch.Tensor) and not cached and arguments.cache is None and mask is not None:
            cached = mask.keys.shape[-1] - n_columns  # a cache that was not found, or lies in the model
        before = self._before(known, cached, n_rows)
        earlier, n_earlier = _earlier(mask, cached, before, n_columns)
        ids = _of_shape(arguments.ids, shape)
        real = None if mask is None else mask.real
        if before is not None and n_columns == 1 and ids is not None:
            real = self._without_padding_after_the_end(ids, real, before, cached)
        rows = self._after(shape, ids, real, earlier, n_earlier, cached, before)
        self._last = rows
        self.remember(arguments.cache, rows)
        return Call(
            shape=shape,
            ids=ids,
            real=real,
            starts=_starts(arguments.positions, mask, n_columns),
            earlier=earlier,
            n_earlier=n_earlier,
            length=cached if isinstance(cached, torch.Tensor) else None,
            continues=before,
            rows=rows,
            is_odd_mask=None if mask is None else mask.is_odd,
        )

    def remember(self, cache: Any, rows: Rows) -> None:
        """Know a cache again as the one of these rows; without effect for what cannot be referred to."""
        try:
            reference = weakref.ref(cache)
        except TypeError:  # a tuple, or no cache
            return
        if len(self._of_caches) >= _MOST_CACHES:
            alive = {key: kept for key, kept in self._of_caches.items() if kept[0]() is not None}
            self._of_caches = dict(list(alive.items())[-_MOST_CACHES + 1 :])
        self._of_caches[id(cache)] = (reference, rows)

    def _known_rows(self, cache: Any) -> Rows | None:
        reference, rows = self._of_caches.get(id(cache), (None, None))
        return rows if reference is not None and reference() is cache else None

    def _cached(self, cache: Any, held: Cached, known: Rows | None, n_rows: int) -> int | torch.Tensor:
        """Columns that earlier passes have put into a cache; if it does not count them, those that were seen."""
        if held.n_columns is not None:
            return held.n_columns
        if known is None and isinstance(cache, tuple | list) and self._last is not None:
            known = self._last  # states without a name of their own are new objects in each pass
        return known.n_columns if known is not None and known.n_rows == n_rows and held.is_used else 0

    def _before(self, known: Rows | None, cached: int | torch.Tensor, n_rows: int) -> Rows | None:
        """The rows that a pass goes on with: those of its cache, or else the last ones if they fit what is cached."""
        if not isinstance(cached, torch.Tensor) and cached == 0:
            return None
        if known is None and self._last is not None and _is_same(self._last.n_columns, cached):
            known = self._last
        return known if known is not None and known.n_rows == n_rows else None

    def _without_padding_after_the_end(
        self, ids: torch.Tensor, real: torch.Tensor | None, before: Rows, cached: int | torch.Tensor
    ) -> torch.Tensor | None:
        if self.end.padding is None or before.has_ended is None:
            return real
        padding = (before.has_ended & (ids[:, 0] == self.end.padding))[:, None]
        if isinstance(cached, torch.Tensor):
            padding = padding & (cached > 0)
        return ~padding if real is None else real & ~padding

    def _after(  # noqa: PLR0917  all that is known of the call
        self,
        shape: tuple[int, int],
        ids: torch.Tensor | None,
        real: torch.Tensor | None,
        earlier: torch.Tensor | None,
        n_earlier: int,
        cached: int | torch.Tensor,
        before: Rows | None,
    ) -> Rows:
        n_rows, n_columns = shape
        n_real = None
        if real is not None or earlier is not None:
            n_new: Any = n_columns if real is None else real.sum(dim=1)
            n_real = n_new + (n_earlier if earlier is None else earlier)
        has_ended = None
        if ids is not None and self.end.ends and self.end.padding is not None and n_columns > 0:
            # Ends stand in what was generated: in passes of one token that go on. A prompt may end with one.
            has_ended = torch.zeros(n_rows, dtype=torch.bool, device=ids.device)
            if before is not None and n_columns == 1:
                for end in self.end.ends:
                    has_ended |= ids[:, 0] == end
                if before.has_ended is not None:
                    has_ended |= before.has_ended & (ids[:, 0] == self.end.padding)
        return Rows(n_rows, cached + n_columns, n_real, has_ended)


def _is_same(a: int | torch.Tensor, b: int | torch.Tensor) -> bool:
    return not isinstance(a, torch.Tensor) and not isinstance(b, torch.Tensor) and a == b


def _earlier(
    mask: Mask | None, cached: int | torch.Tensor, before: Rows | None, n_columns: int
) -> tuple[torch.Tensor | None, int]:
    """Real tokens of each row before the pass, as a tensor [B] or as one number.

    A mask that covers the cache says it. If it does not, the passes before are asked, provided that this one goes on
    where they ended; else all cached columns count.
    """
    if isinstance(cached, torch.Tensor):
        return _earlier_on_device(mask, cached, before, n_columns)
    if cached == 0:
        return None, 0
    if mask is not None and mask.keys.shape[-1] >= cached + n_columns:
        return mask.keys[:, :cached].sum(dim=1), 0
    if before is not None and before.n_real is not None and _is_same(before.n_columns, cached):
        return before.n_real, 0
    return None, cached


def _earlier_on_device(
    mask: Mask | None, cached: torch.Tensor, before: Rows | None, n_columns: int
) -> tuple[torch.Tensor, int]:
    """The same without waiting for the number of columns in the cache."""
    if mask is not None and mask.keys.shape[-1] > n_columns:
        columns = torch.arange(mask.keys.shape[-1], device=mask.keys.device)
        return (mask.keys & (columns < cached)).sum(dim=1), 0
    n_rows = 1 if before is None else before.n_rows
    earlier = cached.long().expand(n_rows)
    if before is not None and before.n_real is not None:
        earlier = torch.where(cached == before.n_columns, before.n_real, earlier)
    return earlier, 0


def _of_shape(ids: torch.Tensor | None, shape: tuple[int, int]) -> torch.Tensor | None:
    return None if ids is None else ids.detach().reshape(shape)


def _starts(positions: torch.Tensor | None, mask: Mask | None, n_columns: int) -> torch.Tensor | None:
    """0 where a sequence begins inside a row: positions start again there, or a mask numbers the next document."""
    starts = None if mask is None else mask.starts
    if positions is None or positions.ndim > 2 or positions.shape[-1] != n_columns:  # noqa: PLR2004  axes
        return starts  # positions of another kind, such as those of an image's patches
    positions = positions.detach().reshape(-1, n_columns)
    return positions if starts is None else starts * (positions != 0)
