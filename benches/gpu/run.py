"""Everything that is asked of a GPU, in one call, as one table.

    python benches/gpu/run.py [--quick] [--only checks|throughput|overhead|compiled]

Four parts. *checks*: `tests/support/gpu_checks.py`, which hold the kernels against the host's accumulators, look for
synchronization in hooks, replay CUDA graphs, compile models. *throughput*: a site's update on tensors of 1 MB to 1
GB, beside a copy of the same tensor on the device, whose rate counts bytes read and written; the share is that of the
bytes of the tensor that an update takes in per second, of this rate; and what each kernel takes. *overhead*: forward
passes of models with random weights (GPT-2 medium's and a 1B Llama's shapes, bfloat16), bare, with lmfacts, and with
the same statistics in torch; also captured into a CUDA graph. *compiled*: the same under torch.compile. Medians of
several rounds, timed by CUDA events. Without a GPU it says so, measures nothing and ends with exit code 1, as it does
where a check failed. Needs torch, transformers and an installed lmfacts; no Rust, no network.
"""

from __future__ import annotations

import argparse
import functools
import os
import statistics
import sys
import time
import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")
sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

import torch
import transformers

import lmfacts
from lmfacts import _native
from lmfacts.recording.cuda import probe
from lmfacts.run.statistic import Sites
from lmfacts.run.statistics import STATISTICS
from support.gpu_checks import CHECKS, no_gpu_reason

if TYPE_CHECKING:
    from collections.abc import Callable

DIMS = 4096
KEPT = {
    what: [name for name, statistic in STATISTICS.items() if statistic.is_option and statistic.sites in sites]
    for what, sites in {
        "any site": [Sites.EVERY],
        "residual site": [Sites.EVERY, Sites.STREAM],
        "detailed site": [Sites.EVERY, Sites.STREAM, Sites.DETAIL],
        "input of a matrix, with blocks": [Sites.EVERY, Sites.MATRIX_INPUTS],
    }.items()
}
"""What a scan keeps of a site."""

KINDS: dict[str, Callable[[tuple[int, ...]], torch.Tensor]] = {
    "gaussian": lambda shape: torch.randn(shape, device="cuda"),
    "relu": lambda shape: torch.randn(shape, device="cuda").relu(),
    "few values": lambda shape: (torch.randn(shape, device="cuda") * 2).round() / 4,
}


def row(*cells: str) -> None:
    """Print a line of the table at once: what it is about, then its values."""
    print(f"{cells[0]:<52}", *(f"{cell:>16}" for cell in cells[1:]), flush=True)


def median_ms(work: Callable[[], object], rounds: int) -> float:
    """Milliseconds by CUDA events, the median of the rounds, after two that do not count."""
    times: list[float] = []
    for index in range(rounds + 2):
        start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch gives it no types
        end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch gives it no types
        start.record()
        work()
        end.record()
        end.synchronize()
        if index > 1:
            times.append(start.elapsed_time(end))
    return statistics.median(times)


def run_checks() -> int:
    """Run every check, print how it ended and its seconds, and give the number of those that failed."""
    n_failed = 0
    row("check", "result", "seconds")
    for name, check in CHECKS.items():
        start = time.perf_counter()
        try:
            check()
            result = "ok"
        except Exception as error:  # noqa: BLE001  whatever it is, the others are still to run
            n_failed += 1
            result = "FAILED"
            traceback.print_exception(error, limit=-3)
        row(name, result, f"{time.perf_counter() - start:.1f}")
    return n_failed


class Site:
    """A site's update, ready to be repeated on one tensor of shape (sequences, tokens of each, dims)."""

    def __init__(self, tensor: torch.Tensor, kept: list[str]) -> None:
        device = probe.find_device(tensor.device)
        assert device is not None  # else `main` had ended
        dtype = probe.DTYPES[tensor.dtype]
        device.prepare(dtype)
        self.tensor, self.n_tokens = tensor, tensor.shape[0] * tensor.shape[1]
        self.native = _native.DeviceSite(device, dtype, tensor.shape[-1], statistics=kept)
        sizes = (
            _native.tokens_bytes(self.n_tokens),
            self.native.state_bytes,
            self.native.scratch_bytes(self.n_tokens),
            _native.tokens_memory_bytes(tensor.shape[0]),
        )
        self.kept = [torch.zeros(n_bytes, dtype=torch.uint8, device="cuda") for n_bytes in sizes]
        self.tokens, self.state, self.scratch, self.memory = (_native.DeviceBuffer(buffer) for buffer in self.kept)
        self.stream = torch.cuda.current_stream().cuda_stream
        shape, continues = (tensor.shape[0], tensor.shape[1]), False
        for _ in range(2):  # what is timed comes later in the text than what is known
            _native.describe_tokens(
                device, shape, None, None, None, None, 0, None, continues, self.tokens, self.memory, self.stream
            )
            self.update()

    def update(self) -> None:
        """Queue one update on the stream."""
        assert self.native.update(self.tensor, self.n_tokens, self.tokens, self.state, self.scratch, self.stream)


