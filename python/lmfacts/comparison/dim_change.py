"""What changed from dim to dim: the scale of each, its mean, and which dims became or ceased to be outlier dims."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, overload

import numpy as np

from lmfacts.quantities.outlier_criteria import OUTLIER_FACTOR

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    Pair = tuple[Floats, Floats]

__all__ = ["QUIET", "Axis", "DimChange", "OutlierDimChange", "change_of_dims", "dim_differences"]

Axis = Literal["dim", "output dim", "input dim"]

QUIET: Final = 0.1
"""A dim's RMS is taken as at least this share of the median dim's: a ratio of two next to nothings is no change."""


@dataclass(frozen=True)
class OutlierDimChange:
    """A dim that is an outlier dim in one run and not in the other.

    Attributes:
        dim: the dim.
        ratio_a: its RMS over the median dim's in A.
        ratio_b: the same in B.
    """

    dim: int
    ratio_a: float
    ratio_b: float


@dataclass(frozen=True)
class DimChange:
    """What changed from dim to dim along one axis of a site.

    Attributes:
        axis: `dim` of activations, `output dim` (row) or `input dim` (column) of a matrix of weights.
        log_rms_ratio: ln(RMS in B / RMS in A) of the dim where that is largest in magnitude; an RMS counts as at least
            a tenth of the median dim's (of the run where that is larger). NaN where no dim has values in both.
        dim: which dim that is, or None.
        mean_shift: the largest shift of a dim's mean, B less A, in units of the dim's RMS (the larger of the two, and
            at least as above); NaN for weights.
        mean_dim: which dim that is, or None.
        gained: the outlier dims of B that are none in A, ascending.
        lost: those of A that are none in B.
        n_kept: number of dims that are outlier dims in both.
    """

    axis: Axis
    log_rms_ratio: float
    dim: int | None
    mean_shift: float
    mean_dim: int | None
    gained: tuple[OutlierDimChange, ...]
    lost: tuple[OutlierDimChange, ...]
    n_kept: int


def change_of_dims(
    axis: Axis,
    rms: tuple[NDArray[np.float64], NDArray[np.float64]],
    means: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> DimChange:
    """Compare dims by their RMS, and by their means where those are known.

    Args:
        axis: what the dims are.
        rms: RMS of each dim in A and in B, float64 [d]; NaN of a dim without values.
        means: mean of each dim in A and in B, float64 [d].
    """
    rms_a, rms_b = rms
    medians = _median(rms_a), _median(rms_b)
    ratios, shifts = dim_differences(rms, means)
    log_rms_ratio, dim = _largest(ratios)
    mean_shift, mean_dim = (math.nan, None) if shifts is None else _largest(shifts)
    with np.errstate(all="ignore"):
        outlying_a, outlying_b = rms_a > OUTLIER_FACTOR * medians[0], rms_b > OUTLIER_FACTOR * medians[1]
        over_a, over_b = rms_a / np.float64(medians[0]), rms_b / np.float64(medians[1])

    def listed(mask: NDArray[np.bool_]) -> tuple[OutlierDimChange, ...]:
        return tuple(OutlierDimChange(int(d), float(over_a[d]), float(over_b[d])) for d in np.flatnonzero(mask))

    return DimChange(
        axis=axis,
        log_rms_ratio=log_rms_ratio,
        dim=dim,
        mean_shift=mean_shift,
        mean_dim=mean_dim,
        gained=listed(outlying_b & ~outlying_a),
        lost=listed(outlying_a & ~outlying_b),
        n_kept=int((outlying_a & outlying_b).sum()),
    )


@overload
def dim_differences(rms: Pair, means: Pair) -> Pair: ...
@overload
def dim_differences(rms: Pair, means: Pair | None) -> tuple[Floats, Floats | None]: ...
def dim_differences(rms: Pair, means: Pair | None) -> tuple[Floats, Floats | None]:
    """How much each dim differs, as `DimChange` has it of the largest ones.

    Args:
        rms: RMS of each dim in A and in B, float64 [d]; NaN of a dim without values.
        means: mean of each dim in A and in B, float64 [d], or None.

    Returns:
        ln(RMS in B / RMS in A) and the shift of the mean in units of the RMS, float64 [d]; the second None without
        means. What cannot be said is NaN.
    """
    rms_a, rms_b = rms
    least = _least(rms, (_median(rms_a), _median(rms_b)))
    with np.errstate(all="ignore"):
        ratios = np.log(np.maximum(rms_b, least) / np.maximum(rms_a, least)) if least > 0 else 0.0 * (rms_b - rms_a)
        if means is None:
            return ratios, None
        scale = np.maximum(np.maximum(rms_a, rms_b), least)
        return ratios, (means[1] - means[0]) / np.where(scale > 0, scale, 1.0)


def _least(rms: tuple[NDArray[np.float64], NDArray[np.float64]], medians: tuple[float, float]) -> float:
    """What an RMS counts as at least; 0 only if all are 0."""
    middle = np.nan_to_num(np.array(medians)).max()
    if middle == 0:  # more than half of the dims are zero
        middle = max((float(np.sqrt((x[np.isfinite(x)] ** 2).mean())) for x in rms if np.isfinite(x).any()), default=0)
    return QUIET * float(middle)


def _median(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else math.nan


def _largest(values: NDArray[np.float64]) -> tuple[float, int | None]:
    """The value of largest magnitude and its place; NaN and None if there is none."""
    if not np.isfinite(values).any():
        return math.nan, None
    place = int(np.argmax(np.where(np.isfinite(values), np.abs(values), -1.0)))
    return float(values[place]), place
