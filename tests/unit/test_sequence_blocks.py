"""What is kept by blocks of sequences and dim by dim, against the values themselves."""

from __future__ import annotations

import numpy as np
import pytest

from lmfacts.errors import UsageError
from lmfacts.run.site import SiteRecord
from lmfacts.run.state import SiteState
from lmfacts.stats.distribution import Distribution
from support import oracle

N_SEQUENCES, N_POSITIONS, N_DIMS = 19, 13, 6


class Recorded:
    """Values of 19 sequences with an outlier dim, and the record of them."""

    def __init__(self, dtype, *, detail=True):
        rng = np.random.default_rng(3)
        n = N_SEQUENCES * N_POSITIONS
        values = rng.normal(size=(n, N_DIMS)) * np.exp(rng.normal(size=N_SEQUENCES)).repeat(N_POSITIONS)[:, None]
        values[:, 4] += 300.0
        values[5, 1], values[40, 2] = np.nan, np.inf
        stored = oracle.store(values, dtype)
        self.values = oracle.widen(stored, dtype)
        self.sequence, self.position = np.divmod(np.arange(n), N_POSITIONS)
        self.token_id = np.arange(n) % 50
        places = {"sequence": self.sequence, "position": self.position, "token_id": self.token_id}
        state = oracle.site_state(stored, dtype=dtype, blocks=True, detail=detail, unit_sums=True, **places)
        self.record = SiteRecord(SiteState.from_native(state))

    def chosen(self, population):
        return {"all": self.position >= 0, "first": self.position == 0, "rest": self.position > 0}[population]


DTYPES = ["bfloat16", "float16", "float32", "float64"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("population", ["all", "first", "rest"])
def test_blocks_are_groups_of_sequences(dtype, population):
    recorded = Recorded(dtype)
    blocks = recorded.record.in_population(population).blocks
    finite = np.isfinite(recorded.values).all(axis=1)
    for block in range(8):
        tokens = recorded.chosen(population) & (recorded.sequence % 8 == block)
        assert blocks.n_tokens[block] == tokens.sum()
        x = recorded.values[tokens & finite]
        norms = np.linalg.norm(x, axis=1)
        centered = np.linalg.norm(x - x.mean(axis=1, keepdims=True), axis=1)
        for moments, expected in (
            (blocks.norms, norms),
            (blocks.log_norms, np.log(norms)),
            (blocks.log_centered_norms, np.log(centered)),
        ):
            assert moments.n[block] == expected.size
            np.testing.assert_allclose(moments.mean[block], expected.mean(), rtol=1e-12)
            np.testing.assert_allclose(moments.std[block], expected.std(), rtol=1e-9)


@pytest.mark.parametrize("dtype", DTYPES)
def test_leaving_a_block_out_leaves_the_other_sequences(dtype):
    recorded = Recorded(dtype)
    left = recorded.record.rest.blocks.leave_one_out()
    assert len(left) == 8
    for block, distribution in enumerate(left):
        x = recorded.values[recorded.chosen("rest") & (recorded.sequence % 8 != block)]
        x = x[np.isfinite(x)]
        assert distribution.n == x.size
        tolerance = 1e-12 if distribution.exact else 0.01
        np.testing.assert_allclose(distribution.std, x.std(), rtol=tolerance)
        np.testing.assert_allclose(distribution.quantile(0.5), np.median(x), rtol=0.05, atol=0.01)


def test_only_rest_has_distributions_of_blocks():
    record = Recorded("float32").record
    assert record.first.blocks.distributions is None
    assert record.first.blocks.leave_one_out() == []
    assert len(record.rest.blocks.distributions) == 8
    assert sum(part.n for part in record.rest.blocks.distributions) == record.rest.n


@pytest.mark.parametrize("population", ["all", "first", "rest"])
def test_the_maximum_of_each_sequence(population):
    recorded = Recorded("float32")
    maxima = recorded.record.in_population(population).sequence_maxima
    assert maxima["sequence"].tolist() == list(range(N_SEQUENCES))
    for found in maxima:
        rows = np.flatnonzero(recorded.chosen(population) & (recorded.sequence == found["sequence"]))
        x = np.where(np.isfinite(recorded.values[rows]), np.abs(recorded.values[rows]), -1.0)
        assert abs(found["value"]) == x.max()
        row, dim = np.unravel_index(np.argmax(x), x.shape)
        assert (found["position"], found["dim"]) == (recorded.position[rows[row]], dim)
        assert found["token_id"] == recorded.token_id[rows[row]]


def test_what_was_not_recorded_is_none():
    record = SiteRecord(SiteState.from_native(oracle.site_state(np.ones((4, 2), np.float32), dtype="float32")))
    assert record.blocks is None
    assert record.dim_histograms is None
    assert record.sequence_maxima.size == 0
    with pytest.raises(UsageError, match="were not counted separately"):
        record.rest.distribution_without([0])
    without_detail = Recorded("float32", detail=False).record
    assert without_detail.blocks is not None
    assert without_detail.rest.dim_histograms is None
    with pytest.raises(UsageError, match="population rest"):
        Recorded("float32").record.distribution_without([0])


@pytest.mark.parametrize("dtype", DTYPES)
def test_histograms_of_dims(dtype):
    recorded = Recorded(dtype)
    histograms = recorded.record.rest.dim_histograms
    edges = histograms.edges
    assert edges.size == 257
    assert np.all(np.diff(edges) > 0)
    for dim in range(N_DIMS):
        x = recorded.values[recorded.chosen("rest"), dim]
        x = x[np.isfinite(x)]
        # A bin has its edge of smaller magnitude: turn the negative half around to count it so.
        positive = np.histogram(x[x >= 0], edges[128:])[0]
        negative = np.histogram(-x[x < 0], -edges[128::-1])[0][::-1]
        assert histograms.by_value[dim].tolist() == [*negative, *positive]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_pool_without_its_outlier_dim_is_the_pool_of_the_others(dtype):
    recorded = Recorded(dtype)
    site = recorded.record.rest
    clean = site.distribution_without([4])
    values = recorded.values[recorded.chosen("rest")]
    kept = np.delete(values, 4, axis=1)
    kept = kept[np.isfinite(kept)]
    assert clean.n == kept.size
    assert clean.max < 100 < site.max
    np.testing.assert_allclose(clean.std, kept.std(), rtol=1e-12)
    q = [0.01, 0.5, 0.99]
    np.testing.assert_allclose(clean.quantile(q), np.quantile(kept, q), rtol=0.08, atol=0.01)
    everything = site.distribution_without([])
    np.testing.assert_array_equal(everything.counts, site.distribution.counts)
    left = site.leave_one_out_without([4])
    for block, distribution in enumerate(left):
        others = values[recorded.sequence[recorded.chosen("rest")] % 8 != block]
        others = np.delete(others, 4, axis=1)
        others = others[np.isfinite(others)]
        assert abs(distribution.n - others.size) <= 2
        assert distribution.max < 100
        np.testing.assert_allclose(distribution.std, others.std(), rtol=0.02)


def test_values_are_taken_out_in_proportion_where_dims_share_bins():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(4000, 5)).astype(np.float32)
    sequence, position = np.divmod(np.arange(4000), 20)
    state = oracle.site_state(values, dtype="float32", sequence=sequence, position=position, detail=True)
    site = SiteRecord(SiteState.from_native(state)).rest
    clean = site.distribution_without([1, 3])
    kept = values[np.arange(4000) % 20 > 0][:, [0, 2, 4]]
    assert clean.n == kept.size
    for q in (0.001, 0.1, 0.5, 0.9, 0.999):
        share = np.mean(kept <= clean.quantile(q))
        assert abs(share - q) < 0.01


