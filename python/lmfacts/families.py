"""Which family of laws the values of a histogram follow best, by likelihood.

Six symmetric families with a location and a scale are fitted by maximum likelihood to the counts of bins: the
likelihood of a bin is its mass under the law, sum over bins c_i ln(F(b_i) - F(a_i)), so that the width of a code's cell
is no error. The bins are runs of whole cells, evenly spaced in asinh(t / 0.02), t the distance from the median in units
of the MAD's scale: 2 % of that distance wide, 0.0004 at the median, some 700 in all; where the codes are coarser than
that, the bins are the cells themselves.

A fit is quoted in nats per value: the mean over the values of the log density of (x - mean) / std, -1.4189 for a
Gaussian whatever its scale. Only differences between families matter; those below `TIE` are not evidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from lmfacts.cells import Cells
    from lmfacts.distribution import Distribution

    Floats = NDArray[np.float64]

__all__ = ["FAMILIES", "TIE", "FamilyFit", "fit_families", "tied_families"]

TIE: Final = 1e-3
"""Nats per value within which two families are taken as equally good."""

_BIN_WIDTH = 0.02
_BIN_CORE = 0.02
_LEAST_OCCUPIED = 3
_GAUSSIAN_MAD = 0.6744897501960817
_UNDERFLOW = 1e-280
_LEAST_LOG_MASS = -1e12
_MOST_RESTARTS = 4
_LEAST_GAIN = 1e-6
_OPTIONS = {"ftol": 1e-11, "gtol": 1e-7, "eps": 1e-6, "maxiter": 200}


@dataclass(frozen=True)
class FamilyFit:
    """One family at its largest likelihood.

    Attributes:
        name: one of `FAMILIES`.
        parameters: in the unit of the values: `location`, `scale`, and the family's own (see `FAMILIES`).
        nats_per_value: mean log density of (x - mean) / std.
        gap: nats per value behind the best family; 0 for the best.
    """

    name: str
    parameters: Mapping[str, float]
    nats_per_value: float
    gap: float

    @property
    def tied(self) -> bool:
        """Whether the family is as good as the best, within `TIE`."""
        return self.gap <= TIE


@dataclass(frozen=True)
class _Family:
    """A family in standard form.

    Attributes:
        log_survival: (t, shape) -> ln P(X > t) for t >= 0, of the law with location 0 and scale 1.
        starts: where to begin: ln of the scale (in units of the robust scale), then the shape.
        limits: lowest and highest value of each shape parameter, as optimized.
        report: (scale, shape) -> the reported scale and shape parameters.
    """

    log_survival: Callable[[Floats, Floats], Floats]
    starts: tuple[tuple[float, ...], ...]
    limits: tuple[tuple[float, float], ...] = ()
    report: Callable[[float, Floats], dict[str, float]] = lambda scale, _: {"scale": scale}


# Log survival functions; each holds its precision where the survival itself underflows.


def _gaussian(t: Floats, _: Floats) -> Floats:
    from scipy.special import log_ndtr  # noqa: PLC0415  slow to load

    return np.asarray(log_ndtr(-t))


def _logistic(t: Floats, _: Floats) -> Floats:
    """S(t) = 1 / (1 + e^t)."""
    return np.asarray(-np.logaddexp(0.0, t))


def _laplace(t: Floats, _: Floats) -> Floats:
    """S(t) = e^-t / 2."""
    return -math.log(2.0) - t


def _student(t: Floats, shape: Floats) -> Floats:
    """S(t) = I_y(nu / 2, 1 / 2) / 2 with y = nu / (nu + t^2) (DLMF 8.17; Abramowitz and Stegun 26.7.1)."""
    from scipy.special import betainc, betaln  # noqa: PLC0415  slow to load

    nu = math.exp(shape[0])
    a = nu / 2.0
    log_y = -np.log1p(t / nu * t)
    survival = betainc(a, 0.5, np.exp(log_y)) / 2.0
    leading = a * log_y - math.log(2.0 * a) - betaln(a, 0.5)  # the first term of the series in y
    return np.asarray(np.where(survival > _UNDERFLOW, np.log(np.maximum(survival, _UNDERFLOW)), leading))


def _generalized_normal(t: Floats, shape: Floats) -> Floats:
    """S(t) = Q(1 / beta, t^beta) / 2: density beta / (2 Gamma(1 / beta)) exp(-t^beta) (Nadarajah 2005)."""
    from scipy.special import gammaincc, gammaln  # noqa: PLC0415  slow to load

    beta = math.exp(shape[0])
    a = 1.0 / beta
    y = np.minimum(t**beta, 1e300)
    survival = gammaincc(a, y) / 2.0
    leading = (a - 1.0) * np.log(np.maximum(y, 1.0)) - y - gammaln(a) - math.log(2.0)  # DLMF 8.11.2
    return np.asarray(np.where(survival > _UNDERFLOW, np.log(np.maximum(survival, _UNDERFLOW)), leading))


def _scale_mixture(t: Floats, shape: Floats) -> Floats:
    """S(t) = w Phi(-t) + (1 - w) Phi(-t / r), w = 1 / (1 + e^-shape_0), r = e^shape_1 >= 1."""
    from scipy.special import log_ndtr  # noqa: PLC0415  slow to load

    narrow, ratio = shape
    log_narrow, log_wide = -np.logaddexp(0.0, -narrow), -np.logaddexp(0.0, narrow)
    return np.asarray(np.logaddexp(log_narrow + log_ndtr(-t), log_wide + log_ndtr(-t * math.exp(-ratio))))


def _report_mixture(scale: float, shape: Floats) -> dict[str, float]:
    weight = 1.0 / (1.0 + math.exp(-shape[0]))
    return {"scale": scale, "weight": weight, "wide_scale": scale * math.exp(shape[1])}


_FAMILIES: Final[dict[str, _Family]] = {
    "Gaussian": _Family(_gaussian, ((0.0,),)),
    "logistic": _Family(_logistic, ((-0.5,),)),
    "Laplace": _Family(_laplace, ((0.0,),)),
    "Student-t": _Family(
        _student,
        ((-0.05, math.log(8.0)),),
        ((math.log(0.2), math.log(1e4)),),
        lambda scale, shape: {"scale": scale, "nu": math.exp(shape[0])},
    ),
    "generalized normal": _Family(
        _generalized_normal,
        ((0.2, math.log(1.5)),),
        ((math.log(0.1), math.log(100.0)),),
        lambda scale, shape: {"scale": scale, "beta": math.exp(shape[0])},
    ),
    "Gaussian scale mixture": _Family(
        _scale_mixture,
        ((-0.1, 1.0, math.log(1.8)), (0.0, 4.0, math.log(6.0))),
        ((-18.0, 18.0), (0.0, 14.0)),
        _report_mixture,
    ),
}

FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {
    "Gaussian": ("location", "scale"),
    "logistic": ("location", "scale"),
    "Laplace": ("location", "scale"),
    "Student-t": ("location", "scale", "nu"),
    "generalized normal": ("location", "scale", "beta"),
    "Gaussian scale mixture": ("location", "scale", "weight", "wide_scale"),
}
"""The families, fewest parameters first, and their parameters. `scale` is the standard deviation of the Gaussian, s of
the logistic 1 / (1 + exp(-x / s)), of the Laplace exp(-|x| / s) and of the Student-t, alpha of the generalized normal
exp(-|x / alpha|^beta), and the smaller of the mixture's two standard deviations, which has the share `weight`."""


