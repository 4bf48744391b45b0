"""The codes of the values by blocks of sequences."""

from __future__ import annotations

import numpy as np

from lmfacts.run.statistic import ANY, Array, Sites, Statistic
from lmfacts.run.statistics.sequence_blocks import N_BLOCKS

__all__ = ["BlockCodeArrays"]


class BlockCodeArrays(Statistic):
    """How often each code occurs in each of eight blocks of sequences."""

    name = "block_codes"
    sites = Sites.DETAIL
    populations = ("rest",)
    entry_key = "detail"

    block_lengths = Array(np.uint64, ANY)
    """[8], how many different codes each block has; empty for `first`."""
    block_codes = Array(np.uint16, ANY)
    """[b], the codes of the blocks one after the other, ascending in each."""
    block_counts = Array(np.uint64, ANY)
    """[b], how often each occurs in its block."""

    def problem(self, n_dims: int) -> str | None:
        """Together the blocks have all values."""
        if not self.block_codes.size == self.block_counts.size == int(self.block_lengths.sum()):
            return "block_lengths, block_codes and block_counts do not fit together"
        n_values = self.part.n_tokens * n_dims
        if self.block_lengths.size not in (0, N_BLOCKS):
            return f"block_lengths are {self.block_lengths.size}, expected {N_BLOCKS}"
        if self.block_lengths.size and int(self.block_counts.sum()) != n_values:
            return f"the blocks have {int(self.block_counts.sum())} values, the population {n_values}"
        return None
