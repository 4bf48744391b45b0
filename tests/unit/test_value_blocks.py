"""Values with the largest of their block, against a count of the values themselves and against the formats."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import lmfacts
from lmfacts._native import SiteAccumulator, TokenBatch
from lmfacts.errors import UsageError
from lmfacts.quantities.catalogue import QUANTITIES
from lmfacts.quantities.site_figures import SiteFigures
from lmfacts.render.terminal.console import to_text
from lmfacts.render.terminal.json_documents import site_json
from lmfacts.render.terminal.site_page import render_site
from lmfacts.run import load
from lmfacts.run.site import SiteRecord
from lmfacts.run.state import SiteState
from lmfacts.run.statistics.value_blocks import VALUE_BLOCKS, value_blocks
from lmfacts.stats.block_formats import BlockHistogram, mxfp4_snr, nvfp4_snr, to_e2m1, to_e4m3
from support.tiny import batch, build

SIZES = (16, 32)
NAMES = ("blocks_of_16", "blocks_of_32")


def expected_counts(values, size):
    """Cell -> how often, value by value; of float32 values, [tokens, dims] as float64."""
    counts = {}
    for row in values:
        for start in range(0, len(row), size):
            block = np.abs(row[start : start + size])
            if not np.isfinite(block).all() or block.max() == 0:
                continue
            (mantissa,), (exponent,) = np.frexp([block.max()])
            octave = exponent - 1
            bin_of_largest = int(np.clip(octave + 20, 0, 39)) * 16 + int((2 * mantissa - 1) * 16)
            bin_of_largest = 0 if octave < -20 else 639 if octave > 19 else bin_of_largest
            at = int(block.argmax())
            for index, value in enumerate(block):
                (part,), (power,) = np.frexp([value])
                below = octave - (power - 1)
                column = 224
                if value > 0 and below < 5:
                    column = below * 32 + int((2 * part - 1) * 32)
                elif value > 0 and below < 21:
                    column = 160 + (below - 5) * 4 + int((2 * part - 1) * 4)
                eighth = int((2 * mantissa - 1) * 128) % 8
                cell = bin_of_largest * 233 + (225 + eighth if index == at else column)
                counts[cell] = counts.get(cell, 0) + 1
    return counts


def recorded(values, dtype=torch.float32):
    """The record of values [tokens, dims], in one sequence and some calls."""
    n = len(values)
    site = SiteAccumulator(statistics=NAMES)
    for part in np.array_split(np.arange(n), min(n, 3)):
        batch_of = TokenBatch(np.zeros(part.size, np.int64), part, part, np.ones(part.size, np.uint8))
        site.update(torch.from_numpy(np.ascontiguousarray(values[part])).to(dtype), batch_of)
    return SiteRecord(SiteState.from_native(site.state()))


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 70),
    st.integers(1, 12),
    st.integers(0, 2**32 - 1),
    st.sampled_from([torch.float32, torch.bfloat16, torch.float16]),
)
def test_counts_are_those_of_the_values(n_dims, n_tokens, seed, dtype):
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n_tokens, n_dims)) * np.exp2(rng.integers(-14, 14, size=(n_tokens, 1)))
    values[rng.random(values.shape) < 0.2] = 0.0
    values[rng.random(values.shape) < 0.1] *= 2.0**-6
    values[rng.random(values.shape) < 0.01] = np.nan
    values[rng.random(values.shape) < 0.01] = -np.inf
    record = recorded(values.astype(np.float32), dtype)
    stored = torch.from_numpy(values.astype(np.float32)).to(dtype).double().numpy()
    for size in SIZES:
        for part, chosen in ((record, slice(None)), (record.first, slice(0, 1)), (record.rest, slice(1, None))):
            assert counted(value_blocks(part, size)) == expected_counts(stored[chosen], size)


def test_magnitudes_beyond_the_bins_are_in_the_outer_ones():
    values = np.array([[1e-9] * 16, [3e7] * 16, [1.5 * 2.0**19] * 16, [2.0**-20] * 16], np.float32)
    histogram = value_blocks(recorded(values), 16)
    assert counted(histogram) == expected_counts(values.astype(np.float64), 16)
    assert set(np.divmod(histogram.cells, 233)[0].tolist()) == {0, 39 * 16 + 8, 639}


def counted(histogram):
    return dict(zip(histogram.cells.tolist(), histogram.counts.tolist(), strict=True))


# The formats


def test_e2m1_and_e4m3_are_rounded_to_as_they_are_defined():
    numbers = np.array([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0])
    assert to_e2m1(numbers).tolist() == numbers.tolist()
    ties = (numbers[1:] + numbers[:-1]) / 2
    assert to_e2m1(ties).tolist() == [0.0, 1.0, 1.0, 2.0, 2.0, 4.0, 4.0]
    assert to_e2m1(np.nextafter(ties, 9)).tolist() == numbers[1:].tolist()
    assert to_e2m1(np.nextafter(ties, 0)).tolist() == numbers[:-1].tolist()
    assert to_e2m1(np.array([100.0])).tolist() == [6.0]
    values = np.concatenate([np.exp(np.random.default_rng(0).uniform(-9, 6, size=2000)), [0.0, 448.0, 2.0**-10]])
    expected = torch.from_numpy(values).clamp(max=448.0).to(torch.float8_e4m3fn).double().numpy()
    assert to_e4m3(values).tolist() == expected.tolist()


def direct_snr(values, size):
    """Every value rounded, block by block: MXFP4 of blocks of 32, NVFP4 of blocks of 16."""
    of_tensor = np.abs(values).max() / (6 * 448)
    signal = noise = 0.0
    for start in range(0, values.shape[1], size):
        block = np.abs(values[:, start : start + size])
        largest = block.max(axis=1, keepdims=True)
        scale = np.exp2(np.floor(np.log2(largest)) - 2)
        if size == 16:
            scale = to_e4m3(largest / (6 * of_tensor)) * of_tensor
        signal += np.square(block).sum()
        quantized = to_e2m1(block / np.where(scale > 0, scale, np.inf)) * scale
        noise += np.square(block - quantized).sum()
    return 10 * np.log10(signal / noise)


@pytest.mark.parametrize(
    "draw",
    [
        lambda rng, shape: rng.normal(size=shape),
        lambda rng, shape: rng.laplace(size=shape),
        lambda rng, shape: rng.standard_t(3, size=shape),
        lambda rng, shape: rng.normal(size=shape) * np.exp(1.5 * rng.normal(size=shape[1])),
        lambda rng, shape: np.maximum(rng.normal(size=shape), 1e-6) * 1e3,
        lambda rng, shape: np.where(np.arange(np.prod(shape)).reshape(shape) == 77, 2966.5, rng.normal(size=shape)),
    ],
    ids=["gaussian", "laplace", "student", "outlier dims", "relu", "one massive value"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_predicted_is_what_rounding_gives(draw, dtype):
    values = torch.from_numpy(draw(np.random.default_rng(1), (600, 200)).astype(np.float32)).to(dtype)
    record = recorded(values.float().numpy(), dtype)
    exact = values.double().numpy()
    assert mxfp4_snr(value_blocks(record, 32)) == pytest.approx(direct_snr(exact, 32), abs=0.05)
    assert nvfp4_snr(value_blocks(record, 16)) == pytest.approx(direct_snr(exact, 16), abs=0.05)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("massive", np.random.default_rng(3).uniform(1500, 6000, size=(5, 3)).tolist())
def test_a_few_massive_values_are_taken_as_they_are(massive, dtype):
    """They are most of the signal, and where one lies in its bin is most of the error."""
    values = np.random.default_rng(1).normal(size=(100, 192)).astype(np.float32)
    values[[0, 3, 70], [5, 77, 160]] = massive
    values = torch.from_numpy(values).to(dtype)
    exact = values.double().numpy()
    record = recorded(values.float().numpy(), dtype)
    assert mxfp4_snr(value_blocks(record, 32)) == pytest.approx(direct_snr(exact, 32), abs=0.05)
    assert nvfp4_snr(value_blocks(record, 16)) == pytest.approx(direct_snr(exact, 16), abs=0.05)


@pytest.mark.parametrize(
    ("scale", "is_known"), [(1e-9, False), (1e-7, False), (1e-4, True), (1.0, True), (1e5, True), (1e6, False)]
)
def test_beyond_the_bins_nothing_is_said(scale, is_known):
    values = (scale * np.random.default_rng(0).normal(size=(200, 64))).astype(np.float32)
    record = recorded(values)
    for size, snr in ((32, mxfp4_snr), (16, nvfp4_snr)):
        found = snr(value_blocks(record, size))
        assert np.isfinite(found) == is_known
        if is_known:
            assert found == pytest.approx(direct_snr(values.astype(np.float64), size), abs=0.1)


def test_of_a_block_only_the_largest_is_known():
    values = np.random.default_rng(0).normal(size=(50, 64)).astype(np.float32)
    values[7, [3, 14, 20]] = 90.0, -100.0, 80.0  # the first two in one block of 16, all three in one of 32
    record = recorded(values)
    assert (value_blocks(record, 16).known[:2] == [100.0, 80.0]).all()
    assert value_blocks(record, 32).known[0] == 100.0
    for size in SIZES:
        known = value_blocks(record, size).known
        of_blocks = np.sort(np.abs(values).reshape(50, -1, size).max(axis=2).ravel())[::-1]
        assert (known == of_blocks[: known.size]).all()


def test_values_that_are_not_finite_leave_no_value_known():
    values = np.random.default_rng(0).normal(size=(50, 64)).astype(np.float32)
    values[7, 9] = np.nan
    assert value_blocks(recorded(values), 16).known.size == 0


def histogram_of(cells, counts, largest, known=()):
    return BlockHistogram(np.array(cells, int), np.array(counts, int), largest, np.array(known, float), "float32")


def test_what_has_no_ratio():
    for snr in (mxfp4_snr, nvfp4_snr):
        assert np.isnan(snr(histogram_of([], [], 1.0)))
        assert np.isnan(snr(histogram_of([], [], 1.0, [1.0])))
        assert np.isnan([snr(histogram_of([320 * 233 + 225], [5], largest)) for largest in (0.0, np.nan, np.inf)]).all()
    # A block that is nothing beside the tensor's largest: all noise.
    assert nvfp4_snr(histogram_of([320 * 233 + 225], [5], 5e5)) == 0.0
    # Values that the histogram does not hold are not taken.
    alone = histogram_of([320 * 233 + 225], [1], 1.0)
    for known in ([1.5], [1.0, 1.0]):
        assert mxfp4_snr(histogram_of([320 * 233 + 225], [1], 1.0, known)) == mxfp4_snr(alone)


# Recording


def test_they_are_recorded_where_it_is_asked_for(tmp_path):
    model = build("llama")
    sites = ["blocks.0.resid_post", "blocks.0.ln1_out", "blocks.1.mlp_post", "model.layers.0.self_attn.q_proj:out"]
    with torch.no_grad(), lmfacts.attach(model, sites, blocks_of=(32,)) as recorder:
        model(**batch(model))
    run = load(recorder.run().save(tmp_path / "a.lmfacts"))
    assert run.info.settings["blocks_of"] == [32]
    kept = {site: [name for name in NAMES if name in run[site].state.statistics] for site in run}
    assert [bool(names) for names in kept.values()] == [site.endswith(("ln1_out", "mlp_post")) for site in kept]
    assert kept["blocks.1.mlp_post"] == ["blocks_of_32"]
    site = run["blocks.1.mlp_post"]
    assert value_blocks(site, 16) is None
    assert value_blocks(site, 32).counts.sum() == site.n
    figures = SiteFigures(site.rest)
    assert QUANTITIES["mxfp4_snr"].compute(figures) > 10
    assert QUANTITIES["nvfp4_snr"].compute(figures) is None
    document = site_json(site, run)["populations"]["rest"]
    assert document["snr"] == {"mxfp4_snr": QUANTITIES["mxfp4_snr"].compute(figures)}
    page = to_text(render_site(site, run), 120)
    assert "MXFP4, signal to noise" in page
    assert "NVFP4" not in page
    other = run["blocks.0.resid_post"]
    assert "snr" not in site_json(other, run)["populations"]["rest"]
    assert "signal to noise" not in to_text(render_site(other, run), 120)


def test_without_being_asked_nothing_is_recorded():
    model = build("llama")
    with torch.no_grad(), lmfacts.attach(model) as recorder:
        model(**batch(model))
    run = recorder.run()
    assert not any(name in run[site].state.statistics for site in run for name in NAMES)
    assert "blocks_of" not in run.info.settings


def test_sizes_and_sites_that_cannot_be_are_refused(tmp_path):
    model = build("llama")
    with pytest.raises(UsageError, match=r"expected blocks of 16 or 32 values, or both, got 24"):
        lmfacts.attach(model, blocks_of=(16, 24))
    for asked, told in (
        (16, "got 16"),
        ("16,32", "got '16,32'"),
        (None, "got None"),
        ((16.0,), r"got 16\.0"),
        ((True,), "got True"),
    ):
        with pytest.raises(UsageError, match=told):
            lmfacts.attach(model, blocks_of=asked)
    for asked in (np.array([32, 16, 16]), iter([32, 16])):
        assert lmfacts.attach(model, blocks_of=asked).settings["blocks_of"] == [16, 32]
    with pytest.raises(UsageError, match=r"expected sites that are inputs of matrices"):
        lmfacts.attach(model, "resid", blocks_of=(16,))
    with pytest.raises(UsageError, match=r"got 64"):
        lmfacts.scan("no such model", blocks_of=(64,), out=tmp_path / "a.lmfacts")  # before anything is loaded


@pytest.mark.parametrize("size", SIZES)
def test_cells_that_cannot_be_are_told(size):
    part = recorded(np.ones((4, 40), np.float32)).state.rest
    statistic = VALUE_BLOCKS[size]
    cells, counts = statistic.arrays
    assert statistic(part).problem(40) is None
    kept = dict(part.arrays)
    for name, spoiled, problem in (
        (cells, np.array([640 * 233] * kept[cells].size, np.uint32), "do not ascend"),
        (cells, np.arange(640 * 233 - kept[cells].size + 1, 640 * 233 + 1, dtype=np.uint32), "hold more than"),
        (cells, kept[cells][:0], "do not ascend"),
        (counts, kept[counts] * 1000, "hold more than"),
    ):
        part.arrays[name] = spoiled
        assert problem in statistic(part).problem(40)
        part.arrays[name] = kept[name]


def test_a_state_comes_back_and_is_added_to():
    rng = np.random.default_rng(0)
    record = recorded(rng.normal(size=(50, 48)).astype(np.float32))
    restored = SiteAccumulator.from_state(record.state.to_native())
    assert SiteState.from_native(restored.state()).to_native() == record.state.to_native()
    restored.merge(SiteAccumulator.from_state(record.state.to_native()))
    twice = SiteRecord(SiteState.from_native(restored.state()))
    for size in SIZES:
        assert (value_blocks(twice, size).counts == 2 * value_blocks(record, size).counts).all()
