"""WeightWatcher's power law by its published formulas, in full and slowly."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["published_fit"]


def published_fit(singular_values: Iterable[float], *, two_sided: bool = False) -> tuple[float, float, float, int]:
    """(D, alpha, xmin, n) as the paper's formulas have them, every candidate in full; or with the KS distance as D."""
    eigenvalues = sorted(float(s) ** 2 for s in singular_values if s > 0)
    candidates = []
    for start, xmin in enumerate(eigenvalues[:-1]):
        tail = np.array(eigenvalues[start:])
        n = tail.size
        if tail[-1] == xmin:
            continue
        alpha = 1 + n / np.sum(np.log(tail / xmin))
        law = 1 - (tail / xmin) ** (1 - alpha)
        distance = np.max(np.abs(law - np.arange(n) / n))
        if two_sided:
            distance = max(distance, np.max(np.abs(law - (np.arange(n) + 1) / n)))
        candidates.append((distance, alpha, xmin, n))
    return min(candidates, key=lambda candidate: candidate[0])
