"""The quantities of values, whatever these are: those of activations, of gradients and of weights."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING, Any, Final

from lmfacts.quantities.quantity import COUNT, NONE, SHARE, VALUE, of_values
from lmfacts.quantities.value_figures import QUANTILES
from lmfacts.stats.shape import GAUSSIAN_WEIBULL_K, NULL_TABLE, ShapeStatistics

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lmfacts.quantities.quantity import Quantity

__all__ = ["OF_VALUES"]

_LOGISTIC: Final = NULL_TABLE["logistic"]


def _quantile(q: float) -> Quantity:
    return of_values(
        f"quantile_{q}",
        VALUE,
        f"The smallest value that a share of {q} of the values does not exceed; float32 and float64: the middle of "
        "its cell.",
        lambda figures: figures.quantiles[q],
    )


_SHAPES: Final = {
    "weibull_k": (
        NONE,
        "Shape k of the Weibull law that fits the body of the magnitudes: 1.205 for a Gaussian; none if a tenth equal.",
    ),
    "beyond_3": (SHARE, "Share of the values more than 3 std from the mean; a Gaussian has 0.0027."),
    "beyond_6": (SHARE, "Share of the values more than 6 std from the mean; a Gaussian has 2e-9."),
    "q999_over_q50": (NONE, "99.9 % quantile of the magnitudes over their median; a centered Gaussian has 4.9."),
    "q9999_over_q50": (NONE, "99.99 % quantile of the magnitudes over their median; a centered Gaussian has 5.8."),
    "std_over_mad": (NONE, "std over that of a Gaussian with the same median absolute deviation."),
    "tail_exponent": (NONE, "Exponent c of a tail exp(-(a / s)^c) of the magnitudes a; a Gaussian has 1.62."),
    "ks_mean_std": (SHARE, "Kolmogorov-Smirnov distance to the Gaussian of the same mean and std."),
    "ks_median_mad": (SHARE, "Kolmogorov-Smirnov distance to the Gaussian of the same median and MAD."),
}
_OPTIONS: Final[Mapping[str, Mapping[str, Any]]] = {
    "beyond_6": {"in_figures": "sites"},
    "weibull_k": {
        "gaussian": GAUSSIAN_WEIBULL_K,
        "limit": GAUSSIAN_WEIBULL_K - _LOGISTIC.weibull_k,
        "in_figures": "weights",
    },
}


def _shape(key: str) -> Quantity:
    unit, definition = _SHAPES[key]
    return of_values(key, unit, definition, lambda figures: float(getattr(figures.shape, key)), **_OPTIONS.get(key, {}))


OF_VALUES: Final = (
    of_values("n", COUNT, "Finite values. Statistics are over these.", lambda f: f.n_values, in_figures="both"),
    of_values("n_nan", COUNT, "NaN.", lambda f: f.n_nan, in_figures="both"),
    of_values("n_inf", COUNT, "Infinities of either sign.", lambda f: f.n_inf, in_figures="both"),
    of_values(
        "n_zero",
        COUNT,
        "Zeros of either sign; float32 and float64: values below 2^-133 in magnitude.",
        lambda f: f.record.n_zero,
        in_figures="weights",
    ),
    of_values(
        "n_subnormal",
        COUNT,
        "Subnormal values that are not counted as zeros.",
        lambda f: f.record.n_subnormal,
    ),
    of_values(
        "exact",
        "0 or 1",
        "1 where quantiles, moments above order 4 and the shape are exact (bfloat16, float16, vectors of weights); 0 "
        "where a value is known within a cell of at most 0.8 % (float32, float64), and what depends on the place in it "
        "(body_std, the shape) is empty if the cell of the median is wider than a tenth of std.",
        lambda f: float(f.record.exact),
    ),
    of_values("mean", VALUE, "Mean of the values.", lambda f: f.record.mean, in_figures="both"),
    of_values("std", VALUE, "Population standard deviation (ddof 0).", lambda f: f.record.std, in_figures="both"),
    of_values("skewness", NONE, "Third standardized moment.", lambda f: f.record.skewness, in_figures="both"),
    of_values(
        "excess_kurtosis",
        NONE,
        "Fourth standardized moment, minus 3: 0 for a Gaussian.",
        lambda f: f.record.excess_kurtosis,
        in_figures="both",
        limit=_LOGISTIC.excess_kurtosis,
    ),
    of_values(
        "standardized_moment_6",
        NONE,
        "Mean of ((x - mean) / std)^6: 15 for a Gaussian.",
        lambda f: f.record.standardized_moment(6),
    ),
    of_values(
        "standardized_moment_8",
        NONE,
        "Mean of ((x - mean) / std)^8: 105 for a Gaussian.",
        lambda f: f.record.standardized_moment(8),
    ),
    of_values("min", VALUE, "Smallest value, exact.", lambda f: f.record.min, in_figures="weights"),
    of_values("max", VALUE, "Largest value, exact.", lambda f: f.record.max, in_figures="weights"),
    *(_quantile(q) for q in QUANTILES),
    of_values(
        "body_std",
        VALUE,
        "Interquartile range / 1.349, the std of a Gaussian with these quartiles; std where that is 0.",
        lambda f: f.body_std,
        in_figures="sites",
    ),
    *(_shape(field.name) for field in fields(ShapeStatistics) if field.name != "excess_kurtosis"),
)
"""One value for each site or weight."""
