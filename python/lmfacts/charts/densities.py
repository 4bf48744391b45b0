"""What figures of distributions share: values in units of the body, densities, and the laws beside them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.stats.cells import Cells
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lmfacts.charts import Chart
    from lmfacts.stats.distribution import Distribution
    from lmfacts.stats.laws import FamilyFit

    Floats = NDArray[np.float64]

__all__ = ["Body", "add_linear", "add_log", "add_log_line", "gaussian_density", "law_density", "share_text"]

_GAUSSIAN_MAD: Final = 0.6744897501960817
_LEAST_OCCUPIED: Final = 3

LOG_RANGE: Final = 12.0
LINEAR_RANGE: Final = 5.0
_CORE, _CORE_BIN, _TAIL_BIN = 4.0, 0.2, 0.4
_LEAST_DENSITY: Final = 1e-9
_LEAST_PERCENT: Final = 1e-4


@dataclass(frozen=True, eq=False)
class Body:
    """A distribution in units of its body: t = (x - median) / (MAD / 0.6745).

    Attributes:
        cells: the values.
        center: their median.
        scale: MAD / 0.6745, the standard deviation of a Gaussian with this body.
    """

    cells: Cells
    center: float
    scale: float

    @classmethod
    def of(cls, distribution: Distribution) -> Body | None:
        """The body of a distribution; None where it has none, such as for values that are all the same."""
        cells = Cells.of(distribution)
        if cells.n_occupied < _LEAST_OCCUPIED:
            return None
        center = cells.median()
        scale = float(cells.folded(center).quantile(0.5)) / _GAUSSIAN_MAD
        # With most values equal, a cell of its own width is no scale: the spread of all of them is.
        if not scale > 1e-3 * distribution.std:
            scale = distribution.std
        return cls(cells, center, scale) if 0 < scale < math.inf else None

    def in_its_unit(self, distribution: Distribution) -> Body:
        """Another distribution about this center and in this scale."""
        return Body(Cells.of(distribution), self.center, self.scale)

    @property
    def n(self) -> int:
        """Number of values."""
        return self.cells.n

    def densities(self, edges: Floats) -> Floats:
        """Share of the values per unit of t in each bin."""
        masses = np.diff(self.cells.cdf(self.center + self.scale * edges))
        return np.asarray(np.maximum(masses, 0.0) / np.diff(edges))

    def beyond(self, t: float) -> float:
        """Share of the values farther than `t` from the median."""
        low, high = self.cells.cdf(np.array([self.center - t * self.scale, self.center + t * self.scale]))
        return max(0.0, 1.0 - float(high - low))

    def farthest(self) -> float:
        """Largest |t|."""
        ends = (self.cells.edges[[0, -1]] - self.center) / self.scale
        return float(np.abs(ends).max())

    def quantiles(self, p: Floats) -> Floats:
        """Values of t below which shares `p` of the values lie."""
        shares = self.cells.cumulative / self.cells.n
        return np.asarray((np.interp(p, shares, self.cells.edges) - self.center) / self.scale)


def gaussian_density(t: Floats) -> Floats:
    """Density of a standard Gaussian."""
    return np.asarray(np.exp(-0.5 * t * t) / math.sqrt(2 * math.pi))


def law_density(fit: FamilyFit, x: Floats) -> Floats:
    """Density of a fitted family at `x`, in the unit of the values: see `lmfacts.stats.laws.FAMILIES`."""
    from scipy.special import gammaln  # noqa: PLC0415  slow to load

    of = fit.parameters
    t = (x - of["location"]) / of["scale"]
    if fit.name == "Gaussian":
        density = gaussian_density(t)
    elif fit.name == "logistic":
        density = 0.25 / np.cosh(np.minimum(np.abs(t) / 2, 300.0)) ** 2
    elif fit.name == "Laplace":
        density = 0.5 * np.exp(-np.abs(t))
    elif fit.name == "Student-t":
        nu = of["nu"]
        log_constant = gammaln((nu + 1) / 2) - gammaln(nu / 2) - 0.5 * math.log(nu * math.pi)
        density = np.exp(log_constant - (nu + 1) / 2 * np.log1p(t * t / nu))
    elif fit.name == "generalized normal":
        beta = of["beta"]
        density = np.exp(math.log(beta / 2) - gammaln(1 / beta) - np.minimum(np.abs(t) ** beta, 700.0))
    else:
        ratio = of["scale"] / of["wide_scale"]
        density = of["weight"] * gaussian_density(t) + (1 - of["weight"]) * ratio * gaussian_density(ratio * t)
    return np.asarray(density / of["scale"])


def share_text(value: float) -> str:
    """A share that may be tiny: `0.45 %`, `3e-8`."""
    return f"{100 * value:.2g} %" if value >= _LEAST_PERCENT else numbers.share(value)


def add_linear(chart: Chart, body: Body, fit: FamilyFit | None = None) -> None:
    """Add density against t with linear axes, a Gaussian of the same body, and a fitted law."""
    edges = np.linspace(-LINEAR_RANGE, LINEAR_RANGE, 101)
    chart.bars(edges, body.densities(edges))
    t = np.linspace(-LINEAR_RANGE, LINEAR_RANGE, 161)
    chart.line(t, gaussian_density(t), "ink", style="dashed", width=1.5)
    if fit is not None:
        chart.line(t, law_density(fit, body.center + body.scale * t) * body.scale, "orange", width=1.5)
    chart.limits_x(-LINEAR_RANGE, LINEAR_RANGE)
    chart.limits_y(0)


def add_log(chart: Chart, body: Body, fit: FamilyFit | None = None, everything: Body | None = None) -> None:
    """Add density against t with a logarithmic axis; what lies beyond the axis is said in words.

    Args:
        chart: what they are added to.
        body: the values.
        fit: a fitted law to draw with them.
        everything: these and further values in the same unit, drawn as a line.
    """
    edges = log_edges()
    densities = body.densities(edges)
    # A bin with less than a third of a value is empty.
    floor = max(0.3 / (body.n * _TAIL_BIN), _LEAST_DENSITY)
    chart.limits_x(-LOG_RANGE, LOG_RANGE)
    chart.limits_y(floor, 2.0 * max(float(densities.max()), 0.4))
    chart.log("y")
    chart.bars(edges, np.maximum(densities, floor), floor=floor)
    if everything is not None:
        add_log_line(chart, everything, "blue")
    t = np.linspace(-LOG_RANGE, LOG_RANGE, 161)
    chart.line(t, gaussian_density(t), "ink", style="dashed", width=1.5)
    if fit is not None:
        chart.line(t, law_density(fit, body.center + body.scale * t) * body.scale, "orange", width=1.5)
    whole = everything or body
    beyond = whole.beyond(LOG_RANGE)
    if beyond > 0:
        chart.note(f"{share_text(beyond)} beyond,", 0.985, 0.95, align="right")
        chart.note(f"up to {numbers.number(whole.farthest(), 2)} std", 0.985, 0.87, align="right")


def add_log_line(chart: Chart, body: Body, color: str) -> None:
    """Add further values to a chart of `add_log`, as a line."""
    edges = log_edges()
    densities = body.densities(edges)
    chart.line((edges[:-1] + edges[1:]) / 2, np.where(densities > 0, densities, np.nan), color, width=1.5, dots=False)


def log_edges() -> Floats:
    """Edges of the bins of a chart of `add_log`: wider where values are rare."""
    core = np.arange(0.0, _CORE, _CORE_BIN)
    tail = np.arange(_CORE, LOG_RANGE + _TAIL_BIN / 2, _TAIL_BIN)
    half = np.concatenate([core, tail])
    return np.concatenate([-half[:0:-1], half])
