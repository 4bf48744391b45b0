"""Cases of the calibration for the facts about weights: checkpoints that are written, and measured as any other."""

from __future__ import annotations

import tempfile
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from scipy.optimize import brentq
from scipy.stats import gennorm, spearmanr

from calibration_cases import Case
from lmfacts.facts import Verdict
from lmfacts.facts.strictness import at_least, at_most
from lmfacts.stats.distribution import Distribution
from lmfacts.stats.shape import weibull
from support.checkpoints import scanned, weights_inputs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lmfacts.facts import Inputs

    Matrix = NDArray[np.float64]

__all__ = ["WEIGHT_CASES"]

N: Final = 192
N_LAYERS: Final = 12
D: Final = 96


def _measured(weights: dict[str, Matrix], *, spectra: int = 0) -> Inputs:
    with tempfile.TemporaryDirectory() as folder:
        return weights_inputs(scanned(Path(folder), weights, family="llama", spectra=spectra))


# F8: matrices of generalized normal laws with a given Weibull k, and a share of matrices with a Gaussian body


@cache
def _beta_of_k(k: float) -> float:
    """The generalized normal law with this Weibull k, by its quantiles."""
    middles = (np.arange(200_000) + 0.5) / 200_000

    def of(beta: float) -> float:
        values = gennorm.ppf(middles, beta).astype(np.float32)
        codes, counts = np.unique(values.view(np.uint32) >> 16, return_counts=True)
        return weibull(Distribution(codes.astype(np.uint16), counts.astype(np.uint64), "float32")).k - k

    return float(brentq(of, 0.8, 3.0, xtol=1e-4))


def _of_k(rng: np.random.Generator, distance: float, _own_scales: bool) -> Inputs:
    beta = _beta_of_k(1.205 - distance)
    matrices = [gennorm.rvs(beta, size=(N, N), random_state=rng) for _ in range(10)]
    return _measured({f"blocks.{layer}.W_O": 0.02 * matrix for layer, matrix in enumerate(matrices)})


def _share_with_body(rng: np.random.Generator, share: float, _own_scales: bool) -> Inputs:
    n = 30
    return _measured(
        {
            f"blocks.{layer}.W_O": 0.02 * rng.normal(size=(N, N))
            if layer < round(share * n)
            else rng.laplace(scale=0.02, size=(N, N))
            for layer in range(n)
        }
    )


# F9: a share of the gains with a few entries far out


