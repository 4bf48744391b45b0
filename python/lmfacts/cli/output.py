"""Results on stdout."""

from __future__ import annotations

import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lmfacts.render.terminal.console import result_console
from lmfacts.uncaught import silence_stdout

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

__all__ = ["print_json", "print_result"]


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """Go on when whoever reads the output has seen enough: the exit code does not depend on it."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        silence_stdout()


def print_result(result: RenderableType) -> None:
    """Print for a person: as wide and colorful as the terminal is; redirected, wide and without trailing blanks."""
    with _reader_may_leave():
        result_console().print(result)


def print_json(document: dict[str, Any]) -> None:
    """Print one JSON document for a program, all in printable ASCII."""
    text = json.dumps(document, indent=2, allow_nan=False)
    with _reader_may_leave():
        sys.stdout.write(text.replace("\x7f", r"\u007f") + "\n")  # the one control character that json leaves as it is
