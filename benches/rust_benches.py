"""The Criterion benchmarks as reports: the speed of kernels and updates as a share of a pure read of the same memory.

    python benches/rust_benches.py [--bench updates] [--filter REGEX] [--seconds S]

Runs `cargo bench` and reads the times that its benchmarks leave; each pass over the values is followed by a pure read
of them, and the ratio is that of such pairs. Those for which no time was left are counted in the settings.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from measuring import Figure, Report, Target, command
from spreads import ratios, spread

if TYPE_CHECKING:
    import argparse

TOP = Path(__file__).resolve().parents[1]
SHARE = Target(25, at_most=False, text="at least 25 %")
LEAST_SECONDS = 1.0
"""Enough for one benchmark, where no time is left."""
TARGET_IDS = ("update/f32/gaussian/", "/1-thread")


def measure(options: argparse.Namespace) -> Report:
    """Run one of them."""
    from machine import machine

    best = machine()["simd"]
    cargo = ["cargo", "bench", "--quiet", "--locked", "--package", "lmfacts-core", "--bench", options.bench]
    listing = [*cargo, "--", options.filter, "--list"]
    listed = subprocess.run(listing, cwd=TOP, check=True, stdout=subprocess.PIPE, text=True).stdout
    n_cases = sum(line.endswith(": benchmark") for line in listed.splitlines())
    with tempfile.TemporaryDirectory() as folder:
        times = Path(folder) / "times.jsonl"
        environment = os.environ | {"LMFACTS_BENCH_TIMES": str(times)}
        if math.isfinite(options.clock.left):
            seconds = max(LEAST_SECONDS, options.clock.left)
            environment |= {"LMFACTS_BENCH_SECONDS": str(seconds), "LMFACTS_BENCH_CASES": str(n_cases)}
        subprocess.run([*cargo, "--", options.filter], cwd=TOP, env=environment, check=True, stdout=subprocess.DEVNULL)
        cases = [json.loads(line) for line in times.read_text(encoding="utf-8").splitlines()]
    report = Report(options.bench, {"memory": f"{cases[0]['n_bytes'] >> 20} MiB", "values": {}})
    report.settings["benchmarks that there was time for"] = f"{len(cases)} of {n_cases}"
    report.rounds["fewest"] = min(len(case["seconds"]) for case in cases)
    report.rounds["most"] = max(len(case["seconds"]) for case in cases)
    for case in cases:
        name = case["id"]
        report.settings["values"][name] = case["n_values"]
        report.times[name] = spread(case["seconds"])
        share = ratios([100 * read for read in case["read_s"]], case["seconds"])
        is_target = name == best.join(TARGET_IDS)
        report.figures.append(Figure(name, "a pure read", share, "%", SHARE if is_target else None))
    return report


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--bench", choices=["kernels", "updates"], default="updates")
    parser.add_argument("--filter", default="", help="a regular expression of ids")


if __name__ == "__main__":
    command(measure, __doc__, arguments)
