"""The quantities that only weights have: of matrices, of their singular values, and of vectors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from lmfacts.quantities.quantity import COUNT, NONE, SHARE, VALUE, of_weights
from lmfacts.stats.shape import BIMODAL, NULL_TABLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from lmfacts.quantities.quantity import Quantity, Result
    from lmfacts.quantities.weight_figures import WeightFigures
    from lmfacts.stats.spectrum import Spectrum

__all__ = ["OF_EACH_ROW_AND_COLUMN", "OF_WEIGHTS"]


_LOGISTIC: Final = NULL_TABLE["logistic"]


def _matrix(
    key: str, unit: str, definition: str, compute: Callable[[WeightFigures], Result], **options: Any
) -> Quantity:
    """A quantity that vectors do not have."""
    return of_weights(key, unit, definition, lambda f: compute(f) if f.weight.is_matrix else None, **options)


def _vector(
    key: str, unit: str, definition: str, compute: Callable[[WeightFigures], Result], **options: Any
) -> Quantity:
    """A quantity that matrices do not have."""
    return of_weights(key, unit, definition, lambda f: None if f.weight.is_matrix else compute(f), **options)


def _spectral(key: str, unit: str, definition: str, compute: Callable[[Spectrum], float], **options: Any) -> Quantity:
    """A quantity of the singular values, where these were computed."""

    def of(figures: WeightFigures) -> float | None:
        spectrum = figures.weight.spectrum
        return None if spectrum is None else compute(spectrum)

    return of_weights(key, unit, definition, of, **options)


def _above_shuffled_edge(figures: WeightFigures) -> float | None:
    spectrum, edge = figures.weight.spectrum, figures.weight.shuffled_edge
    return None if spectrum is None or edge is None else spectrum.n_above(edge)


def _alpha(figures: WeightFigures) -> float | None:
    from lmfacts.stats.spectrum import weightwatcher  # noqa: PLC0415  runs of activations do without

    values = figures.weight.singular_values
    return None if values is None else weightwatcher(values).alpha


OF_WEIGHTS: Final = (
    _matrix("n_rows", COUNT, "Output dims of a matrix.", lambda f: f.weight.shape[0]),
    _matrix("n_columns", COUNT, "Input dims of a matrix.", lambda f: math.prod(f.weight.shape[1:])),
    of_weights(
        "max_abs_z",
        "std",
        "Largest distance from the mean.",
        lambda f: f.weight.max_abs_z,
        in_figures="weights",
    ),
    of_weights(
        "expected_max_abs_z",
        "std",
        "What max_abs_z is expected to be for as many independent Gaussian values.",
        lambda f: f.weight.expected_max_abs_z,
        in_figures="weights",
    ),
    of_weights(
        "max_z_ratio",
        NONE,
        "max_abs_z over expected_max_abs_z.",
        lambda f: f.max_z_ratio,
        limit=2.0,
    ),
    of_weights("frobenius", VALUE, "Root of the sum of squares.", lambda f: f.weight.frobenius, in_figures="weights"),
    of_weights(
        "frobenius_folded",
        VALUE,
        "The same with the gain of the norm before it folded in, or centered where a LayerNorm follows.",
        lambda f: f.weight.frobenius_folded,
        in_figures="weights",
    ),
    _vector(
        "bimodality",
        NONE,
        "(skewness^2 + 1) / kurtosis, of vectors: 1/3 for a Gaussian, above 5/9 for two groups.",
        lambda f: f.bimodality,
        limit=BIMODAL,
        in_figures="weights",
    ),
    _vector(
        "n_beyond_3",
        COUNT,
        "Entries of a vector more than 3 std from the mean.",
        lambda f: f.n_beyond_3,
        in_figures="weights",
    ),
    _vector(
        "expected_beyond_3",
        COUNT,
        "The same of a Gaussian.",
        lambda f: f.expected_beyond_3,
        in_figures="weights",
    ),
    _vector(
        "largest_over_median",
        NONE,
        "Largest magnitude in a vector over the magnitude of its median.",
        lambda f: f.largest_over_median,
        in_figures="weights",
    ),
    _matrix(
        "scaled_n",
        COUNT,
        "Values left after dividing columns, then rows, of a matrix by their RMS: scaled values.",
        lambda f: f.weight.scaled.n,
    ),
    _matrix(
        "scaled_excess_kurtosis",
        NONE,
        "excess_kurtosis of the scaled values.",
        lambda f: f.scaled_excess_kurtosis,
        limit=_LOGISTIC.excess_kurtosis,
        in_figures="weights",
    ),
    _matrix("scaled_max_abs_z", "std", "max_abs_z of the scaled values.", lambda f: f.weight.scaled.max_abs_z),
    _matrix("scaled_weibull_k", NONE, "weibull_k of the scaled values.", lambda f: f.weight.scaled.weibull.k),
    _matrix(
        "row_ratio",
        NONE,
        "Largest over median row_rms.",
        lambda f: f.row_ratio,
        limit=5.0,
        in_figures="weights",
    ),
    _matrix(
        "column_ratio",
        NONE,
        "Largest over median column_rms.",
        lambda f: f.column_ratio,
        limit=5.0,
        in_figures="weights",
    ),
    _matrix(
        "weibull_lambda",
        VALUE,
        "Scale of the Weibull law of which weibull_k is the shape.",
        lambda f: f.weight.weibull.lambda_,
        in_figures="weights",
    ),
    of_weights("spectral", VALUE, "Largest singular value.", lambda f: f.weight.spectral, in_figures="weights"),
    of_weights(
        "spectral_folded",
        VALUE,
        "The same of the matrix that frobenius_folded is of.",
        lambda f: f.weight.spectral_folded,
        in_figures="weights",
    ),
    _spectral(
        "marchenko_pastur_edge",
        VALUE,
        "Where the singular values of independent entries of this RMS end.",
        lambda spectrum: spectrum.marchenko_pastur_edge,
    ),
    _matrix(
        "edge_ratio",
        NONE,
        "spectral over marchenko_pastur_edge: about 1 for independent entries.",
        lambda f: None if f.weight.spectrum is None else f.edge_ratio,
        in_figures="weights",
    ),
    _spectral(
        "n_above_edge",
        COUNT,
        "Singular values above marchenko_pastur_edge.",
        lambda spectrum: spectrum.n_above(spectrum.marchenko_pastur_edge),
    ),
    of_weights(
        "shuffled_edge",
        VALUE,
        "Largest singular value of the same entries in random places, 5 % added; where the tails are heavy.",
        lambda f: f.weight.shuffled_edge,
    ),
    of_weights("n_above_shuffled_edge", COUNT, "Singular values above shuffled_edge.", _above_shuffled_edge),
    _spectral("stable_rank", NONE, "frobenius^2 / spectral^2.", lambda spectrum: spectrum.stable_rank),
    _spectral(
        "effective_rank",
        NONE,
        "exp(-sum p ln p), p the shares of the squared singular values.",
        lambda spectrum: spectrum.effective_rank,
    ),
    _matrix(
        "stable_rank_share",
        SHARE,
        "stable_rank over the smaller side.",
        lambda f: None if f.weight.spectrum is None else f.stable_rank_share,
        in_figures="weights",
    ),
    _matrix(
        "effective_rank_share",
        SHARE,
        "effective_rank over the smaller side.",
        lambda f: None if f.weight.spectrum is None else f.effective_rank_share,
        in_figures="weights",
    ),
    _spectral("rank_me", NONE, "The same, p the shares of the singular values.", lambda spectrum: spectrum.rank_me),
    _spectral(
        "participation_ratio",
        NONE,
        "(sum of squares)^2 / sum of fourth powers of the singular values.",
        lambda spectrum: spectrum.participation_ratio,
    ),
    _spectral(
        "head_slope",
        NONE,
        "Slope of ln s on ln rank over the first twelfth of the ranks (at least 16).",
        lambda spectrum: spectrum.head.slope,
    ),
    _spectral(
        "body_slope",
        NONE,
        "The same from 1/96 to 1/2 of the ranks; about -0.27 for a Gaussian square matrix.",
        lambda spectrum: spectrum.body.slope,
    ),
    of_weights(
        "alpha",
        NONE,
        "WeightWatcher's exponent of a power law fitted to the squared singular values. Slow for large matrices.",
        _alpha,
        exported="by name",
    ),
)


def _many(key: str, per: str, definition: str, compute: Callable[[WeightFigures], NDArray[Any] | None]) -> Quantity:
    return of_weights(key, VALUE, definition, compute, per=per)


OF_EACH_ROW_AND_COLUMN: Final = (
    _many(
        "row_rms",
        "output dim",
        "Root mean square of a matrix's weights to an output dim.",
        lambda f: f.weight.row_rms if f.weight.is_matrix else None,
    ),
    _many(
        "column_rms",
        "input dim",
        "Root mean square of a matrix's weights from an input dim.",
        lambda f: f.weight.column_rms if f.weight.is_matrix else None,
    ),
    _many(
        "singular_value",
        "rank, the largest 0",
        "A singular value, where these were computed.",
        lambda f: f.weight.singular_values,
    ),
    _many(
        "entry",
        "dim",
        "An entry of a vector: a gain or a bias.",
        lambda f: None if f.weight.is_matrix else f.weight.dims.mean,
    ),
)
"""One value for each row, column, rank or entry."""
