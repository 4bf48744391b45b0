"""A trial run: a handful of tokens through a model, with the tensors that its modules take and give.

The adapter by structure cannot know from a module's name what its output is for. It runs six tokens through the model
once and keeps what the arithmetic of the tensors confirms: that `resid_pre + attn_out` is what the next norm reads, for
instance. The model is left as it was: hooks are removed, training mode is put back, nothing random is drawn, no
gradient is made.
"""

from __future__ import annotations

import inspect
import itertools
import operator
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lmfacts.errors import HookError
from lmfacts.models.adapter import Tap

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Call", "Trial", "equal", "is_of_tokens", "is_sum", "run"]

_N_TOKENS = 6
_ULPS = 4


@dataclass(frozen=True, slots=True)
class Call:
    """One module's only call: what went in and came out, copied at that moment, [tokens, size] each.

    `order` counts the calls' returns. `given` and `returned` tell one tensor from an equal one.
    """

    path: str
    module: nn.Module
    order: int
    given: int | None
    taken: torch.Tensor | None
    returned: int | None
    made: torch.Tensor | None


@dataclass(frozen=True, slots=True)
class Trial:
    """What six tokens showed.

    Attributes:
        calls: every module that was called exactly once, by path, as they returned.
        n_calls: how often each module that was called was, by path.
        shapes: the shapes of what each of them took and made in its first call, by path; None where that was no tensor.
    """

    calls: dict[str, Call]
    n_calls: dict[str, int]
    shapes: dict[str, tuple[torch.Size | None, torch.Size | None]]


def is_of_tokens(shape: torch.Size) -> bool:
    """Whether a tensor's first axes count the six tokens, so that the others are a token's own."""
    return _N_TOKENS in itertools.accumulate(shape[:-1], operator.mul)


def run(model: nn.Module, n_tokens: int) -> Trial:
    """Run six tokens through the model.

    Args:
        model: any module that reads token ids, by the keyword `input_ids` or as its only argument.
        n_tokens: the size of the vocabulary.

    Raises:
        Exception: whatever the model raises, for example since its parameters have no data here.
    """
    calls: dict[str, Call] = {}
    n_calls: Counter[str] = Counter()
    shapes: dict[str, tuple[torch.Size | None, torch.Size | None]] = {}
    given: dict[str, int | None] = {}
    taken: dict[str, torch.Tensor | None] = {}
    alive: list[torch.Tensor] = []  # an id is used for one tensor only as long as that tensor lives

    def tensor_at(tap: Tap, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> torch.Tensor | None:
        try:
            tensor = tap.tensor(args, kwargs, output)
        except HookError:
            return None
        alive.append(tensor)
        return tensor

    def before(path: str) -> Any:
        def hook(_module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            tensor = tensor_at(Tap(path, path, "in"), args, kwargs, None)
            given[path] = None if tensor is None else id(tensor)
            taken[path] = _copy(tensor)
            shapes.setdefault(path, (None if tensor is None else tensor.shape, None))

        return hook

    def after(path: str) -> Any:
        def hook(module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], output: Any) -> None:
            tensor = tensor_at(Tap(path, path, "out"), args, kwargs, output)
            if n_calls[path] == 0:
                shapes[path] = (shapes[path][0], None if tensor is None else tensor.shape)
            n_calls[path] += 1
            returned = None if tensor is None else id(tensor)
            calls[path] = Call(path, module, len(calls), given.get(path), taken.get(path), returned, _copy(tensor))

        return hook

    handles = []
    training = [module for module in model.modules() if module.training]
    devices = (parameter.device for parameter in model.parameters() if parameter.device.type != "meta")
    device = next(devices, torch.device("cpu"))
    ids = ((torch.arange(_N_TOKENS, device=device) * 7 + 1) % n_tokens).unsqueeze(0)
    try:
        for path, module in model.named_modules():
            handles.append(module.register_forward_pre_hook(before(path), with_kwargs=True))
            handles.append(module.register_forward_hook(after(path), with_kwargs=True))
        for module in training:
            module.training = False
        with torch.no_grad():
            runner = getattr(model, "_orig_mod", model)  # nothing is compiled for a trial
            arguments = {"use_cache": False} if "use_cache" in inspect.signature(runner.forward).parameters else {}
            if _takes_input_ids(runner):
                runner(input_ids=ids, **arguments)
            else:
                runner(ids, **arguments)
    finally:
        for module in training:
            module.training = True
        for handle in handles:
            handle.remove()
    return Trial({path: call for path, call in calls.items() if n_calls[path] == 1}, dict(n_calls), shapes)


def _takes_input_ids(model: nn.Module) -> bool:
    """Whether the tokens can be given by the keyword `input_ids`: it is named, or everything is passed on."""
    parameters = inspect.signature(model.forward).parameters
    variable = {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    return "input_ids" in parameters or all(parameter.kind in variable for parameter in parameters.values())


def _copy(tensor: torch.Tensor | None) -> torch.Tensor | None:
    """The values as [tokens, size], detached from later changes in place; None if it has no such shape."""
    if tensor is None or tensor.ndim == 0 or tensor.is_meta or not tensor.is_floating_point():
        return None
    rows = tensor.detach().reshape(-1, tensor.shape[-1])
    return rows.clone() if rows.shape[0] == _N_TOKENS else None


def equal(a: torch.Tensor | None, b: torch.Tensor | None) -> bool:
    """Whether both are there and have the same values, bit for bit (a NaN equals none)."""
    return a is not None and b is not None and a.shape == b.shape and a.dtype == b.dtype and torch.equal(a, b)


def is_sum(total: torch.Tensor | None, terms: Iterable[torch.Tensor | None]) -> bool:
    """Whether `total` is the sum of the terms, added in some order in their own precision, and of no fewer of them.

    The last part refuses a term so small that the sum says nothing about it.
    """
    parts = list(terms)
    if total is None or any(part is None or part.shape != total.shape for part in parts):
        return False
    known = [part for part in parts if part is not None]
    without_one = (known[:index] + known[index + 1 :] for index in range(len(known)))
    return _adds_up(total, known) and not any(_adds_up(total, rest) for rest in without_one)


def _adds_up(total: torch.Tensor, terms: list[torch.Tensor]) -> bool:
    """Whether the terms give `total` exactly in one order, or all but for a few roundings."""
    if not terms:
        return not bool(total.any())
    for order in itertools.permutations(terms):
        sum_ = order[0]
        for term in order[1:]:
            sum_ = sum_ + term
        if torch.equal(sum_, total):
            return True
    if total.dtype != torch.float32:
        return False
    tolerance = _ULPS * torch.finfo(torch.float32).eps * torch.stack([term.abs() for term in terms]).sum(0)
    return bool(((torch.stack(terms).sum(0) - total).abs() <= tolerance).all())
