"""Weights in torch's own files (.bin, .pt, .pth), opened without running what is in them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

import torch

from lmfacts.architectures import tied_head
from lmfacts.errors import WeightFileError
from lmfacts.weight_files.source import Provenance, StoredTensor, WeightSource
from lmfacts.weight_files.torch_arrays import array_of, dtype_name

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["TorchSource"]

_INNER: Final = ("state_dict", "model_state_dict", "model", "module")
_GLOBAL: Final = re.compile(r"GLOBAL ([\w.]+)|`?([\w.]+)`? was not an allowed global")
_HEADS: Final = ("lm_head.weight", "embed_out.weight")
_REOPEN_BYTES: Final = 256 << 20


class TorchSource(WeightSource):
    """One file, or the shards of one checkpoint, of which one is open at a time.

    Files of the zip format (torch 1.6 and later) are mapped, and mapped anew after every 256 MB, which gives the memory
    of what was read back to the system. Older files are read whole, one at a time.
    """

    format = "torch"

    def __init__(
        self, provenance: Provenance, paths: Sequence[Path], index: Mapping[str, str] | None, notes: Sequence[str] = ()
    ) -> None:
        """List what the files hold.

        Args:
            provenance: where they come from.
            paths: the files, in order.
            index: tensor to file name, where there is an index.
            notes: what is known about the choice of files.

        Raises:
            WeightFileError: a file is damaged, holds no tensors, or wants to run code.
        """
        self._paths = {path.name: path for path in paths}
        self._file = ""
        self._open: dict[str, torch.Tensor] = {}
        self._is_mapped = True
        self._n_read = 0
        tensors: dict[str, StoredTensor] = {}
        tied: dict[str, str] = {}
        for file in self._paths:
            self._load(file)
            owners = _owners(self._open)
            for name, tensor in self._open.items():
                if owners[name] != name:
                    tied[name] = owners[name]
                    continue
                n_bytes = tensor.numel() * tensor.element_size()
                tensors[name] = StoredTensor(name, tuple(tensor.shape), dtype_name(tensor), n_bytes, None, file)
        for name, file in (index or {}).items():
            found = tensors.get(tied.get(name, name))
            if found is None or found.file != file:
                raise WeightFileError(
                    f"{provenance.name}: the index says that {name} is in {file}, and that file has no such tensor; "
                    "the index and the files are of different checkpoints"
                )
        pair = tied_head([*tensors, *tied], provenance.config)
        if pair is not None:
            tied[pair[0]] = pair[1]
        super().__init__(provenance, list(tensors.values()), tied, notes)

    def read(self, tensor: StoredTensor) -> NDArray[Any]:
        """A view of the mapped file; copy-on-write, so that writing into it changes no file."""
        if tensor.file not in self._paths:
            raise WeightFileError(f"{self.name}: expected an open source and one of its tensors, got {tensor.name}")
        if self._file != tensor.file or (self._is_mapped and self._n_read >= _REOPEN_BYTES):
            self._load(tensor.file)
        self._n_read += tensor.n_bytes
        return array_of(self._open[tensor.name])

    def close(self) -> None:
        """Forget the maps."""
        self._paths, self._open, self._file = {}, {}, ""

    def _load(self, file: str) -> None:
        self._open, self._file, self._n_read = {}, "", 0
        path = self._paths[file]
        content, self._is_mapped = _loaded(path)
        self._open, self._file = _state_dict(path, content), file


def _loaded(path: Path) -> tuple[Any, bool]:
    """What the file holds, and whether it is mapped.

    Raises:
        WeightFileError: it cannot be loaded as data alone.
    """
    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\x03\x04"
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip), is_zip
    except Exception as error:  # noqa: BLE001 - damaged pickles raise whatever their bytes happen to ask for
        text = str(error)
        asked = _GLOBAL.search(text)
        if asked is not None:
            raise WeightFileError(
                f"{path}: refused, since opening it would call {asked[1] or asked[2]}; expected tensors and nothing "
                "that runs. Save the weights as safetensors where you trust the file"
            ) from None
        reason = " ".join(text.split())[:200] or type(error).__name__
        raise WeightFileError(
            f"{path}: expected a file that torch.save wrote, but it cannot be read ({type(error).__name__}: {reason}); "
            "it is damaged, cut short, or something else"
        ) from None


def _state_dict(path: Path, content: Any) -> dict[str, torch.Tensor]:
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
        tensors = {str(name): each for name, each in content.items() if isinstance(each, torch.Tensor)}
        dense = {name: each for name, each in tensors.items() if each.layout is torch.strided and not each.is_quantized}
        if dense and len(dense) == len(tensors):
            return dense
        if tensors:
            name = next(name for name in tensors if name not in dense)
            raise WeightFileError(f"{path}: expected dense tensors, but {name} is sparse or quantized by torch")
    raise WeightFileError(f"{path}: expected a state dictionary of tensors, got {type(content).__name__} without any")


def _owners(tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """For each name the first that has the same storage, the head's name last."""
    first: dict[tuple[Any, ...], str] = {}
    owners: dict[str, str] = {}
    for name in sorted(tensors, key=lambda name: name.endswith(_HEADS)):
        tensor = tensors[name]
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride(), tensor.dtype)
        owners[name] = first.setdefault(key, name) if tensor.numel() > 0 else name
    return owners
