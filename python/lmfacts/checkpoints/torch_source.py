"""Weights in torch's own files (.bin, .pt, .pth), opened without running what is in them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lmfacts.checkpoints.source import Provenance, StoredTensor, WeightSource, check_index, shape_problem
from lmfacts.checkpoints.stored_bytes import Buffer, StoredBytes
from lmfacts.checkpoints.torch_file import read_torch_file
from lmfacts.checkpoints.torch_pickle import PickledTensor
from lmfacts.errors import WeightFileError
from lmfacts.models import tied_head
from lmfacts.stats.float_values import PATTERNS, dtype_problem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["TorchSource"]

_INNER: Final = ("state_dict", "model_state_dict", "model", "module")
_INT_BITS: Final = 64
_HEADS: Final = ("lm_head.weight", "embed_out.weight")


class TorchSource(WeightSource):
    """One file, or the shards of one checkpoint."""

    format = "torch"

    def __init__(
        self, provenance: Provenance, paths: Sequence[Path], index: Mapping[str, str] | None, notes: Sequence[str] = ()
    ) -> None:
        """Open the files and list what they hold.

        Args:
            provenance: where they come from.
            paths: the files, in order.
            index: tensor to file name, where there is an index.
            notes: what is known about the choice of files.

        Raises:
            WeightFileError: a file is damaged, holds no tensors, or wants to run code.
        """
        self._files: list[StoredBytes] = []
        self._places: dict[str, tuple[StoredBytes, PickledTensor, int]] = {}
        self._buffer = Buffer()
        tensors: dict[str, StoredTensor] = {}
        tied: dict[str, str] = {}
        try:
            for path in paths:
                self._list(path, tensors, tied)
            for name, file in (index or {}).items():
                check_index(provenance.name, name, file, tensors.get(tied.get(name, name)))
        except BaseException:
            self.close()
            raise
        pair = tied_head([*tensors, *tied], provenance.config)
        if pair is not None:
            tied[pair[0]] = pair[1]
        super().__init__(provenance, list(tensors.values()), tied, notes)

    def read(self, tensor: StoredTensor) -> NDArray[Any]:
        """The values as they are stored."""
        if tensor.name not in self._places:
            raise WeightFileError(f"{self.name}: expected an open source and one of its tensors, got {tensor.name}")
        if tensor.problem is not None:
            raise WeightFileError(f"{self.name}: {tensor.name} cannot be read: {tensor.problem}")
        file, pickled, start = self._places[tensor.name]
        dtype = np.dtype(PATTERNS.get(tensor.dtype, tensor.dtype))
        memory = self._buffer.take(pickled.n_elements * dtype.itemsize)
        file.read_into(start, memory)
        strides = [stride * dtype.itemsize for stride in pickled.strides]
        try:
            return np.ndarray(tensor.shape, dtype, memory, strides=strides if memory.size else None)
        except ValueError:  # of no values, in a shape whose sizes are astronomical
            raise WeightFileError(f"{self.name}: {tensor.name} has a shape that no array can have") from None

    def close(self) -> None:
        """Close the files."""
        for file in self._files:
            file.close()
        self._files, self._places, self._buffer = [], {}, Buffer()

    def _list(self, path: Path, tensors: dict[str, StoredTensor], tied: dict[str, str]) -> None:
        """Add the tensors of one file.

        Raises:
            WeightFileError: it cannot be read, or has a tensor that another file has.
        """
        file = StoredBytes(path)
        self._files.append(file)
        content = read_torch_file(file)
        state = _state_dict(path, content.content)
        owners = _owners(state)
        for name, pickled in state.items():
            if name in tensors or name in tied:
                other = tensors.get(tied.get(name, name))
                raise WeightFileError(
                    f"{path}: {name} is also in {other.file if other else 'another file'}; expected each tensor once"
                )
            if owners[name] != name:
                tied[name] = owners[name]
                continue
            start = 0
            if pickled.storage is not None:
                start = content.offsets[pickled.storage.key] + pickled.offset * pickled.item_bytes
            self._places[name] = file, pickled, start
            tensors[name] = StoredTensor(
                name,
                pickled.shape,
                pickled.dtype,
                pickled.n_values * pickled.item_bytes if pickled.storage is not None else 0,
                None,
                path.name,
                pickled.problem or shape_problem(pickled.shape) or dtype_problem(pickled.dtype),
            )


def _state_dict(path: Path, content: Any) -> dict[str, PickledTensor]:
    """The tensors by name: the mapping itself, or the one it keeps under a usual key.

    Raises:
        WeightFileError: there are none.
    """
    if isinstance(content, Mapping):
        for key in _INNER:
            inner = content.get(key)
            if isinstance(inner, Mapping):
                content = inner
                break
        # What else lies in a state dictionary (`_extra_state`, counters) is no weight.
        named = ((_text(name), each) for name, each in content.items() if isinstance(each, PickledTensor))
        tensors = {name: each for name, each in named if name is not None}
        if tensors:
            return tensors
    raise WeightFileError(f"{path}: expected a state dictionary of tensors, got {type(content).__name__} without any")


def _text(name: Any) -> str | None:
    """A key as a name that can be written in UTF-8; None for what is no name."""
    if isinstance(name, int) and name.bit_length() < _INT_BITS:
        return str(name)
    return name.encode("utf-8", errors="replace").decode("utf-8") if isinstance(name, str) else None


def _owners(tensors: Mapping[str, PickledTensor]) -> dict[str, str]:
    """For each name the first that has the same values in the same storage, the head's name last."""
    first: dict[PickledTensor, str] = {}
    owners: dict[str, str] = {}
    for name in sorted(tensors, key=lambda name: name.endswith(_HEADS)):
        tensor = tensors[name]
        owners[name] = first.setdefault(tensor, name) if tensor.n_values > 0 and tensor.storage is not None else name
    return owners
