"""The figures of one weight that reports show, each computed when it is first asked for."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.quantities.value_figures import ValueFigures
from lmfacts.stats.shape import bimodality_coefficient, expected_max_abs_z, fraction_beyond

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lmfacts.run.weight import WeightRecord

__all__ = ["GAUSSIAN_BEYOND_3_STD", "Spread", "WeightFigures"]

GAUSSIAN_BEYOND_3_STD: Final = math.erfc(3 / math.sqrt(2))
"""Share of a Gaussian's values more than 3 standard deviations from its mean: 0.0027."""


@dataclass(frozen=True, slots=True)
class Spread:
    """How figures of the rows, or of the columns, of a matrix are spread. Without figures: NaN and -1.

    Attributes:
        smallest: the smallest, at index `smallest_at`.
        median: their median.
        largest: the largest, at index `largest_at`.
        n_zero: how many are 0.
    """

    smallest: float
    smallest_at: int
    median: float
    largest: float
    largest_at: int
    n_zero: int

    @classmethod
    def of(cls, figures: NDArray[np.float64]) -> Spread:
        """The spread of an array, values that are not finite left out."""
        finite = figures[np.isfinite(figures)]
        if not finite.size:
            return cls(math.nan, -1, math.nan, math.nan, -1, 0)
        low, high = int(np.nanargmin(figures)), int(np.nanargmax(np.where(np.isfinite(figures), figures, -np.inf)))
        return cls(
            float(figures[low]),
            low,
            float(np.median(finite)),
            float(figures[high]),
            high,
            int(np.count_nonzero(finite == 0)),
        )

    @property
    def ratio(self) -> float:
        """Largest over median; NaN where the median is 0."""
        return self.largest / self.median if self.median > 0 else math.nan


class WeightFigures(ValueFigures):
    """What reports say about a weight. What does not apply to a vector, or was not computed, is NaN.

    Attributes:
        weight: the record.
    """

    def __init__(self, weight: WeightRecord) -> None:
        super().__init__(weight)
        self.weight = weight

    @property
    def label(self) -> str:
        """The layer's number, or empty."""
        return "" if self.weight.layer is None else str(self.weight.layer)

    @cached_property
    def scaled_excess_kurtosis(self) -> float:
        """After dividing columns, then rows, by their RMS."""
        return self.weight.scaled.excess_kurtosis if self.weight.is_matrix else math.nan

    @cached_property
    def weibull_k(self) -> float:
        """Shape of the body of |x|; 1.205 for a Gaussian. NaN for vectors, which have too few values."""
        return self.weight.weibull.k if self.weight.is_matrix else math.nan

    @cached_property
    def max_z_ratio(self) -> float:
        """The largest |z| over what a Gaussian sample of as many values has."""
        n = self.weight.n
        return self.weight.max_abs_z / expected_max_abs_z(n) if n > 1 else math.nan

    @cached_property
    def rows(self) -> Spread:
        """RMS of the output dims."""
        return Spread.of(self.weight.row_rms)

    @cached_property
    def columns(self) -> Spread:
        """RMS of the input dims."""
        return Spread.of(self.weight.column_rms)

    @property
    def row_ratio(self) -> float:
        """Largest over median RMS of the output dims."""
        return self.rows.ratio

    @property
    def column_ratio(self) -> float:
        """Largest over median RMS of the input dims."""
        return self.columns.ratio

    @cached_property
    def edge_ratio(self) -> float:
        """Largest singular value over the Marchenko-Pastur edge: about 1 for independent entries."""
        spectrum = self.weight.spectrum
        edge = math.nan if spectrum is None else spectrum.marchenko_pastur_edge
        return spectrum.spectral_norm / edge if spectrum is not None and edge > 0 else math.nan

    @cached_property
    def stable_rank_share(self) -> float:
        """Stable rank over the smaller side."""
        spectrum = self.weight.spectrum
        return math.nan if spectrum is None else spectrum.stable_rank / min(self.weight.shape)

    @cached_property
    def effective_rank_share(self) -> float:
        """Effective rank over the smaller side."""
        spectrum = self.weight.spectrum
        return math.nan if spectrum is None else spectrum.effective_rank / min(self.weight.shape)

    @cached_property
    def bimodality(self) -> float:
        """Bimodality coefficient of the values: 1/3 for a Gaussian."""
        return bimodality_coefficient(self.weight.distribution) if self.weight.n else math.nan

    @cached_property
    def n_beyond_3(self) -> int:
        """Number of values more than 3 standard deviations from the mean."""
        share = fraction_beyond(self.weight.distribution, 3.0)
        return 0 if math.isnan(share) else round(share * self.weight.n)

    @property
    def expected_beyond_3(self) -> float:
        """The same for a Gaussian."""
        return GAUSSIAN_BEYOND_3_STD * self.weight.n

    @cached_property
    def largest_over_median(self) -> float:
        """Largest |x| over the median of the values' magnitudes."""
        weight = self.weight
        if not weight.n:
            return math.nan
        middle = abs(weight.quantile(0.5))
        return max(abs(weight.min), abs(weight.max)) / middle if middle > 0 else math.nan
