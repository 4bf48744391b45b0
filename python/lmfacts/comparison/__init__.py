"""Comparing two runs: `compare(a, b)` says per site and per fact what changed and how much.

`lmfacts.comparison.site_change` defines the effect of a site, the one number that sites are sorted by, and
`lmfacts.comparison.noise` what runs of different text differ by where nothing changed. Nothing here loads torch or
prints, and only `compare_checkpoints(a, b)`, which compares the weights themselves where both checkpoints are at hand,
reads files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmfacts.comparison.comparing import Comparison, compare
from lmfacts.comparison.dim_change import DimChange, OutlierDimChange
from lmfacts.comparison.fact_change import FactChange, MeasureChange
from lmfacts.comparison.matching import NotComparable
from lmfacts.comparison.norm_change import KindNormChange, NormChange
from lmfacts.comparison.site_change import Difference, SiteChange
from lmfacts.comparison.weight_change import WeightChange
from lmfacts.stats.distances import Distances, distances

if TYPE_CHECKING:
    from lmfacts.comparison.checkpoints import CheckpointComparison, MatrixChange, compare_checkpoints

__all__ = [
    "CheckpointComparison",
    "Comparison",
    "Difference",
    "DimChange",
    "Distances",
    "FactChange",
    "KindNormChange",
    "MatrixChange",
    "MeasureChange",
    "NormChange",
    "NotComparable",
    "OutlierDimChange",
    "SiteChange",
    "WeightChange",
    "compare",
    "compare_checkpoints",
    "distances",
]


def __getattr__(name: str) -> Any:
    """Load what reads checkpoints when it is asked for: comparing runs does without."""
    if name in ("CheckpointComparison", "MatrixChange", "compare_checkpoints"):
        from lmfacts.comparison import checkpoints  # noqa: PLC0415  loads every format of weights

        return getattr(checkpoints, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
