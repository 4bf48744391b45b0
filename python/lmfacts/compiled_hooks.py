"""Hooks in a model under `torch.compile`: one operator of the graph for each thing that a hook reports.

Dynamo traces the hooks of a model that is compiled after they were registered. What they do cannot be traced, so while
it traces, a hook leaves an operator in the graph instead, `lmfacts::observe` or `lmfacts::report`, that does at run
time what the hook would have done. The operators say that they change a tensor of the recorder's, although they only
read: nothing is then reordered between them, and none is removed as unused. The graph is not broken.

Dynamo takes modules of one class for the same even if their hooks differ, unless
`torch._dynamo.config.skip_nnmodule_hook_guards` is False. Set it so where blocks are compiled one by one; otherwise a
block may run with another's hooks, and the run says that it is not complete.
"""

from __future__ import annotations

import itertools
import weakref
from typing import TYPE_CHECKING, Any, Protocol

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CompiledHooks"]


class Observer(Protocol):
    """What the operators report to: a recorder."""

    def observe(self, site: str, tensor: torch.Tensor) -> None:
        """A site has this value."""

    def model_called(self) -> None:
        """A forward pass of the outermost module starts."""

    def model_returned(self) -> None:
        """It is over."""

    def arguments_given(self, given: Mapping[str, Any]) -> None:
        """The transformer starts with these arguments."""


_OBSERVERS: weakref.WeakValueDictionary[int, Observer] = weakref.WeakValueDictionary()
_NUMBERS = itertools.count()


@torch.library.custom_op("lmfacts::observe", mutates_args=("order",))
def _observe(value: torch.Tensor, order: torch.Tensor, observer: int, site: str) -> None:
    """Report the value of a site."""
    del order
    known = _OBSERVERS.get(observer)
    if known is not None:
        known.observe(site, value)


@torch.library.custom_op("lmfacts::report", mutates_args=("order",))
def _report(  # noqa: PLR0917  an operator's arguments are positional
    order: torch.Tensor,
    observer: int,
    event: str,
    ids: torch.Tensor | None,
    embeddings: torch.Tensor | None,
    mask: torch.Tensor | None,
    positions: torch.Tensor | None,
    n_cached: int,
) -> None:
    """Report that a pass starts, has its arguments, or is over."""
    del order
    known = _OBSERVERS.get(observer)
    if known is None:
        return
    if event == "called":
        known.model_called()
    elif event == "returned":
        known.model_returned()
    else:
        given = {"input_ids": ids, "inputs_embeds": embeddings, "attention_mask": mask, "position_ids": positions}
        found = {name: tensor for name, tensor in given.items() if tensor is not None}
        known.arguments_given({**found, "past_key_values": _Cached(n_cached)})


@_observe.register_fake
def _observe_nothing(value: torch.Tensor, order: torch.Tensor, observer: int, site: str) -> None:
    """There are no values while a graph is traced."""


@_report.register_fake
def _report_nothing(  # noqa: PLR0917  an operator's arguments are positional
    order: torch.Tensor,
    observer: int,
    event: str,
    ids: torch.Tensor | None,
    embeddings: torch.Tensor | None,
    mask: torch.Tensor | None,
    positions: torch.Tensor | None,
    n_cached: int,
) -> None:
    """As above."""


class _Cached:
    """A cache of keys and values, as far as its length goes."""

    def __init__(self, length: int) -> None:
        self._length = length

    def get_seq_length(self) -> int:
        """Tokens of each sequence that earlier passes have seen."""
        return self._length


class CompiledHooks:
    """A recorder's hooks as operators, for while a graph is traced."""

    def __init__(self, observer: Observer, device: torch.device) -> None:
        """Report to an observer, which is not kept alive by this.

        Args:
            observer: who is told.
            device: where the model is: a graph on a GPU is to have no inputs elsewhere.
        """
        self._number = next(_NUMBERS)
        _OBSERVERS[self._number] = observer
        with torch.inference_mode(mode=False):
            self._order = torch.zeros(1, dtype=torch.uint8, device=device)

    def value(self, site: str, tensor: torch.Tensor) -> None:
        """A site has this value."""
        _observe(tensor, self._order, self._number, site)

    def event(self, event: str) -> None:
        """A pass starts (`called`) or is over (`returned`)."""
        _report(self._order, self._number, event, None, None, None, None, 0)

    def arguments(self, given: Mapping[str, Any]) -> None:
        """The transformer starts with these arguments."""
        ids = given.get("input_ids", given.get("input"))
        cache = given.get("past_key_values")
        n_cached = 0 if cache is None else cache.get_seq_length()
        tensors = (ids, given.get("inputs_embeds"), given.get("attention_mask"), given.get("position_ids"))
        _report(self._order, self._number, "given", *tensors, n_cached)
