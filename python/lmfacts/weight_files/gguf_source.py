"""Weights in GGUF files, under their Hugging Face names, dequantized one tensor at a time."""

from __future__ import annotations

import math
import mmap
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lmfacts.architectures import gguf_config, gguf_tensor_names, tied_head
from lmfacts.errors import MissingExtraError, WeightFileError
from lmfacts.safetensors_view import release_pages
from lmfacts.weight_files.gguf_header import read_header
from lmfacts.weight_files.source import Provenance, StoredTensor, WeightSource

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from lmfacts.architectures import GgufName
    from lmfacts.weight_files.gguf_header import GgufTensor

__all__ = ["GgufSource"]

_PLAIN: Final[Mapping[int, tuple[str, np.dtype[Any]]]] = {
    0: ("float32", np.dtype("<f4")),
    1: ("float16", np.dtype("<f2")),
    24: ("int8", np.dtype("i1")),
    25: ("int16", np.dtype("<i2")),
    26: ("int32", np.dtype("<i4")),
    27: ("int64", np.dtype("<i8")),
    28: ("float64", np.dtype("<f8")),
    30: ("bfloat16", np.dtype("<u2")),
}
"""GGML's numbers of the types that are not quantized, and the arrays they are read as."""

_VALUES_AT_A_TIME: Final = 1 << 22


class GgufSource(WeightSource):
    """One GGUF file. What its converter changed in a tensor is undone (see `architectures.gguf_names`)."""

    format = "gguf"

    def __init__(self, name: str, path: Path) -> None:
        """Map the file and read its header.

        Raises:
            WeightFileError: it is damaged, cut short, or has a type of tensor that is not known.
            MissingExtraError: a tensor is quantized, and the extra `gguf` is not installed.
        """
        with path.open("rb") as file:
            try:
                self._bytes: mmap.mmap | None = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            except ValueError:
                raise WeightFileError(f"{path}: expected a GGUF file, but it is empty") from None
        header = read_header(path, self._bytes)
        config = gguf_config(header.metadata)
        if header.n_tokens is not None:
            config.setdefault("vocab_size", header.n_tokens)
        names, notes = gguf_tensor_names([each.name for each in header.tensors], config)
        self._entries: dict[str, tuple[GgufTensor, GgufName, int]] = {}
        self._last: StoredTensor | None = None
        tensors: list[StoredTensor] = []
        for entry in header.tensors:
            change = names[entry.name]
            dtype, n_bytes, quantization = _kind(path, entry)
            if entry.offset + n_bytes > len(self._bytes):
                raise WeightFileError(
                    f"{path}: it is cut short: {len(self._bytes)} bytes, and {entry.name} ends at byte "
                    f"{entry.offset + n_bytes}; download it again"
                )
            if change.name in self._entries:
                raise WeightFileError(f"{path}: expected each tensor once, got {entry.name} twice")
            if change.subtract and dtype != "float64":
                dtype = "float32"
            self._entries[change.name] = entry, change, n_bytes
            tensors.append(StoredTensor(change.name, entry.shape, dtype, n_bytes, quantization, path.name))
        if any(tensor.quantization is not None for tensor in tensors):
            notes.append("Quantized tensors are measured as what they stand for, in float32.")
        pair = tied_head(self._entries, config)
        super().__init__(Provenance(name, None, config), tensors, {} if pair is None else {pair[0]: pair[1]}, notes)

    def read(self, tensor: StoredTensor) -> NDArray[Any]:
        """A view of the mapped file where the values are stored as they are; else a new array.

        Memory beyond the new array is a few MB for dequantizing, and the stored bytes for putting rows in order.
        """
        if self._bytes is None or tensor.name not in self._entries:
            raise WeightFileError(f"{self.name}: expected an open source and one of its tensors, got {tensor.name}")
        if self._last is not None and self._last != tensor:
            last, _, n_bytes = self._entries[self._last.name]
            release_pages(self._bytes, last.offset, n_bytes)
        self._last = tensor
        entry, change, n_bytes = self._entries[tensor.name]
        raw = np.frombuffer(self._bytes, np.uint8, n_bytes, entry.offset)
        if math.prod(tensor.shape) == 0:
            return np.empty(tensor.shape, np.float32)
        n_rows = math.prod(tensor.shape[:-1])
        rows = raw.reshape(n_rows, -1)
        n_heads = change.n_permuted_heads
        if n_heads:
            rows = self._in_order(rows if len(tensor.shape) > 1 else raw.reshape(tensor.shape[0], -1), n_heads, tensor)
        if entry.type_number in _PLAIN:
            _, dtype = _PLAIN[entry.type_number]
            values: NDArray[Any] = rows.reshape(-1).view(dtype).reshape(tensor.shape)
            if not change.subtract:
                return values
            widened = _widened(values, entry.type_number)
        else:
            widened = _dequantized(rows, entry.type_number, tensor.shape)
        if change.subtract:
            widened = (widened - np.asarray(change.subtract, widened.dtype)).astype(widened.dtype)
        return widened

    def close(self) -> None:
        """Forget the map."""
        self._bytes, self._last = None, None

    def _in_order(self, rows: NDArray[np.uint8], n_heads: int, tensor: StoredTensor) -> NDArray[np.uint8]:
        """The rows of q or k as the model has them; llama.cpp interleaves the two halves of each head.

        Raises:
            WeightFileError: the number of rows does not fit that of heads.
        """
        if len(rows) % (2 * n_heads):
            raise WeightFileError(
                f"{self.name}: expected {tensor.name} to have a multiple of {2 * n_heads} rows for its {n_heads} "
                f"heads, got {len(rows)}"
            )
        halves = rows.reshape(n_heads, len(rows) // n_heads // 2, 2, rows.shape[-1])
        return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)


