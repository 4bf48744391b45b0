"""`lmfacts show`."""

from __future__ import annotations

import gc
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmfacts.cli.exit_codes import ExitCode, sentences
from lmfacts.cli.options import JsonOption

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["show"]


@contextmanager
def _no_collection() -> Iterator[None]:
    """Leave cyclic garbage alone: all that a summary makes is in use to its end, and looking through it takes time."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@sentences
@_no_collection()
def show(
    run: Annotated[Path, typer.Argument(help="A run file.", show_default=False)],
    sites: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[SITE]...",
            help="Sites, presets or globs to show in full; the summary if none.",
            show_default=False,
        ),
    ] = None,
    *,
    json: JsonOption = False,
) -> ExitCode:
    """Show a run: its summary, or the sites named in full."""
    # No matrices are multiplied here, and starting threads for that is a tenth of the time of the whole command.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from lmfacts.cli.output import print_json, print_result
    from lmfacts.render.kinds import record_json, render_record, render_run, run_json
    from lmfacts.run import load

    loaded = load(run)
    if sites:
        names = loaded.select(sites)
        if json:
            print_json({"run": str(run), "sites": [record_json(loaded, name) for name in names]})
        for name in names if not json else []:
            print_result(render_record(loaded, name))
    elif json:
        print_json(run_json(loaded))
    else:
        print_result(render_run(loaded))
    return ExitCode.FINE
