"""Weights in safetensors files, read as views of the mapped files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lmfacts.architectures import tied_head
from lmfacts.errors import WeightFileError
from lmfacts.safetensors_view import NotSafetensorsError, SafetensorsView
from lmfacts.weight_files.source import Provenance, StoredTensor, WeightSource

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["SafetensorsSource"]

_NAMES: Final = {"BF16": "bfloat16", "F8_E4M3": "float8_e4m3fn", "F8_E5M2": "float8_e5m2", "F8_E8M0": "float8_e8m0fnu"}
_CHUNK: Final = 1 << 24


class SafetensorsSource(WeightSource):
    """One file, or the shards of one checkpoint."""

    format = "safetensors"

    def __init__(
        self, provenance: Provenance, paths: Sequence[Path], index: Mapping[str, str] | None, notes: Sequence[str] = ()
    ) -> None:
        """Map the files.

        Args:
            provenance: where they come from.
            paths: the files, in order.
            index: tensor to file name, where there is an index.
            notes: what is known about the choice of files.

        Raises:
            WeightFileError: a file is damaged, or is not what the index says.
        """
        self._views = {path.name: _opened(path) for path in paths}
        self._last: StoredTensor | None = None
        tensors: dict[str, StoredTensor] = {}
        for file, view in self._views.items():
            for name, stored in sorted(view.stored.items(), key=lambda item: item[1].offset):
                if name in tensors:
                    raise WeightFileError(
                        f"{provenance.name}: {name} is in {tensors[name].file} and in {file}; expected each tensor once"
                    )
                dtype = _NAMES.get(stored.code, stored.dtype.name)
                tensors[name] = StoredTensor(name, stored.shape, dtype, stored.n_bytes, None, file)
        for name, file in (index or {}).items():
            if name not in tensors or tensors[name].file != file:
                raise WeightFileError(
                    f"{provenance.name}: the index says that {name} is in {file}, and that file has no such tensor; "
                    "the index and the files are of different checkpoints"
                )
        tied = self._tied(tensors, provenance.config)
        super().__init__(provenance, [each for each in tensors.values() if each.name not in tied], tied, notes)

    def read(self, tensor: StoredTensor) -> NDArray[Any]:
        """A read-only view of the mapped file."""
        if self._last is not None and self._last != tensor:
            self._views[self._last.file].release(self._last.name)
        self._last = tensor
        try:
            return self._views[tensor.file].array(tensor.name)
        except KeyError:
            raise WeightFileError(
                f"{self.name}: expected an open source and one of its tensors, got {tensor.name}"
            ) from None

    def close(self) -> None:
        """Forget the maps."""
        self._views = {}
        self._last = None

    def _tied(self, tensors: dict[str, StoredTensor], config: Mapping[str, Any] | None) -> dict[str, str]:
        """Parameters without a storage of their own: left out of the file, or stored twice with the same bytes."""
        tied: dict[str, str] = {}
        for view in self._views.values():
            # transformers notes there which names it left out.
            tied |= {name: owner for name, owner in view.metadata.items() if name not in tensors and owner in tensors}
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
        if (one.shape, one.dtype) != (other.shape, other.dtype):
            return False
        first, second = (self._views[each.file].array(each.name).reshape(-1).view(np.uint8) for each in (one, other))
        same = all(
            np.array_equal(first[start : start + _CHUNK], second[start : start + _CHUNK])
            for start in range(0, len(first), _CHUNK)
        )
        for each in (one, other):
            self._views[each.file].release(each.name)
        return same


def _opened(path: Path) -> SafetensorsView:
    try:
        return SafetensorsView(path, patterns=True)
    except NotSafetensorsError as error:
        raise WeightFileError(
            f"{path}: expected a whole safetensors file, but {error}; download or save it again"
        ) from None
