"""Comparing two runs: `compare(a, b)` says per site and per fact what changed and how much.

`lmfacts.comparison.site_change` defines the effect of a site, the one number that sites are sorted by, and
`lmfacts.comparison.noise` what runs of different text differ by where nothing changed. Nothing here loads torch, reads
a file or prints.
"""

from __future__ import annotations

from lmfacts.comparison.comparing import Comparison, compare
from lmfacts.comparison.dim_change import DimChange, OutlierDimChange
from lmfacts.comparison.distances import Distances, distances
from lmfacts.comparison.fact_change import FactChange, MeasureChange
from lmfacts.comparison.matching import NotComparable
from lmfacts.comparison.norm_change import KindNormChange, NormChange
from lmfacts.comparison.site_change import Difference, SiteChange
from lmfacts.comparison.weight_change import WeightChange

__all__ = [
    "Comparison",
    "Difference",
    "DimChange",
    "Distances",
    "FactChange",
    "KindNormChange",
    "MeasureChange",
    "NormChange",
    "NotComparable",
    "OutlierDimChange",
    "SiteChange",
    "WeightChange",
    "compare",
    "distances",
]
