"""F7 on norms that grow as told."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.optimize import brentq

from lmfacts.facts import Verdict
from lmfacts.facts.f07_residual_growth import DEFINITION, fit_window
from lmfacts.stats.growth_laws import growth_fit
from support.accumulated_runs import accumulated_run, inputs_of

N_LAYERS = 24
N_DIMS = 32


def run_of(log_norm, *, noise=0.1, first=1.0, n_layers=N_LAYERS, mean=0.0, by_sequence=0.0, **options):
    """A run whose norms at resid_pre of layer l are exp(log_norm(l)) with a lognormal factor for each token."""

    def values_of(layer, sequence, position):
        rng = np.random.default_rng(layer + 1)
        x = rng.normal(size=(position.size, N_DIMS))
        x -= x.mean(axis=1, keepdims=True)
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        x *= np.exp(noise * rng.normal(size=(position.size, 1)))
        x *= np.where(position == 0, first * (1 + abs(layer + 1 - n_layers / 2)), 1.0)[:, None]
        at = layer + 1 + by_sequence * (sequence % 8 - 3.5) * (layer + 1)
        return x * np.exp(np.vectorize(log_norm)(at))[:, None] + mean

    return accumulated_run(values_of, n_layers=n_layers, **options)


def check(run):
    return DEFINITION.check(inputs_of(run))


def measure(fact, name):
    return next(one for one in fact.evidence.measures if one.name == name)


def test_the_window():
    assert (fit_window(48).start, fit_window(48).stop - 1) == (5, 41)
    assert (fit_window(12).start, fit_window(12).stop - 1) == (1, 10)
    assert (fit_window(30).start, fit_window(30).stop - 1) == (3, 26)


def test_exponential_growth_holds():
    fact = check(run_of(lambda layer: 1.0 + 0.05 * layer))
    assert fact.verdict is Verdict.HOLDS
    assert fact.fact_class == "exponential"
    growth = measure(fact, "factor per layer")
    assert growth.value == pytest.approx(math.exp(0.05), abs=1e-3)
    assert growth.interval[0] < math.exp(0.05) < growth.interval[1]
    assert growth.interval[1] - growth.interval[0] < 5e-3
    assert "factor of 1.051 per layer over layers 2 to 20" in fact.summary


def test_the_norms_are_those_of_each_layer():
    fact = check(run_of(lambda layer: 1.0 + 0.05 * layer, noise=0.0))
    rows = fact.evidence.tables[0].rows
    assert [row[0] for row in rows] == list(range(N_LAYERS))
    assert [row[2] for row in rows] == pytest.approx([math.exp(1.0 + 0.05 * layer) for layer in range(N_LAYERS)])
    assert [row[0] for row in rows if row[5] == "yes"] == list(range(2, 21))


@pytest.mark.parametrize("slope", [0.0, -0.03, 0.005])
def test_what_does_not_grow(slope):
    fact = check(run_of(lambda layer: 1.0 + slope * layer))
    assert fact.verdict is Verdict.FAILS
    assert fact.fact_class == "non-growing"


@pytest.mark.parametrize(("growth", "verdict"), [(1.0098, Verdict.FAILS), (1.0102, Verdict.HOLDS)])
def test_the_least_growth(growth, verdict):
    assert check(run_of(lambda layer: math.log(growth) * layer, noise=0.0)).verdict is verdict


def test_norms_that_are_equal_to_the_last_bit():
    fact = check(run_of(lambda _: 0.0, noise=0.0, dtype="float64"))
    assert (fact.verdict, fact.fact_class) == (Verdict.FAILS, "non-growing")


def test_growth_that_speeds_up():
    fact = check(run_of(lambda layer: 0.002 * layer**2))
    assert (fact.verdict, fact.fact_class) == (Verdict.FAILS, "super-exponential")
    assert 0.95 < measure(fact, "R2 of the exponential, a line in ln norm").value < 0.97
    assert measure(fact, "quadratic term per layer^2").value == pytest.approx(0.002, rel=0.1)
    assert measure(fact, "quadratic term per layer^2").interval[0] > 0


def test_a_constant_norm_has_no_r2():
    fact = check(accumulated_run(lambda _l, sequence, _p: np.ones((sequence.size, N_DIMS)), n_layers=N_LAYERS))
    assert (fact.verdict, fact.fact_class) == (Verdict.FAILS, "non-growing")
    assert "by a factor of 1.000 per layer over layers 2 to 20 (constant)" in fact.summary
    assert math.isnan(measure(fact, "R2 of the exponential, a line in ln norm").value)
    fit = growth_fit(range(10), 1e-12 * np.arange(10))
    assert fit.r2 == pytest.approx(1.0)  # small, and not the last bits


def test_growth_that_speeds_up_and_still_holds_is_told_so():
    fact = check(run_of(lambda layer: math.log1p(math.exp(0.2 * (layer - 8))), noise=0.02))
    assert fact.verdict is Verdict.HOLDS
    (note,) = [note for note in fact.evidence.notes if "quadratic" in note]
    y = np.array([math.log1p(math.exp(0.2 * (layer - 8))) for layer in range(2, 21)])
    slopes = np.polyval(np.polyder(np.polyfit(np.arange(2, 21), y, 2)), [2, 20])
    first, last = np.exp(slopes)
    assert "positive: the growth of ln norm speeds up with depth, by the parabola from a factor of" in note
    assert [float(word) for word in note.replace("20.", "20").split() if "." in word] == pytest.approx(
        [first, last], abs=2e-3
    )
    steady = check(run_of(lambda layer: 0.05 * layer, noise=0.0, dtype="float64"))
    assert not any("quadratic" in note for note in steady.evidence.notes)


def test_why_a_law_is_open_is_said_by_its_ratio_or_its_interval():
    open_by_interval = check(run_of(lambda layer: 0.05 * layer, n_layers=6))
    assert open_by_interval.fact_class == "growing, law open"
    ratio = measure(open_by_interval, "residual of the best other law over the exponential's")
    limit = "1.5" if ratio.value > 1 else "1/1.5"
    assert not 1 / 1.5 < ratio.value < 1.5
    assert f"with an interval that spans {limit}." in open_by_interval.summary
    assert "too close to tell" not in open_by_interval.summary


def test_norms_in_one_block_of_sequences_have_no_interval():
    def values_of(layer, sequence, position):
        x = np.full((sequence.size, N_DIMS), math.exp(0.05 * layer))
        x[(sequence % 8 != 0) & (position > 0)] = 0.0
        return x

    fact = check(accumulated_run(values_of, n_layers=N_LAYERS))
    assert fact.verdict is Verdict.INCONCLUSIVE
    assert "the factor has no interval, as too few blocks of sequences have norms" in fact.summary
    assert "spans" not in fact.summary


def test_growth_that_wobbles_or_slows_down():
    fact = check(run_of(lambda layer: 0.05 * layer + 0.4 * math.sin(2.0 * layer)))
    assert (fact.verdict, fact.fact_class) == (Verdict.FAILS, "irregular")
    fact = check(run_of(lambda layer: -0.002 * (layer - 24) ** 2))
    assert (fact.verdict, fact.fact_class) == (Verdict.FAILS, "linear")
    assert any("slows down" in note for note in fact.evidence.notes)


LAWS = {
    "linear, 0.1": (lambda layer: np.log1p(0.1 * layer), "linear"),
    "linear, 0.2": (lambda layer: np.log1p(0.2 * layer), "linear"),
    "square root": (lambda layer: 0.5 * np.log(5 + layer), "square root"),
}


@pytest.mark.parametrize("n_layers", [12, 24, 48])
@pytest.mark.parametrize("law", LAWS)
def test_other_laws_are_not_taken_for_an_exponential(law, n_layers):
    log_norm, name = LAWS[law]
    fact = check(run_of(log_norm, noise=0.003, n_layers=n_layers))
    assert (fact.verdict, fact.fact_class) == (Verdict.FAILS, name)
    assert measure(fact, "residual of the best other law over the exponential's").value < 1 / 1.5


@pytest.mark.parametrize("n_layers", [24, 48])
def test_a_quadratic_law_leaves_it_open(n_layers):
    fact = check(run_of(lambda layer: 2 * np.log1p(0.05 * layer), noise=0.003, n_layers=n_layers))
    assert (fact.verdict, fact.fact_class) == (Verdict.INCONCLUSIVE, "growing, law open")
    assert "too close to tell" in fact.summary


def with_residuals(y, ratio):
    """A ln norm that bends away from a line until the linear law leaves so many times the line's residual."""
    layers = np.arange(2, 21)

    def of(share):
        bent = (1 - share) * y(layers) + share * np.log1p(0.1 * layers) + 0.002 * np.cos(2.5 * layers)
        return growth_fit(layers.tolist(), bent).advantage

    low, high = 0.0, 1.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if of(middle) > ratio else (low, middle)
    return lambda layer: (1 - low) * y(layer) + low * np.log1p(0.1 * layer) + 0.002 * np.cos(2.5 * layer)


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (1.53, Verdict.HOLDS),
        (1.47, Verdict.INCONCLUSIVE),
        (1 / 1.47, Verdict.INCONCLUSIVE),
        (1 / 1.53, Verdict.FAILS),
    ],
)
def test_how_much_better_a_law_has_to_be(ratio, verdict):
    fact = check(run_of(with_residuals(lambda layer: 0.05 * layer, ratio), noise=0.0, dtype="float64"))
    assert measure(fact, "residual of the best other law over the exponential's").value == pytest.approx(ratio, 0.01)
    assert fact.verdict is verdict


