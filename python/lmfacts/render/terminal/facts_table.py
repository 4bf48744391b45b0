"""All facts of a model at a glance: verdict, title and summary of each, and what would supply the missing ones.

`python -m lmfacts.render.terminal.facts_table RUN.lmfacts...` prints one.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from rich.cells import cell_len
from rich.console import Group
from rich.text import Text

from lmfacts.facts.fact import Verdict
from lmfacts.render.terminal.console import paragraph, result_console, section
from lmfacts.render.terminal.facts_header import FactsHeader
from lmfacts.render.terminal.verdicts import MEANINGS, verdict_text
from lmfacts.render.terminal.wrapped_rows import WrappedColumn, WrappedRows
from lmfacts.writing.visible_text import shell_word

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console, ConsoleOptions, RenderableType

    from lmfacts.facts import Fact, Inputs
    from lmfacts.facts.required_verdicts import Requirement

__all__ = ["FactsTable", "render_facts", "render_requirements"]

_ARGUMENT: Final = re.compile(r"""(?:[^\s'"]|'[^']*'|"[^"]*")+""")


def render_facts(inputs: Inputs, facts: Sequence[Fact], requirements: Sequence[Requirement] = ()) -> RenderableType:
    """The table of verdicts under a header that says what they rest on.

    The result adapts to the width of the console that prints it: text wraps, nothing is cut.

    Args:
        inputs: the runs that the facts were checked on.
        facts: the facts to show, in order.
        requirements: what was required of them, to be shown as met or not.
    """
    parts: list[RenderableType] = [FactsHeader(inputs), Text(""), FactsTable(facts)]
    if requirements:
        parts.append(render_requirements(facts, requirements))
    parts.append(_legend(facts))
    hint = _explain_hint(inputs, facts)
    if hint:
        parts.append(Group(Text(""), paragraph("One fact in full, with its evidence:"), _Command(hint)))
    return Group(*parts)


class FactsTable:
    """One row for each fact; what several of them lack is said once, below."""

    def __init__(self, facts: Sequence[Fact]) -> None:
        """The table of these facts."""
        self.facts = list(facts)
        lacking = [fact for fact in self.facts if fact.verdict is Verdict.NOT_APPLICABLE and fact.command]
        said = Counter((fact.command, fact.summary) for fact in lacking)
        self._shared = {key for key, n in said.items() if n > 1}
        self._lacking: dict[str, list[Fact]] = {}
        for fact in lacking:
            self._lacking.setdefault(fact.command or "", []).append(fact)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[RenderableType]:
        columns = [WrappedColumn("fact"), WrappedColumn("verdict"), WrappedColumn(wraps=True)]
        yield WrappedRows(
            columns,
            [[Text(fact.id, style="bold"), verdict_text(fact.verdict), self._text(fact)] for fact in self.facts],
        )
        for command, facts in self._lacking.items():
            why = dict.fromkeys(fact.summary for fact in facts if (command, fact.summary) in self._shared)
            ids = ", ".join(fact.id for fact in facts)
            yield Text("")
            yield paragraph(Text(ids, style="bold"), f": {' '.join([*why, 'This command supplies it:'])}")
            yield _Command(command)

    def _text(self, fact: Fact) -> Text:
        """Title and class, and the summary below them."""
        text = Text(fact.title, style="bold")
        if fact.fact_class:
            text.append(f" (found: {fact.fact_class})", style="not bold")
        if fact.package:
            text.append(f" (of {fact.package})", style="not bold")
        if fact.summary and (fact.command, fact.summary) not in self._shared:
            text.append(f"\n{fact.summary}", style="not bold")
        return text


def render_requirements(facts: Sequence[Fact], requirements: Sequence[Requirement]) -> RenderableType:
    """What was required, what was found, and whether that is enough."""
    by_id = {fact.id: fact for fact in facts}
    rows: list[list[str | Text]] = []
    for requirement in requirements:
        fact = by_id[requirement.fact_id]
        met = requirement.is_met(fact)
        mark = Text("✓ met", style="bold green") if met else Text("✗ NOT MET", style="bold red")
        rows.append([mark, Text(str(requirement), style="bold"), f"is {fact.verdict}"])
    return section("Required", WrappedRows([WrappedColumn()] * 3, rows))


def _legend(facts: Sequence[Fact]) -> RenderableType:
    """The verdicts that occur, how often, what they mean, and what `--require` and JSON call them."""
    counts = Counter(fact.verdict for fact in facts)
    rows: list[list[str | Text]] = [
        [verdict_text(verdict), str(counts[verdict]), f"{MEANINGS[verdict]} ({verdict})"]
        for verdict in Verdict
        if counts[verdict]
    ]
    return section(
        "Verdicts", WrappedRows([WrappedColumn(), WrappedColumn(align="right"), WrappedColumn(wraps=True)], rows)
    )


def _explain_hint(inputs: Inputs, facts: Sequence[Fact]) -> str:
    """The command that shows a fact in full, where the runs have files."""
    decided = [fact for fact in facts if fact.verdict is not Verdict.NOT_APPLICABLE]
    paths = [run.path for run in inputs.runs]
    if not decided or None in paths:
        return ""
    return " ".join(["lmfacts facts", *(shell_word(str(path)) for path in paths), "--explain", decided[0].id])


class _Command:
    """A command on a line of its own; a long one goes on below, so that it can still be pasted."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterable[Text]:
        room = max(options.max_width - 6, 1)
        lines: list[str] = []
        for argument in _ARGUMENT.findall(self.command):
            longer = f"{lines[-1]} {argument}" if lines else argument
            if lines and cell_len(longer) > room:
                lines.append(f"  {argument}")
            else:
                lines[-1:] = [longer]
        for number, line in enumerate(lines, 1):
            whole = Text(f"    {line}{' ' + chr(92) if number < len(lines) else ''}")
            for part in whole.wrap(console, options.max_width):
                part.rstrip()
                yield part


if __name__ == "__main__":
    import sys

    from lmfacts.facts import Inputs, check
    from lmfacts.run import load

    checked = Inputs.of(map(load, sys.argv[1:]))
    result_console().print(render_facts(checked, check(checked)))
