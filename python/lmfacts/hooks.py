"""Hooks on a model, owned by a context manager that removes exactly those it made.

The contract: a hook reads and returns nothing, so the model computes what it would have computed without it. Inputs are
read before their module runs and outputs when it returns, before a later module can change them in place. When the
context ends, by whatever way, every handle made here is gone, and none made by anybody else was touched.
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import torch
    from torch import nn

    from lmfacts.architectures import Tap

__all__ = ["Sink", "hooked"]


class Sink(Protocol):
    """What hooks report to."""

    def model_called(self) -> None:
        """The outermost module starts."""

    def model_returned(self) -> None:
        """The outermost module returned, or raised."""

    def tokens_given(self, _root: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """The transformer starts, with these arguments."""

    def value(self, tap: Tap, tensor: torch.Tensor) -> None:
        """A site has this value; the tensor is only lent."""


@contextmanager
def hooked(model: nn.Module, taps: Sequence[Tap], root_path: str, sink: Sink) -> Iterator[None]:
    """Report to `sink` while the context lasts.

    Args:
        model: the outermost module that will be called.
        taps: where to read.
        root_path: path of the module that receives the token ids.
        sink: who is told.
    """
    with ExitStack() as handles:

        def own(handle: torch.utils.hooks.RemovableHandle) -> None:
            handles.callback(handle.remove)

        root = model.get_submodule(root_path)
        outermost = (model,) if root is model else (model, root)
        for module in outermost:
            own(module.register_forward_pre_hook(lambda _module, _args: sink.model_called(), prepend=True))
        own(root.register_forward_pre_hook(sink.tokens_given, with_kwargs=True))
        for tap in taps:
            module = model.get_submodule(tap.module_path)
            if tap.side == "in":
                own(module.register_forward_pre_hook(_before(tap, sink), with_kwargs=True))
            else:
                own(module.register_forward_hook(_after(tap, sink)))
        # Last, so that a tap on the outermost module itself still finds the batch.
        for module in outermost:
            own(module.register_forward_hook(lambda _module, _args, _output: sink.model_returned(), always_call=True))
        yield


def _before(tap: Tap, sink: Sink) -> Any:
    def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        sink.value(tap, tap.cut(tap.tensor(args, kwargs)))

    return hook


def _after(tap: Tap, sink: Sink) -> Any:
    def hook(_module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        sink.value(tap, tap.cut(tap.tensor(args, {}, output)))

    return hook
