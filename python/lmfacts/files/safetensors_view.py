"""A safetensors file in memory, whose arrays are views.

The library's own reader copies each array it gives; a summary of a large run looks at a small part of many arrays. A
mapped file would be quicker to open still, but its pages are those of the file: overwritten in place or cut short while
it is open, it would change under a run that is in use, or end the process with SIGBUS. So all of it is read at once.
"""

from __future__ import annotations

import io
import os
import stat
from typing import TYPE_CHECKING, Any

import numpy as np

from lmfacts.files.safetensors_header import NotSafetensorsError, StoredArray, read_header

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["NotSafetensorsError", "SafetensorsView", "StoredArray"]

_MOST_ATTEMPTS = 3

_LARGE = 1 << 28
"""Bytes from which a file's header is looked at before all of it is read: it may be somebody's checkpoint."""


class SafetensorsView:
    """The content of a safetensors file.

    Attributes:
        metadata: the header's string metadata.
        stored: what the header says about each array, by name; checked against the size of the file.
    """

    def __init__(self, path: Path, metadata_key: str) -> None:
        """Read the file and check its header.

        Args:
            path: the file.
            metadata_key: what its metadata must have.

        Raises:
            NotSafetensorsError: it is not a whole safetensors file of dtypes that NumPy has, or somebody writes to it,
                or its metadata lack the key.
            OSError: the system does not let it be read.
        """
        status = path.stat()  # opening a pipe would wait for its writer
        if stat.S_ISDIR(status.st_mode):
            raise NotSafetensorsError("it is a folder")
        if not stat.S_ISREG(status.st_mode):
            raise NotSafetensorsError("it is not a regular file")
        if status.st_size >= _LARGE:
            with path.open("rb") as file:
                _check_key(read_header(file, status.st_size).metadata, metadata_key)
        self._bytes = _content(path)
        self.metadata, self.stored = read_header(io.BytesIO(self._bytes), len(self._bytes))
        for name, stored in self.stored.items():
            if stored.dtype is None or stored.is_pattern:
                raise NotSafetensorsError(f"its header says what cannot be about the array {name}: dtype {stored.code}")
        _check_key(self.metadata, metadata_key)

    def array(self, name: str) -> NDArray[Any]:
        """An array, read-only.

        Raises:
            KeyError: there is no array of that name.
        """
        stored = self.stored[name]
        return np.ndarray(stored.shape, stored.dtype, self._bytes, stored.offset)


def _check_key(metadata: dict[str, str], key: str) -> None:
    if key not in metadata:
        raise NotSafetensorsError(f"it is a safetensors file, but not one that {key} wrote")


def _content(path: Path) -> bytes:
    """All bytes of a file as they are at one time."""
    for _ in range(_MOST_ATTEMPTS):
        with path.open("rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            content = file.read()
            after = os.fstat(file.fileno())
        if len(content) == before.st_size == after.st_size and before.st_mtime_ns == after.st_mtime_ns:
            return content
    raise NotSafetensorsError("it is being written to")
