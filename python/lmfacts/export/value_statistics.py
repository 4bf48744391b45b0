"""The statistics of values, whatever these are: those of activations and of weights alike."""

from __future__ import annotations

from dataclasses import fields
from typing import Final

from lmfacts.export.statistic import COUNT, NONE, QUANTILES, SHARE, VALUE, Statistic
from lmfacts.stats.shape import ShapeStatistics

__all__ = ["OF_VALUES"]


def _quantile(q: float) -> Statistic:
    return Statistic(
        f"quantile_{q}",
        VALUE,
        f"The smallest value that a share of {q} of the values does not exceed; float32 and float64: the middle of "
        "its cell.",
        "both",
        lambda source: source.quantiles[q],
    )


_SHAPE_DEFINITIONS: Final = {
    "weibull_k": (
        NONE,
        "Shape k of the Weibull law that fits the body of the magnitudes: 1.206 for a Gaussian; none if a tenth equal.",
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


def _shape(name: str) -> Statistic:
    unit, definition = _SHAPE_DEFINITIONS[name]
    return Statistic(name, unit, definition, "both", lambda source: float(getattr(source.shape, name)))


OF_VALUES: Final = (
    Statistic("n", COUNT, "Finite values. Statistics are over these.", "both", lambda s: s.record.n),
    Statistic("n_nan", COUNT, "NaN.", "both", lambda s: s.record.n_nan),
    Statistic("n_inf", COUNT, "Infinities of either sign.", "both", lambda s: s.record.n_inf),
    Statistic(
        "n_zero",
        COUNT,
        "Zeros of either sign; float32 and float64: values below 2^-133 in magnitude.",
        "both",
        lambda s: s.record.n_zero,
    ),
    Statistic(
        "n_subnormal",
        COUNT,
        "Subnormal values that are not counted as zeros.",
        "both",
        lambda s: s.record.n_subnormal,
    ),
    Statistic(
        "exact",
        "0 or 1",
        "1 where quantiles, moments above order 4 and the shape are exact (bfloat16, float16, vectors of weights); 0 "
        "where a value is known within a cell of at most 0.8 % (float32, float64), and what depends on the place in it "
        "(body_std, the shape) is empty if the cell of the median is wider than a tenth of std.",
        "both",
        lambda s: float(s.record.exact),
    ),
    Statistic("mean", VALUE, "Mean of the values.", "both", lambda s: s.record.mean),
    Statistic("std", VALUE, "Population standard deviation (ddof 0).", "both", lambda s: s.record.std),
    Statistic("skewness", NONE, "Third standardized moment.", "both", lambda s: s.record.skewness),
    Statistic(
        "excess_kurtosis",
        NONE,
        "Fourth standardized moment, minus 3: 0 for a Gaussian.",
        "both",
        lambda s: s.record.excess_kurtosis,
    ),
    Statistic(
        "standardized_moment_6",
        NONE,
        "Mean of ((x - mean) / std)^6: 15 for a Gaussian.",
        "both",
        lambda s: s.record.standardized_moment(6),
    ),
    Statistic(
        "standardized_moment_8",
        NONE,
        "Mean of ((x - mean) / std)^8: 105 for a Gaussian.",
        "both",
        lambda s: s.record.standardized_moment(8),
    ),
    Statistic("min", VALUE, "Smallest value, exact.", "both", lambda s: s.record.min),
    Statistic("max", VALUE, "Largest value, exact.", "both", lambda s: s.record.max),
    *(_quantile(q) for q in QUANTILES),
    Statistic(
        "body_std",
        VALUE,
        "Interquartile range / 1.349, the std of a Gaussian with these quartiles; std where that is 0.",
        "both",
        lambda s: s.figures.body_std,
    ),
    *(_shape(field.name) for field in fields(ShapeStatistics) if field.name != "excess_kurtosis"),
)
"""One value for each site or weight."""
