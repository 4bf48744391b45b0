"""What a scan shows while it runs: a live view on a terminal, a line now and then elsewhere.

Both are context managers and are called with each `Progress`. The live view draws at most once per second, and computes
the figures of the sites only as long as all its work is within 1 % of the time that went by.
"""

from __future__ import annotations

import re
import sys
import time
from typing import IO, TYPE_CHECKING, Final, Protocol, Self

from rich.console import Group
from rich.live import Live
from rich.text import Text

from lmfacts.analysis.run_view import RESIDUAL_KINDS
from lmfacts.quantities.site_figures import SiteFigures
from lmfacts.render.terminal.console import BULK, PROBLEM, on_terminal, progress_console
from lmfacts.render.terminal.depth_table import evenly, histogram_text, histogram_width
from lmfacts.render.terminal.table import Column, NumberTable
from lmfacts.writing import numbers
from lmfacts.writing.visible_text import visible_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from types import TracebackType

    from rich.console import Console, RenderableType

    from lmfacts.scans.progress import Progress

__all__ = ["LiveView", "PlainProgress", "ProgressView", "live_sites", "progress_view"]

_SHARE_OF_TIME: Final = 0.01
_ALLOWANCE_S: Final = 0.3
"""Time that the view may take before it has been up long enough to have earned it."""

_FIXED_LINES: Final = 8
"""Lines that are not rows: three of progress, one for a problem, three of headings, and the one the cursor is on."""

_RESIDUAL: Final = re.compile(rf"blocks\.(\d+)\.({'|'.join(RESIDUAL_KINDS)})")


class ProgressView(Protocol):
    """Something that shows progress: entered once, called after each batch, and left."""

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...

    def __call__(self, progress: Progress) -> None:
        """Take note of where the scan stands."""


def progress_view(console: Console | None = None, *, interval_s: float = 10.0) -> ProgressView:
    """The live view where the console is a terminal, plain lines where it is not.

    Args:
        console: where to show progress; by default standard error.
        interval_s: seconds between plain lines.
    """
    shown = progress_console() if console is None else console
    if on_terminal(shown.file):
        return LiveView(shown)
    return PlainProgress(shown.file, interval_s=interval_s)


def live_sites(names: Sequence[str], most: int) -> list[str]:
    """The sites to show: those of the residual stream where there are any, evenly spaced by depth."""
    for kind in RESIDUAL_KINDS:
        stream = [name for name in names if (m := _RESIDUAL.fullmatch(name)) and m[2] == kind]
        if stream:
            return evenly(stream, most)
    return evenly(names, most)


