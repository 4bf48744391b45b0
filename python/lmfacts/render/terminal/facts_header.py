"""What facts were checked on: the top of the table of verdicts, and of a fact in full."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.cells import cell_len
from rich.text import Text

from lmfacts.render.terminal.console import PROBLEM, heading
from lmfacts.render.terminal.run_header import LabeledLines
from lmfacts.writing import numbers
from lmfacts.writing.visible_text import visible_line

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from lmfacts.facts import Inputs
    from lmfacts.run import Run

__all__ = ["FactsHeader", "Title"]


class Title:
    """A heading that wraps where it is too long."""

    def __init__(self, title: str) -> None:
        """A heading of this text."""
        self.title = visible_line(title)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if cell_len(self.title) <= options.max_width:
            yield heading(self.title)
            return
        for line in Text(self.title, style="bold").wrap(console, options.max_width):
            line.rstrip()
            yield line


class FactsHeader:
    """The model and the runs; a run that is not complete is said to be so."""

    def __init__(self, inputs: Inputs) -> None:
        """The header of facts checked on these runs."""
        self.inputs = inputs

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        inputs = self.inputs
        yield Title(f"{inputs.model_id}: facts")
        rows: list[tuple[str, str | Text]] = [("model", _model(inputs))]
        for run in inputs.runs:
            rows.append((run.kind, _described(run)))
            if not run.complete:
                reason = (run.incomplete_reason or "the reason was not recorded").rstrip(".")
                rows.append(("", Text(f"NOT COMPLETE: {reason}. Verdicts rest on what there is.", style=PROBLEM)))
        yield LabeledLines([(name, value) for name, value in rows if value])


def _model(inputs: Inputs) -> str:
    """What the runs say of the model, each thing by the first that knows it."""

    def said(key: str) -> Any:
        return next((run.model[key] for run in inputs.runs if run.model.get(key)), None)

    sizes = [f"{said(key):,} {word}" for key, word in (("n_layers", "layers"), ("n_dims", "dims")) if said(key)]
    parameters = said("n_parameters")
    return _joined(
        said("architecture") or said("family"),
        ", ".join(sizes),
        f"{numbers.approximate(parameters)} parameters" if isinstance(parameters, int) else "",
        f"revision {str(said('revision'))[:12]}" if said("revision") else "",
    )


def _described(run: Run[Any]) -> str:
    if not run.info.run_kind.reads_text:
        what = [_number(len(run), "tensor"), run.model.format]
    else:
        what = [
            f"{_number(run.n_tokens, 'token')} in {_number(run.n_sequences, 'sequence')}",
            _number(len(run), "site"),
            run.model.dtype,
            run.corpus.shown_name,
        ]
    return _joined("not saved" if run.path is None else run.path, *what)


def _number(n: int, one: str) -> str:
    return f"{n:,} {one}{'' if n == 1 else 's'}"


def _joined(*parts: object) -> str:
    return " · ".join(str(part) for part in parts if part)
