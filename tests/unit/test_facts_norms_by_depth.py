"""F10 on stacks of matrices whose norms are set."""

from __future__ import annotations

import numpy as np
import pytest

from lmfacts.facts.f10_norms_by_depth import DEFINITION
from lmfacts.facts.fact import Verdict
from support.checkpoints import scanned, weights_inputs
from support.synthetic_weights import weights_run

N_LAYERS = 12
D = 24

CONSTANT = np.ones(N_LAYERS)
GROWING = 1.05 ** np.arange(N_LAYERS)
RISING_GAIN = 2.0 ** (np.arange(N_LAYERS) / (N_LAYERS - 1))


def of_norm(norm, seed, shape):
    values = np.random.default_rng(seed).standard_normal(shape)
    return values * norm / np.linalg.norm(values)


def model(folder, *, writing=GROWING, reading=CONSTANT, value=GROWING, gain=CONSTANT, family="llama", **changed):
    """A stack of layers with these norms; `changed` has those of single kinds."""
    groups = {"W_Q": reading, "W_K": reading, "W_in": reading, "W_V": value, "W_O": writing, "W_out": writing}
    if family == "llama":
        groups["W_gate"] = reading
    weights = {}
    for layer in range(N_LAYERS):
        for index, (kind, norms) in enumerate(groups.items()):
            shape = {"W_out": (D, 2 * D), "W_in": (2 * D, D), "W_gate": (2 * D, D)}.get(kind, (D, D))
            norm = changed.get(kind, norms)[layer]
            weights[f"blocks.{layer}.{kind}"] = of_norm(norm, 100 * index, shape)
        for norm in ("ln1", "ln2"):
            weights[f"blocks.{layer}.{norm}.gain"] = np.full(D, gain[layer])
    return scanned(folder, weights, family=family, spectra=changed.get("spectra", 0))


def check(run):
    return DEFINITION.check(weights_inputs(run))


def measure(fact, kind, name="{}: total factor"):
    (found,) = [measure for measure in fact.evidence.measures if measure.name == name.format(kind)]
    return found


def by_verdict(fact):
    """What it would be with looser thresholds, is, and would be with stricter ones."""
    return fact.looser, fact.verdict, fact.stricter


@pytest.mark.parametrize("family", ["llama", "opt"])
def test_growing_writing_and_constant_reading_weights_hold_both_ways(tmp_path, family):
    fact = check(model(tmp_path, family=family))
    assert fact.verdict is Verdict.HOLDS
    assert by_verdict(fact) == (Verdict.HOLDS,) * 3
    assert fact.summary.endswith("With raw norms: holds here.")
    assert measure(fact, "W_O").value == pytest.approx(1.05 ** (N_LAYERS - 2), rel=0.01)
    assert measure(fact, "W_Q").value == pytest.approx(1.0, abs=1e-3)
    assert not any("Without folding" in note for note in fact.evidence.notes)


def test_falling_raw_weights_behind_rising_gains_hold_folded_only(tmp_path):
    fact = check(model(tmp_path, reading=1 / RISING_GAIN, value=1 / RISING_GAIN, gain=RISING_GAIN))
    assert fact.verdict is Verdict.HOLDS
    assert fact.summary.endswith("With raw norms: not so here.")
    (note,) = [note for note in fact.evidence.notes if "Without folding" in note]
    assert '"not so here" (W_Q, W_K, W_in, W_gate would depart from the claim)' in note
    assert measure(fact, "W_Q").note.startswith("folded")


def test_constant_raw_weights_behind_rising_gains_fail_folded(tmp_path):
    fact = check(model(tmp_path, gain=RISING_GAIN))
    assert fact.verdict is Verdict.FAILS
    assert fact.summary.endswith("With raw norms: holds here.")
    assert "W_Q (1.88x), W_K (1.88x), W_in (1.88x), W_gate (1.88x) should be constant" in fact.summary
    assert measure(fact, "W_Q").value == pytest.approx(2 ** (10 / 11), rel=1e-3)
    assert measure(fact, "W_Q").passed is False


def test_constant_writing_weights_fail(tmp_path):
    fact = check(model(tmp_path, writing=CONSTANT))
    assert fact.verdict is Verdict.FAILS
    assert "W_O (1x), W_out (1x) should grow" in fact.summary
    assert "should be constant" not in fact.summary


def test_falling_writing_weights_fail(tmp_path):
    fact = check(model(tmp_path, writing=1 / GROWING))
    assert fact.verdict is Verdict.FAILS
    assert measure(fact, "W_out").value == pytest.approx(1.05**-10, rel=1e-3)


