"""What recording costs: a forward pass bare, with hooks that do nothing, with lmfacts, and with hooks written in torch.

    python benches/overhead.py [--model FOLDER_OR_GGUF] [--rounds 15]

SmolLM2-135M in float32, batch 8 x 256, variants in turn in one process: first a bare pass and lmfacts, then, in fewer
rounds since it takes so long, a bare pass, lmfacts on all sites and torch. The torch hooks compute for the same
tensors what one writes in a notebook: a histogram (histc), the four moments of every dim, the largest magnitude and
the 64 largest values; `histc + var_mean` does only the first and a half of the second. Before anything is timed, the
moments and the counts of both ways are compared, and the model's outputs with and without lmfacts are the same bits.
The C library is told to keep the memory that tensors free (`measuring.keep_memory` says why).
"""

from __future__ import annotations

import sys
from contextlib import ExitStack
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
import torch

import lmfacts
from lmfacts.model_loading import load_model
from machine import mitigation, thread_settings
from measuring import Figure, Report, Spread, Target, command, interleaved, keep_memory, spread
from support.smollm import gguf_path

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from lmfacts.recorder import Recorder

BATCH, SEQ_LEN, TOP = 8, 256, 64
TARGETS = {
    "all": Target(8, at_most=True, text="at most 8 %"),
    "resid": Target(1.5, at_most=True, text="at most 1.5 %"),
}
ALL, SAME = "lmfacts, all", "torch, the same statistics"
TORCH_TARGET = Target(25, at_most=False, text="at least 25 times")


class TorchHooks:
    """Statistics of a module's tensor, accumulated as one does in torch."""

    def __init__(self, *, full: bool) -> None:
        self.full = full
        self.totals: dict[str, dict[str, torch.Tensor]] = {}

    def __call__(self, name: str, tensor: torch.Tensor) -> None:
        """Take a tensor in."""
        with torch.inference_mode():
            values = tensor.reshape(-1, tensor.shape[-1])
            found = {"histogram": torch.histc(values, bins=2048, min=-50, max=50)}
            if self.full:
                doubles = values.double()
                for power in range(1, 5):
                    found[f"power {power}"] = (doubles**power).sum(dim=0)
                found["absmax"] = values.abs().amax(dim=0)
                found["largest"] = torch.topk(values.abs().reshape(-1), TOP).values
            else:
                found["variance"], found["mean"] = torch.var_mean(values, dim=0)
            mine = self.totals.setdefault(name, found)
            if mine is not found:
                for key, value in found.items():
                    mine[key] = torch.maximum(mine[key], value) if key in ("absmax", "largest") else mine[key] + value


def hooked(model: torch.nn.Module, paths: dict[str, str], record: Callable[[str, torch.Tensor], object]) -> ExitStack:
    """Forward hooks on `module:side` that hand the tensor to a function."""
    stack = ExitStack()
    for site, path in paths.items():
        module_path, _, side = path.rpartition(":")
        module = model.get_submodule(module_path)

        def hook(
            _module: torch.nn.Module,
            inputs: tuple[Any, ...],
            kwargs: dict[str, Any],
            output: Any,
            site: str = site,
            side: str = side,
        ) -> None:
            value = output if side == "out" else (inputs[0] if inputs else next(iter(kwargs.values())))
            record(site, value[0] if isinstance(value, tuple) else value)

        stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
    return stack


def site_paths(model: torch.nn.Module) -> dict[str, str]:
    """Every site that lmfacts finds, and `module:side` where it reads it."""
    recorder = lmfacts.attach(model, sites="all")
    recorder.detach()
    return {entry["name"]: entry["module_path"] for entry in recorder.run().metadata["sites"]}


def check(model: torch.nn.Module, ids: torch.Tensor, paths: dict[str, str]) -> None:
    """Both ways see the same values, and the model computes the same bits."""
    with torch.inference_mode():
        plain = model(ids).logits
        torch_hooks = TorchHooks(full=True)
        with lmfacts.attach(model, sites=list(paths)) as recorder, hooked(model, paths, torch_hooks):
            assert torch.equal(model(ids).logits, plain)
    run = recorder.run()
    n = BATCH * SEQ_LEN
    for site in paths:
        dims, sums = run[site].dims, torch_hooks.totals[site]
        if sums["power 1"].numel() != dims.mean.size:
            continue  # a part of a fused projection: torch's hook sees the whole
        np.testing.assert_allclose(dims.mean, sums["power 1"].numpy() / n, rtol=1e-6, atol=1e-8)
        np.testing.assert_allclose(dims.rms, np.sqrt(sums["power 2"].numpy() / n), rtol=1e-9)
        np.testing.assert_array_equal(dims.absmax, sums["absmax"].double().numpy())


