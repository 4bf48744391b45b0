"""`lmfacts weights`."""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmfacts.cli.exit_codes import ExitCode, complain, sentences
from lmfacts.cli.options import JsonOption, QuietOption
from lmfacts.cli.scan import free_name
from lmfacts.writing.visible_text import shell_word

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["reading_progress", "weights"]


@sentences
def weights(
    model: Annotated[
        str,
        typer.Argument(
            help="Hub id, folder, .safetensors, .gguf, .bin or .pt file, or 'demo' for the embedded model.",
            show_default=False,
        ),
    ],
    *,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", help="The run file. Named after the model, in this folder, if not given.", show_default=False
        ),
    ] = None,
    spectra: Annotated[
        int, typer.Option(help="Singular values of matrices whose smaller side is at most this; 0 for none.")
    ] = 4096,
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit on the hub.", show_default=False)] = None,
    json: JsonOption = False,
    quiet: QuietOption = False,
) -> ExitCode:
    """Measure every parameter of a checkpoint, streamed from its files; the model is never built."""
    from lmfacts.cli.output import print_json, print_result

    os.environ.setdefault("TQDM_DISABLE", "1")
    path = out or free_name(model, "weights")
    with reading_progress(model, quiet=quiet) as progress:
        from lmfacts.scans.weights import scan_weights

        run = scan_weights(model, revision=revision, spectra=spectra, out=path, progress=progress)
    if json:
        from lmfacts.render.terminal.weights_json import weights_summary_json

        print_json(weights_summary_json(run))
    else:
        from lmfacts.render.terminal.weights_summary import render_weights_summary

        print_result(render_weights_summary(run))
    complain(f"saved {path}; see one tensor in full with: lmfacts show {shell_word(str(path))} NAME")
    return ExitCode.FINE


@contextmanager
def reading_progress(model: str, *, quiet: bool) -> Iterator[Callable[[int, int, str], None] | None]:
    """A bar by bytes with the time left, on a terminal; a line at the start elsewhere."""
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    from lmfacts.render.terminal.console import on_terminal, progress_console

    console = progress_console()
    if quiet:
        yield None
    elif not on_terminal(console.file):
        complain(f"reading {model}")
        yield None
    else:
        columns = (
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.description}", markup=False),
        )
        with Progress(*columns, console=console, transient=True) as bar:
            task = bar.add_task(model, total=None)
            yield lambda done, total, name: bar.update(task, completed=done, total=total, description=name)
