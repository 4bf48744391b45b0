"""`lmfacts demo`."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer

from lmfacts.cli.exit_codes import ExitCode, sentences
from lmfacts.cli.options import JsonOption, QuietOption
from lmfacts.cli.scan import outcome

__all__ = ["demo"]

_N_TOKENS = 131_072


@sentences
def demo(
    *,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Keep the run in this file.", show_default=False)
    ] = None,
    max_tokens: Annotated[int, typer.Option(help="Stop after so many tokens.")] = _N_TOKENS,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> ExitCode:
    """Scan every site of the embedded model over the embedded text; no network, about half a minute."""
    from lmfacts.live import progress_view

    with nullcontext() if quiet else progress_view() as progress:
        from lmfacts.activations import scan as scan_model

        run = scan_model("demo", sites="all", out=out, max_tokens=max_tokens, batch_size=16, progress=progress)
    return outcome(run, json=json)
