"""The likelihood of a symmetric law for the counts of bins, and where it is largest.

The parameters of a law are its location, the logarithm of its scale, and its shape. What is found does not depend on
the processor, whose rounding of a logarithm may differ in the last bit: a minimizer that compares values of the loss
cannot tell parameters apart that change it by less than its rounding, and stops anywhere among them. Here the gradient
is brought to zero instead, by Newton's method. Its part along the location is known exactly, from the density at the
edges of the bins; the others are differences of the loss over steps so wide that rounding is a millionth of a millionth
of them. What such differences leave out is the same everywhere.

A law whose density has a cusp at the location bends the likelihood at every edge of a bin, and one whose cusp is sharp
(a generalized normal with beta < 1) makes it peak in nearly every bin. There the location is found separately from the
other parameters, in turns with them: at the highest of the peaks, between two edges.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lmfacts.stats.cells import Cells

    Floats = NDArray[np.float64]

__all__ = ["Bins", "Law", "maximize"]

_BIN_WIDTH = 0.02
_BIN_CORE = 0.02
_NARROWEST: Final = 1e-5
"""What an isolated cell is widened to: a float32 zero, 10^-38 wide, would have a density of 10^38 otherwise."""

_LEAST_LOG_MASS = -1e12
_LOG_SCALE_LIMIT: Final = 16.0
_CLOSE_ENOUGH: Final = {"ftol": 1e-9, "gtol": 1e-6, "eps": 1e-6, "maxiter": 200}
"""For L-BFGS-B, whose result is only where Newton's method starts."""

_MOST_STEPS: Final = 40
_STEPS_PER_HESSIAN: Final = 4
_CONVERGED: Final = 1e-10
_FLAT: Final = 1e-11
_ROUNDED: Final = 1e-6
_ROUNDING: Final = 1e-13
_LONGEST_STEP: Final = 0.5
_MOST_HALVINGS: Final = 12
_LEAST_CURVATURE: Final = 1e-10
_CANDIDATES: Final = (0.05, 0.95)
_MOST_ROUNDS: Final = 60
_MOST_SEARCHES: Final = 4


class Law(Protocol):
    """A symmetric law in standard form: location 0 and scale 1."""

    @property
    def starts(self) -> tuple[tuple[float, ...], ...]:
        """Where to begin: ln of the scale (in units of the robust scale), then the shape."""
        ...

    @property
    def limits(self) -> tuple[tuple[float, float], ...]:
        """Lowest and highest value of each shape parameter."""
        ...

    def log_survival(self, t: Floats, shape: Floats, /) -> Floats:
        """Ln P(X > t) for t >= 0."""
        ...

    def log_density(self, t: Floats, shape: Floats, /) -> Floats:
        """Ln of the density at t >= 0."""
        ...

    def has_cusp(self, shape: Floats, /) -> bool:
        """Whether the density has a cusp at the location."""
        ...


@dataclass(frozen=True, eq=False)
class Bins:
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
    def of(cls, cells: Cells, center: float, unit: float) -> Bins:
        """Runs of whole cells, evenly spaced in asinh(t / 0.02)."""
        edges = (cells.edges - center) / unit
        group = np.floor(np.arcsinh(edges / _BIN_CORE) / _BIN_WIDTH)
        starts = group[1:] != group[:-1]
        keep = np.ones(edges.size, dtype=bool)
        keep[1:-1] = starts[:-1]
        # A bin ends where its last cell does: with the gap after it, it would end at the next value, wherever that is.
        keep[:-1] |= starts & (np.diff(cells.cumulative) == 0)
        edges, counts = edges[keep], np.diff(cells.cumulative[keep])
        occupied = np.flatnonzero(counts)
        return cls(_widened(edges, counts > 0), occupied, counts[occupied] / cells.n)

    @property
    def widths(self) -> Floats:
        """Of the occupied bins."""
        # Beside values 10^300 times larger a cell has no width left in their unit.
        return np.maximum(np.diff(self.edges)[self.occupied], float(np.finfo(np.float64).tiny))

    @property
    def middles(self) -> Floats:
        """Of the occupied bins."""
        return (self.edges[self.occupied] + self.edges[self.occupied + 1]) / 2.0

    @property
    def log_spread(self) -> float:
        """The logarithm of the root mean square of t."""
        return math.log(max(math.sqrt(float(self.shares @ self.middles**2)), 1e-6))


