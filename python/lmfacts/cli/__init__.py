"""The command line: one file a command, arguments and exit codes only.

Results go to stdout, everything else to stderr. Exit codes: 0 fine, 1 failed, 2 wrong usage, 3 incomplete, 4 a required
fact or threshold failed, 130 interrupted.
"""

from __future__ import annotations

import inspect
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Annotated, Final

import typer

import lmfacts

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["app", "main"]

_FIRST: Final = ("scan", "weights", "show", "facts", "compare", "report", "export", "demo", "info")
"""The order in which the help lists them; others follow."""

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


def _commands() -> list[Callable[..., object]]:
    """The commands: of each file here the function that has its name and ends with an exit code."""
    commands: dict[str, Callable[..., object]] = {}
    for module in iter_modules(__path__):
        command = getattr(import_module(f"{__name__}.{module.name}"), module.name, None)
        if command is not None and getattr(command, "is_command", False):
            commands[module.name] = command
    order = [*(name for name in _FIRST if name in commands), *sorted(commands.keys() - set(_FIRST))]
    return [commands[name] for name in order]


for _command in _commands():
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
