"""The header of a GGUF file: metadata and where each tensor is.

Read here and not by the package `gguf`, whose reader makes an array of every token of the vocabulary and takes seconds
for it. The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md; all numbers little-endian.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lmfacts.errors import WeightFileError

if TYPE_CHECKING:
    import mmap
    from pathlib import Path

__all__ = ["GgufHeader", "GgufTensor", "read_header"]

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


@dataclass(frozen=True, slots=True)
class GgufTensor:
    """An entry of the table of tensors.

    Attributes:
        name: GGUF's name.
        shape: outermost axis first, as NumPy and torch write it (the file has it the other way round).
        type_number: GGML's number of its type.
        offset: where its bytes begin in the file.
    """

    name: str
    shape: tuple[int, ...]
    type_number: int
    offset: int


@dataclass(frozen=True, slots=True)
class GgufHeader:
    """The metadata without its arrays (the vocabulary is one), `vocab_size` by the array of tokens, and the tensors."""

    metadata: dict[str, Any]
    n_tokens: int | None
    tensors: tuple[GgufTensor, ...]


class _Reader:
    """Reads one value after the other; past the end it raises `struct.error`."""

    def __init__(self, content: mmap.mmap) -> None:
        self.content = content
        self.at = 0

    def number(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self.content, self.at)
        self.at += struct.calcsize(form)
        return value

    def skip(self, n_bytes: int) -> None:
        self.at += n_bytes
        if self.at > len(self.content):
            raise struct.error(f"{n_bytes} bytes are promised at byte {self.at - n_bytes}")

    def string(self) -> str:
        start = self.at + 8
        self.skip(8 + self.number_ahead())
        return self.content[start : self.at].decode("utf-8", errors="replace")

    def number_ahead(self) -> int:
        value: int = struct.unpack_from("<Q", self.content, self.at)[0]
        return value

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
                self.skip(8 + self.number_ahead())
        elif kind == _ARRAY and depth < _MOST_NESTED:
            for _ in range(length):
                self._array(depth + 1)
        else:
            self.skip(struct.calcsize(_SCALARS[kind]) * length)
        return range(length)


def read_header(path: Path, content: mmap.mmap) -> GgufHeader:
    """The header of a mapped GGUF file.

    Raises:
        WeightFileError: it is no GGUF file of a version known here, or is cut short in its header.
    """
    if content[:4] != _MAGIC:
        raise WeightFileError(f"{path}: expected a GGUF file, but it does not begin as one does")
    reader = _Reader(content)
    reader.at = len(_MAGIC)
    try:
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
        alignment = metadata.get("general.alignment", _ALIGNMENT)
        start = -(-reader.at // alignment) * alignment
    except (struct.error, KeyError, ValueError, TypeError, ZeroDivisionError, OverflowError) as error:
        raise WeightFileError(
            f"{path}: expected a whole GGUF file, but its header ends at byte {len(content)} or is damaged ({error}); "
            "download it again"
        ) from None
    tensors = tuple(GgufTensor(each.name, each.shape, each.type_number, start + each.offset) for each in entries)
    return GgufHeader(metadata, n_tokens, tensors)


def _entry(reader: _Reader) -> GgufTensor:
    name = reader.string()
    n_axes = reader.number("<I")
    if n_axes > _MOST_AXES:
        raise ValueError(f"{name} has {n_axes} axes")
    shape = tuple(reader.number("<Q") for _ in range(n_axes))[::-1]
    return GgufTensor(name, shape, reader.number("<I"), reader.number("<Q"))