def attached(recorder: Recorder) -> Callable[[], Recorder]:
    """A context that attaches a recorder again; what it holds stays warm from round to round."""
    recorder.detach()

    def attach() -> Recorder:
        recorder.attach()
        return recorder

    return attach


def measure(options: argparse.Namespace) -> Report:
    """Check, then time in turn."""
    model = load_model(options.model or gguf_path(), dtype="float32").model.eval()
    ids = torch.randint(0, model.config.vocab_size, (BATCH, SEQ_LEN), generator=torch.Generator().manual_seed(0))
    paths = site_paths(model)
    check(model, ids, paths)

    around: dict[str, Callable[[], Any]] = {
        "hooks that do nothing": lambda: hooked(model, paths, lambda *_: None),
        **{f"lmfacts, {sites}": attached(lmfacts.attach(model, sites=sites)) for sites in ("resid", "default", "all")},
        "torch, histc + var_mean": lambda: hooked(model, paths, TorchHooks(full=False)),
        SAME: lambda: hooked(model, paths, TorchHooks(full=True)),
    }
    by_torch = [name for name in around if name.startswith("torch")]
    cheap = ["bare", *(name for name in around if name not in by_torch)]
    with torch.inference_mode():
        faults_before = getrusage(RUSAGE_SELF).ru_minflt
        model(ids)
        faults = getrusage(RUSAGE_SELF).ru_minflt - faults_before
        times = interleaved({name: lambda: model(ids) for name in cheap}, options.rounds, around=around)
        dear = {name: lambda: model(ids) for name in ("bare", ALL, *by_torch)}
        times_beside_torch = interleaved(dear, max(1, options.rounds // 3), around=around)

    report = Report("overhead", settings(model, len(paths), faults))
    report.add_times(times)
    report.add_times(times_beside_torch, "beside torch: ")
    for name in cheap[1:]:
        target = TARGETS.get(name.removeprefix("lmfacts, "))
        share = share_added(times, name)
        report.figures.append(Figure(f"time added by {name}", "a bare forward pass", share, "%", target))
    for name in by_torch:
        share = share_added(times_beside_torch, name)
        report.figures.append(Figure(f"time added by {name}", "a bare forward pass", share, "%"))
    ours = added(times_beside_torch, ALL)
    for name in by_torch:
        more = spread(other / own for other, own in zip(added(times_beside_torch, name), ours, strict=True))
        target = TORCH_TARGET if name == SAME else None
        report.figures.append(Figure(f"time added by {name}", f"time added by {ALL}", more, "x", target))
    return report


def added(times: dict[str, list[float]], name: str) -> list[float]:
    """The time a variant took more than the bare pass of its round."""
    return [own - bare for own, bare in zip(times[name], times["bare"], strict=True)]


def share_added(times: dict[str, list[float]], name: str) -> Spread:
    """The same as a percentage of that bare pass."""
    return spread(100 * more / bare for more, bare in zip(added(times, name), times["bare"], strict=True))


def settings(model: torch.nn.Module, n_sites: int, faults: int) -> dict[str, Any]:
    """What was run, and with what threads."""
    threads = thread_settings()
    return {
        "model": f"{sum(parameter.numel() for parameter in model.parameters()) / 1e6:.0f} M parameters, float32",
        "batch": f"{BATCH} x {SEQ_LEN}",
        "sites": n_sites,
        "page faults of a bare pass": faults,
        "threads": threads,
        "speculative store bypass": mitigation(),
    }


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--model", default=None, help="a folder or GGUF file; SmolLM2-135M if none is given")
    parser.add_argument("--rounds", type=int, default=15)


if __name__ == "__main__":
    keep_memory()
    command(measure, __doc__, arguments)
