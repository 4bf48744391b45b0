"""What every source of weights offers, whatever the format."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from numpy.typing import NDArray

__all__ = ["Provenance", "StoredTensor", "WeightSource"]


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """One tensor of a checkpoint.

    Attributes:
        name: its Hugging Face name.
        shape: its shape there.
        dtype: `float32`, `bfloat16`, `float16`, `float64`, `float8_e4m3fn`, `int64`, ...; of a quantized tensor the
            dtype of the values that it is read as.
        n_bytes: the bytes that it takes as it is stored.
        quantization: the GGUF type (`Q4_1`), or None.
        file: the name of the file it is in; empty for a model in memory.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    n_bytes: int
    quantization: str | None
    file: str

    @property
    def n_values(self) -> int:
        """The number of its values."""
        return math.prod(self.shape)


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where weights come from: what was asked for, the commit if it is known, and the configuration beside them."""

    name: str
    revision: str | None = None
    config: Mapping[str, Any] | None = None


class WeightSource(ABC):
    """An open checkpoint; a context manager.

    Attributes:
        name: what it was asked for by.
        format: `safetensors`, `gguf`, `torch` or `module`.
        revision: the commit it comes from, where that is known.
        config: the model's configuration, if there is one.
        tensors: what is stored, in the order of the files; tied parameters once.
        tied: the name of a parameter that has no storage of its own, to the name that owns it.
        notes: what a reader of the numbers should know, a sentence each.
    """

    format = ""

    def __init__(
        self,
        provenance: Provenance,
        tensors: Sequence[StoredTensor],
        tied: Mapping[str, str],
        notes: Sequence[str] = (),
    ) -> None:
        self.name = provenance.name
        self.revision = provenance.revision
        self.config = provenance.config
        self.tensors = tuple(tensors)
        self.tied: Mapping[str, str] = MappingProxyType(dict(tied))
        self.notes = tuple(notes)

    @property
    def n_bytes(self) -> int:
        """The bytes that all tensors take as they are stored."""
        return sum(tensor.n_bytes for tensor in self.tensors)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name to shape, in order: what `architectures.weight_views` takes."""
        return {tensor.name: tensor.shape for tensor in self.tensors}

    @abstractmethod
    def read(self, tensor: StoredTensor) -> NDArray[Any]:
        """The values of one of `tensors`, in its shape.

        A view of the file's memory map where the format allows; bfloat16 as its uint16 bit patterns, float8 as uint8;
        quantized tensors as float32. The memory of the tensor read before is given back to the system, so a whole
        checkpoint can be read in the space of its largest tensor; arrays that were given out stay valid.

        Raises:
            WeightFileError: the values cannot be read.
        """

    def close(self) -> None:  # noqa: B027 - most formats have nothing to close
        """Let go of the files; arrays that were given out stay valid."""

    def describe(self) -> dict[str, Any]:
        """What a run records about its weights, as JSON values."""
        files: dict[str, int] = {}
        dtypes: Counter[str] = Counter()
        quantizations: Counter[str] = Counter()
        for tensor in self.tensors:
            files[tensor.file] = files.get(tensor.file, 0) + tensor.n_bytes
            dtypes[tensor.dtype] += tensor.n_values
            if tensor.quantization is not None:
                quantizations[tensor.quantization] += tensor.n_values
        return {
            "source": self.name,
            "revision": self.revision,
            "format": self.format,
            "model_type": None if self.config is None else self.config.get("model_type"),
            "files": [{"name": name, "n_bytes": n_bytes} for name, n_bytes in files.items() if name],
            "n_tensors": len(self.tensors),
            "n_values": sum(tensor.n_values for tensor in self.tensors),
            "n_bytes": self.n_bytes,
            "dtypes": dict(dtypes),
            "quantizations": dict(quantizations),
            "tied": dict(self.tied),
            "notes": list(self.notes),
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
