"""The places of the dims' largest values, against the values themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lmfacts
from lmfacts._native import SiteAccumulator, TokenBatch
from lmfacts.quantities.catalogue import QUANTITIES
from lmfacts.quantities.site_figures import SiteFigures
from lmfacts.render.terminal.console import to_text
from lmfacts.render.terminal.json_documents import site_json
from lmfacts.render.terminal.site_page import render_site
from lmfacts.run import Run, load
from lmfacts.run.record import Record
from lmfacts.run.state import SiteState
from lmfacts.run.statistics.dim_places import DimPlaceArrays, largest_of_dims
from support.accumulated_runs import accumulated_run
from support.capture import capture_taps
from support.synthetic_runs import gaussian_run
from support.tiny import batch, build

PARTS = ("", "_sequence", "_position", "_token_id")


def planted(sequence, position):
    """Three dims: one value stands out in each of the first two, and the third is zero."""
    values = np.zeros((position.size, 3))
    values[(sequence == 3) & (position == 8), 0] = 7.0
    values[(sequence == 5) & (position == 2), 1] = -9.0
    return values


def expected_of(values, sequences, positions, token_ids):
    """By sorting the values of each dim: value, sequence, position, token id; -1 for a dim without a finite one."""
    rows = []
    for column in values.T:
        finite = [i for i in range(len(column)) if np.isfinite(column[i])]
        if not finite:
            rows.append((0.0, -1, -1, -1))
            continue
        first = min(finite, key=lambda i: (-abs(column[i]), sequences[i], positions[i]))
        rows.append((column[first], sequences[first], positions[first], token_ids[first]))
    return [list(column) for column in zip(*rows, strict=True)]


@pytest.mark.parametrize("seed", range(6))
def test_ties_signs_and_values_that_are_not_finite(seed):
    rng = np.random.default_rng(seed)
    n_sequences, n_positions, n_dims = 7, 40, 9
    values = rng.integers(-3, 4, size=(n_sequences, n_positions, n_dims)).astype(np.float32)
    values[rng.random(values.shape) < 0.1] = np.nan
    values[rng.random(values.shape) < 0.1] = np.inf
    values[:, :, 3] = np.nan
    values[:, :, 4] = 0.0
    ids = rng.integers(0, 50, size=(n_sequences, n_positions))
    site = SiteAccumulator(statistics=("dim_places",))
    order = rng.permutation(n_sequences)
    for some in np.array_split(order, 3):
        sequence, position = np.meshgrid(some, np.arange(n_positions), indexing="ij")
        tokens = TokenBatch(
            sequence.ravel().astype(np.int64),
            position.ravel().astype(np.int64),
            ids[some].ravel(),
            np.ones(position.size, np.uint8),
        )
        site.update(torch.from_numpy(values[some]), tokens)
    state = SiteState.from_native(site.state())
    sequence, position = np.meshgrid(np.arange(n_sequences), np.arange(n_positions), indexing="ij")
    for part, chosen in ((state.first, position == 0), (state.rest, position > 0)):
        expected = expected_of(values[chosen].astype(np.float64), sequence[chosen], position[chosen], ids[chosen])
        assert [part.arrays["dim_largest"].tolist(), *part.arrays["dim_places"].tolist()] == expected
    assert SiteState.from_native(SiteAccumulator.from_state(state.to_native()).state()).to_native() == state.to_native()


def test_a_scan_keeps_them_for_both_populations(tmp_path):
    model = build("gpt2")
    inputs = batch(model)
    with torch.no_grad(), lmfacts.attach(model, ["embed", "blocks.0.mlp_post"]) as recorder:
        model(**inputs)
    run = load(recorder.run().save(tmp_path / "a.lmfacts"))
    taps = [tap for tap in lmfacts.models.describe(model).taps if tap.site in run]
    seen = capture_taps(model, taps, inputs).values
    real = inputs["attention_mask"].numpy().astype(bool).reshape(-1)
    ids = inputs["input_ids"].numpy().reshape(-1)[real]
    for site in run:
        largest = largest_of_dims(run[site])
        values = seen[site].double().numpy()[real]
        at = np.abs(values).argmax(axis=0)
        assert np.abs(largest.value).tolist() == np.abs(values).max(axis=0).tolist()
        assert largest.token_id.tolist() == ids[at].tolist()
        assert largest_of_dims(run[site].rest).position.min() > 0


def test_quantities_and_documents_have_them():
    run = accumulated_run(lambda _, sequence, position: planted(sequence, position), places=True)
    record = run["blocks.0.resid_post"].rest
    figures = SiteFigures(record)
    values = {name: QUANTITIES[f"dim_largest{name}"].compute(figures).tolist() for name in PARTS}
    assert values == {
        "": [7.0, -9.0, 0.0],
        "_sequence": [3.0, 5.0, 0.0],
        "_position": [8.0, 2.0, 1.0],
        "_token_id": [1.0] * 3,
    }
    largest = site_json(run["blocks.0.resid_post"], run)["populations"]["rest"]["dims"]["largest"]
    assert {f"_{name}".replace("_value", ""): list(map(float, of)) for name, of in largest.items()} == values
    assert "at the largest |x|" in to_text(render_site(run["blocks.0.resid_post"], run), 140)

    def hollow(_layer, sequence, position):
        values = planted(sequence, position)
        values[:, 2] = np.nan
        return values

    record = accumulated_run(hollow, places=True)["blocks.0.resid_post"].rest
    found = [QUANTITIES[f"dim_largest{name}"].compute(SiteFigures(record))[2] for name in PARTS]
    assert np.isnan(found).all()
    without = accumulated_run(hollow)
    assert all(QUANTITIES[f"dim_largest{name}"].compute(SiteFigures(without["embed"])) is None for name in PARTS)
    assert site_json(without["embed"], without)["populations"]["rest"]["dims"]["largest"] is None
    assert "at the largest |x|" not in to_text(render_site(without["embed"], without), 140)


def test_tokens_of_the_largest_dims_are_named():
    n_dims = 40
    magnitudes = np.random.default_rng(3).permutation(n_dims) + 1.0
    values = torch.zeros(1, n_dims + 1, n_dims)
    for dim, magnitude in enumerate(magnitudes):
        values[0, dim + 1, dim] = float(magnitude)
    site = SiteAccumulator(statistics=("dim_places",))
    positions = np.arange(n_dims + 1)
    site.update(values, TokenBatch(np.zeros_like(positions), positions, positions + 100, np.ones(n_dims + 1, np.uint8)))
    rest = SiteState.from_native(site.state()).rest
    named = DimPlaceArrays(rest).token_ids().tolist()
    assert sorted(named) == sorted(101 + dim for dim in range(n_dims) if magnitudes[dim] > n_dims - 32)


def test_runs_that_lack_them_say_so():
    run = gaussian_run(n_layers=1)
    assert isinstance(run, Run)
    record = run["blocks.0.resid_post"]
    assert isinstance(record, Record)
    assert (largest_of_dims(record) is None) == ("dim_places" not in record.state.statistics)
    old = load("tests/golden/run_files/activations_schema_1.lmfacts")["blocks.0.resid_post"]
    assert largest_of_dims(old) is None
