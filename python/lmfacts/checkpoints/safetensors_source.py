"""Weights in safetensors files."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lmfacts.checkpoints.source import Provenance, StoredTensor, WeightSource, check_index, shape_problem
from lmfacts.checkpoints.stored_bytes import Buffer, StoredBytes
from lmfacts.errors import WeightFileError
from lmfacts.files.safetensors_header import NotSafetensorsError, SafetensorsHeader, StoredArray, read_header
from lmfacts.models import tied_head

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["SafetensorsSource"]

_NAMES: Final = {
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "F8_E4M3FNUZ": "float8_e4m3fnuz",
    "F8_E5M2FNUZ": "float8_e5m2fnuz",
}
"""What torch calls the dtypes that NumPy lacks."""

_CHUNK: Final = 1 << 24


class SafetensorsSource(WeightSource):
    """One file, or the shards of one checkpoint."""

    format = "safetensors"

    def __init__(
        self, provenance: Provenance, paths: Sequence[Path], index: Mapping[str, str] | None, notes: Sequence[str] = ()
    ) -> None:
        """Open the files and read their headers.

        Args:
            provenance: where they come from.
            paths: the files, in order.
            index: tensor to file name, where there is an index.
            notes: what is known about the choice of files.

        Raises:
            WeightFileError: a file is damaged, or is not what the index says.
        """
        self._files: dict[str, StoredBytes] = {}
        self._arrays: dict[str, StoredArray] = {}
        self._buffer = Buffer()
        try:
            tensors, left_out = self._listed(provenance.name, paths)
            for name, file in (index or {}).items():
                check_index(provenance.name, name, file, tensors.get(name))
            tied = self._tied(tensors, left_out, provenance.config)
        except BaseException:
            self.close()
            raise
        super().__init__(provenance, [each for each in tensors.values() if each.name not in tied], tied, notes)

    def read(self, tensor: StoredTensor) -> NDArray[Any]:
        """The values as they are stored."""
        return self._read(tensor, 0, tensor.shape)

    def read_rows(self, tensor: StoredTensor, start: int, stop: int) -> NDArray[Any]:
        """Only these rows are read."""
        row_bytes = tensor.n_bytes // tensor.shape[0]
        return self._read(tensor, start * row_bytes, (stop - start, *tensor.shape[1:]))

    def close(self) -> None:
        """Close the files."""
        for file in self._files.values():
            file.close()
        self._files, self._arrays, self._buffer = {}, {}, Buffer()

    def _listed(self, asked: str, paths: Sequence[Path]) -> tuple[dict[str, StoredTensor], dict[str, str]]:
        """The tensors of all files, and their metadata."""
        tensors: dict[str, StoredTensor] = {}
        metadata: dict[str, str] = {}
        for path in paths:
            header = self._opened(path)
            metadata |= header.metadata
            for name, stored in header.arrays.items():
                if name in tensors:
                    raise WeightFileError(
                        f"{asked}: {name} is in {tensors[name].file} and in {path.name}; expected each tensor once"
                    )
                self._arrays[name] = stored
                tensors[name] = _tensor(name, stored, path.name)
        return tensors, metadata

    def _opened(self, path: Path) -> SafetensorsHeader:
        opened = StoredBytes(path)
        self._files[path.name] = opened
        try:
            return read_header(opened.file, opened.n_bytes)
        except NotSafetensorsError as error:
            raise WeightFileError(
                f"{path}: expected a whole safetensors file, but {error}; download or save it again"
            ) from None

    def _read(self, tensor: StoredTensor, start: int, shape: tuple[int, ...]) -> NDArray[Any]:
        file, stored = self._files.get(tensor.file), self._arrays.get(tensor.name)
        if file is None or stored is None:
            raise WeightFileError(f"{self.name}: expected an open source and one of its tensors, got {tensor.name}")
        if tensor.problem is not None or stored.dtype is None:
            raise WeightFileError(f"{self.name}: {tensor.name} cannot be read: {tensor.problem}")
        memory = self._buffer.take(stored.dtype.itemsize * math.prod(shape))
        file.read_into(stored.offset + start, memory)
        try:
            return memory.view(stored.dtype).reshape(shape)
        except ValueError:  # of no values, in a shape whose sizes are astronomical
            raise WeightFileError(f"{self.name}: {tensor.name} has a shape that no array can have: {shape}") from None

    def _tied(
        self, tensors: dict[str, StoredTensor], left_out: Mapping[str, str], config: Mapping[str, Any] | None
    ) -> dict[str, str]:
        """Parameters without a storage of their own: left out of the file, or stored twice with the same bytes."""
        # transformers notes in the metadata which names it left out.
        tied = {name: owner for name, owner in left_out.items() if name not in tensors and owner in tensors}
        pair = tied_head(tensors, config)
        if pair is not None:
            tied.setdefault(*pair)
        elif config is not None and config.get("tie_word_embeddings") is True:
            heads = [name for name in tensors if name.rpartition("lm_head.")[1] and name.endswith("weight")]
            without = tied_head([name for name in tensors if name not in heads], config)
            if len(heads) == 1 and without is not None and self._same(tensors[heads[0]], tensors[without[1]]):
                tied[heads[0]] = without[1]
        return tied

    def _same(self, one: StoredTensor, other: StoredTensor) -> bool:
        """Whether two stored tensors are alike, byte for byte."""
        if (one.shape, one.dtype, one.n_bytes) != (other.shape, other.dtype, other.n_bytes):
            return False
        pieces = [np.empty(min(_CHUNK, one.n_bytes), np.uint8) for _ in range(2)]
        for start in range(0, one.n_bytes, _CHUNK):
            length = min(_CHUNK, one.n_bytes - start)
            for each, piece in zip((one, other), pieces, strict=True):
                self._files[each.file].read_into(self._arrays[each.name].offset + start, piece[:length])
            if not np.array_equal(pieces[0][:length], pieces[1][:length]):
                return False
        return True


def _tensor(name: str, stored: StoredArray, file: str) -> StoredTensor:
    dtype = _NAMES.get(stored.code) or (stored.code if stored.dtype is None else stored.dtype.name)
    problem = f"{stored.code} is a dtype that is not known" if stored.dtype is None else shape_problem(stored.shape)
    return StoredTensor(name, stored.shape, dtype, stored.n_bytes, None, file, problem)
