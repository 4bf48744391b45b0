"""The header of a GGUF file: metadata and where each tensor is.

Read here and not by the package `gguf`, whose reader makes an array of every token of the vocabulary and takes seconds
for it. The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; all numbers little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from lmfacts.errors import WeightFileError

if TYPE_CHECKING:
    from lmfacts.checkpoints.stored_bytes import StoredBytes

__all__ = ["GgufHeader", "GgufTensor", "read_gguf_header"]

_MAGIC: Final = b"GGUF"
_VERSIONS: Final = (2, 3)
_SCALARS: Final = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
"""Type numbers of the metadata's values to `struct` formats."""

_STRING: Final = 8
_ARRAY: Final = 9
_ALIGNMENT: Final = 32
_MOST_AXES: Final = 8
_MOST_NESTED: Final = 4

# What a damaged header may ask for is bounded, whatever the size of the file.
_MOST_STRING_BYTES: Final = 1 << 24
_MOST_STEPS: Final = 1 << 23
_WINDOW_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """An entry of the table of tensors.

    Attributes:
        name: GGUF's name.
        shape: outermost axis first, as NumPy and torch write it (the file has it the other way round).
        type_number: GGML's number of its type.
        offset: where its bytes begin in the file.
        most_bytes: the bytes from there to the next tensor or the end of the file.
    """

    name: str
    shape: tuple[int, ...]
    type_number: int
    offset: int
    most_bytes: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """The metadata without its arrays (the vocabulary is one), `vocab_size` by the array of tokens, and the tensors."""

    metadata: dict[str, Any]
    n_tokens: int | None
    tensors: tuple[GgufTensor, ...]


class _Reader:
    """Reads one value after the other through a window on the file; past the end it raises `struct.error`."""

    def __init__(self, content: StoredBytes) -> None:
        self.content = content
        self.at = 0
        self._window = b""
        self._start = 0
        self._n_steps = 0

    def bytes(self, n_bytes: int) -> bytes:
        start = self.at
        self.skip(n_bytes)
        if start < self._start or self.at > self._start + len(self._window):
            self.content.file.seek(start)
            self._window = self.content.file.read(max(n_bytes, _WINDOW_BYTES))
            self._start = start
        taken = self._window[start - self._start : self.at - self._start]
        if len(taken) < n_bytes:
            raise struct.error(f"it was cut short at byte {start}")
        return taken

    def skip(self, n_bytes: int) -> None:
        self._n_steps += 1
        if self._n_steps > _MOST_STEPS:
            raise ValueError(f"it has more than {_MOST_STEPS} values")
        self.at += n_bytes
        if self.at > self.content.n_bytes:
            raise struct.error(f"{n_bytes} bytes are promised at byte {self.at - n_bytes}")

    def number(self, form: str) -> Any:
        (value,) = struct.unpack(form, self.bytes(struct.calcsize(form)))
        return value

    def string(self) -> str:
        n_bytes = self.number("<Q")
        if n_bytes > _MOST_STRING_BYTES:
            raise ValueError(f"a string of {n_bytes} bytes")
        return self.bytes(n_bytes).decode("utf-8", errors="replace")

    def value(self, kind: int) -> Any:
        """A value of the metadata; of an array only its length, as `range`."""
        if kind == _STRING:
            return self.string()
        if kind == _ARRAY:
            return self._array(0)
        return self.number(_SCALARS[kind])

    def _array(self, depth: int) -> range:
        kind, length = self.number("<I"), self.number("<Q")
        if kind == _STRING:
            for _ in range(length):
                self.skip(self.number("<Q"))
        elif kind == _ARRAY and depth < _MOST_NESTED:
            for _ in range(length):
                self._array(depth + 1)
        else:
            self.skip(struct.calcsize(_SCALARS[kind]) * length)
        return range(length)


def read_gguf_header(content: StoredBytes) -> GgufHeader:
    """The header of a GGUF file.

    Raises:
        WeightFileError: it is no GGUF file of a version known here, or is cut short in its header.
    """
    path = content.path
    reader = _Reader(content)
    try:
        if content.n_bytes < len(_MAGIC) or reader.bytes(len(_MAGIC)) != _MAGIC:
            raise WeightFileError(f"{path}: expected a GGUF file, but it does not begin as one does")
        version = reader.number("<I")
        if version not in _VERSIONS:
            raise WeightFileError(
                f"{path}: expected GGUF version 2 or 3 in little-endian order, got {version}; convert the file again"
            )
        n_tensors, n_entries = reader.number("<Q"), reader.number("<Q")
        metadata: dict[str, Any] = {}
        n_tokens: int | None = None
        for _ in range(n_entries):
            key = reader.string()
            value = reader.value(reader.number("<I"))
            if not isinstance(value, range):
                metadata[key] = value
            elif key == "tokenizer.ggml.tokens":
                n_tokens = len(value)
        entries = [_entry(reader) for _ in range(n_tensors)]
        alignment = _alignment(metadata)
        start = -(-reader.at // alignment) * alignment
    except (struct.error, KeyError, ValueError, OverflowError) as error:
        raise WeightFileError(
            f"{path}: expected a whole GGUF file, but its header ends at byte {content.n_bytes} or is damaged "
            f"({error}); download it again"
        ) from None
    ends = sorted({start + offset for *_, offset in entries} | {content.n_bytes})
    following = dict(pairwise(ends))
    tensors = tuple(
        GgufTensor(name, shape, number, at, following.get(at, at) - at)
        for name, shape, number, offset in entries
        for at in (start + offset,)
    )
    return GgufHeader(metadata, n_tokens, tensors)


def _alignment(metadata: dict[str, Any]) -> int:
    alignment = metadata.get("general.alignment", _ALIGNMENT)
    if type(alignment) is not int or alignment < 1:
        raise ValueError(f"general.alignment is {alignment!r}")
    return alignment


def _entry(reader: _Reader) -> tuple[str, tuple[int, ...], int, int]:
    """Name, shape, type and offset of a tensor, as the file has them."""
    name = reader.string()
    n_axes = reader.number("<I")
    if n_axes > _MOST_AXES:
        raise ValueError(f"{name} has {n_axes} axes")
    shape = tuple(reader.number("<Q") for _ in range(n_axes))[::-1]
    return name, shape, reader.number("<I"), reader.number("<Q")
