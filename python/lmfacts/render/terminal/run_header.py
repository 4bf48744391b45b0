"""What was scanned, how, and what went wrong: the top of the summary."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from lmfacts.render.terminal.console import PROBLEM, heading, paragraph, visible_cell
from lmfacts.run.statistics.dim_moments import DimMomentArrays
from lmfacts.stats.codes import is_exact
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from lmfacts.analysis.run_view import RunView
    from lmfacts.run import Run
    from lmfacts.run.info import ModelInfo

__all__ = ["LabeledLines", "NonfiniteSite", "RunHeader", "n_copies", "never_reached", "nonfinite_sites", "notes"]

_MOST_NAMES: Final = 8


@dataclass(frozen=True, slots=True)
class NonfiniteSite:
    """A site where NaN or infinities were found, over all tokens.

    Attributes:
        name: the site.
        n_nan, n_inf: how many there are.
        n_dims_hit: the number of dims that have some.
    """

    name: str
    n_nan: int
    n_inf: int
    n_dims_hit: int


def nonfinite_sites(view: RunView) -> list[NonfiniteSite]:
    """The sites with NaN or infinities, in order of depth."""
    nonfinite = []
    for name in view.run:
        site = view.site(name)
        per_dim = sum(DimMomentArrays(part).dim_counts[0] for part in (site.state.first, site.state.rest))
        if per_dim.any():
            nonfinite.append(NonfiniteSite(name, site.n_nan, site.n_inf, int((per_dim > 0).sum())))
    return nonfinite


def never_reached(run: Run[Any]) -> list[str]:
    """The sites that no token reached, in order of depth."""
    return [entry.name for entry in run.info.entries if not entry.was_reached]


def n_copies(run: Run[Any]) -> int:
    """The number of tensors that had to be copied before they could be read."""
    return sum(entry.n_copies or 0 for entry in run.coverage.values())


class RunHeader:
    """The top of the summary: problems first, then what was scanned."""

    def __init__(self, view: RunView) -> None:
        """The header of a run."""
        self.view = view
        self.run = view.run

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        run = self.run
        yield heading(f"{run.model.id or 'unnamed model'}: {run.kind}")
        rows: list[tuple[str, str | Text]] = [
            (name, value)
            for name, value in (
                ("model", _model(run.model)),
                ("text", _text(run)),
                ("recorded", _recorded(run)),
                ("time", _time(run)),
                ("file", _file(run)),
            )
            if value
        ]
        state = Text("complete") if run.complete else Text(f"NOT COMPLETE: {_reason(run)}", style=PROBLEM)
        yield LabeledLines([*rows, ("state", state)])
        yield from self._problems()

    def _problems(self) -> list[RenderableType]:
        run = self.run
        problems: list[RenderableType] = []
        missed = never_reached(run)
        if missed:
            verb = "site was" if len(missed) == 1 else "sites were"
            problems.append(paragraph(Text(f"{len(missed)} {verb} never reached: {_names(missed)}.", style=PROBLEM)))
        hit = nonfinite_sites(self.view)
        if hit:
            first = hit[0]
            where = f"first, by depth, at {first.name} ({first.n_nan:,} NaN, {first.n_inf:,} infinities, in "
            where += f"{first.n_dims_hit} dim{'s' if first.n_dims_hit != 1 else ''})"
            others = f"; then at {_names([site.name for site in hit[1:]])}" if len(hit) > 1 else ""
            n_sites = f"{len(hit)} site{'s' if len(hit) > 1 else ''}"
            problems.append(paragraph(Text(f"NaN or infinities at {n_sites}: {where}{others}.", style=PROBLEM)))
        copies = n_copies(run)
        if copies:
            noun = "tensor" if copies == 1 else "tensors"
            problems.append(paragraph(f"{copies:,} {noun} had to be copied before it could be read."))
        problems += [paragraph(f"Note: {note}") for note in notes(run)]
        if problems:
            problems.insert(0, Text(""))
        return problems


class LabeledLines:
    """A bold name and a value on each line; long values go on below themselves."""

    def __init__(self, rows: Sequence[tuple[str, str | Text]]) -> None:
        """Lines from names and values."""
        self.rows = list(rows)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        margin = 4 + max((len(name) for name, _ in self.rows), default=0)
        for name, value in self.rows:
            text = visible_cell(value)
            for number, line in enumerate(text.wrap(console, max(min(options.max_width, 120) - margin, 10))):
                line.rstrip()
                start = Text("  ").append(name, style="bold") if number == 0 else Text()
                start.pad_right(margin - start.cell_len)
                yield start.append_text(line)


def _model(model: ModelInfo) -> str:
    sizes = [f"{n:,} {word}" for n, word in ((model.n_layers, "layers"), (model.n_dims, "dims")) if n]
    parts = [model.architecture or model.family, ", ".join(sizes), model.dtype]
    if model.device:
        parts.append(f"on {model.device}")
    if model.revision:
        parts.append(f"revision {model.revision[:12]}")
    return _joined(parts)


def _text(run: Run[Any]) -> str:
    corpus = run.corpus
    what = corpus.shown_name
    length = run.settings.seq_len
    sequences = f"{numbers.counted(run.n_tokens, 'token')} in {numbers.counted(run.n_sequences, 'sequence')}"
    return _joined([f"{sequences} of up to {length:,}" if length is not None else sequences, what])


def _recorded(run: Run[Any]) -> str:
    n_sites = len(run)
    n_values = sum(entry.n_recorded for entry in run.info.entries)
    dtypes = sorted({entry.dtype for entry in run.info.entries if entry.dtype})
    exact = {True: "every value counted exactly", False: "cells of at most 0.8 % for quantiles and histograms"}
    states = {is_exact(dtype) for dtype in dtypes}
    return _joined(
        [
            f"{n_sites:,} site{'s' if n_sites != 1 else ''}",
            f"{numbers.approximate(n_values)} values",
            ", ".join(dtypes),
            exact[states.pop()] if len(states) == 1 else "",
        ]
    )


def _time(run: Run[Any]) -> str:
    timing = run.timing
    wall, model, own = timing.wall_s, timing.model_s, timing.lmfacts_s
    parts = []
    if wall:
        parts.append(f"{numbers.duration(wall)} ({run.n_tokens / wall:,.0f} tokens/s)")
    if model:
        parts.append(f"{numbers.duration(model)} in the model")
        if own is not None:
            parts.append(f"{numbers.duration(own)} in lmfacts: overhead {numbers.percent(own / model)}")
    return _joined(parts)


def _file(run: Run[Any]) -> str:
    """Path and size of the run file, and what the accumulators held."""
    state = run.info.state_bytes or run.settings.state_bytes
    parts = []
    if run.path is not None:
        size = numbers.file_size(run.path.stat().st_size) if run.path.exists() else ""
        parts.append(_joined([str(run.path), size]))
    if isinstance(state, (int, float)):
        parts.append(f"{numbers.file_size(state)} of accumulators in memory")
    return _joined(parts)


def _reason(run: Run[Any]) -> str:
    return (run.incomplete_reason or "the reason was not recorded").rstrip(".")


def notes(run: Run[Any]) -> list[str]:
    """The run's own notes, wherever the scan put them."""
    return list(run.info.notes or run.model.notes or [])


def _names(names: list[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMES])
    return shown if len(names) <= _MOST_NAMES else f"{shown} and {len(names) - _MOST_NAMES} more"


def _joined(parts: list[Any]) -> str:
    return " · ".join(str(part) for part in parts if part)
