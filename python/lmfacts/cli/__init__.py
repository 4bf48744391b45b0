"""The command line: one file a command, arguments and exit codes only.

Results go to stdout, everything else to stderr. Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 incomplete, 4 a required
fact or threshold failed, 130 interrupted.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Annotated

import typer

import lmfacts
from lmfacts.cli.compare import compare
from lmfacts.cli.demo import demo
from lmfacts.cli.export import export
from lmfacts.cli.facts import facts
from lmfacts.cli.info import info
from lmfacts.cli.report import report
from lmfacts.cli.scan import scan
from lmfacts.cli.show import show
from lmfacts.cli.weights import weights

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["app", "main"]

app = typer.Typer(
    name="lmfacts",
    help="Stream text through a language model once and see what its inside looks like.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _help(command: Callable[..., object]) -> str:
    """A command's docstring as its help: each paragraph one line, for the terminal to wrap; brackets are no markup."""
    paragraphs = (inspect.getdoc(command) or "").replace("[", r"\[").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


for _command in (scan, weights, show, facts, compare, report, export, demo, info):
    app.command(help=_help(_command))(_command)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lmfacts {lmfacts.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Stream text through a language model once and see what its inside looks like."""


def main() -> None:
    """Run the command line and exit with its code."""
    app()
