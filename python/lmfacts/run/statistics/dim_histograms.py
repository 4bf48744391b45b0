"""A coarse histogram of each dim: `lmfacts.run.dim_histograms` says of which bins."""

from __future__ import annotations

from typing import Final

import numpy as np

from lmfacts.run.statistic import ANY, Array, Sites, Statistic

__all__ = ["N_BINS", "DimHistogramArrays"]

N_BINS: Final = 256
"""Bins of a dim's coarse histogram."""


class DimHistogramArrays(Statistic):
    """How many values of each dim are in each bin."""

    name = "dim_histograms"
    sites = Sites.DETAIL
    populations = ("rest",)
    entry_key = "detail"

    dim_bins = Array(np.uint32, ANY)
    """[c], ascending: dim x 256 + bin of the bins that hold a value; empty for `first`."""
    dim_bin_counts = Array(np.uint64, ANY)
    """[c], how many each holds."""

    def problem(self, n_dims: int) -> str | None:
        """Every bin is one of a dim, and no dim has more values than there are tokens."""
        if self.dim_bins.size != self.dim_bin_counts.size or (self.dim_bins[1:] <= self.dim_bins[:-1]).any():
            return "dim_bins do not ascend, or have other than one count each"
        last_bin = int(self.dim_bins[-1]) if self.dim_bins.size else -1
        n_tokens = self.part.n_tokens
        if last_bin >= n_dims * N_BINS or int(self.dim_bin_counts.sum()) > n_tokens * n_dims:
            return f"dim_bins hold more than {n_dims} dims of {n_tokens} tokens have"
        return None
