"""One fact in full: what is claimed, how it is measured, every number beside its threshold, and what others found.

`python -m lmfacts.render.terminal.fact_page ID RUN.lmfacts...` prints one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.text import Text

from lmfacts.facts.fact import Verdict
from lmfacts.facts.intervals import COVERAGE
from lmfacts.facts.strictness import STEP_IN_WORDS
from lmfacts.render.terminal.console import paragraph, result_console, section
from lmfacts.render.terminal.facts_header import Title
from lmfacts.render.terminal.run_header import LabeledLines
from lmfacts.render.terminal.verdicts import neighbors, verdict_text
from lmfacts.render.terminal.wrapped_rows import WrappedColumn, WrappedRows
from lmfacts.writing.cells import cell, whole_or_number

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import RenderableType

    from lmfacts.facts import Definition, Fact, Measure, Table

__all__ = ["render_fact"]

_TEXT_WIDTH: Final = 24
"""What text among numbers may take before it wraps."""


def render_fact(fact: Fact, definition: Definition) -> RenderableType:
    """One fact in full.

    The result adapts to the width of the console that prints it: text wraps, and a table that is too wide goes on below
    itself. Nothing is left out.

    Args:
        fact: the fact as it stands for a model.
        definition: its entry in the catalogue.
    """
    evidence = fact.evidence
    lines: list[tuple[str, str | Text]] = [("verdict", verdict_text(fact.verdict))]
    lines += [
        (name, text)
        for name, text in (
            ("", neighbors(fact)),
            ("class", fact.fact_class),
            ("found", fact.summary),
            ("claim", fact.claim),
            ("source", fact.source),
            ("supply", fact.command if fact.verdict is Verdict.NOT_APPLICABLE else None),
        )
        if text
    ]
    parts: list[RenderableType] = [Title(f"{fact.id} {fact.title}"), LabeledLines(lines)]
    if evidence.measures:
        said = [COVERAGE] if any(one.interval for one in evidence.measures) else []
        said += [STEP_IN_WORDS] if neighbors(fact) else []
        below = [part for text in said for part in (Text(""), paragraph(text))]
        parts.append(section("Numbers", _measures(evidence.measures), *below))
    if evidence.notes:
        parts.append(section("Notes", _listed(evidence.notes)))
    if definition.thresholds:
        parts.append(section("From numbers to a verdict", _listed(definition.thresholds)))
    if definition.measured or definition.formula:
        measured = [paragraph(definition.measured)] if definition.measured else []
        formula = WrappedRows([WrappedColumn(), WrappedColumn(wraps=True)], [("", line) for line in definition.formula])
        blank = [Text("")] if definition.measured and definition.formula else []
        parts.append(section("How it is measured", *measured, *blank, formula if definition.formula else None))
    parts += [_table(table) for table in evidence.tables]
    if definition.objections:
        rows = [(Text(objection.who, style="bold"), objection.what) for objection in definition.objections]
        columns = [WrappedColumn(wraps=True), WrappedColumn(wraps=True)]
        parts.append(section("Objections", WrappedRows(columns, rows)))
    if definition.published:
        parts.append(_published(definition))
    return Group(*parts)


def _measures(measures: Sequence[Measure]) -> RenderableType:
    """The numbers, each with what it is compared with and whether it is on the side of the claim."""
    with_interval = any(measure.interval is not None for measure in measures)
    with_threshold = any(measure.threshold or measure.passed is not None for measure in measures)
    columns = [WrappedColumn("quantity", wraps=True), WrappedColumn("value", "right")]
    columns += [WrappedColumn("90 % interval", "right")] if with_interval else []
    columns += [WrappedColumn("threshold", wraps=True), WrappedColumn()] if with_threshold else []
    rows: list[list[str | Text]] = []
    for measure in measures:
        name = Text(measure.name)
        if measure.note:
            name.append(f"\n({measure.note})", style="italic")
        row: list[str | Text] = [name, whole_or_number(measure.value)]
        if with_interval:
            row.append(" to ".join(map(whole_or_number, measure.interval)) if measure.interval is not None else "")
        if with_threshold:
            row += [measure.threshold, _passed(measure.passed)]
        rows.append(row)
    return WrappedRows(columns, rows)


def _passed(passed: bool | None) -> Text:
    if passed is None:
        return Text("")
    return Text("met", style="cyan") if passed else Text("not met", style="magenta")


def _listed(lines: Sequence[str]) -> RenderableType:
    return WrappedRows([WrappedColumn(), WrappedColumn(wraps=True)], [("-", line) for line in lines], gap=1)


def _table(table: Table) -> RenderableType:
    """Rows of evidence: numbers to the right, text to the left."""
    columns, cells = [], []
    for index, name in enumerate(table.columns):
        values = [row[index] for row in table.rows]
        is_text = any(isinstance(value, str) for value in values)
        columns.append(WrappedColumn(name, "left" if is_text else "right", wraps=is_text, least=_TEXT_WIDTH))
        cells.append([cell(value, name) for value in values])
    note = [paragraph(table.note)] if table.note else []
    body: RenderableType = WrappedRows(columns, list(zip(*cells, strict=True))) if table.rows else paragraph("None.")
    return Group(Text(""), Title(table.title), *note, body)


def _published(definition: Definition) -> RenderableType:
    """What others measured, with how sure it is."""
    names = ("model", "quantity", "value", "source", "")
    columns = [WrappedColumn(name, wraps=bool(name)) for name in names]
    rows = [
        [value.model, value.quantity, value.value, value.source, value.confidence] for value in definition.published
    ]
    marks = f"{definition.confidence_marks}."
    return section("What others published", WrappedRows(columns, rows), Text(""), paragraph(marks))


if __name__ == "__main__":
    import sys

    from lmfacts.facts import check, definition
    from lmfacts.run import load

    (shown,) = check(map(load, sys.argv[2:]), only=[sys.argv[1]])
    result_console().print(render_fact(shown, definition(shown.id)))
