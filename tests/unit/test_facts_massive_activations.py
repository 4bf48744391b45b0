"""F3 on planted values."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lmfacts.facts import Verdict
from lmfacts.facts.f03_massive_activations import DEFINITION
from support.accumulated_runs import accumulated_run, inputs_of

N_DIMS = 512
DIM = 77
GAUSSIAN_MEDIAN = 0.6744898  # of |N(0, 1)|


def run_of(planted=None, *, at=0, layers=None, scale=1.0, n_layers=3, **options):
    """Unit Gaussian values; `planted(sequences)` at one position and dim of each sequence, at some layers."""

    def values_of(layer, sequence, position):
        values = np.random.default_rng(layer + 1).normal(size=(position.size, N_DIMS))
        if planted is not None and (layers is None or layer in layers):
            there = position == at
            values[there, DIM] = planted(sequence[there])
        return scale * values

    return accumulated_run(values_of, n_layers=n_layers, **options)


def check(run):
    return DEFINITION.check(inputs_of(run))


def measure(fact, start):
    return next(one for one in fact.evidence.measures if one.name.startswith(start))


def table(fact, start):
    return next(one for one in fact.evidence.tables if one.title.startswith(start))


def test_planted_massive_values_hold():
    fact = check(run_of(lambda sequences: np.full(sequences.size, -2000.0), layers=(1, 2)))
    assert (fact.verdict, fact.fact_class) == (Verdict.HOLDS, "massive")
    assert measure(fact, "M,").value == 2000.0
    assert measure(fact, "r =").value == pytest.approx(2965, abs=15)
    assert measure(fact, "m,").value == pytest.approx(GAUSSIAN_MEDIAN, rel=2e-3)
    assert measure(fact, "layers").value == 2
    assert fact.summary.startswith("Layers 1-2: ")
    assert f"dim {DIM}, position 0, token '<s>'" in fact.summary
    layers = table(fact, "The largest values of sequences by layer").rows
    assert [(row[0], row[-1]) for row in layers] == [(0, "no"), (1, "yes"), (2, "yes")]
    assert layers[1][4:7] == (DIM, 0, "'<s>'")
    places = table(fact, "Where").rows
    assert places == ((DIM, 0, 16, -2000.0, "'<s>' x 16"),)


def test_first_and_rest_are_told_apart():
    by_population = table(check(run_of(lambda sequences: np.full(sequences.size, 2000.0))), "The largest")
    rows = {row[0]: row for row in by_population.rows}
    assert (rows["all"][-1], rows["first"][-1], rows["rest"][-1]) == ("massive", "massive", "none")
    assert rows["rest"][3] < 10
    later = check(run_of(lambda sequences: np.full(sequences.size, 2000.0), at=9))
    assert later.verdict is Verdict.HOLDS
    assert f"dim {DIM}, position 9, token ' the'" in later.summary
    rows = {row[0]: row for row in table(later, "The largest").rows}
    assert (rows["first"][-1], rows["rest"][-1]) == ("none", "massive")


def test_spikes_below_the_rule():
    fact = check(run_of(lambda sequences: np.full(sequences.size, 60.0)))
    assert (fact.verdict, fact.fact_class) == (Verdict.FAILS, "sub-threshold spikes")
    assert measure(fact, "r =").value == pytest.approx(89, abs=0.5)


def test_nothing_planted():
    fact = check(run_of())
    assert (fact.verdict, fact.fact_class) == (Verdict.FAILS, "none")
    assert 5 < measure(fact, "r =").value < 9
    assert "various dims, various positions" in fact.summary
    assert "nothing massive" in fact.summary


def test_massive_by_ratio_only():
    fact = check(run_of(lambda sequences: np.full(sequences.size, 2000.0), scale=0.01))
    assert (fact.verdict, fact.fact_class) == (Verdict.FAILS, "massive by ratio only")
    assert measure(fact, "r =").value == pytest.approx(2965, abs=15)
    assert measure(fact, "M,").value == pytest.approx(20.0)


@pytest.mark.parametrize(
    ("value", "fact_class"),
    [
        (99.0, "massive by ratio only"),
        (101.0, "massive"),
        (66.0, "sub-threshold spikes"),
        (3.42, "sub-threshold spikes"),
        (3.33, "none"),
    ],
)
def test_the_edges_of_the_classes(value, fact_class):
    # m is 0.0674: 66 is 979 times, 3.42 is 50.7 and 3.33 is 49.4 times that.
    fact = check(run_of(lambda sequences: np.full(sequences.size, 10.0 * value), scale=0.1))
    assert fact.fact_class == fact_class
    assert (fact.verdict is Verdict.HOLDS) == (fact_class == "massive")


def test_constancy():
    steady = check(run_of(lambda sequences: 2000.0 * (1 + 0.05 * (-1.0) ** sequences)))
    assert measure(steady, "CV").value == pytest.approx(0.05 * math.sqrt(16 / 15))
    assert measure(steady, "CV").passed is True

    def lognormal(sequences):
        return 4000.0 * np.exp(0.5 * np.random.default_rng(5).normal(size=64))[sequences]

    varied = check(run_of(lognormal, n_sequences=64, n_positions=8))
    assert varied.verdict is Verdict.HOLDS
    assert measure(varied, "CV").value == pytest.approx(0.53, abs=0.12)
    assert measure(varied, "CV").passed is False
    assert any("not constant" in note for note in varied.evidence.notes)
    assert not any("not constant" in note for note in steady.evidence.notes)


@pytest.mark.parametrize(("spread", "steady"), [(0.095, True), (0.105, False)])
def test_the_limit_of_constancy(spread, steady):
    fact = check(run_of(lambda sequences: 2000.0 * (1 + spread * math.sqrt(15 / 16) * (-1.0) ** sequences)))
    assert measure(fact, "CV").value == pytest.approx(spread)
    assert measure(fact, "CV").passed is steady


@pytest.mark.parametrize(
    ("value", "verdicts"),
    [
        (598.0, (Verdict.FAILS, Verdict.FAILS, Verdict.FAILS)),  # r = 887
        (616.0, (Verdict.HOLDS, Verdict.FAILS, Verdict.FAILS)),  # 913
        (671.0, (Verdict.HOLDS, Verdict.FAILS, Verdict.FAILS)),  # 995
        (678.0, (Verdict.HOLDS, Verdict.HOLDS, Verdict.FAILS)),  # 1005
        (732.0, (Verdict.HOLDS, Verdict.HOLDS, Verdict.FAILS)),  # 1085
        (752.0, (Verdict.HOLDS, Verdict.HOLDS, Verdict.HOLDS)),  # 1115
    ],
)
def test_the_ratio_with_looser_and_stricter_limits(value, verdicts):
    fact = check(run_of(lambda sequences: np.full(sequences.size, value)))
    assert (fact.looser, fact.verdict, fact.stricter) == verdicts


@pytest.mark.parametrize(
    ("value", "verdicts"),
    [
        (89.0, (Verdict.FAILS, Verdict.FAILS, Verdict.FAILS)),
        (91.0, (Verdict.HOLDS, Verdict.FAILS, Verdict.FAILS)),
        (100.0, (Verdict.HOLDS, Verdict.FAILS, Verdict.FAILS)),
        (101.0, (Verdict.HOLDS, Verdict.HOLDS, Verdict.FAILS)),
        (111.0, (Verdict.HOLDS, Verdict.HOLDS, Verdict.HOLDS)),
    ],
)
def test_the_size_with_looser_and_stricter_limits(value, verdicts):
    fact = check(run_of(lambda sequences: np.full(sequences.size, 16 * value), scale=1 / 16))
    assert measure(fact, "M,").value == value
    assert (fact.looser, fact.verdict, fact.stricter) == verdicts


def test_sequences_that_pass_by_themselves():
    # Of 16 sequences 6 pass; 4 are short of the ratio, or of the size where values are a tenth: M averages them.
    def planted(sequences):
        return np.where(sequences < 6, 5000.0, np.where(sequences < 10, 660.0, 10.0))

    fact = check(run_of(planted))
    assert measure(fact, "share of sequences").value == 6 / 16
    assert any("6 of 16 sequences pass the rule at layer" in note for note in fact.evidence.notes)
    assert [row[-2] for row in table(fact, "The largest values of sequences by layer").rows] == [6 / 16] * 3
    tenth = check(run_of(lambda sequences: np.where(sequences < 6, 5000.0, 990.0), scale=0.1))
    assert measure(tenth, "r =").value > 1000
    assert measure(tenth, "share of sequences").value == 6 / 16
    for value in (2000.0, 10.0):
        alike = check(run_of(lambda sequences, value=value: np.full(sequences.size, value)))
        assert measure(alike, "share of sequences").value == (value > 1000)
        assert not any("sequences pass" in note for note in alike.evidence.notes)


def test_the_best_of_many_layers_is_said_where_it_holds():
    def told(planted, **options):
        return any("by luck" in note for note in check(run_of(planted, **options)).evidence.notes)

    assert told(lambda sequences: np.full(sequences.size, 2000.0))
    assert not told(lambda sequences: np.full(sequences.size, 2000.0), n_layers=1)
    assert not told(lambda sequences: np.full(sequences.size, 60.0))


def test_only_sequences_of_the_beginning_count():
    fact = check(run_of(lambda sequences: np.where(sequences < 64, 2000.0, 9000.0), n_sequences=80, n_positions=4))
    assert measure(fact, "M,").value == 2000.0


def test_sequences_that_disagree_leave_it_open():
    def planted(sequences):
        return np.where(sequences % 8 == 0, 5000.0, 100.0)

    fact = check(run_of(planted))
    assert fact.verdict is Verdict.INCONCLUSIVE
    assert fact.fact_class is None
    assert "the interval of r spans 1,000" in fact.summary
    low, high = measure(fact, "r =").interval
    assert low < 1000 < high
    # One layer that holds beyond doubt settles it.
    run = accumulated_run(
        lambda layer, sequence, position: np.where(
            (position == 0)[:, None] & (np.arange(N_DIMS) == DIM),
            (planted(sequence) if layer else np.full(sequence.size, 2000.0))[:, None],
            np.random.default_rng(layer + 1).normal(size=(position.size, N_DIMS)),
        ),
        n_layers=2,
    )
    settled = check(run)
    assert settled.verdict is Verdict.HOLDS
    assert settled.summary.startswith("Layer 0: ")
    assert [row[-1] for row in table(settled, "The largest values of sequences by layer").rows] == ["yes", "open"]


def test_the_interval_of_the_mean_is_students():
    sizes = 2000.0 + 10.0 * np.arange(8)
    fact = check(run_of(lambda sequences: sizes[sequences], n_sequences=8))
    half = 1.8945786 * sizes.std(ddof=1) / math.sqrt(8)
    assert measure(fact, "M,").interval == pytest.approx((2035.0 - half, 2035.0 + half), rel=1e-6)


def test_too_little_of_everything():
    assert "4 sequences" in check(run_of(n_sequences=4)).summary
    fact = check(run_of(n_sequences=10, n_positions=5))
    assert fact.verdict is Verdict.INCONCLUSIVE
    assert "50 tokens" in fact.summary


def test_runs_without_what_it_needs():
    old = check(run_of(blocks=False))
    assert old.verdict is Verdict.NOT_APPLICABLE
    assert old.command == "lmfacts scan synthetic --sites resid"
    assert check(run_of(n_layers=0)).verdict is Verdict.NOT_APPLICABLE


@pytest.mark.parametrize("filler", [0.0, 3.0, math.nan, math.inf])
def test_sites_of_one_value(filler):
    fact = check(accumulated_run(lambda _, __, position: np.full((position.size, 8), filler)))
    if filler == 3.0:
        assert (fact.verdict, fact.fact_class) == (Verdict.FAILS, "none")
        assert measure(fact, "r =").value == pytest.approx(1.0, abs=0.01)
    else:
        assert fact.verdict is Verdict.INCONCLUSIVE
    fact.to_json()


def test_values_that_are_mostly_zero_have_no_ratio():
    def values_of(_, sequence, position):
        values = np.zeros((position.size, N_DIMS))
        values[:, :200] = np.random.default_rng(0).normal(size=(position.size, 200))
        values[position == 0, DIM] = 2000.0
        return values

    fact = check(accumulated_run(values_of))
    assert fact.verdict is Verdict.INCONCLUSIVE
    assert "half of the values are zero" in fact.summary


def test_nan_in_some_sequences():
    def values_of(layer, sequence, position):
        values = np.random.default_rng(layer + 1).normal(size=(position.size, N_DIMS))
        values[sequence < 12] = np.nan
        return values

    fact = check(accumulated_run(values_of))
    assert fact.verdict is Verdict.INCONCLUSIVE
    assert "4 sequences have a largest value" in fact.summary


def test_a_broken_layer_does_not_hide_the_others():
    def values_of(layer, _, position):
        values = np.random.default_rng(layer + 1).normal(size=(position.size, N_DIMS))
        values[position == 0, DIM] = 2000.0
        return np.full_like(values, np.nan) if layer == 1 else values

    fact = check(accumulated_run(values_of, n_layers=4))
    assert fact.verdict is Verdict.HOLDS
    assert fact.summary.startswith("Layers 0, 2-3: ")


@pytest.mark.parametrize("filler", [0.0, math.nan, math.inf])
def test_a_layer_that_cannot_be_read_may_be_the_massive_one(filler):
    def values_of(layer, _, position):
        values = np.random.default_rng(layer + 1).normal(size=(position.size, N_DIMS))
        return np.full_like(values, filler) if layer == 1 else values

    fact = check(accumulated_run(values_of, n_layers=4))
    assert (fact.verdict, fact.fact_class) == (Verdict.INCONCLUSIVE, None)
    assert "1 of 4 layers could not be read" in fact.summary


def test_layers_that_were_not_recorded_leave_it_open_unless_another_is_enough():
    def of_three(planted=None):
        run = run_of(planted, n_layers=2)
        run.metadata["model"]["n_layers"] = 3
        return check(run)

    assert of_three().verdict is Verdict.INCONCLUSIVE
    assert "1 of 3 layers could not be read" in of_three().summary
    assert of_three(lambda sequences: np.full(sequences.size, 2000.0)).verdict is Verdict.HOLDS
