"""Weights in GGUF files, under their Hugging Face names, dequantized one tensor at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lmfacts.checkpoints.gguf_header import GgufHeader, read_gguf_header
from lmfacts.checkpoints.source import Provenance, StoredTensor, WeightSource
from lmfacts.checkpoints.stored_bytes import Buffer, StoredBytes
from lmfacts.errors import MissingExtraError, WeightFileError
from lmfacts.models import gguf_config, gguf_tensor_names, tied_head
from lmfacts.stats.float_values import float_values

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from lmfacts.checkpoints.gguf_header import GgufTensor
    from lmfacts.models import GgufName

__all__ = ["GgufSource", "n_gguf_parts"]

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


@dataclass(frozen=True, slots=True)
class _Entry:
    """A tensor, the file it is in, and what its converter changed."""

    file: StoredBytes
    stored: GgufTensor
    change: GgufName
    n_bytes: int

    @property
    def is_plain(self) -> bool:
        return self.stored.type_number in _PLAIN


class GgufSource(WeightSource):
    """One GGUF file, or all parts of one.

    What its converter changed in a tensor is undone (see `models.gguf_names`).
    """

    format = "gguf"

    def __init__(self, name: str, paths: Sequence[Path]) -> None:
        """Open the files and read their headers.

        Args:
            name: what was asked for.
            paths: the parts, in order; the first has the metadata.

        Raises:
            WeightFileError: a file is damaged, cut short, or a part of another model.
            MissingExtraError: a tensor is quantized, and the extra `gguf` is not installed.
        """
        self._files: list[StoredBytes] = []
        self._entries: dict[str, _Entry] = {}
        self._buffer = Buffer()
        try:
            headers = [self._opened(path) for path in paths]
            _check_parts(paths, headers)
            config = gguf_config(headers[0].metadata)
            if headers[0].n_tokens is not None:
                config.setdefault("vocab_size", headers[0].n_tokens)
            names, notes = gguf_tensor_names([each.name for header in headers for each in header.tensors], config)
            tensors = [
                tensor
                for file, header in zip(self._files, headers, strict=True)
                for tensor in self._listed(file, header, names)
            ]
        except BaseException:
            self.close()
            raise
        if any(tensor.quantization is not None and tensor.problem is None for tensor in tensors):
            notes.append("Quantized tensors are measured as what they stand for, in float32.")
        pair = tied_head(self._entries, config)
        super().__init__(Provenance(name, None, config), tensors, {} if pair is None else {pair[0]: pair[1]}, notes)

    def read(self, tensor: StoredTensor) -> NDArray[Any]:
        """The values as they are stored where nothing has to be done to them; else a new array.

        Memory beyond the new array is a few MB.
        """
        entry = self._entries.get(tensor.name)
        if entry is None:
            raise WeightFileError(f"{self.name}: expected an open source and one of its tensors, got {tensor.name}")
        if tensor.problem is not None:
            raise WeightFileError(f"{self.name}: {tensor.name} cannot be read: {tensor.problem}")
        if math.prod(tensor.shape) == 0:
            return np.empty([min(size, 1) for size in tensor.shape], np.float32)
        change = entry.change
        if entry.is_plain and not change.subtract and not change.n_permuted_heads:
            memory = self._buffer.take(entry.n_bytes)
            entry.file.read_into(entry.stored.offset, memory)
            return memory.view(_PLAIN[entry.stored.type_number][1]).reshape(tensor.shape)
        # The values of a bias are its rows, if they have to be put in order.
        is_bias = len(tensor.shape) == 1 and entry.is_plain and change.n_permuted_heads > 0
        n_rows = math.prod(tensor.shape if is_bias else tensor.shape[:-1])
        row_bytes = entry.n_bytes // n_rows
        # The rows of a head are put in order among themselves, so that a piece is some heads.
        group = 1
        if change.n_permuted_heads:
            if n_rows % (2 * change.n_permuted_heads):
                raise WeightFileError(
                    f"{self.name}: expected {tensor.name} to have a multiple of {2 * change.n_permuted_heads} rows for "
                    f"its {change.n_permuted_heads} heads, got {n_rows}"
                )
            group = n_rows // change.n_permuted_heads
        step = max(1, _VALUES_AT_A_TIME * n_rows // tensor.n_values // group) * group
        piece = np.empty((min(step, n_rows), row_bytes), np.uint8)
        values: NDArray[Any] | None = None
        for start in range(0, n_rows, step):
            rows = piece[: min(step, n_rows - start)]
            entry.file.read_into(entry.stored.offset + start * row_bytes, rows.reshape(-1))
            if change.n_permuted_heads:
                rows = _in_order(rows, group)
            array = _values(rows, entry.stored.type_number)
            if change.subtract:
                array = float_values(array, _PLAIN[entry.stored.type_number][0]) if entry.is_plain else array
                array = array.astype(np.float32 if array.itemsize < np.dtype("f4").itemsize else array.dtype)
                array = array - np.asarray(change.subtract, array.dtype)
            if values is None:
                values = np.empty((n_rows, array.shape[1]), array.dtype)
            values[start : start + len(rows)] = array
        assert values is not None
        return values.reshape(tensor.shape)

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()
        self._files, self._entries, self._buffer = [], {}, Buffer()

    def _opened(self, path: Path) -> GgufHeader:
        file = StoredBytes(path)
        self._files.append(file)
        if file.n_bytes == 0:
            raise WeightFileError(f"{path}: expected a GGUF file, but it is empty")
        return read_gguf_header(file)

    def _listed(self, file: StoredBytes, header: GgufHeader, names: Mapping[str, GgufName]) -> list[StoredTensor]:
        """The tensors of one part.

        Raises:
            WeightFileError: they are not where the header says, or one is there twice.
        """
        tensors: list[StoredTensor] = []
        for stored in header.tensors:
            change = names[stored.name]
            dtype, n_bytes, quantization, problem = _kind(file, stored)
            if stored.offset + n_bytes > file.n_bytes:
                raise WeightFileError(
                    f"{file.path}: it is cut short: {file.n_bytes} bytes, and {stored.name} ends at byte "
                    f"{stored.offset + n_bytes}; download it again"
                )
            if change.name in self._entries:
                raise WeightFileError(f"{file.path}: expected each tensor once, got {stored.name} twice")
            if change.subtract and dtype in ("float16", "bfloat16"):
                dtype = "float32"
            self._entries[change.name] = _Entry(file, stored, change, n_bytes)
            tensors.append(
                StoredTensor(change.name, stored.shape, dtype, n_bytes, quantization, file.path.name, problem)
            )
        end = 0
        for tensor in sorted(tensors, key=lambda tensor: (self._entries[tensor.name].stored.offset, tensor.n_bytes)):
            entry = self._entries[tensor.name]
            if entry.stored.offset < end and entry.n_bytes > 0:
                raise WeightFileError(
                    f"{file.path}: it is damaged: {entry.stored.name} begins at byte {entry.stored.offset}, inside the "
                    "tensor before it; download it again"
                )
            end = max(end, entry.stored.offset + entry.n_bytes)
        return tensors


def n_gguf_parts(path: Path) -> int:
    """How many parts the model has that a GGUF file is of; 1 for a whole model.

    Raises:
        WeightFileError: it is no GGUF file, or its header is damaged.
    """
    file = StoredBytes(path)
    try:
        n_parts = read_gguf_header(file).metadata.get("split.count", 1)
    finally:
        file.close()
    return n_parts if isinstance(n_parts, int) else 1


def _check_parts(paths: Sequence[Path], headers: Sequence[GgufHeader]) -> None:
    """Whether the files are all parts of one model, in order.

    Raises:
        WeightFileError: they are not.
    """
    for number, (path, header) in enumerate(zip(paths, headers, strict=True)):
        n_parts, part = header.metadata.get("split.count", 0) or 1, header.metadata.get("split.no", 0)
        if n_parts != len(paths) or (n_parts > 1 and part != number):
            raise WeightFileError(
                f"{path}: expected part {number + 1} of {len(paths)}, and it says that it is part "
                f"{part + 1 if isinstance(part, int) else part} of {n_parts}; keep all parts in one folder under "
                "the names they were made with, such as model-00001-of-00003.gguf"
            )
    promised = headers[0].metadata.get("split.tensors.count")
    n_tensors = sum(len(header.tensors) for header in headers)
    if len(paths) > 1 and isinstance(promised, int) and promised != n_tensors:
        raise WeightFileError(
            f"{paths[0]}: it promises {promised} tensors in all its parts, and they have {n_tensors}; the parts are of "
            "different models, or one is damaged"
        )


def _kind(file: StoredBytes, entry: GgufTensor) -> tuple[str, int, str | None, str | None]:
    """The dtype that a tensor is read as, its stored bytes, what its quantization is called, and why it cannot be read.

    Raises:
        WeightFileError: its type does not fit its rows.
        MissingExtraError: it is quantized, and the package that can read it is not installed.
    """
    n_values = math.prod(entry.shape)
    if entry.type_number in _PLAIN:
        dtype, stored = _PLAIN[entry.type_number]
        return dtype, n_values * stored.itemsize, None, None
    try:
        import gguf  # noqa: PLC0415  an extra, and only for quantized tensors
    except ImportError:
        raise MissingExtraError(
            f"{file.path}: reading quantized tensors needs the package gguf; install: pip install 'lmfacts[gguf]'"
        ) from None
    try:
        kind = gguf.GGMLQuantizationType(entry.type_number)
        block, n_block_bytes = gguf.GGML_QUANT_SIZES[kind]
    except (ValueError, KeyError):
        if n_values > 8 * entry.most_bytes:  # a value takes a bit at least
            raise WeightFileError(
                f"{file.path}: {entry.name} is damaged: {entry.shape} values cannot be in {entry.most_bytes} bytes"
            ) from None
        problem = f"the installed gguf package does not know GGML type {entry.type_number}; upgrade it"
        return f"ggml_{entry.type_number}", entry.most_bytes, f"GGML type {entry.type_number}", problem
    if not entry.shape or entry.shape[-1] % block:
        raise WeightFileError(
            f"{file.path}: {entry.name} is damaged: rows of {kind.name} have multiples of {block} values, got "
            f"{entry.shape}"
        )
    problem = ""
    if not _can_be_dequantized(entry.type_number):
        problem = f"the installed gguf package cannot dequantize {kind.name}; upgrade it, or use another quantization"
    return "float32", n_values // block * n_block_bytes, str(kind.name), problem or None


@cache
def _can_be_dequantized(type_number: int) -> bool:
    """Whether the installed package can: there is no other way to ask it."""
    import gguf  # noqa: PLC0415  optional

    kind = gguf.GGMLQuantizationType(type_number)
    try:
        gguf.dequantize(np.zeros((1, gguf.GGML_QUANT_SIZES[kind][1]), np.uint8), kind)
    except NotImplementedError:  # gguf's own, for types that it only knows by name
        return False
    return True


def _in_order(rows: NDArray[np.uint8], group: int) -> NDArray[np.uint8]:
    """The rows of q or k as the model has them; llama.cpp interleaves the two halves of each head.

    Args:
        rows: the bytes of the rows of some heads.
        group: the rows of one head.
    """
    halves = rows.reshape(len(rows) // group, group // 2, 2, rows.shape[-1])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)


def _values(rows: NDArray[np.uint8], type_number: int) -> NDArray[Any]:
    """The values of some rows: bit patterns of bfloat16, float32 of what is quantized."""
    if type_number in _PLAIN:
        return rows.view(_PLAIN[type_number][1])
    import gguf  # noqa: PLC0415  optional

    with np.errstate(all="ignore"):  # a damaged scale may be anything
        dequantized: NDArray[Any] = gguf.dequantize(rows, gguf.GGMLQuantizationType(type_number))
    return dequantized
