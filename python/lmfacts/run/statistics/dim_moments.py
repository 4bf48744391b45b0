"""The central moments of the dims."""

from __future__ import annotations

import numpy as np

from lmfacts.run.statistic import DIMS, Array, Statistic

__all__ = ["DimMomentArrays"]


class DimMomentArrays(Statistic):
    """Moments of each dim's finite values, and how many values are not finite or large."""

    name = "moments"
    is_required = True
    is_option = False

    moments = Array(np.float64, 6, DIMS)
    """[6, d], rows mean, M2, M3, M4, min, max of each dim's finite values; 0, 0, 0, 0, +inf, -inf for none."""
    mean_rests = Array(np.float64, DIMS)
    """[d], what rounding took from each mean: merging needs the difference of two means to more digits than the means
    themselves have."""
    dim_counts = Array(np.uint64, 2, DIMS)
    """[2, d], rows n_nonfinite and n_at_least (|x| >= threshold; infinities count, NaN does not)."""

    def problem(self, n_dims: int) -> str | None:
        """No dim has more values than there are tokens."""
        if n_dims and int(self.dim_counts.max()) > self.part.n_tokens:
            return f"dim_counts exceed the number of tokens, {self.part.n_tokens}"
        return None
