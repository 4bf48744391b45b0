"""Outlier dims by each criterion, and their persistence through depth."""

from __future__ import annotations

import numpy as np
import pytest

from lmfacts.analysis.outlier_dims import counted_layers, int8_features, persistence, persistence_of
from lmfacts.errors import SiteNotFoundError, UsageError
from lmfacts.quantities.outlier_criteria import rms_outlier_dims, three_sigma_outlier_dims, variance_outlier_dims
from lmfacts.run.site import SiteRecord
from lmfacts.run.state import SiteState
from support import oracle
from support.synthetic_runs import residual_run, tokens

N_DIMS = 96


def site_of(values, **options):
    places = tokens(4, values.shape[0] // 4)
    stored = oracle.store(values, "float32")
    return SiteRecord(SiteState.from_native(oracle.site_state(stored, dtype="float32", **places, **options)))


def gaussian(seed=0, n_dims=N_DIMS, n_tokens=128):
    return np.random.default_rng(seed).normal(size=(n_tokens, n_dims))


@pytest.mark.parametrize("criterion", [rms_outlier_dims, three_sigma_outlier_dims, variance_outlier_dims])
def test_planted_dims_are_found(criterion):
    values = gaussian()
    values[:, [7, 40]] *= 30
    assert criterion(site_of(values)).tolist() == [7, 40]
    assert criterion(site_of(values).rest).tolist() == [7, 40]


@pytest.mark.parametrize("criterion", [rms_outlier_dims, variance_outlier_dims])
def test_equal_dims_have_no_outliers(criterion):
    assert criterion(site_of(gaussian())).size == 0


def test_a_large_constant_dim_has_scale_but_no_variance():
    values = gaussian()
    values[:, 3] = 50.0
    assert rms_outlier_dims(site_of(values)).tolist() == [3]
    assert variance_outlier_dims(site_of(values)).size == 0


def test_a_single_value_shows_in_absmax_only():
    values = gaussian(n_tokens=400)
    values[5, 11] = 40.0
    assert three_sigma_outlier_dims(site_of(values), of="absmax").tolist() == [11]
    assert rms_outlier_dims(site_of(values)).size == 0


def test_the_factor_decides():
    values = gaussian()
    values[:, 3] *= 4
    assert rms_outlier_dims(site_of(values)).size == 0
    assert rms_outlier_dims(site_of(values), factor=3).tolist() == [3]
    assert variance_outlier_dims(site_of(values), factor=20).size == 0


@pytest.mark.parametrize("criterion", [rms_outlier_dims, three_sigma_outlier_dims, variance_outlier_dims])
def test_dims_without_values_and_sites_without_tokens(criterion):
    values = gaussian()
    values[:, 0] = np.nan
    values[:, 5] *= 50
    assert criterion(site_of(values)).tolist() == [5]
    assert criterion(site_of(np.empty((0, 4)))).size == 0


# Persistence


def planted(dims_of, *, scale=20.0, only_first=False):
    """A run in which `dims_of(layer)` are planted."""

    def values_of(layer, positions):
        values = np.random.default_rng(layer).normal(size=(positions.size, N_DIMS))
        dims = list(dims_of(layer))
        tokens_hit = positions == 0 if only_first else np.ones(positions.size, bool)
        values[np.ix_(tokens_hit, dims)] *= scale
        return values

    return residual_run(values_of, n_layers=12)


def test_fixed_dims_persist():
    found = persistence(planted(lambda _: (3, 50, 90)))
    assert found.layers == tuple(range(1, 11))
    assert found.dims().tolist() == [3, 50, 90]
    assert found.n_layers_outlying[[3, 50, 90]].tolist() == [10, 10, 10]
    assert found.n_layers_outlying.sum() == 30
    assert found.share.max() == 1.0
    assert found.jaccard.tolist() == [1.0] * 9


def test_fresh_dims_per_layer_do_not():
    found = persistence(planted(lambda layer: range(3 * layer, 3 * layer + 3)))
    assert found.dims().size == 0
    assert found.jaccard.tolist() == [0.0] * 9
    assert found.n_layers_outlying.max() == 1


def test_dims_in_half_of_the_layers_and_no_dims():
    half = persistence(planted(lambda layer: (5,) if layer % 2 else ()))
    assert half.share[5] == 0.5
    assert half.dims().size == 0
    assert half.dims(0.5).tolist() == [5]
    assert persistence(planted(lambda _: ())).dims(0.0).size == 0


def test_dims_that_are_large_at_position_0_only():
    run = planted(lambda _: (3,), only_first=True)
    assert persistence(run, population="first").dims().tolist() == [3]
    assert persistence(run, population="rest").dims().size == 0


def test_layers_can_be_chosen_and_aliases_count_as_sites():
    run = planted(lambda layer: (3,) if 0 < layer < 11 else ())
    assert persistence(run).share[3] == 1.0
    assert persistence(run, layers=range(12)).share[3] == 10 / 12
    aliased = persistence(run, kind="resid_pre", layers=range(1, 12))
    assert aliased.layers == tuple(range(1, 12))
    assert aliased.n_layers_outlying[3] == 10
    with pytest.raises(SiteNotFoundError):
        persistence(run, layers=[12])


@pytest.mark.parametrize(
    ("recorded", "n_layers", "counted"),
    [
        (range(12), 12, range(1, 11)),
        (range(12), None, range(1, 11)),
        (range(12), 3, range(1, 11)),  # a model has at least the layers that were recorded
        (range(6), 12, range(1, 6)),
        ([0, 4, 8, 11], 12, [4, 8]),
        ([11, 8, 4, 0], 12, [4, 8]),
        (range(4), 4, [1, 2]),
        (range(3), 3, [0, 1, 2]),
        (range(2), 2, [0, 1]),
        ([0, 5, 11], 12, [0, 5, 11]),
        ([7], 12, [7]),
        ([], 12, []),
    ],
)
def test_persistence_is_counted_between_the_first_and_the_last_layer(recorded, n_layers, counted):
    assert counted_layers(recorded, n_layers) == list(counted)


def test_persistence_of_nothing_and_of_unlike_widths():
    assert persistence_of({}).dims().size == 0
    assert persistence_of({}).jaccard.size == 0
    with pytest.raises(UsageError, match="one width"):
        persistence_of({0: site_of(gaussian(n_dims=3)), 1: site_of(gaussian(n_dims=4))})


# LLM.int8()


def with_hits(n_hits, value=7.0, dim=2, n_tokens=40, signs=1):
    """A site where one dim has `n_hits` values of magnitude `value`; the rest is small."""
    values = gaussian(n_tokens=n_tokens, n_dims=8) * 0.1
    values[:n_hits, dim] = value * np.where(np.arange(n_hits) % 2, signs, 1)
    return site_of(values)


def test_hits_are_counted_from_six_up():
    assert int8_features([[with_hits(1, 5.99)]]).n_layers_hit.sum() == 0
    assert int8_features([[with_hits(1, 6.0)]]).n_layers_hit.tolist() == [0, 0, 1, 0, 0, 0, 0, 0]


def test_shares_of_layers_and_positions():
    quiet = [with_hits(0)]
    layers = [[with_hits(16)], [with_hits(8)], [with_hits(4), with_hits(20)], *[quiet] * 7]
    found = int8_features(layers)
    assert found.layer_share[2] == pytest.approx(0.3)
    assert found.position_share[2] == pytest.approx((16 + 8 + 20) / 400)
    assert found.position_share_upper[2] == pytest.approx((16 + 8 + 24) / 400)
    assert found.dims().tolist() == [2]
    assert int8_features([[with_hits(40)], *[quiet] * 4]).dims().size == 0  # 20 % of the layers
    assert int8_features([[with_hits(2)], [with_hits(2)]]).dims().size == 0  # 5 % of the positions


def test_one_sidedness():
    assert int8_features([[with_hits(4)]]).one_sided.tolist() == [False, False, True] + [False] * 5
    assert not int8_features([[with_hits(4, signs=-1)]]).one_sided.any()
    assert int8_features([[with_hits(4, value=-9.0)]]).one_sided[2]


def test_sites_that_cannot_be_compared_are_refused():
    with pytest.raises(UsageError, match="one width"):
        int8_features([[with_hits(1)], [site_of(gaussian())]])
    with pytest.raises(UsageError, match="at least one site"):
        int8_features([[with_hits(1)], []])
    with pytest.raises(UsageError, match="threshold"):
        int8_features([[site_of(gaussian(), threshold=5.0)]])