def _widened(edges: Floats, occupied: NDArray[np.bool_]) -> Floats:
    """The edges, with those of narrow occupied bins moved into the gaps beside them."""
    widths = np.diff(edges)
    missing = np.where(occupied, np.maximum(_NARROWEST - widths, 0.0), 0.0) / 2.0
    room = np.where(occupied, 0.0, widths / 4.0)
    moved = edges.copy()
    moved[1:-1] += np.minimum(missing[:-1], room[1:]) - np.minimum(missing[1:], room[:-1])
    moved[0] -= missing[0]
    moved[-1] += missing[-1]
    return moved


def maximize(law: Law, bins: Bins) -> tuple[Floats, float]:
    """Where the likelihood of a law is largest.

    Returns:
        The parameters (location, ln of the scale, shape...) in the unit of the bins, and the mean log mass of a value.
    """
    problem = _Problem.of(law, bins)
    maxima = []
    for log_scale, *shape in law.starts:
        # Laws without a shape feel the outliers: from the spread of all values. The others fit the body first.
        first = log_scale + (0.0 if law.limits else min(bins.log_spread, _LOG_SCALE_LIMIT))
        maxima.append(problem.minimum_from(np.array([0.0, first, *shape])))
    best = min(maxima, key=problem.loss)
    return best, -problem.loss(best)


