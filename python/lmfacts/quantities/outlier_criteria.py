"""Which dims of a site stand out, by the criteria of the literature.

Each criterion is a pure function of a `SiteRecord`, so the population is the caller's choice:
`rms_outlier_dims(site.rest)`. A dim without finite values is never an outlier dim. All results are dims in ascending
order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

import numpy as np

from lmfacts.stats.jackknife import jackknives

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lmfacts.run.site import SiteRecord

__all__ = [
    "OUTLIER_FACTOR",
    "outlier_ratio_intervals",
    "rms_outlier_dims",
    "three_sigma_outlier_dims",
    "variance_outlier_dims",
]

OUTLIER_FACTOR: Final = 5.0
"""An outlier dim's RMS is more than this many times the median dim's (the project's main criterion)."""


def rms_outlier_dims(site: SiteRecord, factor: float = OUTLIER_FACTOR) -> NDArray[np.int64]:
    """Dims whose RMS is more than `factor` times the median RMS of the site's dims (the project's main criterion)."""
    rms = site.dims.rms
    return _dims_above(rms, factor * _median(rms))


def outlier_ratio_intervals(site: SiteRecord) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """The ends of the 90 % interval of each dim's RMS over the median one's, from blocks of sequences.

    Returns:
        Lower and upper ends, float64 [d], 0 where a dim has no values; None where the site keeps no sums of dims by
        blocks of sequences.
    """
    blocks = site.dim_blocks
    if blocks is None:
        return None
    with np.errstate(all="ignore"):
        left_out = np.stack([rms / _median(rms) for rms in blocks.rms_left_out])
        low, high = jackknives(site.dims.rms / _median(site.dims.rms), left_out)
    return np.nan_to_num(low), np.nan_to_num(high)


def three_sigma_outlier_dims(
    site: SiteRecord, n_sigmas: float = 3.0, of: Literal["rms", "absmax"] = "rms"
) -> NDArray[np.int64]:
    """Dims whose scale exceeds the mean over the dims by `n_sigmas` standard deviations.

    The scale is the RMS, or with `of="absmax"` the largest magnitude; mean and standard deviation are over the dims.
    The rule by which arXiv:2604.14722 lists massive dims, there on the magnitudes of one vector.
    """
    scale = site.dims.rms if of == "rms" else site.dims.absmax
    finite = scale[np.isfinite(scale)]
    return _dims_above(scale, finite.mean() + n_sigmas * finite.std() if finite.size else np.nan)


def variance_outlier_dims(site: SiteRecord, factor: float = 5.0) -> NDArray[np.int64]:
    """Dims whose variance is more than `factor` times the dims' mean variance (Rudman et al., arXiv:2310.17715)."""
    variance = site.dims.std**2
    finite = variance[np.isfinite(variance)]
    return _dims_above(variance, factor * finite.mean() if finite.size else np.nan)


def _median(values: NDArray[np.float64]) -> float:
    finite = values[np.isfinite(values)]
    return float(np.median(finite)) if finite.size else float("nan")


def _dims_above(values: NDArray[np.float64], limit: float) -> NDArray[np.int64]:
    """Indices of the values above the limit; none where either is NaN."""
    return np.flatnonzero(values > limit)
