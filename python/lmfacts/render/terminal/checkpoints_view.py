"""Two checkpoints, or a checkpoint and an adapter, compared, on a screen.

`python -m lmfacts.render.terminal.checkpoints_view A B` prints a comparison.
"""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group
from rich.text import Text

from lmfacts.comparison.matching import without_numbers
from lmfacts.render.terminal.comparison_sites import ranges
from lmfacts.render.terminal.console import STANDOUT, heading, paragraph, result_console, section
from lmfacts.render.terminal.run_header import LabeledLines
from lmfacts.render.terminal.table import Column, NumberTable
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import RenderableType

    from lmfacts.comparison import CheckpointComparison, MatrixChange

__all__ = ["render_checkpoints"]

_MOST_NAMES: Final = 6
_MOST_KINDS: Final = 40


def render_checkpoints(comparison: CheckpointComparison, top: int = 20) -> RenderableType:
    """What is compared, what changed in a sentence, the weights that changed most, and all of them by kind.

    Args:
        comparison: the comparison.
        top: how many of the weights that changed most to list.
    """
    changed = comparison.beyond(0.0)
    return Group(
        heading(f"{comparison.a['source']} (A) and {comparison.b['source']} (B): weights compared exactly"),
        LabeledLines([(name, value) for name, value in _rows(comparison) if value]),
        section("What changed", paragraph(Text(_conclusion(comparison, changed), style="bold"))),
        *((_most(changed, top), _by_kind(comparison)) if changed else ()),
    )


def _rows(comparison: CheckpointComparison) -> list[tuple[str, str]]:
    reasons: dict[str, list[str]] = {}
    for weight in comparison.not_comparable:
        reasons.setdefault(weight.reason, []).append(weight.name)
    left_out = "; ".join(f"{_names(names)}: {reason}" for reason, names in reasons.items())
    return [
        ("A", _described(comparison.a)),
        ("B", _described(comparison.b)),
        ("compared", numbers.counted(len(comparison.changes), "weight")),
        ("only in A", _names(comparison.only_a)),
        ("only in B", _names(comparison.only_b)),
        ("left out", left_out),
        (
            "not finite",
            _names([_not_finite(change) for change in comparison.by_effect if any(change.distance.n_nonfinite)]),
        ),
        *(("note", note) for note in comparison.notes),
    ]


def _not_finite(change: MatrixChange) -> str:
    """`blocks.0.W_Q (no value in A, 3 in B)`; where the numbers are the same, whether the places are."""
    n_a, n_b = change.distance.n_nonfinite
    places = "" if n_a != n_b else ", not the same" if change.distance.n_nonfinite_apart else ", the same"
    return f"{change.name} ({n_a or 'no'} {'value' if n_a in (0, 1) else 'values'} in A, {n_b or 'none'} in B{places})"


def _described(side: Mapping[str, Any]) -> str:
    config = side.get("config")
    if config is not None:
        stabilized = ", rank-stabilized" if config.get("use_rslora") else ""
        return f"LoRA adapter · rank {config.get('r')} · alpha {config.get('lora_alpha')}{stabilized}"
    dtypes = [*side.get("quantizations", {}), *(() if side.get("quantizations") else side.get("dtypes", {}))]
    parts = [
        str(side["format"]),
        side.get("model_type") or "",
        f"revision {str(side['revision'])[:12]}" if side.get("revision") else "",
        ", ".join(dtypes),
        numbers.counted(side["n_values"], "value"),
    ]
    return " · ".join(part for part in parts if part)


def _conclusion(comparison: CheckpointComparison, changed: Sequence[MatrixChange]) -> str:
    every = numbers.counted(len(comparison.changes), "weight")
    if not changed:
        return f"Nothing: every entry of {every} is the same."
    worst = changed[0]
    effects = statistics.median(change.effect for change in comparison.changes)
    text = (
        f"{len(changed):,} of {every} changed. The largest relative change is {numbers.number(worst.effect)}, at "
        f"{worst.name}; the median is {numbers.number(effects, 2)}."
    )
    ranks = [change.spectrum.rank for change in changed if change.spectrum is not None]
    if ranks:
        low, high = min(ranks), max(ranks)
        text += (
            f" Above those of their shuffled entries, the differences of matrices have "
            f"{numbers.counted(low, 'singular value') if low == high else f'{low} to {high} singular values'}."
        )
    return text