@dataclass(frozen=True, eq=False)
class _Problem:
    """A law and the bins that it shall fit.

    Attributes:
        law: the law.
        bins: the bins.
        low: lowest value of each parameter.
        high: highest value of each parameter.
    """

    law: Law
    bins: Bins
    low: Floats
    high: Floats

    @classmethod
    def of(cls, law: Law, bins: Bins) -> _Problem:
        limits = [
            (float(bins.edges[0]), float(bins.edges[-1])),
            (-_LOG_SCALE_LIMIT, max(_LOG_SCALE_LIMIT, bins.log_spread + 2.0)),
            *law.limits,
        ]
        low, high = np.array(limits).T
        return cls(law, bins, low, high)

    # The loss

    def _edges(self, parameters: Floats) -> tuple[Floats, Floats]:
        """The edges in standard form, [..., k], and the logarithm of the survival at their distances."""
        t = (self.bins.edges - parameters[..., :1]) / math.exp(parameters.flat[1])
        return t, self.law.log_survival(np.abs(t), parameters.reshape(-1, parameters.shape[-1])[0, 2:])

    def _log_masses(self, t: Floats, log_survival: Floats) -> Floats:
        """The logarithm of the mass of each occupied bin, [..., m]."""
        left, right = self.bins.occupied, self.bins.occupied + 1
        straddles = (t[..., left] < 0.0) & (t[..., right] > 0.0)
        # Of the two edges, the one nearer the location has the larger survival.
        nearer = np.maximum(log_survival[..., left], log_survival[..., right])
        farther = np.minimum(log_survival[..., left], log_survival[..., right])
        one_side = nearer + np.log(-np.expm1(farther - nearer))
        across = np.log(-np.expm1(np.logaddexp(log_survival[..., left], log_survival[..., right])))
        return np.asarray(np.fmax(np.where(straddles, across, one_side), _LEAST_LOG_MASS))

    def loss(self, parameters: Floats) -> float:
        """Minus the mean log mass."""
        return float(self.losses(parameters))

    def losses(self, parameters: Floats) -> Floats:
        """The same for parameters [..., p] that differ in the location alone."""
        with np.errstate(all="ignore"):
            return np.asarray(-(self._log_masses(*self._edges(parameters)) @ self.bins.shares))

    def location_slope(self, parameters: Floats) -> float:
        """The derivative of the loss by the location: sum of share (f(right) - f(left)) / (scale mass)."""
        with np.errstate(all="ignore"):
            t, log_survival = self._edges(parameters)
            log_masses = self._log_masses(t, log_survival)
            log_density = self.law.log_density(np.abs(t), parameters[2:])
            right = np.exp(log_density[self.bins.occupied + 1] - log_masses)
            left = np.exp(log_density[self.bins.occupied] - log_masses)
            slope = float(self.bins.shares @ (right - left)) / math.exp(parameters[1])
        return slope if math.isfinite(slope) else 0.0

    # Where it is least

    def minimum_from(self, start: Floats) -> Floats:
        """The parameters at the minimum that is reached from `start`."""
        from scipy.optimize import minimize  # noqa: PLC0415  slow to load

        def at_start(rest: Floats) -> float:
            return self.loss(np.concatenate([start[:1], rest]))

        limits = list(zip(self.low[1:], self.high[1:], strict=True))
        minimum = minimize(at_start, start[1:], method="L-BFGS-B", bounds=limits, options=_CLOSE_ENOUGH)
        at = np.concatenate([start[:1], minimum.x])
        if self.law.has_cusp(at[2:]):
            # At the start's location first, so that the search begins at one place.
            return self._minimum_at_cusp(self._newton(at, first=1))
        at = self._newton(at)
        return self._minimum_at_cusp(at) if self.law.has_cusp(at[2:]) else at

    def _minimum_at_cusp(self, at: Floats) -> Floats:
        """The lowest of the minima along the location, in turns with the other parameters."""
        middles = self.bins.middles
        below = np.cumsum(self.bins.shares) - self.bins.shares / 2.0
        candidates = middles[(below >= _CANDIDATES[0]) & (below <= _CANDIDATES[1])]
        for _ in range(_MOST_SEARCHES):
            locations = np.concatenate([at[:1], candidates])
            rows = np.repeat(at[None, :], locations.size, axis=0)
            rows[:, 0] = locations
            before = int(np.argmin(self.losses(rows)))
            at = self._settled(rows[before])
            if before == 0:
                break
        return at

    def _settled(self, at: Floats) -> Floats:
        """The minimum that the location and the other parameters reach in turns."""
        for _ in range(_MOST_ROUNDS):
            before = at
            at = self._newton(self._located(at), first=1)
            unit = np.array([math.exp(at[1]), *np.ones(at.size - 1)])
            if float(np.max(np.abs(at - before) / unit)) < _CONVERGED:
                break
        return at

    def _located(self, at: Floats) -> Floats:
        """The location nearest to where it is, downhill, at which the slope passes zero: between two edges."""
        from scipy.optimize import brentq  # noqa: PLC0415  slow to load

        edges = self.bins.edges

        def moved(location: float) -> Floats:
            return np.concatenate([[location], at[1:]])

        def slope(location: float) -> float:
            return self.location_slope(moved(location))

        scale = math.exp(at[1])
        here = slope(float(at[0]))
        if abs(here) * scale < _FLAT:
            return at
        step = -1 if here > 0 else 1
        index = int(np.searchsorted(edges, at[0], side="left" if step < 0 else "right")) - (step < 0)
        start = float(at[0])
        while 0 <= index < edges.size:
            end = float(edges[index])
            if slope(end) * here <= 0.0:
                return moved(float(brentq(slope, start, end, xtol=1e-14 * scale, rtol=1e-15)))
            start, index = end, index + step
        return moved(start)

    def _newton(self, at: Floats, first: int = 0) -> Floats:
        """Bring the gradient to zero, the parameters from the index `first` on moving within their limits."""
        steps = self._steps(at)
        unit = np.ones(at.size)
        unit[0] = math.exp(at[1])  # the location counts in scales
        loss, moved = self.loss(at), math.inf
        hessian = np.zeros((at.size, at.size))
        for index in range(_MOST_STEPS):
            gradient = self._gradient(at, steps, first) * unit
            outward = ((at <= self.low) & (gradient > 0)) | ((at >= self.high) & (gradient < 0))
            free = np.flatnonzero(~outward)
            free = free[free >= first]
            if not free.size:
                break
            if index % _STEPS_PER_HESSIAN == 0:
                hessian = self._hessian(at, steps, first) * np.outer(unit, unit)
            move = np.zeros(at.size)
            move[free] = _downhill(hessian[np.ix_(free, free)], gradient[free])
            move *= min(1.0, _LONGEST_STEP / max(float(np.max(np.abs(move))), _CONVERGED)) * unit
            there, loss_there = self._accepted(at, move, loss)
            before, moved = moved, float(np.max(np.abs(there - at) / unit))
            at, loss = there, loss_there
            # Where the loss is so flat that its rounding moves the parameters, steps stop getting shorter.
            if moved < _CONVERGED or before / 2.0 < moved < _ROUNDED:
                break
        return at

    def _accepted(self, at: Floats, move: Floats, loss: float) -> tuple[Floats, float]:
        """Where a move ends that does not raise the loss, shortened as often as it takes."""
        for halvings in range(_MOST_HALVINGS):
            there = np.clip(at + move / 2**halvings, self.low, self.high)
            loss_there = self.loss(there)
            if loss_there <= loss + _ROUNDING * (1.0 + abs(loss)):
                return there, loss_there
        return at, loss

    def _steps(self, at: Floats) -> Floats:
        """Steps for differences, over which the loss changes by about 1e-6, or of 0.01 if it changes less."""
        steps = np.full(at.size, 1e-3 * math.exp(at[1]))
        loss, width = self.loss(at), 1e-3
        for index in range(1, at.size):
            bend = self._beside(at, index, width) + self._beside(at, index, -width) - 2.0 * loss
            steps[index] = 1e-3 / math.sqrt(max(bend / width**2, 1e-2))
        return steps

    def _beside(self, at: Floats, index: int, step: float) -> float:
        moved = at.copy()
        moved[index] += step
        return self.loss(moved)

    def _gradient(self, at: Floats, steps: Floats, first: int) -> Floats:
        """The derivatives of the loss by the parameters from the index `first` on; zero for the others."""
        gradient = np.zeros(at.size)
        if first == 0:
            gradient[0] = self.location_slope(at)
        for index in range(max(first, 1), at.size):
            h = float(steps[index])
            near = self._beside(at, index, h) - self._beside(at, index, -h)
            far = self._beside(at, index, 2 * h) - self._beside(at, index, -2 * h)
            gradient[index] = (8.0 * near - far) / (12.0 * h)
        return gradient

    def _hessian(self, at: Floats, steps: Floats, first: int) -> Floats:
        hessian = np.zeros((at.size, at.size))
        for index in range(first, at.size):
            ahead, behind = at.copy(), at.copy()
            ahead[index] += steps[index]
            behind[index] -= steps[index]
            change = self._gradient(ahead, steps, first) - self._gradient(behind, steps, first)
            hessian[index] = change / (2.0 * steps[index])
        return (hessian + hessian.T) / 2.0


def _downhill(hessian: Floats, gradient: Floats) -> Floats:
    """Newton's step, with directions of negative curvature turned round."""
    values, vectors = np.linalg.eigh(np.nan_to_num(hessian))
    curvatures = np.maximum(np.abs(values), _LEAST_CURVATURE)
    return np.asarray(-(vectors @ ((vectors.T @ gradient) / curvatures)))
