"""Cases of the calibration for the facts about activations."""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.optimize import brentq
from scipy.stats import chi2, gennorm

from calibration_cases import OWN_SCALES, Case
from lmfacts import _native
from lmfacts.facts import Verdict
from lmfacts.facts.f07_residual_growth import LEAST_ADVANTAGE, LEAST_GROWTH, fit_window
from lmfacts.facts.strictness import at_least, at_most
from lmfacts.run import Run
from lmfacts.run.state import SiteState
from lmfacts.stats.distribution import Distribution
from lmfacts.stats.growth_laws import growth_fit
from lmfacts.stats.shape import weibull
from support.accumulated_runs import accumulated_run, inputs_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from lmfacts.facts import Inputs

__all__ = ["ACTIVATION_CASES"]

N_SEQUENCES: Final = 16
N_DIMS: Final = 48
N_LAYERS: Final = 12
GAUSSIAN_K: Final = 1.205


def _scales(rng: np.random.Generator, own_scales: bool) -> NDArray[np.float64]:
    """A factor for each sequence."""
    return np.exp(OWN_SCALES * own_scales * rng.normal(size=N_SEQUENCES))


def _run(
    rng: np.random.Generator,
    own_scales: bool,
    values_of: Callable[[int, NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]],
    **options: Any,
) -> Inputs:
    """A run whose sequences have scales of their own, if asked for, each the same at every layer."""
    scales = _scales(rng, own_scales)

    def scaled(layer: int, sequence: NDArray[np.int64], position: NDArray[np.int64]) -> NDArray[np.float64]:
        return values_of(layer, sequence, position) * scales[sequence, None]

    return inputs_of(accumulated_run(scaled, n_sequences=N_SEQUENCES, **options))


# F1: generalized normal values, whose pool has a given Weibull k whatever the sequences' scales


@cache
def _beta_of_pool(k: float, own_scales: bool) -> float:
    """The law of the values before the sequences' scales, by the quantiles of the pool's law."""
    middles = (np.arange(20_000) + 0.5) / 20_000
    nodes, shares = np.polynomial.hermite_e.hermegauss(15) if own_scales else (np.zeros(1), np.ones(1))

    def of(beta: float) -> float:
        values = gennorm.ppf(middles, beta)[None, :] * np.exp(OWN_SCALES * nodes)[:, None]
        codes = values.astype(np.float32).view(np.uint32) >> 16
        shares_of_values = np.repeat(shares / shares.sum(), middles.size)
        counts = np.rint(1e5 * np.bincount(codes.ravel(), weights=shares_of_values, minlength=1 << 16))
        held = np.flatnonzero(counts)
        return weibull(Distribution(held.astype(np.uint16), counts[held].astype(np.uint64), "float32")).k - k

    return float(brentq(of, 1.2, 4.0, xtol=1e-4))


def _of_k(rng: np.random.Generator, distance: float, own_scales: bool) -> Inputs:
    beta = _beta_of_pool(GAUSSIAN_K - distance, own_scales)

    def values_of(_layer: int, _sequence: object, position: NDArray[np.int64]) -> NDArray[np.float64]:
        return np.asarray(gennorm.rvs(beta, size=(position.size, 64), random_state=rng))

    return _run(rng, own_scales, values_of, n_layers=1, n_positions=129)


# F2: one dim that is so many times the median, at every layer or at some


def _outlier_dim(rng: np.random.Generator, ratio: float, own_scales: bool) -> Inputs:
    def values_of(_layer: int, _sequence: object, position: NDArray[np.int64]) -> NDArray[np.float64]:
        x = rng.normal(size=(position.size, N_DIMS))
        x[:, 7] *= ratio
        return x

    return _run(rng, own_scales, values_of, n_layers=N_LAYERS)


def _persistent_dim(rng: np.random.Generator, share: float, own_scales: bool) -> Inputs:
    def values_of(layer: int, _sequence: object, position: NDArray[np.int64]) -> NDArray[np.float64]:
        x = rng.normal(size=(position.size, N_DIMS))
        if 1 <= layer <= round(20 * share):
            x[:, 7] *= 20.0
        return x

    return _run(rng, own_scales, values_of, n_layers=22, n_positions=32)


# F3: one value at position 0, a lognormal factor from sequence to sequence


