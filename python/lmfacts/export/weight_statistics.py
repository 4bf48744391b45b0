"""The statistics that only weights have: of matrices, of their singular values, and of vectors."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final

from lmfacts.export.statistic import COUNT, NONE, VALUE, Statistic
from lmfacts.stats.shape import bimodality_coefficient

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from lmfacts.export.statistic import Compute, Source
    from lmfacts.stats.spectrum import Spectrum

__all__ = ["OF_EACH_ROW_AND_COLUMN", "OF_WEIGHTS"]


def _weight(name: str, unit: str, definition: str, compute: Compute) -> Statistic:
    return Statistic(name, unit, definition, "weights", compute)


def _matrix(name: str, unit: str, definition: str, compute: Compute) -> Statistic:
    """A statistic that vectors do not have."""
    return _weight(name, unit, definition, lambda s: compute(s) if s.weight.is_matrix else None)


def _spectral(name: str, unit: str, definition: str, compute: Callable[[Spectrum], float]) -> Statistic:
    """A statistic of the singular values, where these were computed."""
    return _weight(name, unit, definition, lambda s: None if s.weight.spectrum is None else compute(s.weight.spectrum))


def _above_shuffled_edge(source: Source) -> float | None:
    spectrum, edge = source.weight.spectrum, source.weight.shuffled_edge
    return None if spectrum is None or edge is None else spectrum.n_above(edge)


def _alpha(source: Source) -> float | None:
    from lmfacts.stats.spectrum import weightwatcher  # noqa: PLC0415  runs of activations do without

    values = source.weight.singular_values
    return None if values is None else weightwatcher(values).alpha


OF_WEIGHTS: Final = (
    _matrix("n_rows", COUNT, "Output dims of a matrix.", lambda s: s.weight.shape[0]),
    _matrix("n_columns", COUNT, "Input dims of a matrix.", lambda s: math.prod(s.weight.shape[1:])),
    _weight("max_abs_z", "std", "Largest distance from the mean.", lambda s: s.weight.max_abs_z),
    _weight(
        "expected_max_abs_z",
        "std",
        "What max_abs_z is expected to be for as many independent Gaussian values.",
        lambda s: s.weight.expected_max_abs_z,
    ),
    _weight("frobenius", VALUE, "Root of the sum of squares.", lambda s: s.weight.frobenius),
    _weight(
        "frobenius_folded",
        VALUE,
        "The same with the gain of the norm before it folded in, or centered where a LayerNorm follows.",
        lambda s: s.weight.frobenius_folded,
    ),
    _weight(
        "bimodality",
        NONE,
        "(skewness^2 + 1) / kurtosis, of vectors: 1/3 for a Gaussian, above 5/9 for two groups.",
        lambda s: None if s.weight.is_matrix else _bimodality(s),
    ),
    _matrix(
        "scaled_n",
        COUNT,
        "Values left after dividing columns, then rows, of a matrix by their RMS: scaled values.",
        lambda s: s.weight.scaled.n,
    ),
    _matrix(
        "scaled_excess_kurtosis",
        NONE,
        "excess_kurtosis of the scaled values.",
        lambda s: s.weight.scaled.excess_kurtosis,
    ),
    _matrix("scaled_max_abs_z", "std", "max_abs_z of the scaled values.", lambda s: s.weight.scaled.max_abs_z),
    _matrix("scaled_weibull_k", NONE, "weibull_k of the scaled values.", lambda s: s.weight.scaled.weibull.k),
    _weight("spectral", VALUE, "Largest singular value.", lambda s: s.weight.spectral),
    _weight(
        "spectral_folded",
        VALUE,
        "The same of the matrix that frobenius_folded is of.",
        lambda s: s.weight.spectral_folded,
    ),
    _spectral(
        "marchenko_pastur_edge",
        VALUE,
        "Where the singular values of independent entries of this RMS end.",
        lambda spectrum: spectrum.marchenko_pastur_edge,
    ),
    _spectral(
        "n_above_edge",
        COUNT,
        "Singular values above marchenko_pastur_edge.",
        lambda spectrum: spectrum.n_above(spectrum.marchenko_pastur_edge),
    ),
    _weight(
        "shuffled_edge",
        VALUE,
        "Largest singular value of the same entries in random places, 5 % added; where the tails are heavy.",
        lambda s: s.weight.shuffled_edge,
    ),
    _weight("n_above_shuffled_edge", COUNT, "Singular values above shuffled_edge.", _above_shuffled_edge),
    _spectral("stable_rank", NONE, "frobenius^2 / spectral^2.", lambda spectrum: spectrum.stable_rank),
    _spectral(
        "effective_rank",
        NONE,
        "exp(-sum p ln p), p the shares of the squared singular values.",
        lambda spectrum: spectrum.effective_rank,
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
    Statistic(
        "alpha",
        NONE,
        "WeightWatcher's exponent of a power law fitted to the squared singular values. Slow for large matrices.",
        "weights",
        _alpha,
        by_default=False,
    ),
)


def _bimodality(source: Source) -> float:
    return bimodality_coefficient(source.record.distribution) if source.record.n else math.nan


def _many(name: str, per: str, definition: str, compute: Callable[[Source], NDArray[Any] | None]) -> Statistic:
    return Statistic(name, VALUE, definition, "weights", compute, per=per, by_default=False)


OF_EACH_ROW_AND_COLUMN: Final = (
    _many(
        "row_rms",
        "output dim",
        "Root mean square of a matrix's weights to an output dim.",
        lambda s: s.weight.row_rms if s.weight.is_matrix else None,
    ),
    _many(
        "column_rms",
        "input dim",
        "Root mean square of a matrix's weights from an input dim.",
        lambda s: s.weight.column_rms if s.weight.is_matrix else None,
    ),
    _many(
        "singular_value",
        "rank, the largest 0",
        "A singular value, where these were computed.",
        lambda s: s.weight.singular_values,
    ),
    _many(
        "entry",
        "dim",
        "An entry of a vector: a gain or a bias.",
        lambda s: None if s.weight.is_matrix else s.weight.dims.mean,
    ),
)
"""One value for each row, column, rank or entry."""
