"""`lmfacts facts`."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmfacts.cli.exit_codes import ExitCode, complain, sentences
from lmfacts.cli.options import JsonOption

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lmfacts.facts import Definition, Fact, Inputs
    from lmfacts.facts.required_verdicts import Requirement

__all__ = ["facts"]

_ALL = "ALL"


@sentences
def facts(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN", help="Run files of one model: at most one of each kind.", show_default=False),
    ],
    *,
    require: Annotated[
        list[str] | None,
        typer.Option(
            "--require",
            metavar="ID[=VERDICT]",
            help="Exit with 4 unless the fact HOLDS, or has the verdict given: BODY-ONLY (HOLDS is enough too) or "
            "FAILS. INCONCLUSIVE, NOT-APPLICABLE and MEASURED never do; may be repeated.",
            show_default=False,
        ),
    ] = None,
    explain: Annotated[
        list[str] | None,
        typer.Option(
            "--explain",
            metavar="ID",
            help="Show a fact in full instead of the table, or all of them with 'all'; may be repeated.",
            show_default=False,
        ),
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option("--only", metavar="ID", help="Check this fact only; may be repeated.", show_default="all"),
    ] = None,
    json: JsonOption = False,
) -> ExitCode:
    """Check the catalogue of facts on the runs of a model: a verdict for each, with the evidence behind it.

    An incomplete run is checked as it is, and said to be incomplete. Exit code 4: a requirement is not met.
    """
    # Nothing large is multiplied here, and starting threads for that is a tenth of the time of the whole command.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from lmfacts.facts import Inputs, check, definition
    from lmfacts.facts.required_verdicts import Requirement
    from lmfacts.run import load

    known = _catalogue()
    requirements = [Requirement.parse(text) for text in require or ()]
    wanted = {definition(fact_id, known).id for fact_id in only} if only else set()
    in_full = {definition(fact_id, known).id for fact_id in explain or () if fact_id.upper() != _ALL}
    if any(fact_id.upper() == _ALL for fact_id in explain or ()):
        in_full |= wanted or set(known)
    chosen = (wanted | in_full | {each.fact_id for each in requirements}) if only or in_full else set(known)

    inputs = Inputs.of(map(load, runs))
    judged = check(inputs, only=sorted(chosen), known=known)
    if json:
        from lmfacts.cli.output import print_json
        from lmfacts.render.terminal.facts_json import facts_json

        print_json(facts_json(inputs, judged, requirements=requirements, explained=in_full))
    else:
        _print(inputs, judged, requirements, in_full)
    return _judge(inputs, judged, requirements)


def _catalogue() -> Mapping[str, Definition]:
    """All facts that are installed, and a sentence for each that is left out."""
    from lmfacts.facts import catalogue

    with warnings.catch_warnings(record=True) as left_out:
        warnings.simplefilter("always")
        known = catalogue()
    for warning in left_out:
        complain(str(warning.message))
    return known


def _print(inputs: Inputs, facts: Sequence[Fact], requirements: Sequence[Requirement], in_full: set[str]) -> None:
    """The table, or the facts that were asked for in full."""
    from rich.text import Text

    from lmfacts.cli.output import print_result
    from lmfacts.facts import definition
    from lmfacts.render.terminal.fact_page import render_fact
    from lmfacts.render.terminal.facts_header import FactsHeader
    from lmfacts.render.terminal.facts_table import render_facts, render_requirements

    if not in_full:
        print_result(render_facts(inputs, facts, requirements))
        return
    print_result(FactsHeader(inputs))
    for fact in facts:
        if fact.id in in_full:
            print_result(Text(""))
            print_result(render_fact(fact, definition(fact.id)))
    if requirements:
        print_result(render_requirements(facts, requirements))


def _judge(inputs: Inputs, facts: Sequence[Fact], requirements: Sequence[Requirement]) -> ExitCode:
    """A sentence for each requirement that is not met, and the exit code."""
    by_id = {fact.id: fact for fact in facts}
    missing = [text for each in requirements if (text := each.shortfall(by_id[each.fact_id])) is not None]
    if requirements:
        for run in inputs.runs:
            if not run.complete:
                reason = run.incomplete_reason or "the reason was not recorded"
                complain(f"{run.path} is incomplete ({reason}); it was checked as it is")
    for sentence in missing:
        complain(sentence)
    return ExitCode.FACT_FAILED if missing else ExitCode.FINE
