"""Caches of keys, values and states: found under any name, asked for their length, and never the cause of an error."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from lmfacts.recording.pass_tokens.first import first

__all__ = ["Cached", "find_cache", "is_used", "n_cached_columns"]

_NAMES = (
    "cache",
    "past_key_values",
    "cache_params",
    "past_key_value",
    "layer_past",
    "kv_cache",
    "state",
    "mems",
    "past",
    "past_states",
)
"""What models call it, in the order in which it is looked for."""


@dataclass(frozen=True, eq=False)
class Cached:
    """What a cache holds at a moment.

    Attributes:
        n_columns: as `n_cached_columns`.
        is_used: as `is_used`.
    """

    n_columns: int | torch.Tensor | None
    is_used: bool

    @classmethod
    def now(cls, cache: Any) -> Cached:
        """What it holds now."""
        n_columns = n_cached_columns(cache)
        return cls(n_columns, n_columns is not None or is_used(cache))


def find_cache(given: Any) -> Any:
    """The cache among a call's arguments, or in what a model returned; None if there is none.

    Args:
        given: a mapping of names to values, or an object with attributes.
    """
    if isinstance(given, Mapping):
        values = dict(given)
        named = first((values.get(name) for name in _NAMES), _is_cache)
        return first(values.values(), _counts_columns) if named is None else named
    if isinstance(given, tuple) and not hasattr(given, "_fields"):  # what a model returns with return_dict=False
        return first(given, _counts_columns)
    return first((getattr(given, name, None) for name in _NAMES), _is_cache)


def _is_cache(value: object) -> bool:
    """Whether something that stands where caches stand is one: switches such as `cache=True` are not."""
    return value is not None and not isinstance(value, bool | int | float | str)


def _counts_columns(value: object) -> bool:
    return not isinstance(value, torch.Tensor) and callable(getattr(type(value), "get_seq_length", None))


def n_cached_columns(cache: Any) -> int | torch.Tensor | None:
    """Columns that earlier passes have put into a cache.

    A static cache keeps its length in a tensor, which may lie on a device and which the model changes later. Then
    a copy of it is returned, and nothing waits for the device.

    Returns:
        The number; None if the cache does not count, as caches of recurrent states do not.
    """
    if cache is None:
        return 0
    with suppress(Exception):  # whatever a cache raises, the answer is that it does not count
        return _as_length(cache.get_seq_length())
    with suppress(Exception):  # an encoder-decoder's, or one of layers that differ: ask those that count
        return _as_length(cache.self_attention_cache.get_seq_length())
    with suppress(Exception):
        layer = next(layer for layer in cache.layers if callable(getattr(layer, "get_seq_length", None)))
        return _as_length(layer.get_seq_length())
    with suppress(Exception):  # what came before there were classes: for each layer a tuple of keys and values
        keys = cache[0][0]
        if isinstance(keys, torch.Tensor) and keys.ndim == 4:  # noqa: PLR2004  [batch, heads, columns, dims of a head]
            return int(keys.shape[-2])
    return None


def _as_length(length: Any) -> int | torch.Tensor:
    if isinstance(length, torch.Tensor):
        return length.detach().reshape(()).clone() if length.device.type != "cpu" else int(length)
    return int(length)


def is_used(cache: Any) -> bool:
    """Whether a cache that does not count its columns holds anything yet."""
    with suppress(Exception):
        has_state = cache.has_previous_state
        return bool(has_state() if callable(has_state) else has_state)
    return True
