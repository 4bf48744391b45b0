"""Fits by likelihood: at the maximum, and so close to it that what is printed does not depend on the processor."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from numpy._core import _multiarray_umath as numpy_build

from lmfacts.stats.bin_likelihood import Bins, maximize
from lmfacts.stats.distribution import Distribution
from lmfacts.stats.laws import _FAMILIES, FAMILIES, fit_families
from support import oracle


def histogram_of(values):
    counts = np.bincount(oracle.code_of(oracle.store(np.asarray(values), "float32"), "float32"), minlength=1 << 16)
    codes = np.flatnonzero(counts)
    return codes, counts[codes]


def distribution_of(values):
    return Distribution(*histogram_of(values), "float32")


def samples():
    rng = np.random.default_rng(0)
    gaussian, n = rng.standard_normal(20_000), 20_000
    return {
        "Gaussian": gaussian,
        "skewed": rng.exponential(size=n) + 0.3 * gaussian,
        "uniform": rng.uniform(-1.0, 1.0, n),
        "scales": gaussian * np.where(rng.random(n) < 0.9, 1.0, 6.0),
        "peaked": gaussian[:2300] * rng.exponential(size=2300),
        "gross outliers": np.concatenate([gaussian, [3000.0] * 5]),
        "sparse": gaussian * (rng.random(n) < 0.1),
        "integers": rng.integers(-3, 4, n).astype(np.float64),
    }


def bins_of(values):
    cells = distribution_of(values).cells
    return Bins.of(cells, cells.median(), float(np.std(values)))


@pytest.mark.parametrize("sample", samples())
def test_noise_of_the_last_bits_leaves_what_is_printed_as_it_is(sample):
    bins, rng = bins_of(samples()[sample]), np.random.default_rng(1)

    # Half of the values in one narrow bin, whose mass is a small difference, and digits are lost.
    tolerance = 1e-5 if sample in ("sparse", "integers") else 1e-7

    def rounded(array):
        return array * (1.0 + 1e-14 * rng.standard_normal(array.size))

    for name, family in _FAMILIES.items():
        if name == "Gaussian scale mixture" and sample in ("Gaussian", "uniform", "integers"):
            continue  # no better than one Gaussian: `fit_families` reports it as such
        found, likelihood = maximize(family, bins)
        beside, other = maximize(family, replace(bins, edges=rounded(bins.edges), shares=rounded(bins.shares)))
        assert other == pytest.approx(likelihood, rel=1e-10, abs=1e-10), name
        assert beside == pytest.approx(found, abs=tolerance), name


def test_parameters_are_the_same_without_the_processors_own_instructions():
    """Only NumPy's can be turned off in a process; they are those that differ in the last bit of exp and log."""
    features = [name for name in numpy_build.__cpu_dispatch__ if numpy_build.__cpu_features__.get(name)]
    script = (
        "import json, sys\n"
        "import numpy as np\n"
        "from lmfacts.stats.distribution import Distribution\n"
        "from lmfacts.stats.laws import fit_families\n"
        "for codes, counts in json.load(sys.stdin):\n"
        "    fits = fit_families(Distribution(np.array(codes, np.uint16), np.array(counts), 'float32'))\n"
        "    print(json.dumps({fit.name: list(fit.parameters.values()) for fit in fits}))\n"
    )
    histograms = [histogram_of(samples()[name]) for name in ("Gaussian", "skewed", "peaked")]
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps([[codes.tolist(), counts.tolist()] for codes, counts in histograms]),
        env={**os.environ, "NPY_DISABLE_CPU_FEATURES": " ".join(features)},
        capture_output=True,
        text=True,
        check=True,
    )
    for histogram, line in zip(histograms, done.stdout.splitlines(), strict=True):
        there, distribution = json.loads(line), Distribution(*histogram, "float32")
        for fit in fit_families(distribution):
            location, *others = fit.parameters.values()
            assert there[fit.name][0] == pytest.approx(location, abs=1e-8 * distribution.std)
            assert there[fit.name][1:] == pytest.approx(others, rel=1e-6)


