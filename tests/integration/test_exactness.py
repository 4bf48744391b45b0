"""Every site of every family: what `attach` records is what plain torch hooks see, counted by NumPy."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch

import lmfacts
from lmfacts.models import describe
from support import oracle
from support.capture import capture_taps
from support.comparison import assert_matches_oracle
from support.tiny import TINY, batch, build

FAMILIES = sorted(TINY)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
SIDES = ("right", "left", "none")
QUANTILES = np.array([0.0, 0.001, 0.01, 0.25, 0.5, 0.75, 0.99, 0.999, 1.0])


class Seen:
    """One recorded forward pass, and the same pass seen by plain hooks."""

    def __init__(self, name, dtype, side):
        model = build(name, DTYPES[dtype])
        self.architecture = describe(model)
        self.inputs = batch(model, side)
        self.dtype = dtype
        self.values = capture_taps(model, self.architecture.taps, self.inputs).values
        sites = ["all", "logits"] if "logits" in self.architecture.sites else "all"
        with torch.no_grad(), lmfacts.attach(model, sites) as recorder:
            model(**self.inputs)
        self.recorder = recorder
        self.run = recorder.run()
        mask = self.inputs["attention_mask"].numpy().astype(bool)
        self.real = mask.reshape(-1)
        self.position = (np.cumsum(mask, axis=1) - 1).reshape(-1)
        self.sequence = np.repeat(np.arange(len(mask)), mask.shape[1])
        self.token_id = self.inputs["input_ids"].numpy().reshape(-1)

    def stored(self, site):
        tensor = self.values[site]
        assert str(tensor.dtype) == f"torch.{self.dtype}"
        return tensor.contiguous().view(torch.uint16).numpy() if self.dtype == "bfloat16" else tensor.numpy()


@functools.cache
def seen(name, dtype, side):
    return Seen(name, dtype, side)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FAMILIES)
def test_all_sites_are_recorded(name, dtype):
    for side in SIDES:
        one = seen(name, dtype, side)
        taps = [tap.site for tap in one.architecture.taps]
        assert list(one.run) == taps
        assert one.run.metadata["complete"]
        assert one.run.metadata["n_tokens"] == one.real.sum() == one.inputs["attention_mask"].sum()
        assert one.run.metadata["n_sequences"] == 3
        for site in taps:
            record = one.run[site]
            assert (record.first.n_tokens, record.rest.n_tokens) == (3, one.real.sum() - 3)
            assert (record.n_dims, record.dtype) == (one.values[site].shape[1], dtype)
            assert record.exact == (dtype == "bfloat16")
        for alias, owner in one.architecture.aliases.items():
            assert one.run[alias].state is one.run[owner].state


# Every family with every dtype; the sides of the padding take turns, so that each meets every family.
CASES = [
    (name, dtype, SIDES[(index + offset + turn) % 3])
    for index, name in enumerate(FAMILIES)
    for offset, dtype in enumerate(DTYPES)
    for turn in (0, 1)
]


@pytest.mark.parametrize(("name", "dtype", "side"), CASES)
def test_every_state_equals_the_oracle(name, dtype, side):
    one = seen(name, dtype, side)
    for site in one.values:
        try:
            assert_matches_oracle(
                one.recorder.site(site).state.to_native(),
                one.stored(site),
                dtype=dtype,
                real=one.real,
                sequence=one.sequence,
                position=one.position,
                token_id=one.token_id,
            )
        except AssertionError as error:
            error.add_note(f"at {site}")
            raise


def populations(one, site):
    """The wide values of each population of a site."""
    values = oracle.widen(one.stored(site), one.dtype)[one.real]
    is_first = one.position[one.real] == 0
    return {"all": values, "first": values[is_first], "rest": values[~is_first]}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FAMILIES)
def test_statistics_of_the_records_are_those_of_the_values(name, dtype):
    one = seen(name, dtype, "left")
    for site in one.values:
        for population, values in populations(one, site).items():
            record = getattr(one.run[site], population)
            expected = oracle.statistics(values)
            assert record.n == values.size
            assert (record.n_zero, record.n_nan, record.n_inf) == (expected.n_zero, 0, 0)
            assert (record.min, record.max) == (values.min(), values.max())
            scale = np.abs(values).mean()
            assert abs(record.mean - expected.mean) <= 1e-12 * scale
            assert record.std == pytest.approx(expected.std, rel=1e-12)
            assert record.skewness == pytest.approx(expected.skewness, rel=1e-10, abs=1e-10)
            assert record.excess_kurtosis == pytest.approx(expected.excess_kurtosis, rel=1e-10, abs=1e-10)

            exact = oracle.quantile(values, QUANTILES)
            low, high = record.quantile_bounds(QUANTILES)
            found = record.quantile(QUANTILES)
            if dtype == "bfloat16":
                np.testing.assert_array_equal(found, exact)
                np.testing.assert_array_equal(low, exact)
                np.testing.assert_array_equal(high, exact)
            else:
                assert (low <= exact).all()
                assert (exact <= high).all()
                np.testing.assert_allclose(found, exact, rtol=0.004)
                np.testing.assert_array_equal(found[[0, -1]], exact[[0, -1]])

            dims = record.dims
            np.testing.assert_allclose(dims.mean, values.mean(axis=0), atol=1e-12 * scale, rtol=1e-12)
            np.testing.assert_allclose(dims.std, values.std(axis=0), atol=1e-12 * scale, rtol=1e-11)
            np.testing.assert_array_equal(dims.min, values.min(axis=0))
            np.testing.assert_array_equal(dims.max, values.max(axis=0))
            np.testing.assert_array_equal(dims.n_at_least, (np.abs(values) >= 6).sum(axis=0))
            norms = np.sqrt((values**2).sum(axis=1))
            assert record.norms.n == len(norms)
            assert record.norms.mean == pytest.approx(norms.mean(), rel=1e-12)
            if record.unit_sums is not None:
                np.testing.assert_allclose(
                    record.unit_sums.sums, (values / norms[:, None]).sum(axis=0), rtol=1e-11, atol=1e-13
                )


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("name", FAMILIES)
def test_outliers_are_where_they_are_said_to_be(name, side):
    """In bfloat16, where many values are equal: the order of ties, and each place, read back from the tensor."""
    one = seen(name, "bfloat16", side)
    ids = one.inputs["input_ids"].numpy()
    mask = one.inputs["attention_mask"].numpy().astype(bool)
    columns = [np.flatnonzero(row) for row in mask]
    n_ties = 0
    for site in one.values:
        outliers = one.run[site].outliers
        values = oracle.widen(one.stored(site), "bfloat16").reshape(*mask.shape, -1)
        everything = sorted(
            (-abs(values[row, column, dim]), row, position, dim)
            for row in range(len(mask))
            for position, column in enumerate(columns[row])
            for dim in range(values.shape[-1])
        )[:64]
        found = list(
            zip(-np.abs(outliers["value"]), *(outliers[k] for k in ("sequence", "position", "dim")), strict=True)
        )
        assert found == everything
        n_ties += len(found) - len({entry[0] for entry in found})
        for value, row, position, dim, token_id in outliers:
            column = columns[row][position]
            assert values[row, column, dim] == value
            assert ids[row, column] == token_id
    assert n_ties > 100


def test_outliers_of_several_batches_carry_on_the_count_of_sequences():
    model = build("llama")
    both = [batch(model, side) for side in ("left", "right")]
    with torch.no_grad(), lmfacts.attach(model, "embed", k=5000) as recorder:
        for inputs in both:
            model(**inputs)
    outliers = recorder.run()["embed"].outliers
    assert set(outliers["sequence"]) == set(range(6))
    table = model.get_input_embeddings().weight.detach().numpy()
    np.testing.assert_array_equal(table[outliers["token_id"], outliers["dim"]], outliers["value"])
    for sequence in range(6):
        inputs = both[sequence // 3]
        row = inputs["input_ids"][sequence % 3][inputs["attention_mask"][sequence % 3].bool()].numpy()
        of_sequence = outliers[outliers["sequence"] == sequence]
        assert of_sequence.size == row.size * 32
        np.testing.assert_array_equal(row[of_sequence["position"]], of_sequence["token_id"])


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ["gpt2", "gpt_neox", "llama", "falcon", "gemma2"])
def test_padding_changes_nothing_that_is_counted(name, dtype):
    """The values under padding are not counted, whatever they are: other ids there leave no trace."""
    one = seen(name, dtype, "right")
    model = build(name, DTYPES[dtype])
    inputs = {key: value.clone() for key, value in one.inputs.items()}
    inputs["input_ids"][inputs["attention_mask"] == 0] = 7
    with torch.no_grad(), lmfacts.attach(model, "all") as recorder:
        model(**inputs)
    for site in recorder.site_names:
        ours, theirs = recorder.site(site).state.to_native(), one.recorder.site(site).state.to_native()
        assert ours == theirs