@pytest.mark.parametrize(("r2", "verdict"), [(0.9705, Verdict.HOLDS), (0.9695, Verdict.FAILS)])
def test_the_least_r2(r2, verdict):
    layers = np.arange(2, 21)

    def of(size):
        return growth_fit(layers.tolist(), 0.3 * layers + size * np.cos(3 * layers)).r2

    size = brentq(lambda size: of(size) - r2, 0.0, 2.0)
    fact = check(run_of(lambda layer: 0.3 * layer + size * np.cos(3 * layer), noise=0.0, dtype="float64"))
    assert measure(fact, "R2 of the exponential, a line in ln norm").value == pytest.approx(r2, abs=1e-5)
    assert fact.verdict is verdict


def test_a_note_on_the_quadratic_term_needs_its_interval():
    fact = check(run_of(lambda layer: 1.0 + 0.05 * layer))
    assert not any("quadratic" in note for note in fact.evidence.notes)
    assert any("18 layers" in note or "19 layers" in note for note in fact.evidence.notes)


def test_position_0_changes_nothing():
    plain, loud = (check(run_of(lambda layer: 0.05 * layer, first=first)) for first in (1.0, 100.0))
    assert loud.verdict is Verdict.HOLDS
    assert [one.value for one in loud.evidence.measures] == [one.value for one in plain.evidence.measures]
    column = [row[4] for row in loud.evidence.tables[0].rows]
    assert column[0] > column[12] < column[23]
    assert min(column) > 50 * min(row[4] for row in plain.evidence.tables[0].rows) > 0


