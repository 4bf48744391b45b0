"""One fact as a section: verdict, figures, numbers, evidence, how it was measured, objections, what others found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lmfacts.facts.fact import Verdict
from lmfacts.render.page.document import (
    CodeBlock,
    Column,
    Details,
    Listing,
    Paragraph,
    Section,
    Strong,
    TableBlock,
)
from lmfacts.render.page.words import cell_text, linked, number, typeset
from lmfacts.render.terminal.verdicts import neighbors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmfacts.charts import Figure
    from lmfacts.facts.definition import Definition
    from lmfacts.facts.fact import Fact, Measure, Table
    from lmfacts.render.page.document import Block, Words

__all__ = ["fact_section", "section_id"]

_SHORT: Final = 8
"""Rows of a table that is shown without being asked for."""

_ONE_LINE: Final = 26
"""Characters of a cell that stay on one line."""


def section_id(fact: Fact) -> str:
    """Where the fact's section is on the page."""
    return fact.id.lower()


def fact_section(fact: Fact, definition: Definition, figures: Sequence[Figure]) -> Section:
    """The section of a fact; short where it does not apply.

    Args:
        fact: the fact as it stands for a model.
        definition: its entry in the catalogue.
        figures: its figures.
    """
    blocks: list[Block] = [_claim(fact)]
    if fact.summary:
        kind: Words = (" Class: ", Strong(fact.fact_class), ".") if fact.fact_class else ()
        blocks.append(Paragraph((*linked(fact.summary), *kind), "lead"))
    if sureness := neighbors(fact):
        blocks.append(Paragraph((f"{sureness[0].upper()}{sureness[1:]}.",), "note"))
    if fact.verdict is Verdict.NOT_APPLICABLE:
        if fact.command:
            blocks += [Paragraph(("What is missing comes from:",)), CodeBlock((fact.command,))]
    else:
        blocks += figures
        blocks += _evidence(fact)
        blocks += _background(definition)
    return Section(section_id(fact), fact.title or fact.id, tuple(blocks), fact.verdict, fact.id)


def _claim(fact: Fact) -> Paragraph:
    source: Words = (" — ", *linked(fact.source)) if fact.source else ()
    return Paragraph((Strong("Claim: "), *linked(fact.claim), *source), "note")


def _evidence(fact: Fact) -> list[Block]:
    evidence = fact.evidence
    blocks: list[Block] = []
    if evidence.measures:
        blocks.append(_measures(evidence.measures))
    if evidence.notes:
        blocks.append(Listing(tuple(linked(note) for note in evidence.notes)))
    for table in evidence.tables:
        drawn = _table(table)
        if len(table.rows) <= _SHORT:
            blocks.append(drawn)
        else:
            title = f"{drawn.title} ({len(table.rows)} rows)"
            blocks.append(Details(title, (TableBlock(drawn.columns, drawn.rows, note=drawn.note),)))
    return blocks


def _measures(measures: Sequence[Measure]) -> TableBlock:
    """The numbers against what they are compared with."""
    with_interval = any(measure.interval is not None for measure in measures)
    with_threshold = any(measure.threshold or measure.passed is not None for measure in measures)
    columns = [Column("number", long=True), Column("value", numeric=True)]
    columns += [Column("90 % interval", numeric=True, label="90 %:")] if with_interval else []
    columns += [Column("threshold"), Column("met")] if with_threshold else []
    rows = []
    for measure in measures:
        cells: list[Words] = [
            (typeset(f"{measure.name} ({measure.note})" if measure.note else measure.name),),
            (number(measure.value),),
        ]
        if with_interval:
            cells.append((" to ".join(map(number, measure.interval)) if measure.interval is not None else "",))
        if with_threshold:
            met = "" if measure.passed is None else "yes" if measure.passed else "no"
            cells += [(typeset(measure.threshold),), (met,)]
        rows.append(tuple(cells))
    return TableBlock(tuple(columns), tuple(rows), "Numbers behind the verdict", layout="stacked")


def _table(table: Table) -> TableBlock:
    columns = []
    for index, name in enumerate(table.columns):
        texts = [cell for row in table.rows if isinstance(cell := row[index], str | bool)]
        is_long = any(isinstance(text, str) and len(text) > _ONE_LINE for text in texts)
        columns.append(Column(typeset(name), numeric=not texts, long=is_long))
    rows = tuple(
        tuple((cell_text(cell, name),) for cell, name in zip(row, table.columns, strict=True)) for row in table.rows
    )
    return TableBlock(tuple(columns), rows, typeset(table.title).replace("`", ""), linked(table.note))


def _background(definition: Definition) -> list[Block]:
    """What no run changes."""
    blocks: list[Block] = []
    how: list[Block] = []
    if definition.measured:
        how.append(Paragraph(linked(definition.measured)))
    if definition.formula:
        how.append(CodeBlock(definition.formula))
    if definition.thresholds:
        how += [
            Paragraph((Strong("From numbers to a verdict"),)),
            Listing(tuple(linked(threshold) for threshold in definition.thresholds)),
        ]
    if how:
        blocks.append(Details("How it is measured", tuple(how)))
    if definition.objections:
        items = tuple((Strong(f"{objection.who}: "), *linked(objection.what)) for objection in definition.objections)
        blocks.append(Details(f"Objections ({len(items)})", (Listing(items),)))
    if definition.published:
        blocks.append(Details(f"What others published ({len(definition.published)})", (_published(definition),)))
    return blocks


def _published(definition: Definition) -> TableBlock:
    columns = tuple(Column(name, long=True) for name in ("model", "quantity", "value", "source"))
    rows: list[tuple[Words, ...]] = [
        ((value.model,), (value.quantity,), (value.value,), linked(value.source), (value.confidence,))
        for value in definition.published
    ]
    return TableBlock((*columns, Column("confidence")), tuple(rows), note=(f"{definition.confidence_marks}.",))
