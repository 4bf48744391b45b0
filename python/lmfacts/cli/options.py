"""Options that several commands take, spelled once."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["JsonOption", "QuietOption"]

JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
QuietOption = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
