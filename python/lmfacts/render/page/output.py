"""Writing a page so that its name only ever shows a whole one."""

from __future__ import annotations

import os
import re
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lmfacts.errors import RunFileError, UsageError
from lmfacts.files.atomic import replacing, workshop
from lmfacts.files.destination import check_destination
from lmfacts.render.page.draw import draw
from lmfacts.render.page.html import to_html
from lmfacts.render.page.markdown import to_markdown
from lmfacts.render.page.svg import standalone

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from lmfacts.render.page.document import Page

__all__ = ["FORMATS", "checked_destination", "write_page"]

FORMATS: Final = {".html": "html", ".htm": "html", ".md": "markdown", ".markdown": "markdown"}
"""What a page can be written as, by the end of the file's name."""

_OURS: Final = re.compile(r"f\d+-[a-z0-9-]+\.svg", re.IGNORECASE)


def checked_destination(path: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str]] = ()) -> Path:
    """The path that a page would be written to, checked before any work is done.

    Args:
        path: where to write.
        inputs: the files that are read.

    Raises:
        UsageError: its name does not end in one of `FORMATS`, or the folder of a Markdown page's figures holds
            something else.
        DestinationError: it cannot be written there, or it is one of the inputs.
    """
    given, read = Path(path), list(inputs)
    if given.suffix.lower() not in FORMATS:
        ends = ", ".join(FORMATS)
        found = f"ends in {given.suffix!r}" if given.suffix else "has no ending"
        raise UsageError(f"A report is written as HTML or Markdown; {given.name!r} {found}. Its name ends in {ends}.")
    real = check_destination(given, read)
    if FORMATS[given.suffix.lower()] == "markdown":
        _check_folder(_figures_folder(real), read)
    return given


def write_page(page: Page, path: str | os.PathLike[str]) -> list[Path]:
    """Write a page, as HTML or Markdown by the end of its name.

    HTML is one file. Markdown has its figures as SVG files in a folder beside it, `NAME_figures`, which replaces an
    older one of its own. Whatever fails, what was there before stays, and nothing is left half-written.

    Returns:
        The files that were written, the page first.

    Raises:
        UsageError: `checked_destination` says why.
        RunFileError: the file or the folder cannot be written.
    """
    given = checked_destination(path)
    if FORMATS[given.suffix.lower()] == "html":
        with replacing(given) as temporary:
            temporary.write_text(to_html(page), encoding="utf-8", errors="replace", newline="\n")
        return [given]
    charts = [chart for figure in page.figures for chart in figure.charts]
    folder = _figures_folder(Path(os.path.realpath(given)))
    text = to_markdown(page, folder.name)
    with _replacing_folder(folder) as (new, put_in_place):
        for chart in charts:
            svg = standalone(draw(chart), chart.alt)
            (new / f"{chart.name}.svg").write_text(svg, encoding="utf-8", errors="replace", newline="\n")
        with replacing(given) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="replace", newline="\n")
            put_in_place()
    shown = given.with_name(folder.name)
    return [given, *(shown / f"{chart.name}.svg" for chart in charts)]


def _figures_folder(page: Path) -> Path:
    return page.with_name(f"{page.stem}_figures")


def _check_folder(folder: Path, inputs: Iterable[str | os.PathLike[str]] = ()) -> None:
    """Refuse to replace a folder that is not of a report, or has something in it that is read."""
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise UsageError(f"The figures go to the folder {folder}, which is a file or a link. Write under another name.")
    strangers = (
        sorted(entry.name for entry in folder.iterdir() if not _OURS.fullmatch(entry.name)) if folder.exists() else []
    )
    if strangers:
        raise UsageError(
            f"The figures replace the folder {folder}, and it holds {strangers[0]!r}, which no report wrote. Write "
            "under another name, or move the folder away."
        )
    for entry in folder.iterdir() if folder.exists() else ():
        check_destination(entry, inputs)


@contextmanager
def _replacing_folder(folder: Path) -> Iterator[tuple[Path, PutInPlace]]:
    """A new folder to fill, and what puts it in the place of the old one; if anything fails, the old one is back."""
    try:
        with workshop(folder) as aside:
            new, old = aside / "new", aside / "old"
            swap = PutInPlace(folder, new, old)
            new.mkdir()
            try:
                yield new, swap
            except BaseException:
                swap.undo()
                raise
    except OSError as error:
        raise RunFileError(f"Cannot write {folder}: {error.strerror or error}.") from error


class PutInPlace:
    """Puts a new folder in the place of an old one."""

    def __init__(self, folder: Path, new: Path, old: Path) -> None:
        self._folder, self._new, self._old = folder, new, old
        self._done = False

    def __call__(self) -> None:
        """Move the old folder aside and the new one to its name."""
        if self._folder.exists():
            self._folder.rename(self._old)
        self._new.rename(self._folder)
        self._done = True

    def undo(self) -> None:
        """Put the old folder back, if it was moved."""
        if self._done:
            self._folder.rename(self._new)
        if self._old.exists():
            self._old.rename(self._folder)
