"""`lmfacts show`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lmfacts.cli.exit_codes import ExitCode, sentences
from lmfacts.cli.options import JsonOption

__all__ = ["show"]


@sentences
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
    from lmfacts.cli.output import print_json, print_result
    from lmfacts.run import load

    loaded = load(run)
    if not sites:
        if json:
            from lmfacts.report.json_documents import summary_json

            print_json(summary_json(loaded))
        else:
            from lmfacts.report.summary import render_summary

            print_result(render_summary(loaded))
        return ExitCode.FINE
    names = loaded.select(sites)
    if json:
        from lmfacts.report.json_documents import site_json

        print_json({"run": str(run), "sites": [site_json(loaded[name], loaded) for name in names]})
    else:
        from lmfacts.report.site_page import render_site

        for name in names:
            print_result(render_site(loaded[name], loaded))
    return ExitCode.FINE
