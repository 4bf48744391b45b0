"""Hooks on a model, owned by a context manager that removes exactly those it made.

The contract: a hook reads and returns nothing, so the model computes what it would have computed without it. Inputs are
read before their module runs and outputs when it returns, before a later module can change them in place. When the
context ends, by whatever way, every handle made here is gone, and none made by anybody else was touched.

A model may be copied or saved while it has hooks. The copy's hooks do nothing: what it computes is not the recorded
model's, and nobody would remove them.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import torch
    from torch import nn

    from lmfacts.architectures import Tap

__all__ = ["Sink", "hooked"]


class Sink(Protocol):
    """What hooks report to. Nothing that it raises is caught here."""

    def module_called(self, path: str) -> None:
        """A module that may be given tokens starts."""

    def module_given(self, path: str, module: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """The same module starts, with these arguments."""

    def module_returned(self, path: str, output: Any) -> None:
        """It returned, or raised; the output is None then."""

    def tapped(self, tap: Tap, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> None:
        """A tapped module was called with these arguments (side `in`), or gave back this output (side `out`)."""


@contextmanager
def hooked(model: nn.Module, taps: Sequence[Tap], token_paths: Sequence[str], sink: Sink) -> Iterator[None]:
    """Report to `sink` while the context lasts.

    Args:
        model: the outermost module that will be called.
        taps: where to read.
        token_paths: paths of the modules that may be given token ids or embeddings, from the outside in.
        sink: who is told.
    """
    with ExitStack() as handles:

        def own(handle: torch.utils.hooks.RemovableHandle) -> None:
            handles.callback(handle.remove)

        readers = [(path, model.get_submodule(path)) for path in token_paths]
        for path, module in readers:
            own(module.register_forward_pre_hook(_Hook(_called(path, sink)), prepend=True))
        for path, module in readers:
            own(module.register_forward_pre_hook(_Hook(_given(path, sink)), with_kwargs=True))
        for tap in taps:
            module = model.get_submodule(tap.module_path)
            if tap.side == "in":
                own(module.register_forward_pre_hook(_Hook(_before(tap, sink)), with_kwargs=True))
            else:
                own(module.register_forward_hook(_Hook(_after(tap, sink))))
        # Last, so that a tap on the outermost module itself still finds the batch.
        for path, module in readers:
            own(module.register_forward_hook(_Hook(_returned(path, sink)), always_call=True))
        yield


class _Hook:
    """A hook of the model it was made for; a copy of it does nothing."""

    def __init__(self, call: Callable[..., None] | None = None) -> None:
        self._call = call

    def __call__(self, *args: Any) -> None:
        if self._call is not None:
            self._call(*args)

    def __deepcopy__(self, _memo: object) -> _Hook:
        return _Hook()

    def __reduce__(self) -> tuple[type[_Hook], tuple[()]]:
        return _Hook, ()


def _called(path: str, sink: Sink) -> Callable[..., None]:
    def hook(_module: nn.Module, _args: tuple[Any, ...]) -> None:
        sink.module_called(path)

    return hook


def _given(path: str, sink: Sink) -> Callable[..., None]:
    def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        sink.module_given(path, module, args, kwargs)

    return hook


def _returned(path: str, sink: Sink) -> Callable[..., None]:
    def hook(_module: nn.Module, _args: tuple[Any, ...], output: Any) -> None:
        sink.module_returned(path, output)

    return hook


def _before(tap: Tap, sink: Sink) -> Callable[..., None]:
    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        sink.tapped(tap, args, kwargs, None)

    return hook


def _after(tap: Tap, sink: Sink) -> Callable[..., None]:
    def hook(_module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        sink.tapped(tap, args, {}, output)

    return hook
