"""How long the tokens' vectors are."""

from __future__ import annotations

import numpy as np

from lmfacts.run.statistic import ANY, NO_MOMENTS, Array, Statistic
from lmfacts.run.statistics.codes import codes_problem

__all__ = ["TokenNormArrays"]


class TokenNormArrays(Statistic):
    """The L2 norms of the tokens, those with a non-finite value left out."""

    name = "token_norms"
    is_required = True

    norm_codes = Array(np.uint16, ANY)
    """[m], ascending: the float32 codes of the norms."""
    norm_counts = Array(np.uint64, ANY)
    """[m], how often each occurs."""
    token_moments = Array(np.float64, 3, 7, absent=NO_MOMENTS)
    """[3, 7], rows L2 norm, its natural logarithm, the logarithm of the norm of x - mean(x); columns n, mean, M2, M3,
    M4, min, max over the tokens."""
    token_mean_rests = Array(np.float64, 3)
    """[3], what rounding took from those means."""

    def problem(self, n_dims: int) -> str | None:  # noqa: ARG002  as the class has it
        """No more norms than tokens."""
        problem = codes_problem(self, "norm_codes", "norm_counts")
        if problem is not None:
            return problem
        n_tokens, counts = self.part.n_tokens, self.norm_counts
        if counts.size and max(int(counts.sum()), int(counts.max())) > n_tokens:
            return f"more norms are counted than there are tokens ({n_tokens})"
        n = self.token_moments[:, 0]
        if not np.all((n >= 0) & (n <= n_tokens)):
            return f"token_moments count more tokens than there are ({n_tokens})"
        return None
