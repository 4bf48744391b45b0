"""Values with the largest of their block: what formats cost that give every block of values a scale of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.errors import UsageError
from lmfacts.run.statistic import ANY, Array, Sites, Statistic
from lmfacts.stats.block_formats import N_COLUMNS, N_LARGEST, BlockHistogram

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from lmfacts.run.site import SiteRecord

__all__ = ["VALUE_BLOCKS", "BlocksOf16Arrays", "BlocksOf32Arrays", "block_sizes", "value_blocks"]


class BlocksOf16Arrays(Statistic):
    """How often each pair of a value and the largest magnitude of its block of 16 occurs."""

    name = "blocks_of_16"
    sites = Sites.MATRIX_INPUTS

    blocks_of_16_cells = Array(np.uint32, ANY)
    """[c], ascending: bin of the largest magnitude x 233 + column; `lmfacts.stats.block_formats` says of what."""
    blocks_of_16_counts = Array(np.uint64, ANY)
    """[c], how often each occurs."""

    def problem(self, n_dims: int) -> str | None:
        """Every cell is one of the table, and there are no more values than tokens have."""
        return _problem(self, self.blocks_of_16_cells, self.blocks_of_16_counts, n_dims)


class BlocksOf32Arrays(Statistic):
    """The same of blocks of 32."""

    name = "blocks_of_32"
    sites = Sites.MATRIX_INPUTS

    blocks_of_32_cells = Array(np.uint32, ANY)
    """[c], as of blocks of 16."""
    blocks_of_32_counts = Array(np.uint64, ANY)
    """[c], likewise."""

    def problem(self, n_dims: int) -> str | None:
        """Every cell is one of the table, and there are no more values than tokens have."""
        return _problem(self, self.blocks_of_32_cells, self.blocks_of_32_counts, n_dims)


VALUE_BLOCKS: Final[Mapping[int, type[Statistic]]] = {16: BlocksOf16Arrays, 32: BlocksOf32Arrays}
"""The statistics by the size of their blocks."""


def block_sizes(sizes: Sequence[int]) -> list[int]:
    """The sizes of blocks that are asked for, ascending, each once.

    Raises:
        UsageError: they are no list of sizes, or there are no blocks of one of them.
    """
    known = " or ".join(map(str, VALUE_BLOCKS))
    if isinstance(sizes, str) or not isinstance(sizes, Iterable):
        raise UsageError(f"blocks_of: expected a list of sizes ({known}, or both), got {sizes!r}")
    listed = list(sizes)
    for size in listed:
        if not isinstance(size, int | np.integer) or size not in VALUE_BLOCKS:
            raise UsageError(f"blocks_of: expected blocks of {known} values, or both, got {size}")
    return sorted({int(size) for size in listed})


def value_blocks(record: SiteRecord, size: int) -> BlockHistogram | None:
    """The histogram of blocks of this size over the record's tokens; None where it was not recorded."""
    statistic = VALUE_BLOCKS[size]
    if not record.state.has(statistic):
        return None
    names = list(statistic.arrays)
    cells, counts = (np.concatenate([part.arrays[name].astype(np.int64) for part in record.parts]) for name in names)
    merged, places = np.unique(cells, return_inverse=True)
    totals = np.bincount(places, weights=counts, minlength=merged.size).astype(np.int64)
    return BlockHistogram(merged, totals, max(-record.min, record.max), _known_largest(record, size), record.dtype)


def _known_largest(record: SiteRecord, size: int) -> NDArray[np.float64]:
    """Magnitudes of outliers that are the largest of their block, one for each block."""
    outliers = record.outliers
    if record.n_nan or record.n_inf:  # blocks with such values are not counted, and which those are is not known
        outliers = outliers[:0]
    blocks = np.stack([outliers["sequence"], outliers["position"], outliers["dim"] // size], axis=1)
    # They descend, so that the first of a block is its largest.
    _, first = np.unique(blocks, axis=0, return_index=True)
    return np.asarray(np.abs(outliers["value"][np.sort(first)]))


def _problem(statistic: Statistic, cells: NDArray[np.uint32], counts: NDArray[np.uint64], n_dims: int) -> str | None:
    name = statistic.name
    if cells.size != counts.size or (cells[1:] <= cells[:-1]).any():
        return f"{name}_cells do not ascend, or have other than one count each"
    last = int(cells[-1]) if cells.size else -1
    n_tokens = statistic.part.n_tokens
    if last >= N_LARGEST * N_COLUMNS or int(counts.sum()) > n_tokens * n_dims:
        return f"{name}_cells hold more than {n_dims} dims of {n_tokens} tokens have"
    return None