@pytest.mark.parametrize("sample", ["peaked", "skewed"])
@pytest.mark.parametrize("name", FAMILIES)
def test_no_parameters_beside_those_found_are_likelier(sample, name):
    from lmfacts.stats.bin_likelihood import _Problem

    bins = bins_of(samples()[sample])
    found, likelihood = maximize(_FAMILIES[name], bins)
    problem = _Problem.of(_FAMILIES[name], bins)
    locations = np.concatenate([np.linspace(-1, 1, 2001), found[0] + np.linspace(-1e-3, 1e-3, 401)])
    rows = np.repeat(found[None], locations.size, axis=0)
    rows[:, 0] = locations
    assert -problem.losses(rows).min() <= likelihood + 1e-12
    for index in range(1, found.size):
        for step in (-0.3, -1e-2, -1e-4, 1e-4, 1e-2, 0.3):
            beside = found.copy()
            beside[index] = np.clip(beside[index] + step, problem.low[index], problem.high[index])
            assert -problem.loss(beside) <= likelihood + 1e-12


SHAPES = {
    "Gaussian": [[]],
    "logistic": [[]],
    "Laplace": [[]],
    "Student-t": [[math.log(nu)] for nu in (0.2, 1.0, 7.5, 300.0, 1e3)],
    "generalized normal": [[math.log(beta)] for beta in (0.1, 0.5, 1.0, 1.8, 8.0, 100.0)],
    "Gaussian scale mixture": [[1.0, 0.5], [-6.0, 12.0]],
}


@pytest.mark.parametrize(("name", "shape"), [(name, np.array(shape)) for name in FAMILIES for shape in SHAPES[name]])
def test_survival_falls_as_the_density_says_also_where_it_underflows(name, shape):
    """d ln S / dt = -f / S: at every distance, with no step where one formula gives way to another."""
    family = _FAMILIES[name]
    low, high = -12.0, 6.0
    if name == "generalized normal":
        high = min(high, 7.0 / math.exp(shape[0]))  # t^beta up to 10^7
        low = max(low, -300.0 / math.exp(shape[0]))
    t = np.logspace(low, high, 500)
    h = 1e-4 * t
    with np.errstate(under="ignore"):
        log_survival = family.log_survival(t, shape)
        change = family.log_survival(t + h, shape) - family.log_survival(t - h, shape)
        hazard = np.exp(family.log_density(t, shape) - log_survival)
    assert np.isfinite(log_survival).all()
    assert (np.diff(log_survival) <= 0).all()
    assert -change == pytest.approx(2 * h * hazard, rel=2e-4, abs=1e-13 + 1e-11 * np.abs(log_survival).max())


def test_a_mixture_no_better_than_one_gaussian_is_that_gaussian():
    names = ["Gaussian", "Gaussian scale mixture"]
    for sample in ("Gaussian", "uniform"):
        fits = {fit.name: fit for fit in fit_families(distribution_of(samples()[sample]), names)}
        gaussian, mixture = (fits[name] for name in names)
        assert mixture.parameters == {**gaussian.parameters, "weight": 1.0, "wide_scale": gaussian.parameters["scale"]}
        assert mixture.nats_per_value == gaussian.nats_per_value


def test_exact_zeros_and_few_values_have_likelihoods_that_mean_something():
    """A zero of float32 has a cell 10^-38 wide; its mass was lost in a difference, and nats were a million million."""
    sparse = {fit.name: fit for fit in fit_families(distribution_of(samples()["sparse"]))}
    assert sparse["Gaussian"].nats_per_value == pytest.approx(-math.log(2 * math.pi * math.e) / 2, abs=1e-3)
    best = sparse["Gaussian scale mixture"]
    assert best.gap == 0.0
    assert best.parameters["weight"] == pytest.approx(0.9, abs=0.01)
    assert best.parameters["wide_scale"] == pytest.approx(1.0, abs=0.1)
    for fit in fit_families(distribution_of(samples()["integers"])):
        assert -2.0 < fit.nats_per_value < 0.0
