"""F11 on matrices whose singular values are set."""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

from lmfacts.analysis.block_matrices import BlockMatrix
from lmfacts.facts.f11_singular_values import DEFINITION, _Spectral, is_power_law
from lmfacts.facts.fact import Verdict
from lmfacts.facts.strictness import Strictness
from lmfacts.stats.spectrum import WindowFit
from support.checkpoints import scanned, weights_inputs
from support.synthetic_weights import weights_run

R = 256
RANKS = np.arange(1, R + 1)


@cache
def bases(seed):
    rng = np.random.default_rng(seed)
    return tuple(np.linalg.qr(rng.standard_normal((R, R)))[0] for _ in range(2))


def with_spectrum(values, seed=0):
    left, right = bases(seed)
    return (left * values) @ right.T


def power(exponent, seed=0):
    return with_spectrum(RANKS**-exponent, seed)


def exponential(seed=0):
    return with_spectrum(np.exp(-RANKS / (R / 7.68)), seed)


def gaussian(seed=0):
    return np.random.default_rng(seed + 50).standard_normal((R, R))


def with_giants(seed=0):
    rng = np.random.default_rng(seed + 70)
    matrix = gaussian(seed)
    matrix[rng.permutation(R)[:20], rng.permutation(R)[:20]] = 200.0
    return matrix


def model(folder, **kinds):
    """A run with these matrices, `W_Q=[...]` one a layer."""
    weights = {f"blocks.{layer}.{kind}": m for kind, matrices in kinds.items() for layer, m in enumerate(matrices)}
    return scanned(folder, weights)


def check(run):
    return DEFINITION.check(weights_inputs(run))


def measure(fact, name):
    (found,) = [measure for measure in fact.evidence.measures if measure.name == name]
    return found.value


def row(fact, table, kind):
    (found,) = [entry for entry in fact.evidence.tables if entry.title == table]
    (cells,) = [cells for cells in found.rows if cells[0] == kind]
    return dict(zip(found.columns, cells, strict=True))


HEAD, BODY = "share with a power law in the head", "share with a power law in the body"
STRUCTURED, CV = "share that is structured", "CV of the kinds' body slopes"


def test_one_power_law_everywhere_holds(tmp_path):
    fact = check(model(tmp_path, W_Q=[power(0.5), power(0.5, 1)], W_O=[power(0.55, 2), power(0.5, 3)]))
    assert fact.verdict is Verdict.HOLDS
    assert fact.fact_class is None
    assert measure(fact, HEAD) == measure(fact, BODY) == measure(fact, STRUCTURED) == 1.0
    assert row(fact, "Body by kind", "W_Q")["slope"] == pytest.approx(-0.5, abs=1e-4)
    assert row(fact, "Head by kind", "W_O")["slope"] == pytest.approx(-0.525, abs=1e-4)
    assert measure(fact, CV) == pytest.approx(0.0125 / 0.5125, rel=1e-2)


def test_an_exponential_is_structured_and_no_power_law(tmp_path):
    fact = check(model(tmp_path, W_Q=[exponential(), exponential(1)]))
    assert fact.verdict is Verdict.FAILS
    assert fact.fact_class == "structured, no common power law"
    assert measure(fact, HEAD) == measure(fact, BODY) == 0.0
    assert measure(fact, STRUCTURED) == 1.0
    assert row(fact, "Body by kind", "W_Q")["R2 exp."] == pytest.approx(1.0)
    assert any("body of 2 of 2 matrices is closer to an exponential" in note for note in fact.evidence.notes)


def test_noise_is_neither(tmp_path):
    fact = check(model(tmp_path, W_Q=[gaussian(seed) for seed in range(4)]))
    assert fact.verdict is Verdict.FAILS
    assert fact.fact_class is None
    assert measure(fact, HEAD) == measure(fact, BODY) == measure(fact, STRUCTURED) == 0.0
    body = row(fact, "Body by kind", "W_Q")
    assert body["slope"] == pytest.approx(-0.270, abs=0.01)
    assert body["slope"] == pytest.approx(body["slope of noise"], abs=0.01)
    noise = row(fact, "Against noise by kind", "W_Q")
    assert noise["largest / edge"] == pytest.approx(1.0, abs=0.03)
    assert noise["participation"] == pytest.approx(0.5, abs=0.02)
    assert noise["effective rank"] == pytest.approx(465 / 768, abs=0.02)


def test_spikes_alone_are_not_structure(tmp_path):
    rng = np.random.default_rng(4)
    size = 768  # the body begins at rank 9
    left, right = (np.linalg.qr(rng.standard_normal((size, 8)))[0] for _ in range(2))
    spiked = rng.standard_normal((size, size)) + 2 * 2 * math.sqrt(size) * left @ right.T
    fact = check(model(tmp_path, W_Q=[spiked]))
    noise = row(fact, "Against noise by kind", "W_Q")
    assert noise["share above edge"] == pytest.approx(8 / size)
    assert noise["structured"] == 0
    assert fact.verdict is Verdict.FAILS