def test_growth_without_order_fails(tmp_path):
    zigzag = np.where(np.arange(N_LAYERS) % 2, 1.0, 2.0) * 1.04 ** np.arange(N_LAYERS)
    fact = check(model(tmp_path, W_O=zigzag))
    assert measure(fact, "W_O").value >= 1.25
    assert fact.verdict is Verdict.FAILS
    assert "W_O (" in fact.summary
    assert "rho" in fact.summary
    assert measure(fact, "W_out").passed


@pytest.mark.parametrize(("kind", "named"), [("W_gate", True), ("W_K", True), ("W_V", False)])
def test_each_kind_counts_but_the_values(tmp_path, kind, named):
    fact = check(model(tmp_path, **{kind: 1.05 ** np.arange(N_LAYERS) ** 1.1}))
    assert (fact.verdict is Verdict.FAILS) is named
    assert (f"{kind} (" in fact.summary) is named
    assert measure(fact, kind).passed is (False if named else None)


HOLDS, OPEN, FAILS = Verdict.HOLDS, Verdict.INCONCLUSIVE, Verdict.FAILS


@pytest.mark.parametrize(
    ("factor", "verdicts", "passed"),
    [
        (1.276, (HOLDS, HOLDS, HOLDS), True),
        (1.274, (HOLDS, OPEN, FAILS), True),
        (1.251, (HOLDS, OPEN, FAILS), True),
        (1.249, (HOLDS, OPEN, FAILS), False),
        (1.226, (HOLDS, OPEN, FAILS), False),
        (1.224, (FAILS, FAILS, FAILS), False),
    ],
)
def test_the_least_growth(tmp_path, factor, verdicts, passed):
    fact = check(model(tmp_path, writing=factor ** (np.arange(N_LAYERS) / (N_LAYERS - 2))))
    assert by_verdict(fact) == verdicts
    assert measure(fact, "W_out").passed is passed
    assert ("depends on where the thresholds lie" in fact.summary) is (fact.verdict is OPEN)


@pytest.mark.parametrize(
    ("factor", "verdicts", "passed"),
    [
        (1.314, (HOLDS, HOLDS, HOLDS), True),
        (1.316, (HOLDS, OPEN, FAILS), True),
        (1.349, (HOLDS, OPEN, FAILS), True),
        (1.351, (HOLDS, OPEN, FAILS), False),
        (1.384, (HOLDS, OPEN, FAILS), False),
        (1.386, (FAILS, FAILS, FAILS), False),
    ],
)
@pytest.mark.parametrize("falls", [False, True])
def test_the_most_change(tmp_path, factor, verdicts, passed, falls):
    norms = (1 / factor if falls else factor) ** (np.arange(N_LAYERS) / (N_LAYERS - 2))
    fact = check(model(tmp_path, reading=norms))
    assert by_verdict(fact) == verdicts
    assert measure(fact, "W_K").passed is passed


def with_swaps(*pairs):
    """Norms that grow over 11 layers but for some that changed places, after a first that does not count."""
    order = np.arange(N_LAYERS - 1)
    for one, other in pairs:
        order[[one, other]] = order[[other, one]]
    return np.concatenate([[1.0], 1.06**order])


@pytest.mark.parametrize(
    ("pairs", "rho", "verdicts", "passed"),
    [
        # rho = 1 - 6 sum d^2 / (11 x 120); a pair k apart brings 2 k^2 to the sum
        ([(5, 10)], 0.7727, (HOLDS, HOLDS, HOLDS), True),
        ([(5, 10), (0, 1)], 0.7636, (HOLDS, OPEN, FAILS), True),
        ([(0, 4), (5, 9)], 0.7091, (HOLDS, OPEN, FAILS), True),
        ([(0, 5), (6, 9)], 0.6909, (HOLDS, OPEN, FAILS), False),
        ([(0, 6), (8, 10)], 0.6364, (HOLDS, OPEN, FAILS), False),
        ([(0, 5), (6, 10)], 0.6273, (FAILS, FAILS, FAILS), False),
    ],
)
def test_the_least_rank_correlation(tmp_path, pairs, rho, verdicts, passed):
    fact = check(model(tmp_path, W_O=with_swaps(*pairs)))
    found = measure(fact, "W_O", "rho of {}")
    assert found.value == pytest.approx(rho, abs=1e-4)
    assert measure(fact, "W_O").value >= 1.275
    assert found.passed is passed
    assert by_verdict(fact) == verdicts
    assert (f"rho of W_O {rho:.3f} against" in fact.summary) is (fact.verdict is OPEN)


