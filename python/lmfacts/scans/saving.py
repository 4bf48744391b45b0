"""Saving a run that took long to measure: at its destination, or else anywhere that it can be written."""

from __future__ import annotations

import secrets
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmfacts.errors import LmfactsError, UnsavedRunError

if TYPE_CHECKING:
    import os

    from lmfacts.run import Run

__all__ = ["save_measured"]


def save_measured(run: Run[Any], path: str | os.PathLike[str]) -> None:
    """Save a run and remember where it is; if that fails, try the folder for temporary files and the home folder.

    Raises:
        UnsavedRunError: it cannot be written at `path`; it carries the run, and names the file that has it instead, if
            there is one.
    """
    try:
        run.path = run.save(path)
    except (LmfactsError, OSError) as error:
        rescued = _rescue(run, Path(path).stem)
        where = f"It was saved as {rescued} instead." if rescued else "No other place was found for it."
        raise UnsavedRunError(f"{error} {where}", run, rescued) from error


def _rescue(run: Run[Any], stem: str) -> Path | None:
    """Save a run where there is room; None if nowhere."""
    folders = []
    with suppress(OSError):
        folders.append(Path(tempfile.gettempdir()))
    with suppress(RuntimeError):
        folders.append(Path.home())
    for folder in folders:
        path = folder / f"{stem[:40]}-{secrets.token_hex(4)}.lmfacts"
        with suppress(LmfactsError, OSError):
            run.path = run.save(path)
            return path
    return None
