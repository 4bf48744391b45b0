"""Which family of laws the values of a histogram follow best, by likelihood.

Six symmetric families with a location and a scale are fitted by maximum likelihood to the counts of bins: the
likelihood of a bin is its mass under the law, sum over bins c_i ln(F(b_i) - F(a_i)), so that the width of a code's cell
is no error. The bins are runs of whole cells, evenly spaced in asinh(t / 0.02), t the distance from the median in units
of the MAD's scale: 2 % of that distance wide, 0.0004 at the median, some 700 in all; where the codes are coarser than
that, the bins are the cells themselves. `lmfacts.stats.bin_likelihood` finds the maximum, to about ten digits.

A fit is quoted in nats per value: the mean over the values of the log density of (x - mean) / std, -1.4189 for a
Gaussian whatever its scale. Only differences between families matter; those below `TIE` are not evidence.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.stats.bin_likelihood import Bins, maximize

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from numpy.typing import NDArray

    from lmfacts.stats.cells import Cells
    from lmfacts.stats.distribution import Distribution

    Floats = NDArray[np.float64]

__all__ = ["FAMILIES", "TIE", "FamilyFit", "fit_families", "tied_families"]

TIE: Final = 1e-3
"""Nats per value within which two families are taken as equally good."""

_LEAST_OCCUPIED = 3
_GAUSSIAN_MAD = 0.6744897501960817
_UNDERFLOW = 1e-280
_TERMS = 8
_TINY = 1e-20
_LOG_SQRT_2_PI = math.log(2.0 * math.pi) / 2.0
_MIXTURE: Final = "Gaussian scale mixture"

_LEAST_GAIN: Final = 1e-4
"""Nats per value by which a mixture must be better than one Gaussian for its parameters to mean anything (ours)."""


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
    """A family in standard form, location 0 and scale 1: a `bin_likelihood.Law`.

    Attributes:
        log_survival: (t, shape) -> ln P(X > t) for t >= 0.
        log_density: (t, shape) -> ln of the density at t >= 0.
        starts: where to begin: ln of the scale (in units of the robust scale), then the shape.
        limits: lowest and highest value of each shape parameter, as optimized.
        has_cusp: shape -> whether the density has a cusp at the location.
        report: (scale, shape) -> the reported scale and shape parameters.
    """

    log_survival: Callable[[Floats, Floats], Floats]
    log_density: Callable[[Floats, Floats], Floats]
    starts: tuple[tuple[float, ...], ...]
    limits: tuple[tuple[float, float], ...] = ()
    has_cusp: Callable[[Floats], bool] = lambda _: False
    report: Callable[[float, Floats], dict[str, float]] = lambda scale, _: {"scale": scale}


def _log_or(survival: Floats, far: Callable[[Floats], Floats], at: Floats) -> Floats:
    """The logarithm of a survival function, from `far` where it underflows."""
    underflows = survival < _UNDERFLOW
    result = np.log(np.where(underflows, 1.0, survival))
    if underflows.any():
        # Without a step where one gives way to the other: a likelihood with steps has no slope.
        result[underflows] = far(at[underflows])
    return np.asarray(result)


# Log survival functions and log densities; each holds its precision where the survival itself underflows.


def _gaussian(t: Floats, _: Floats) -> Floats:
    from scipy.special import log_ndtr  # noqa: PLC0415  slow to load

    return np.asarray(log_ndtr(-t))


def _gaussian_density(t: Floats, _: Floats) -> Floats:
    return -t * t / 2.0 - _LOG_SQRT_2_PI


def _logistic(t: Floats, _: Floats) -> Floats:
    """S(t) = 1 / (1 + e^t)."""
    return np.asarray(-np.logaddexp(0.0, t))


def _logistic_density(t: Floats, _: Floats) -> Floats:
    return np.asarray(-t - 2.0 * np.log1p(np.exp(-t)))


def _laplace(t: Floats, _: Floats) -> Floats:
    """S(t) = e^-t / 2; the density is the same."""
    return -math.log(2.0) - t


def _student(t: Floats, shape: Floats) -> Floats:
    """S(t) = I_y(nu / 2, 1 / 2) / 2 with y = nu / (nu + t^2) (DLMF 8.17; Abramowitz and Stegun 26.7.1)."""
    from scipy.special import betainc, betaln, hyp2f1  # noqa: PLC0415  slow to load

    nu = math.exp(shape[0])
    a = nu / 2.0
    x = t / nu * t
    # Near the location y has no digits left of t, and 1 - I_(1 - y)(1 / 2, nu / 2) has them all.
    near = a * x < 1.0
    survival = np.empty_like(t)
    survival[near] = 1.0 - betainc(0.5, a, x[near] / (1.0 + x[near]))
    survival[~near] = betainc(a, 0.5, 1.0 / (1.0 + x[~near]))

    def far(t: Floats) -> Floats:
        """DLMF 8.17.7: I_y(a, 1/2) = y^a / (a B(a, 1/2)) F(a, 1/2; a + 1; y)."""
        log_y = -np.log1p(t / nu * t)
        series = np.log(hyp2f1(a, 0.5, a + 1.0, np.exp(log_y)))
        return np.asarray(a * log_y - math.log(2.0 * a) - betaln(a, 0.5) + series)

    return _log_or(survival / 2.0, far, t)


def _student_density(t: Floats, shape: Floats) -> Floats:
    from scipy.special import betaln  # noqa: PLC0415  slow to load

    nu = math.exp(shape[0])
    return np.asarray(-(nu + 1.0) / 2.0 * np.log1p(t / nu * t) - betaln(nu / 2.0, 0.5) - math.log(nu) / 2.0)


def _generalized_normal(t: Floats, shape: Floats) -> Floats:
    """S(t) = Q(1 / beta, t^beta) / 2: density beta / (2 Gamma(1 / beta)) exp(-t^beta) (Nadarajah 2005)."""
    from scipy.special import gammaincc, gammaln  # noqa: PLC0415  slow to load

    beta = math.exp(shape[0])
    a = 1.0 / beta
    y = np.minimum(t**beta, 1e300)

    def far(y: Floats) -> Floats:
        """DLMF 8.11.2: Gamma(a, y) = y^(a - 1) e^-y (1 + (a - 1) / y + (a - 1) (a - 2) / y^2 + ...)."""
        series = np.ones_like(y)
        for term in range(_TERMS, 0, -1):
            series = 1.0 + (a - term) / y * series
        return np.asarray((a - 1.0) * np.log(y) - y - gammaln(a) - math.log(2.0) + np.log(series))

    # t^beta underflows long before t does; there P(1 / beta, t^beta) is its first term.
    survival = np.where(y < _TINY, 1.0 - t / math.gamma(1.0 + a), gammaincc(a, y))
    return _log_or(survival / 2.0, far, y)


def _generalized_normal_density(t: Floats, shape: Floats) -> Floats:
    from scipy.special import gammaln  # noqa: PLC0415  slow to load

    beta = math.exp(shape[0])
    return np.asarray(math.log(beta / 2.0) - gammaln(1.0 / beta) - t**beta)


def _scale_mixture(t: Floats, shape: Floats) -> Floats:
    """S(t) = w Phi(-t) + (1 - w) Phi(-t / r), w = 1 / (1 + e^-shape_0), r = e^shape_1 >= 1."""
    from scipy.special import log_ndtr  # noqa: PLC0415  slow to load

    return _mixed(log_ndtr(-t), log_ndtr(-t * math.exp(-shape[1])), shape)


def _scale_mixture_density(t: Floats, shape: Floats) -> Floats:
    return _mixed(_gaussian_density(t, shape), _gaussian_density(t * math.exp(-shape[1]), shape) - shape[1], shape)


def _mixed(log_narrow: Floats, log_wide: Floats, shape: Floats) -> Floats:
    return np.asarray(np.logaddexp(log_narrow - np.logaddexp(0.0, -shape[0]), log_wide - np.logaddexp(0.0, shape[0])))


def _report_mixture(scale: float, shape: Floats) -> dict[str, float]:
    weight = 1.0 / (1.0 + math.exp(-shape[0]))
    return {"scale": scale, "weight": weight, "wide_scale": scale * math.exp(shape[1])}


_FAMILIES: Final[dict[str, _Family]] = {
    "Gaussian": _Family(_gaussian, _gaussian_density, ((0.0,),)),
    "logistic": _Family(_logistic, _logistic_density, ((-0.5,),)),
    "Laplace": _Family(_laplace, _laplace, ((0.0,),), has_cusp=lambda _: True),
    "Student-t": _Family(
        _student,
        _student_density,
        ((-0.05, math.log(8.0)),),
        ((math.log(0.2), math.log(1e3)),),
        report=lambda scale, shape: {"scale": scale, "nu": math.exp(shape[0])},
    ),
    "generalized normal": _Family(
        _generalized_normal,
        _generalized_normal_density,
        ((0.2, math.log(1.5)),),
        ((math.log(0.1), math.log(100.0)),),
        lambda shape: float(shape[0]) < 0.0,
        report=lambda scale, shape: {"scale": scale, "beta": math.exp(shape[0])},
    ),
    _MIXTURE: _Family(
        _scale_mixture,
        _scale_mixture_density,
        ((-0.1, 1.0, math.log(1.8)), (0.0, 4.0, math.log(6.0))),
        ((-18.0, 18.0), (0.0, 18.0)),
        report=_report_mixture,
    ),
}

FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {
    "Gaussian": ("location", "scale"),
    "logistic": ("location", "scale"),
    "Laplace": ("location", "scale"),
    "Student-t": ("location", "scale", "nu"),
    "generalized normal": ("location", "scale", "beta"),
    _MIXTURE: ("location", "scale", "weight", "wide_scale"),
}
"""The families, fewest parameters first, and their parameters. `scale` is the standard deviation of the Gaussian, s of
the logistic 1 / (1 + exp(-x / s)), of the Laplace exp(-|x| / s) and of the Student-t, alpha of the generalized normal
exp(-|x / alpha|^beta), and the smaller of the mixture's two standard deviations, which has the share `weight`.

