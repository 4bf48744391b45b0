"""What else changed of a weight: its norms, its shape, and how far the matrices are apart.

The values of a matrix are not in a run, so that ||B - A|| is not known. Where both runs keep a sketch of the matrix it
is estimated from these (`lmfacts.stats.count_sketch`), with a standard error of 1.1 % of itself, and moved into the
bounds that are certain; values that are not finite count as 0. In runs that were made without sketches there are only
the bounds from below:

    rows         | ||B_i|| - ||A_i|| | <= ||B_i - A_i|| for every row i; so with columns
    means        the mean of a row of B - A is the difference of the rows' means; n times its square is at most
                 ||B_i - A_i||^2; so with columns
    spectrum     sum_i (s_i(B) - s_i(A))^2 <= ||B - A||^2 for singular values in order (Mirsky, 1960)

None of these sees a sign. From above it is ||A|| + ||B||. Of a vector all values are kept, and the distance is
exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from lmfacts.comparison.dim_change import DimChange, change_of_dims
from lmfacts.stats.count_sketch import STANDARD_ERROR, sketched_distance
from lmfacts.stats.ratios import in_units, ratio

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lmfacts.run.weight import WeightRecord

__all__ = ["WeightChange", "change_of_weight", "dims_of_weights"]


_ROUNDING: Final = 1e-6
"""What rounding may make of a bound from below: singular values are known to about 1e-8 of the largest."""


@dataclass(frozen=True)
class WeightChange:
    """What else changed of a weight. Ratios are B over A, 1 where both are 0, NaN where they have no meaning.

    Attributes:
        shape: [out, in] of a matrix, [n] of a vector.
        relative_change: ||B - A|| / ||A||, as far as it is known.
        known: how far that is: `exact` (vectors), `estimated` (matrices with a sketch in both runs), or `at least`
            (matrices without: the most that it is known to be at least).
        standard_error: of an estimated change, in the same unit; 0 where the change is exact or the sketches are the
            same, NaN of a bound.
        frobenius: Frobenius norms of A and B.
        frobenius_ratio: their ratio.
        frobenius_folded: folded Frobenius norms of A and B (see `WeightRecord.frobenius_folded`).
        frobenius_folded_ratio: their ratio.
        spectral_ratio: of the largest singular values; NaN where either run lacks them.
        frobenius_over_spectral: of A; NaN likewise.
        weibull_k: Weibull's k of A and B; NaN for vectors.
    """

    shape: tuple[int, ...]
    relative_change: float
    known: Literal["exact", "estimated", "at least"]
    standard_error: float
    frobenius: tuple[float, float]
    frobenius_ratio: float
    frobenius_folded: tuple[float, float]
    frobenius_folded_ratio: float
    spectral_ratio: float
    frobenius_over_spectral: float
    weibull_k: tuple[float, float]

    @property
    def exact(self) -> bool:
        """Whether `relative_change` is the change itself."""
        return self.known == "exact"


def change_of_weight(a: WeightRecord, b: WeightRecord) -> WeightChange:
    """Compare two weights of one shape."""
    spectral_a, spectral_b = a.spectral, b.spectral
    both = spectral_a is not None and spectral_b is not None
    relative_change, known = _relative_change(a, b)
    return WeightChange(
        shape=a.shape,
        relative_change=relative_change,
        known=known,
        standard_error={"exact": 0.0, "estimated": STANDARD_ERROR * relative_change, "at least": math.nan}[known],
        frobenius=(a.frobenius, b.frobenius),
        frobenius_ratio=ratio(a.frobenius, b.frobenius),
        frobenius_folded=(a.frobenius_folded, b.frobenius_folded),
        frobenius_folded_ratio=ratio(a.frobenius_folded, b.frobenius_folded),
        spectral_ratio=ratio(spectral_a, spectral_b) if both else math.nan,
        frobenius_over_spectral=ratio(spectral_a, a.frobenius) if both else math.nan,
        weibull_k=(a.weibull.k, b.weibull.k) if a.is_matrix else (math.nan, math.nan),
    )


def dims_of_weights(a: WeightRecord, b: WeightRecord) -> tuple[DimChange, ...]:
    """What changed from output dim to output dim and from input dim to input dim; nothing for vectors."""
    if not a.is_matrix:
        return ()
    return (
        change_of_dims("output dim", (a.row_rms, b.row_rms)),
        change_of_dims("input dim", (a.column_rms, b.column_rms)),
    )


def _relative_change(a: WeightRecord, b: WeightRecord) -> tuple[float, Literal["exact", "estimated", "at least"]]:
    if not a.is_matrix:
        return in_units(_distance(b.dims.mean, a.dims.mean), a.frobenius), "exact"
    sketch_a, sketch_b = a.sketch, b.sketch
    least = _least_relative_change(a, b)
    if sketch_a is None or sketch_b is None:
        return least, "at least"
    estimate = in_units(sketched_distance(sketch_a, sketch_b), a.frobenius)
    most = in_units(a.frobenius + b.frobenius, a.frobenius)
    if estimate > 0 and least > _ROUNDING:
        estimate = max(estimate, least)
    return min(estimate, most) if most == most else estimate, "estimated"  # noqa: PLR0124  NaN: no bound


def _least_relative_change(a: WeightRecord, b: WeightRecord) -> float:
    n_out, n_in = math.prod(a.shape[:-1]), a.shape[-1]
    least = [
        math.sqrt(n_in) * _distance(b.row_rms, a.row_rms),
        math.sqrt(n_out) * _distance(b.column_rms, a.column_rms),
        abs(b.frobenius - a.frobenius),
    ]
    # Of a matrix that is stored transposed the stored columns, whose means are those of the dims, are its rows.
    per_stored_column = a.n / max(len(a.dims), 1)
    least.append(math.sqrt(per_stored_column) * _distance(b.dims.mean, a.dims.mean))
    values_a, values_b = a.singular_values, b.singular_values
    if values_a is not None and values_b is not None and values_a.size == values_b.size:
        least.append(_distance(values_b, values_a))
    known = [x for x in least if math.isfinite(x)]
    return in_units(max(known), a.frobenius) if known else math.nan


def _distance(b: NDArray[np.float64], a: NDArray[np.float64]) -> float:
    """The norm of b - a over the entries where that is finite."""
    with np.errstate(all="ignore"):
        x = b - a
        return float(np.sqrt(np.sum(x[np.isfinite(x)] ** 2)))