def test_layer_norm_takes_the_mean_away():
    def log_norm(layer):
        return 0.05 * layer

    centered = check(run_of(log_norm, mean=5.0, model={"norm_kind": "layernorm"}))
    assert centered.verdict is Verdict.HOLDS
    assert measure(centered, "factor per layer").value == pytest.approx(1.0513, abs=1e-3)
    assert measure(centered, "factor per layer of raw vectors").value < 1.01
    plain = check(run_of(log_norm, mean=5.0, model={"norm_kind": "rmsnorm"}))
    assert (plain.verdict, plain.fact_class) == (Verdict.FAILS, "non-growing")
    assert not plain.evidence.notes
    unknown = check(run_of(log_norm, mean=5.0))
    assert unknown.fact_class == "non-growing"
    assert "do not say which norm" in unknown.evidence.notes[0]


def test_sequences_that_disagree_leave_it_open():
    fact = check(run_of(lambda layer: 0.0105 * layer, by_sequence=0.2, noise=0.0))
    assert fact.verdict is Verdict.INCONCLUSIVE
    assert "the interval of the factor spans 1.01" in fact.summary
    assert fact.fact_class is None
    low, high = measure(fact, "factor per layer").interval
    assert low < 1.01 < high
    # The same spread far from the threshold is no doubt.
    assert check(run_of(lambda layer: 0.1 * layer, by_sequence=0.2, noise=0.0)).verdict is Verdict.HOLDS


