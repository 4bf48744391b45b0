"""The header of a safetensors file: what is stored where.

The format (https://github.com/huggingface/safetensors): 8 bytes with the length of the header, little-endian; the
header, a JSON object that maps each name to dtype, shape and the range of bytes after the header, and `__metadata__` to
strings; the bytes. A file is refused here where the library refuses it, with two exceptions: a dtype that is not known
concerns its own tensor alone, and an entry that is not written as an object is refused.

The bytes may begin anywhere, so that an array may lie at an address that is no multiple of its element's size.
"""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any, BinaryIO, Final, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["NotSafetensorsError", "SafetensorsHeader", "StoredArray", "read_header"]

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
    "C64": np.dtype("<c8"),
}
"""The dtypes that NumPy has too."""

_PATTERNS: Final[Mapping[str, np.dtype[Any]]] = {
    "BF16": np.dtype("<u2"),
    **dict.fromkeys(("F8_E4M3", "F8_E5M2", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), np.dtype("u1")),
}
"""Dtypes that NumPy lacks, to the unsigned integers that hold their bit patterns."""

_BITS: Final = {"F4": 4, "F6_E2M3": 6, "F6_E3M2": 6}
"""Dtypes whose values do not fill bytes, to the bits of one."""

_PREFIX: Final = 8
_MOST_HEADER_BYTES: Final = 100_000_000
_MOST_VALUES: Final = 1 << 64
_FIELDS: Final = frozenset({"dtype", "shape", "data_offsets", "__metadata__"})
"""Keys that may not come twice in an object."""


class NotSafetensorsError(Exception):
    """A file is no safetensors file, or not a whole one; the message says why, without its period."""


class StoredArray(NamedTuple):
    """What the header says about an array.

    Attributes:
        dtype: its dtype in NumPy, or the unsigned integers that hold its bit patterns; None where NumPy has neither.
        shape: its shape.
        offset: where it begins in the file.
        n_bytes: the bytes it takes in the file.
        code: what the header calls its dtype.
    """

    dtype: np.dtype[Any] | None
    shape: tuple[int, ...]
    offset: int
    n_bytes: int
    code: str

    @property
    def is_pattern(self) -> bool:
        """Whether `dtype` holds bit patterns instead of values."""
        return self.code in _PATTERNS


class SafetensorsHeader(NamedTuple):
    """The header of a file that is whole.

    Attributes:
        metadata: its string metadata.
        arrays: what is stored, by name, in the order of the bytes; together they cover the rest of the file exactly.
    """

    metadata: dict[str, str]
    arrays: dict[str, StoredArray]


def read_header(file: BinaryIO, n_bytes: int) -> SafetensorsHeader:
    """The header of a safetensors file.

    Args:
        file: the file, at its beginning.
        n_bytes: its size.

    Raises:
        NotSafetensorsError: it is not a whole safetensors file.
    """
    if n_bytes == 0:
        raise NotSafetensorsError("it is empty")
    prefix = file.read(_PREFIX)
    length = int.from_bytes(prefix, "little")
    start = _PREFIX + length
    if n_bytes <= _PREFIX or (start > n_bytes and file.read(1) != b"{"):
        raise NotSafetensorsError("it does not begin as a safetensors file does, or is cut off in its first bytes")
    if start > n_bytes:
        raise NotSafetensorsError(f"it is truncated: {n_bytes} bytes, and its header alone ends at byte {start}")
    if length > _MOST_HEADER_BYTES:
        raise NotSafetensorsError(f"its header has {length} bytes, and the format allows {_MOST_HEADER_BYTES}")
    entries = _parsed(file.read(length))
    metadata = entries.pop("__metadata__", None)
    if metadata is None:
        metadata = {}
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        raise NotSafetensorsError("the metadata in its header is not an object of strings")
    arrays = sorted(((name, _stored(name, entry, start)) for name, entry in entries.items()), key=_place)
    end = start
    for name, stored in arrays:
        if stored.offset != end:
            what = "overlaps the array before it" if stored.offset < end else "leaves a hole before it"
            raise NotSafetensorsError(
                f"the array {name} {what}: it begins at byte {stored.offset - start} of the data, and should at byte "
                f"{end - start}"
            )
        end = stored.offset + stored.n_bytes
    if end > n_bytes:
        raise NotSafetensorsError(f"it is truncated: {n_bytes} bytes, and its header promises {end}")
    if end < n_bytes:
        raise NotSafetensorsError(f"its header does not describe its contents: {n_bytes} bytes instead of {end}")
    return SafetensorsHeader(metadata, dict(arrays))


def _place(item: tuple[str, StoredArray]) -> tuple[int, int]:
    """The order of the bytes; of those that begin together an empty one comes first."""
    return item[1].offset, item[1].n_bytes


def _parsed(text: bytes) -> dict[str, Any]:
    """The header's JSON object."""
    try:
        decoded = text.decode("utf-8")
        header = json.loads(
            decoded, object_pairs_hook=_object, parse_int=_integer, parse_float=_number, parse_constant=_refused
        )
        if "\\ud" in decoded.lower():
            json.dumps(header, ensure_ascii=False).encode("utf-8")  # JSON can write halves of characters
    except (ValueError, TypeError, RecursionError) as error:
        raise NotSafetensorsError(f"its header is not valid JSON ({error})") from None
    if not isinstance(header, dict):
        raise NotSafetensorsError("its header is not an object")
    return header


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen and name in _FIELDS:
                raise ValueError(f"{name} comes twice")
            seen.add(name)
    return made


def _integer(digits: str) -> int | float:
    # As the library reads it: a whole number is never negative zero.
    return -0.0 if digits == "-0" else int(digits)


def _number(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"the number {digits} is out of range")
    return value


def _refused(constant: str) -> Any:
    raise ValueError(f"{constant} is no JSON")


def _stored(name: str, entry: Any, start: int) -> StoredArray:
    """What an entry of the header says, or `NotSafetensorsError` if it contradicts itself."""
    try:
        code, shape, (begin, end) = entry["dtype"], entry["shape"], entry["data_offsets"]
        whole = type(code) is str and type(shape) is list and all(type(size) is int for size in (*shape, begin, end))
        if whole and 0 <= begin <= end < _MOST_VALUES and min(shape, default=0) >= 0:
            dtype = _DTYPES.get(code, _PATTERNS.get(code))
            n_bits = 8 * dtype.itemsize if dtype is not None else _BITS.get(code)
            # Of a dtype that is not known a value may take less than a byte, though not less than a bit.
            least_bits = n_bits or 1
            fits = _largest_product(shape) * least_bits < _MOST_VALUES and (
                math.prod(shape) <= 8 * (end - begin)
                if n_bits is None
                else math.prod(shape) * n_bits == 8 * (end - begin)
            )
            if fits:
                return StoredArray(dtype, tuple(shape), start + begin, end - begin, code)
    except (KeyError, TypeError, ValueError):
        pass
    raise NotSafetensorsError(f"its header says what cannot be about the array {name}")


def _largest_product(shape: list[int]) -> int:
    """The largest product of the leading sizes: what the library computes on its way, and what must not overflow."""
    largest = product = 1
    for size in shape:
        product *= size
        largest = max(largest, product)
        if largest >= _MOST_VALUES:
            break
    return largest
