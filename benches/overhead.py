"""What recording costs: a forward pass bare, with hooks that do nothing, with lmfacts, and with hooks written in torch.

    python benches/overhead.py [--model FOLDER_OR_GGUF] [--rounds 15] [--seconds S]

SmolLM2-135M in float32, batch 8 x 256, variants in turn in one process: first a bare pass and lmfacts, then, in fewer
rounds since it takes so long, a bare pass, lmfacts on all sites and torch. Every pass, bare or recorded, is the same
call: it fills a cache and computes the logits of all positions, as `attach` meets it in somebody's own code. A scan
has no use for those logits, so what recording adds is also told beside a bare pass that computes a sequence's last
logits only; no site lies behind them.

The torch hooks compute for the same tensors what one writes in a notebook: a histogram (histc), the four moments of
every dim, the largest magnitude and the 64 largest values; `histc + var_mean` does only the first and a half of the
second. Before anything is timed, the moments of both ways are compared, and the model's outputs with and without
lmfacts are the same bits.

Two things keep memory at what a pass needs. The C library is told to keep the memory that tensors free
(`measuring.keep_memory` says why); what the torch hooks keep is allocated before the first pass. Were it allocated
during one, between temporaries of 10 to 30 MB, these small tensors would stay where each temporary was to grow back,
and the heap with 3 MB in use would spread over 8 GB.
"""

from __future__ import annotations

import statistics
import sys
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
import torch

import lmfacts
from lmfacts.models.loading import load_model
from lmfacts.scans.memory import peak_bytes
from machine import mitigation, thread_settings
from measuring import Figure, Report, Target, command, interleaved, keep_memory
from spreads import Spread, added, added_ratio, spread
from support.smollm import gguf_path

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from lmfacts.recording.recorder import Recorder

BATCH, SEQ_LEN, TOP, BINS = 8, 256, 64, 2048
CHECKED_BATCH, CHECKED_LEN = 2, 64
"""Tokens on which both ways are compared."""
CHEAP_SHARE = 0.5
"""Of the time for rounds, what the variants without torch get."""
TARGETS = {
    "all": Target(8, at_most=True, text="at most 8 %"),
    "resid": Target(1.5, at_most=True, text="at most 1.5 %"),
}
BARE, LAST_LOGITS = "bare", "bare, last logits only"
ALL, SAME = "lmfacts, all", "torch, the same statistics"
TORCH_TARGET = Target(25, at_most=False, text="at least 25 times")


class TorchHooks:
    """Statistics of a module's tensor, accumulated as one does in torch.

    Args:
        n_dims: of each site.
        full: all statistics; else a histogram, mean and variance.
    """

    def __init__(self, n_dims: dict[str, int], *, full: bool) -> None:
        self.full = full
        self.totals = {site: self._zeros(n) for site, n in n_dims.items()}

    def _zeros(self, n: int) -> dict[str, torch.Tensor]:
        totals = {"histogram": torch.zeros(BINS)}
        if self.full:
            totals |= {f"power {power}": torch.zeros(n, dtype=torch.float64) for power in range(1, 5)}
            return totals | {"absmax": torch.zeros(n), "largest": torch.zeros(TOP)}
        return totals | {"variance": torch.zeros(n), "mean": torch.zeros(n)}

    def __call__(self, name: str, tensor: torch.Tensor) -> None:
        """Take a tensor in."""
        totals = self.totals[name]
        with torch.inference_mode():
            values = tensor.reshape(-1, tensor.shape[-1])
            totals["histogram"] += torch.histc(values, bins=BINS, min=-50, max=50)
            if self.full:
                doubles = values.double()
                for power in range(1, 5):
                    totals[f"power {power}"] += (doubles**power).sum(dim=0)
                for largest, found in (
                    (totals["absmax"], values.abs().amax(dim=0)),
                    (totals["largest"], torch.topk(values.abs().reshape(-1), TOP).values),
                ):
                    torch.maximum(largest, found, out=largest)
            else:
                variance, mean = torch.var_mean(values, dim=0)
                totals["variance"] += variance
                totals["mean"] += mean


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


def dims_of(model: torch.nn.Module, ids: torch.Tensor, paths: dict[str, str]) -> dict[str, int]:
    """How many dims the tensors have that a hook at each site gets."""
    found: dict[str, int] = {}
    with torch.inference_mode(), hooked(model, paths, lambda site, tensor: found.update({site: tensor.shape[-1]})):
        model(ids[:1, :1])
    return found


