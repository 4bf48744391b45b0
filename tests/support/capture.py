"""The tensors at a model's sites, taken with plain torch hooks: the reference for what a recorder has to see."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lmfacts.models import Architecture, Tap

__all__ = ["Captured", "capture", "capture_taps"]


@dataclass(frozen=True)
class Captured:
    """What one forward pass showed.

    Attributes:
        values: by site, a copy of its values, [tokens, dims].
        shapes: by site, the shape of the tensor as it was recorded.
        shared: by site, whether that tensor lay in the memory of the module's own.
        n_calls: by site, how often its module was called.
        output: what the model returned.
    """

    values: dict[str, torch.Tensor]
    shapes: dict[str, tuple[int, ...]]
    shared: dict[str, bool]
    n_calls: dict[str, int]
    output: Any


def capture(model: torch.nn.Module, architecture: Architecture, inputs: Mapping[str, Any], **options: Any) -> Captured:
    """Run a model once; aliases have the values of their owners.

    Args:
        model: the model.
        architecture: its description.
        inputs: the arguments of its forward.
        options: further arguments of its forward.
    """
    captured = capture_taps(model, architecture.taps, {**inputs, **options})
    for alias, owner in architecture.aliases.items():
        captured.values[alias] = captured.values[owner]
        captured.shapes[alias] = captured.shapes[owner]
    return captured


def capture_taps(model: torch.nn.Module, taps: Sequence[Tap], inputs: Mapping[str, Any]) -> Captured:
    """Run a model once without gradients and copy what its taps show, at the moment they show it."""
    captured = Captured({}, {}, {}, {}, None)

    def record(tap: Tap, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
        whole = tap.tensor(args, kwargs, output)
        part = tap.cut(whole)
        captured.shapes[tap.site] = tuple(part.shape)
        captured.shared[tap.site] = part.untyped_storage().data_ptr() == whole.untyped_storage().data_ptr()
        captured.n_calls[tap.site] = captured.n_calls.get(tap.site, 0) + 1
        n_dims = 1
        for size in part.shape[-tap.dim_axes :]:
            n_dims *= size
        captured.values[tap.site] = part.detach().reshape(-1, n_dims).clone()

    handles = []
    for tap in taps:
        module = model.get_submodule(tap.module_path)
        if tap.side == "in":
            handles.append(
                module.register_forward_pre_hook(
                    lambda _module, args, kwargs, tap=tap: record(tap, args, kwargs, None), with_kwargs=True
                )
            )
        else:
            handles.append(
                module.register_forward_hook(
                    lambda _module, args, kwargs, output, tap=tap: record(tap, args, kwargs, output), with_kwargs=True
                )
            )
    try:
        with torch.no_grad():
            output = model(**inputs)
    finally:
        for handle in handles:
            handle.remove()
    return Captured(captured.values, captured.shapes, captured.shared, captured.n_calls, output)