def _share_of_gains(rng: np.random.Generator, share: float, _own_scales: bool) -> Inputs:
    n, d = 25, 384
    weights = {}
    for layer in range(n):
        gain = 1.0 + 0.1 * rng.normal(size=d)
        if layer < round(share * n):
            gain[rng.choice(d, 5, replace=False)] = 2.5
        weights[f"blocks.{layer}.ln1.gain"] = gain
        weights[f"blocks.{layer}.W_O"] = 0.02 * rng.normal(size=(d // 2, d))
    return _measured(weights)


# F10: norms that grow by a factor in all, in an order with a given rank correlation


def _of_norms(rng: np.random.Generator, writing: Matrix, reading: Matrix) -> Inputs:
    weights: dict[str, Matrix] = {}
    for layer in range(N_LAYERS):
        for kind, norms in {
            **dict.fromkeys(("W_Q", "W_K", "W_V", "W_in", "W_gate"), reading),
            **dict.fromkeys(("W_O", "W_out"), writing),
        }.items():
            matrix = rng.normal(size=(24, 24))
            weights[f"blocks.{layer}.{kind}"] = matrix * norms[layer] / np.linalg.norm(matrix)
        for norm in ("ln1", "ln2"):
            weights[f"blocks.{layer}.{norm}.gain"] = np.ones(24)
    return _measured(weights)


_DEPTHS: Final = (np.arange(N_LAYERS) - 1) / (N_LAYERS - 2)


def _writing_grows(rng: np.random.Generator, factor: float, _own_scales: bool) -> Inputs:
    return _of_norms(rng, factor**_DEPTHS, np.ones(N_LAYERS))


def _reading_grows(rng: np.random.Generator, factor: float, _own_scales: bool) -> Inputs:
    return _of_norms(rng, 2.0**_DEPTHS, factor**_DEPTHS)


def _in_order(rng: np.random.Generator, rho: float, _own_scales: bool) -> Inputs:
    """Neighbors swapped until the rank correlation is down to rho; the total factor stays far above its limit."""
    order = np.arange(N_LAYERS - 1)
    swaps = 0
    while spearmanr(order, np.arange(order.size)).statistic > rho + 0.005 and swaps < 10_000:
        i, j = rng.choice(order.size, 2, replace=False)
        swapped = order.copy()
        swapped[[i, j]] = swapped[[j, i]]
        if spearmanr(swapped, np.arange(order.size)).statistic >= rho - 0.005:
            order = swapped
        swaps += 1
    return _of_norms(rng, np.concatenate([[1.0], 4.0 ** (order / order.size)]), np.ones(N_LAYERS))


# F11: spectra that are power laws, and their exponents


def _with_spectrum(rng: np.random.Generator, values: NDArray[Any]) -> Matrix:
    left, right = (np.linalg.qr(rng.normal(size=(values.size, values.size)))[0] for _ in range(2))
    return np.asarray((left * values) @ right.T)


def _share_of_power_laws(rng: np.random.Generator, share: float, _own_scales: bool) -> Inputs:
    n, ranks = 20, np.arange(1, D + 1)
    return _measured(
        {
            f"blocks.{layer}.W_O": _with_spectrum(
                rng, ranks**-0.6 if layer < round(share * n) else np.exp(-ranks / (D / 7.68))
            )
            for layer in range(n)
        },
        spectra=4096,
    )


def _slopes_of_kinds(rng: np.random.Generator, variation: float, _own_scales: bool) -> Inputs:
    ranks = np.arange(1, D + 1)
    slopes = {"W_Q": 1 - variation, "W_K": 1 + variation, "W_O": 1 - variation, "W_V": 1 + variation}
    weights = {
        f"blocks.{layer}.{kind}": _with_spectrum(rng, ranks ** (-0.6 * slope))
        for kind, slope in slopes.items()
        for layer in range(3)
    }
    return _measured(weights, spectra=4096)


WEIGHT_CASES: Final = (
    Case(
        "F8",
        "|k - 1.205| of every matrix",
        at_most(0.03),
        _of_k,
        has_tokens=False,
        passing=(Verdict.HOLDS, Verdict.BODY_ONLY),
    ),
    Case(
        "F8",
        "share of matrices with a Gaussian body",
        at_least(0.9),
        _share_with_body,
        has_tokens=False,
        distances=(-12 / 27, -6 / 27, -3 / 27, 0.0, 3 / 27),
    ),
    Case(
        "F9",
        "share of gains that are not Gaussian",
        at_least(0.8),
        _share_of_gains,
        has_tokens=False,
        distances=(-0.5, -0.1, -0.05, 0.0, 0.05, 0.1, 0.25),
    ),
    Case("F10", "total factor of what writes", at_least(1.25), _writing_grows, has_tokens=False),
    Case(
        "F10",
        "total factor of what reads",
        at_most(1.35),
        _reading_grows,
        has_tokens=False,
        distances=(-0.5, -0.1, -0.03, 0.0, 0.03, 0.1, 0.25),
    ),
    Case(
        "F10",
        "rank correlation",
        at_least(0.7),
        _in_order,
        has_tokens=False,
        distances=(-0.5, -0.1, -0.03, 0.0, 0.03, 0.1, 0.3),
    ),
    Case(
        "F11",
        "share of matrices with a power law",
        at_least(0.8),
        _share_of_power_laws,
        has_tokens=False,
        distances=(-0.5, -0.125, -0.0625, 0.0, 0.0625, 0.125, 0.25),
    ),
    Case("F11", "CV of the kinds' slopes", at_most(0.25), _slopes_of_kinds, has_tokens=False),
)
