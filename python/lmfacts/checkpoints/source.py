"""What every source of weights offers, whatever the format."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final, Self

from lmfacts.errors import WeightFileError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

    from numpy.typing import NDArray

__all__ = ["Provenance", "StoredTensor", "WeightSource", "check_index", "shape_problem"]

_MOST_AXES: Final = 64
"""As many as NumPy has."""


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
        problem: why its values cannot be read, or are none of a weight; None where they can.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    n_bytes: int
    quantization: str | None
    file: str
    problem: str | None = None

    @property
    def n_values(self) -> int:
        """The number of its values."""
        return math.prod(self.shape)


def check_index(asked: str, name: str, file: str, found: StoredTensor | None) -> None:
    """Whether a tensor was found in the file that an index says it is in.

    Raises:
        WeightFileError: it was not.
    """
    if found is None or found.file != file:
        raise WeightFileError(
            f"{asked}: the index says that {name} is in {file}, and that file has no such tensor; the index and the "
            "files are of different checkpoints"
        )


def shape_problem(shape: Sequence[int]) -> str | None:
    """Why no array can have this shape; None if one can."""
    return f"it has {len(shape)} axes, and {_MOST_AXES} at most are read" if len(shape) > _MOST_AXES else None


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

    @cached_property
    def n_bytes(self) -> int:
        """The bytes that all tensors take as they are stored."""
        return sum(tensor.n_bytes for tensor in self.tensors)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name to shape, in order: what `models.weight_views` takes."""
        return {tensor.name: tensor.shape for tensor in self.tensors}

    @abstractmethod
    def read(self, tensor: StoredTensor) -> NDArray[Any]:
        """The values of one of `tensors`, in its shape.

        bfloat16 as its uint16 bit patterns, float8 as uint8; quantized tensors as float32. Memory is used again as soon
        as nobody holds the array that was read into it, so that a whole checkpoint can be read in the space of its
        largest tensor by who lets go of each array before he asks for the next; arrays that are kept stay valid.

        Raises:
            WeightFileError: the values cannot be read; the file was cut short or written to since it was opened.
        """

    def read_rows(self, tensor: StoredTensor, start: int, stop: int) -> NDArray[Any]:
        """The part [start, stop) of the first axis of one of `tensors`.

        Raises:
            WeightFileError: as `read`.
        """
        return self.read(tensor)[start:stop]

    def close(self) -> None:  # noqa: B027 - most formats have nothing to close
        """Let go of the files; arrays that were given out stay valid."""

    def describe(self) -> dict[str, Any]:
        """What a run records about its weights, as JSON values."""
        files: dict[str, int] = {}
        dtypes: Counter[str] = Counter()
        quantizations: Counter[str] = Counter()
        model_type = (self.config or {}).get("model_type")
        for tensor in self.tensors:
            files[tensor.file] = files.get(tensor.file, 0) + tensor.n_bytes
            dtypes[tensor.dtype] += tensor.n_values
            if tensor.quantization is not None:
                quantizations[tensor.quantization] += tensor.n_values
        return {
            "source": self.name,
            "revision": self.revision,
            "format": self.format,
            "model_type": model_type if isinstance(model_type, str) else None,
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
