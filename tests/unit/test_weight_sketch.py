"""Count sketches of matrices: unbiased, as precise as they say whatever the difference looks like, blind to storage."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lmfacts import _native
from lmfacts.run.state import array_of_native
from lmfacts.stats.count_sketch import N_BUCKETS, STANDARD_ERROR, sketched_distance

N_ROWS, N_COLUMNS = 64, 320
N_DRAWS = 64


def sketch(matrix, *, transposed=False, dtype=None):
    measured = _native.measure_matrix(matrix, matrix.shape[0], dtype=dtype, transposed=transposed, k=1)
    return array_of_native(measured["sketch"])


def bits_of_bfloat16(matrix):
    return (np.asarray(matrix, np.float32).view(np.uint32) >> np.uint32(16)).astype(np.uint16)


def dense(rng):
    return rng.normal(size=(N_ROWS, N_COLUMNS))


def low_rank(rng):
    return rng.normal(size=(N_ROWS, 4)) @ rng.normal(size=(4, N_COLUMNS))


def rank_one_of_signs(rng):
    return np.outer(rng.choice([-1.0, 1.0], N_ROWS), rng.choice([-1.0, 1.0], N_COLUMNS))


def single_row(rng):
    matrix = np.zeros((N_ROWS, N_COLUMNS))
    matrix[rng.integers(N_ROWS)] = rng.normal(size=N_COLUMNS)
    return matrix


def single_column(rng):
    matrix = np.zeros((N_ROWS, N_COLUMNS))
    matrix[:, rng.integers(N_COLUMNS)] = rng.normal(size=N_ROWS)
    return matrix


def all_equal(_rng):
    return np.full((N_ROWS, N_COLUMNS), 0.37)


def one_head(rng):
    matrix = np.zeros((N_ROWS, N_COLUMNS))
    first = 16 * rng.integers(N_ROWS // 16)
    matrix[first : first + 16] = rng.normal(size=(16, N_COLUMNS))
    return matrix


def one_block(rng):
    matrix = np.zeros((N_ROWS, N_COLUMNS))
    row, column = 16 * rng.integers(N_ROWS // 16), 16 * rng.integers(N_COLUMNS // 16)
    matrix[row : row + 16, column : column + 16] = 1.0
    return matrix


def every_sixteenth_column(rng):
    matrix = np.zeros((N_ROWS, N_COLUMNS))
    matrix[:, rng.integers(16) :: 16] = rng.normal(size=(N_ROWS, 1))
    return matrix


def diagonal(rng):
    matrix = np.zeros((N_ROWS, N_COLUMNS))
    places = np.arange(N_ROWS)
    matrix[places, places + rng.integers(N_COLUMNS - N_ROWS)] = 1.0
    return matrix


def heavy_tails(rng):
    return rng.standard_t(2, size=(N_ROWS, N_COLUMNS))


DIFFERENCES = [
    dense,
    low_rank,
    rank_one_of_signs,
    single_row,
    single_column,
    all_equal,
    one_head,
    one_block,
    every_sixteenth_column,
    diagonal,
    heavy_tails,
]


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda kind: kind.__name__)
def test_norms_are_right_on_average_and_to_one_percent(difference):
    rng = np.random.default_rng(1)
    ratios = []
    for draw in range(N_DRAWS):
        matrix = difference(rng)
        whole = np.zeros((N_DRAWS * N_ROWS, N_COLUMNS), np.float32)  # other rows each time, and so other hashes
        whole[draw * N_ROWS : (draw + 1) * N_ROWS] = matrix
        ratios.append(np.linalg.norm(sketch(whole)) / np.linalg.norm(matrix))
    squares = np.square(ratios)
    allowed = 2 * STANDARD_ERROR  # of a square
    assert abs(squares.mean() - 1) < 4.5 * allowed / math.sqrt(N_DRAWS)
    assert np.sqrt(np.mean((squares - 1) ** 2)) < 1.4 * allowed  # of 64 draws a deviation has a standard error of 9 %


def test_the_standard_error_is_that_of_the_estimates():
    rng = np.random.default_rng(2)
    ratios = [np.linalg.norm(sketch(matrix)) / np.linalg.norm(matrix) for matrix in (dense(rng) for _ in range(400))]
    assert pytest.approx(0.01105, rel=1e-3) == STANDARD_ERROR
    assert np.std(ratios) == pytest.approx(STANDARD_ERROR, rel=0.15)


def test_a_single_entry_is_exact():
    for row, column in ((0, 0), (5, 319), (31, 17)):
        matrix = np.zeros((N_ROWS, N_COLUMNS))
        matrix[row, column] = -0.3
        assert sketched_distance(sketch(np.zeros_like(matrix)), sketch(matrix)) == pytest.approx(0.3, rel=1e-15)


def test_the_known_exception_is_no_worse_than_told():
    rng = np.random.default_rng(3)
    ratios = []
    for _ in range(300):
        matrix = np.zeros((N_ROWS, 16 * N_COLUMNS))
        matrix[rng.integers(N_ROWS), rng.integers(16) :: 16] = 1.0
        ratios.append(np.linalg.norm(sketch(matrix)) / np.linalg.norm(matrix))
    assert 0.03 < np.sqrt(np.mean((np.square(ratios) - 1) ** 2)) / 2 < 0.055


def test_a_sketch_does_not_depend_on_storage():
    rng = np.random.default_rng(4)
    bits = bits_of_bfloat16(dense(rng))
    values = (bits.astype(np.uint32) << 16).view(np.float32)
    expected = sketch(values)
    assert expected.shape == (N_BUCKETS,)
    fused = np.ascontiguousarray(np.concatenate([values, 3 * values]).T)
    others = {
        "another dtype": sketch(bits, dtype="bfloat16"),
        "float64": sketch(values.astype(np.float64)),
        "transposed": sketch(np.ascontiguousarray(values.T), transposed=True),
        "transposed, in another dtype": sketch(np.ascontiguousarray(bits.T), dtype="bfloat16", transposed=True),
        "a part of a fused tensor": sketch(fused[:, :N_ROWS], transposed=True),
        "with strides": sketch(np.asfortranarray(values)),
        "in groups": sketch(values.reshape(4, N_ROWS // 4, N_COLUMNS).astype(np.float64).reshape(N_ROWS, N_COLUMNS)),
    }
    for how, other in others.items():
        assert np.abs(other - expected).max() < 1e-12, how
        assert sketched_distance(expected, other) == 0, how
    assert (sketch(values) == expected).all()


def test_the_least_difference_that_float32_can_have_is_seen():
    rng = np.random.default_rng(5)
    matrix = dense(rng).astype(np.float32)
    other = matrix.copy()
    other[3, 7] = np.nextafter(matrix[3, 7], np.float32(np.inf))
    expected = float(np.float64(other[3, 7]) - np.float64(matrix[3, 7]))
    assert sketched_distance(sketch(matrix), sketch(other)) == pytest.approx(expected, rel=1e-3)


def test_less_than_the_order_of_sums_can_do_is_nothing():
    one = np.full(N_BUCKETS, 3.0)
    norm = float(np.linalg.norm(one))
    for share, is_seen in ((0.9e-13, False), (1.1e-13, True)):
        other = one.copy()
        other[5] += share * norm
        assert (sketched_distance(one, other) > 0) is is_seen, share
    nothing = np.zeros(N_BUCKETS)
    assert sketched_distance(nothing, nothing) == 0
    assert sketched_distance(nothing, 1e-300 * one) == pytest.approx(1e-300 * norm)
    assert sketched_distance(1e300 * one, -1e300 * one) == pytest.approx(2e300 * norm)
