"""Two checkpoints at hand, or a checkpoint and a LoRA adapter for it, compared weight by weight and exactly.

A pair of tensors is in memory at a time. Weights are matched by role, then by the parameter's name; parts of fused
tensors are compared with the tensors or parts that have the same role.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lmfacts.checkpoints import open_weights
from lmfacts.comparison.lora_adapter import LoraAdapter, is_adapter
from lmfacts.comparison.matching import NotComparable
from lmfacts.comparison.tensor_change import difference_spectrum, distance_of
from lmfacts.errors import MismatchedRunsError, UsageError
from lmfacts.models import weight_views
from lmfacts.stats.float_values import float_values

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray
    from torch import nn

    from lmfacts.checkpoints import StoredTensor, WeightSource
    from lmfacts.comparison.tensor_change import DifferenceSpectrum, Distance
    from lmfacts.models import WeightLayout, WeightView

__all__ = ["CheckpointComparison", "MatrixChange", "compare_checkpoints"]

_LARGEST_SIDE: Final = 4096
_FLOATS: Final = ("float64", "float32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2")


@dataclass(frozen=True)
class MatrixChange:
    """What changed of one weight, a matrix or a vector, from A to B.

    Attributes:
        name: its name in A: the role, or the parameter's name.
        name_b: its name in B.
        kind: the role without the block (`W_O`), or None.
        layer: the block, or None.
        shape: [out, in] of a matrix, [n] of a vector.
        dtypes: as stored in A and B; of a quantized tensor its type.
        distance: how far A and B are apart, entry by entry.
        spectrum: the singular values of B - A; None of vectors, of equal matrices, and where none were asked for.
    """

    name: str
    name_b: str
    kind: str | None
    layer: int | None
    shape: tuple[int, ...]
    dtypes: tuple[str, str]
    distance: Distance
    spectrum: DifferenceSpectrum | None

    @property
    def effect(self) -> float:
        """||B - A|| / ||A||; 1 where A is zero and B is not, at least 1 where other entries are NaN or infinite."""
        distance = self.distance
        change = 1.0 if distance.norm_a == 0 < distance.difference else distance.relative_change
        return max(1.0, change) if distance.n_nonfinite_apart else change


@dataclass(frozen=True)
class CheckpointComparison:
    """What changed from checkpoint A to checkpoint B.

    Attributes:
        a: what A is, as `WeightSource.describe` says.
        b: what B is; of an adapter `source`, `format` (`lora`) and its `config`.
        changes: the weights that both have, in A's order; of an adapter those that it changes.
        not_comparable: weights of both that cannot be compared.
        only_a: names of weights that only A has; empty for an adapter, which has what it changes and no more.
        only_b: names of weights that only B has.
        notes: what a reader of the numbers should know, a sentence each.
    """

    a: Mapping[str, Any]
    b: Mapping[str, Any]
    changes: tuple[MatrixChange, ...]
    not_comparable: tuple[NotComparable, ...]
    only_a: tuple[str, ...]
    only_b: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def by_effect(self) -> list[MatrixChange]:
        """The weights, those that changed most first, and in A's order where it is the same."""
        return sorted(self.changes, key=lambda change: -change.effect)

    def beyond(self, threshold: float) -> list[MatrixChange]:
        """The weights whose effect is larger than the threshold, the largest first."""
        return [change for change in self.by_effect if change.effect > threshold]


