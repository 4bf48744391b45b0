"""The largest values and their places."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lmfacts.run.statistic import ANY, Array, Statistic

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["OutlierArrays"]


class OutlierArrays(Statistic):
    """The finite values of largest magnitude, largest first."""

    name = "outliers"
    is_required = True

    outlier_values = Array(np.float64, ANY)
    """[j], the values."""
    outlier_index = Array(np.int64, ANY, 4)
    """[j, 4], columns sequence, position, dim, token id (-1 where unknown)."""

    def token_ids(self) -> NDArray[np.int64]:
        """Those of all places."""
        return self.outlier_index[:, -1]

    def problem(self, n_dims: int) -> str | None:  # noqa: ARG002  as the class has it
        """Each value has a place."""
        if self.outlier_values.size != self.outlier_index.shape[0]:
            return "outlier_values and outlier_index differ in length"
        return None
