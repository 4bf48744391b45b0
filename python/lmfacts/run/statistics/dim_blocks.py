"""Sums of each dim in eight blocks of sequences: how much what is said of single dims varies from text to text."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from lmfacts.run.statistic import DIMS, Array, Sites, Statistic
from lmfacts.run.statistics.sequence_blocks import N_BLOCKS

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lmfacts.run.state import PopulationState

    Floats = NDArray[np.float64]

__all__ = ["DimBlockArrays", "DimBlocks"]


class DimBlockArrays(Statistic):
    """Sums over the finite tokens of each block of sequences."""

    name = "dim_blocks"
    sites = Sites.STREAM
    populations = ("rest",)

    block_dim_tokens = Array(np.uint64, 2, N_BLOCKS)
    """[2, 8], rows finite tokens of each block, and those of them whose norm is not 0."""
    block_dim_sums = Array(np.float64, 3, N_BLOCKS, DIMS)
    """[3, 8, d], the sums of x, of x^2 and of x / |x|."""

    def problem(self, n_dims: int) -> str | None:  # noqa: ARG002  as the class has it
        """No more tokens are in blocks than there are, and none has a direction that is not finite."""
        finite, directed = self.block_dim_tokens.astype(np.int64)
        if int(finite.sum()) > self.part.n_tokens or (directed > finite).any():
            return f"block_dim_tokens do not fit {self.part.n_tokens} tokens"
        return None


@dataclass(frozen=True, eq=False)
class DimBlocks:
    """Sums of each dim of a site over the finite tokens of eight blocks of sequences.

    Attributes:
        n: int64 [8], finite tokens.
        n_directed: int64 [8], those of them whose norm is not 0.
        sums: float64 [8, d], sums of the values.
        squares: float64 [8, d], sums of their squares.
        units: float64 [8, d], sums of x / |x|, over the tokens whose norm is not 0.
    """

    n: NDArray[np.int64]
    n_directed: NDArray[np.int64]
    sums: Floats
    squares: Floats
    units: Floats

    @classmethod
    def of(cls, part: PopulationState) -> DimBlocks:
        """Those of a population."""
        arrays = DimBlockArrays(part)
        return cls(*arrays.block_dim_tokens.astype(np.int64), *arrays.block_dim_sums)

    def moments_of(self, blocks: NDArray[Any]) -> tuple[Floats, Floats]:
        """Mean and root mean square of each dim over some blocks together.

        Args:
            blocks: [sets, 8], 1 for each block of a set and 0 for the others.

        Returns:
            Two arrays [sets, d]; NaN for a set without tokens.
        """
        with np.errstate(all="ignore"):
            n = (blocks @ self.n)[:, None]
            return (blocks @ self.sums) / n, np.sqrt((blocks @ self.squares) / n)

    @cached_property
    def rms_left_out(self) -> Floats:
        """Root mean square of each dim over all blocks but one, for each: [8, d]."""
        return self.moments_of(1.0 - np.eye(N_BLOCKS))[1]
