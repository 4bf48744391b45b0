"""A console on a terminal that is only a string."""

from __future__ import annotations

import io

from rich.console import Console

__all__ = ["terminal", "written"]


def terminal(width: int, height: int) -> Console:
    """A console that behaves as on a terminal of this size, in an empty environment."""
    return Console(
        file=io.StringIO(),
        width=width,
        height=height,
        force_terminal=True,
        color_system=None,
        legacy_windows=False,
        highlight=False,
        _environ={},
    )


def written(console: Console) -> str:
    """Everything that was written to it, control sequences included."""
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()