def test_the_interval_is_that_of_students_t_over_blocks():
    slopes = 0.05 * (1 + 0.02 * (np.arange(8) - 3.5))
    fact = check(run_of(lambda layer: 0.05 * layer, by_sequence=0.02, noise=0.0))
    left_out = np.exp((slopes.sum() - slopes) / 7)
    error = math.sqrt(7 / 8 * ((left_out - left_out.mean()) ** 2).sum())
    growth = measure(fact, "factor per layer")
    assert growth.interval[1] - growth.interval[0] == pytest.approx(2 * 1.8945786 * error, rel=1e-4)


def test_too_little_of_everything():
    assert "4 sequences" in check(run_of(lambda layer: layer, n_sequences=4)).summary
    fact = check(run_of(lambda layer: 0.05 * layer, n_layers=4))
    assert fact.verdict is Verdict.NOT_APPLICABLE
    assert fact.summary == "The model has 4 layers, of which 4 would be fitted; a fit needs at least 5."
    fact = check(run_of(lambda layer: 0.05 * layer, n_layers=4, model={"n_layers": 24}))
    assert fact.verdict is Verdict.INCONCLUSIVE
    assert "2 layers from 2 to 20 recorded, of 24 in the model; a fit needs at least 5" in fact.summary
    assert check(run_of(lambda layer: 0.3 * layer, n_layers=6)).verdict is Verdict.HOLDS


def test_runs_without_what_it_needs():
    old = check(run_of(lambda layer: 0.05 * layer, blocks=False))
    assert old.verdict is Verdict.NOT_APPLICABLE
    assert old.command == "lmfacts scan synthetic --sites resid"
    one = accumulated_run(lambda _, __, position: np.ones((position.size, 2)), n_layers=0)
    none = check(one)
    assert none.verdict is Verdict.NOT_APPLICABLE
    assert none.command == "lmfacts scan synthetic --sites default"


@pytest.mark.parametrize("filler", [0.0, math.nan, math.inf])
def test_layers_without_norms(filler):
    def values_of(layer, _, position):
        return np.full((position.size, 4), filler if layer == 7 else 2.0 + layer)

    fact = check(accumulated_run(values_of, n_layers=N_LAYERS))
    assert fact.verdict is Verdict.INCONCLUSIVE
    assert "layer 8" in fact.summary
    fact.to_json()


def test_the_fit_against_numpy():
    rng = np.random.default_rng(3)
    layers, y = list(range(5, 42)), rng.normal(size=37).cumsum()
    fit = growth_fit(layers, y)
    assert math.log(fit.growth) == pytest.approx(np.polyfit(layers, y, 1)[0])
    assert fit.r2 == pytest.approx(np.corrcoef(layers, y)[0, 1] ** 2)
    assert fit.curvature == pytest.approx(np.polyfit(layers, y, 2)[0])
    rest = y - np.polyval(np.polyfit(layers, y, 2), layers)
    assert fit.r2_quadratic == pytest.approx(1 - rest @ rest / ((y - y.mean()) ** 2).sum())


def test_the_window_ends_with_the_model():
    assert [fit_window(n).stop for n in (1, 2, 3, 4)] == [1, 2, 3, 4]


@pytest.mark.parametrize("first", [0, 2, 40])
@pytest.mark.parametrize(
    ("at_first", "per_layer"), [(1.0, 0.1), (0.3, 1.0), (1e-4, 1.0), (1.0, -0.04), (7.0, 1e4), (1.0, -0.0555)]
)
def test_each_law_explains_all_of_its_own_norms_and_less_of_the_others(first, at_first, per_layer):
    """Wherever the layers begin, for norms that rise by orders of magnitude and for those that nearly vanish."""
    layers = np.arange(first, first + 19)
    linear = at_first + per_layer * (layers - first)
    for norms, own, other in (
        (linear, "r2_linear", "r2_square_root"),
        (np.sqrt(linear), "r2_square_root", "r2_linear"),
    ):
        fit = growth_fit(layers.tolist(), np.log(norms))
        assert 1 - getattr(fit, own) < 1e-12
        assert 1 - getattr(fit, other) > 1e-7
        assert fit.r2_rival == getattr(fit, own)
        assert fit.rival == own.removeprefix("r2_").replace("_", " ")
