"""F8 on matrices whose law is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lmfacts.analysis.block_matrices import ValueShape, matrix_shapes
from lmfacts.facts.f08_weight_shape import (
    DEFINITION,
    LEAST_VALUES,
    Shape,
    bounds_of,
    shape_of,
    verdict_between,
    verdict_of,
)
from lmfacts.facts.fact import Verdict
from lmfacts.facts.strictness import Strictness
from lmfacts.stats.distribution import Distribution
from lmfacts.stats.shape import expected_max_abs_z, weibull
from support.checkpoints import scanned, weights_inputs
from support.synthetic_weights import weights_run

N = 400  # 160,000 values: the sampling SD of k is 0.0034


def gaussian(seed, shape=(N, N)):
    return 0.02 * np.random.default_rng(seed).standard_normal(shape)


def with_far_entries(seed):
    matrix = gaussian(seed)
    matrix.flat[np.random.default_rng(seed).choice(matrix.size, 5, replace=False)] = 30 * 0.02
    return matrix


def with_column_scales(seed):
    return gaussian(seed) * np.exp(0.5 * np.random.default_rng(seed + 1000).standard_normal(N))


def logistic(seed):
    return np.random.default_rng(seed).logistic(scale=0.01, size=(N, N))


def laplace(seed):
    return np.random.default_rng(seed).laplace(scale=0.01, size=(N, N))


def uniform(seed):
    return np.random.default_rng(seed).uniform(-0.03, 0.03, size=(N, N))


def one_kind(folder, matrices):
    return scanned(folder, {f"blocks.{layer}.W_O": matrix for layer, matrix in enumerate(matrices)}, spectra=0)


def check(run):
    return DEFINITION.check(weights_inputs(run))


def measure(fact, name):
    (found,) = [measure for measure in fact.evidence.measures if measure.name == name]
    return found


@pytest.mark.parametrize(
    ("law", "raw", "scaled"),
    [
        (gaussian, Shape.GAUSSIAN, Shape.GAUSSIAN),
        (with_column_scales, Shape.NON_GAUSSIAN, Shape.GAUSSIAN),
        (logistic, Shape.NON_GAUSSIAN, Shape.NON_GAUSSIAN),
        (laplace, Shape.NON_GAUSSIAN, Shape.NON_GAUSSIAN),
        (with_far_entries, Shape.BODY, None),
        (uniform, Shape.NON_GAUSSIAN, Shape.NON_GAUSSIAN),
    ],
)
def test_a_matrix_is_judged_by_its_law(tmp_path, law, raw, scaled):
    shapes = matrix_shapes(one_kind(tmp_path, [law(seed) for seed in range(3)]))
    assert [shape_of(shape.raw) for shape in shapes] == [raw] * 3
    if scaled is not None:
        assert [shape_of(shape.scaled) for shape in shapes] == [scaled] * 3


def test_the_figures_are_those_of_the_values(tmp_path):
    matrix = laplace(3) + 0.001
    (shape,) = matrix_shapes(one_kind(tmp_path, [matrix]))
    wide = matrix.astype(np.float32).astype(np.float64)
    z = (wide - wide.mean()) / wide.std()
    assert shape.raw.n == wide.size
    assert shape.raw.mean == pytest.approx(wide.mean())
    assert shape.raw.std == pytest.approx(wide.std())
    assert shape.raw.excess_kurtosis == pytest.approx((z**4).mean() - 3)
    assert shape.raw.max_z_ratio == pytest.approx(np.abs(z).max() / expected_max_abs_z(wide.size))
    assert shape.raw.weibull_k == pytest.approx(1.0, abs=0.03)
    columns = wide / np.sqrt((wide**2).mean(axis=0))
    scaled = columns / np.sqrt((columns**2).mean(axis=1, keepdims=True))
    z = (scaled - scaled.mean()) / scaled.std()
    assert shape.scaled.excess_kurtosis == pytest.approx((z**4).mean() - 3, rel=1e-5)


LOOSER, STATED, STRICTER = Strictness.LOOSER, Strictness.STATED, Strictness.STRICTER
HOLDS, BODY_ONLY, FAILS, OPEN = Verdict.HOLDS, Verdict.BODY_ONLY, Verdict.FAILS, Verdict.INCONCLUSIVE


def values(n=10**10, k=1.205, kurtosis=0.0, ratio=1.0, std=1.0):
    return ValueShape(n, 0.0, std, kurtosis, k, 1.0, ratio)


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (values(), Shape.GAUSSIAN),
        (values(k=1.176), Shape.GAUSSIAN),
        (values(k=1.174), Shape.NON_GAUSSIAN),
        (values(k=1.236), Shape.NON_GAUSSIAN),
        (values(k=math.nan), Shape.INCONCLUSIVE),  # one value too often
        (values(kurtosis=0.31), Shape.BODY),
        (values(kurtosis=-0.31), Shape.BODY),
        (values(ratio=1.26), Shape.BODY),
        (values(n=LEAST_VALUES - 1), Shape.INCONCLUSIVE),
        (values(n=LEAST_VALUES), Shape.GAUSSIAN),
        (values(kurtosis=0.29, ratio=1.24), Shape.GAUSSIAN),
        # 2.7 / sqrt(10^6) is 0.0027
        (values(n=10**6, k=1.205 + 0.0272), Shape.GAUSSIAN),
        (values(n=10**6, k=1.205 - 0.0274), Shape.OPEN),
        (values(n=10**6, k=1.205 + 0.0326), Shape.OPEN),
        (values(n=10**6, k=1.205 - 0.0328), Shape.NON_GAUSSIAN),
        (values(std=0.0), Shape.INCONCLUSIVE),
        (values(std=math.nan), Shape.INCONCLUSIVE),
    ],
)
def test_the_thresholds_of_a_matrix(shape, expected):
    assert shape_of(shape) is expected


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        (values(k=1.205 + 0.0269), (Shape.GAUSSIAN, Shape.GAUSSIAN, Shape.GAUSSIAN)),
        (values(k=1.205 + 0.0271), (Shape.GAUSSIAN, Shape.GAUSSIAN, Shape.NON_GAUSSIAN)),
        (values(k=1.205 + 0.0329), (Shape.GAUSSIAN, Shape.NON_GAUSSIAN, Shape.NON_GAUSSIAN)),
        (values(k=1.205 + 0.0331), (Shape.NON_GAUSSIAN, Shape.NON_GAUSSIAN, Shape.NON_GAUSSIAN)),
        (values(kurtosis=0.269), (Shape.GAUSSIAN, Shape.GAUSSIAN, Shape.GAUSSIAN)),
        (values(kurtosis=0.271), (Shape.GAUSSIAN, Shape.GAUSSIAN, Shape.BODY)),
        (values(kurtosis=0.329), (Shape.GAUSSIAN, Shape.BODY, Shape.BODY)),
        (values(kurtosis=0.331), (Shape.BODY, Shape.BODY, Shape.BODY)),
        (values(ratio=1.224), (Shape.GAUSSIAN, Shape.GAUSSIAN, Shape.GAUSSIAN)),
        (values(ratio=1.226), (Shape.GAUSSIAN, Shape.GAUSSIAN, Shape.BODY)),
        (values(ratio=1.274), (Shape.GAUSSIAN, Shape.BODY, Shape.BODY)),
        (values(ratio=1.276), (Shape.BODY, Shape.BODY, Shape.BODY)),
    ],
)
def test_the_thresholds_of_a_matrix_move(shape, expected):
    assert tuple(shape_of(shape, one) for one in (LOOSER, STATED, STRICTER)) == expected


def test_an_open_matrix_has_the_tails_that_it_has():
    open_k = {"n": 10**6, "k": 1.235}
    assert bounds_of(values(**open_k)) == (Shape.NON_GAUSSIAN, Shape.GAUSSIAN)
    assert bounds_of(values(**open_k, kurtosis=1.0)) == (Shape.NON_GAUSSIAN, Shape.BODY)


GAUSSIAN, BODY, OTHER = ((shape, shape) for shape in (Shape.GAUSSIAN, Shape.BODY, Shape.NON_GAUSSIAN))
OPEN_GAUSSIAN, OPEN_BODY = ((Shape.NON_GAUSSIAN, shape) for shape in (Shape.GAUSSIAN, Shape.BODY))
LEFT_OUT = (Shape.INCONCLUSIVE, Shape.INCONCLUSIVE)


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        ([GAUSSIAN] * 9 + [OPEN_BODY], HOLDS),
        ([GAUSSIAN] * 8 + [OTHER] + [OPEN_BODY], OPEN),  # 80 or 90 %
        ([GAUSSIAN] * 8 + [OTHER] * 2 + [OPEN_BODY], OPEN),  # 73 or 82 %
        ([GAUSSIAN] * 8 + [OPEN_BODY] + [OTHER] * 4, FAILS),
        ([GAUSSIAN] * 4 + [BODY] * 5 + [OPEN_GAUSSIAN], OPEN),  # 40 or 50 % Gaussian
        ([GAUSSIAN] * 4 + [BODY] * 5 + [OPEN_BODY], BODY_ONLY),
        ([OPEN_GAUSSIAN] * 4, OPEN),
        ([LEFT_OUT] * 4, OPEN),
        ([GAUSSIAN] * 9 + [OTHER] + [LEFT_OUT] * 20, HOLDS),
    ],
)
def test_open_matrices_count_both_ways(bounds, expected):
    assert verdict_between(bounds) is expected


@pytest.mark.parametrize(
    ("n_gaussian", "n_body", "n", "expected"),
    [
        # the share with a body: 89, 90 and 91 %
        (911, 0, 1000, (HOLDS, HOLDS, HOLDS)),
        (909, 0, 1000, (HOLDS, HOLDS, BODY_ONLY)),
        (901, 0, 1000, (HOLDS, HOLDS, BODY_ONLY)),
        (899, 0, 1000, (HOLDS, BODY_ONLY, BODY_ONLY)),
        (891, 0, 1000, (HOLDS, BODY_ONLY, BODY_ONLY)),
        (889, 0, 1000, (BODY_ONLY, BODY_ONLY, BODY_ONLY)),
        # 78, 80 and 82 %
        (821, 0, 1000, (BODY_ONLY, BODY_ONLY, BODY_ONLY)),
        (819, 0, 1000, (BODY_ONLY, BODY_ONLY, FAILS)),
        (801, 0, 1000, (BODY_ONLY, BODY_ONLY, FAILS)),
        (799, 0, 1000, (BODY_ONLY, FAILS, FAILS)),
        (781, 0, 1000, (BODY_ONLY, FAILS, FAILS)),
        (779, 0, 1000, (FAILS, FAILS, FAILS)),
        # the share that is Gaussian: 45, 50 and 55 %
        (551, 449, 1000, (HOLDS, HOLDS, HOLDS)),
        (549, 451, 1000, (HOLDS, HOLDS, BODY_ONLY)),
        (501, 499, 1000, (HOLDS, HOLDS, BODY_ONLY)),
        (499, 501, 1000, (HOLDS, BODY_ONLY, BODY_ONLY)),
        (451, 549, 1000, (HOLDS, BODY_ONLY, BODY_ONLY)),
        (449, 551, 1000, (BODY_ONLY, BODY_ONLY, BODY_ONLY)),
    ],
)
def test_the_shares_on_both_sides(n_gaussian, n_body, n, expected):
    bounds = [GAUSSIAN] * n_gaussian + [BODY] * n_body + [OTHER] * (n - n_gaussian - n_body)
    assert tuple(verdict_between(bounds, one) for one in (LOOSER, STATED, STRICTER)) == expected


@pytest.mark.parametrize(
    ("n_gaussian", "n_body", "n_other", "expected"),
    [
        (10, 0, 0, Verdict.HOLDS),
        (5, 4, 1, Verdict.HOLDS),
        (4, 5, 1, Verdict.BODY_ONLY),
        (8, 0, 2, Verdict.BODY_ONLY),
        (0, 8, 2, Verdict.BODY_ONLY),
        (7, 0, 3, Verdict.FAILS),
        (0, 0, 10, Verdict.FAILS),
    ],
)
@pytest.mark.parametrize("n_left_out", [0, 30])
def test_the_counts_of_ten_matrices(n_gaussian, n_body, n_other, expected, n_left_out):
    shapes = [Shape.GAUSSIAN] * n_gaussian + [Shape.BODY] * n_body + [Shape.NON_GAUSSIAN] * n_other
    assert verdict_of(shapes + [Shape.INCONCLUSIVE] * n_left_out) is expected


def test_a_mixture_of_ten_matrices(tmp_path):
    laws = [gaussian] * 6 + [with_far_entries] * 4
    fact = check(one_kind(tmp_path / "holds", [law(seed) for seed, law in enumerate(laws)]))
    assert (fact.looser, fact.verdict, fact.stricter) == (HOLDS, HOLDS, HOLDS)
    assert fact.fact_class is None
    assert measure(fact, "share with a Gaussian body").value == pytest.approx(1.0)
    assert measure(fact, "share that is Gaussian").value == pytest.approx(0.6)
    kinds, by_depth, worst = fact.evidence.tables
    assert kinds.rows[0][:6] == ("W_O", 10, 6, 4, 0, 0)
    assert by_depth.columns[1:] == ("layer 0", "layer 2", "layer 4", "layer 7", "layer 9")
    assert {row[0] for row in worst.rows[:4]} == {f"blocks.{layer}.W_O" for layer in range(6, 10)}
    assert [row[1] for row in worst.rows] == ["BODY"] * 4 + ["GAUSSIAN"]

    laws = [gaussian] * 4 + [with_far_entries] * 6
    fact = check(one_kind(tmp_path / "body", [law(seed) for seed, law in enumerate(laws)]))
    assert (fact.looser, fact.verdict, fact.stricter) == (BODY_ONLY, BODY_ONLY, BODY_ONLY)

    laws = [gaussian] * 5 + [with_far_entries] * 5
    fact = check(one_kind(tmp_path / "half", [law(seed) for seed, law in enumerate(laws)]))
    assert (fact.looser, fact.verdict, fact.stricter) == (HOLDS, OPEN, BODY_ONLY)
    assert "share that is Gaussian 0.500 against >= 0.55" in fact.summary


def of_k(k, seed=0, side=N):
    """Values whose magnitudes follow a Weibull law of this k: 160,000 of them scatter by 0.0034."""
    rng = np.random.default_rng(seed)
    return 0.02 * rng.weibull(k, size=(side, side)) * rng.choice([-1.0, 1.0], size=(side, side))


def test_matrices_at_the_limit_of_k_leave_it_open(tmp_path):
    fact = check(one_kind(tmp_path, [gaussian(0)] * 3 + [of_k(1.175, seed) for seed in range(3)]))
    (shape,) = {shape_of(one.raw) for one in matrix_shapes(one_kind(tmp_path / "one", [of_k(1.175)]))}
    assert shape is Shape.OPEN
    assert fact.verdict is Verdict.INCONCLUSIVE
    assert "3 have a Gaussian body, 3 of them Gaussian tails too; 3 are open" in fact.summary
    assert "The open ones decide" in fact.summary
    share = measure(fact, "share with a Gaussian body")
    assert (share.value, share.passed) == (0.5, None)
    assert share.note == "3 of 6 matrices, or up to 6 with open ones"
    assert fact.evidence.tables[0].rows[0][:6] == ("W_O", 6, 3, 0, 0, 3)


def test_gaussian_up_to_scales(tmp_path):
    fact = check(one_kind(tmp_path, [with_column_scales(seed) for seed in range(4)]))
    assert fact.verdict is Verdict.FAILS
    assert fact.fact_class == "Gaussian up to scales"
    scaled = "4 have a Gaussian body, 4 of them Gaussian tails too, which alone would be: holds here"
    assert f"with row and column scales divided out {scaled}." in fact.summary
    assert measure(fact, "after scaling: share that is Gaussian").value == 1.0
    assert measure(fact, "after scaling: share that is Gaussian").passed is None
    assert any("rows and columns of different scale" in note for note in fact.evidence.notes)


def test_tails_of_the_values_are_not_put_down_to_scales(tmp_path):
    fact = check(one_kind(tmp_path, [laplace(seed) for seed in range(4)]))
    assert fact.verdict is Verdict.FAILS
    assert fact.fact_class is None
    assert any("in the values themselves" in note for note in fact.evidence.notes)
    assert any("is best described by: Laplace" in note for note in fact.evidence.notes)


def test_small_and_constant_matrices_are_left_out(tmp_path):
    small = {f"blocks.{layer}.W_K": laplace(layer)[:20, :20] for layer in range(4)}
    constant = {"blocks.0.W_V": np.zeros((N, N)), "blocks.1.W_V": np.full((N, N), 0.5)}
    large = {f"blocks.{layer}.W_O": gaussian(layer) for layer in range(4)}
    fact = check(scanned(tmp_path, {**small, **constant, **large}, spectra=0))
    assert fact.verdict is Verdict.HOLDS
    assert measure(fact, "share with a Gaussian body").note == "4 of 4 matrices"
    assert any(note.startswith("6 of 10 matrices") for note in fact.evidence.notes)


@pytest.mark.parametrize("matrix", [gaussian(0)[:40, :40], np.zeros((N, N))])
def test_nothing_to_judge(tmp_path, matrix):
    fact = check(one_kind(tmp_path, [matrix, matrix]))
    assert fact.verdict is Verdict.INCONCLUSIVE
    assert "None of the 2 matrices" in fact.summary


def test_the_made_up_run_of_small_matrices_is_left_open():
    assert check(weights_run(4)).verdict is Verdict.INCONCLUSIVE


def test_embeddings_do_not_count(tmp_path):
    run = scanned(tmp_path, {"embed.W_E": laplace(0), "ln_final.gain": np.ones(N)}, spectra=0)
    fact = check(run)
    assert fact.verdict is Verdict.NOT_APPLICABLE
    assert "no matrix with a known role" in fact.summary


def test_a_matrix_of_few_values_is_left_out_and_it_is_said(tmp_path):
    few = 0.02 * np.round(3 * gaussian(0) / 0.02)
    fact = check(one_kind(tmp_path / "one", [few, gaussian(1)]))
    assert fact.verdict is Verdict.HOLDS
    assert measure(fact, "share with a Gaussian body").note == "1 of 1 matrices"
    assert any(note.startswith("1 of 2 matrices have fewer than") for note in fact.evidence.notes)
    assert any(note.startswith("1 of 2 matrices has no Weibull k") for note in fact.evidence.notes)
    fact = check(one_kind(tmp_path / "all", [few, few]))
    assert fact.verdict is Verdict.INCONCLUSIVE
    assert "of the values have one magnitude (" in fact.summary


def test_values_that_are_not_finite_are_passed_over(tmp_path):
    matrix = gaussian(1)
    matrix[3, 4], matrix[5, 6] = np.nan, np.inf
    fact = check(one_kind(tmp_path, [matrix, gaussian(2)]))
    assert fact.verdict is Verdict.HOLDS


def test_each_expert_counts():
    run = weights_run(2, extra={})
    entries = run.metadata["sites"]
    for index, name in enumerate(("blocks.0.W_in", "blocks.1.W_in")):
        (entry,) = [entry for entry in entries if entry["name"] == name]
        entry["weight_kind"] = f"experts.{index}.W_in"
    kinds = check(run).evidence.tables[0]
    assert {row[0]: row[1] for row in kinds.rows}["experts.*.W_in"] == 2


def test_the_sampling_deviation_of_k_behind_the_least_number_of_values():
    rng = np.random.default_rng(0)
    ks = []
    for _ in range(200):
        sample = rng.standard_normal(LEAST_VALUES).astype(np.float32)
        codes, counts = np.unique((sample.view(np.uint32) >> 16).astype(np.uint16), return_counts=True)
        ks.append(weibull(Distribution(codes, counts, "float32")).k)
    deviation = float(np.std(ks))
    assert deviation == pytest.approx(1.36 / math.sqrt(LEAST_VALUES), rel=0.15)
    assert np.mean(np.abs(np.array(ks) - 1.205) > 0.03) <= 0.05


def test_values_that_are_not_finite_are_said(tmp_path):
    values = np.random.default_rng(0).normal(size=(120, 120))
    spoiled = values.copy()
    spoiled[3, 4] = np.nan
    fact = check(scanned(tmp_path, {"blocks.0.W_Q": values, "blocks.0.W_K": spoiled}, spectra=0))
    assert any(note.startswith("1 of 2 matrices hold NaN or infinities") for note in fact.evidence.notes)
