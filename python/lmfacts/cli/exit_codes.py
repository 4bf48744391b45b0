"""From exceptions to one sentence on stderr and the right exit code."""

from __future__ import annotations

import functools
import os
import sys
from enum import IntEnum
from typing import TYPE_CHECKING, ParamSpec

import typer

from lmfacts.errors import LmfactsError
from lmfacts.visible_text import visible

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
    typer.echo(f"lmfacts: {visible(message)}", err=True)


def sentences(command: Callable[P, ExitCode | None]) -> Callable[P, None]:
    """A command whose return value is its exit code and whose expected errors are a sentence, not a traceback."""

    @functools.wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            code = command(*args, **kwargs) or ExitCode.FINE
        except LmfactsError as error:
            complain(_with_notes(error))
            code = ExitCode(error.exit_code)
        except FileNotFoundError as error:
            complain(_with_notes(error))
            code = ExitCode.USAGE
        except KeyboardInterrupt:
            complain("interrupted; nothing was saved")
            code = ExitCode.INTERRUPTED
        except BrokenPipeError:
            # Whoever read our output has seen enough. Python would complain once more while closing stdout.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = ExitCode.FINE
        except OSError as error:
            complain(_with_notes(error))
            code = ExitCode.FAILED
        raise typer.Exit(code)

    return run


def _with_notes(error: BaseException) -> str:
    return " ".join([str(error), *getattr(error, "__notes__", [])])
