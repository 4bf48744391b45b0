"""Sums of dims by blocks of sequences, against the values themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lmfacts
from lmfacts._native import SiteAccumulator, TokenBatch
from lmfacts.run import load
from lmfacts.run.state import SiteState
from lmfacts.run.statistics.dim_blocks import DimBlockArrays, DimBlocks
from support.capture import capture_taps
from support.tiny import batch, build

N_SEQUENCES, N_POSITIONS, N_DIMS = 21, 13, 19


def places():
    return np.divmod(np.arange(N_SEQUENCES * N_POSITIONS), N_POSITIONS)


def tokens_of(sequence, position, real=None):
    real = np.ones(sequence.size, np.uint8) if real is None else real.astype(np.uint8)
    return TokenBatch(sequence.astype(np.int64), position.astype(np.int64), np.zeros(sequence.size, np.int64), real)


def expected_of(values, sequence):
    """Tokens of each block, and the sums of its finite tokens: [2, 8] and [3, 8, d]."""
    finite = np.isfinite(values).all(axis=1)
    counts, sums = np.zeros((2, 8)), np.zeros((3, 8, values.shape[1]))
    for block in range(8):
        x = values[finite & (sequence % 8 == block)]
        norms = np.sqrt((x**2).sum(axis=1))
        counts[:, block] = len(x), (norms > 0).sum()
        sums[:, block] = x.sum(axis=0), (x**2).sum(axis=0), (x[norms > 0] / norms[norms > 0, None]).sum(axis=0)
    return counts, sums


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_sums_of_any_cut_are_those_of_the_values(seed, dtype):
    rng = np.random.default_rng(seed)
    sequence, position = places()
    values = rng.normal(size=(sequence.size, N_DIMS)) * np.exp(rng.normal(size=N_DIMS))
    values[rng.random(sequence.size) < 0.1, 3] = np.nan
    values[rng.random(sequence.size) < 0.1, 4] = np.inf
    values[rng.random(sequence.size) < 0.1] = 0.0
    stored = torch.from_numpy(values).to(dtype)
    real = rng.random(sequence.size) < 0.9
    site, other = (SiteAccumulator(statistics=("dim_blocks",)) for _ in range(2))
    for index, part in enumerate(np.array_split(rng.permutation(sequence.size), 5)):
        into = site if index % 2 else other
        into.update(stored[part], tokens_of(sequence[part], position[part], real[part]))
    site.merge(other)
    state = SiteState.from_native(site.state())
    counted = real & (position > 0)
    counts, sums = expected_of(stored.double().numpy()[counted], sequence[counted])
    arrays = DimBlockArrays(state.rest)
    assert arrays.block_dim_tokens.tolist() == counts.tolist()
    np.testing.assert_allclose(arrays.block_dim_sums, sums, rtol=1e-12, atol=1e-11)
    assert not DimBlockArrays(state.first).block_dim_sums.any()
    assert SiteState.from_native(SiteAccumulator.from_state(state.to_native()).state()).to_native() == state.to_native()


def test_a_scan_keeps_them_along_the_residual_stream(tmp_path):
    model = build("gpt2")
    inputs = batch(model)
    with torch.no_grad(), lmfacts.attach(model, ["embed", "blocks.0.resid_post", "blocks.0.mlp_post"]) as recorder:
        model(**inputs)
    run = load(recorder.run().save(tmp_path / "a.lmfacts"))
    taps = [tap for tap in lmfacts.models.describe(model).taps if tap.site in run]
    seen = capture_taps(model, taps, inputs).values
    real = inputs["attention_mask"].numpy().astype(bool)
    sequence, column = np.indices(real.shape)
    first = real.argmax(axis=1)[:, None]
    counted = (real & (column > first)).reshape(-1)
    for site in ("embed", "blocks.0.resid_post"):
        assert run[site].dim_blocks is None
        assert run[site].first.dim_blocks is None
        blocks = run[site].rest.dim_blocks
        counts, sums = expected_of(seen[site].double().numpy()[counted], sequence.reshape(-1)[counted])
        assert [blocks.n.tolist(), blocks.n_directed.tolist()] == counts.tolist()
        np.testing.assert_allclose([blocks.sums, blocks.squares, blocks.units], sums, rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(
            blocks.squares.sum(axis=0) / blocks.n.sum(), run[site].rest.dims.rms ** 2, rtol=1e-12
        )
    assert run["blocks.0.mlp_post"].rest.dim_blocks is None


def test_blocks_can_be_left_out_and_joined():
    rng = np.random.default_rng(0)
    n = np.array([3, 0, 2, 1, 1, 1, 1, 1])
    values = [rng.normal(size=(count, 5)) for count in n]
    sums, squares = (np.stack([(x**power).sum(axis=0) for x in values]) for power in (1, 2))
    blocks = DimBlocks(n, n, sums, squares, sums)
    for left in range(8):
        others = np.concatenate([x for index, x in enumerate(values) if index != left])
        np.testing.assert_allclose(blocks.rms_left_out[left], np.sqrt((others**2).mean(axis=0)), rtol=1e-13)
    sets = np.array([[1, 0, 1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0, 0]])
    means, rms = blocks.moments_of(sets)
    joined = np.concatenate([values[0], values[2]])
    np.testing.assert_allclose(means[0], joined.mean(axis=0), rtol=1e-13)
    np.testing.assert_allclose(rms[0], np.sqrt((joined**2).mean(axis=0)), rtol=1e-13)
    assert np.isnan([means[1], rms[1]]).all()


def test_counts_that_contradict_each_other_are_told():
    sequence, position = places()
    site = SiteAccumulator(statistics=("dim_blocks",))
    site.update(torch.ones(sequence.size, 2), tokens_of(sequence, position))
    part = SiteState.from_native(site.state()).rest
    arrays = DimBlockArrays(part)
    assert arrays.problem(2) is None
    part.arrays["block_dim_tokens"] = np.array([[1] * 8, [2] + [1] * 7], np.uint64)
    assert arrays.problem(2) == f"block_dim_tokens do not fit {part.n_tokens} tokens"
    part.arrays["block_dim_tokens"] = np.full((2, 8), part.n_tokens, np.uint64)
    assert arrays.problem(2) == f"block_dim_tokens do not fit {part.n_tokens} tokens"


def test_runs_that_lack_them_say_so():
    old = load("tests/golden/run_files/activations_schema_1.lmfacts")["blocks.0.resid_post"]
    assert old.rest.dim_blocks is None
