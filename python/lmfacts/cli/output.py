"""Results on stdout."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Any

from lmfacts.report.console import result_console

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["print_json", "print_result"]


def print_result(result: RenderableType) -> None:
    """Print for a person: as wide and colorful as the terminal is; redirected, wide and without trailing blanks."""
    result_console().print(result)


def print_json(document: dict[str, Any]) -> None:
    """Print one JSON document for a program, all in printable ASCII."""
    text = json.dumps(document, indent=2, allow_nan=False)
    sys.stdout.write(text.replace("\x7f", r"\u007f") + "\n")  # the one control character that json leaves as it is
