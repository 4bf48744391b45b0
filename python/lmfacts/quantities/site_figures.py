"""The figures of one site over one population: those of its values, and those of its tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lmfacts.quantities.value_figures import ValueFigures

if TYPE_CHECKING:
    from lmfacts.run.site import SiteRecord

__all__ = ["SiteFigures"]


class SiteFigures(ValueFigures):
    """What reports say about a site over its population.

    Attributes:
        site: the record, over one population.
    """

    def __init__(self, site: SiteRecord) -> None:
        super().__init__(site)
        self.site = site

    def as_dict(self) -> dict[str, Any]:
        """The figures by name, as numbers."""
        site = self.site
        return {
            "n_tokens": site.n_tokens,
            "n_values": self.n_values,
            "n_nan": site.n_nan if self.n_nonfinite else 0,
            "n_inf": site.n_inf if self.n_nonfinite else 0,
            "mean": self.mean,
            "std": self.std,
            "body_std": self.body_std,
            "skewness": self.skewness,
            "excess_kurtosis": self.excess_kurtosis,
            "median_dim_excess_kurtosis": self.median_dim_excess_kurtosis,
            "share_beyond_6_std": self.beyond_6_std,
            "largest": self.largest,
            "largest_dim": self.largest_dim if self.largest_dim >= 0 else None,
            "mean_norm": site.norms.mean,
            "mean_log_norm": site.norms.mean_log,
        }
