"""`lmfacts report`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from lmfacts.cli.exit_codes import ExitCode, complain, sentences
from lmfacts.cli.options import JsonOption

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["report"]


@sentences
def report(
    runs: Annotated[
        list[Path],
        typer.Argument(metavar="RUN...", help="Run files of one model: at most one of each kind.", show_default=False),
    ],
    *,
    out: Annotated[
        Path,
        typer.Option(
            "--out",
            "-o",
            metavar="FILE.html|FILE.md",
            help="The page: HTML in one file, or Markdown with its figures in the folder FILE_figures beside it. An "
            "older one is replaced.",
        ),
    ] = Path("report.html"),
    json: JsonOption = False,
) -> ExitCode:
    """Write a page about a model: every fact with its verdict, figures and evidence.

    The HTML page is one file that loads nothing and runs no script. Incomplete runs are shown as they are, and said to
    be incomplete. Needs matplotlib: pip install "lmfacts[plot]".
    """
    # No large matrices are multiplied here, and threads would only get into each other's way.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from lmfacts.render.page.draw import require_matplotlib
    from lmfacts.render.page.output import checked_destination, write_page

    checked_destination(out, runs)
    require_matplotlib()

    from lmfacts.facts import Inputs, check
    from lmfacts.render.page.build import build_page
    from lmfacts.run import load

    inputs = Inputs.of(map(load, runs))
    facts = check(inputs)
    page = build_page(inputs, facts)
    files = write_page(page, out)
    if json:
        from lmfacts.cli.output import print_json
        from lmfacts.render.page.report_json import report_json

        print_json(report_json(inputs, facts, page, files))
    complain(_saved(files))
    return ExitCode.FINE


def _saved(files: Sequence[Path]) -> str:
    """What was written, in a sentence."""
    from lmfacts.writing.numbers import file_size

    size = file_size(sum(file.stat().st_size for file in files))
    if len(files) == 1:
        return f"saved {files[0]} ({size})"
    return f"saved {files[0]} and {len(files) - 1} figures in {files[1].parent} ({size})"