A mixture at most 1e-4 nats per value better than one Gaussian is reported as that Gaussian, with a weight of 1."""


def fit_families(distribution: Distribution, names: Sequence[str] | None = None) -> list[FamilyFit]:
    """Fit the families to a distribution by maximum likelihood.

    Args:
        distribution: the values; infinities and NaN are left out.
        names: which of `FAMILIES`; by default all.

    Returns:
        One fit per family, the likeliest first. Empty where a fit means nothing: fewer than 3 different values, cells
        that are wide beside the standard deviation, or a standard deviation beyond float64.
    """
    cells = distribution.cells
    if cells.n_occupied < _LEAST_OCCUPIED or distribution.is_coarse:
        return []
    center, unit = _robust_location_and_scale(cells, distribution)
    if not 0 < unit < math.inf:
        return []
    bins = Bins.of(cells, center, unit)
    # From densities of (x - center) / unit to those of (x - mean) / std.
    constant = -float(bins.shares @ np.log(bins.widths)) + math.log(distribution.std / unit)
    gaussian = maximize(_FAMILIES["Gaussian"], bins)
    family_fits = []
    for name in FAMILIES if names is None else names:
        family = _FAMILIES[name]
        at, log_likelihood = gaussian if name == "Gaussian" else maximize(family, bins)
        if name == _MIXTURE and log_likelihood - gaussian[1] < _LEAST_GAIN:
            at, log_likelihood = np.array([*gaussian[0], math.inf, 0.0]), gaussian[1]
        location, scale, shape = center + float(at[0]) * unit, math.exp(at[1]) * unit, at[2:]
        family_fits.append((name, {"location": location, **family.report(scale, shape)}, log_likelihood + constant))
    best = max(nats for _, _, nats in family_fits)
    fits = [FamilyFit(name, parameters, nats, best - nats) for name, parameters, nats in family_fits]
    return sorted(fits, key=lambda fit: fit.gap)


def tied_families(fits: Sequence[FamilyFit]) -> list[FamilyFit]:
    """The fits within `TIE` of the best, fewest parameters first: the first is the simplest that suffices."""
    return sorted((fit for fit in fits if fit.tied), key=lambda fit: (len(fit.parameters), fit.gap))


# Inside


def _robust_location_and_scale(cells: Cells, distribution: Distribution) -> tuple[float, float]:
    """Median, and the MAD's scale, or the standard deviation where most values are equal."""
    median = cells.median()
    unit = float(cells.folded(median).quantile(0.5)) / _GAUSSIAN_MAD
    # A cell of its own width around most values is no scale to bin by.
    return median, unit if unit > 1e-3 * distribution.std else distribution.std
