"""Run all benchmarks within a budget of time, show what was found in one table, and write the record.

    make bench
    python benches/run_all.py [--budget MINUTES] [--only updates overhead] [--record NAME]

Each benchmark is a process of its own, one after the other, and is given a share of the time that is left; it stops by
itself after as many rounds as that has time for, so a slow machine gets fewer of them. Compiling the Rust benchmarks
comes first and is not counted. A record is written, under the name of the processor, if all benchmarks ran with at
least the usual budget; else only if it is given a name. The exit code says whether all ran, not whether targets are
met.
"""

from __future__ import annotations

import argparse
import datetime as dt
import json
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from machine import machine, record_name, versions
from measuring import Clock, Report, show_figures, wide_console
from record import figures_of, write_record

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Bench:
    """A script, its share of the time relative to the others', and its arguments."""

    script: str
    share: float
    arguments: tuple[str, ...] = ()


BENCHES = {
    "overhead": Bench("overhead.py", 9),
    "hook_cost": Bench("hook_cost.py", 1),
    "updates": Bench("updates.py", 3),
    "updates (Rust)": Bench("rust_benches.py", 1.5, ("--bench", "updates")),
    "kernels": Bench("rust_benches.py", 2.5, ("--bench", "kernels", "--filter", "/memory")),
    "memory": Bench("memory.py", 2),
    "weights": Bench("weights.py", 2.5),
    "read_run": Bench("read_run.py", 1.5),
}
BUDGET = 15.0
"""Minutes."""


def build() -> None:
    """Compile the Rust benchmarks."""
    line = ["cargo", "bench", "--quiet", "--locked", "--package", "lmfacts-core", "--no-run"]
    subprocess.run(line, cwd=HERE.parent, check=True)


def run(name: str, seconds: float) -> Report:
    """Run a benchmark for so many seconds and read its report.

    Raises:
        RuntimeError: with what the benchmark said, if it failed.
    """
    bench = BENCHES[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        line = [sys.executable, str(HERE / bench.script), *bench.arguments, "--seconds", f"{max(0.0, seconds):.0f}"]
        done = subprocess.run([*line, "--json", str(path)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(done.stderr)
        report = Report.from_json(json.loads(path.read_text(encoding="utf-8")))
    report.name = name
    return report


def head() -> dict[str, Any]:
    """When, on what and with what; `commit` ends in + where the tree had changes of its own."""

    def git(*arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=HERE, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    commit = git("rev-parse", "--short", "HEAD") + ("+" if git("status", "--porcelain", "--untracked-files=no") else "")
    date = dt.datetime.now(dt.UTC).date().isoformat()
    return {"date": date, "commit": commit, "machine": machine(), "versions": versions()}


def main() -> int:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=list(BENCHES), default=None, metavar="NAME", help=", ".join(BENCHES)
    )
    parser.add_argument("--budget", type=float, default=BUDGET, metavar="MINUTES", help=f"by default {BUDGET:.0f}")
    parser.add_argument("--record", default=None, metavar="NAME", help="name of the record, by default the processor's")
    options = parser.parse_args()
    console = wide_console()
    names = options.only or list(BENCHES)
    if any(BENCHES[name].script == "rust_benches.py" for name in names):
        console.print("compiling the Rust benchmarks ...")
        build()
    clock, seconds = Clock(60 * options.budget), {}
    reports: list[Report] = []
    failed: list[str] = []
    for index, name in enumerate(names):
        share = BENCHES[name].share / sum(BENCHES[later].share for later in names[index:])
        given, before = share * clock.left, clock.left
        console.print(f"{name}: {max(0.0, given):.0f} s ...")
        try:
            reports.append(run(name, given))
        except RuntimeError as error:
            failed.append(name)
            console.print(f"{name} failed:\n{error}", style="red", markup=False)
        seconds[name] = before - clock.left
    console.print(show_figures(figures_of(reports)))
    console.print(f"{sum(seconds.values()) / 60:.1f} minutes, of {options.budget:.3g}")
    is_whole = options.only is None and options.budget >= BUDGET and not failed
    if is_whole or options.record is not None:
        information = head() | {"budget_s": 60 * options.budget, "seconds": seconds}
        name = options.record or record_name(information["machine"])
        write_record(HERE / "record", name, information, reports)
        console.print(f"written: benches/record/{name}.md and .json")
    if failed:
        console.print(f"failed: {', '.join(failed)}", style="red")
    return 1 if failed else 0


if __name__ == "__main__":
    raise SystemExit(main())
