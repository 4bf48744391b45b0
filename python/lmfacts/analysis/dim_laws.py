"""Which law the dims of a site follow one at a time, from their coarse histograms."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lmfacts.run.dim_histograms import DimHistograms
    from lmfacts.run.dims import DimStatistics

__all__ = ["DimLaws"]

_LEAST_MASS = 1e-300
_LARGEST_SHARE_OF_A_BIN = 0.5


@dataclass(frozen=True)
class DimLaws:
    """Gaussian against logistic, dim by dim, each law with the dim's own mean and standard deviation.

    Attributes:
        n_dims: dims compared: those of which no bin holds more than half of the values (a dim whose mean is many
            standard deviations from 0 lies within a bin or two, which says nothing of its law).
        gaussian_share: share of them of which the Gaussian has the larger likelihood; NaN without dims.
        median_gap: median over dims of the mean log likelihood of the Gaussian minus that of the logistic law, nats per
            value.
    """

    n_dims: int
    gaussian_share: float
    median_gap: float

    @classmethod
    def of(cls, histograms: DimHistograms, dims: DimStatistics, left_out: NDArray[np.int64]) -> Self:
        """Compare the dims of a site but some; dims that do not vary, or not across bins, are skipped."""
        from scipy.special import expit, ndtr  # noqa: PLC0415  slow to load

        kept = np.isfinite(dims.std) & (dims.std > 0)
        kept[left_out] = False
        shares = histograms.by_value / np.maximum(histograms.counts.sum(axis=1, keepdims=True), 1)
        kept &= shares.max(axis=1) <= _LARGEST_SHARE_OF_A_BIN
        if not kept.any():
            return cls(0, math.nan, math.nan)
        shares = shares[kept]
        with np.errstate(over="ignore"):
            z = (histograms.edges - dims.mean[kept, None]) / dims.std[kept, None]

        def log_masses(edges: NDArray[np.float64], survival_side: NDArray[np.float64]) -> NDArray[np.float64]:
            # Differences of F below the middle and of 1 - F above it, whichever keeps more digits.
            below, above = np.diff(edges, axis=1), -np.diff(survival_side, axis=1)
            return np.log(np.maximum(np.where(z[:, 1:] <= 0, below, above), _LEAST_MASS))

        slope = math.pi / math.sqrt(3.0)
        gaussian, logistic = log_masses(ndtr(z), ndtr(-z)), log_masses(expit(slope * z), expit(-slope * z))
        gap = (shares * (gaussian - logistic)).sum(axis=1)
        return cls(int(gap.size), float(np.mean(gap > 0)), float(np.median(gap)))
