"""What a check of the catalogue gives: a verdict, and the evidence that it rests on."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Cell", "Evidence", "Fact", "Measure", "Table", "Verdict"]

Cell = str | int | float | bool | None
"""A cell of a table: text, or a number that whoever draws it formats; None and NaN are drawn as a dash."""


class Verdict(StrEnum):
    """What the evidence says of a claim."""

    HOLDS = "HOLDS"
    BODY_ONLY = "BODY-ONLY"
    """The body of the distribution is Gaussian, the rest of the claim does not hold (F1, F8)."""
    FAILS = "FAILS"
    INCONCLUSIVE = "INCONCLUSIVE"
    """Too little data, or an interval that spans a threshold."""
    NOT_APPLICABLE = "NOT-APPLICABLE"
    """The runs lack what it needs, or the model has nothing that it speaks of."""
    MEASURED = "MEASURED"
    """A panel of measurements that makes no claim (F15)."""

    @property
    def words(self) -> str:
        """As it is shown to people: what is said is said of the claim, about this model."""
        return _WORDS[self]


_WORDS: Final = {
    Verdict.HOLDS: "holds here",
    Verdict.BODY_ONLY: "body only",
    Verdict.FAILS: "not so here",
    Verdict.INCONCLUSIVE: "open",
    Verdict.NOT_APPLICABLE: "not applicable",
    Verdict.MEASURED: "measured",
}


@dataclass(frozen=True)
class Measure:
    """One number behind a verdict.

    Attributes:
        name: what it is, in words (`median excess kurtosis`).
        value: the number; NaN where it has no meaning.
        threshold: what it is compared with, in words (`<= 0.3`), or empty.
        passed: whether it is on the side of the claim, or None where it decides nothing.
        interval: 90 % interval over blocks of sequences, or None.
        note: a remark, or empty.
    """

    name: str
    value: float
    threshold: str = ""
    passed: bool | None = None
    interval: tuple[float, float] | None = None
    note: str = ""


@dataclass(frozen=True)
class Table:
    """Rows of evidence, such as one for each layer.

    Attributes:
        title: what the rows are.
        columns: names of the columns.
        rows: the cells; each row as long as `columns`.
        note: how to read it, or empty.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    note: str = ""


@dataclass(frozen=True)
class Evidence:
    """Why a verdict is what it is.

    Attributes:
        measures: the deciding numbers first.
        tables: the rows behind them.
        notes: sentences on what the reader should know (what was not recorded, which cause is likely).
    """

    measures: tuple[Measure, ...] = ()
    tables: tuple[Table, ...] = ()
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fact:
    """An entry of the catalogue as it stands for one model.

    Attributes:
        id: `F1`.
        title: a few words.
        claim: the claim, as a sentence.
        source: who made it, with a link or identifier.
        verdict: what the evidence says.
        summary: one sentence with the deciding numbers, without the verdict's word in front.
        evidence: the numbers and tables behind it.
        fact_class: the class within the verdict where a fact has classes (`sub-threshold spikes`), or None.
        command: for NOT-APPLICABLE, the command that would supply what is missing, or None.
        looser: the verdict that thresholds 10 % looser would have given, or None where nothing was judged.
        stricter: the same for thresholds 10 % stricter.
        package: which distribution the fact comes from; empty for those of lmfacts.
    """

    id: str
    title: str
    claim: str
    source: str
    verdict: Verdict
    summary: str
    evidence: Evidence = field(default_factory=Evidence, repr=False)  # thousands of numbers
    fact_class: str | None = None
    command: str | None = None
    looser: Verdict | None = None
    stricter: Verdict | None = None
    package: str = ""

    def to_json(self) -> dict[str, Any]:
        """The fact as a JSON document; NaN and infinities become null."""
        return {
            "id": self.id,
            "title": self.title,
            "claim": self.claim,
            "source": self.source,
            "package": self.package or None,
            "verdict": str(self.verdict),
            "class": self.fact_class,
            "summary": self.summary,
            "command": self.command,
            "looser": self.looser and str(self.looser),
            "stricter": self.stricter and str(self.stricter),
            "evidence": {
                "measures": [
                    {
                        "name": measure.name,
                        "value": _finite(measure.value),
                        "threshold": measure.threshold or None,
                        "passed": measure.passed,
                        "interval": None if measure.interval is None else _list(measure.interval),
                        "note": measure.note or None,
                    }
                    for measure in self.evidence.measures
                ],
                "tables": [
                    {
                        "title": table.title,
                        "columns": list(table.columns),
                        "rows": [_list(row) for row in table.rows],
                        "note": table.note or None,
                    }
                    for table in self.evidence.tables
                ],
                "notes": list(self.evidence.notes),
            },
        }


def _finite(value: Cell) -> Cell:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _list(cells: Sequence[Cell]) -> list[Cell]:
    return [_finite(cell) for cell in cells]
