"""Count sketches of matrices: how far two are apart, when neither is at hand.

Each entry of a matrix, with a random sign, is added to one of 4,096 buckets (Charikar, Chen and Farach-Colton 2002).
Sign and bucket follow from the entry's row and column [out, in] and a fixed seed, so that two checkpoints of the same
weights have the same sketch, whether one stores them transposed, in one tensor with others, or in another dtype; in the
last bits it depends on the order of the sums. A sketch is linear: that of B - A is the difference of the two, and the
sum of its squares is on average ||B - A||_F^2 (Alon, Matias and Szegedy 1999; Thorup and Zhang 2004).

The relative standard deviation of the norm is at most sqrt(2 / 4096) / 2 = 1.1 %, whatever the entries are, with one
exception: neighbours in a row are hashed together, 16 at a time, and a difference in nothing but every 16th column of a
few rows is estimated less well: to 4.4 % in a single row, to 1.3 % in 32 rows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["N_BUCKETS", "STANDARD_ERROR", "sketched_distance"]

N_BUCKETS: Final = 4096

STANDARD_ERROR: Final = (2.0 / N_BUCKETS) ** 0.5 / 2.0
"""Of an estimated norm, relative to it."""

_SUMS: Final = 1e-13
"""What the order of its sums may do to a sketch, relative to its norm. Less is no difference between two matrices; a
single float32 that is off by its last bit makes about 1e-11."""


def sketched_distance(a: NDArray[np.float64], b: NDArray[np.float64]) -> float:
    """||B - A||_F as the sketches of A and B estimate it; exactly 0 where they differ by the order of sums only."""
    largest = max(np.abs(a).max(), np.abs(b).max())
    if not largest > 0:
        return 0.0
    x, y = a / largest, b / largest  # whose squares neither overflow nor vanish
    distance = float(np.linalg.norm(y - x))
    least = _SUMS * float(max(np.linalg.norm(x), np.linalg.norm(y)))
    return float(largest) * distance if distance > least else 0.0
