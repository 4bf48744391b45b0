"""Comparing runs of weights: known changes, bounds on the distance of matrices, which weights belong together."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from lmfacts.comparison import compare
from lmfacts.comparison.weight_change import change_of_weight
from lmfacts.errors import MismatchedRunsError, UsageError
from lmfacts.report.comparison_json import comparison_json
from lmfacts.run import Run
from lmfacts.weights import scan_weights
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
    assert site.weight.relative_change == pytest.approx(0.1, rel=1e-6)  # the bound is met
    assert not site.weight.exact
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
    found = change(MATRIX, other).weight.relative_change
    assert 0 < found <= norm(other - MATRIX) / norm(MATRIX) * (1 + 1e-9)
    if seed % 2 == 0 and scale > 1:
        assert found > 0.5 * norm(other - MATRIX) / norm(MATRIX)


def test_a_constant_that_is_added_shows_in_the_means():
    found = change(MATRIX, MATRIX + 0.5).weight.relative_change
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
    assert found.relative_change == pytest.approx(1.0, rel=1e-5)


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
