"""A coarse histogram of each dim of a site, and what is left of the site's distribution without some dims.

256 bins for each dim: four for each power of two from 2^-16 to 2^16, of either sign; smaller and larger magnitudes are
in the first and last bin of their sign. Bins 0 to 127 hold positive values by magnitude, 128 to 255 negative ones. A
bin is a union of codes, so that the values of a few dims can be taken out of the histogram of all codes: which bin they
left is known, and within a bin they are taken in proportion to what it holds. Where the dims taken out are alone in
their bins, as outlier dims mostly are, that is exact; elsewhere they are a small share of what stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lmfacts.errors import UsageError
from lmfacts.run.statistics.dim_histograms import N_BINS, DimHistogramArrays
from lmfacts.stats.codes import MAGNITUDE, decode, infinity_code

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray

    from lmfacts.run.blocks import Histogram
    from lmfacts.run.state import PopulationState

__all__ = ["DimHistograms", "bins_of"]

_FIRST_QUARTER = (127 - 16) * 4
_BINS_OF_A_SIGN = 128


@dataclass(frozen=True, eq=False)
class DimHistograms:
    """Counts of finite values, dim by dim.

    Attributes:
        counts: int64 [d, 256].
    """

    counts: NDArray[np.int64]

    @classmethod
    def of(cls, part: PopulationState, n_dims: int) -> DimHistograms:
        """Those of a population."""
        arrays, counts = DimHistogramArrays(part), np.zeros(n_dims * N_BINS, dtype=np.int64)
        counts[arrays.dim_bins] = arrays.dim_bin_counts.astype(np.int64)
        return cls(counts.reshape(n_dims, N_BINS))

    @property
    def edges(self) -> NDArray[np.float64]:
        """float64 [257], the bins' edges by value, ascending: those of negative values, then of positive ones.

        The outermost are infinite and the middle one is 0; `by_value` has the counts in this order.
        """
        quarters = np.arange(1, _BINS_OF_A_SIGN)
        positive = 2.0 ** (-16 + quarters // 4) * (1 + quarters % 4 / 4)
        return np.concatenate([[-np.inf], -positive[::-1], [0.0], positive, [np.inf]])

    @property
    def by_value(self) -> NDArray[np.int64]:
        """int64 [d, 256], the counts in ascending order of the values."""
        return np.concatenate([self.counts[:, : _BINS_OF_A_SIGN - 1 : -1], self.counts[:, :_BINS_OF_A_SIGN]], axis=1)

    def without(self, dims: Iterable[int], pool: Histogram, dtype: str) -> NDArray[np.float64]:
        """The share of each code of a pool that stays when some dims are taken out.

        Args:
            dims: the dims.
            pool: codes and counts of all dims.
            dtype: dtype of the values.

        Returns:
            float64, one share for each code of the pool.

        Raises:
            UsageError: a dim that the site does not have.
        """
        chosen = np.unique(np.fromiter(dims, dtype=np.int64))
        if chosen.size and not 0 <= chosen[0] <= chosen[-1] < self.counts.shape[0]:
            raise UsageError(f"The site has dims 0 to {self.counts.shape[0] - 1}; got {chosen.tolist()}.")
        codes, counts = pool
        bins = bins_of(codes, dtype)
        finite = (codes & np.uint16(MAGNITUDE)) < infinity_code(dtype)
        held = np.bincount(bins[finite], weights=counts[finite].astype(np.float64), minlength=N_BINS)
        taken = self.counts[chosen].sum(axis=0)
        stays = 1.0 - np.minimum(taken / np.maximum(held, 1.0), 1.0)
        return np.where(finite, stays[bins], 1.0)


def bins_of(codes: NDArray[np.uint16], dtype: str) -> NDArray[np.int64]:
    """The bin of each code."""
    with np.errstate(invalid="ignore", over="ignore"):
        patterns = decode(codes, dtype).astype(np.float32).view(np.uint32)
    quarters = ((patterns & np.uint32(0x7FFFFFFF)) >> np.uint32(21)).astype(np.int64) - _FIRST_QUARTER
    return np.clip(quarters, 0, _BINS_OF_A_SIGN - 1) + (patterns >> np.uint32(31)).astype(np.int64) * _BINS_OF_A_SIGN
