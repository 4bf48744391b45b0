"""`lmfacts show`."""

from __future__ import annotations

import gc
import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from lmfacts.cli.exit_codes import ExitCode, sentences
from lmfacts.cli.options import JsonOption

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from lmfacts.run import Run

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
    from lmfacts.run import load

    loaded = load(run)
    if sites:
        names = loaded.select(sites)
        if json:
            print_json({"run": str(run), "sites": [_one_json(loaded, name) for name in names]})
        for name in names if not json else []:
            print_result(_one(loaded, name))
    elif json:
        print_json(_all_json(loaded))
    else:
        print_result(_all(loaded))
    return ExitCode.FINE


def _all(run: Run) -> RenderableType:
    if run.kind == "weights":
        from lmfacts.render.terminal.weights_summary import render_weights_summary

        return render_weights_summary(run)
    from lmfacts.render.terminal.summary import render_summary

    return render_summary(run)


def _all_json(run: Run) -> dict[str, Any]:
    if run.kind == "weights":
        from lmfacts.render.terminal.weights_json import weights_summary_json

        return weights_summary_json(run)
    from lmfacts.render.terminal.json_documents import summary_json

    return summary_json(run)


def _one(run: Run, name: str) -> RenderableType:
    record = run[name]
    if run.kind == "weights":
        from lmfacts.render.terminal.weight_page import render_weight
        from lmfacts.run.weight import WeightRecord

        assert isinstance(record, WeightRecord)
        return render_weight(record, run)
    from lmfacts.render.terminal.site_page import render_site

    return render_site(record, run)


def _one_json(run: Run, name: str) -> dict[str, Any]:
    record = run[name]
    if run.kind == "weights":
        from lmfacts.render.terminal.weights_json import weight_json
        from lmfacts.run.weight import WeightRecord

        assert isinstance(record, WeightRecord)
        return weight_json(record, run)
    from lmfacts.render.terminal.json_documents import site_json

    return site_json(record, run)
