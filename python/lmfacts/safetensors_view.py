"""Reading a safetensors file without copying: its arrays are views of the mapped file.

The library's own reader copies each array it gives; a summary of a large run looks at a small part of many arrays. The
format (https://github.com/huggingface/safetensors): 8 bytes with the length of the header, little-endian; the header, a
JSON object that maps each name to dtype, shape and the range of bytes after the header, and `__metadata__` to strings;
the bytes.
"""

from __future__ import annotations

import json
import math
import mmap
import stat
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["PATTERNS", "NotSafetensorsError", "SafetensorsView", "StoredArray", "release_pages"]

_DTYPES: Final[Mapping[str, np.dtype[Any]]] = {
    "BOOL": np.dtype("?"),
    "U8": np.dtype("u1"),
    "I8": np.dtype("i1"),
    "U16": np.dtype("<u2"),
    "I16": np.dtype("<i2"),
    "U32": np.dtype("<u4"),
    "I32": np.dtype("<i4"),
    "U64": np.dtype("<u8"),
    "I64": np.dtype("<i8"),
    "F16": np.dtype("<f2"),
    "F32": np.dtype("<f4"),
    "F64": np.dtype("<f8"),
}
"""The dtypes that NumPy has too."""

PATTERNS: Final[Mapping[str, np.dtype[Any]]] = {
    "BF16": np.dtype("<u2"),
    "F8_E4M3": np.dtype("u1"),
    "F8_E5M2": np.dtype("u1"),
    "F8_E8M0": np.dtype("u1"),
}
"""Dtypes that NumPy lacks, to the unsigned integers that hold their bit patterns."""

_PREFIX: Final = 8


class NotSafetensorsError(Exception):
    """A file is no safetensors file, or not a whole one; the message says why, without its period."""


class StoredArray(NamedTuple):
    """What the header says about an array.

    Attributes:
        dtype: its dtype in NumPy.
        shape: its shape.
        offset: where it begins in the file.
        code: what the header calls its dtype.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offset: int
    code: str

    @property
    def n_bytes(self) -> int:
        """The bytes it takes in the file."""
        return self.dtype.itemsize * math.prod(self.shape)


class SafetensorsView:
    """An open safetensors file.

    Attributes:
        metadata: the header's string metadata.
        stored: what the header says about each array, by name; checked against the size of the file.
    """

    def __init__(self, path: Path, *, patterns: bool = False) -> None:
        """Map the file and check its header.

        Args:
            path: the file.
            patterns: accept the dtypes in `PATTERNS` too.

        Raises:
            NotSafetensorsError: it is not a whole safetensors file.
            OSError: the system does not let it be read.
        """
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise NotSafetensorsError("it is a folder")
        if not stat.S_ISREG(status.st_mode):
            raise NotSafetensorsError("it is not a regular file")
        if status.st_size == 0:
            raise NotSafetensorsError("it is empty")
        with path.open("rb") as file:
            self._bytes = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        n_bytes = len(self._bytes)
        if n_bytes <= _PREFIX or self._bytes[_PREFIX : _PREFIX + 1] != b"{":
            raise NotSafetensorsError("it does not begin as a safetensors file does, or is cut off in its first bytes")
        start = _PREFIX + int.from_bytes(self._bytes[:_PREFIX], "little")
        if start > n_bytes:
            raise NotSafetensorsError(f"it is truncated: {n_bytes} bytes, and its header alone ends at byte {start}")
        header = _parsed_header(self._bytes[_PREFIX:start])
        self.metadata: dict[str, Any] = header.pop("__metadata__", {})
        dtypes = {**_DTYPES, **PATTERNS} if patterns else _DTYPES
        self.stored = {name: _stored_array(name, entry, start, dtypes) for name, entry in header.items()}
        end = max((start + entry["data_offsets"][1] for entry in header.values()), default=start)
        if end > n_bytes:
            raise NotSafetensorsError(f"it is truncated: {n_bytes} bytes, and its header promises {end}")
        if end < n_bytes:
            raise NotSafetensorsError(f"its header does not describe its contents: {n_bytes} bytes instead of {end}")

    def array(self, name: str) -> NDArray[Any]:
        """An array, as a read-only view of the file.

        Raises:
            KeyError: there is no array of that name.
        """
        stored = self.stored[name]
        return np.ndarray(stored.shape, stored.dtype, self._bytes, stored.offset)

    def release(self, name: str) -> None:
        """Let the system take back the memory that holds an array's bytes; read again, they come from the file again.

        Arrays that were given out stay valid.
        """
        stored = self.stored[name]
        release_pages(self._bytes, stored.offset, stored.n_bytes)


def release_pages(mapped: mmap.mmap, offset: int, n_bytes: int) -> None:
    """Drop a range of a mapped file's pages from this process's memory, where the system can."""
    start = offset - offset % mmap.PAGESIZE
    if n_bytes > 0 and hasattr(mapped, "madvise"):
        mapped.madvise(mmap.MADV_DONTNEED, start, offset + n_bytes - start)


def _parsed_header(text: bytes) -> dict[str, Any]:
    """The header's JSON object, with the types of all that is read from it checked."""
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise NotSafetensorsError(f"its header is not valid JSON ({error})") from None
    if not isinstance(header, dict):
        raise NotSafetensorsError("its header is not an object")
    metadata = header.get("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise NotSafetensorsError("the metadata in its header is not an object of strings")
    return header


def _stored_array(name: str, entry: Any, start: int, dtypes: Mapping[str, np.dtype[Any]]) -> StoredArray:
    """What an entry of the header says, or `NotSafetensorsError` if it contradicts itself."""
    try:
        dtype, shape = dtypes[entry["dtype"]], tuple(entry["shape"])
        begin, end = entry["data_offsets"]
        n_bytes = dtype.itemsize * math.prod(shape)
        # A product of integers is one; what JSON has besides them would show in it.
        whole = type(begin) is int and type(end) is int and type(n_bytes) is int
        if whole and begin >= 0 and end - begin == n_bytes and min(shape, default=0) >= 0:
            return StoredArray(dtype, shape, start + begin, entry["dtype"])
    except (KeyError, TypeError, ValueError, OverflowError):
        pass
    raise NotSafetensorsError(f"its header says what cannot be about the array {name}")