def test_giant_entries_are_held_against_the_shuffled_edge(tmp_path):
    run = model(tmp_path, W_Q=[with_giants()])
    spectrum = run["blocks.0.W_Q"].spectrum
    assert spectrum.n_above(spectrum.marchenko_pastur_edge) == 20
    noise = row(check(run), "Against noise by kind", "W_Q")
    assert noise["shuffled edges"] == 1
    assert noise["share above edge"] == 0.0
    assert noise["largest / edge"] < 1.0


def test_kinds_of_other_slopes_are_not_the_same_pattern(tmp_path):
    fact = check(model(tmp_path, W_Q=[power(0.3)], W_O=[power(0.9)]))
    assert measure(fact, HEAD) == measure(fact, BODY) == 1.0
    assert measure(fact, CV) == pytest.approx(0.5, rel=1e-3)
    assert fact.verdict is Verdict.FAILS


HOLDS, OPEN, FAILS = Verdict.HOLDS, Verdict.INCONCLUSIVE, Verdict.FAILS
R64 = np.arange(1, 65)


def small(values, seed=0):
    """A matrix of rank 64, the least that is judged."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.standard_normal((64, 64)))[0] for _ in range(2))
    return (left * values) @ right.T


@pytest.mark.parametrize(
    ("n_power", "n", "verdicts"),
    [
        (5, 6, (HOLDS, HOLDS, HOLDS)),  # 0.833
        (9, 11, (HOLDS, OPEN, FAILS)),  # 0.818
        (4, 5, (HOLDS, OPEN, FAILS)),
        (15, 19, (HOLDS, OPEN, FAILS)),  # 0.789
        (7, 9, (FAILS, FAILS, FAILS)),  # 0.778
    ],
)
def test_eighty_percent_decide(tmp_path, n_power, n, verdicts):
    matrices = [small(R64**-0.5 if seed < n_power else np.exp(-R64 / 8.0), seed) for seed in range(n)]
    fact = check(model(tmp_path, W_Q=matrices))
    assert (fact.looser, fact.verdict, fact.stricter) == verdicts
    assert measure(fact, BODY) == pytest.approx(n_power / n)
    for name in (HEAD, BODY):
        (found,) = [one for one in fact.evidence.measures if one.name == name]
        assert found.passed is (n_power / n >= 0.8)


@pytest.mark.parametrize(
    ("cv", "verdicts"),
    [
        (0.224, (HOLDS, HOLDS, HOLDS)),
        (0.226, (HOLDS, OPEN, FAILS)),
        (0.249, (HOLDS, OPEN, FAILS)),
        (0.251, (HOLDS, OPEN, FAILS)),
        (0.274, (HOLDS, OPEN, FAILS)),
        (0.276, (FAILS, FAILS, FAILS)),
    ],
)
def test_how_far_the_slopes_of_kinds_may_be_apart(tmp_path, cv, verdicts):
    slopes = {"W_Q": 0.5 * (1 - cv), "W_O": 0.5 * (1 + cv)}
    fact = check(model(tmp_path, **{kind: [small(R64**-slope)] for kind, slope in slopes.items()}))
    assert measure(fact, CV) == pytest.approx(cv, abs=5e-4)
    assert (fact.looser, fact.verdict, fact.stricter) == verdicts


def test_a_power_law_in_the_head_alone_fails(tmp_path):
    values = RANKS**-0.5
    values[40:] *= np.exp(-(RANKS[40:] - 40) / 30)
    fact = check(model(tmp_path, W_Q=[with_spectrum(values)]))
    assert measure(fact, HEAD) == 1.0
    assert measure(fact, BODY) == 0.0
    assert fact.verdict is Verdict.FAILS


def fit(r2_power=0.99, r2_exponential=0.9, slope=-1.0, first=-1.0, second=-1.0):
    return WindowFit(1, 64, slope, r2_power, r2_exponential, first, second)


LOOSER, STATED, STRICTER = Strictness.LOOSER, Strictness.STATED, Strictness.STRICTER


@pytest.mark.parametrize(
    ("window", "expected"),
    [
        (fit(), (True, True, True)),
        (fit(r2_exponential=0.991), (False, False, False)),
        (fit(r2_power=0.9735), (True, True, True)),
        (fit(r2_power=0.9725), (True, True, False)),
        (fit(r2_power=0.9705), (True, True, False)),
        (fit(r2_power=0.9695), (True, False, False)),
        (fit(r2_power=0.9665), (False, False, False)),
        (fit(first=-0.83), (True, True, True)),
        (fit(first=-0.81, second=-1.19), (True, True, False)),
        (fit(first=-0.79), (True, False, False)),
        (fit(second=-1.21), (True, False, False)),
        (fit(second=-1.23), (False, False, False)),
        (fit(r2_power=math.nan), (False, False, False)),
        (fit(slope=0.0), (False, False, False)),
    ],
)
def test_the_rules_of_a_power_law(window, expected):
    assert tuple(is_power_law(window, one) for one in (LOOSER, STATED, STRICTER)) == expected
    assert is_power_law(window) is expected[1]


@pytest.mark.parametrize(
    ("n_above", "slope", "expected"),
    [
        (3, -0.33, (True, True, True)),
        (2, -0.33, (False, False, False)),
        (3, -0.326, (True, True, True)),
        (3, -0.321, (True, True, False)),
        (3, -0.319, (True, False, False)),
        (3, -0.314, (False, False, False)),
        (100, -0.27, (False, False, False)),
    ],
)
def test_the_rules_of_structure(n_above, slope, expected):
    matrix = BlockMatrix("blocks.0.W_Q", "W_Q", 0, (R, R))  # 1 % of the rank is 2.56
    window = fit(slope=slope)
    spectral = _Spectral(matrix, window, window, -0.27, 1.0, n_above, False, 1.0, (0.5, 0.5, 0.5))
    assert tuple(spectral.structured(one) for one in (LOOSER, STATED, STRICTER)) == expected


@pytest.mark.parametrize(
    ("n_above", "expected"),
    [
        (111, (True, True, True)),
        (109, (True, True, False)),
        (101, (True, True, False)),
        (99, (True, False, False)),
        (91, (True, False, False)),
        (89, (False, False, False)),
    ],
)
def test_one_percent_above_the_edge(n_above, expected):
    window = fit(slope=-0.5)
    matrix = BlockMatrix("blocks.0.W_Q", "W_Q", 0, (10_000, 20_000))
    spectral = _Spectral(matrix, window, window, -0.27, 1.0, n_above, False, 1.0, (0.5, 0.5, 0.5))
    assert tuple(spectral.structured(one) for one in (LOOSER, STATED, STRICTER)) == expected


@pytest.mark.parametrize(
    ("sides", "command"),
    [
        ((100, 70), "lmfacts weights MODEL -o weights.lmfacts"),
        ((5000, 4100), "lmfacts weights MODEL --spectra 4100 -o weights.lmfacts"),
    ],
)
def test_without_singular_values_it_does_not_apply(tmp_path, sides, command):
    run = scanned(tmp_path, {"blocks.0.W_in": np.ones((100, 70))}, spectra=0)
    run.metadata["sites"][0]["shape"] = list(sides)
    run.metadata["model"]["id"] = "MODEL"
    fact = check(run)
    assert fact.verdict is Verdict.NOT_APPLICABLE
    assert fact.command == command


def test_matrices_without_singular_values_are_counted(tmp_path):
    broken = power(0.5)
    broken[3, 3] = np.nan
    fact = check(model(tmp_path, W_Q=[power(0.5), broken]))
    assert fact.verdict is Verdict.HOLDS
    assert any(note.startswith("1 of 2 matrices have no singular values") for note in fact.evidence.notes)


def test_small_and_zero_matrices_are_left_out(tmp_path):
    small = with_spectrum(RANKS**-0.5)[:63]
    fact = check(model(tmp_path, W_Q=[power(0.5)], W_K=[small, small], W_V=[np.zeros((R, R))]))
    assert fact.verdict is Verdict.HOLDS
    assert any(note.startswith("3 matrices are left out") for note in fact.evidence.notes)
    alone = check(model(tmp_path / "small", W_K=[small]))
    assert alone.verdict is Verdict.INCONCLUSIVE
    assert "the largest rank is 63" in alone.summary
    zero = check(model(tmp_path / "zero", W_K=[np.zeros((R, R))]))
    assert zero.verdict is Verdict.INCONCLUSIVE
    assert "is zero" in zero.summary


def test_matrices_of_low_rank_do_not_break_it(tmp_path):
    left, right = bases(0)
    low = left[:, :40] @ np.diag(np.arange(1.0, 41.0) ** -0.5) @ right[:, :40].T
    assert check(model(tmp_path, W_Q=[low, np.outer(left[0], right[0])])).verdict in set(Verdict)


def test_the_made_up_run_of_small_matrices_is_left_open():
    assert check(weights_run(4)).verdict is Verdict.INCONCLUSIVE


def test_embeddings_do_not_count(tmp_path):
    assert check(scanned(tmp_path, {"embed.W_E": gaussian()})).verdict is Verdict.NOT_APPLICABLE


def test_a_matrix_of_rank_1_is_not_called_zero(tmp_path):
    fact = check(model(tmp_path, W_Q=[np.outer(np.ones(R), RANKS)]))
    assert fact.verdict is Verdict.INCONCLUSIVE
    assert "zero or of low rank" in fact.summary


def test_where_nan_is_the_reason_no_command_is_named(tmp_path):
    broken = power(0.5)
    broken[3, 3] = np.nan
    fact = check(model(tmp_path, W_Q=[broken, broken]))
    assert (fact.verdict, fact.command) == (Verdict.INCONCLUSIVE, None)
    assert fact.summary == "Every matrix in the blocks holds NaN or infinities."
