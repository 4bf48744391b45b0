"""Reading weights without spectra: lmfacts beside the same statistics written with torch and with NumPy.

    python benches/weights.py [--rounds 5] [--seconds S]

Each tool gives, for every matrix: the four central moments, a histogram fine enough for quantiles to 0.8 %, the RMS of
every row and column, the largest |x| with its place, and kurtosis again after columns and then rows were divided by
their RMS. The answers are compared before anything is timed. One thread each, page cache warm, the three in turn; then
the peak memory of a process that reads a checkpoint of 2 GB.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import lmfacts
from machine import mitigation, thread_settings
from measuring import Clock, Figure, Report, Target, command, interleaved, one_thread
from spreads import ratios, spread

if TYPE_CHECKING:
    import argparse


N_TENSORS, N_ROWS, N_COLUMNS = 3, 2048, 4096
CHECKED_ROWS = 256
"""Of each matrix, for the comparison of the answers."""
N_SHARDS, SHARD_ROWS, SHARD_COLUMNS = 16, 4096, 8192
RATE = Target(1, at_most=False, text="at least 1 GB/s per core")


def with_torch(path: Path) -> dict[str, dict[str, float]]:
    """The statistics in torch, as one writes them."""
    found = {}
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118  safe_open's file is no mapping: it can only be asked for its keys
            stored = file.get_tensor(name)
            x = stored.double()
            centered = x - x.mean()
            m2, m4 = (centered**2).mean(), (centered**4).mean()
            bits = stored.view(torch.int32) >> 16 if stored.dtype == torch.float32 else stored.view(torch.int16)
            torch.bincount((bits.reshape(-1).long() + 32768), minlength=65536)
            column, row = (x**2).mean(dim=0).sqrt(), (x**2).mean(dim=1).sqrt()
            torch.topk(x.abs().reshape(-1), 16)
            y = x / column
            y = y / (y**2).mean(dim=1, keepdim=True).sqrt()
            y = y - y.mean()
            scaled = float((y**4).mean() / (y**2).mean() ** 2 - 3)
            found[name] = {
                "kurtosis": float(m4 / m2**2 - 3),
                "rms": float(row.mean() + column.mean()),
                "scaled": scaled,
            }
    return found


def with_numpy(path: Path) -> dict[str, dict[str, float]]:
    """The same in NumPy."""
    found = {}
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118  safe_open's file is no mapping: it can only be asked for its keys
            stored = file.get_tensor(name)
            whole = stored.dtype == torch.float32
            bits = stored.view(torch.int32 if whole else torch.int16).numpy()
            x = stored.float().numpy().astype(np.float64)
            centered = x - x.mean()
            m2, m4 = (centered**2).mean(), (centered**4).mean()
            np.bincount(((bits >> 16) if whole else bits).reshape(-1).astype(np.int64) + 32768, minlength=65536)
            column, row = np.sqrt((x**2).mean(axis=0)), np.sqrt((x**2).mean(axis=1))
            np.argpartition(np.abs(x).reshape(-1), -16)
            y = x / column
            y = y / np.sqrt((y**2).mean(axis=1, keepdims=True))
            y = y - y.mean()
            scaled = float((y**4).mean() / (y**2).mean() ** 2 - 3)
            found[name] = {
                "kurtosis": float(m4 / m2**2 - 3),
                "rms": float(row.mean() + column.mean()),
                "scaled": scaled,
            }
    return found


def with_lmfacts(path: Path) -> dict[str, dict[str, float]]:
    """The same, and all else that a run of weights holds."""
    run = lmfacts.scan_weights(path, spectra=0)
    weights = {name: run[name] for name in run}
    return {
        name: {
            "kurtosis": weight.excess_kurtosis,
            "rms": float(weight.row_rms.mean() + weight.column_rms.mean()),
            "scaled": weight.scaled.excess_kurtosis,
        }
        for name, weight in weights.items()
    }


TOOLS = {"lmfacts": with_lmfacts, "torch": with_torch, "numpy": with_numpy}


def compare(folder: Path, dtype: torch.dtype, rounds: int, clock: Clock, report: Report) -> None:
    """Check that all tools agree, then time them in turn."""
    checked, path = folder / "checked.safetensors", folder / "model.safetensors"
    generator = torch.Generator().manual_seed(0)
    scale = torch.exp(0.3 * torch.randn(N_COLUMNS, generator=generator))
    tensors = {
        f"layers.{i}.weight": (torch.randn(N_ROWS, N_COLUMNS, generator=generator) * scale).to(dtype)
        for i in range(N_TENSORS)
    }
    save_file(tensors, path)
    save_file({name: tensor[:CHECKED_ROWS].contiguous() for name, tensor in tensors.items()}, checked)
    answers = {tool: run(checked) for tool, run in TOOLS.items()}
    for name, expected in answers["numpy"].items():
        for tool in TOOLS:
            np.testing.assert_allclose(
                list(answers[tool][name].values()), list(expected.values()), rtol=1e-5, atol=1e-6
            )
    times = interleaved({tool: partial(run, path) for tool, run in TOOLS.items()}, rounds, clock=clock, warm_up=0)
    short = str(dtype).removeprefix("torch.")
    report.add_times(times, short)
    for tool in ("torch", "numpy"):
        ratio = ratios(times[tool], times["lmfacts"])
        report.figures.append(Figure(f"{short} weights: time of {tool}", "lmfacts", ratio))
    rate = spread(path.stat().st_size / 1e9 / seconds for seconds in times["lmfacts"])
    report.figures.append(Figure(f"{short} weights: bytes read by lmfacts", "a clock", rate, "GB/s", RATE))


def peak_memory(folder: Path, clock: Clock, report: Report) -> None:
    """Peak memory over a checkpoint of 2 GB in shards of one tensor each, if there is time left for it."""
    if clock.left <= 0:
        report.settings["peak memory"] = "no time was left for it"
        return
    block = torch.randn(SHARD_ROWS, SHARD_COLUMNS)
    large = folder / "large"
    large.mkdir()
    index = {}
    for shard in range(N_SHARDS):
        file = f"model-{shard + 1:05d}-of-{N_SHARDS:05d}.safetensors"
        save_file({f"part.{shard}.weight": block}, large / file)
        index[f"part.{shard}.weight"] = file
    (large / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    program = (
        "import sys, lmfacts; from lmfacts.scans.memory import peak_bytes; lmfacts.scan_weights('demo', spectra=0); "
        "before = peak_bytes(); lmfacts.scan_weights(sys.argv[1], spectra=0); print(before, peak_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", program, str(large)], capture_output=True, text=True, check=True)
    _, peak = (int(text) / 1e6 for text in done.stdout.split())
    largest = block.nbytes / 1e6
    total = N_SHARDS * largest / 1e3
    target = Target(largest + 300, at_most=True, text=f"largest tensor + 300 MB: {largest + 300:.0f} MB")
    report.figures.append(
        Figure(f"peak memory over {total:.1f} GB", f"a tensor of {largest:.0f} MB", spread([peak]), "MB", target)
    )


def measure(options: argparse.Namespace) -> Report:
    """Both dtypes, then the memory."""
    one_thread()
    report = Report("weights", {"threads": thread_settings(), "speculative store bypass": mitigation()})
    report.settings["checkpoint"] = f"{N_TENSORS} matrices of {N_ROWS} x {N_COLUMNS}, without spectra"
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), torch.float32, options.rounds, options.clock.share(0.4), report)
        compare(Path(folder), torch.bfloat16, options.rounds, options.clock.share(0.7), report)
        peak_memory(Path(folder), options.clock, report)
    return report


if __name__ == "__main__":
    command(measure, __doc__, rounds=5)
