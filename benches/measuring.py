"""How every benchmark here measures: what is compared runs in turn, and what is told are medians, spreads and ratios.

`interleaved` times variants round by round, so that a slow moment of the machine meets all of them, for as many rounds
as were asked for or as its `Clock` has time for. A `Figure` is one comparison, a ratio wherever there is something to
compare with; it may carry a target. `spreads.py` has the arithmetic. A `Report` is what a benchmark found. `command`
makes a script of a function that gives a report.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import sys
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from spreads import Spread, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

__all__ = [
    "Clock",
    "Figure",
    "Report",
    "Target",
    "cells",
    "command",
    "interleaved",
    "keep_memory",
    "one_thread",
    "show_figures",
    "wide_console",
    "written",
]

UNLIMITED = 10**6
"""Rounds where only the clock ends them."""


class Clock:
    """The time that is left to a benchmark, or to a part of one."""

    def __init__(self, seconds: float = math.inf) -> None:
        self._end = time.monotonic() + seconds

    @property
    def left(self) -> float:
        """Seconds, infinite without a limit, negative after the end."""
        return self._end - time.monotonic()

    def share(self, part: float) -> Clock:
        """A clock for a share of what is left, from 0 to 1."""
        return Clock(max(0.0, self.left) * part)


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
        """`met`, `not met`, `not known` where a bound does not tell, or nothing where there is no target."""
        if self.target is None:
            return ""
        verdict = "met" if self.target.met(self.value.median) else "not met"
        # A lower bound that is high enough meets "at least"; one that is too low proves nothing. So with upper bounds.
        at_least, at_most = ("not met", "met") if self.target.at_most else ("met", "not met")
        provable = {"at least": at_least, "at most": at_most}.get(self.value.says, verdict)
        # One round's difference covers nothing: it may be all noise.
        is_known = self.value.is_measured and self.value.coverage != 0
        return verdict if is_known and verdict == provable else "not known"


@dataclass
class Report:
    """What a benchmark found.

    Attributes:
        name: of the script, without its ending.
        settings: what was run, and how.
        figures: the comparisons.
        times: of every variant, in seconds; for the record, not for claims.
        rounds: how many each part of it had time for.
    """

    name: str
    settings: dict[str, Any] = field(default_factory=dict)
    figures: list[Figure] = field(default_factory=list)
    times: dict[str, Spread] = field(default_factory=dict)
    rounds: dict[str, int] = field(default_factory=dict)

    def add_times(self, taken: Mapping[str, Sequence[float]], part: str = "") -> None:
        """Keep the medians of variants that were timed in turn, and how many rounds they had; under a part's name."""
        prefix = f"{part}: " if part else ""
        self.times |= {f"{prefix}{name}": spread(seconds) for name, seconds in taken.items()}
        self.rounds[part or "all"] = min(map(len, taken.values()))

    def to_json(self) -> dict[str, Any]:
        """As plain data, with the verdicts; JSON has no NaN, so what was not measurable is null."""
        figures = [{**asdict(figure), "verdict": figure.verdict} for figure in self.figures]
        data: dict[str, Any] = _without_nan({**asdict(self), "figures": figures})
        return data

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Report:
        """The report that gave this data."""
        figures = [
            Figure(
                entry["what"],
                entry["beside"],
                _spread_of(entry["value"]),
                entry["unit"],
                None if entry["target"] is None else Target(**entry["target"]),
            )
            for entry in data["figures"]
        ]
        times = {name: _spread_of(entry) for name, entry in data["times"].items()}
        return cls(data["name"], dict(data["settings"]), figures, times, dict(data["rounds"]))


