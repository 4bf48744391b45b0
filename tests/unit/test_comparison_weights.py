"""Comparing runs of weights: known changes, bounds on the distance of matrices, which weights belong together."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from lmfacts.comparison import compare
from lmfacts.comparison.weight_change import change_of_weight
from lmfacts.errors import MismatchedRunsError, UsageError
from lmfacts.render.terminal.comparison_json import comparison_json
from lmfacts.run import Run
from lmfacts.scans.weights import scan_weights
from support.synthetic_weights import weights_run

torch = pytest.importorskip("torch")

RNG = np.random.default_rng(3)
MATRIX = RNG.normal(size=(40, 24))
LEVEL = 5.0 + 0.01 * MATRIX
VECTOR = 1.0 + 0.1 * RNG.normal(size=64)


class Holder(torch.nn.Module):
    """A module that is nothing but its parameters."""

    def __init__(self, parameters, dtype):
        super().__init__()
        for name, values in parameters.items():
            self.register_parameter(name, torch.nn.Parameter(torch.tensor(values).to(dtype), requires_grad=False))


def run_of(dtype=torch.float64, **parameters):
    return scan_weights(Holder(parameters, dtype))


def change(a, b, dtypes=(torch.float64, torch.float64)):
    (site,) = compare(run_of(dtypes[0], w=a), run_of(dtypes[1], w=b)).sites
    return site


def without_sketches(run):
    """The run as it was made before there were sketches."""
    kept = {name: array for name, array in run.extra_arrays.items() if not name.endswith("/sketch")}
    return Run(run.metadata, {name: run[name].state for name in run}, kept)


def bounded_change(a, b):
    """As `change`, of runs without sketches."""
    (site,) = compare(*(without_sketches(run_of(w=x)) for x in (a, b))).sites
    return site


def difference(site, key):
    return next(item for item in site.differences if item.key == key)


def norm(values):
    return float(np.sqrt((np.asarray(values) ** 2).sum()))


def test_a_run_against_itself_is_identical():
    found = compare(weights_run(3), weights_run(3))
    assert len(found.sites) > 20
    assert all(site.identical for site in found.sites)
    assert found.population == "all"
    assert found.caveats == ()


def test_a_matrix_that_grew_by_a_tenth():
    site = change(MATRIX, 1.1 * MATRIX)
    assert site.weight.frobenius_ratio == pytest.approx(1.1, rel=1e-9)
    assert site.weight.frobenius_folded_ratio == pytest.approx(1.1, rel=1e-9)
    assert site.weight.spectral_ratio == pytest.approx(1.1, rel=1e-9)
    assert site.weight.relative_change == pytest.approx(0.1, rel=0.03)
    assert site.weight.known == "estimated"
    assert not site.weight.exact
    bounded = bounded_change(MATRIX, 1.1 * MATRIX).weight
    assert bounded.relative_change == pytest.approx(0.1, rel=1e-6)  # the bound is met
    labels = [item.label for item in bounded_change(MATRIX, 1.1 * MATRIX).differences]
    assert "relative change, at least" in labels
    assert (bounded.known, bounded.exact, math.isnan(bounded.standard_error)) == ("at least", False, True)
    assert site.weight.weibull_k[0] == pytest.approx(site.weight.weibull_k[1], abs=0.02)
    assert [dims.axis for dims in site.dims] == ["output dim", "input dim"]
    assert [dims.log_rms_ratio for dims in site.dims] == pytest.approx([math.log(1.1)] * 2, rel=1e-6)
    assert site.std_ratio == pytest.approx(1.1, rel=1e-9)
    assert math.isnan(site.log_norm_shift)
    assert site.effect == pytest.approx(0.1, rel=0.01)


def test_a_row_and_a_column_that_stand_out_now():
    louder = MATRIX.copy()
    louder[7] *= 12
    louder[:, 3] *= 15
    site = change(MATRIX, louder)
    rows, columns = site.dims
    assert [one.dim for one in rows.gained] == [7]
    assert [one.dim for one in columns.gained] == [3]
    assert (rows.dim, columns.dim) == (7, 3)
    assert site.decided_by.key == "relative_change"
    assert site.effect <= norm(louder - MATRIX) / norm(MATRIX)


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("scale", [1e-3, 0.3, 3.0])
def test_the_least_relative_change_is_never_more_than_the_change(seed, scale):
    rng = np.random.default_rng(seed)
    noise = (
        rng.normal(size=MATRIX.shape)
        if seed % 2
        else np.outer(rng.normal(size=MATRIX.shape[0]), rng.normal(size=MATRIX.shape[1]))
    )
    other = MATRIX + scale * noise
    found = bounded_change(MATRIX, other).weight.relative_change
    assert 0 < found <= norm(other - MATRIX) / norm(MATRIX) * (1 + 1e-9)
    if seed % 2 == 0 and scale > 1:
        assert found > 0.5 * norm(other - MATRIX) / norm(MATRIX)


def test_a_constant_that_is_added_shows_in_the_means():
    found = bounded_change(MATRIX, MATRIX + 0.5).weight.relative_change
    assert found == pytest.approx(norm(np.full_like(MATRIX, 0.5)) / norm(MATRIX), rel=1e-6)


def test_the_change_of_a_vector_is_exact():
    noise = 0.01 * RNG.normal(size=VECTOR.size)
    site = change(VECTOR, VECTOR + noise)
    assert site.weight.exact
    assert site.weight.relative_change == pytest.approx(norm(noise) / norm(VECTOR), rel=1e-9)
    assert site.dims == ()
    assert math.isnan(site.weight.spectral_ratio)
    flipped = change(VECTOR, VECTOR[::-1].copy())  # the same values in other places
    assert flipped.distances.ks == 0
    assert flipped.decided_by.key == "relative_change"


@pytest.mark.parametrize("values", [MATRIX, VECTOR, LEVEL])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_is_no_change(values, dtype):
    site = change(values, values, (torch.float32, dtype))
    assert site.effect == 0
    assert not site.identical
    if values is not LEVEL:
        assert change(values, 1.05 * values, (torch.float32, dtype)).effect == pytest.approx(0.05, rel=0.15)


def test_zeros_constants_and_nan():
    zeros = np.zeros_like(MATRIX)
    assert change(zeros, zeros).identical
    came = change(zeros, MATRIX)
    assert math.isnan(came.weight.relative_change)
    assert came.effect > 0.4
    assert change(MATRIX, zeros).weight.relative_change == pytest.approx(1)
    assert change(np.full(9, 1.0), np.full(9, 1.0)).identical
    assert change(zeros[0], VECTOR[:24]).effect == 1.0
    assert change(np.full(9, 1.0), np.full(9, 1.5)).weight.relative_change == pytest.approx(0.5)
    broken = MATRIX.copy()
    broken[0, 0] = np.nan
    found = compare(run_of(w=MATRIX), run_of(w=broken))
    assert difference(found.sites[0], "nonfinite").size == 1
    json.dumps(comparison_json(found), allow_nan=False)


def test_weights_are_matched_by_role_then_by_parameter():
    a = weights_run(2)
    entries = [dict(entry) for entry in a.metadata["sites"]]
    states, renamed = {}, {}
    for entry in entries:
        old = entry["name"]
        if old == "blocks.1.W_O":  # a layout that was not known: the parameter's name is all there is
            entry |= {"name": entry["parameter"], "role": None, "aliases": [], "weight_kind": None}
        states[entry["name"]] = a[old].state
        renamed[old] = entry["name"]
    arrays = {
        f"{renamed[name.rpartition('/')[0]]}/{name.rpartition('/')[2]}": array for name, array in a.extra_arrays.items()
    }
    b = Run({**a.metadata, "sites": entries}, states, arrays)
    found = compare(a, b)
    assert found.only_a == found.only_b == ()
    assert all(site.identical for site in found.sites)
    assert {site.name: site.name_b for site in found.sites}["blocks.1.W_O"] == "blocks.1.W_O.weight"


def test_weights_of_other_shapes_are_set_apart():
    a, b = run_of(w=MATRIX, v=VECTOR), run_of(w=MATRIX.T.copy(), v=VECTOR)
    found = compare(a, b)
    assert [(one.name, one.reason) for one in found.not_comparable] == [("w", "shape 40 x 24 in A and 24 x 40 in B")]
    with pytest.raises(MismatchedRunsError, match="w has shape 40 x 24"):
        compare(run_of(w=MATRIX), run_of(w=MATRIX.T.copy()))
    with pytest.raises(UsageError, match="weights have no tokens"):
        compare(a, a, population="first")


def test_norms_by_kind():
    a, b = weights_run(4), weights_run(6)
    found = compare(a, b)
    kinds = {norm.kind: norm for norm in found.weight_norms}
    assert set(kinds) == {"embed.W_E", "W_Q", "W_K", "W_V", "W_O", "W_in", "W_out"}
    assert kinds["W_O"].layers == (0, 1, 2, 3)
    assert kinds["W_Q"].norms[2] == (a["blocks.2.W_Q"].frobenius, b["blocks.2.W_Q"].frobenius)
    assert kinds["W_Q"].folded[2] == (a["blocks.2.W_Q"].frobenius_folded, b["blocks.2.W_Q"].frobenius_folded)
    assert found.norms == ()
    assert "of different build (number of layers 4 and 6)" in found.caveats[0]


def test_without_singular_values():
    a, b = (scan_weights(Holder({"w": x}, torch.float32), spectra=0)["w"] for x in (MATRIX, 2 * MATRIX))
    found = change_of_weight(a, b)
    assert math.isnan(found.spectral_ratio)
    assert found.relative_change == pytest.approx(1.0, rel=0.03)


def test_infinities_in_both_are_passed_over_in_silence():
    spoiled = MATRIX.copy()
    spoiled[2, 3] = math.inf
    site = change(spoiled, 1.1 * spoiled)
    assert site.weight.relative_change == pytest.approx(0.1, abs=0.01)
    vector = VECTOR.copy()
    vector[0] = math.inf
    assert change(vector, vector).effect == 0


def test_nan_is_not_the_same_as_infinity():
    a, b = MATRIX.copy(), MATRIX.copy()
    a[2, 3], b[2, 3] = math.nan, math.inf
    assert difference(change(a, b), "nonfinite").size == 1
    assert difference(change(a, a), "nonfinite").size == 0


def rounded_to_int8(matrix):
    """Row by row, as absmax quantization has it."""
    step = np.abs(matrix).max(axis=1, keepdims=True) / 127
    return np.round(matrix / step) * step


LARGE = np.random.default_rng(8).normal(size=(200, 300))
CHANGES = {
    "negated": -LARGE,
    "redrawn": np.random.default_rng(9).normal(size=LARGE.shape),
    "rounded to int8": rounded_to_int8(LARGE),
    "rows in another order": LARGE[::-1].copy(),
    "a rank-one edit": LARGE + np.outer(np.sin(np.arange(200)), np.cos(np.arange(300))),
    "one entry": LARGE + 3.0 * (np.arange(LARGE.size).reshape(LARGE.shape) == 777),
    "a tenth more": 1.1 * LARGE,
    "zeros": 0 * LARGE,
}


@pytest.mark.parametrize("what", CHANGES)
def test_the_change_of_a_matrix_is_estimated_with_its_direction(what):
    other = CHANGES[what]
    site = change(LARGE, other)
    exact = norm(other - LARGE) / norm(LARGE)
    assert site.weight.known == "estimated"
    assert site.weight.relative_change == pytest.approx(exact, rel=0.04)
    assert site.weight.standard_error == pytest.approx(0.01105 * site.weight.relative_change, rel=1e-3)
    assert site.weight.relative_change <= 1 + norm(other) / norm(LARGE) + 1e-12
    if what in ("negated", "redrawn"):  # of one scale, spectrum and distribution
        assert site.decided_by.label == "estimated relative change"


def test_bounds_that_are_certain_hold_for_estimates_too():
    assert change(LARGE, -LARGE).weight.relative_change == pytest.approx(2, rel=0.01)
    assert change(LARGE, 0 * LARGE).weight.relative_change == pytest.approx(1, rel=1e-9)
    for factor in (0.5, 0.9, 1.1, 1.3, 2.0, 3.0):
        assert change(LARGE, factor * LARGE).weight.relative_change >= abs(factor - 1) * (1 - 1e-6)


def test_equal_matrices_have_a_change_of_exactly_zero():
    for dtypes in ((torch.float64, torch.float64), (torch.float32, torch.float32)):
        weight = change(LARGE, LARGE, dtypes).weight
        assert (weight.relative_change, weight.standard_error, weight.known) == (0, 0, "estimated")
    as_bfloat16 = torch.tensor(LARGE).to(torch.bfloat16).double().numpy()
    assert change(as_bfloat16, as_bfloat16, (torch.float32, torch.bfloat16)).weight.relative_change == 0


def test_the_size_of_rounding_is_told_and_counts_as_no_effect():
    rounded = torch.tensor(LARGE).to(torch.bfloat16).double().numpy()
    site = change(LARGE, LARGE, (torch.float32, torch.bfloat16))
    assert site.weight.relative_change == pytest.approx(norm(rounded - LARGE) / norm(LARGE), rel=0.04)
    assert site.effect == 0


def test_a_sketch_of_one_run_alone_says_nothing():
    a, b = run_of(w=LARGE), without_sketches(run_of(w=-LARGE))
    (site,) = compare(a, b).sites
    assert (site.weight.known, site.weight.relative_change) == ("at least", pytest.approx(0.1, abs=0.1))
    assert site.decided_by is None or site.decided_by.label != "estimated relative change"


def test_how_a_change_is_known_is_in_the_document():
    found = compare(run_of(w=LARGE, v=VECTOR), run_of(w=-LARGE, v=2 * VECTOR))
    sites = {site["name"]: site for site in comparison_json(found)["sites"]}
    assert (sites["w"]["weight"]["known"], sites["v"]["weight"]["known"]) == ("estimated", "exact")
    assert sites["w"]["weight"]["standard_error"] == pytest.approx(0.0221, rel=0.02)
    assert sites["v"]["weight"]["standard_error"] == 0
    assert {item["key"]: item["known"] for item in sites["w"]["differences"]}["relative_change"] == "estimated"
