"""Where a command may write: a new name or a regular file, and never a file that it reads.

A symbolic link stands for what it points to, whether that is there already or not: writing puts the file in that place,
and the link stays. Files are the same if the system says so (device and inode), whatever they are called.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lmfacts.errors import DestinationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["check_destination", "model_inputs"]

_RUN_FILE: Final = ".lmfacts"

_KINDS: Final = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def check_destination(path: str | os.PathLike[str], inputs: Iterable[str | os.PathLike[str] | int] = ()) -> Path:
    """The real path that a file at `path` would be written to, checked before any work is done.

    Args:
        path: where to write.
        inputs: what is read: files, folders (of whose files only run files may be replaced), open file descriptors.
            Those that do not exist are compared by name.

    Raises:
        DestinationError: the path is neither new nor a regular file, its folder is missing or not writable, or it is
            one of the inputs, or what standard output or error go to.
    """
    try:
        if not os.fspath(path):
            raise DestinationError("Cannot write a file without a name: expected a path, got an empty one.")
        real, there = Path(os.path.realpath(path)), _status(path)
        if there is not None and not stat.S_ISREG(there.st_mode):
            kind = next((name for test, name in _KINDS if test(there.st_mode)), "no regular file")
            raise DestinationError(
                f"Cannot write {path}: it is {kind}; expected a new name or a regular file. Write under another name."
            )
        if not real.parent.is_dir():
            raise DestinationError(
                f"Cannot write {path}: there is no folder {real.parent}. Create it, or write somewhere else."
            )
        status = _status(real)
        if (there is None) != (status is None) or (there and status and not os.path.samestat(there, status)):
            raise DestinationError(f"Cannot write {path}: the file that it stands for has no name. Give one.")
        if not os.access(real.parent, os.W_OK | os.X_OK):
            raise DestinationError(
                f"Cannot write {path}: the folder {real.parent} is not writable. Write somewhere else."
            )
        for number, stream in ((1, "standard output"), (2, "standard error")):
            if there is not None and _is_open_as(number, there):
                raise DestinationError(
                    f"Cannot write {path}: it is where {stream} goes, which would be lost. Write under another name."
                )
        for given in inputs:
            _refuse_input(path, real, there, given)
    except (OSError, ValueError) as error:
        if isinstance(error, DestinationError):
            raise
        raise DestinationError(
            f"Cannot write {path}: {getattr(error, 'strerror', None) or error}. Write under another name."
        ) from None
    return real


def model_inputs(source: object) -> Iterator[Path]:
    """The files that are read of a model on this machine, for `check_destination`; nothing for one of the hub.

    Of a folder, the folder and all files in it but run files. Of a file, also what lies beside it and may belong to it:
    further parts, indexes, configurations.
    """
    if not isinstance(source, str | os.PathLike):
        source = getattr(getattr(source, "config", None), "name_or_path", None)
    if not isinstance(source, str | os.PathLike) or not os.fspath(source):
        return
    path = Path(source).expanduser()
    if source == "demo":
        from lmfacts.demo import MODEL_DIR  # noqa: PLC0415  rarely needed

        path = MODEL_DIR
    try:
        there = _status(path)
    except (OSError, ValueError):  # whoever reads it says why
        return
    if there is not None and stat.S_ISDIR(there.st_mode):
        yield path
        yield from (
            Path(folder) / name for folder, _, names in os.walk(path) for name in names if not name.endswith(_RUN_FILE)
        )
    elif there is not None:
        yield path
        yield from (file for file in path.parent.iterdir() if file.suffix in (path.suffix, ".json"))


def _refuse_input(
    path: str | os.PathLike[str], real: Path, there: os.stat_result | None, given: str | os.PathLike[str] | int
) -> None:
    """Raise `DestinationError` if the file, which is `there` or not, is one of those that are read."""
    status: os.stat_result | None
    if isinstance(given, int):
        status, shown = os.fstat(given), "standard input"
    else:
        status, shown = _status(given), os.fspath(given)
        if status is not None and stat.S_ISDIR(status.st_mode):
            folder = Path(os.path.realpath(given))
            if there is not None and real.suffix != _RUN_FILE and folder in real.parents:
                raise DestinationError(
                    f"Cannot write {path}: this file is in {shown}, which is read; expected a new name or a run file "
                    "there. Write under another name."
                )
            return
        if status is None and there is None and Path(os.path.realpath(given)) == real:
            raise DestinationError(f"Cannot write {path}: {shown} is the same file. Write under another name.")
    if there is not None and status is not None and os.path.samestat(there, status):
        raise DestinationError(
            f"Cannot write {path}: it is {shown}, which is read, and would be lost. Write under another name."
        )


def _is_open_as(descriptor: int, file: os.stat_result) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), file)
    except OSError:  # it is closed
        return False


def _status(path: str | os.PathLike[str]) -> os.stat_result | None:
    """What a path stands for, links followed; None if nothing is there."""
    try:
        return Path(path).stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