def _without_nan(data: Any) -> Any:
    """The same data, with None in the place of NaN."""
    if isinstance(data, dict):
        return {key: _without_nan(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_without_nan(value) for value in data]
    return None if isinstance(data, float) and math.isnan(data) else data


def _spread_of(entry: Mapping[str, Any]) -> Spread:
    """The spread that gave this data."""
    numbers = {name: math.nan if entry[name] is None else entry[name] for name in ("median", "low", "high")}
    return Spread(**{**entry, **numbers})


def interleaved(
    variants: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    clock: Clock | None = None,
    warm_up: int = 1,
    around: Mapping[str, Callable[[], AbstractContextManager[object]]] | None = None,
) -> dict[str, list[float]]:
    """Seconds of each variant in each round, all variants in turn; each round begins with another one.

    Only whole rounds count, so every list has the same length. It is zero where the clock left no time for one round.

    Args:
        variants: what to run.
        rounds: how often at most.
        clock: no round begins that would last beyond it, judged by the longest one so far, and none goes on after it.
        warm_up: rounds before those that count. Where there is time for no other, the last of them counts.
        around: for some variants, a context that is entered before the clock starts and left after it stopped.
    """
    clock = clock or Clock()
    done: list[dict[str, float]] = []
    longest = 0.0
    for round_ in range(-warm_up, rounds):
        before = time.monotonic()
        order = list(variants)
        taken = None
        if clock.left > longest:
            taken = _round(order[round_ % len(order) :] + order[: round_ % len(order)], variants, clock, around or {})
        if taken is None:
            break
        done.append(taken)
        longest = max(longest, time.monotonic() - before)
    counted = done[warm_up:] or done[-1:]
    return {name: [taken[name] for taken in counted] for name in variants}


def _round(
    order: Sequence[str],
    variants: Mapping[str, Callable[[], object]],
    clock: Clock,
    around: Mapping[str, Callable[[], AbstractContextManager[object]]],
) -> dict[str, float] | None:
    """Seconds of each variant; none if the clock ran out before the last of them began."""
    taken = {}
    for name in order:
        if clock.left <= 0:
            return None
        run = variants[name]
        with around.get(name, nullcontext)():
            start = time.perf_counter()
            run()
            taken[name] = time.perf_counter() - start
    return taken


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
    *,
    rounds: int = 1,
) -> None:
    """Run a benchmark as a script: print what it found; `--json FILE` keeps it.

    Args:
        measure: is given the options: `rounds`, how many there may be; `clock`, when they end; and its own ones.
        description: for `--help`.
        arguments: adds options of the benchmark's own.
        rounds: if neither `--rounds` nor `--seconds` was given.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, default=None, help="write the report to this file")
    parser.add_argument("--rounds", type=int, default=None, help=f"at most so many rounds; {rounds} if nothing is said")
    parser.add_argument(
        "--seconds",
        type=float,
        default=math.inf,
        help="as many rounds as so many seconds have time for, start included",
    )
    arguments(parser)
    options = parser.parse_args()
    options.rounds = options.rounds or (rounds if math.isinf(options.seconds) else UNLIMITED)
    options.clock = Clock(options.seconds - process_age())
    report = measure(options)
    console = wide_console()
    for name, value in report.settings.items():
        console.print(f"{name}: {value}", highlight=False)
    console.print(show_figures(report.figures))
    if options.json is not None:
        options.json.write_text(json.dumps(report.to_json(), indent=1), encoding="utf-8")


def process_age() -> float:
    """Seconds since this process began, imports included; 0 where the system does not tell."""
    try:
        fields = Path("/proc/self/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    except OSError:
        return 0.0
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def wide_console() -> Console:
    """The terminal, or 160 columns where the output goes elsewhere."""
    console = Console()
    return console if console.is_terminal else Console(width=160)


def show_figures(figures: Iterable[Figure], title: str | None = None) -> Table:
    """A table of comparisons."""
    table = Table(title=title, title_justify="left")
    table.add_column("what")
    table.add_column("beside")
    for column in ("median", "quartiles, or interval", "n"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("target")
    table.add_column("", no_wrap=True)
    for figure in figures:
        colour = {"met": "green", "not met": "red", "not known": "yellow"}.get(figure.verdict, "")
        table.add_row(
            figure.what,
            figure.beside,
            *cells(figure),
            "" if figure.target is None else figure.target.text,
            f"[{colour}]{figure.verdict}[/]" if colour else "",
        )
    return table


def cells(figure: Figure) -> tuple[str, str, str]:
    """A figure's value, what lies around it, and its rounds, as a table has them."""
    value = figure.value
    if not value.is_measured:
        return "not measurable" if value.n else "not measured", "", str(value.n)
    around = f"{written(value.low)} to {written(value.high)}" if value.low < value.high else ""
    coverage = "" if value.coverage is None else f"({value.coverage:.0%})"
    median = f"{value.says} {written(value.median)} {figure.unit}".strip()
    return median, f"{around} {coverage}".strip() if value.n > 1 else "", str(value.n)


def written(value: float) -> str:
    """Three digits, or all of a whole number's."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
