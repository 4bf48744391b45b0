"""How every benchmark here measures: what is compared runs in turn, and what is told are medians, spreads and ratios.

`interleaved` times variants round by round, so that a slow moment of the machine meets all of them. A `Figure` is one
comparison, a ratio wherever there is something to compare with; it may carry a target. A `Report` is what a benchmark
found. `command` makes a script of a function that gives a report.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

__all__ = [
    "Figure",
    "Report",
    "Spread",
    "Target",
    "command",
    "interleaved",
    "keep_memory",
    "one_thread",
    "ratios",
    "show_figures",
    "spread",
    "wide_console",
    "written",
]


@dataclass(frozen=True)
class Spread:
    """The median of repetitions, the quartiles around it, and how many there were."""

    median: float
    low: float
    high: float
    n: int


def spread(values: Iterable[float]) -> Spread:
    """Median and quartiles; the extremes where there are fewer than four values."""
    found = sorted(values)
    low, high = (found[0], found[-1]) if len(found) < 4 else statistics.quantiles(found, n=4, method="inclusive")[::2]
    return Spread(statistics.median(found), low, high, len(found))


@dataclass(frozen=True)
class Target:
    """A bound that the design sets: what it says, and whether a smaller value is the better one."""

    bound: float
    at_most: bool
    text: str

    def met(self, value: float) -> bool:
        """Whether a value keeps it."""
        return value <= self.bound if self.at_most else value >= self.bound


@dataclass(frozen=True)
class Figure:
    """One comparison.

    Attributes:
        what: what was measured.
        beside: what it was measured against, or how where there is nothing to compare with.
        value: of the rounds; a ratio unless `unit` says otherwise.
        unit: `x` for ratios, `%` for shares, else a unit of measurement.
        target: what the design asks for, if it asks.
    """

    what: str
    beside: str
    value: Spread
    unit: str = "x"
    target: Target | None = None

    @property
    def verdict(self) -> str:
        """`met`, `not met`, or nothing where there is no target."""
        return "" if self.target is None else "met" if self.target.met(self.value.median) else "not met"


@dataclass
class Report:
    """What a benchmark found.

    Attributes:
        name: of the script, without its ending.
        settings: what was run, and how.
        figures: the comparisons.
        times: of every variant, in seconds; for the record, not for claims.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    times: dict[str, Spread] = field(default_factory=dict)

    def add_times(self, taken: Mapping[str, Sequence[float]], prefix: str = "") -> None:
        """Keep the medians of variants that were timed."""
        self.times |= {f"{prefix}{name}": spread(seconds) for name, seconds in taken.items()}

    def to_json(self) -> dict[str, Any]:
        """As plain data, with the verdicts."""
        figures = [{**asdict(figure), "verdict": figure.verdict} for figure in self.figures]
        return {**asdict(self), "figures": figures}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Report:
        """The report that gave this data."""
        figures = [
            Figure(
                entry["what"],
                entry["beside"],
                Spread(**entry["value"]),
                entry["unit"],
                None if entry["target"] is None else Target(**entry["target"]),
            )
            for entry in data["figures"]
        ]
        times = {name: Spread(**entry) for name, entry in data["times"].items()}
        return cls(data["name"], dict(data["settings"]), figures, times)


def interleaved(
    variants: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    warm_up: int = 1,
    around: Mapping[str, Callable[[], AbstractContextManager[object]]] | None = None,
) -> dict[str, list[float]]:
    """Seconds of each variant in each round, all variants in turn; each round begins with another one.

    Args:
        variants: what to run.
        rounds: how often.
        warm_up: rounds before those that count.
        around: for some variants, a context that is entered before the clock starts and left after it stopped.
    """
    taken: dict[str, list[float]] = {name: [] for name in variants}
    contexts = around or {}
    for round_ in range(-warm_up, rounds):
        order = list(variants)
        for name in order[round_ % len(order) :] + order[: round_ % len(order)]:
            run = variants[name]
            with contexts.get(name, nullcontext)():
                start = time.perf_counter()
                run()
                elapsed = time.perf_counter() - start
            if round_ >= 0:
                taken[name].append(elapsed)
    return taken


def ratios(above: Sequence[float], below: Sequence[float]) -> Spread:
    """The ratio of two variants, round by round."""
    return spread(a / b for a, b in zip(above, below, strict=True))


def keep_memory() -> None:
    """Start the script again with a C library that gives no freed memory below 32 MB back to the system.

    glibc's thresholds for that adapt as a process runs. The tensors of a forward pass then come from fresh pages in
    some passes, with a page fault for every 4 KiB, and from used ones in others, and which variant of a comparison
    meets which is chance. On SmolLM2-135M that is worth 0.5 s of a pass of 3.4 s, more than recording adds. With all
    memory kept, a bare pass is at its fastest, so that what is added to it counts for most.
    """
    kept = {"MALLOC_MMAP_THRESHOLD_": str(32 << 20), "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
    if any(os.environ.get(name) != value for name, value in kept.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | kept)


def one_thread() -> None:
    """One thread for torch and for lmfacts; what else is compared here has no more."""
    import torch

    from lmfacts import _native

    torch.set_num_threads(1)
    _native.set_num_threads(1)


def command(
    measure: Callable[[argparse.Namespace], Report],
    description: str | None,
    arguments: Callable[[argparse.ArgumentParser], object] = lambda _: None,
) -> None:
    """Run a benchmark as a script: print what it found; `--json FILE` keeps it."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=None, help="write the report to this file")
    arguments(parser)
    options = parser.parse_args()
    report = measure(options)
    console = wide_console()
    for name, value in report.settings.items():
        console.print(f"{name}: {value}", highlight=False)
    console.print(show_figures(report.figures))
    if options.json is not None:
        options.json.write_text(json.dumps(report.to_json(), indent=1), encoding="utf-8")


def wide_console() -> Console:
    """The terminal, or 160 columns where the output goes elsewhere."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def show_figures(figures: Iterable[Figure], title: str | None = None) -> Table:
    """A table of comparisons."""
    table = Table(title=title, title_justify="left")
    table.add_column("what")
    table.add_column("beside")
    for column in ("median", "quartiles", "n"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("target")
    table.add_column("", no_wrap=True)
    for figure in figures:
        value, colour = figure.value, {"met": "green", "not met": "red"}.get(figure.verdict, "")
        table.add_row(
            figure.what,
            figure.beside,
            f"{written(value.median)} {figure.unit}",
            f"{written(value.low)} to {written(value.high)}" if value.n > 1 else "",
            str(value.n),
            "" if figure.target is None else figure.target.text,
            f"[{colour}]{figure.verdict}[/]" if colour else "",
        )
    return table


def written(value: float) -> str:
    """Three digits, or all of a whole number's."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
