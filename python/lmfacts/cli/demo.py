"""`lmfacts demo`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmfacts.cli.exit_codes import ExitCode, complain, sentences
from lmfacts.cli.options import JsonOption, QuietOption
from lmfacts.cli.scan import outcome

if TYPE_CHECKING:
    from lmfacts.run import Run
    from lmfacts.run.weight import WeightRecord

__all__ = ["demo"]

_N_TOKENS = 131_072
_SCAN_S = 30.0
"""Seconds for reading, so that all of it takes less than a minute on one core that others use too."""


@sentences
def demo(
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="NAME.lmfacts",
            help="Keep the activations in this file, and the weights in NAME-weights.lmfacts beside it.",
            show_default=False,
        ),
    ] = None,
    max_tokens: Annotated[
        int | None,
        typer.Option(
            help="Stop after so many tokens, however long that takes.",
            show_default=f"{_N_TOKENS}, or what can be read in half a minute",
        ),
    ] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> ExitCode:
    """Scan every site of the embedded model over the embedded text, measure its weights, and check the facts on both.

    No network; at most a minute: a slow processor reads less of the text. It computes in bfloat16, as the model is
    stored, where the processor has arithmetic for that, and in float32 elsewhere.
    """
    from lmfacts.files.destination import check_destination
    from lmfacts.render.terminal.live import progress_view
    from lmfacts.scans.progress import Progress

    out_weights: Path | None = None
    if out is not None:
        check_destination(out)
        out_weights = out.with_name(f"{out.stem}-weights{out.suffix}")
        check_destination(out_weights, [out])
    with nullcontext() if quiet else progress_view() as progress:
        if progress is not None:  # importing torch takes seconds
            progress(Progress("loading", "demo"))
        from lmfacts.scans.activations import scan as scan_model

        run = scan_model(
            "demo",
            sites="all",
            out=out,
            max_tokens=_N_TOKENS if max_tokens is None else max_tokens,
            max_seconds=_SCAN_S if max_tokens is None else None,
            batch_size=16,
            dtype=_dtype(),
            progress=progress,
        )
    if max_tokens is None and run.n_tokens < _N_TOKENS and run.complete:
        complain(
            f"read {run.n_tokens:,} of {_N_TOKENS:,} tokens, to be done within a minute; "
            f"all of them: --max-tokens {_N_TOKENS}"
        )
    if not run.complete:  # somebody is in a hurry
        return outcome(run, json=json)
    if not json:
        outcome(run, json=False)

    from lmfacts.scans.weights import scan_weights

    try:
        _print_facts(run, scan_weights("demo", out=out_weights), json=json)
    except (Exception, KeyboardInterrupt) as error:
        if run.path is not None:
            error.add_note(f"The activations are saved in {run.path}.")
        raise
    return ExitCode.FINE


def _dtype() -> str:
    """The type that the model is stored in, unless this processor would emulate it."""
    import torch

    from lmfacts.scans.processor import computes_in

    return "auto" if computes_in(torch.bfloat16) else "float32"


def _print_facts(run: Run[Any], weights: Run[WeightRecord], *, json: bool) -> None:
    """The table of verdicts, or everything as one document; then where the weights are."""
    from lmfacts.cli.output import print_json, print_result
    from lmfacts.facts import Inputs, check

    inputs = Inputs.of([run, weights])
    facts = check(inputs)
    if json:
        from lmfacts.render.terminal.json_documents import summary_json

        print_json({**summary_json(run), "facts": [fact.to_json() for fact in facts]})
    else:
        from rich.text import Text

        from lmfacts.render.terminal.facts_table import render_facts

        print_result(Text(""))
        print_result(render_facts(inputs, facts))
    if weights.path is not None:
        complain(f"saved {run.path} and {weights.path}" if json else f"saved {weights.path}")
