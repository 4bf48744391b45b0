"""From exceptions to one sentence on stderr and the right exit code."""

from __future__ import annotations

import functools
import sys
from contextlib import suppress
from enum import IntEnum
from typing import TYPE_CHECKING, ParamSpec

import typer

from lmfacts.uncaught import explain, silence_stdout
from lmfacts.writing.visible_text import visible

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ExitCode", "complain", "sentences"]

P = ParamSpec("P")


class ExitCode(IntEnum):
    """What the exit codes mean."""

    FINE = 0
    FAILED = 1
    USAGE = 2
    INCOMPLETE = 3
    FACT_FAILED = 4
    INTERRUPTED = 130


def complain(message: str) -> None:
    """Write a sentence to stderr, with everything in it visible."""
    with suppress(OSError, ValueError):  # the terminal may be gone
        typer.echo(f"lmfacts: {visible(message)}", err=True)


def sentences(command: Callable[P, ExitCode | None]) -> Callable[P, None]:
    """A command whose return value is its exit code, and whose errors are a sentence each, not a traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = int(command(*args, **kwargs) or ExitCode.FINE)
            if sys.stdout is not None:
                sys.stdout.flush()  # what cannot be written is found here, not when Python ends
        except (typer.Exit, typer.Abort, typer.BadParameter):
            raise
        except BrokenPipeError:
            # Whoever read our output has seen enough.
            silence_stdout()
            code = ExitCode.FINE
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001  whatever it is becomes a sentence
            sentence, code = explain(error)
            complain(sentence)
            try:
                if sys.stdout is not None:
                    sys.stdout.flush()
            except (OSError, ValueError):
                silence_stdout()  # what is left cannot be written, and Python would say so again when it ends
        raise typer.Exit(code)

    run.is_command = True  # type: ignore[attr-defined]  # what `lmfacts.cli` lists
    return run
