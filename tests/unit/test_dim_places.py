"""The places of the dims' largest values, against the values themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lmfacts
from lmfacts._native import SiteAccumulator, TokenBatch
from lmfacts.run import Run, load
from lmfacts.run.record import Record
from lmfacts.run.state import SiteState
from lmfacts.run.statistics.dim_places import largest_of_dims
from support.capture import capture_taps
from support.synthetic_runs import gaussian_run
from support.tiny import batch, build


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


def test_runs_that_lack_them_say_so():
    run = gaussian_run(n_layers=1)
    assert isinstance(run, Run)
    record = run["blocks.0.resid_post"]
    assert isinstance(record, Record)
    assert (largest_of_dims(record) is None) == ("dim_places" not in record.state.statistics)
    old = load("tests/golden/run_files/activations_schema_1.lmfacts")["blocks.0.resid_post"]
    assert largest_of_dims(old) is None