def kernel_times(work: Callable[[], object]) -> dict[str, float]:
    """Microseconds of each kernel in one round."""
    work()
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        work()
        torch.cuda.synchronize()
    return {event.key: event.self_device_time_total for event in profile.key_averages()}


def run_throughput(rounds: int) -> None:
    """Print what an update takes in milliseconds, its GB/s beside a copy's, and the microseconds of each kernel."""
    print()
    row("update of a site", "tensor MB", "milliseconds", "GB/s", "share of copy")
    for dtype in (torch.bfloat16, torch.float16, torch.float32):
        for n_bytes in (1 << 20, 4 << 20, 16 << 20, 64 << 20, 128 << 20, 256 << 20, 1 << 30):
            n_tokens = n_bytes // (DIMS * dtype.itemsize)
            shape = (max(1, n_tokens // 2048), min(n_tokens, 2048), DIMS)
            for kind in KINDS if n_bytes == 256 << 20 else ("gaussian",):
                tensor = KINDS[kind](shape).to(dtype)
                other = torch.empty_like(tensor)
                copied = 2 * n_bytes / median_ms(functools.partial(other.copy_, tensor), rounds)
                for what, kept in KEPT.items() if kind == "gaussian" else [("any site", KEPT["any site"])]:
                    taken = median_ms(Site(tensor, kept).update, rounds)
                    rate = n_bytes / taken
                    name = f"{str(dtype).removeprefix('torch.')}, {kind}, {what}"
                    row(name, str(n_bytes >> 20), f"{taken:.3f}", f"{rate / 1e6:.0f}", f"{rate / copied:.0%}")
    print()
    row("kernels of an update, 256 MB of bfloat16", "microseconds")
    tensor = KINDS["gaussian"]((64, 512, DIMS)).bfloat16()
    for what, kept in KEPT.items():
        for kernel, microseconds in kernel_times(Site(tensor, kept).update).items():
            row(f"{what}: {kernel}", f"{microseconds:.0f}")


MODELS: dict[str, Callable[[], torch.nn.Module]] = {
    "GPT-2 medium": lambda: transformers.GPT2LMHeadModel(
        transformers.GPT2Config(n_embd=1024, n_layer=24, n_head=16, n_positions=1024)
    ),
    "Llama 1B": lambda: transformers.LlamaForCausalLM(
        transformers.LlamaConfig(
            hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32,
            num_key_value_heads=8, vocab_size=32_000, max_position_embeddings=2048,
        )
    ),
}  # fmt: skip


class TorchHooks:
    """The statistics that one writes in torch, for the tensors that lmfacts sees."""

    def __init__(self) -> None:
        self.totals: dict[str, dict[str, torch.Tensor]] = {}

    def take(self, name: str, tensor: torch.Tensor) -> None:
        """Take in a tensor of a site, of any shape that ends in its dims."""
        rows = tensor.reshape(-1, tensor.shape[-1])
        values = rows.float()
        found = {"histogram": torch.histc(values, bins=2048, min=-50, max=50), "absmax": values.abs().amax(dim=0)}
        found["largest"] = torch.topk(values.abs().reshape(-1), 64).values
        found["norms"] = values.norm(dim=-1).sum()
        doubles = values.double()
        for power in range(1, 5):
            found[f"power {power}"] = (doubles**power).sum(dim=0)
        mine = self.totals.setdefault(name, found)
        if mine is not found:
            for key, value in found.items():
                mine[key] = torch.maximum(mine[key], value) if key in ("absmax", "largest") else mine[key] + value


def torch_hooked(model: torch.nn.Module, recorder: lmfacts.Recorder) -> ExitStack:
    """Hooks in torch at the places of a recorder."""
    hooks, stack = TorchHooks(), ExitStack()
    for site in recorder.run().metadata["sites"]:
        path, _, side = site["module_path"].rpartition(":")

        def hook(
            _module: torch.nn.Module,
            args: tuple[Any, ...],
            kwargs: dict[str, Any],
            output: Any,
            name: str = site["name"],
            side: str = side,
        ) -> None:
            value = output if side == "out" else (args[0] if args else next(iter(kwargs.values())))
            hooks.take(name, value[0] if isinstance(value, tuple) else value)

        stack.callback(model.get_submodule(path).register_forward_hook(hook, with_kwargs=True).remove)
    return stack


def captured(run: Callable[[], object]) -> Callable[[], object]:
    """A function that replays what `run` did while it was captured."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch gives it no types
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        run()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        run()
    return graph.replay


def _report(what: str, time_ms: float, bare_ms: float) -> None:
    row(what, f"{time_ms:.2f}", f"{time_ms / bare_ms - 1:+.1%}")


def _forward_pass(model: torch.nn.Module) -> Callable[[], None]:
    """A function that runs the model on 8 x 1024 tokens, other ones each time: outliers seen before cost nothing."""
    ids = torch.randint(0, 30_000, (8, 1024), device="cuda")

    def run() -> None:
        model(input_ids=ids.random_(30_000), use_cache=False)

    return run


def _model(name: str) -> torch.nn.Module:
    torch.manual_seed(0)
    return MODELS[name]().to("cuda", torch.bfloat16).eval()


def run_overhead(rounds: int) -> None:
    """Print the milliseconds of forward passes, and what each way of recording adds to the bare pass in percent."""
    print()
    row("forward pass, 8 x 1024 tokens, bfloat16", "milliseconds", "over bare")
    for name in MODELS:
        model = _model(name)
        run = _forward_pass(model)
        with torch.inference_mode():
            bare = median_ms(run, rounds)
            _report(f"{name}, bare", bare, bare)
            for sites in ("resid", "default", "all"):
                with lmfacts.attach(model, sites) as recorder:
                    counted = median_ms(run, rounds)
                _report(f"{name}, lmfacts, {sites} ({len(recorder.site_names)} sites)", counted, median_ms(run, rounds))
            with lmfacts.attach(model, "default", blocks_of=(16, 32)):
                counted = median_ms(run, rounds)
            _report(f"{name}, lmfacts, default, blocks of 16 and 32", counted, median_ms(run, rounds))
            with lmfacts.attach(model, "default") as recorder:
                run()
            with torch_hooked(model, recorder):
                hooked = median_ms(run, max(3, rounds // 4))
            _report(f"{name}, torch hooks at the sites of default", hooked, median_ms(run, rounds))
            _run_prepared(f"{name}, CUDA graph", functools.partial(captured, run), model, rounds)
        del model, run
        torch.cuda.empty_cache()


def run_compiled(rounds: int) -> None:
    """Print the same of models under torch.compile, which takes minutes."""
    print()
    row("the same under torch.compile", "milliseconds", "over bare")
    for name in MODELS:
        model = _model(name)

        def prepared(model: torch.nn.Module = model) -> Callable[[], None]:
            torch.compiler.reset()
            return _forward_pass(torch.compile(model))  # type: ignore[arg-type]  # torch types it as a function

        with torch.inference_mode():
            _run_prepared(f"{name}, torch.compile", prepared, model, rounds)
        torch.compiler.reset()
        del model
        torch.cuda.empty_cache()


def _run_prepared(what: str, prepare: Callable[[], Callable[[], object]], model: torch.nn.Module, rounds: int) -> None:
    """Print how long what was prepared takes, bare and with lmfacts attached while it was."""
    try:
        plain = median_ms(prepare(), rounds)
        with lmfacts.attach(model, "default"):
            counted = median_ms(prepare(), rounds)
        _report(f"{what}, lmfacts, default", counted, plain)
    except Exception as error:  # noqa: BLE001  the other variants are still to run
        row(what, "FAILED")
        traceback.print_exception(error, limit=-3)


def main() -> int:
    """Run the parts that are asked for; the exit code is 1 if a check failed or there is no GPU."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer rounds")
    parser.add_argument("--only", choices=["checks", "throughput", "overhead", "compiled"])
    arguments = parser.parse_args()
    reason = no_gpu_reason()
    if reason is not None:
        print(f"nothing is measured: {reason}", file=sys.stderr)
        return 1
    rounds = 5 if arguments.quick else 20
    print(torch.cuda.get_device_name(), "torch", torch.__version__, "lmfacts", lmfacts.__version__, probe.cuda_report())
    wanted = [arguments.only] if arguments.only else ["checks", "throughput", "overhead", "compiled"]
    n_failed = run_checks() if "checks" in wanted else 0
    if "throughput" in wanted:
        run_throughput(rounds)
    if "overhead" in wanted:
        run_overhead(rounds)
    if "compiled" in wanted:
        run_compiled(rounds)
    return 1 if n_failed else 0


if __name__ == "__main__":
    sys.exit(main())
