"""Run all benchmarks, show what was found in one table, and write the record.

    make bench
    python benches/run_all.py [--only updates overhead] [--quick] [--record NAME]

Each benchmark is a process of its own, one after the other. With `--quick` there are few rounds; with it, or with
`--only`, a record is written only if it is given a name. The exit code says whether all ran, not whether targets are
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

from machine import machine, versions
from measuring import Report, show_figures, wide_console
from record import figures_of, write_record

HERE = Path(__file__).resolve().parent


@dataclass(frozen=True)
class Bench:
    """A script, its arguments, and those that make it short."""

    script: str
    arguments: tuple[str, ...] = ()
    quick: tuple[str, ...] = ("--rounds", "2")


BENCHES = {
    "overhead": Bench("overhead.py", quick=("--rounds", "1")),
    "hook_cost": Bench("hook_cost.py", quick=("--rounds", "10")),
    "updates": Bench("updates.py"),
    "updates (Rust)": Bench("rust_benches.py", ("--bench", "updates"), quick=("--filter", "update/f32/gaussian")),
    "kernels": Bench(
        "rust_benches.py", ("--bench", "kernels", "--filter", "/memory"), quick=("--filter", "codes/f32/gaussian")
    ),
    "memory": Bench("memory.py", quick=("--tokens", "200000")),
    "weights": Bench("weights.py", quick=("--rounds", "1")),
    "read_run": Bench("read_run.py"),
}


def run(name: str, *, quick: bool) -> Report:
    """Run a benchmark and read its report."""
    bench = BENCHES[name]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "report.json"
        line = [sys.executable, str(HERE / bench.script), *bench.arguments, *(bench.quick if quick else ())]
        done = subprocess.run([*line, "--json", str(path)], capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{name} failed:\n{done.stderr}")
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


def main() -> None:
    """Run what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--only", nargs="+", choices=list(BENCHES), default=None, metavar="NAME", help=", ".join(BENCHES)
    )
    parser.add_argument("--quick", action="store_true", help="few rounds")
    parser.add_argument("--record", default=None, metavar="NAME", help="name of the record, by default cpu")
    options = parser.parse_args()
    console = wide_console()
    reports = []
    for name in options.only or BENCHES:
        console.print(f"{name} ...")
        reports.append(run(name, quick=options.quick))
    console.print(show_figures(figures_of(reports)))
    whole = options.only is None and not options.quick
    if whole or options.record is not None:
        write_record(HERE / "record", options.record or "cpu", head(), reports)
        console.print(f"written: benches/record/{options.record or 'cpu'}.md and .json")


if __name__ == "__main__":
    main()
