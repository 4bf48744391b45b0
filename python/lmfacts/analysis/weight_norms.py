"""How the norms of the weights that read and write the residual stream change with depth, raw and folded."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from lmfacts.run import Run
    from lmfacts.run.entries import WeightInfo
    from lmfacts.run.weight import WeightRecord

__all__ = ["READING", "WRITING", "NormTrend", "norm_trends", "spearman"]

READING: Final = ("W_Q", "W_K", "W_in", "W_gate", "W_V")
"""The kinds that read the residual stream, through the norm before them."""

WRITING: Final = ("W_O", "W_out")
"""The kinds that write to it."""

Group = Literal["writing", "reading", "value"]

_LEAST_LAYERS: Final = 3
_SAME: Final = 1e-9
_MATRIX_AXES: Final = 2


@dataclass(frozen=True)
class NormTrend:
    """The norm of one kind of weight by depth.

    The slope is that of the least-squares line of ln norm on the layer over all layers but the first block's;
    NaN with fewer than 3 of them. So is Spearman's correlation.

    Attributes:
        kind: `W_O`.
        group: `writing`, `reading` (W_V by itself: it reads, and is half of what attention writes), or `value`.
        folded: whether the norms are folded (see `WeightRecord.frobenius_folded`).
        norms: layer -> norm; where a layer has several (experts), their median.
        slope: change of ln norm per layer.
        total_factor: exp(slope x the distance from the second to the last layer): L - 2 of L layers.
        spearman: rank correlation of norm and layer.
    """

    kind: str
    group: Group
    folded: bool
    norms: dict[int, float]
    slope: float
    total_factor: float
    spearman: float


def norm_trends(run: Run[WeightRecord], norm: Literal["frobenius", "spectral"] = "frobenius") -> list[NormTrend]:
    """The trends of the kinds that write, then of those that read; raw, and folded where that differs somewhere.

    Args:
        run: a run of weights.
        norm: which norm. Spectral norms are there where singular values were computed; those of writing weights are
            not folded.

    Returns:
        At most two trends a kind; none for a kind with fewer than two layers.
    """
    trends = []
    for kind, group, weights in _kinds(run):
        raw = _by_layer((layer, _raw(run, weight, norm)) for layer, weight in weights)
        folded = _by_layer((layer, _folded(run, weight, norm)) for layer, weight in weights)
        trends.append(_trend(kind, group, raw, folded=False))
        if any(abs(folded[layer] - value) > _SAME * value for layer, value in raw.items()):
            trends.append(_trend(kind, group, folded, folded=True))
    return trends


def spearman(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Rank correlation, ties at their middle rank; NaN with fewer than 3 pairs or where all are equal."""
    if x.size < _LEAST_LAYERS:
        return math.nan
    a, b = (_ranks(values) - (values.size - 1) / 2 for values in (x, y))
    scale = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / scale if scale > 0 else math.nan


# Inside


def _kinds(run: Run[WeightRecord]) -> list[tuple[str, Group, list[tuple[int, WeightInfo]]]]:
    """Kind, group and entries of the matrices that read and write, the experts of a layer under one kind."""
    by_kind: dict[str, dict[str, list[tuple[int, WeightInfo]]]] = {}
    for weight in run.info.weights:
        kind = weight.weight_kind
        if kind is None or weight.layer is None or len(weight.shape) < _MATRIX_AXES:
            continue
        plain = kind.rpartition(".")[2] if kind.startswith("experts.") else kind
        shown = kind if plain == kind else f"experts.*.{plain}"
        by_kind.setdefault(plain, {}).setdefault(shown, []).append((weight.layer, weight))
    kinds: list[tuple[str, Group, list[tuple[int, WeightInfo]]]] = []
    for plain in (*WRITING, *READING):
        if plain in by_kind:
            # Of a model with both, the kind that begins deeper.
            shown, weights = list(by_kind[plain].items())[-1]
            group: Group = "writing" if plain in WRITING else "value" if plain == "W_V" else "reading"
            if len({layer for layer, _ in weights}) > 1:
                kinds.append((shown, group, weights))
    return kinds


def _raw(run: Run[WeightRecord], weight: WeightInfo, norm: str) -> float:
    if norm == "frobenius":
        return _number(weight.frobenius)
    values = run.extra_arrays.get(f"{weight.name}/singular_values")
    return math.nan if values is None or not values.size else float(values[0])


def _folded(run: Run[WeightRecord], weight: WeightInfo, norm: str) -> float:
    if norm == "frobenius":
        return _number(weight.frobenius_folded)
    folded = weight.spectral_folded  # None where folding changes nothing
    return _raw(run, weight, norm) if folded is None else float(folded)


def _number(value: float | None) -> float:
    """A number of the metadata, which hold null for NaN."""
    return math.nan if value is None else float(value)


def _trend(kind: str, group: Group, norms: dict[int, float], *, folded: bool) -> NormTrend:
    layers, values = np.array(list(norms), dtype=np.float64), np.array(list(norms.values()))
    later = (layers > 0) & (values > 0) & np.isfinite(values)
    x, y = layers[later], values[later]
    if x.size < _LEAST_LAYERS:
        return NormTrend(kind, group, folded, norms, math.nan, math.nan, math.nan)
    centered = x - x.mean()
    slope = float(centered @ np.log(y) / (centered @ centered))
    total = math.exp(slope * float(x[-1] - x[0]))
    return NormTrend(kind, group, folded, norms, slope, total, spearman(x, y))


def _by_layer(norms: Iterable[tuple[int, float]]) -> dict[int, float]:
    by_layer: dict[int, list[float]] = {}
    for layer, norm in norms:
        by_layer.setdefault(layer, []).append(norm)
    return {layer: float(np.median(values)) for layer, values in sorted(by_layer.items())}


def _ranks(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Ranks from 0, ties at their middle."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return np.asarray((ends - (counts + 1) / 2)[inverse], dtype=np.float64)
