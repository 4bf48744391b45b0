"""Reading a safetensors file without copying: its arrays are views of the mapped file.

The library's own reader copies each array it gives; a summary of a large run looks at a small part of many arrays.
"""

from __future__ import annotations

import mmap
import stat
from typing import TYPE_CHECKING, Any

import numpy as np

from lmfacts.safetensors_header import NotSafetensorsError, StoredArray, read_header

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["NotSafetensorsError", "SafetensorsView", "StoredArray"]


class SafetensorsView:
    """An open safetensors file.

    Attributes:
        metadata: the header's string metadata.
        stored: what the header says about each array, by name; checked against the size of the file.
    """

    def __init__(self, path: Path) -> None:
        """Map the file and check its header.

        Raises:
            NotSafetensorsError: it is not a whole safetensors file of dtypes that NumPy has.
            OSError: the system does not let it be read.
        """
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise NotSafetensorsError("it is a folder")
        if not stat.S_ISREG(status.st_mode):
            raise NotSafetensorsError("it is not a regular file")
        with path.open("rb") as file:
            self.metadata, self.stored = read_header(file, status.st_size)
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if len(self._bytes) != status.st_size:
            raise NotSafetensorsError("it was changed while it was opened")
        for name, stored in self.stored.items():
            if stored.dtype is None or stored.is_pattern:
                raise NotSafetensorsError(f"its header says what cannot be about the array {name}: dtype {stored.code}")

    def array(self, name: str) -> NDArray[Any]:
        """An array, as a read-only view of the file.

        Raises:
            KeyError: there is no array of that name.
        """
        stored = self.stored[name]
        return np.ndarray(stored.shape, stored.dtype, self._bytes, stored.offset)
