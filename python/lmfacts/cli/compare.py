"""`lmfacts compare`."""

from __future__ import annotations

import math
import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from lmfacts.cli.compare_checkpoints import are_checkpoints, compare_checkpoints
from lmfacts.cli.exit_codes import ExitCode, complain, sentences
from lmfacts.cli.options import JsonOption
from lmfacts.errors import MismatchedRunsError, UsageError
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from lmfacts.comparison import Comparison
    from lmfacts.run.site import Population

__all__ = ["compare"]

_MOST_NAMES: Final = 3


class _Choice(StrEnum):
    rest = "rest"
    first = "first"
    all = "all"


_NAMES: Final[dict[_Choice, Population]] = {_Choice.rest: "rest", _Choice.first: "first", _Choice.all: "all"}


@sentences
def compare(
    a: Annotated[
        Path, typer.Argument(metavar="A", help="A run file or checkpoint to compare with.", show_default=False)
    ],
    b: Annotated[
        Path, typer.Argument(metavar="B", help="A run file of the same kind, or a checkpoint.", show_default=False)
    ],
    *,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0.0,
            help="Exit with 4 if the effect at a site, its excess over the noise of different text, is larger: 0.01 is "
            "one percent.",
            show_default=False,
        ),
    ] = None,
    require_same_facts: Annotated[
        bool, typer.Option("--require-same-facts", help="Exit with 4 if the verdict on a fact changed.")
    ] = False,
    top: Annotated[int, typer.Option(min=1, help="How many of the sites that changed most to list.")] = 20,
    population: Annotated[
        _Choice | None,
        typer.Option(
            help="Tokens to compare: rest (all but position 0 of each sequence), first, or all. Default: rest.",
            show_default=False,
        ),
    ] = None,
    spectra: Annotated[
        int,
        typer.Option(
            min=0, help="Of checkpoints: singular values of B - A where a smaller side is at most this; 0 for none."
        ),
    ] = 4096,
    json: JsonOption = False,
) -> ExitCode:
    """Compare two runs: what changed from A to B, per fact and per site, with effect sizes.

    Runs of the same text are compared to the last bit. On different text only what exceeds the noise of that counts.

    Two checkpoints (hub ids, folders, files of weights), or a checkpoint and the folder of a LoRA adapter for it, are
    compared weight by weight and exactly.
    """
    if are_checkpoints(a, b):
        _refuse_options_of_runs(require_same_facts=require_same_facts, population=population)
        return compare_checkpoints(a, b, threshold=_valid(threshold), top=top, spectra=spectra, json=json)
    # No matrices are multiplied here, and starting threads for that takes a tenth of a second.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _valid(threshold)
    from lmfacts.cli.output import print_json, print_result
    from lmfacts.comparison import compare as compare_runs
    from lmfacts.run import load

    comparison = compare_runs(load(a), load(b), population=None if population is None else _NAMES[population])
    if threshold is not None and not comparison.judged and not all(site.identical for site in comparison.sites):
        raise MismatchedRunsError(
            "--threshold: nothing can be judged, since the runs are not known to have read the same text, and there is "
            "no site of which both keep 8 blocks of sequences. Let both models read the same text, or record sites of "
            "the residual stream on 8 sequences or more."
        )
    if json:
        from lmfacts.render.terminal.comparison_json import comparison_json

        print_json(comparison_json(comparison))
    else:
        from lmfacts.render.terminal.comparison_view import render_comparison

        print_result(render_comparison(comparison, top))
    failures = [*_beyond(comparison, threshold), *(_other_verdicts(comparison) if require_same_facts else ())]
    for failure in failures:
        complain(failure)
    return ExitCode.FACT_FAILED if failures else ExitCode.FINE


def _valid(threshold: float | None) -> float | None:
    if threshold is not None and math.isnan(threshold):  # which nothing is above
        raise UsageError("threshold: expected a number of at least 0, got nan")
    return threshold


def _refuse_options_of_runs(*, require_same_facts: bool, population: _Choice | None) -> None:
    for given, option in ((require_same_facts, "--require-same-facts"), (population is not None, "--population")):
        if given:
            raise UsageError(f"{option} is for run files: checkpoints themselves have no facts and no tokens")


def _beyond(comparison: Comparison, threshold: float | None) -> list[str]:
    """A sentence that names the sites with the largest effects, if any is above the threshold."""
    sites = [] if threshold is None else comparison.beyond(threshold)
    if not sites:
        return []
    shown = [(site, site.decided_by) for site in sites[:_MOST_NAMES]]
    named = ", ".join(f"{site.name} {site.effect:.3g} ({by.label})" for site, by in shown if by is not None)
    have = "has" if len(sites) == 1 else "have"
    more = f" and {len(sites) - _MOST_NAMES} more" if len(sites) > _MOST_NAMES else ""
    noun = comparison.a.info.run_kind.noun
    what = "effect" if comparison.paired else "excess over noise"
    every = numbers.counted(len(comparison.sites), noun)
    many = f"{len(sites)} of {every} {have} an {what} above the threshold {threshold:g}"
    return [f"{many}: {named}{more}"]


def _other_verdicts(comparison: Comparison) -> list[str]:
    """A sentence that names the facts whose verdict changed, if any did."""
    changed = [
        f'{fact.id} is "{fact.a.verdict.words}" in A, "{fact.b.verdict.words}" in B'
        for fact in comparison.changed_facts
    ]
    return [f"verdicts changed: {'; '.join(changed)}"] if changed else []
