"""From runs and facts to a page."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from lmfacts.facts import Inputs, Verdict, check, definition
from lmfacts.facts.runs_view import RunsView
from lmfacts.render.page.document import Page
from lmfacts.render.page.fact_section import fact_section
from lmfacts.render.page.largest_values import largest_values_section
from lmfacts.render.page.method import method_section
from lmfacts.render.page.model_name import model_name
from lmfacts.render.page.opening import introduction, runs_section, verdict_table, warnings
from lmfacts.run import Run
from lmfacts.writing.visible_text import shell_word

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lmfacts.charts import Figure
    from lmfacts.facts import Fact

__all__ = ["build_page"]


def build_page(runs: Run[Any] | Iterable[Run[Any]] | Inputs, facts: Sequence[Fact] | None = None) -> Page:
    """The page about one model.

    Args:
        runs: a run, or at most one of each kind, of one model.
        facts: the facts to show, in order; by default all of the catalogue are checked.

    Raises:
        UsageError: no runs, or two of one kind.
        MismatchedRunsError: runs of different models.
        MissingExtraError: matplotlib is not installed.
    """
    if isinstance(runs, Run):
        runs = [runs]
    inputs = runs if isinstance(runs, Inputs) else Inputs.of(runs)
    shown = check(inputs) if facts is None else list(facts)
    view = RunsView(inputs)
    sections = [runs_section(view)]
    name = model_name(inputs.model_id)
    for fact in shown:
        section = fact_section(_without_paths(fact, inputs), definition(fact.id), _figures(fact, view))
        sections.append(section)
    largest = largest_values_section(view)
    sections += [largest] if largest is not None else []
    sections.append(method_section(view))
    return Page(
        title=name,
        subtitle="Facts about its internals",
        opening=(*warnings(view), *introduction(shown), verdict_table(shown)),
        sections=tuple(sections),
    )


def _without_paths(fact: Fact, inputs: Inputs) -> Fact:
    """A fact whose commands have the name of a model that is a file instead of its path: others are to read a page."""
    name = model_name(inputs.model_id)
    if name == inputs.model_id:
        return fact
    path, word = inputs.model_argument, shell_word(name)
    command = None if fact.command is None else fact.command.replace(path, word)
    notes = tuple(note.replace(path, word) for note in fact.evidence.notes)
    return replace(fact, command=command, evidence=replace(fact.evidence, notes=notes))


def _figures(fact: Fact, view: RunsView) -> list[Figure]:
    return [] if fact.verdict is Verdict.NOT_APPLICABLE else definition(fact.id).figures_from(view)
