"""Which of a call's arguments say something about its tokens, whatever the model calls them."""

from __future__ import annotations

import inspect
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch

from lmfacts.errors import HookError
from lmfacts.recording.pass_tokens.caches import Cached, find_cache
from lmfacts.recording.pass_tokens.first import first

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import nn

    from lmfacts.models import TokenModules

__all__ = ["ArgumentReader", "Arguments", "named_arguments"]

_IDS = ("input_ids", "input", "inputs", "tokens", "idx")
_EMBEDDINGS = ("inputs_embeds", "input_embeds", "inputs_embedding")
_MASKS = ("attention_mask", "mask", "padding_mask")
_KEPT = ("logits_to_keep", "num_logits_to_keep")
"""Which columns a model computes logits for: a number, the last ones, or a tensor of indices."""
_NOT_IDS = frozenset(
    {
        *_MASKS,
        "position_ids",
        "positions",
        "token_type_ids",
        "cache_position",
        "labels",
        "targets",
        *_KEPT,
        "head_mask",
    }
)
"""Arguments of integers that are no token ids, although a model may give them first."""

_DECODER = "decoder_"
"""What an encoder-decoder's names of its decoder's arguments begin with."""


def named_arguments(names: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by name; positional ones that have none, because a wrapper takes any, are `*0`, ..."""
    n_named = min(len(names), len(args))
    given = dict(zip(names[:n_named], args[:n_named], strict=True))  # torch 2.8 compiles no lists of different lengths
    for index in range(len(names), len(args)):
        given[f"*{index}"] = args[index]
    return {**given, **kwargs}


@dataclass(frozen=True, eq=False)
class Arguments:
    """The arguments of a call that say which tokens it is about; None where one was not given.

    Attributes:
        ids: integers [B, S], or [S] for one sequence.
        embeddings: [B, S, dims], given instead of ids.
        mask: in any form that the model takes.
        positions: `position_ids`.
        cache: what holds the keys and values, or the states, of earlier passes.
        cached: what the cache held when the call began; None if it was not asked then.
        kept: the indices of the columns for which the model computes logits, if it was given any.
    """

    ids: torch.Tensor | None = None
    embeddings: torch.Tensor | None = None
    mask: Any = None
    positions: torch.Tensor | None = None
    cache: Any = None
    cached: Cached | None = None
    kept: torch.Tensor | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any], ids_name: str | None = None, *, is_around_encoder: bool = False) -> Arguments:
        """Find them among a call's arguments.

        Args:
            given: the arguments by name.
            is_around_encoder: whether the call is that of a module with an encoder and a decoder in it: its tokens are
                the decoder's, and what is not marked as the decoder's is for the encoder.
            ids_name: the argument with the token ids, if a user has named it; else the first of the usual names, else
                the first tensor of integers that is [B, S] or [S] and has no other known meaning.
        """
        if is_around_encoder:
            cache = find_cache(given)
            given = {name.removeprefix(_DECODER): each for name, each in given.items() if name.startswith(_DECODER)}
            return replace(cls.of(given), cache=cache)
        ids = _tensor(given, (ids_name,) if ids_name else _IDS)
        embeddings = _tensor(given, _EMBEDDINGS)
        if ids is not None and ids.is_floating_point():  # a tower may call its embeddings `input`
            ids, embeddings = None, ids if embeddings is None else embeddings
        if ids is None and embeddings is None and ids_name is None:
            ids = first((each for name, each in given.items() if name not in _NOT_IDS), _may_be_ids)
        return cls(
            ids=ids,
            embeddings=embeddings,
            mask=first((given.get(name) for name in _MASKS), _is_given),
            positions=_tensor(given, ("position_ids",)),
            cache=find_cache(given),
            kept=_tensor(given, _KEPT),
        )

    def refined(self, inner: Arguments) -> Arguments:
        """These, and what a module further inside was given where the outer one was given nothing.

        An outer module that embeds ids before it calls the language model knows the ids; the inner one knows what the
        outer one has worked out since. Where they differ in the number of columns, the inner one is right.
        """
        if self.is_nothing or (not inner.is_nothing and inner.shape != self.shape):
            return inner
        return Arguments(
            ids=inner.ids if self.ids is None else self.ids,
            embeddings=inner.embeddings if self.embeddings is None else self.embeddings,
            mask=inner.mask if self.mask is None else self.mask,
            positions=inner.positions if self.positions is None else self.positions,
            cache=inner.cache if self.cache is None else self.cache,
            cached=inner.cached if self.cache is None else self.cached,
            kept=inner.kept if self.kept is None else self.kept,
        )

    def with_cached(self) -> Arguments:
        """The same, and what the cache holds now: the model's first layer adds to it before a site may be reached."""
        return self if self.cache is None or self.cached is not None else replace(self, cached=Cached.now(self.cache))

    @property
    def is_nothing(self) -> bool:
        """Whether there are neither ids nor embeddings."""
        return self.ids is None and self.embeddings is None

    @property
    def shape(self) -> tuple[int, int]:
        """Sequences and columns, [B, S].

        Raises:
            HookError: there are neither ids nor embeddings.
        """
        given = self.embeddings if self.ids is None else self.ids
        n_axes = 3 if self.ids is None else 2
        if given is None or not n_axes - 1 <= given.ndim <= n_axes:
            got = "neither" if given is None else f"a tensor of shape {tuple(given.shape)}"
            raise HookError(
                "expected token ids [batch, sequence] or embeddings [batch, sequence, dims] (input_ids, inputs_embeds) "
                f"in the call of the model, got {got}; lmfacts needs to know which tokens a forward pass is about. "
                "If the model has another name for its ids, say so: attach(model, ids_argument='NAME')"
            )
        return (given.shape[0], given.shape[1]) if given.ndim == n_axes else (1, given.shape[0])

    @property
    def device(self) -> torch.device:
        """Where the ids or embeddings lie; the CPU if there are none."""
        given = self.embeddings if self.ids is None else self.ids
        return torch.device("cpu") if given is None else given.device


class ArgumentReader:
    """Reads the arguments of calls of those modules of a model that may be given tokens."""

    def __init__(self, model: nn.Module, modules: TokenModules, ids_name: str | None = None) -> None:
        """See the arguments.

        Args:
            model: the model.
            modules: those of its modules that may be given tokens.
            ids_name: the argument of the model's own forward with the token ids, if a user has named it.
        """
        self._modules = modules
        self._ids_name = ids_name
        self._parameters = {path: _parameter_names(model.get_submodule(path)) for path in modules.paths}

    def read(self, path: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Arguments:
        """What a call of the module at `path` is given."""
        given = named_arguments(self._parameters[path], args, kwargs)
        ids_name = self._ids_name if path == self._modules.paths[0] else None
        return Arguments.of(given, ids_name, is_around_encoder=self._modules.is_around_encoder(path))


def _parameter_names(module: nn.Module) -> tuple[str, ...]:
    """The names of what a module's forward takes by position."""
    parameters = inspect.signature(module.forward).parameters.values()
    return tuple(each.name for each in parameters if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD))


def _tensor(given: Mapping[str, Any], names: Sequence[str | None]) -> torch.Tensor | None:
    return first((given.get(name or "") for name in names), _is_tensor)


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor)


def _is_given(value: object) -> bool:
    return value is not None


def _may_be_ids(value: object) -> bool:
    if not isinstance(value, torch.Tensor) or value.is_floating_point() or value.is_complex():
        return False
    return value.dtype != torch.bool and 1 <= value.ndim <= 2  # noqa: PLR2004  axes
