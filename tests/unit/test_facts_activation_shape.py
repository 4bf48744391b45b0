"""F1 on values of known laws."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats
from scipy.optimize import brentq

from lmfacts.analysis.dim_laws import DimLaws
from lmfacts.facts import Verdict, pool_shape
from lmfacts.facts.f01_activation_shape import DEFINITION
from lmfacts.facts.pool_shape import BETA, BEYOND_6, KS, TAIL, WEIBULL_K, PoolStatistics
from lmfacts.facts.strictness import Strictness
from lmfacts.run import Run
from lmfacts.stats.distribution import Distribution
from lmfacts.stats.generalized_normal import GeneralizedNormal
from lmfacts.stats.jackknife import jackknife
from lmfacts.stats.laws import fit_families
from lmfacts.stats.shape import weibull
from support import oracle
from support.accumulated_runs import accumulated_run, inputs_of

LOOSER, STATED, STRICTER = Strictness.LOOSER, Strictness.STATED, Strictness.STRICTER
N_DIMS = 768
OUTLIER_DIMS = (3, 250, 700)
SHAPE = {"n_sequences": 16, "n_positions": 65}


def gaussian(rng, n_tokens, n_dims=N_DIMS):
    return rng.normal(size=(n_tokens, n_dims))


def logistic(rng, n_tokens, n_dims=N_DIMS):
    return rng.logistic(size=(n_tokens, n_dims))


def of_unlike_scale(rng, n_tokens, n_dims=N_DIMS):
    return rng.normal(size=(n_tokens, n_dims)) * np.exp(0.3 * rng.normal(size=n_dims))


def of_unlike_mean(rng, n_tokens, n_dims=N_DIMS):
    return rng.normal(size=(n_tokens, n_dims)) + 2.0 * rng.choice([-1.0, 1.0], size=n_dims)


def run_of(*laws, outliers=True, dtype="float32", change=None, **options):
    """A run with a block for each law, and three dims at 50 standard deviations."""

    def values_of(layer, sequence, position):
        rng = np.random.default_rng(100 + layer)
        values = laws[max(layer, 0)](rng, position.size)
        if outliers:
            values[:, OUTLIER_DIMS] = 50.0 * rng.normal(size=(position.size, 3))
        if change is not None:
            change(values, sequence, position)
        return values

    return accumulated_run(values_of, n_layers=len(laws), dtype=dtype, **{**SHAPE, **options})


def check(run):
    return DEFINITION.check(inputs_of(run))


def measure(fact, start):
    return next(one for one in fact.evidence.measures if one.name.startswith(start))


def table(fact, start):
    return next(one for one in fact.evidence.tables if one.title.startswith(start))


# The paths of the decision


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_gaussian_with_outlier_dims_holds(dtype):
    fact = check(run_of(gaussian, dtype=dtype))
    assert fact.verdict is Verdict.HOLDS
    assert measure(fact, "largest RMS").value == pytest.approx(50.0, rel=0.1)
    assert measure(fact, "outlier dims").value == 3
    assert "3, 250, 700" in measure(fact, "outlier dims").note
    assert measure(fact, "KS").value < 0.003
    assert measure(fact, "Weibull k").value == pytest.approx(1.206, abs=0.006)
    assert measure(fact, "tail exponent").value == pytest.approx(1.62, abs=0.05)
    assert measure(fact, "beta").value == pytest.approx(2.0, abs=0.02)
    # 3 of 768 dims of 50 sd, of which 28 % lie beyond 6 sd of the pool (19.3).
    assert measure(fact, "f(|z| > 6)").value == pytest.approx(3 / 768 * 0.70, rel=0.05)
    assert not fact.evidence.notes or "equally well" in fact.evidence.notes[0]
    for name in ("KS", "Weibull k", "tail exponent", "beta"):
        low, high = measure(fact, name).interval
        assert low < measure(fact, name).value < high


def test_the_full_pool_stands_beside_the_clean_one():
    rows = {row[0]: row for row in table(check(run_of(gaussian)), "The pool").rows}
    assert rows["layer 0, clean pool"][1] == pytest.approx(0.0, abs=0.02)
    assert rows["layer 0, full pool"][1] > 300
    assert rows["layer 0, clean pool"][4] == 0.0
    assert rows["logistic"][1:3] == (1.21, 1.159)
    assert len(rows) == 9


def test_without_outliers_only_the_body_is_left():
    fact = check(run_of(gaussian, outliers=False))
    assert fact.verdict is Verdict.BODY_ONLY
    assert "no outliers" in fact.summary
    assert "tails" not in fact.summary
    assert measure(fact, "f(|z| > 6)").passed is False


def test_values_beyond_6_without_an_outlier_dim_are_outliers():
    def spread(values, sequence, position):
        values[np.ix_(position == 5, [40])] = 8.0

    fact = check(run_of(gaussian, outliers=False, change=spread))
    assert fact.verdict is Verdict.HOLDS
    assert measure(fact, "f(|z| > 6)").value == pytest.approx(16 / (16 * 64 * N_DIMS), rel=0.02)
    assert "no outlier dims" in fact.summary


def test_a_body_without_gaussian_tails():
    def stretch(values, sequence, position):
        values[np.abs(values) > 3] *= 2.0

    fact = check(run_of(gaussian, change=stretch))
    assert fact.verdict is Verdict.BODY_ONLY
    assert "tails that are not" in fact.summary
    assert "no outliers" not in fact.summary
    assert measure(fact, "tail exponent").value < 1.45


def test_logistic_dims_fail():
    fact = check(run_of(logistic, outliers=False))
    assert fact.verdict is Verdict.FAILS
    assert "best family: logistic" in fact.summary
    fits = {row[0]: row for row in table(fact, "Families").rows}
    assert fits["logistic"][2] <= 1e-3
    assert fits["Gaussian"][2] > 1e-2
    assert fits["Gaussian scale mixture"][3]
    assert "Gaussian scale mixture" in next(note for note in fact.evidence.notes if "equally well" in note)
    assert measure(fact, "share of dims with").value < 0.1
    assert measure(fact, "share of dims likelier").value < 0.1
    assert "themselves are heavy-tailed" in fact.evidence.notes[0]


def test_gaussian_dims_of_unlike_scale_fail_for_another_reason():
    mixed, own = check(run_of(of_unlike_scale, outliers=False)), check(run_of(logistic, outliers=False))
    assert mixed.verdict is Verdict.FAILS
    for name, off in (("KS", 0.003), ("Weibull k", 0.015), ("tail exponent", 0.15)):
        assert measure(mixed, name).value == pytest.approx(measure(own, name).value, abs=off)
    assert measure(mixed, "share of dims with").value > 0.9
    assert measure(mixed, "share of dims likelier").value > 0.9
    assert measure(mixed, "spread of ln std").value == pytest.approx(0.3, abs=0.03)
    assert "differ in scale" in mixed.evidence.notes[0]
    assert "in mean" not in mixed.evidence.notes[0]


def test_dims_of_unlike_mean():
    fact = check(run_of(of_unlike_mean, outliers=False))
    assert fact.verdict is Verdict.FAILS
    assert "differ in mean (by 2.00" in fact.evidence.notes[0]
    assert "in scale" not in fact.evidence.notes[0]


def test_half_of_the_dims_heavy_tailed():
    def law(rng, n_tokens):
        return np.concatenate([gaussian(rng, n_tokens, 384), rng.laplace(size=(n_tokens, 384))], axis=1)

    fact = check(run_of(law, outliers=False))
    assert fact.verdict is Verdict.FAILS
    assert "the dims themselves are heavy-tailed (50.0 % of them" in fact.evidence.notes[0]
    assert "the dims differ in scale (ln std varies by 0.17)" in fact.evidence.notes[0]  # ln sqrt(2) / 2


def test_dims_without_tails():
    fact = check(run_of(lambda rng, n: rng.uniform(-1, 1, size=(n, N_DIMS)), outliers=False))
    assert fact.verdict is Verdict.FAILS
    assert "light-tailed" in fact.evidence.notes[0]


@pytest.mark.parametrize("law", [gaussian, logistic, of_unlike_scale])
def test_bfloat16_and_float32_agree(law):
    narrow, wide = (check(run_of(law, outliers=False, dtype=dtype)) for dtype in ("bfloat16", "float32"))
    assert narrow.verdict is wide.verdict
    for one, other in zip(narrow.evidence.measures[:4], wide.evidence.measures[:4], strict=True):
        assert one.value == pytest.approx(other.value, rel=0.02, abs=5e-4)


# Five depths


def test_most_of_the_depths_decide():
    assert check(run_of(gaussian, logistic, gaussian, logistic, gaussian)).verdict is Verdict.HOLDS
    fact = check(run_of(gaussian, logistic, logistic, logistic, gaussian))
    assert fact.verdict is Verdict.FAILS
    assert "at 3 of 5 depths (layer 2" in fact.summary
    assert [row[:2] for row in table(fact, "By depth").rows] == [
        (0, "holds"),
        (1, "fails"),
        (2, "fails"),
        (3, "fails"),
        (4, "holds"),
    ]


def test_a_body_at_most_of_the_depths():
    def heavy(rng, n_tokens):
        values = gaussian(rng, n_tokens)
        values[np.abs(values) > 3] *= 2.0
        return values

    fact = check(run_of(gaussian, heavy, logistic, heavy, gaussian))
    assert fact.verdict is Verdict.BODY_ONLY
    assert "A Gaussian body at 4 of 5 depths (layer 1" in fact.summary


def test_five_of_many_layers_are_looked_at():
    fact = check(run_of(*[gaussian] * 9, n_positions=17))
    assert [row[0] for row in table(fact, "By depth").rows] == [0, 2, 4, 6, 8]


# What stays open


def in_one_sequence(values, sequence, position):
    values[np.ix_((sequence == 2) & (position < 13) & (position > 0), [40])] = 8.0


def test_outliers_of_one_text_leave_it_open():
    fact = check(run_of(gaussian, outliers=False, change=in_one_sequence))
    assert measure(fact, "f(|z| > 6)").value > 1e-5
    assert fact.verdict is Verdict.INCONCLUSIVE
    assert "layer 0 (f(|z| > 6))" in fact.summary
    assert table(fact, "By depth").rows[0][1] == "open"
    # Where the body fails, nothing hangs on them.
    assert check(run_of(logistic, outliers=False, change=in_one_sequence)).verdict is Verdict.FAILS


def test_texts_of_two_laws_leave_it_open():
    def law(rng, n_tokens):
        values = gaussian(rng, n_tokens)
        part = (np.arange(n_tokens) // 65) % 8 == 0
        values[part] = rng.laplace(size=(part.sum(), N_DIMS))
        return values

    fact = check(run_of(law))
    low, high = measure(fact, "KS").interval
    assert low < 0.010 < high
    assert fact.verdict is Verdict.INCONCLUSIVE
    assert "KS" in fact.summary


def test_open_depths_matter_only_if_they_could_change_the_majority():
    def values_of(laws):
        def of(layer, sequence, position):
            rng = np.random.default_rng(layer + 9)
            law, is_open = laws[max(layer, 0)]
            values = law(rng, position.size)
            if is_open:
                in_one_sequence(values, sequence, position)
            else:
                values[:, OUTLIER_DIMS] *= 50.0
            return values

        return of

    holds, fails, open_ = (gaussian, False), (logistic, False), (gaussian, True)
    settled = check(accumulated_run(values_of([holds, open_, holds, holds, open_]), n_layers=5, **SHAPE))
    assert settled.verdict is Verdict.HOLDS
    between = check(accumulated_run(values_of([holds, open_, fails, holds, open_]), n_layers=5, **SHAPE))
    assert between.verdict is Verdict.INCONCLUSIVE
    assert "layer 1" in between.summary
    assert "layer 4" in between.summary


@pytest.mark.parametrize(("dof", "verdict"), [(20.0, Verdict.BODY_ONLY), (11.0, Verdict.FAILS)])
def test_how_far_a_body_may_bend(dof, verdict):
    # KS 0.005 and k 1.191; KS 0.009, which is near enough, and k 1.180, which is not.
    fact = check(run_of(lambda rng, n: rng.standard_t(dof, size=(n, N_DIMS))))
    assert fact.verdict is verdict


def test_too_little_of_everything():
    assert "4 sequences" in check(run_of(gaussian, n_sequences=4)).summary
    assert "50 tokens" in check(run_of(gaussian, n_sequences=10, n_positions=5)).summary
    few = check(run_of(gaussian, n_sequences=16, n_positions=9))
    assert few.verdict is Verdict.INCONCLUSIVE
    assert "97,920 values at a site; at least 100,000" in few.summary


def test_runs_without_what_it_needs():
    old = check(run_of(gaussian, blocks=False))
    assert old.verdict is Verdict.NOT_APPLICABLE
    assert old.command == "lmfacts scan synthetic --sites resid"
    none = check(accumulated_run(lambda _, __, position: gaussian(np.random.default_rng(0), position.size), n_layers=0))
    assert none.verdict is Verdict.NOT_APPLICABLE
    assert none.command == "lmfacts scan synthetic --sites default"


@pytest.mark.parametrize("filler", [0.0, 3.0, math.nan, math.inf])
@pytest.mark.parametrize("blocks", [True, False])
def test_sites_of_one_value(filler, blocks):
    def values_of(_, __, position):
        return np.full((position.size, N_DIMS), filler)

    fact = check(accumulated_run(values_of, blocks=blocks, **SHAPE))
    open_ = blocks or not math.isfinite(filler)
    assert fact.verdict is (Verdict.INCONCLUSIVE if open_ else Verdict.NOT_APPLICABLE)
    fact.to_json()


def test_nan_dims_and_constant_dims_are_passed_over():
    def spoil(values, sequence, position):
        values[:, 10] = np.nan
        values[:, 11] = 0.0

    fact = check(run_of(gaussian, change=spoil))
    assert fact.verdict is Verdict.HOLDS
    assert measure(fact, "outlier dims").value == 3


# Thresholds that are moved


@pytest.mark.parametrize(
    ("rule", "limits", "words"),
    [
        (KS, [(-math.inf, 0.011), (-math.inf, 0.010), (-math.inf, 0.009)], "<= 0.01"),
        (WEIBULL_K, [(1.183, 1.227), (1.185, 1.225), (1.187, 1.223)], "1.205 +- 0.02"),
        (TAIL, [(1.433, math.inf), (1.45, math.inf), (1.467, math.inf)], ">= 1.45"),
        (BETA, [(1.78, 2.22), (1.8, 2.2), (1.82, 2.18)], "2 +- 0.2"),
        (BEYOND_6, [(0.9e-5, math.inf), (1e-5, math.inf), (1.1e-5, math.inf)], ">= 1e-05"),
    ],
)
def test_rules_move_by_a_tenth_of_the_distance_from_a_gaussian(rule, limits, words):
    assert rule.words() == words
    for strictness, (low, high) in zip((LOOSER, STATED, STRICTER), limits, strict=True):
        for limit, inward in ((low, 1), (high, -1)):
            if math.isfinite(limit):
                assert rule.passed(limit * (1 + inward * 1e-6), strictness)
                assert not rule.passed(limit * (1 - inward * 1e-6), strictness)
        assert not rule.passed(math.nan, strictness)


def test_k_with_looser_and_stricter_limits():
    # The same values in every sequence, so that intervals have no width: t with 12.4 and 14.4 degrees of freedom.
    def verdicts(k):
        def distance(dof):
            sample = stats.t.ppf((np.arange(49_152) + 0.5) / 49_152, dof)
            return weibull(distribution_of(sample)).k - k

        dof = brentq(distance, 8.0, 40.0, xtol=1e-4)
        sample = np.random.default_rng(0).permutation(stats.t.ppf((np.arange(49_152) + 0.5) / 49_152, dof))

        def law(_, n_tokens):
            one = np.concatenate([np.zeros((1, N_DIMS)), sample.reshape(64, N_DIMS)])
            return np.tile(one, (n_tokens // 65, 1))

        fact = check(run_of(law, outliers=False))
        assert measure(fact, "Weibull k").value == pytest.approx(k, abs=5e-4)
        return fact.looser, fact.verdict, fact.stricter

    fails, body = Verdict.FAILS, Verdict.BODY_ONLY
    assert verdicts(1.182) == (fails, fails, fails)
    assert verdicts(1.184) == (body, fails, fails)
    assert verdicts(1.186) == (body, body, fails)
    assert verdicts(1.188) == (body, body, body)


@pytest.mark.parametrize(
    ("ratio", "found", "verdicts"),
    [
        (5.6, True, (Verdict.HOLDS, Verdict.HOLDS, Verdict.HOLDS)),
        (5.4, None, (Verdict.HOLDS, Verdict.INCONCLUSIVE, Verdict.BODY_ONLY)),
        (5.1, None, (Verdict.HOLDS, Verdict.INCONCLUSIVE, Verdict.BODY_ONLY)),
        (4.6, None, (Verdict.BODY_ONLY, Verdict.BODY_ONLY, Verdict.BODY_ONLY)),
        (4.4, False, (Verdict.BODY_ONLY, Verdict.BODY_ONLY, Verdict.BODY_ONLY)),
    ],
)
def test_an_outlier_dim_near_the_limit_leaves_it_open_without_an_interval(ratio, found, verdicts):
    # Values of +-ratio lie within 6 sd. Below 5 times the median the dim stays in the clean pool and spoils its tail.
    def plant(values, sequence, position):
        values /= np.sqrt(np.mean(values[position > 0] ** 2, axis=0))
        values[:, 40] = ratio * (-1.0) ** position

    run = run_of(gaussian, outliers=False, change=plant, dim_blocks=False)
    measured = PoolStatistics.of(run["blocks.0.resid_post"].rest, 0)
    assert measured.largest_ratio == pytest.approx(ratio, rel=1e-5)
    assert measured.ratio_interval is None
    assert [measured.has_outlier_dims(one) for one in (LOOSER, STRICTER)] == [ratio > 4.5, ratio > 5.5]
    assert measured.has_outlier_dims(STATED) is found
    fact = check(run)
    assert (fact.looser, fact.verdict, fact.stricter) == verdicts
    if fact.verdict is Verdict.INCONCLUSIVE:
        assert "layer 0 (outlier dims)" in fact.summary


@pytest.mark.parametrize(
    ("ratio", "spread", "found", "verdicts"),
    [
        (5.6, 0.0, True, (Verdict.HOLDS, Verdict.HOLDS, Verdict.HOLDS)),
        (5.1, 0.0, True, (Verdict.HOLDS, Verdict.HOLDS, Verdict.BODY_ONLY)),
        (5.1, 0.2, None, (Verdict.HOLDS, Verdict.INCONCLUSIVE, Verdict.BODY_ONLY)),
        (4.9, 0.0, False, (Verdict.BODY_ONLY, Verdict.BODY_ONLY, Verdict.BODY_ONLY)),
        (4.9, 0.2, None, (Verdict.BODY_ONLY, Verdict.BODY_ONLY, Verdict.BODY_ONLY)),
    ],
)
def test_an_interval_of_the_largest_dim_decides_where_there_is_one(ratio, spread, found, verdicts):
    def plant(values, sequence, position):
        values /= np.sqrt(np.mean(values[position > 0] ** 2, axis=0))
        values[:, 40] = ratio * (-1.0) ** position * np.sqrt(1 + spread * (-1.0) ** sequence)

    run = run_of(gaussian, outliers=False, change=plant)
    measured = PoolStatistics.of(run["blocks.0.resid_post"].rest, 0)
    low, high = measured.ratio_interval
    assert low < measured.largest_ratio < high
    assert (low < 5 < high) == (found is None)
    assert measured.has_outlier_dims(STATED) is found
    fact = check(run)
    assert measure(fact, "largest RMS").interval == (low, high)
    assert (fact.looser, fact.verdict, fact.stricter) == verdicts


def test_intervals_are_computed_once_for_all_three(monkeypatch):
    calls = []
    monkeypatch.setattr(pool_shape, "jackknife", lambda *arguments: calls.append(1) or jackknife(*arguments))
    check(run_of(gaussian, outliers=False))
    assert len(calls) == 4


# The parts


def distribution_of(values, dtype="float32"):
    codes, counts = np.unique(oracle.code_of(oracle.store(values, dtype), dtype), return_counts=True)
    return Distribution(codes, counts, dtype)


@pytest.mark.parametrize(
    ("draw", "beta"),
    [
        (lambda rng: rng.normal(3.0, 0.2, size=400_000), 2.0),
        (lambda rng: rng.laplace(-1.0, 5.0, size=400_000), 1.0),
        (lambda rng: rng.gamma(0.25, size=400_000) ** 0.25 * rng.choice([-1.0, 1.0], size=400_000), 4.0),
        (lambda rng: rng.gamma(2.0, size=400_000) ** 2.0 * rng.choice([-1.0, 1.0], size=400_000), 0.5),
    ],
)
def test_beta_of_generalized_normal_laws(draw, beta):
    # |x|^beta of a generalized normal law is gamma of shape 1 / beta.
    values = draw(np.random.default_rng(1))
    fit = GeneralizedNormal.of(distribution_of(values))
    assert fit.beta == pytest.approx(beta, rel=0.01)
    assert fit.location == pytest.approx(np.median(values), abs=0.02 * values.std())
    assert fit.beta_of(distribution_of(values[:200_000])) == pytest.approx(beta, rel=0.02)


@pytest.mark.parametrize("draw", ["logistic", "standard_normal", "skewed"])
def test_beta_agrees_with_the_fit_of_families(draw):
    rng = np.random.default_rng(2)
    values = rng.gamma(20.0, size=400_000) if draw == "skewed" else getattr(rng, draw)(size=400_000)
    pool = distribution_of(values)
    (fit,) = fit_families(pool, ["generalized normal"])
    assert GeneralizedNormal.of(pool).beta == pytest.approx(fit.parameters["beta"], abs=2e-3)


def test_location_and_beta_are_at_their_maximum_to_nine_digits():
    pool = distribution_of(np.random.default_rng(4).gamma(4.0, size=20_000))
    fit = GeneralizedNormal.of(pool)
    assert fit.beta > 1
    z = ((pool.low + pool.high) / 2 - fit.location) / pool.std
    pull = np.sign(z) * np.abs(z) ** (fit.beta - 1)
    assert abs(pool.counts @ pull) < 1e-9 * (pool.counts @ np.abs(pull))
    assert fit.beta_of(pool) == pytest.approx(fit.beta, rel=1e-9)


def test_beta_at_the_ends_of_its_range():
    rng = np.random.default_rng(3)
    assert GeneralizedNormal.of(distribution_of(rng.uniform(-1, 1, size=100_000))).beta == 10.0
    assert math.isnan(GeneralizedNormal.of(distribution_of(np.full(1000, 2.0), "float64")).beta)
    assert math.isnan(GeneralizedNormal.of(distribution_of(np.empty(0))).beta)


@pytest.mark.parametrize(("law", "share"), [(gaussian, 1.0), (logistic, 0.0)])
def test_laws_of_single_dims(law, share):
    def values_of(_, __, position):
        scale = np.geomspace(1e-3, 1e3, 40)
        values = (law(np.random.default_rng(4), position.size, 40) + np.linspace(-2, 2, 40)) * scale
        values[:, 5] = 1.0
        values[:, 6] += 1.0  # 120 standard deviations from 0: within one bin
        return values

    site = accumulated_run(values_of, n_sequences=32, n_positions=65)["blocks.0.resid_post"].rest
    laws = DimLaws.of(site.dim_histograms, site.dims, np.array([7, 8]))
    assert laws.n_dims == 36
    assert laws.gaussian_share == pytest.approx(share, abs=0.06)
    assert (laws.median_gap > 0) == (share > 0.5)


@pytest.mark.parametrize(
    ("recorded", "verdict"),
    [((0, 1), Verdict.INCONCLUSIVE), ((0, 1, 2), Verdict.HOLDS), ((0, 1, 3, 4), Verdict.HOLDS)],
)
def test_depths_that_were_not_recorded_count_as_open(recorded, verdict):
    full = run_of(*[gaussian] * 5)
    entries = {entry["name"]: entry for entry in full.metadata["sites"]}
    names = [f"blocks.{layer}.resid_post" for layer in recorded]
    metadata = {**full.metadata, "sites": [entries[name] for name in names]}
    fact = check(Run(metadata, {name: full[name].state for name in names}))
    assert fact.verdict is verdict
    assert any(note.startswith(f"{len(recorded)} of the 5 depths") for note in fact.evidence.notes)
    if verdict is Verdict.INCONCLUSIVE:
        assert fact.summary.startswith("2 of 5 depths were recorded")


def test_where_no_dim_can_be_compared_no_lead_is_named():
    fact = check(accumulated_run(lambda _, __, position: np.full((position.size, N_DIMS), 3.0), **SHAPE))
    (note,) = [one.note for one in fact.evidence.measures if one.name.startswith("share of dims likelier")]
    assert note == "layer 0, 0 dims"
