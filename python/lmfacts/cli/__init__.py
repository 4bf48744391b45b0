"""The command line: one file a command, arguments and exit codes only.

Results go to stdout, everything else to stderr. Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 incomplete, 4 a required
fact or threshold failed, 130 interrupted.
"""

from __future__ import annotations

import inspect
import sys
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Annotated, Final

import typer

import lmfacts

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["application", "main"]

_FIRST: Final = ("scan", "weights", "show", "facts", "compare", "report", "export", "demo", "info")
"""The order in which the help lists them; others follow."""


def application(only: str | None = None) -> typer.Typer:
    """The command line with its commands, or with one alone, so that the others need not be loaded for it.

    Args:
        only: the name of a command; where there is none of that name, all are there to be told of.
    """
    app = typer.Typer(
        name="lmfacts",
        help="Stream text through a language model once and see what its inside looks like.",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        rich_markup_mode="rich",
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    files = [module.name for module in iter_modules(__path__)]
    alone = _command(only) if only in files else None
    for command in _commands(files) if alone is None else [alone]:
        app.command(help=_help(command))(command)
    return app


def _command(file: str) -> Callable[..., object] | None:
    """The function in a file here that has the file's name and ends with an exit code."""
    command: Callable[..., object] | None = getattr(import_module(f"{__name__}.{file}"), file, None)
    return command if getattr(command, "is_command", False) else None


def _commands(files: Sequence[str]) -> list[Callable[..., object]]:
    """The commands in these files, in the help's order."""
    commands = {file: command for file in files if (command := _command(file)) is not None}
    order = [*(name for name in _FIRST if name in commands), *sorted(commands.keys() - set(_FIRST))]
    return [commands[name] for name in order]


def _help(command: Callable[..., object]) -> str:
    """A command's docstring as its help: each paragraph one line, for the terminal to wrap; brackets are no markup."""
    paragraphs = (inspect.getdoc(command) or "").replace("[", r"\[").split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"lmfacts {lmfacts.__version__}")
        raise typer.Exit


def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Stream text through a language model once and see what its inside looks like."""


def main() -> None:
    """Run the command line and exit with its code."""
    application(sys.argv[1] if len(sys.argv) > 1 else None)()
