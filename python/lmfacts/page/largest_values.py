"""The largest values of the residual stream, with the tokens they sit on and the text around them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lmfacts import formats
from lmfacts.page.document import Column, Paragraph, Section, TableBlock
from lmfacts.page.words import context_of, token
from lmfacts.report.largest_values import find_largest
from lmfacts.report.run_view import POPULATION_TITLES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmfacts.page.document import Block, Words
    from lmfacts.page.runs_view import RunsView
    from lmfacts.report.largest_values import LargestValue

__all__ = ["largest_values_section"]

_EXPLANATION: Final = (
    "one row for each dim, with the token that the value sits on. Characters that cannot be seen are escaped. The last "
    "column counts the tokens of the other largest values of the same dim."
)
_MOST_ROWS: Final = 10
_LEAST_SHARE: Final = 0.01
"""Share of the largest value that a row's value has at least."""

_MOST_TOKENS: Final = 4


def largest_values_section(view: RunsView) -> Section | None:
    """The section, or None where no activations or no largest values were recorded."""
    if view.activations is None:
        return None
    found = {population: find_largest(view.activations, population) for population in view.activations.populations}
    if not any(found.values()):
        return None
    where = "in the residual stream" if view.activations.depths else "at all sites"
    contexts = view.activations.run.metadata.get("token_context") or {}
    blocks: list[Block] = [Paragraph((f"The largest magnitudes {where}, {_EXPLANATION}",))]
    for population, largest in found.items():
        shown = [item for item in largest if abs(item.value) >= _LEAST_SHARE * abs(largest[0].value)][:_MOST_ROWS]
        if shown:
            blocks.append(_table(POPULATION_TITLES[population], shown, contexts))
    return Section("largest-values", "The largest values and their tokens", tuple(blocks))


def _table(title: str, largest: Sequence[LargestValue], contexts: dict[str, dict[str, str]]) -> TableBlock:
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
            (formats.signed(item.value, 4).replace("-", "\N{MINUS SIGN}"),),
            (str(item.dim),),
            (item.site,),
            (token(item.token_id, item.token),),
        ]
        if contexts:
            cells.append((context_of(contexts.get(f"{item.sequence}:{item.position}")),))
        cells += [(str(item.sequence),), (str(item.position),), _tokens(item)]
        rows.append(tuple(cells))
    return TableBlock(tuple(columns), tuple(rows), title, layout="stacked")


def _tokens(item: LargestValue) -> Words:
    """The most frequent tokens with how often each occurs."""
    words: list[object] = []
    for number, (token_id, text, n) in enumerate(item.tokens[:_MOST_TOKENS]):
        words += [", " if number else "", token(token_id, text), f" {n}\N{MULTIPLICATION SIGN}"]
    if len(item.tokens) > _MOST_TOKENS:
        words.append(", …")
    return tuple(word for word in words if word)  # type: ignore[misc]  # mypy loses the type here
