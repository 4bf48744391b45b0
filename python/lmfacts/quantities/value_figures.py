"""The figures of recorded values that reports show, each computed when it is first asked for."""

from __future__ import annotations

import math
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.stats.distribution import WIDEST_BODY_CELL
from lmfacts.stats.shape import ShapeStatistics, fraction_beyond, shape_statistics

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lmfacts.run.record import Record
    from lmfacts.stats.moments import Moments

__all__ = ["GAUSSIAN_BEYOND_6_STD", "QUANTILES", "ValueFigures"]

GAUSSIAN_BEYOND_6_STD: Final = math.erfc(6 / math.sqrt(2))
"""Share of a Gaussian's values more than 6 standard deviations from its mean: 2.0e-9."""

IQR_OF_GAUSSIAN: Final = 1.3489795003921634
"""Interquartile range of a Gaussian over its standard deviation."""


QUANTILES: Final = (0.0001, 0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999, 0.9999)
"""The quantiles that are in the catalogue."""


class ValueFigures:
    """What reports say about the values of a record. Without values, figures are NaN and dims -1.

    Moments are those of the dims pooled, which equal those of the values.

    Attributes:
        record: the record; of a site, over one population.
    """

    def __init__(self, record: Record) -> None:
        self.record = record

    @cached_property
    def n_values(self) -> int:
        """Number of finite values."""
        return int(self._pooled.n)

    @cached_property
    def mean(self) -> float:
        """Mean of the values."""
        return float(self._pooled.masked(self._pooled.mean))

    @cached_property
    def std(self) -> float:
        """Their population standard deviation."""
        return float(self._pooled.std)

    @cached_property
    def skewness(self) -> float:
        """Third standardized moment."""
        return float(self._pooled.skewness)

    @cached_property
    def excess_kurtosis(self) -> float:
        """Fourth standardized moment minus 3: 0 for a Gaussian."""
        return float(self._pooled.excess_kurtosis)

    @cached_property
    def median_dim_excess_kurtosis(self) -> float:
        """Median over the dims of each dim's excess kurtosis."""
        return _nanmedian(self.record.dims.excess_kurtosis)

    @property
    def beyond_6(self) -> float:
        """Share of the finite values more than 6 standard deviations from the mean: see `fraction_beyond`."""
        return fraction_beyond(self.record.distribution, 6.0)

    @cached_property
    def quantiles(self) -> dict[float, float]:
        """`QUANTILES`, each with its value."""
        return dict(zip(QUANTILES, self.record.quantile(QUANTILES).tolist(), strict=True))

    @cached_property
    def shape(self) -> ShapeStatistics:
        """How far the distribution is from a Gaussian."""
        return shape_statistics(self.record.distribution)

    @cached_property
    def median(self) -> float:
        """Median of the values."""
        return float(self.record.quantile(0.5))

    @cached_property
    def body_std(self) -> float:
        """Scale of the bulk: interquartile range / 1.349, a Gaussian's std; the std itself where that is 0.

        NaN where it would be that of cells: wider than a fifth of it, or than a tenth of the standard deviation.
        """
        low, high = self.record.quantile([0.25, 0.75])
        robust = float(high - low) / IQR_OF_GAUSSIAN
        blurred = not self.record.distribution.exact and self._width > WIDEST_BODY_CELL * robust
        if self.std > 0 and (self._in_cells or blurred):
            return math.nan
        return robust if robust > 0 else self.std

    @cached_property
    def _width(self) -> float:
        """Of the cell of the median; 0 for that of zero."""
        return self.record.distribution.width_at_median if self.median != 0 else 0.0

    @property
    def _in_cells(self) -> bool:
        """Whether cells are too wide to say how the values lie in them."""
        return not self.record.distribution.exact and self.record.distribution.is_coarse

    @cached_property
    def largest_dim(self) -> int:
        """The dim of the value with the largest magnitude; -1 without values."""
        magnitudes = self.record.dims.absmax
        return int(np.nanargmax(magnitudes)) if magnitudes.size and not np.isnan(magnitudes).all() else -1

    @cached_property
    def largest(self) -> float:
        """The value with the largest magnitude, with its sign."""
        if self.largest_dim < 0:
            return math.nan
        low, high = float(self.record.dims.min[self.largest_dim]), float(self.record.dims.max[self.largest_dim])
        return high if high >= -low else low

    @cached_property
    def n_nonfinite(self) -> int:
        """Number of NaN and infinities."""
        return int(self.record.dims.n_nonfinite.sum())

    @property
    def n_nan(self) -> int:
        """Number of NaN."""
        return self.record.n_nan if self.n_nonfinite else 0

    @property
    def n_inf(self) -> int:
        """Number of infinities of either sign."""
        return self.record.n_inf if self.n_nonfinite else 0

    def histogram(self, n_bins: int, limit: float) -> tuple[NDArray[np.int64], NDArray[np.float64], int, int]:
        """A histogram about the median over +- `limit` body stds, or stds where the body's is not known.

        Returns:
            counts [n_bins], edges [n_bins + 1], and the number of values below and above the edges.
        """
        half = limit * (self.std if math.isnan(self.body_std) else self.body_std)
        if not self.n_values:
            return np.zeros(n_bins, np.int64), np.full(n_bins + 1, math.nan), 0, 0
        if not half > 0:
            half = 0.5
        edges = np.linspace(self.median - half, self.median + half, n_bins + 1)
        counts, _ = self.record.histogram(np.concatenate([[-np.inf], edges, [np.inf]]))
        return counts[1:-1], edges, int(counts[0]), int(counts[-1])

    @cached_property
    def _pooled(self) -> Moments:
        return self.record.dims.moments.pool()


def _nanmedian(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else math.nan
