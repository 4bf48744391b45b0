"""Draws the README's picture: the summary of a scan of the embedded model, as a terminal shows it."""

from __future__ import annotations

import io
import sys
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

import lmfacts
from lmfacts.render.terminal.summary import render_summary

PICTURE = Path(__file__).parent / "terminal.svg"
WIDTH = 118


def main() -> None:
    """Scan, render, write."""
    run = lmfacts.scan("demo", sites="all", max_tokens=131_072, batch_size=16)
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(render_summary(run))
    PICTURE.write_text(console.export_svg(title="lmfacts demo", theme=MONOKAI), encoding="utf-8")
    sys.stderr.write(f"wrote {PICTURE}\n")


if __name__ == "__main__":
    main()