def _spike(rng: np.random.Generator, size: float, own_scales: bool, *, scale: float) -> Inputs:
    """The mean of the largest values of the sequences is `size` times `scale`."""
    factors = np.exp(0.15 * rng.normal(size=N_SEQUENCES) - 0.15**2 / 2)
    if own_scales:
        factors *= np.exp(OWN_SCALES * rng.normal(size=N_SEQUENCES) - OWN_SCALES**2 / 2)

    def values_of(_layer: int, sequence: NDArray[np.int64], position: NDArray[np.int64]) -> NDArray[np.float64]:
        x = rng.normal(size=(position.size, N_DIMS))
        x[:, 3] = np.where(position == 0, size * factors[sequence], x[:, 3])
        return scale * x

    return inputs_of(accumulated_run(values_of, n_layers=1, n_sequences=N_SEQUENCES, n_positions=128))


_MEDIAN_OF_GAUSSIAN: Final = 0.674_489_75


def _spike_of_ratio(rng: np.random.Generator, ratio: float, own_scales: bool) -> Inputs:
    return _spike(rng, ratio * _MEDIAN_OF_GAUSSIAN, own_scales, scale=1.0)


def _spike_of_value(rng: np.random.Generator, value: float, own_scales: bool) -> Inputs:
    return _spike(rng, value / 0.05, own_scales, scale=0.05)


# F4: a dim that reaches 7 at a share of the positions, the same ones at every layer, or at a share of the layers


def _hits(rng: np.random.Generator, _own_scales: bool, *, positions: float, layers: float, n_layers: int) -> Inputs:
    sequence, position = np.divmod(np.arange(N_SEQUENCES * 270), 270)
    hit = rng.random(sequence.size) < positions
    batch = _native_batch(sequence, position)
    states: dict[str, SiteState] = {}
    entries: list[dict[str, Any]] = []
    for layer in range(n_layers):
        for kind in ("ln1_out", "z", "ln2_out"):
            x = 0.5 * rng.normal(size=(sequence.size, 24))
            if kind == "ln1_out" and layer < round(layers * n_layers):
                x[hit, 5] = 7.0
            name = f"blocks.{layer}.{kind}"
            accumulator = _native.SiteAccumulator()
            accumulator.update(np.ascontiguousarray(x, dtype=np.float32), batch)
            states[name] = SiteState.from_native(accumulator.state())
            entries.append({"name": name, "aliases": [], "module_path": None})
    metadata = {
        "kind": "activations",
        "model": {"id": "synthetic", "n_layers": n_layers},
        "n_sequences": N_SEQUENCES,
        "n_tokens": sequence.size,
        "sites": entries,
    }
    return inputs_of(Run(metadata, states))


def _native_batch(sequence: NDArray[np.int64], position: NDArray[np.int64]) -> _native.TokenBatch:
    return _native.TokenBatch(sequence, position, np.minimum(position, 1), np.ones(sequence.size, np.uint8))


# F5: a constant in some dims; the mean cosine is the square of the mean unit vector


@cache
def _constant_of_cosine(cosine: float, n_others: int) -> float:
    """How large a constant beside so many Gaussian dims makes this mean cosine."""
    squares = chi2.ppf((np.arange(2000) + 0.5) / 2000, n_others)
    return float(brentq(lambda c: np.mean(c / np.sqrt(c**2 + squares)) ** 2 - cosine, 1e-3, 1e3))


def _aligned(rng: np.random.Generator, cosine: float, own_scales: bool) -> Inputs:
    constant = _constant_of_cosine(cosine, N_DIMS - 1)

    def values_of(_layer: int, _sequence: object, position: NDArray[np.int64]) -> NDArray[np.float64]:
        x = rng.normal(size=(position.size, N_DIMS))
        x[:, 0] = constant
        return x

    return _run(rng, own_scales, values_of, n_layers=4)


def _aligned_by_top(rng: np.random.Generator, share: float, own_scales: bool) -> Inputs:
    """Three dims bring this share of the mean cosine, thirty others the rest in equal parts."""
    squares = np.zeros(2 * N_DIMS)
    squares[:3], squares[3:33] = share / 3, (1 - share) / 30

    def values_of(_layer: int, _sequence: object, position: NDArray[np.int64]) -> NDArray[np.float64]:
        return rng.normal(size=(position.size, 2 * N_DIMS)) + 12.0 * np.sqrt(squares)

    return _run(rng, own_scales, values_of, n_layers=4)


# F6: one dim of a scale that gives this kurtosis of the scales


