"""What recording costs: a forward pass bare, with hooks that do nothing, with lmfacts, and with hooks written in torch.

    python benches/overhead.py [--model FOLDER_OR_GGUF] [--rounds 5]

SmolLM2-135M in float32, batch 8 x 256, all variants interleaved in one process. The torch hooks compute for the same
tensors what one writes in a notebook: a histogram (histc), the four moments of every dim, the largest magnitude and
the 64 largest values; `histc + var_mean` does only the first and a half of the second. Before anything is timed, the
moments and the counts of both ways are compared, and the model's outputs with and without lmfacts are the same bits.
Prints medians, and the time added as a share of the bare pass; the cost of a hook in Python is measured apart, on
tensors of one token.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from contextlib import ExitStack
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
import torch

import lmfacts
from lmfacts import _native
from lmfacts.model_loading import load_model
from support.smollm import gguf_path

BATCH, SEQ_LEN, TOP = 8, 256, 64


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


def hooked(model: torch.nn.Module, paths: dict[str, str], record) -> ExitStack:
    """Forward hooks on `module:side` that hand the tensor to a function."""
    stack = ExitStack()
    for site, path in paths.items():
        module_path, _, side = path.rpartition(":")
        module = model.get_submodule(module_path)

        def hook(_module, inputs, kwargs, output, site=site, side=side):
            value = output if side == "out" else (inputs[0] if inputs else next(iter(kwargs.values())))
            record(site, value[0] if isinstance(value, tuple) else value)

        stack.callback(module.register_forward_hook(hook, with_kwargs=True).remove)
    return stack


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


def microseconds_of_a_hook(model: torch.nn.Module) -> tuple[int, float]:
    """Sites, and the time that recording one token adds for each of them."""
    ids = torch.zeros((1, 1), dtype=torch.long)
    added = []
    with torch.inference_mode():
        for _ in range(30):
            start = time.perf_counter()
            model(ids)
            bare = time.perf_counter() - start
            with lmfacts.attach(model, sites="all") as recorder:
                model(ids)
                start = time.perf_counter()
                model(ids)
                added.append(time.perf_counter() - start - bare)
    n_sites = len(recorder.site_names)
    return n_sites, 1e6 * statistics.median(added) / n_sites


def main() -> None:
    """Check, then time in turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default=None)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    model = load_model(options.model or gguf_path(), dtype="float32").model.eval()
    vocabulary = model.config.vocab_size
    ids = torch.randint(0, vocabulary, (BATCH, SEQ_LEN), generator=torch.Generator().manual_seed(0))
    recorder = lmfacts.attach(model, sites="all")
    recorder.detach()
    paths = {entry["name"]: entry["module_path"] for entry in recorder.run().metadata["sites"]}
    check(model, ids, paths)

    def plain() -> ExitStack:
        return ExitStack()

    def lmfacts_with(sites: str):
        def start() -> ExitStack:
            stack = ExitStack()
            stack.enter_context(kept[sites])
            return stack

        kept[sites] = lmfacts.attach(model, sites=sites)
        kept[sites].detach()
        return start

    kept: dict[str, lmfacts.recorder.Recorder] = {}
    variants = {
        "bare": plain,
        "hooks that do nothing": lambda: hooked(model, paths, lambda *_: None),
        "lmfacts, resid": lmfacts_with("resid"),
        "lmfacts, default": lmfacts_with("default"),
        "lmfacts, all": lmfacts_with("all"),
        "torch, histc + var_mean": lambda: hooked(model, paths, TorchHooks(full=False)),
        "torch, the same statistics": lambda: hooked(model, paths, TorchHooks(full=True)),
    }
    times: dict[str, list[float]] = {name: [] for name in variants}
    with torch.inference_mode():
        for round_ in range(options.rounds + 1):
            for name, start in variants.items():
                with start():
                    before = time.perf_counter()
                    model(ids)
                    elapsed = time.perf_counter() - before
                if round_:  # the first warms up
                    times[name].append(elapsed)
    bare = statistics.median(times["bare"])
    build = _native.build_info()
    threads = f"{torch.get_num_threads()} torch threads, {build['n_threads']} lmfacts threads"
    print(f"{len(paths)} sites, {threads}, {build['simd']}")
    for name, taken in times.items():
        added = statistics.median(seconds - other for seconds, other in zip(taken, times["bare"], strict=True))
        print(f"{name:27} {statistics.median(taken):7.3f} s   {100 * added / bare:+7.1f} %")
    n_sites, cost = microseconds_of_a_hook(model)
    print(f"a hook, on one token: {cost:.1f} microseconds (mean over {n_sites} sites)")


if __name__ == "__main__":
    main()
