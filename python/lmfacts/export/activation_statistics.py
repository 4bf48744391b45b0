"""The statistics that only activations (and their gradients) have: of tokens and of dims."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lmfacts.analysis.outlier_dims import rms_outlier_dims
from lmfacts.export.statistic import COUNT, NONE, VALUE, Statistic

if TYPE_CHECKING:
    from lmfacts.export.statistic import Compute, Source

__all__ = ["OF_EACH_DIM", "OF_SIZES", "OF_TOKENS_AND_DIMS"]


def _mean_cosine(source: Source) -> float | None:
    units = source.site.unit_sums
    return None if units is None else float(units.cosine_contributions.sum())


def _norm(name: str, unit: str, definition: str, compute: Compute) -> Statistic:
    return Statistic(f"norm_{name}", unit, definition, "activations", compute)


OF_SIZES: Final = (
    Statistic("n_tokens", COUNT, "Tokens, padding not counted.", "activations", lambda s: s.site.n_tokens),
    Statistic("n_dims", COUNT, "Dims of the site.", "activations", lambda s: s.record.n_dims),
)

OF_TOKENS_AND_DIMS: Final = (
    Statistic(
        "threshold",
        VALUE,
        "The magnitude that n_at_least and dim_n_at_least count from.",
        "activations",
        lambda s: s.site.threshold,
    ),
    Statistic(
        "n_at_least",
        COUNT,
        "Values of at least the threshold in magnitude; infinities count, NaN does not.",
        "activations",
        lambda s: int(s.record.dims.n_at_least.sum()),
    ),
    Statistic(
        "median_dim_excess_kurtosis",
        NONE,
        "Median over the dims of dim_excess_kurtosis.",
        "activations",
        lambda s: s.figures.median_dim_excess_kurtosis,
    ),
    Statistic(
        "n_outlier_dims",
        COUNT,
        "Dims whose dim_rms is more than 5 times the median dim_rms of the site.",
        "activations",
        lambda s: rms_outlier_dims(s.site).size,
    ),
    _norm("n", COUNT, "Tokens with a norm: those whose values are all finite.", lambda s: s.site.norms.n),
    _norm("mean", VALUE, "Mean of the tokens' L2 norms.", lambda s: s.site.norms.mean),
    _norm("std", VALUE, "Population standard deviation of the norms.", lambda s: s.site.norms.std),
    _norm("min", VALUE, "Smallest norm, exact.", lambda s: s.site.norms.min),
    _norm("median", VALUE, "Median norm, within 0.4 %.", lambda s: s.site.norms.quantile(0.5)),
    _norm("max", VALUE, "Largest norm, exact.", lambda s: s.site.norms.max),
    _norm("mean_log", "ln(value)", "Mean of ln(norm), norms of 0 left out.", lambda s: s.site.norms.mean_log),
    _norm(
        "mean_log_centered",
        "ln(value)",
        "Mean of ln(norm of x - mean(x)), the mean over the token's dims: what LayerNorm sees.",
        lambda s: s.site.norms.mean_log_centered,
    ),
    Statistic(
        "mean_cosine",
        NONE,
        "Mean cosine over all pairs of different tokens; where the sums of unit vectors were recorded.",
        "activations",
        _mean_cosine,
    ),
)


def _dim(name: str, unit: str, definition: str) -> Statistic:
    return Statistic(
        f"dim_{name}",
        unit,
        definition,
        "activations",
        lambda source: getattr(source.record.dims, name),
        per="dim",
        by_default=False,
    )


OF_EACH_DIM: Final = (
    _dim("mean", VALUE, "Mean of the dim's finite values."),
    _dim("std", VALUE, "Their population standard deviation."),
    _dim("rms", VALUE, "Their root mean square, about zero."),
    _dim("skewness", NONE, "Their third standardized moment."),
    _dim("excess_kurtosis", NONE, "Their fourth standardized moment, minus 3."),
    _dim("min", VALUE, "The smallest."),
    _dim("max", VALUE, "The largest."),
    _dim("absmax", VALUE, "The largest magnitude."),
    _dim("n_at_least", COUNT, "Values of at least the threshold in magnitude."),
    _dim("n_nonfinite", COUNT, "NaN and infinities."),
)
"""One value for each dim."""
