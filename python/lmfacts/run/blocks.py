"""The tokens of a site in eight blocks of sequences: how much a statistic varies from text to text.

Values of one sequence depend on each other, so what a statistic's uncertainty is estimated from are groups of whole
sequences. A sequence belongs to the block of its index modulo 8, whatever batch it came in.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from lmfacts.run.statistics.block_codes import BlockCodeArrays
from lmfacts.run.statistics.sequence_blocks import SequenceBlockArrays
from lmfacts.stats.distribution import Distribution
from lmfacts.stats.moments import Moments, pool_moments

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lmfacts.run.state import PopulationState

__all__ = ["Histogram", "SequenceBlocks", "histogram_distribution", "left_out"]

Histogram = tuple["NDArray[np.uint16]", "NDArray[np.uint64]"]
"""Codes, ascending, and how often each occurs."""


@dataclass(frozen=True, eq=False)
class SequenceBlocks:
    """A site's tokens by blocks of sequences.

    Attributes:
        n_tokens: int64 [8], tokens of each block.
        norms: moments of the tokens' L2 norms, fields of shape [8].
        log_norms: moments of their natural logarithms.
        log_centered_norms: moments of ln |x - mean(x)|, the mean being over the token's dims: what LayerNorm sees.
        histograms: codes and counts of each block, or None where only norms were kept.
        dtype: dtype of the values.
    """

    n_tokens: NDArray[np.int64]
    norms: Moments
    log_norms: Moments
    log_centered_norms: Moments
    histograms: tuple[Histogram, ...] | None
    dtype: str

    @classmethod
    def of(cls, parts: Sequence[PopulationState], dtype: str) -> SequenceBlocks:
        """The blocks of one population, or of two that are merged."""
        of_blocks = [SequenceBlockArrays(part) for part in parts]
        n_tokens = np.sum([arrays.block_tokens.astype(np.int64) for arrays in of_blocks], axis=0)
        by_part = [Moments(*np.moveaxis(arrays.block_token_moments, -1, 0)) for arrays in of_blocks]
        norms, logs, centered = (pool_moments([_column(moments, index) for moments in by_part]) for index in range(3))
        histograms = _histograms(BlockCodeArrays(parts[0])) if len(parts) == 1 else None
        return cls(n_tokens, norms, logs, centered, histograms, dtype)

    @cached_property
    def distributions(self) -> tuple[Distribution, ...] | None:
        """The distribution of each block's values, or None where they were not kept."""
        if self.histograms is None:
            return None
        return tuple(histogram_distribution(histogram, self.dtype) for histogram in self.histograms)

    def leave_one_out(self) -> list[Distribution]:
        """The distribution of all blocks but one, for each block; empty where they were not kept."""
        return [histogram_distribution(histogram, self.dtype) for histogram in left_out(self.histograms or ())]


def left_out(histograms: Sequence[Histogram]) -> list[Histogram]:
    """The sums of all histograms but one, for each."""
    total = np.zeros(1 << 16, dtype=np.uint64)
    for codes, counts in histograms:
        total[codes] += counts
    held = np.flatnonzero(total).astype(np.uint16)
    sums = []
    for codes, counts in histograms:
        total[codes] -= counts
        rest = total[held]
        total[codes] += counts
        sums.append((held[rest > 0], rest[rest > 0]))
    return sums


def histogram_distribution(histogram: Histogram, dtype: str) -> Distribution:
    """The distribution of a histogram alone: where codes are not exact, its moments are those of the cells' middles."""
    return Distribution(*histogram, dtype)


def _histograms(arrays: BlockCodeArrays) -> tuple[Histogram, ...] | None:
    if not arrays.block_lengths.size:
        return None
    ends = np.cumsum(arrays.block_lengths.astype(np.int64))[:-1]
    return tuple(zip(np.split(arrays.block_codes, ends), np.split(arrays.block_counts, ends), strict=True))


def _column(moments: Moments, index: int) -> Moments:
    names = ("n", "mean", "m2", "m3", "m4", "min", "max")
    return Moments(*(np.asarray(getattr(moments, name)[:, index]) for name in names))