def _most(changed: Sequence[MatrixChange], top: int) -> RenderableType:
    columns = [
        Column("weight", "left", shrink_to=20, cut="start"),
        Column("change"),
        Column("cosine", keep=80),
        Column("largest", group="largest |B - A|", keep=85),
        Column("row", group="largest |B - A|", keep=60),
        Column("column", group="largest |B - A|", keep=60),
        Column("rank", group="B - A", keep=95),
        Column("stable rank", group="B - A", keep=75),
        Column("s1", group="B - A", keep=70),
        Column("shuffled", group="B - A", keep=65),
    ]
    n_more = len(changed) - top
    return section(
        "Changed most",
        paragraph(
            "Change: norm of B - A over norm of A, exact; 1 where A is all zero, and at least 1 where other values "
            "are NaN or infinite. Rank: how many singular values of B - A are above those of "
            "its shuffled entries: an edit of low rank has that rank, noise has 0. s1: the largest of them."
        ),
        Text(""),
        NumberTable(columns, [_row(change) for change in changed[:top]]),
        paragraph(f"and {n_more:,} more that changed less") if n_more > 0 else None,
    )


def _row(change: MatrixChange) -> list[str | Text]:
    distance, spectrum = change.distance, change.spectrum
    place = distance.place or ()
    row, column = (str(place[0]), str(place[1])) if len(place) > 1 else (str(place[0]) if place else "", "")
    return [
        change.name,
        Text(numbers.number(change.effect), style=STANDOUT),
        numbers.number(distance.cosine),
        numbers.number(distance.largest),
        row,
        column,
        *(
            ("", "", "", "")
            if spectrum is None
            else (
                str(spectrum.rank),
                numbers.number(spectrum.stable_rank),
                numbers.number(spectrum.values[0]) if spectrum.values else "0",
                numbers.number(spectrum.shuffled_edge),
            )
        ),
    ]


def _by_kind(comparison: CheckpointComparison) -> RenderableType:
    kinds: dict[str, list[MatrixChange]] = {}
    for change in comparison.changes:
        kinds.setdefault(without_numbers(change.kind or change.name), []).append(change)
    columns = [
        Column("kind", "left", shrink_to=20, cut="start"),
        Column("n", keep=85),
        Column("changed", keep=80),
        Column("median", group="change"),
        Column("largest", group="change"),
        Column("layer", group="change", keep=90),
        Column("rank", keep=75),
    ]
    rows = [[kind, *_kind_cells(changes)] for kind, changes in kinds.items()]
    shown = rows[:_MOST_KINDS]
    more = paragraph(f"and {len(rows) - len(shown):,} more kinds") if len(rows) > len(shown) else None
    return section("By kind", NumberTable(columns, shown), more)


def _kind_cells(changes: Sequence[MatrixChange]) -> list[str | Text]:
    worst = max(changes, key=lambda change: change.effect)
    return [
        str(len(changes)),
        str(sum(change.effect > 0 for change in changes)),
        numbers.number(statistics.median(change.effect for change in changes), 2),
        numbers.number(worst.effect),
        str(worst.layer) if worst.effect and worst.layer is not None else "",
        ranges(change.spectrum.rank for change in changes if change.spectrum is not None),
    ]


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMES])
    return shown if len(names) <= _MOST_NAMES else f"{shown} and {len(names) - _MOST_NAMES:,} more"


if __name__ == "__main__":
    import sys

    from lmfacts.comparison import compare_checkpoints

    result_console().print(render_checkpoints(compare_checkpoints(sys.argv[1], sys.argv[2])))