def _kind(path: Path, entry: GgufTensor) -> tuple[str, int, str | None]:
    """The dtype that a tensor is read as, its stored bytes, and what its quantization is called.

    Raises:
        WeightFileError: its type is not known, or does not fit its rows.
        MissingExtraError: it is quantized, and the package that can read it is not installed.
    """
    n_values = math.prod(entry.shape)
    if entry.type_number in _PLAIN:
        dtype, stored = _PLAIN[entry.type_number]
        return dtype, n_values * stored.itemsize, None
    try:
        import gguf  # noqa: PLC0415  an extra, and only for quantized tensors
    except ImportError:
        raise MissingExtraError(
            f"{path}: reading quantized tensors needs the package gguf; install: pip install 'lmfacts[gguf]'"
        ) from None
    try:
        kind = gguf.GGMLQuantizationType(entry.type_number)
        block, n_block_bytes = gguf.GGML_QUANT_SIZES[kind]
    except (ValueError, KeyError):
        raise WeightFileError(
            f"{path}: {entry.name} is of GGML type {entry.type_number}, which the installed gguf package does not "
            "know; upgrade it"
        ) from None
    if not entry.shape or entry.shape[-1] % block:
        raise WeightFileError(
            f"{path}: {entry.name} is damaged: rows of {kind.name} have multiples of {block} values, got {entry.shape}"
        )
    return "float32", n_values // block * n_block_bytes, str(kind.name)


def _widened(values: NDArray[Any], type_number: int) -> NDArray[Any]:
    """Stored floats as float32, or float64 as they are."""
    if _PLAIN[type_number][0] == "bfloat16":
        return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return values if values.dtype == np.float64 else values.astype(np.float32)


def _dequantized(rows: NDArray[np.uint8], type_number: int, shape: tuple[int, ...]) -> NDArray[Any]:
    """The values of quantized rows, a few rows at a time into one array of float32.

    Raises:
        WeightFileError: the package cannot dequantize this type.
    """
    import gguf  # noqa: PLC0415  optional

    kind = gguf.GGMLQuantizationType(type_number)
    values = np.empty((len(rows), shape[-1]), np.float32)
    step = max(1, _VALUES_AT_A_TIME // shape[-1])
    try:
        for start in range(0, len(rows), step):
            values[start : start + step] = gguf.dequantize(rows[start : start + step], kind)
    except NotImplementedError:
        raise WeightFileError(
            f"the installed gguf package cannot dequantize {kind.name}; upgrade it, or use another quantization"
        ) from None
    return values.reshape(shape)
