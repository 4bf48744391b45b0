"""What was measured of a checkpoint, what was skipped, and what is wrong: the top of the summary of weights."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from rich.text import Text

from lmfacts.render.terminal.console import PROBLEM, heading, paragraph
from lmfacts.render.terminal.run_header import LabeledLines, notes
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from lmfacts.analysis.weights_view import WeightsView
    from lmfacts.run import Run
    from lmfacts.run.weight import WeightRecord

__all__ = ["WeightsHeader", "dtypes", "skipped_by_reason"]

_MOST_NAMES = 4


def dtypes(view: WeightsView) -> dict[str, int]:
    """What the values are stored as (GGUF's quantization, or the dtype) -> number of values, most frequent first."""
    counter: Counter[str] = Counter()
    for figures in view.figures.values():
        weight = figures.weight
        counter[weight.quantization or weight.stored_dtype] += weight.n + weight.n_nan + weight.n_inf
    return dict(counter.most_common())


def skipped_by_reason(run: Run[WeightRecord]) -> dict[str, list[str]]:
    """Why tensors were skipped -> their names."""
    skipped: Mapping[str, str] = run.info.skipped or {}
    reasons: dict[str, list[str]] = {}
    for name, reason in skipped.items():
        reasons.setdefault(reason, []).append(name)
    return reasons


class WeightsHeader:
    """The top of the summary: what was measured, then problems."""

    def __init__(self, view: WeightsView) -> None:
        """The header of a run."""
        self.view = view
        self.run = view.run

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        run = self.run
        yield heading(f"{run.model.id or 'unnamed model'}: weights")
        rows = [
            ("model", self._model()),
            ("stored", self._stored()),
            ("measured", self._measured()),
            ("tied", self._tied()),
            *(("skipped", f"{_names(names)}: {reason}") for reason, names in skipped_by_reason(run).items()),
            ("time", self._time()),
            ("file", self._file()),
        ]
        state = Text("complete")
        if not run.complete:
            reason = (run.incomplete_reason or "the reason was not recorded").rstrip(".")
            state = Text(f"NOT COMPLETE: {reason}", style=PROBLEM)
        labeled: list[tuple[str, str | Text]] = [(name, value) for name, value in rows if value]
        yield LabeledLines([*labeled, ("state", state)])
        problems = self._problems()
        if problems:
            yield Text("")
            yield from problems

    def _model(self) -> str:
        model = self.run.model
        sizes = [
            model.architecture or model.family,
            _number(model.n_layers, "layer", "layers") if model.n_layers else "",
            f"{numbers.approximate(self._n_parameters())} parameters",
            f"revision {model.revision[:12]}" if model.revision else "",
        ]
        return _joined(sizes)

    def _n_parameters(self) -> int:
        given = self.run.model.n_parameters
        return given if isinstance(given, int) else sum(dtypes(self.view).values())

    def _stored(self) -> str:
        model = self.run.model
        dtypes_stored = dtypes(self.view)
        total = max(sum(dtypes_stored.values()), 1)
        named = [
            name if len(dtypes_stored) == 1 else f"{name} {numbers.percent(n / total)}"
            for name, n in dtypes_stored.items()
        ]
        n_files = model.get("n_files")
        return _joined(
            [
                model.format,
                f"{n_files:,} files" if isinstance(n_files, int) and n_files > 1 else "",
                "" if model.n_bytes is None else numbers.file_size(model.n_bytes),
                ", ".join(named),
            ]
        )

    def _measured(self) -> str:
        weights = [figures.weight for figures in self.view.figures.values()]
        n_matrices = sum(weight.is_matrix for weight in weights)
        n_spectra = sum(weight.singular_values is not None for weight in weights)
        return _joined(
            [
                _number(n_matrices, "matrix", "matrices"),
                _number(len(weights) - n_matrices, "vector", "vectors"),
                f"singular values of {n_spectra:,}" if n_spectra != n_matrices else "with singular values",
            ]
        )

    def _tied(self) -> str:
        tied: Mapping[str, str] = self.run.info.tied or {}
        return ", ".join(f"{name} is {owner}" for name, owner in tied.items())

    def _time(self) -> str:
        wall = self.run.timing.wall_s
        if not wall:
            return ""
        return f"{numbers.duration(wall)} ({numbers.approximate(round(self._n_parameters() / wall))} parameters/s)"

    def _file(self) -> str:
        path = self.run.path
        if path is None:
            return ""
        return _joined([str(path), numbers.file_size(path.stat().st_size) if path.exists() else ""])

    def _problems(self) -> list[RenderableType]:
        weights = [figures.weight for figures in self.view.figures.values()]
        hit = [weight for weight in weights if weight.n_nan or weight.n_inf]
        constant = [weight for weight in weights if weight.is_matrix and weight.n and weight.min == weight.max]
        problems: list[RenderableType] = []
        if hit:
            first = hit[0]
            others = f"; then in {_names([weight.name for weight in hit[1:]])}" if len(hit) > 1 else ""
            sentence = f"{first.n_nan:,} NaN and {first.n_inf:,} infinities in {first.name}{others}."
            problems.append(paragraph(Text(sentence, style=PROBLEM)))
        if constant:
            named = f"All values are equal in {_names([weight.name for weight in constant])}."
            problems.append(paragraph(Text(named, style=PROBLEM)))
        return [*problems, *(paragraph(f"Note: {note}") for note in notes(self.run))]


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMES])
    return shown if len(names) <= _MOST_NAMES else f"{shown} and {len(names) - _MOST_NAMES} more"


def _number(n: int, one: str, many: str) -> str:
    return f"{n:,} {one if n == 1 else many}"


def _joined(parts: Sequence[object]) -> str:
    return " · ".join(str(part) for part in parts if part)