def compare_checkpoints(
    a: str | os.PathLike[str] | nn.Module,
    b: str | os.PathLike[str] | nn.Module,
    *,
    spectra: int | bool = True,
    progress: Callable[[int, int, str], None] | None = None,
) -> CheckpointComparison:
    """Compare the weights of two checkpoints, or what a LoRA adapter adds to those of one: every value, read once.

    Args:
        a: a checkpoint as `scan_weights` takes it: a folder, hub id, file, `demo`, or a model.
        b: another one, or the folder of an adapter (`adapter_config.json`) for A.
        spectra: compute the spectrum of B - A for matrices whose smaller side is at most this; True for 4096, False or
            0 for none.
        progress: called after every tensor of A with the bytes read of it, the bytes in all, and the tensor's name.

    Raises:
        FileNotFoundError: there is no such file.
        ModelError: these are no weights that can be read, or an adapter of another kind than LoRA.
        MismatchedRunsError: the two have no weight in common that can be compared.
        UsageError: `spectra` is negative, or A is an adapter.
    """
    largest_side = _LARGEST_SIDE if spectra is True else int(spectra)
    if largest_side < 0:
        raise UsageError(f"spectra: expected a number of at least 0, got {spectra}")
    if isinstance(a, str | os.PathLike) and is_adapter(a):
        raise UsageError(f"{a} is an adapter: expected the model that it is for as A, and the adapter as B")
    with ExitStack() as stack:
        source_a = stack.enter_context(open_weights(a))
        side_a = _Side.of(source_a)
        side_b: _Side
        if isinstance(b, str | os.PathLike) and is_adapter(b):
            side_b = _Side.of_adapter(stack.enter_context(LoraAdapter(b)), source_a.config)
        else:
            side_b = _Side.of(stack.enter_context(open_weights(b)))
        return _Comparing(side_a, side_b, largest_side, progress or (lambda _done, _total, _name: None)).run()


@dataclass
class _Side:
    """One of the two: what it has, by name, and how it is read."""

    described: Mapping[str, Any]
    tensors: Mapping[str, StoredTensor]
    layout: WeightLayout
    read: Callable[[StoredTensor], NDArray[Any]]
    adapter: LoraAdapter | None = None
    skipped: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, source: WeightSource) -> _Side:
        skipped: dict[str, str] = {}
        tensors = {}
        for tensor in source.tensors:
            if tensor.name in source.tied:
                continue
            if tensor.problem is not None or 0 in tensor.shape or tensor.dtype not in _FLOATS:
                skipped[tensor.name] = tensor.problem or (
                    "no values" if 0 in tensor.shape else f"{tensor.dtype} values"
                )
                continue
            tensors[tensor.name] = tensor
        layout = weight_views({name: tensor.shape for name, tensor in tensors.items()}, source.config or {})

        def read(tensor: StoredTensor) -> NDArray[Any]:
            return source.read(tensor)

        return cls(source.describe(), tensors, layout, read, skipped=skipped)

    @classmethod
    def of_adapter(cls, adapter: LoraAdapter, config: Mapping[str, Any] | None) -> _Side:
        tensors = {tensor.name: tensor for tensor in adapter.tensors}
        layout = weight_views({name: tensor.shape for name, tensor in tensors.items()}, config or {})
        described = {"source": adapter.name, "format": "lora", "config": dict(adapter.config)}
        return cls(described, tensors, layout, adapter.read, adapter)

    @property
    def views(self) -> dict[str, WeightView]:
        return {view.name: view for view in self.layout.views if view.is_parameter}


