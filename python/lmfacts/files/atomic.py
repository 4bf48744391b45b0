"""Writing a file so that its name only ever shows a whole one.

A file is made in a folder of its own beside its destination, `.NAME.PID.RANDOM.tmp`, on which the process that makes it
holds a lock. The system gives up the lock when the process ends, however it ends. So whoever writes the same name next
knows a folder that a killed process left, and removes it, and leaves alone the one of a process that lives.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import stat
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from lmfacts.errors import RunFileError
from lmfacts.files.destination import check_destination

try:
    import fcntl
except ImportError:  # Windows: nothing is locked, and nothing that was left is removed
    fcntl = None  # type: ignore[assignment]  # in place of a module

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["replacing", "workshop"]

_LONGEST: Final = 150
"""Bytes of a destination's name that stand in that of the folder; file systems have room for 255 in all."""


@contextmanager
def replacing(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Write a file atomically: the body fills the file whose path it is given, which is empty at first.

    After the body it is flushed to the disk, renamed to `path`, and the folder is flushed. If anything fails, an
    interrupt included, it is removed and what was at `path` before is untouched.

    Raises:
        DestinationError: `check_destination` says why.
        RunFileError: the file cannot be created, written or renamed.
    """
    destination = check_destination(path)
    try:
        with workshop(destination) as folder:
            temporary = folder / "new"
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


@contextmanager
def workshop(destination: Path) -> Iterator[Path]:
    """A new folder beside a destination, which goes with all that is in it; first, what killed processes left goes.

    Raises:
        OSError: it cannot be created.
    """
    label = destination.name
    if len(os.fsencode(label)) > _LONGEST:
        label = f"{label[:20]}-{hashlib.sha256(os.fsencode(label)).hexdigest()[:16]}"
    _sweep(destination.parent, label)
    while True:
        folder = destination.with_name(f".{label}.{os.getpid()}.{secrets.token_hex(4)}.tmp")
        folder.mkdir()
        lock = _lock(folder)
        # Between the two steps another process may have taken it for one that was left.
        if folder.exists():
            break
        _close(lock)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        _close(lock)


def _sweep(parent: Path, label: str) -> None:
    """Remove what killed processes left when they wrote a file of that name."""
    ours = re.compile(rf"\.{re.escape(label)}\.\d+\.[0-9a-f]{{8}}\.(tmp|old)")
    try:
        left = [entry for entry in parent.iterdir() if ours.fullmatch(entry.name)]
    except OSError:
        return
    for path in left:
        lock = _lock(path)
        if lock is not None:
            with suppress(OSError):
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            _close(lock)


def _lock(path: Path) -> int | None:
    """Take the lock on a file or folder; None where somebody has it, or where locks cannot be had."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _close(lock: int | None) -> None:
    if lock is not None:
        os.close(lock)


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