class LiveView:
    """A view of a running scan that is redrawn in place, and gone without a trace at the end but for one line."""

    def __init__(
        self, console: Console, *, interval_s: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """A view on a terminal.

        Args:
            console: a console on that terminal, of standard error.
            interval_s: the least number of seconds between two refreshes.
            clock: gives the time in seconds.
        """
        self.console = console
        self.interval_s = interval_s
        self._clock = clock
        self._started_at = self._shown_at = float("-inf")
        self._spent_s = 0.0
        self._last: Progress | None = None
        self._shown_stage = ""
        self._sites: list[RenderableType] = []
        self._sites_size = (0, 0)
        # What goes to standard output while the view is up must not land on standard error, unless both are the screen.
        self._live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            vertical_overflow="crop",
            redirect_stdout=sys.stdout.isatty(),
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        if kind is None and self._last is not None and self._last.n_tokens:
            self.console.print(Text(_end_line(self._last)))

    def __call__(self, progress: Progress) -> None:
        """Redraw, unless that was done a moment ago; a note is printed above, and stays."""
        if progress.note:
            self.console.print(Text(f"note: {progress.note}"))
            return
        self._last = progress
        start = self._clock()
        if self._shown_stage == "":
            self._started_at = start
        if start < self._shown_at + self.interval_s and progress.stage == self._shown_stage:
            return
        self._shown_stage = progress.stage
        self._live.update(self.screen(progress), refresh=True)
        self._shown_at = self._clock()
        self._spent_s += self._shown_at - start

    def screen(self, progress: Progress) -> RenderableType:
        """What is shown for a state of the scan, at the console's present size."""
        size = width, height = self.console.size
        within_budget = self._spent_s <= _ALLOWANCE_S + _SHARE_OF_TIME * (self._clock() - self._started_at)
        if within_budget or size != self._sites_size:
            self._sites = self._site_lines(progress, width, height - _FIXED_LINES)
            self._sites_size = (width, height)
        return Group(self._bar(progress, width), *_status(progress), *self._sites)

    def _bar(self, progress: Progress, width: int) -> Text:
        """The first line: what is done, and how much of it."""
        head = Text(f"{progress.stage} ", style="bold", no_wrap=True, overflow="ellipsis")
        name_width = max(width - 50, 20)
        name = visible_line(progress.model)
        name = name if len(name) <= name_width else f"…{name[1 - name_width :]}"
        head.append(f"{name}  ", style="not bold")
        percent = "" if progress.fraction is None else f" {100 * progress.fraction:3.0f} %"
        room = min(width - head.cell_len - len(percent) - 1, 60)
        if progress.stage == "loading" or room < 10:  # noqa: PLR2004  too short to say anything
            return head
        head.append_text(_rule(progress.fraction, room, self._clock()))
        return head.append(percent, style="not bold")

    def _site_lines(self, progress: Progress, width: int, most_rows: int) -> list[RenderableType]:
        """The table of sites by depth under a title, ready to be shown again; and what is wrong with one of them."""
        if progress.site is None or most_rows < 1 or progress.stage == "loading":
            return []
        names = live_sites(progress.site_names, most_rows)
        matches = [_RESIDUAL.fullmatch(name) for name in names]
        kinds = {match[2] if match else "" for match in matches}
        in_stream = all(matches) and len(kinds) == 1
        title = f"residual stream ({kinds.pop()})" if in_stream else "sites"
        labels = [m[1] if m else name for m, name in zip(matches, names, strict=True)]
        columns = [
            Column("layer") if in_stream else Column("site", "left", shrink_to=16, cut="start"),
            Column("   distribution", "left"),
            Column("std"),
            Column("ex. kurtosis", keep=90),
            Column("median dim", keep=40),
            Column("largest"),
            Column("dim"),
            Column("largest", keep=50, group="position 0"),
            Column("dim", keep=50, group="position 0"),
        ]
        rows: list[list[str | Text]] = []
        problem = None
        for name, label in zip(names, labels, strict=True):
            site = progress.site(name)
            first = SiteFigures(site.first)
            shown = SiteFigures(site.rest if site.rest.n_tokens else site.all)
            n_nonfinite = shown.n_nonfinite + (first.n_nonfinite if shown.site.population == "rest" else 0)
            if n_nonfinite and problem is None:
                problem = Text(f"{n_nonfinite:,} NaN or infinities at {name}", style=PROBLEM, no_wrap=True)
            if shown.n_values:
                rows.append(
                    [
                        label,
                        histogram_text(shown, histogram_width(width)),
                        numbers.number(shown.std),
                        numbers.signed(shown.excess_kurtosis),
                        numbers.signed(shown.median_dim_excess_kurtosis, 2),
                        numbers.number(shown.largest),
                        str(shown.largest_dim),
                        numbers.number(first.largest),
                        str(first.largest_dim) if first.n_values else "-",
                    ]
                )
        if not rows:
            return []
        lines = self.console.render_lines(NumberTable(columns, rows), pad=False)
        table = [Text.assemble(*((segment.text, segment.style or "") for segment in line)) for line in lines]
        for line in table:
            line.no_wrap = True
        heading = Text(f"  {title}, position 0 apart", style="bold", no_wrap=True, overflow="ellipsis")
        return [problem or Text(""), heading, *table]


class PlainProgress:
    """One line at the start, one every so many seconds, one at the end: for logs and redirected output."""

    def __init__(
        self, stream: IO[str], *, interval_s: float = 10.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Progress as lines.

        Args:
            stream: where to write.
            interval_s: seconds between two lines.
            clock: gives the time in seconds.
        """
        self.stream = stream
        self.interval_s = interval_s
        self._clock = clock
        self._next_at = float("-inf")
        self._stage = ""
        self._last: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None and self._last is not None and self._last.n_tokens:
            self._write(_end_line(self._last))

    def __call__(self, progress: Progress) -> None:
        """Write a line if a new stage began or the time has come; a note at once."""
        if progress.note:
            self._write(f"note: {progress.note}")
            return
        self._last = progress
        now = self._clock()
        if progress.stage != self._stage:
            if progress.stage != "saving":
                self._write(f"{progress.stage} {progress.model}")
            self._stage = progress.stage
            self._next_at = now + self.interval_s
        elif now >= self._next_at:
            self._write(" · ".join(_parts(progress)))
            self._next_at = now + self.interval_s

    def _write(self, line: str) -> None:
        self.stream.write(f"{visible_line(line)}\n")
        self.stream.flush()


def _rule(fraction: float | None, width: int, now_s: float) -> Text:
    """A heavy line over a light one: as long as the share that is done, or a piece that travels if that is unknown."""
    if fraction is None:
        piece = max(width // 5, 1)
        at = int(now_s * 8) % (width - piece + 1)
        parts = (at, piece, width - at - piece)
    else:
        done = round(min(max(fraction, 0.0), 1.0) * width)
        parts = (0, done, width - done)
    before, heavy, after = parts
    return Text("─" * before).append("━" * heavy, style=f"bold {BULK}").append("─" * after)


def _status(progress: Progress) -> list[Text]:
    """Speed and time left; then memory and overhead."""
    if progress.stage == "loading":
        return []
    parts = _parts(progress)[1 if progress.fraction is not None else 0 :]
    lines = [[part for part in parts if not _is_cost(part)], [part for part in parts if _is_cost(part)]]
    return [Text("  " + " · ".join(line), no_wrap=True, overflow="ellipsis") for line in lines if line]


def _is_cost(part: str) -> bool:
    return part.startswith(("memory", "accumulators", "overhead"))


def _parts(progress: Progress) -> list[str]:
    """The state of a scan in a few phrases."""
    parts = [] if progress.fraction is None else [f"{100 * progress.fraction:.0f} %"]
    total = f" of {progress.n_tokens_total:,}" if progress.n_tokens_total is not None else ""
    parts.append(f"{progress.n_tokens:,}{total} tokens")
    if progress.n_tokens and progress.elapsed_s > 0:
        parts.append(f"{progress.tokens_per_s:,.0f} tokens/s")
    remaining = progress.remaining_s
    parts.append(
        f"{numbers.duration(progress.elapsed_s)} so far" if remaining is None else f"{numbers.duration(remaining)} left"
    )
    if progress.memory_bytes:
        parts.append(f"memory {numbers.file_size(progress.memory_bytes)}")
    if progress.state_bytes:
        parts.append(f"accumulators {numbers.file_size(progress.state_bytes)}")
    if progress.overhead is not None:
        parts.append(f"overhead {numbers.percent(progress.overhead)} of the model's time")
    return parts


def _end_line(progress: Progress) -> str:
    overhead = "" if progress.overhead is None else f", overhead {numbers.percent(progress.overhead)}"
    return (
        f"{progress.model}: {progress.n_tokens:,} tokens in {numbers.duration(progress.elapsed_s)} "
        f"({progress.tokens_per_s:,.0f} tokens/s{overhead})"
    )


if __name__ == "__main__":
    from lmfacts.render.terminal.example_run import example_run
    from lmfacts.scans.progress import Progress

    run = example_run()
    with progress_view() as view:
        for step in range(31):
            view(
                Progress(
                    "scanning",
                    "example",
                    n_tokens=20_000 * step,
                    n_tokens_total=600_000,
                    fraction=step / 30,
                    elapsed_s=step / 5,
                    model_s=step / 6,
                    lmfacts_s=step / 90,
                    memory_bytes=1_234_567_890,
                    state_bytes=28_300_000,
                    site_names=tuple(run),
                    site=run.__getitem__,
                )
            )
            time.sleep(0.2)
