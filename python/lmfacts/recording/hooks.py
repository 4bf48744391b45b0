"""Hooks on a model, owned by a context manager that removes exactly those it made.

The contract: a hook reads and returns nothing, so the model computes what it would have computed without it. Inputs are
read before their module runs and outputs when it returns, before a later module can change them in place. When the
context ends, in whatever way, every handle made here is gone, and no other was touched.

A model may be copied or saved while it has hooks. The copy's hooks do nothing: the copy is not the model that is
recorded, and nothing would ever remove them.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch
    from torch import nn

    from lmfacts.models import Tap

__all__ = ["Sink", "hooked"]


class Sink(Protocol):
    """What hooks report to. What it raises reaches the forward pass."""

    def module_called(self, path: str) -> None:
        """A module that may be given tokens starts."""

    def module_given(self, path: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """The same module starts, with these arguments."""

    def module_returned(self, path: str, output: Any) -> None:
        """The module returned this output, or raised: then the output is None."""

    def tapped(self, tap: Tap, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> None:
        """A tapped module was called with these arguments (side `in`), or gave back this output (side `out`)."""


@contextmanager
def hooked(model: nn.Module, taps: Sequence[Tap], token_paths: Sequence[str], sink: Sink) -> Iterator[None]:
    """Report to `sink` while the context lasts.

    Args:
        model: the outermost module that will be called.
        taps: where to read.
        token_paths: paths of the modules that may be given token ids or embeddings, from the outside in.
        sink: what the hooks report to.
    """
    with ExitStack() as handles:

        def own(handle: torch.utils.hooks.RemovableHandle) -> None:
            handles.callback(handle.remove)

        readers = [(path, model.get_submodule(path)) for path in token_paths]
        for path, module in readers:
            own(module.register_forward_pre_hook(_Called(path, sink), prepend=True))
        for path, module in readers:
            own(module.register_forward_pre_hook(_Given(path, sink), with_kwargs=True))
        for tap in taps:
            module = model.get_submodule(tap.module_path)
            if tap.side == "in":
                own(module.register_forward_pre_hook(_Before(tap, sink), with_kwargs=True))
            else:
                own(module.register_forward_hook(_After(tap, sink)))
        # Last, so that a tap on the outermost module itself still finds the batch.
        for path, module in readers:
            own(module.register_forward_hook(_Returned(path, sink), always_call=True))
        yield


class _Hook:
    """A hook of the model it was made for, which has a subclass for each thing to report; a copy of it does nothing."""

    def __call__(self, *_args: Any) -> None:
        """Do nothing."""

    def __deepcopy__(self, _memo: object) -> _Hook:
        return _Hook()

    def __reduce__(self) -> tuple[type[_Hook], tuple[()]]:
        return _Hook, ()


class _OfModule(_Hook):
    """A hook of a module that may be given tokens."""

    def __init__(self, path: str, sink: Sink) -> None:
        self.path = path
        self.sink = sink


class _Called(_OfModule):
    def __call__(self, _module: nn.Module, _args: tuple[Any, ...]) -> None:
        self.sink.module_called(self.path)


class _Given(_OfModule):
    def __call__(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.sink.module_given(self.path, args, kwargs)


class _Returned(_OfModule):
    def __call__(self, _module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        self.sink.module_returned(self.path, output)


class _OfTap(_Hook):
    """A hook of a tapped module."""

    def __init__(self, tap: Tap, sink: Sink) -> None:
        self.tap = tap
        self.sink = sink


class _Before(_OfTap):
    def __call__(self, _module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.sink.tapped(self.tap, args, kwargs, None)


class _After(_OfTap):
    def __call__(self, _module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self.sink.tapped(self.tap, args, _NO_KEYWORDS, output)


_NO_KEYWORDS: Mapping[str, Any] = {}
