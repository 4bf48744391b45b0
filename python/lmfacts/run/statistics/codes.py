"""The 16-bit codes of the values."""

from __future__ import annotations

import numpy as np

from lmfacts.run.statistic import ANY, Array, Statistic

__all__ = ["CodeArrays", "codes_problem"]


class CodeArrays(Statistic):
    """How often each code occurs."""

    name = "codes"
    is_required = True
    is_option = False

    codes = Array(np.uint16, ANY)
    """[m], ascending: the codes that occur, those of NaN and infinities included."""
    counts = Array(np.uint64, ANY)
    """[m], how often each does."""

    def problem(self, n_dims: int) -> str | None:
        """Every value is counted once."""
        problem = codes_problem(self, "codes", "counts")
        if problem is not None:
            return problem
        n_tokens, counts = self.part.n_tokens, self.counts
        n_values, n_counted = n_tokens * n_dims, int(counts.sum())
        if n_counted != n_values or (counts.size and int(counts.max()) > n_values):
            return f"the counts add up to {n_counted}, but {n_tokens} tokens have {n_values} values"
        return None


def codes_problem(statistic: Statistic, codes: str, counts: str) -> str | None:
    """What is wrong with a list of codes that has a count for each, or None."""
    listed = getattr(statistic, codes)
    if listed.size != getattr(statistic, counts).size:
        return f"{codes} and {counts} differ in length"
    return f"{codes} do not ascend" if (listed[1:] <= listed[:-1]).any() else None
