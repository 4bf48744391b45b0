"""The largest values of the residual stream, with the tokens they sit on and the text around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lmfacts.analysis.largest_values import largest_values
from lmfacts.render.page.document import Column, Paragraph, Section, TableBlock
from lmfacts.render.page.words import context_of, token
from lmfacts.render.terminal.largest_values import WHAT_A_DASH_SAYS
from lmfacts.render.terminal.populations import POPULATION_TITLES
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lmfacts.analysis.largest_values import LargestValue
    from lmfacts.facts.runs_view import RunsView
    from lmfacts.render.page.document import Block, Words
    from lmfacts.run.info import ContextInfo

__all__ = ["largest_values_section"]

_EXPLANATION: Final = (
    "one row for each dim, with the token that the value sits on. Characters that cannot be seen are escaped. The last "
    "column counts the tokens of the other largest values of the same dim."
)
_MOST_ROWS: Final = 10
_LEAST_SHARE: Final = 0.01
"""Share of the largest value that a row's value has at least."""

_MOST_TOKENS: Final = 4
_NOTHING: Final = "\N{EN DASH}"


def largest_values_section(view: RunsView) -> Section | None:
    """The section, or None where no activations or no largest values were recorded."""
    if view.activations is None:
        return None
    by_population = {
        population: _shown(largest_values(view.activations, population, _MOST_ROWS))
        for population in view.activations.populations
    }
    if not any(by_population.values()):
        return None
    unknown = any(item.position is None for largest in by_population.values() for item in largest)
    where = "in the residual stream" if view.activations.depths else "at all sites"
    contexts = view.activations.run.info.token_context
    explanation = f"{_EXPLANATION} {WHAT_A_DASH_SAYS}" if unknown else _EXPLANATION
    blocks: list[Block] = [Paragraph((f"The largest magnitudes {where}, {explanation}",))]
    for population, largest in by_population.items():
        if largest:
            blocks.append(_table(POPULATION_TITLES[population], largest, contexts))
    return Section("largest-values", "The largest values and their tokens", tuple(blocks))


def _shown(largest: Sequence[LargestValue]) -> list[LargestValue]:
    """Those that are not next to nothing beside the first."""
    return [item for item in largest if abs(item.value) >= _LEAST_SHARE * abs(largest[0].value)]


def _table(title: str, largest: Sequence[LargestValue], contexts: Mapping[str, ContextInfo]) -> TableBlock:
    columns = [
        Column("value", numeric=True),
        Column("dim", numeric=True, label="dim"),
        Column("site"),
        Column("token"),
    ]
    columns += [Column("in the text", long=True)] if contexts else []
    columns += [
        Column("sequence", numeric=True, label="sequence"),
        Column("position", numeric=True, label="position"),
        Column("tokens of the dim", long=True, label="tokens of the dim:"),
    ]
    rows = []
    for item in largest:
        cells: list[Words] = [
            (numbers.signed(item.value, 4).replace("-", "\N{MINUS SIGN}"),),
            (str(item.dim),),
            (item.site,),
            (_NOTHING if item.token_id is None else token(item.token_id, item.token),),
        ]
        if contexts:
            cells.append((context_of(contexts.get(f"{item.sequence}:{item.position}")),))
        cells += [(_index(item.sequence),), (_index(item.position),), _tokens(item) or (_NOTHING,)]
        rows.append(tuple(cells))
    return TableBlock(tuple(columns), tuple(rows), title, layout="stacked")


def _index(value: int | None) -> str:
    return _NOTHING if value is None else str(value)


def _tokens(item: LargestValue) -> Words:
    """The most frequent tokens with how often each occurs."""
    words: list[object] = []
    for number, (token_id, text, n) in enumerate(item.tokens[:_MOST_TOKENS]):
        words += [", " if number else "", token(token_id, text), f" {n}\N{MULTIPLICATION SIGN}"]
    if len(item.tokens) > _MOST_TOKENS:
        words.append(", …")
    return tuple(word for word in words if word)  # type: ignore[misc]  # mypy loses the type here