def fit_families(distribution: Distribution, names: Sequence[str] | None = None) -> list[FamilyFit]:
    """Fit the families to a distribution by maximum likelihood.

    Args:
        distribution: the values; infinities and NaN are left out.
        names: which of `FAMILIES`; by default all.

    Returns:
        One fit per family, the likeliest first. Empty where a fit means nothing: fewer than 3 different values, or
        a standard deviation beyond float64.
    """
    cells = distribution.cells
    if cells.n_occupied < _LEAST_OCCUPIED:
        return []
    center, unit = _robust_location_and_scale(cells, distribution)
    if not 0 < unit < math.inf:
        return []
    bins = _Bins.of(cells, center, unit)
    # From densities of (x - center) / unit to those of (x - mean) / std.
    constant = -float(bins.shares @ np.log(bins.widths)) + math.log(distribution.std / unit)
    found = []
    for name in FAMILIES if names is None else names:
        (location, log_scale, *shape), log_likelihood = _fit(_FAMILIES[name], bins)
        scale = math.exp(log_scale) * unit
        parameters = {"location": float(center + location * unit), **_FAMILIES[name].report(scale, np.array(shape))}
        found.append((name, parameters, log_likelihood + constant))
    best = max(nats for _, _, nats in found)
    fits = [FamilyFit(name, parameters, nats, best - nats) for name, parameters, nats in found]
    return sorted(fits, key=lambda fit: fit.gap)