def test_the_first_layer_does_not_count(tmp_path):
    def with_first(norms):
        return np.concatenate([[50.0], norms[1:]])

    assert check(model(tmp_path, writing=with_first(GROWING), reading=with_first(CONSTANT))).verdict is Verdict.HOLDS


def test_writing_weights_are_centered_before_a_layer_norm_only(tmp_path):
    """A constant added to all output dims of an input is taken out again by a LayerNorm, and not by an RMSNorm."""
    for family, expected in (("opt", Verdict.HOLDS), ("llama", Verdict.FAILS)):
        rng = np.random.default_rng(5)
        changed = {}
        for layer in range(N_LAYERS):
            for kind, width in (("W_O", D), ("W_out", 2 * D)):
                centered = rng.standard_normal((D, width))
                centered -= centered.mean(axis=0)
                centered *= GROWING[layer] / np.linalg.norm(centered)
                changed[f"blocks.{layer}.{kind}"] = centered + 5.0
            for index, kind in enumerate(("W_Q", "W_K", "W_in")):
                changed[f"blocks.{layer}.{kind}"] = of_norm(1.0, index, (D, D))
        fact = check(scanned(tmp_path / family, changed, family=family, spectra=0))
        assert fact.verdict is expected


def test_spectral_norms_are_listed_where_they_are_known(tmp_path):
    assert len(check(model(tmp_path)).evidence.tables) == 1
    _, table = check(model(tmp_path / "spectra", spectra=64)).evidence.tables
    assert table.title == "Spectral norm by depth"
    assert "as claimed" not in table.columns
    (row,) = [row for row in table.rows if row[0] == "W_O"]
    assert row[table.columns.index("total")] == pytest.approx(1.05**10, rel=0.01)


@pytest.mark.parametrize("n_layers", [2, 3])
def test_few_layers_are_left_open(n_layers):
    fact = check(weights_run(n_layers))
    assert fact.verdict is Verdict.INCONCLUSIVE
    assert f"{n_layers} layers are too few" in fact.summary


def test_without_weights_that_write_it_does_not_apply(tmp_path):
    weights = {f"blocks.{layer}.W_Q": np.eye(D) for layer in range(6)}
    fact = check(scanned(tmp_path, weights, spectra=0))
    assert fact.verdict is Verdict.NOT_APPLICABLE
    assert "write to it (W_O, W_out)" in fact.summary
    assert "read it" not in fact.summary


@pytest.mark.parametrize("missing", ["W_O", "W_out", "W_Q", "W_K", "W_in"])
def test_a_kind_that_is_missing_leaves_it_open(tmp_path, missing):
    weights = {}
    for layer in range(N_LAYERS):
        for kind in ("W_O", "W_out", "W_Q", "W_K", "W_in"):
            if kind != missing:
                weights[f"blocks.{layer}.{kind}"] = (GROWING[layer] if kind in ("W_O", "W_out") else 1.0) * np.eye(D)
    fact = check(scanned(tmp_path, weights, spectra=0))
    assert fact.verdict is Verdict.INCONCLUSIVE
    assert f"the checkpoint has no {missing} with a known role in two or more layers" in fact.summary
    for kind in {"W_O", "W_out", "W_Q", "W_K", "W_in"} - {missing}:
        assert f"{kind} {'grows' if kind in ('W_O', 'W_out') else 'is constant'}" in fact.summary


def test_kinds_that_are_missing_are_named(tmp_path):
    weights = {}
    for layer in range(N_LAYERS):
        weights[f"blocks.{layer}.W_O"] = GROWING[layer] * np.eye(D)
        weights[f"blocks.{layer}.W_Q"] = GROWING[layer] * np.eye(D)
    fact = check(scanned(tmp_path, weights, spectra=0))
    assert fact.verdict is Verdict.INCONCLUSIVE
    assert fact.summary == (
        "The claim is about W_O, W_out, W_Q, W_K and W_in, and the checkpoint has no W_out, W_K or W_in with a known "
        "role in two or more layers: of the others W_O grows and W_Q is not constant."
    )


def test_matrices_of_zeros_are_left_open(tmp_path):
    fact = check(model(tmp_path, W_O=0 * CONSTANT))
    assert fact.verdict is Verdict.INCONCLUSIVE
    assert fact.summary.startswith("W_O: fewer than 3 norms above zero")


def test_layers_without_a_norm_are_said():
    zeros = {"blocks.5.W_O": np.zeros((48, 48))}
    (note,) = [one for one in check(weights_run(8, extra=zeros)).evidence.notes if one.startswith("Left out")]
    assert note.endswith(": W_O of layer 5.")
    assert not any(one.startswith("Left out") for one in check(weights_run(8)).evidence.notes)
