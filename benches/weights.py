"""Reading weights without spectra: lmfacts beside the same statistics written with torch and with NumPy.

    python benches/weights.py

Each tool gives, for every matrix: the four central moments, a histogram fine enough for quantiles to 0.8 %, the RMS of
every row and column, the largest |x| with its place, and kurtosis again after columns and then rows were divided by
their RMS. The answers are compared before anything is timed. One thread each, page cache warm, the three interleaved;
medians and ratios, and the peak memory of a process that reads a checkpoint of 2 GB.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("LMFACTS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file

import lmfacts

N_TENSORS, N_ROWS, N_COLUMNS, ROUNDS = 6, 2048, 4096, 5


def with_torch(path: Path) -> dict[str, dict[str, float]]:
    """The statistics in torch, as one writes them."""
    found = {}
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118  not a mapping
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
        for name in file.keys():  # noqa: SIM118  not a mapping
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
    return {
        name: {
            "kurtosis": run[name].excess_kurtosis,
            "rms": float(run[name].row_rms.mean() + run[name].column_rms.mean()),
            "scaled": run[name].scaled.excess_kurtosis,
        }
        for name in run
    }


TOOLS = {"lmfacts": with_lmfacts, "torch": with_torch, "numpy": with_numpy}


def compare(folder: Path, dtype: torch.dtype) -> None:
    """Check that all tools agree, then time them in turn."""
    path = folder / "model.safetensors"
    generator = torch.Generator().manual_seed(0)
    scale = torch.exp(0.3 * torch.randn(N_COLUMNS, generator=generator))
    tensors = {
        f"layers.{i}.weight": (torch.randn(N_ROWS, N_COLUMNS, generator=generator) * scale).to(dtype)
        for i in range(N_TENSORS)
    }
    save_file(tensors, path)
    n_bytes = path.stat().st_size
    answers = {tool: run(path) for tool, run in TOOLS.items()}
    for name, expected in answers["numpy"].items():
        for tool in TOOLS:
            np.testing.assert_allclose(
                list(answers[tool][name].values()), list(expected.values()), rtol=1e-5, atol=1e-6
            )
    times: dict[str, list[float]] = {tool: [] for tool in TOOLS}
    for _ in range(ROUNDS):
        for tool, run in TOOLS.items():
            start = time.perf_counter()
            run(path)
            times[tool].append(time.perf_counter() - start)
    ours = statistics.median(times["lmfacts"])
    for tool, seconds in times.items():
        median = statistics.median(seconds)
        rate = n_bytes / median / 1e9
        name = str(dtype).removeprefix("torch.")
        print(f"{name:9} {tool:8} {rate:6.2f} GB/s   {median / ours:5.1f}x the time of lmfacts")


def peak_memory(folder: Path) -> None:
    """Peak memory over a checkpoint of 2 GB in shards of one tensor each."""
    block = {"weight": torch.randn(4096, 8192)}
    large = folder / "large"
    large.mkdir()
    index = {}
    for shard in range(16):
        file = f"model-{shard + 1:05d}-of-00016.safetensors"
        save_file({f"part.{shard}.weight": block["weight"]}, large / file)
        index[f"part.{shard}.weight"] = file
    (large / "model.safetensors.index.json").write_text(json.dumps({"weight_map": index}))
    program = (
        "import sys, lmfacts; from lmfacts.memory import peak_bytes; lmfacts.scan_weights('demo', spectra=0); "
        "before = peak_bytes(); lmfacts.scan_weights(sys.argv[1], spectra=0); print(before, peak_bytes())"
    )
    done = subprocess.run([sys.executable, "-c", program, str(large)], capture_output=True, text=True, check=True)
    before, after = (int(text) / 1e6 for text in done.stdout.split())
    tensor = block["weight"].nbytes / 1e6
    print(f"peak memory over 2.1 GB: {after:.0f} MB, {after - before:.0f} MB more than before it")
    print(f"largest tensor: {tensor:.0f} MB")


def main() -> None:
    """Both dtypes, then the memory."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        compare(Path(folder), torch.float32)
        compare(Path(folder), torch.bfloat16)
        peak_memory(Path(folder))


if __name__ == "__main__":
    main()
