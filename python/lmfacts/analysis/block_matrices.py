"""The matrices in the blocks of a run of weights, by kind, and the shapes of their distributions.

The facts on weights speak of the same matrices: those with two axes and a role (`blocks.3.W_O`) inside the blocks.
Embeddings, positions and the head are left out, and each expert counts. Their shapes take a millisecond or two each and
are remembered for as long as the run lives, so that facts that share them pay once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar
from weakref import WeakKeyDictionary

import numpy as np

from lmfacts.stats.shape import Weibull, expected_max_abs_z, max_abs_z

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lmfacts.run import Run
    from lmfacts.run.weight import WeightRecord
    from lmfacts.stats.distribution import Distribution

__all__ = [
    "NO_MATRICES",
    "BlockMatrix",
    "MatrixShape",
    "ValueShape",
    "block_matrices",
    "by_kind",
    "evenly",
    "matrix_shapes",
    "median",
    "without_k",
]

NO_MATRICES: Final = "The run has no matrix with a known role inside the blocks (W_Q, W_O, W_in, ...)."
"""Why a fact on matrices does not apply."""

_ORDER: Final = ("W_Q", "W_K", "W_V", "W_O", "W_gate", "W_in", "W_out")
_EXPERT: Final = re.compile(r"(?<=experts\.)\d+(?=\.)")
_MATRIX_AXES: Final = 2


class _HasKind(Protocol):
    @property
    def kind(self) -> str: ...


_Item = TypeVar("_Item")
_Kinded = TypeVar("_Kinded", bound=_HasKind)


@dataclass(frozen=True, slots=True)
class BlockMatrix:
    """Which matrix it is.

    Attributes:
        name: `blocks.3.W_O`, or `blocks.3.experts.5.W_in`.
        kind: `W_O`, or `experts.*.W_in`.
        layer: the block.
        shape: (out, in).
    """

    name: str
    kind: str
    layer: int
    shape: tuple[int, int]

    @property
    def rank(self) -> int:
        """The smaller side."""
        return min(self.shape)


@dataclass(frozen=True, slots=True)
class ValueShape:
    """How some values are distributed.

    Attributes:
        n: number of finite values.
        mean: their mean.
        std: their standard deviation.
        excess_kurtosis: fourth standardized moment less 3; NaN where all are equal.
        weibull_k: k of the Weibull law that fits the body of |x|; NaN where such a fit has no meaning.
        weibull_lambda: its scale.
        max_z_ratio: the largest |z| over the one to expect among n Gaussian values.
        no_k: why there is no k, or None.
    """

    n: int
    mean: float
    std: float
    excess_kurtosis: float
    weibull_k: float
    weibull_lambda: float
    max_z_ratio: float
    no_k: str | None = None


@dataclass(frozen=True, slots=True)
class MatrixShape:
    """A matrix with the shape of its values.

    Attributes:
        matrix: which one.
        raw: its raw values.
        scaled: the same after dividing columns, then rows, by their root mean squares.
    """

    matrix: BlockMatrix
    raw: ValueShape
    scaled: ValueShape

    @property
    def kind(self) -> str:
        """The kind of the matrix."""
        return self.matrix.kind


def block_matrices(run: Run[WeightRecord]) -> list[BlockMatrix]:
    """The matrices with a role inside the blocks of a run of weights, in order of depth."""
    matrices = []
    for entry in run.info.weights:
        kind, layer, shape = entry.weight_kind, entry.layer, entry.shape
        if kind is not None and layer is not None and len(shape) == _MATRIX_AXES:
            matrices.append(BlockMatrix(entry.name, _EXPERT.sub("*", kind), layer, (shape[0], shape[1])))
    return matrices


def matrix_shapes(run: Run[WeightRecord]) -> tuple[MatrixShape, ...]:
    """The shapes of all `block_matrices`, measured once a run."""
    known = _SHAPES.get(run)
    if known is None:
        known = tuple(_measure(run, matrix) for matrix in block_matrices(run))
        _SHAPES[run] = known
    return known


_SHAPES: Final[WeakKeyDictionary[Run[WeightRecord], tuple[MatrixShape, ...]]] = WeakKeyDictionary()


def without_k(matrices: Sequence[MatrixShape]) -> tuple[str, ...]:
    """A note on the matrices whose values vary, and yet have no Weibull k."""
    without = [matrix for matrix in matrices if matrix.raw.std > 0 and matrix.raw.no_k is not None]
    if not without:
        return ()
    verb = "has" if len(without) == 1 else "have"
    first = without[0]
    counted = f"{len(without)} of {len(matrices)} matrices {verb} no Weibull k, since a fit would mean nothing"
    return (f"{counted}: in {first.matrix.name} {first.raw.no_k}.",)


def by_kind(items: Iterable[_Kinded]) -> dict[str, list[_Kinded]]:
    """Things by their kind, in the order of the forward pass; kinds of other names last, as they come."""
    groups: dict[str, list[_Kinded]] = {}
    for item in items:
        groups.setdefault(item.kind, []).append(item)
    return dict(sorted(groups.items(), key=lambda group: _place(group[0])))


def evenly(items: Sequence[_Item], most: int) -> list[_Item]:
    """At most `most` of some things in order, the first and the last among them, the others evenly between."""
    if len(items) <= most:
        return list(items)
    return [items[int(index)] for index in np.linspace(0, len(items) - 1, most).round()]


def median(values: Iterable[float]) -> float:
    """The median of the values that are numbers; NaN without any."""
    kept = [value for value in values if not np.isnan(value)]
    return float(np.median(kept)) if kept else float("nan")


# Inside


def _measure(run: Run[WeightRecord], matrix: BlockMatrix) -> MatrixShape:
    record = run[matrix.name]
    scaled = record.scaled
    return MatrixShape(
        matrix,
        _shape(record.distribution, record.excess_kurtosis, record.weibull),
        _shape(scaled.distribution, scaled.excess_kurtosis, scaled.weibull),
    )


def _shape(distribution: Distribution, excess_kurtosis: float, law: Weibull) -> ValueShape:
    n = distribution.n
    ratio = max_abs_z(distribution) / expected_max_abs_z(n) if n > 1 else float("nan")
    return ValueShape(n, distribution.mean, distribution.std, excess_kurtosis, law.k, law.lambda_, ratio, law.problem)


def _place(kind: str) -> tuple[int, int]:
    last = kind.rpartition(".")[2]
    return (_ORDER.index(last) if last in _ORDER else len(_ORDER), int(kind != last))
