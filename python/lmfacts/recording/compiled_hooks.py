"""Hooks in a model under `torch.compile`: one operator of the graph for each thing that a hook reports.

Dynamo traces the hooks of a model that is compiled after they were registered. What they do cannot be traced, so while
it traces, a hook leaves an operator in the graph instead, `lmfacts::observe` or `lmfacts::report`, that does at run
time what the hook would have done. The operators claim to change a tensor of ours, although they only read: so none is
moved past another, and none is removed as unused. The graph is not broken.

Dynamo takes modules of one class for the same even if their hooks differ, unless
`torch._dynamo.config.skip_nnmodule_hook_guards` is False. Set it so where blocks are compiled one by one; otherwise a
block may run with another's hooks, and the run says that it is not complete.
"""

from __future__ import annotations

import itertools
import weakref
from typing import TYPE_CHECKING, Any, Final, Protocol

import torch
from torch.compiler import is_compiling

from lmfacts.recording.hooks import Sink
from lmfacts.recording.pass_tokens import Arguments
from lmfacts.recording.pass_tokens.caches import n_cached_columns
from lmfacts.recording.pass_tokens.masks import mask_tensor

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

    from lmfacts.models import Tap
    from lmfacts.recording.pass_tokens import ArgumentReader

__all__ = ["Observer", "TracedSink"]


class Observer(Sink, Protocol):
    """A sink that operators report to as well; their arguments are not those of hooks."""

    def observe(self, site: str, tensor: torch.Tensor) -> None:
        """A site has this value."""

    def call_started(self, path: str, frame: FrameType | None) -> None:
        """A module that may be given tokens starts, in a frame that runs until it is over, or None."""

    def arguments_given(self, arguments: Arguments) -> None:
        """The module that started last has these arguments."""


_OBSERVERS: weakref.WeakValueDictionary[int, Observer] = weakref.WeakValueDictionary()
_NUMBERS = itertools.count()
_UNKNOWN = -1
"""In place of a number of cached columns: the cache does not count."""

_EAGER: Final = (torch.Tag.cudagraph_unsafe,)
"""Between the CUDA graphs of `mode="reduce-overhead"`, never in one: what the operators allocate outlives a pass."""


@torch.library.custom_op("lmfacts::observe", mutates_args=("order",), tags=_EAGER)
def _observe(value: torch.Tensor, order: torch.Tensor, observer: int, site: str) -> None:
    """Report the value of a site."""
    del order
    sink = _OBSERVERS.get(observer)
    if sink is not None:
        sink.observe(site, value)


@torch.library.custom_op("lmfacts::report", mutates_args=("order",), tags=_EAGER)
def _report(  # noqa: PLR0917  an operator's arguments are positional
    order: torch.Tensor,
    observer: int,
    event: str,
    path: str,
    ids: torch.Tensor | None,
    embeddings: torch.Tensor | None,
    mask: torch.Tensor | None,
    positions: torch.Tensor | None,
    length: torch.Tensor | None,
    kept: torch.Tensor | None,
    n_cached: int,
) -> None:
    """Report that a call starts, has its arguments, or is over."""
    del order
    sink = _OBSERVERS.get(observer)
    if sink is None:
        return
    if event == "called":
        sink.call_started(path, None)
    elif event == "returned":
        sink.module_returned(path, None)
    else:
        cached: int | torch.Tensor | None = n_cached if length is None else length
        cache = _Cached(None if length is None and n_cached == _UNKNOWN else cached)
        sink.arguments_given(Arguments(ids, embeddings, mask, positions, cache, kept=kept))


@_observe.register_fake
def _observe_nothing(value: torch.Tensor, order: torch.Tensor, observer: int, site: str) -> None:
    """Do nothing: there are no values while a graph is traced."""


@_report.register_fake
def _report_nothing(  # noqa: PLR0917  an operator's arguments are positional
    order: torch.Tensor,
    observer: int,
    event: str,
    path: str,
    ids: torch.Tensor | None,
    embeddings: torch.Tensor | None,
    mask: torch.Tensor | None,
    positions: torch.Tensor | None,
    length: torch.Tensor | None,
    kept: torch.Tensor | None,
    n_cached: int,
) -> None:
    """Do nothing, as above."""


class _Cached:
    """A cache of keys and values, as far as its length goes."""

    def __init__(self, length: int | torch.Tensor | None) -> None:
        self._length = length

    def get_seq_length(self) -> int | torch.Tensor:
        """Columns that earlier passes have put into it.

        Raises:
            ValueError: it does not count them.
        """
        if self._length is None:
            raise ValueError("this cache does not count its columns")
        return self._length


class TracedSink:
    """A sink around another one: it passes on what hooks report, except to Dynamo, for which it leaves operators."""

    def __init__(self, observer: Observer, reader: ArgumentReader, device: torch.device) -> None:
        """See the arguments.

        Args:
            observer: the sink to pass on to. A compiled graph does not keep it alive.
            reader: finds what says something about tokens among a call's arguments.
            device: where the model is: a graph on a GPU is to have no inputs elsewhere.
        """
        self._observer = observer
        self._reader = reader
        self._number = next(_NUMBERS)
        _OBSERVERS[self._number] = observer
        with torch.inference_mode(mode=False):
            self._order = torch.zeros(1, dtype=torch.uint8, device=device)

    def module_called(self, path: str) -> None:
        """As in `Sink`."""
        if is_compiling():
            self._report("called", path)
        else:
            self._observer.module_called(path)

    def module_given(self, path: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """As in `Sink`."""
        if is_compiling():
            self._report_arguments(self._reader.read(path, args, kwargs))
        else:
            self._observer.module_given(path, args, kwargs)

    def module_returned(self, path: str, output: Any) -> None:
        """As in `Sink`."""
        if is_compiling():
            self._report("returned", path)
        else:
            self._observer.module_returned(path, output)

    def tapped(self, tap: Tap, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> None:
        """As in `Sink`."""
        if is_compiling():
            _observe(tap.cut(tap.tensor(args, kwargs, output)), self._order, self._number, tap.site)
        else:
            self._observer.tapped(tap, args, kwargs, output)

    def _report(self, event: str, path: str) -> None:
        """Leave an operator that says that a call of a module starts (`called`) or is over (`returned`)."""
        _report(self._order, self._number, event, path, None, None, None, None, None, None, 0)

    def _report_arguments(self, arguments: Arguments) -> None:
        """Leave an operator that gives what can be an operator's argument: tensors, and the cache as its length."""
        cached = n_cached_columns(arguments.cache)
        length, n_cached = (cached, 0) if isinstance(cached, torch.Tensor) else (None, cached)
        mask = mask_tensor(arguments.mask)
        tensors = (arguments.ids, arguments.embeddings, mask, arguments.positions, length, arguments.kept)
        _report(self._order, self._number, "given", "", *tensors, _UNKNOWN if n_cached is None else n_cached)
