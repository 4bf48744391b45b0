"""Tokens in eight blocks of sequences, and the largest value of each of the first sequences."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.run.statistic import ANY, NO_MOMENTS, Array, Sites, Statistic

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["N_BLOCKS", "N_MAXIMA", "SequenceBlockArrays"]

N_BLOCKS: Final = 8
"""Blocks of sequences; a sequence is in the block of its index modulo this."""

N_MAXIMA: Final = 64
"""Sequences, from the first, whose largest value is kept."""


class SequenceBlockArrays(Statistic):
    """How norms and largest values vary from sequence to sequence."""

    name = "sequence_blocks"
    sites = Sites.STREAM
    entry_key = "blocks"

    block_tokens = Array(np.uint64, N_BLOCKS)
    """[8], tokens of each block of sequences."""
    block_token_moments = Array(np.float64, N_BLOCKS, 3, 7, absent=NO_MOMENTS)
    """[8, 3, 7], `token_moments` of each block."""
    block_token_mean_rests = Array(np.float64, N_BLOCKS, 3)
    """[8, 3], what rounding took from those means."""
    maxima_values = Array(np.float64, ANY)
    """[i], i <= 64, the finite value of largest magnitude of each of the first 64 sequences of the scan that has
    one."""
    maxima_index = Array(np.int64, ANY, 4)
    """[i, 4], columns sequence, position, dim, token id; sequences ascend."""

    def token_ids(self) -> NDArray[np.int64]:
        """Those of all places."""
        return self.maxima_index[:, -1]

    def problem(self, n_dims: int) -> str | None:  # noqa: ARG002  as the class has it
        """Every token is in a block, and sequences have one largest value each."""
        if self.maxima_values.size != self.maxima_index.shape[0]:
            return "maxima_values and maxima_index differ in length"
        sequences = self.maxima_index[:, 0]
        if sequences.size and not (np.all(np.diff(sequences) > 0) and sequences[0] >= 0 and sequences[-1] < N_MAXIMA):
            return f"maxima_index has sequences that do not ascend within the first {N_MAXIMA}"
        n_in_blocks = int(self.block_tokens.sum())
        if n_in_blocks not in (0, self.part.n_tokens):
            return f"the blocks have {n_in_blocks} tokens, the population {self.part.n_tokens}"
        return None