def test_dims_that_the_site_lacks_are_refused():
    with pytest.raises(UsageError, match="dims 0 to 5"):
        Recorded("float32").record.rest.distribution_without([6])


@pytest.mark.parametrize(
    ("field", "spoil", "message"),
    [
        ("block_tokens", lambda a: a + np.uint64(1), "the blocks have"),
        ("block_counts", lambda a: a + np.uint64(1), "the blocks have"),
        ("block_lengths", lambda a: a[:4], "do not fit together"),
        ("dim_bins", lambda a: a[::-1], "do not ascend"),
        ("dim_bins", lambda a: a + np.uint32(6 * 256), "more than 6 dims"),
        ("maxima_index", lambda a: a[::-1], "do not ascend"),
        ("maxima_index", lambda a: a[:-1], "differ in length"),
    ],
)
def test_states_that_contradict_themselves_are_refused(field, spoil, message):
    state = Recorded("float32").record.state
    arrays = dict(state.arrays())
    arrays[f"rest/{field}"] = spoil(arrays[f"rest/{field}"])
    with pytest.raises(UsageError, match=message):
        SiteState.from_arrays(
            arrays,
            dtype="float32",
            n_dims=N_DIMS,
            k=64,
            threshold=6.0,
            statistics=state.statistics,
            n_tokens={"first": state.first.n_tokens, "rest": state.rest.n_tokens},
        )


def test_the_state_goes_through_the_native_form_unchanged():
    state = Recorded("float32").record.state
    again = SiteState.from_native(state.to_native())
    for (name, array), (other, twin) in zip(state.arrays(), again.arrays(), strict=True):
        assert name == other
        np.testing.assert_array_equal(array, twin)
    assert again.statistics == state.statistics


def test_a_histogram_alone_has_moments_within_its_cells():
    values = np.random.default_rng(1).normal(size=5000).astype(np.float32)
    codes, counts = np.unique((values.view(np.uint32) >> 16).astype(np.uint16), return_counts=True)
    alone = Distribution(codes, counts, "float32")
    np.testing.assert_allclose(alone.std, values.std(), rtol=2e-4)
