"""What a hook costs in Python, apart from what it computes.

    python benches/hook_cost.py [--rounds 100] [--seconds S]

A model as deep as SmolLM2-135M (30 blocks) but 64 dims wide and randomly initialised, on one token and one thread:
there is next to nothing to compute, so what is left is the cost of calling. Four variants in turn: bare; torch hooks
that do nothing, on the same sides of the same modules; lmfacts with accumulators whose `update` does nothing (a
built-in function of two arguments); lmfacts. The steps from one to the next are what torch's hooks cost, what Python
costs in lmfacts (reading the batch, once a pass, included), and the native update of one token. Before anything is
timed, the hooks are counted.
"""

from __future__ import annotations

import operator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from transformers import LlamaConfig, LlamaForCausalLM

import lmfacts
from lmfacts import _native
from machine import mitigation, thread_settings
from measuring import Figure, Report, Target, command, interleaved, one_thread
from overhead import attached, site_paths
from spreads import added, added_ratio

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

N_LAYERS, N_DIMS, N_HEADS = 30, 64, 4
PASSES = 3
TARGET = Target(15, at_most=True, text="at most 15 µs")


class Nothing:
    """In the place of a native accumulator: takes what it is given and does nothing with it."""

    n_bytes = 0
    update = staticmethod(operator.is_)

    def __init__(self, **_options: Any) -> None:
        """Whatever is to be recorded."""


def small_model() -> torch.nn.Module:
    """As many modules as SmolLM2-135M has."""
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=256,
        hidden_size=N_DIMS,
        intermediate_size=4 * N_DIMS,
        num_hidden_layers=N_LAYERS,
        num_attention_heads=N_HEADS,
        num_key_value_heads=N_HEADS,
    )
    model: torch.nn.Module = LlamaForCausalLM(config)
    return model.eval()


def idle_hooks(model: torch.nn.Module, paths: dict[str, str]) -> ExitStack:
    """Hooks that do nothing, before or after the modules as those of lmfacts are."""
    stack = ExitStack()
    for path in paths.values():
        module_path, _, side = path.rpartition(":")
        module = model.get_submodule(module_path)
        if side == "in":
            handle = module.register_forward_pre_hook(lambda _module, _args, _kwargs: None, with_kwargs=True)
        else:
            handle = module.register_forward_hook(lambda _module, _args, _output: None)
        stack.callback(handle.remove)
    return stack


def check(model: torch.nn.Module, ids: torch.Tensor, paths: dict[str, str]) -> None:
    """Each site's hook runs once a pass, and the stand-in is called as often."""
    calls = []

    class Counted(Nothing):
        def update(self, tensor: torch.Tensor, tokens: _native.TokenBatch) -> None:  # type: ignore[override]  # base takes any
            calls.append((tensor.shape, len(tokens)))

    with mock.patch.object(_native, "SiteAccumulator", Counted), lmfacts.attach(model, sites="all") as recorder:
        model(ids)
    assert recorder.silent_sites == ()
    assert len(calls) == len(paths) == len(recorder.site_names)
    with lmfacts.attach(model, sites="all") as recorder:
        model(ids)
    assert all(recorder.site(name).n_tokens == 1 for name in recorder.site_names)


def measure(options: argparse.Namespace) -> Report:
    """Check, then time in turn."""
    one_thread()
    model = small_model()
    ids = torch.zeros((1, 1), dtype=torch.long)
    with torch.inference_mode():
        paths = site_paths(model)
        check(model, ids, paths)
        with mock.patch.object(_native, "SiteAccumulator", Nothing):
            without_update = lmfacts.attach(model, sites="all")
            one_site = lmfacts.attach(model, sites=["embed"])
        around: dict[str, Callable[[], Any]] = {
            "idle hooks": lambda: idle_hooks(model, paths),
            "lmfacts without update, one site": attached(one_site),
            "lmfacts without update": attached(without_update),
            "lmfacts": attached(lmfacts.attach(model, sites="all")),
        }

        def passes() -> None:
            for _ in range(PASSES):
                model(ids)

        times = interleaved(
            dict.fromkeys(["bare", *around], passes), options.rounds, clock=options.clock, warm_up=5, around=around
        )

    report = Report("hook_cost", settings(len(paths)))
    report.add_times(times)
    n_calls = PASSES * len(paths)

    def step(to: str, since: str, n: int = n_calls) -> list[float]:
        return [1e6 * (own - base) / n for own, base in zip(times[to], times[since], strict=True)]

    python, native = step("lmfacts without update", "idle hooks"), step("lmfacts", "lmfacts without update")
    by_torch, by_pass = step("idle hooks", "bare"), step("lmfacts without update, one site", "bare", PASSES)
    share = added_ratio([100 * cost for cost in native], step("lmfacts", "idle hooks"))
    report.figures = [
        Figure("a hook's Python in lmfacts", "a hook that does nothing", added(python), "µs", TARGET),
        Figure("of it, what is done once a pass", "a bare pass", added(cost / len(paths) for cost in by_pass), "µs"),
        Figure("a hook that does nothing", "no hook", added(by_torch), "µs"),
        Figure("the native update of one token", "an update that does nothing", added(native), "µs"),
        Figure("the native update's share of a hook on one token", "Python and update", share, "%"),
    ]
    return report


def settings(n_sites: int) -> dict[str, Any]:
    """What was run, and with what threads."""
    return {
        "sites": n_sites,
        "tokens": 1,
        "dims": N_DIMS,
        "threads": thread_settings(),
        "speculative store bypass": mitigation(),
    }


if __name__ == "__main__":
    command(measure, __doc__, rounds=100)