def _unequal_scales(rng: np.random.Generator, kurtosis: float, own_scales: bool) -> Inputs:
    d = N_DIMS

    def of(k: float) -> float:
        return d * (k**4 + d - 1) / (k**2 + d - 1) ** 2 - kurtosis

    scale = brentq(of, 1.0, math.sqrt(d)) if kurtosis > 1 else 1.0

    def values_of(_layer: int, _sequence: object, position: NDArray[np.int64]) -> NDArray[np.float64]:
        x = rng.normal(size=(position.size, d))
        x[:, 5] *= scale
        return x

    return _run(rng, own_scales, values_of, n_layers=4)


# F7: norms by a law, with a lognormal factor for each token


def _norms(
    rng: np.random.Generator, own_scales: bool, log_norm: Callable[[float], float], n_layers: int = 24
) -> Inputs:
    def values_of(layer: int, _sequence: object, position: NDArray[np.int64]) -> NDArray[np.float64]:
        x = rng.normal(size=(position.size, N_DIMS))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        return x * np.exp(log_norm(layer + 1) + 0.1 * rng.normal(size=(position.size, 1)))

    return _run(rng, own_scales, values_of, n_layers=n_layers)


def _growth(rng: np.random.Generator, growth: float, own_scales: bool) -> Inputs:
    return _norms(rng, own_scales, lambda layer: math.log(growth) * layer)


@cache
def _bend(advantage: float) -> float:
    """How much of a linear law in a mixture with an exponential gives this ratio of residuals."""
    layers = np.array(fit_window(24))

    def of(share: float) -> float:
        y = (1 - share) * 0.08 * layers + share * np.log1p(0.3 * layers) + 0.004 * np.cos(2.5 * layers)
        return math.log(growth_fit(layers.tolist(), y).advantage / advantage)

    return float(brentq(of, 0.0, 1.0))


def _mixed_law(rng: np.random.Generator, advantage: float, own_scales: bool) -> Inputs:
    share = _bend(advantage)

    def log_norm(layer: float) -> float:
        return (1 - share) * 0.08 * layer + share * math.log1p(0.3 * layer) + 0.004 * math.cos(2.5 * layer)

    return _norms(rng, own_scales, log_norm)


_FAR_TOO: Final = (-0.5, -0.1, -0.03, 0.0, 0.03, 0.1, 0.5, 4.0)

ACTIVATION_CASES: Final = (
    Case(
        "F1",
        "|k - 1.205| of the pool",
        at_most(0.02),
        _of_k,
        passing=(Verdict.HOLDS, Verdict.BODY_ONLY),
        measure="Weibull k, clean pool",
        measured=lambda distance: GAUSSIAN_K - distance,
    ),
    Case("F2", "RMS of a dim over the median", at_least(5.0), _outlier_dim),
    Case(
        "F2",
        "share of layers",
        at_least(0.75),
        _persistent_dim,
        distances=(-9 / 15, -2 / 15, -1 / 15, 0.0, 1 / 15, 2 / 15, 5 / 15),
    ),
    Case("F3", "r, largest over median", at_least(1000.0), _spike_of_ratio, measure="r = M / m"),
    Case("F3", "M, largest", at_least(100.0), _spike_of_value, measure="M, mean largest |h| of a sequence"),
    Case(
        "F4",
        "share of positions",
        at_least(0.06),
        lambda rng, number, own: _hits(rng, own, positions=number, layers=1.0, n_layers=4),
    ),
    Case(
        "F4",
        "share of layers",
        at_least(0.25),
        lambda rng, number, own: _hits(rng, own, positions=0.9, layers=number, n_layers=40),
    ),
    Case("F5", "mean cosine", at_least(0.2), _aligned, measure="mean cosine, layer 3"),
    Case(
        "F5",
        "share of the top 3 dims",
        at_least(0.5),
        _aligned_by_top,
        measure="share of the top 3 dims in it, layer 3",
    ),
    Case("F6", "kurtosis of the scales", at_least(3.0), _unequal_scales, measure="median kurtosis over layers"),
    Case("F7", "factor per layer", LEAST_GROWTH, _growth, measure="factor per layer", distances=_FAR_TOO),
    Case(
        "F7",
        "residual of the best other law",
        LEAST_ADVANTAGE,
        _mixed_law,
        measure="residual of the best other law over the exponential's",
        distances=_FAR_TOO,
    ),
)
