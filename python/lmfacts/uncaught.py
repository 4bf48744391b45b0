"""What becomes of an exception that reached the top of the command line: one sentence and an exit code.

Nothing is imported here that can be missing or broken, so that this also works where the commands cannot be loaded:
in the folder of the commands it would be loaded after them.
"""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress
from typing import Final

from lmfacts.errors import LmfactsError

__all__ = ["TRACEBACK", "explain", "open_standard_streams", "silence_stdout"]

TRACEBACK: Final = "LMFACTS_TRACEBACK"
"""The environment variable that asks for the traceback of an error too."""

_FAILED: Final = 1
_USAGE: Final = 2
_INTERRUPTED: Final = 130
_LONGEST: Final = 500
"""Characters of somebody else's message."""


def explain(error: BaseException) -> tuple[str, int]:
    """A sentence about an error, and the exit code; where `LMFACTS_TRACEBACK` is set, its traceback goes to stderr."""
    if os.environ.get(TRACEBACK, "0") not in ("", "0") and sys.stderr is not None:
        with suppress(OSError, ValueError):
            traceback.print_exception(error)
    notes = " ".join(getattr(error, "__notes__", []))
    if isinstance(error, KeyboardInterrupt):
        return f"interrupted; {notes or 'nothing was saved'}", _INTERRUPTED
    said = " ".join([str(error), notes]).strip()
    if isinstance(error, LmfactsError):
        return said, error.exit_code
    if isinstance(error, FileNotFoundError):
        return said, _USAGE
    said = " ".join(said.split())
    if len(said) > _LONGEST:
        said = f"{said[:_LONGEST]}..."
    if isinstance(error, MemoryError):
        said = f"out of memory{': ' if said else ''}{said}"
    elif not isinstance(error, OSError):
        said = f"{type(error).__name__}{': ' if said else ''}{said}"
    return f"{said} (set {TRACEBACK}=1 to see where this comes from)", _FAILED


def silence_stdout() -> None:
    """Let whatever is still written to standard output go nowhere: Python writes what is left when it ends."""
    with suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def open_standard_streams() -> None:
    """Put nothing where standard input, output or error are closed.

    Otherwise the next file that is opened gets the number of the closed one, and whatever writes there writes into it.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # it gets the lowest number that is free
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115, PTH123  open to the end