def tied_families(fits: Sequence[FamilyFit]) -> list[FamilyFit]:
    """The fits within `TIE` of the best, fewest parameters first: the first is the simplest that suffices."""
    return sorted((fit for fit in fits if fit.tied), key=lambda fit: (len(fit.parameters), fit.gap))


# Inside


@dataclass(frozen=True, eq=False)
class _Bins:
    """Counts over adjoining bins of t = (x - center) / unit.

    Attributes:
        edges: float64 [k], ascending.
        occupied: int64 [m], the indices i of the bins [edges i, edges i + 1] that hold values.
        shares: float64 [m], the share of the values in each of them.
    """

    edges: Floats
    occupied: NDArray[np.int64]
    shares: Floats

    @classmethod
    def of(cls, cells: Cells, center: float, unit: float) -> _Bins:
        edges = (cells.edges - center) / unit
        group = np.floor(np.arcsinh(edges / _BIN_CORE) / _BIN_WIDTH)
        starts = group[1:] != group[:-1]
        keep = np.ones(edges.size, dtype=bool)
        keep[1:-1] = starts[:-1]
        # A bin ends where its last cell does: with the gap after it, it would end at the next value, wherever that is.
        keep[:-1] |= starts & (np.diff(cells.cumulative) == 0)
        edges, counts = edges[keep], np.diff(cells.cumulative[keep])
        occupied = np.flatnonzero(counts)
        return cls(edges, occupied, counts[occupied] / cells.n)

    @property
    def widths(self) -> Floats:
        # Beside values 10^300 times larger a cell has no width left in their unit.
        return np.maximum(np.diff(self.edges)[self.occupied], float(np.finfo(np.float64).tiny))

    def log_masses(self, family: _Family, parameters: Floats) -> Floats:
        """The logarithm of the mass of each occupied bin under the law at (location, ln scale, shape...)."""
        t = (self.edges - parameters[0]) / math.exp(parameters[1])
        log_survival = family.log_survival(np.abs(t), parameters[2:])
        left, right = self.occupied, self.occupied + 1
        straddles = (t[left] < 0.0) & (t[right] > 0.0)
        # Of the two edges, the one nearer the location has the larger survival.
        nearer = np.maximum(log_survival[left], log_survival[right])
        farther = np.minimum(log_survival[left], log_survival[right])
        one_side = nearer + np.log(-np.expm1(farther - nearer))
        across = np.log(-np.expm1(np.logaddexp(log_survival[left], log_survival[right])))
        return np.asarray(np.fmax(np.where(straddles, across, one_side), _LEAST_LOG_MASS))


def _robust_location_and_scale(cells: Cells, distribution: Distribution) -> tuple[float, float]:
    """Median, and the MAD's scale, or the standard deviation where most values are equal."""
    median = cells.median()
    unit = float(cells.folded(median).quantile(0.5)) / _GAUSSIAN_MAD
    # A cell of its own width around most values is no scale to bin by.
    return median, unit if unit > 1e-3 * distribution.std else distribution.std


def _fit(family: _Family, bins: _Bins) -> tuple[Floats, float]:
    """The parameters of largest likelihood, in units of the bins, and that mean log mass."""
    from scipy.optimize import minimize  # noqa: PLC0415  slow to load

    def loss(parameters: Floats) -> float:
        with np.errstate(all="ignore"):
            return -float(bins.shares @ bins.log_masses(family, parameters))

    low, high = float(bins.edges[0]), float(bins.edges[-1])
    middles = (bins.edges[bins.occupied] + bins.edges[bins.occupied + 1]) / 2.0
    spread = math.log(max(math.sqrt(float(bins.shares @ middles**2)), 1e-6))
    limits = [(low, high), (-16.0, max(16.0, spread + 2.0)), *family.limits]
    best, least = np.zeros(2 + len(family.limits)), math.inf
    for start in family.starts:
        # Families without a shape feel the outliers: from the spread of all values. The others fit the body first.
        log_scale = start[0] + (0.0 if family.limits else min(spread, 16.0))
        at, before = np.array([0.0, log_scale, *start[1:]]), math.inf
        for _ in range(_MOST_RESTARTS):
            found = minimize(loss, at, method="L-BFGS-B", bounds=limits, options=_OPTIONS)
            at, gain, before = np.asarray(found.x), before - float(found.fun), float(found.fun)
            # A line search can give up early; from the same place with a fresh curvature it goes on.
            if gain < _LEAST_GAIN:
                break
        if before < least:
            best, least = at, before
    return best, -least