@dataclass
class _Comparing:
    a: _Side
    b: _Side
    spectra: int
    progress: Callable[[int, int, str], None]
    refused: list[NotComparable] = field(default_factory=list)

    def run(self) -> CheckpointComparison:
        pairs, only_a, only_b = self._matched()
        wanted: dict[str, list[tuple[WeightView, WeightView]]] = {}
        for one, other in pairs:
            wanted.setdefault(one.parameter, []).append((one, other))
        if not wanted:
            raise MismatchedRunsError(self._nothing(only_a, only_b))
        changes = []
        n_bytes = sum(self.a.tensors[name].n_bytes for name in wanted)
        n_done = 0
        for name, views in wanted.items():
            tensor = self.a.tensors[name]
            stored = self.a.read(tensor)
            for one, other in views:
                changes.append(self._change(one, one(stored), other))
            del stored  # the next is read into the same memory
            n_done += tensor.n_bytes
            self.progress(n_done, n_bytes, name)
        notes = [*self.a.layout.notes, *(self.b.layout.notes if self.b.adapter is None else ())]
        return CheckpointComparison(
            a=self.a.described,
            b=self.b.described,
            changes=tuple(changes),
            not_comparable=tuple(self.refused),
            only_a=() if self.b.adapter is not None else tuple(only_a),
            only_b=tuple(only_b),
            notes=tuple(dict.fromkeys(notes)),
        )

    def _matched(self) -> tuple[list[tuple[WeightView, WeightView]], list[str], list[str]]:
        """The views that belong together and can be compared, and the names of those that have no partner."""
        views_a, views_b = self.a.views, self.b.views
        by_place = {(view.parameter, view.part): view for view in views_b.values()}
        pairs: list[tuple[WeightView, WeightView]] = []
        only_a: list[str] = []
        taken: set[str] = set()
        for name, view in views_a.items():
            other = views_b.get(name) or by_place.get((view.parameter, view.part))
            if other is None or other.name in taken:
                only_a.append(name)
                continue
            taken.add(other.name)
            self._pair(view, other, pairs)
        # A head of its own on one side, and one that is the embedding on the other.
        for side, partner, theirs in ((self.b, self.a, views_a), (self.a, self.b, views_b)):
            mine = side.views
            for head, embedding in partner.layout.aliases.items():
                if head in mine and embedding in theirs and head not in theirs:
                    if side is self.b and head not in taken:
                        taken.add(head)
                        self._pair(theirs[embedding], mine[head], pairs)
                    elif side is self.a and head in only_a:
                        only_a.remove(head)
                        self._pair(mine[head], theirs[embedding], pairs)
        for name in dict.fromkeys((*self.a.skipped, *self.b.skipped)):
            reasons = self.a.skipped.get(name), self.b.skipped.get(name)
            where = "" if reasons[0] == reasons[1] else " (in A)" if reasons[0] else " (in B)"
            self.refused.append(NotComparable(name, f"{reasons[0] or reasons[1]}{where}"))
        return (
            pairs,
            [name for name in only_a if views_a[name].parameter not in self.b.skipped],
            [name for name in views_b if name not in taken and views_b[name].parameter not in self.a.skipped],
        )

    def _pair(self, one: WeightView, other: WeightView, pairs: list[tuple[WeightView, WeightView]]) -> None:
        shapes = _shape(one), _shape(other)
        if shapes[0] == shapes[1]:
            pairs.append((one, other))
            return
        in_words = [" x ".join(f"{size:,}" for size in shape) for shape in shapes]
        self.refused.append(NotComparable(one.name, f"shape {in_words[0]} in A and {in_words[1]} in B"))

    def _change(self, view_a: WeightView, stored_a: NDArray[Any], view_b: WeightView) -> MatrixChange:
        tensor_a, tensor_b = self.a.tensors[view_a.parameter], self.b.tensors[view_b.parameter]
        a = _canonical(view_a, float_values(stored_a, tensor_a.dtype))
        whole = self.b.read(tensor_b)
        b = _canonical(view_b, float_values(view_b(whole), str(whole.dtype) if self.b.adapter else tensor_b.dtype))
        is_difference = self.b.adapter is not None and self.b.adapter.is_difference[tensor_b.name]
        if is_difference:
            # In float64, lest a small difference be rounded away.
            b = np.add(a, b, dtype=np.float64)
        distance = distance_of(a, b)
        is_matrix = a.ndim > 1
        spectrum = None
        if is_matrix and distance.difference > 0 and min(a.shape) <= self.spectra:
            spectrum = difference_spectrum(a, b)
        return MatrixChange(
            name=view_a.name,
            name_b=view_b.name,
            kind=view_a.kind,
            layer=view_a.layer,
            shape=a.shape,
            dtypes=(
                tensor_a.quantization or tensor_a.dtype,
                "lora" if is_difference else tensor_b.quantization or tensor_b.dtype,
            ),
            distance=distance,
            spectrum=spectrum,
        )

    def _nothing(self, only_a: list[str], only_b: list[str]) -> str:
        if self.refused:
            first = self.refused[0]
            return f"The checkpoints have no weight that can be compared: {first.name}: {first.reason}."
        named = ", ".join([next(iter(names), "none") for names in (only_a, only_b)])
        what = "adapter and the model" if self.b.adapter is not None else "checkpoints"
        return f"The {what} have no weight in common (the first are {named}); expected two of one architecture."


def _shape(view: WeightView) -> tuple[int, ...]:
    return view.shape[::-1] if view.transposed else view.shape


def _canonical(view: WeightView, values: NDArray[Any]) -> NDArray[Any]:
    """A vector, or a matrix [out, in]."""
    if values.ndim <= 1:
        return values.reshape(-1)
    matrix = values.reshape(-1, values.shape[-1])
    return matrix.T if view.transposed else matrix
