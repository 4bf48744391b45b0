"""Single rows and columns of matrices, against their moments by NumPy."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

import lmfacts
from lmfacts.run.slices import Slices
from lmfacts.run.weight_arrays import weight_arrays_problem
from support import oracle
from support.checkpoints import scanned


def plain_moments(values):
    """Number of finite values, third and fourth standardized moment."""
    finite = values[np.isfinite(values)]
    z = (finite - finite.mean()) / finite.std()
    return [finite.size, (z**3).mean(), (z**4).mean()]


def slice_moments(values, dtype, name, lengths=()):
    slices = Slices(lengths)
    slices.add(name, values, dtype)
    return slices.moments()[name]


def drawn(name, n_rows, n_columns):
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    rows = rng.choice(n_rows, min(n_rows, 4), replace=False, shuffle=False)
    first = int(rng.integers(n_columns - min(n_columns, 4) + 1))
    return [rows, np.arange(first, first + min(n_columns, 4))]


@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16", "float16"])
def test_they_are_the_moments_of_some_rows_and_columns(dtype):
    values = np.random.default_rng(0).gamma(2.0, size=(50, 70)) * 1e-3
    stored = oracle.store(values, dtype)
    wide = oracle.widen(stored, dtype)
    rows, columns = drawn("blocks.0.W_O", 50, 70)
    expected = [plain_moments(wide[row]) for row in rows] + [plain_moments(wide[:, column]) for column in columns]
    np.testing.assert_allclose(slice_moments(stored, dtype, "blocks.0.W_O"), expected, rtol=1e-9)
    assert len(set(rows)) == len(set(columns)) == 4


def test_leading_axes_are_rows():
    values = np.random.default_rng(1).standard_normal((3, 5, 40))
    found = slice_moments(values, "float64", "w")
    np.testing.assert_array_equal(found, slice_moments(values.reshape(15, 40), "float64", "w"))
    np.testing.assert_array_equal(
        found, slice_moments(np.moveaxis(np.moveaxis(values, 0, 1).copy(), 0, 1), "float64", "w")
    )


def test_which_are_drawn_depends_on_the_name_alone():
    values = np.random.default_rng(2).standard_normal((60, 60))
    one = slice_moments(values, "float64", "blocks.0.W_Q")
    np.testing.assert_array_equal(one, slice_moments(values, "float64", "blocks.0.W_Q"))
    assert (one != slice_moments(values, "float64", "blocks.0.W_K")).any()


def test_many_matrices_are_measured_as_each_is_alone(monkeypatch):
    monkeypatch.setattr("lmfacts.run.slices._MOST_WAITING", 3000)
    rng = np.random.default_rng(7)
    slices, matrices = Slices(), {}
    for index in range(40):
        shape = [(30, 60), (60, 30), (2, 60)][index % 3]
        dtype = ["float32", "float64"][index % 2]
        matrices[f"w{index}"] = oracle.store(rng.gamma(1.0, size=shape), dtype), dtype
        slices.add(f"w{index}", *matrices[f"w{index}"])
    found = slices.moments()
    assert list(found) == list(matrices)
    for name, (values, dtype) in matrices.items():
        np.testing.assert_allclose(found[name], slice_moments(values, dtype, name), rtol=1e-12)


@pytest.mark.parametrize(
    ("lengths", "expected"),
    [([], {60, 30}), ([30, 60], {60, 30}), ([60], {60}), ([30, 7], {30}), ([40], {60, 30})],
)
def test_the_sides_are_those_that_are_as_long_as_what_they_are_compared_with(lengths, expected):
    found = slice_moments(np.random.default_rng(8).standard_normal((30, 60)), "float64", "w", lengths)
    assert set(found[:, 0].astype(int)) == expected


def test_small_matrices_give_all_their_rows_and_columns():
    assert slice_moments(np.eye(3)[:, :2], "float64", "w")[:, 0].tolist() == [2, 2, 2, 3, 3]


@pytest.mark.parametrize("scale", [1e-160, 1.0, 1e150])
def test_no_power_overflows(scale):
    values = np.random.default_rng(3).standard_normal((20, 300))
    np.testing.assert_allclose(
        slice_moments(values * scale, "float64", "w"), slice_moments(values, "float64", "w"), rtol=1e-9
    )


def test_what_is_not_finite_is_left_out_and_what_is_constant_has_no_shape():
    values = np.random.default_rng(4).standard_normal((4, 200))
    values[0, 5], values[0, 6], values[2] = np.nan, np.inf, 0.3
    values[3] = np.nan
    found = slice_moments(values, "float64", "w")[:4]
    rows = drawn("w", 4, 200)[0].tolist()
    np.testing.assert_allclose(found[rows.index(0)], plain_moments(values[0]), rtol=1e-9)
    assert found[rows.index(0), 0] == 198
    assert found[rows.index(2), 0] == 200
    assert found[rows.index(3), 0] == 0
    assert np.isnan(found[[rows.index(2), rows.index(3)], 1:]).all()


def test_a_run_keeps_those_of_matrices_in_blocks(tmp_path):
    matrix = np.random.default_rng(5).standard_normal((40, 30)).astype(np.float32)
    run = scanned(tmp_path, {"blocks.0.W_O": matrix, "blocks.0.ln1.gain": matrix[0], "embed.W_E": matrix}, spectra=0)
    np.testing.assert_allclose(run["blocks.0.W_O"].slices, slice_moments(matrix, "float32", "blocks.0.W_O"))
    assert run["embed.W_E"].slices.shape == run["blocks.0.ln1.gain"].slices.shape == (0, 3)
    run.save(tmp_path / "w.lmfacts")
    again = lmfacts.load(tmp_path / "w.lmfacts")
    np.testing.assert_array_equal(again["blocks.0.W_O"].slices, run["blocks.0.W_O"].slices)


@pytest.mark.parametrize(
    ("slices", "problem"),
    [
        ([], None),
        ([40, 0.1, 3.0], None),
        ([40, np.nan, np.nan], None),
        ([40, 1.0, 2.0], None),
        ([40, 1.0, 1.9], "slices have moments that no values have"),
        ([40, 0.0, 39.9], None),
        ([40, 0.0, 40.1], "slices have moments that no values have"),
        ([40, np.inf, np.inf], "slices have moments that no values have"),
        ([40, 0.0, np.inf, 40, np.nan, 3.0], "slices have moments that no values have"),
        ([40, 0.1], "slices has 2 entries, expected up to 24 of a matrix, 3 a slice"),
        ([40, 0.1, 3.0] * 9, "slices has 27 entries, expected up to 24 of a matrix, 3 a slice"),
        ([1201, 0.1, 3.0], "slices do not begin with their numbers of values"),
        ([-1, 0.1, 3.0], "slices do not begin with their numbers of values"),
        ([1.5, 0.1, 3.0], "slices do not begin with their numbers of values"),
        ([np.nan, 0.1, 3.0], "slices do not begin with their numbers of values"),
    ],
)
def test_what_a_file_says_is_checked(tmp_path, slices, problem):
    matrix = np.random.default_rng(6).standard_normal((40, 30))
    run = scanned(tmp_path, {"blocks.0.W_O": matrix}, spectra=0)
    arrays = {**run.extra_arrays, "blocks.0.W_O/slices": np.array(slices, dtype=np.float64)}
    assert weight_arrays_problem(run.metadata["sites"][0], arrays) == problem
