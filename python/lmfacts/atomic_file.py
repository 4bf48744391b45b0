"""Writing a file so that its name only ever shows a whole one."""

from __future__ import annotations

import os
import secrets
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from lmfacts.errors import RunFileError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["check_destination", "replacing"]


def check_destination(path: str | os.PathLike[str]) -> Path:
    """The real path that a file at `path` would be written to, checked before any work is done.

    A symbolic link is followed, so that writing replaces what it points to and not the link.

    Raises:
        RunFileError: the folder is missing or is not a folder, or the path is a folder.
    """
    real = Path(os.path.realpath(path))
    if not real.parent.is_dir():
        raise RunFileError(
            f"Cannot write {path}: there is no folder {real.parent}. Create it, or write somewhere else."
        )
    if real.is_dir():
        raise RunFileError(f"Cannot write {path}: it is a folder. Give the name of a file.")
    if not os.access(real.parent, os.W_OK):
        raise RunFileError(f"Cannot write {path}: the folder {real.parent} is not writable. Write somewhere else.")
    return real


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file atomically: the body fills the temporary file whose path it is given.

    The temporary file is in the same folder. After the body it is flushed to the disk, renamed to `path`, and the
    folder is flushed. If anything fails, an interrupt included, it is removed and what was at `path` before is
    untouched.

    Raises:
        RunFileError: `check_destination` says why, or the temporary file cannot be created or renamed.
    """
    destination = check_destination(path)
    temporary = destination.with_name(f".{destination.name}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
    try:
        with temporary.open("xb") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        yield temporary
        # A library that writes the file may have replaced it by one with other permissions.
        temporary.chmod(mode)
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(destination)
        _flush_folder(destination.parent)
    except OSError as error:
        raise RunFileError(f"Cannot write {path}: {error.strerror or error}.") from error
    finally:
        temporary.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Make a rename in the folder last, where the system can flush folders."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(descriptor)
    except OSError:
        pass  # some file systems refuse it; the rename itself has happened
    finally:
        os.close(descriptor)