def check(model: torch.nn.Module, ids: torch.Tensor, paths: dict[str, str]) -> None:
    """Both ways see the same values, and the model computes the same bits."""
    torch_hooks = TorchHooks(dims_of(model, ids, paths), full=True)
    with torch.inference_mode():
        plain = model(ids).logits
        with lmfacts.attach(model, sites=list(paths)) as recorder, hooked(model, paths, torch_hooks):
            assert torch.equal(model(ids).logits, plain)
    run = recorder.run()
    n = ids.numel()
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
    check(model, ids[:CHECKED_BATCH, :CHECKED_LEN], paths)

    n_dims = dims_of(model, ids, paths)
    in_torch = {"torch, histc + var_mean": TorchHooks(n_dims, full=False), SAME: TorchHooks(n_dims, full=True)}
    around: dict[str, Callable[[], Any]] = {
        "hooks that do nothing": lambda: hooked(model, paths, lambda *_: None),
        **{f"lmfacts, {sites}": attached(lmfacts.attach(model, sites=sites)) for sites in ("resid", "default", "all")},
        **{name: partial(hooked, model, paths, hooks) for name, hooks in in_torch.items()},
    }
    recorded = [name for name in around if name not in in_torch]

    faults: list[int] = []

    def forward() -> None:
        model(ids)

    def bare_forward() -> None:
        before = getrusage(RUSAGE_SELF).ru_minflt
        forward()
        faults.append(getrusage(RUSAGE_SELF).ru_minflt - before)

    passes = {BARE: bare_forward, LAST_LOGITS: lambda: model(ids, logits_to_keep=1), **dict.fromkeys(recorded, forward)}
    with torch.inference_mode():
        cheap = interleaved(passes, options.rounds, clock=options.clock.share(CHEAP_SHARE), around=around)
        dear_passes = dict.fromkeys([BARE, ALL, *in_torch], forward)
        dear = interleaved(dear_passes, max(1, options.rounds // 3), clock=options.clock, around=around)

    report = Report("overhead", settings(model, len(paths), faults))
    report.add_times(cheap, "without torch's hooks")
    report.add_times(dear, "with torch's hooks")
    report.figures = [share_figure(cheap, name) for name in recorded]
    report.figures.append(share_figure(cheap, ALL, LAST_LOGITS))
    report.figures.append(
        Figure("a bare pass with the last logits only", "a bare pass with all logits", of_bare(cheap, LAST_LOGITS), "%")
    )
    report.figures += [share_figure(dear, name) for name in in_torch]
    ours = shares_added(cheap, ALL) + shares_added(dear, ALL)
    for name in in_torch:
        more = added_ratio(shares_added(dear, name), ours)
        target = TORCH_TARGET if name == SAME else None
        report.figures.append(Figure(f"time added by {name}", f"time added by {ALL}", more, "x", target))
    report.settings["peak resident memory"] = f"{peak_bytes() / 1e9:.1f} GB"
    return report


def shares_added(times: dict[str, list[float]], name: str, beside: str = BARE) -> list[float]:
    """By how many percent of a bare pass a variant took longer than the bare pass of its round.

    As a share of that pass it is the same number while the machine is slow for some rounds.
    """
    bare = zip(times[name], times[BARE], times[beside], strict=True)
    return [100 * (own - base) / unit for own, base, unit in bare]


def share_figure(times: dict[str, list[float]], name: str, beside: str = BARE) -> Figure:
    """What a variant adds, as a share of a bare pass."""
    target = TARGETS.get(name.removeprefix("lmfacts, ")) if beside == BARE else None
    what = "a bare forward pass" if beside == BARE else "a bare forward pass, last logits only"
    return Figure(f"time added by {name}", what, added(shares_added(times, name, beside)), "%", target)


def of_bare(times: dict[str, list[float]], name: str) -> Spread:
    """A variant's time as a percentage of the bare pass."""
    return spread(100 * own / bare for own, bare in zip(times[name], times[BARE], strict=True))


def settings(model: torch.nn.Module, n_sites: int, faults: list[int]) -> dict[str, Any]:
    """What was run, and with what threads."""
    threads = thread_settings()
    return {
        "model": f"{sum(parameter.numel() for parameter in model.parameters()) / 1e6:.0f} M parameters, float32",
        "batch": f"{BATCH} x {SEQ_LEN}",
        "every pass": "fills a cache and computes the logits of all positions",
        "sites": n_sites,
        "page faults of a bare pass": f"{statistics.median(faults):.0f}" if faults else "none was run",
        "threads": threads,
        "speculative store bypass": mitigation(),
    }


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--model", default=None, help="a folder or GGUF file; SmolLM2-135M if none is given")


if __name__ == "__main__":
    keep_memory()
    command(measure, __doc__, arguments, rounds=15)
