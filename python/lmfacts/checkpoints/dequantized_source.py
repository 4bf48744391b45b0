"""Weights of a quantized checkpoint, as the numbers that they stand for."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lmfacts.checkpoints.quantized_weights import USED, quantized_weights
from lmfacts.checkpoints.source import Provenance, WeightSource
from lmfacts.stats.float_values import float_values

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lmfacts.checkpoints.quantized_weights import QuantizedWeights, Scales
    from lmfacts.checkpoints.source import StoredTensor

__all__ = ["DequantizedSource", "dequantized"]

_VALUES_AT_A_TIME: Final = 1 << 21


def dequantized(source: WeightSource) -> WeightSource:
    """The source itself, or one that dequantizes what it keeps with scales beside it and skips what it keeps packed."""
    quantized = quantized_weights(source.tensors, source.config)
    return DequantizedSource(source, quantized) if quantized.dequantized or quantized.skipped else source


class DequantizedSource(WeightSource):
    """A checkpoint whose quantized tensors are read as float32; what belongs to them is no weight and says so."""

    def __init__(self, source: WeightSource, quantized: QuantizedWeights) -> None:
        """From an open source, which is closed with this one."""
        self.format = source.format
        self._source = source
        self._scales = quantized.dequantized
        self._stored = {tensor.name: tensor for tensor in source.tensors}
        tensors = [self._seen_as(tensor, quantized) for tensor in source.tensors]
        provenance = Provenance(source.name, source.revision, source.config)
        super().__init__(provenance, tensors, source.tied, [*source.notes, *_notes(quantized)])

    def read(self, tensor: StoredTensor) -> NDArray[Any]:
        """float32 of what is dequantized; else as the source gives it.

        Memory beyond the new array is the scales and a few MB.
        """
        scales = self._scales.get(tensor.name)
        if scales is None:
            return self._source.read(self._stored.get(tensor.name, tensor))
        stored = self._stored[tensor.name]
        n_columns = stored.shape[-1]
        scale = self._given(scales)
        values = np.empty((math.prod(stored.shape[:-1]), n_columns), np.float32)
        inner = math.prod(stored.shape[1:-1])
        step = max(1, _VALUES_AT_A_TIME // (inner * n_columns))
        if len(stored.shape) == 1:
            values[0] = float_values(self._source.read(stored), stored.dtype)
            self._scale(values, 0, stored.shape, scales, scale)
        else:
            for start in range(0, stored.shape[0], step):
                stop = min(start + step, stored.shape[0])
                rows = float_values(self._source.read_rows(stored, start, stop), stored.dtype)
                part = values[start * inner : stop * inner]
                part[:] = rows.reshape(part.shape)
                self._scale(part, start * inner, stored.shape, scales, scale)
        return values.reshape(stored.shape)

    def close(self) -> None:
        """Close the source."""
        self._source.close()

    def _seen_as(self, tensor: StoredTensor, quantized: QuantizedWeights) -> StoredTensor:
        scales = quantized.dequantized.get(tensor.name)
        if scales is not None:
            return replace(tensor, dtype="float32", quantization=f"{tensor.dtype} with {scales.kind}")
        reason = quantized.skipped.get(tensor.name)
        return tensor if reason is None else replace(tensor, problem=reason)

    def _given(self, scales: Scales) -> tuple[NDArray[np.float32], NDArray[Any] | None]:
        """The scales, divided by their divisor, and the zero points."""
        arrays: list[NDArray[Any] | None] = []
        for name in (scales.scale, scales.zero_point):
            if name is None:
                arrays.append(None)
                continue
            stored = self._stored[name]
            # Bytes are exponents, as in the MX formats.
            is_exponent = stored.dtype == "uint8" and name == scales.scale
            read = float_values(self._source.read(stored), "float8_e8m0fnu" if is_exponent else stored.dtype)
            arrays.append(np.array(read, np.float32).reshape(scales.shape))
        first, zero_point = arrays
        assert first is not None
        return np.asarray(first / np.float32(scales.divisor)), zero_point

    def _scale(
        self,
        part: NDArray[np.float32],
        first_row: int,
        shape: tuple[int, ...],
        scales: Scales,
        given: tuple[NDArray[np.float32], NDArray[Any] | None],
    ) -> None:
        """Turn rows of values into rows of numbers, in place."""
        rows = np.unravel_index(np.arange(first_row, first_row + len(part)), shape[:-1]) if len(shape) > 1 else ()
        places = tuple(np.asarray(row) // block for row, block in zip(rows, scales.blocks, strict=False))

        def spread(array: NDArray[Any]) -> NDArray[Any]:
            chosen = array[places] if places else array[None]
            if chosen.shape[-1] == 1:
                return chosen
            return np.repeat(chosen, scales.blocks[-1], axis=-1)[:, : shape[-1]]

        scale, zero_point = given
        with np.errstate(all="ignore"):  # scales of a damaged file may be anything
            if zero_point is not None:
                part -= spread(zero_point)
            part *= spread(scale)


def _notes(quantized: QuantizedWeights) -> list[str]:
    notes = []
    if quantized.dequantized:
        kinds = sorted({scales.kind for scales in quantized.dequantized.values()})
        notes.append(
            f"{len(quantized.dequantized):,} tensors are quantized with scales beside them ({', '.join(kinds)}); they "
            "are measured as what they stand for, in float32."
        )
    n_packed = sum(reason.endswith("not dequantized") for reason in quantized.skipped.values())
    n_unclear = len(quantized.skipped) - n_packed - sum(reason == USED for reason in quantized.skipped.values())
    if n_packed:
        notes.append(
            f"{n_packed:,} tensors are parts of packed weights, which are not dequantized: nothing is said of them."
        )
    if n_unclear:
        notes.append(f"{n_unclear:,} more tensors belong to the quantization and are skipped.")
    return notes
