"""The distance of two tensors and the spectrum of their difference, against plain NumPy."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lmfacts.comparison import tensor_change
from lmfacts.comparison.tensor_change import difference_spectrum, distance_of
from lmfacts.stats.spectrum import SHUFFLE_MARGIN


def noise(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def low_rank(shape, rank, seed=1):
    return noise((shape[0], rank), seed) @ noise((rank, shape[1]), seed + 1)


@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.float16])
@pytest.mark.parametrize("shape", [(7,), (50, 30), (1, 9), (9, 1)])
def test_norms_are_those_of_the_values(dtype, shape, monkeypatch):
    a, b = (noise(shape, seed).astype(dtype) for seed in (3, 4))
    x, y = a.astype(np.float64), b.astype(np.float64)
    for block_bytes in (1, 1 << 8, 1 << 25):
        monkeypatch.setattr(tensor_change, "_BLOCK_BYTES", block_bytes)
        found = distance_of(a, b)
        assert found.norm_a == pytest.approx(np.linalg.norm(x), rel=1e-14)
        assert found.norm_b == pytest.approx(np.linalg.norm(y), rel=1e-14)
        assert found.difference == pytest.approx(np.linalg.norm(y - x), rel=1e-14)
        assert found.relative_change == pytest.approx(np.linalg.norm(y - x) / np.linalg.norm(x), rel=1e-14)
        assert found.cosine == pytest.approx((x * y).sum() / np.linalg.norm(x) / np.linalg.norm(y), rel=1e-12)
        place = np.unravel_index(np.abs(y - x).argmax(), shape)
        assert (found.largest, found.place) == (np.abs(y - x).max(), tuple(map(int, place)))
        assert found.n_nonfinite == (0, 0)


def test_a_matrix_and_its_turned_copy_are_the_same():
    a = noise((20, 33))
    found = distance_of(a, np.asfortranarray(a))
    assert (found.difference, found.largest, found.place, found.cosine) == (0, 0, None, pytest.approx(1))
    assert distance_of(a, -a).relative_change == pytest.approx(2, rel=1e-15)
    assert distance_of(a, -a).cosine == pytest.approx(-1)


def test_what_is_not_finite_is_left_out_and_counted():
    a, b = noise((6, 5)), noise((6, 5), 1)
    a[0, 0], b[0, 0], b[2, 3], a[4, 4] = np.nan, 1.0, np.inf, -np.inf
    kept = np.isfinite(a) & np.isfinite(b)
    found = distance_of(a, b)
    assert found.n_nonfinite == (2, 1)
    assert found.n_nonfinite_apart == 3
    assert found.difference == pytest.approx(np.linalg.norm((b - a)[kept]))
    assert found.norm_a == pytest.approx(np.linalg.norm(a[kept]))
    assert difference_spectrum(a, b).values[0] == pytest.approx(np.linalg.norm(np.where(kept, b - a, 0), 2))


@pytest.mark.parametrize("scale", [1e-300, 1e-170, 1e170, 1e300])
def test_values_near_the_ends_of_the_range(scale):
    a, b = noise((6, 5)), noise((6, 5), 1)
    found, expected = distance_of(scale * a, scale * b), distance_of(a, b)
    assert found.relative_change == pytest.approx(expected.relative_change, rel=1e-12)
    assert found.norm_a == pytest.approx(scale * expected.norm_a, rel=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_numbers_whose_difference_is_beyond_their_range(dtype):
    largest = float(np.finfo(dtype).max)
    a = np.full((6, 5), largest, dtype)
    a[2, 3] = np.nan
    found, spectrum = distance_of(a, -a), difference_spectrum(a, -a)
    assert found.relative_change == 2.0
    assert found.largest == 2.0 * largest  # infinite beyond float64
    turned = np.where(np.isnan(a), 0.0, np.sign(a))
    values = np.linalg.svd(2.0 * turned, compute_uv=False)
    assert spectrum.values[:2] == pytest.approx([float(value) * largest for value in values[:2]], rel=1e-6)
    assert spectrum.stable_rank == pytest.approx((values**2).sum() / values[0] ** 2)


def test_zero_matrices():
    zeros = np.zeros((4, 4))
    assert distance_of(zeros, zeros).relative_change == 0
    assert math.isnan(distance_of(zeros, zeros + 1).relative_change)
    assert math.isnan(distance_of(zeros, zeros + 1).cosine)
    spectrum = difference_spectrum(zeros, zeros)
    assert (spectrum.values, spectrum.rank) == ((), 0)


@pytest.mark.parametrize("shape", [(80, 120), (400, 300), (300, 1500)])
@pytest.mark.parametrize("rank", [1, 4])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_a_low_rank_edit_has_its_rank(shape, rank, dtype):
    a = noise(shape).astype(dtype)
    b = (a + 0.05 * low_rank(shape, rank)).astype(dtype)
    found = difference_spectrum(a, b)
    exact = np.linalg.svd(b.astype(np.float64) - a, compute_uv=False)
    assert found.rank == rank
    np.testing.assert_allclose(found.values[:rank], exact[:rank], rtol=1e-5)
    assert found.stable_rank == pytest.approx((exact**2).sum() / exact[0] ** 2, rel=1e-4)
    assert found.values[rank - 1] > found.shuffled_edge > exact[rank]


def test_rounding_of_all_else_hides_no_low_rank_edit():
    a = noise((300, 400)).astype(np.float16)
    b = (a.astype(np.float64) + 0.02 * low_rank(a.shape, 4)).astype(np.float16)
    assert difference_spectrum(a, b).rank == 4


@pytest.mark.parametrize("shape", [(80, 120), (400, 300)])
def test_noise_has_rank_zero(shape):
    a = noise(shape)
    found = difference_spectrum(a, a + 0.01 * noise(shape, 5))
    assert found.rank == 0
    assert len(found.values) == 16
    edge = 0.01 * (math.sqrt(shape[0]) + math.sqrt(shape[1]))
    assert found.shuffled_edge == pytest.approx(edge * (1 + SHUFFLE_MARGIN), rel=0.03)


def test_a_single_entry_has_no_rank_beyond_its_size():
    a = noise((40, 40))
    b = a.copy()
    b[3, 5] += 2.0
    found = difference_spectrum(a, b)
    assert found.rank == 0
    assert found.values[0] == pytest.approx(2.0)
    assert found.stable_rank == pytest.approx(1.0)


@pytest.mark.parametrize("rank", [15, 16, 17, 63, 70])
def test_ranks_about_as_many_as_are_looked_for_at_first(rank):
    shape = (400, 420)
    left, _ = np.linalg.qr(noise((shape[0], rank)))
    right, _ = np.linalg.qr(noise((shape[1], rank), 1))
    difference = left @ right.T
    found = difference_spectrum(np.zeros(shape), difference)
    # All singular values are 1, and those of the shuffled entries end at sqrt(rank) (1/sqrt m + 1/sqrt n) < 1.
    assert found.rank == rank
    assert len(found.values) == 16


def test_the_edge_decides(monkeypatch):
    a, b = np.zeros((30, 30)), low_rank((30, 30), 2)
    largest, second = np.linalg.svd(b, compute_uv=False)[:2]
    exponent = math.frexp(np.abs(b).max())[1]
    for edge, rank in ((0.999 * second, 2), (1.001 * second, 1), (1.001 * largest, 0)):
        monkeypatch.setattr(tensor_change, "shuffled_edge", lambda _, edge=edge: math.ldexp(edge, -exponent))
        assert difference_spectrum(a, b).rank == rank
