"""The facts whose verdict changed, and the numbers behind facts that moved most."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from rich.text import Text

from lmfacts.render.terminal.console import STANDOUT, paragraph, section
from lmfacts.render.terminal.table import Column, NumberTable
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from lmfacts.comparison import Comparison, FactChange
    from lmfacts.facts import Fact

__all__ = ["FactsChanged"]

_MOST_MEASURES: Final = 10
_LEAST: Final = 1e-3
"""Numbers that changed by less than this share are not listed."""


class FactsChanged:
    """The section on facts; nothing where neither a verdict nor a number behind one changed."""

    def __init__(self, comparison: Comparison) -> None:
        """The section of a comparison."""
        self.changed = comparison.changed_facts
        self.paired = comparison.paired
        moved = [
            (fact, measure)
            for fact in comparison.facts
            for measure in fact.measures
            if not measure.relative_change <= _LEAST
        ]
        self.moved = sorted(moved, key=lambda item: (not _crossing(item[1].passed), -_size(item[1].relative_change)))

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        parts: list[RenderableType] = []
        if self.changed:
            parts.append(NumberTable(_VERDICTS, [self._verdict_row(fact) for fact in self.changed]))
            for fact in self.changed:
                parts += [Text(""), *(_summary(fact.id, side, one) for side, one in (("A", fact.a), ("B", fact.b)))]
        if self.moved:
            n_more = len(self.moved) - _MOST_MEASURES
            parts += [Text("")] * bool(parts)
            parts += [
                paragraph(
                    f"The numbers behind facts that moved most{self._order()}.",
                    "" if self.paired else " On different text a part of each move is the text's.",
                ),
                Text(""),
                NumberTable(
                    _MEASURES,
                    [
                        [
                            fact.id,
                            measure.name,
                            numbers.number(measure.a),
                            numbers.number(measure.b),
                            _change(measure.a, measure.b),
                            measure.threshold,
                            Text(_crossing(measure.passed), style=STANDOUT),
                        ]
                        for fact, measure in self.moved[:_MOST_MEASURES]
                    ],
                ),
            ]
            if n_more > 0:
                parts.append(paragraph(f"and {n_more:,} more that moved less"))
        if parts:
            yield section("Facts", *parts)

    def _order(self) -> str:
        crossed = any(_crossing(measure.passed) for _, measure in self.moved)
        return ", those that crossed a threshold first" if crossed else ""

    @staticmethod
    def _verdict_row(fact: FactChange) -> list[str | Text]:
        return [fact.id, fact.title, _verdict(fact.a), Text(_verdict(fact.b), style=STANDOUT)]


_VERDICTS: Final = (
    Column("fact", "left"),
    Column("", "left", shrink_to=16),
    Column("A", "left", shrink_to=8),
    Column("B", "left", shrink_to=8),
)

_MEASURES: Final = (
    Column("fact", "left"),
    Column("number", "left", shrink_to=20),
    Column("A"),
    Column("B"),
    Column("change", keep=90),
    Column("threshold", "left", keep=70),
    Column("", "left", keep=80),
)


def _verdict(fact: Fact) -> str:
    return f"{fact.verdict.words} ({fact.fact_class})" if fact.fact_class else fact.verdict.words


def _summary(fact_id: str, side: str, fact: Fact) -> RenderableType:
    return paragraph(Text(f"{fact_id} in {side}: ", style="bold"), fact.summary)


def _change(a: float, b: float) -> str:
    return numbers.signed(b - a, 2)


def _crossing(passed: tuple[bool | None, bool | None]) -> str:
    before, after = passed
    if before == after or None in passed:
        return ""
    return "passes now" if after else "fails now"


def _size(relative_change: float) -> float:
    return relative_change if relative_change == relative_change else 2.0  # noqa: PLR0124  NaN: it came or went
