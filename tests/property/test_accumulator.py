"""The native accumulator against NumPy in float64, on whatever values, layouts, cuts and orders hypothesis finds."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lmfacts import _native
from support import oracle
from support.comparison import arrays_of, assert_matches_oracle, assert_same_exact_parts, assert_same_states

DTYPES = ["float64", "float32", "float16", "bfloat16"]
TORCH = {name: getattr(torch, name) for name in DTYPES}

# Largest magnitudes whose fourth powers, summed, stay finite; the rest of a dtype's range is tested on its own below.
LARGE = {"float64": 1e60, "float32": 2.0**127, "float16": 65504.0, "bfloat16": 2.0**127}


@pytest.fixture(autouse=True, scope="module")
def threads():
    yield
    _native.set_num_threads(torch.get_num_threads())


def to_torch(stored, dtype):
    """The tensor that stores these values."""
    array = np.ascontiguousarray(stored)
    return torch.from_numpy(array).view(torch.bfloat16) if dtype == "bfloat16" else torch.from_numpy(array)


class Batch:
    """Values [B, S, D] as a dtype stores them, and the tokens they belong to."""

    def __init__(self, stored, dtype, *, real, first_sequence=0):
        n_rows, n_columns, _ = stored.shape
        self.stored, self.dtype = stored, dtype
        self.real = np.asarray(real, bool)
        self.sequence = np.repeat(np.arange(n_rows)[:, None], n_columns, axis=1) + first_sequence
        self.position = np.cumsum(self.real, axis=1) - 1
        self.token_id = (self.sequence * 31 + np.arange(n_columns) * 7) % 101 - 1

    def __repr__(self):
        values = oracle.widen(self.stored, self.dtype).tolist()
        return f"Batch({values}, {self.dtype!r}, real={self.real.astype(int).tolist()})"

    def __getitem__(self, rows):
        part = object.__new__(Batch)
        part.dtype = self.dtype
        for name in ("stored", "real", "sequence", "position", "token_id"):
            setattr(part, name, getattr(self, name)[rows])
        return part

    def columns(self, part):
        return self[(slice(None), part)]

    def tokens(self):
        flat = (np.ascontiguousarray(a).reshape(-1) for a in (self.sequence, self.position, self.token_id))
        return _native.TokenBatch(*flat, np.ascontiguousarray(self.real, np.uint8).reshape(-1))

    def update(self, accumulator, lay=lambda tensor: tensor):
        accumulator.update(lay(to_torch(self.stored, self.dtype)), self.tokens())

    def check(self, state, **options):
        assert_matches_oracle(
            state,
            self.stored.reshape(-1, self.stored.shape[-1]),
            dtype=self.dtype,
            real=self.real.reshape(-1),
            sequence=self.sequence.reshape(-1),
            position=self.position.reshape(-1),
            token_id=self.token_id.reshape(-1),
            **options,
        )


def numbers(dtype):
    """Strategies for a single value, from tame to nasty."""
    width = {"float64": 64, "float32": 32, "float16": 16, "bfloat16": 32}[dtype]
    large = LARGE[dtype]
    any_value = st.floats(-large, large, width=width).filter(lambda x: dtype != "float64" or x == 0 or abs(x) > 1e-60)
    tied = st.integers(-4, 4).map(float)
    special = st.sampled_from([math.nan, math.inf, -math.inf, -0.0, 0.0, 6.0, -6.0, 5.9999, 1.0])
    return {
        "tied": tied,
        "tame": st.floats(-8, 8, width=width).filter(lambda x: x == 0 or abs(x) > 1e-30),
        "any": any_value,
        "with NaN": st.one_of(tied, special),
    }


@st.composite
def batches(draw, kinds=("tied", "tame", "any", "with NaN"), max_rows=4, max_columns=9, max_dims=20):
    dtype = draw(st.sampled_from(DTYPES))
    shape = draw(st.tuples(st.integers(1, max_rows), st.integers(1, max_columns), st.integers(1, max_dims)))
    kind = draw(st.sampled_from(kinds))
    count = math.prod(shape)
    palette = draw(st.lists(numbers(dtype)[kind], min_size=1, max_size=40))
    seed = draw(st.integers(0, 2**32 - 1))
    rng = np.random.default_rng(seed)
    values = np.array(palette)[rng.integers(len(palette), size=count)].reshape(shape)
    side = draw(st.sampled_from(["none", "left", "right", "scattered"]))
    lengths = rng.integers(0, shape[1] + 1, size=shape[0])[:, None]
    columns = np.arange(shape[1])[None]
    real = {
        "none": np.ones(shape[:2], bool),
        "left": columns >= shape[1] - lengths,
        "right": columns < lengths,
        "scattered": rng.random(shape[:2]) < 0.7,
    }[side]
    return Batch(oracle.store(values, dtype), dtype, real=real)


STATISTICS = [["unit_sums"], ["sequence_blocks"], ["block_codes", "dim_histograms"]]
"""What the oracle computes together."""

configurations = st.fixed_dictionaries(
    {
        "k": st.sampled_from([0, 1, 3, 7, 64]),
        "threshold": st.sampled_from([0.0, 0.5, 2.0, 6.0, 1e30, np.finfo(np.float64).max, math.inf]),
        "statistics": st.sets(st.sampled_from(["unit_sums", "sequence_blocks", "in detail"])).map(
            lambda kept: sorted(
                (kept - {"in detail"}) | ({"block_codes", "dim_histograms"} if "in detail" in kept else set())
            )
        ),
    }
)


@settings(max_examples=300, deadline=None)
@given(batch=batches(), config=configurations)
def test_state_equals_the_oracle(batch, config):
    accumulator = _native.SiteAccumulator(**config)
    batch.update(accumulator)
    batch.check(accumulator.state())


def _sliced(tensor, rng):
    """The same values, inside a larger tensor, at an offset and with gaps."""
    n_rows, n_columns, n_dims = tensor.shape
    step = int(rng.integers(1, 3))
    outer = torch.full((n_rows + 2, n_columns * 2, n_dims * step + 3), float("nan"), dtype=tensor.dtype)
    view = outer[1 : 1 + n_rows, ::2, 2 : 2 + n_dims * step : step]
    view.copy_(tensor)
    return view


def _permuted(tensor, rng):
    """The same values, with the axes in any order in memory, tokens and dims taken apart further where they can be."""
    shape = []
    for size in tensor.shape:
        factors = [f for f in (2, 3) if size % f == 0 and size > f]
        pick = factors[int(rng.integers(len(factors)))] if factors and rng.random() < 0.8 else 1
        shape += [size // pick, pick] if pick > 1 else [size]
    order = rng.permutation(len(shape))
    return tensor.reshape(shape).permute(*order).contiguous().permute(*np.argsort(order))


LAYOUTS = {
    "rows by columns": lambda t, _: t.flatten(0, 1),
    "transposed": lambda t, _: t.flatten(0, 1).t().contiguous().t(),
    "columns first": lambda t, _: t.transpose(0, 1).contiguous().transpose(0, 1),
    "sliced": _sliced,
    "permuted": _permuted,
    "numpy, backwards": lambda t, _: t.flip(0, 2).contiguous().numpy()[::-1, :, ::-1],
}


@settings(max_examples=200, deadline=None)
@given(
    batch=batches(max_dims=24), config=configurations, name=st.sampled_from(sorted(LAYOUTS)), seed=st.integers(0, 99)
)
def test_layout_changes_no_bit(batch, config, name, seed):
    assume(not (name.startswith("numpy") and batch.dtype == "bfloat16"))
    plain, strange = (_native.SiteAccumulator(**config) for _ in range(2))
    batch.update(plain)
    batch.update(strange, lambda tensor: LAYOUTS[name](tensor, np.random.default_rng(seed)))
    assert_same_states(strange.state(), plain.state())


@settings(max_examples=100, deadline=None)
@given(batch=batches(max_dims=24), n_heads=st.integers(1, 6))
def test_heads_in_front_give_what_heads_side_by_side_give(batch, n_heads):
    n_dims = batch.stored.shape[-1]
    assume(n_dims % n_heads == 0)
    plain, heads, pairs = (_native.SiteAccumulator(statistics=["unit_sums"]) for _ in range(3))
    batch.update(plain)

    def in_front(tensor):  # [B, H, S, dh] in memory, [B, S, H, dh] to the reader
        return tensor.unflatten(-1, (n_heads, -1)).transpose(1, 2).contiguous().transpose(1, 2)

    batch.update(heads, in_front)
    batch.update(pairs, lambda tensor: tensor.unflatten(-1, (n_heads, -1)))
    assert_same_states(heads.state(), plain.state())
    assert_same_states(pairs.state(), plain.state())


@settings(max_examples=200, deadline=None)
@given(
    batch=batches(max_rows=6),
    config=configurations,
    data=st.data(),
    way=st.sampled_from(["updates", "merges", "states", "tree"]),
)
def test_cuts_order_and_merging_change_no_count(batch, config, data, way):
    """Cut into any calls, shuffled, updated one after the other or apart and merged, through states or not."""
    n_rows, n_columns, _ = batch.stored.shape
    row_cuts = sorted(data.draw(st.sets(st.integers(1, n_rows))) | {0, n_rows})
    column_cuts = sorted(data.draw(st.sets(st.integers(1, n_columns), max_size=3)) | {0, n_columns})
    parts = [batch[a:b].columns(slice(c, d)) for a, b in pairwise(row_cuts) for c, d in pairwise(column_cuts)]
    parts = data.draw(st.permutations(parts))

    whole = _native.SiteAccumulator(**config)
    batch.update(whole)
    accumulator = _native.SiteAccumulator(**config)
    if way == "updates":
        for part in parts:
            part.update(accumulator)
    else:
        alone = [_native.SiteAccumulator(**config) for _ in parts]
        for one, part in zip(alone, parts, strict=True):
            part.update(one)
        if way == "tree":
            while len(alone) > 1:
                alone[-2].merge(alone[-1])
                alone.pop()
        for one in alone:
            accumulator.merge(one if way != "states" else _native.SiteAccumulator.from_state(one.state()))
    assert_same_exact_parts(accumulator.state(), whole.state())
    batch.check(accumulator.state(), tolerance=1e-12)
    batch.check(whole.state(), tolerance=1e-12)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(DTYPES),
    n_dims=st.sampled_from([1, 3, 64, 257, 4096]),
    n_threads=st.integers(1, 9),
    scale=st.sampled_from([1e-30, 1.0, 1e30]),
)
def test_number_of_threads_changes_no_bit(seed, dtype, n_dims, n_threads, scale):
    """Large enough that the work is cut among threads, with ties, NaN and padding."""
    rng = np.random.default_rng(seed)
    n_rows, n_columns = 5, max(2, 60_000 // n_dims)
    values = rng.normal(size=(n_rows, n_columns, n_dims)) * (1.0 if dtype == "float16" else scale)
    values[:, ::3] = np.round(values[:, ::3])
    values[1, 1, 0], values[4, 0, -1] = np.nan, np.inf
    batch = Batch(oracle.store(values, dtype), dtype, real=rng.random((n_rows, n_columns)) < 0.9)
    states = []
    for n in (1, n_threads):
        _native.set_num_threads(n)
        accumulator = _native.SiteAccumulator(statistics=["unit_sums"], threshold=2.0)
        for _ in range(2):
            batch.update(accumulator)
        states.append(accumulator.state())
    assert_same_states(states[1], states[0])


@pytest.mark.parametrize("n_threads", [1, 4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_a_large_call_equals_the_oracle(dtype, n_threads):
    _native.set_num_threads(n_threads)
    rng = np.random.default_rng(3)
    values = rng.normal(size=(7, 3001, 23)) * rng.lognormal(size=23) + rng.normal(size=23) * 20
    values[:, ::5] = np.round(values[:, ::5])
    batch = Batch(oracle.store(values, dtype), dtype, real=rng.random((7, 3001)) < 0.8)
    accumulator = _native.SiteAccumulator(statistics=["unit_sums"])
    batch.update(accumulator)
    batch.check(accumulator.state(), tolerance=1e-12)


@pytest.mark.parametrize("n_threads", [1, 2])
@pytest.mark.parametrize("dtype", DTYPES)
def test_values_of_which_many_are_equal_are_counted_to_the_last(dtype, n_threads):
    """They are counted into several tables at once, where a NaN has to be found again; other calls are not."""
    _native.set_num_threads(n_threads)
    rng = np.random.default_rng(4)
    accumulator = _native.SiteAccumulator(k=20)
    parts = []
    for call, share_of_zeros in enumerate((0.5, 0.0, 0.9)):
        values = rng.normal(size=(6, 900, 70))
        values[rng.random(values.shape) < share_of_zeros] = 0.0
        values[2, 40, 7], values[3, 80, ::9], values[5, 3, 0] = np.nan, np.nan, np.inf
        stored = oracle.store(values, dtype)
        if dtype == "float32":
            # NaN whose upper halves are those of infinity, and of other numbers than the usual NaN.
            stored.view(np.uint32)[4, 100, :3] = 0x7F800001, 0xFFA00000, 0x7FFFFFFF
        part = Batch(stored, dtype, real=np.ones((6, 900)), first_sequence=6 * call)
        part.update(accumulator)
        parts.append(part)
    whole = object.__new__(Batch)
    whole.dtype = dtype
    for name in ("stored", "real", "sequence", "position", "token_id"):
        setattr(whole, name, np.concatenate([getattr(part, name) for part in parts]))
    whole.check(accumulator.state())


# Extreme values


def column_of(dtype, values):
    """Values [tokens, dims] as one sequence."""
    stored = oracle.store(values, dtype)[None]
    return Batch(stored, dtype, real=np.ones(stored.shape[:2]))


EXTREMES = {
    "huge": lambda rng: rng.normal(size=(700, 5)) * 1e30,
    "tiny": lambda rng: rng.normal(size=(700, 5)) * 1e-30,
    "far from zero": lambda rng: 1.0 + rng.normal(size=(2000, 5)) * 1e-4,
    "far from zero, differently": lambda rng: np.array([1e4, -1e4, 7.0, 0.0, 1e8]) + rng.normal(size=(2000, 5)),
    "one row of 3000": lambda rng: np.where(np.arange(1500)[:, None] == 777, 3000.0, 1.0) * rng.normal(size=(1500, 5)),
    "first row of 3000": lambda rng: np.where(np.arange(1500)[:, None] == 0, 3000.0, 1.0) * rng.normal(size=(1500, 5)),
    "a drift": lambda rng: np.linspace(-1000, 1000, 1500)[:, None] + rng.normal(size=(1500, 5)),
    "a step": lambda rng: np.where(np.arange(1500)[:, None] < 600, 50.0, -3.0) + rng.normal(size=(1500, 5)),
    "all scales": lambda rng: rng.normal(size=(1500, 5)) * 10.0 ** rng.uniform(-30, 30, size=(1500, 1)),
    "subnormal": lambda rng: rng.normal(size=(700, 5)) * 1e-39,
    "zeros of both signs": lambda rng: np.where(rng.random((700, 5)) < 0.5, 0.0, -0.0),
    "negative zeros": lambda rng: np.full((70, 5), -0.0),
    "constant": lambda rng: np.full((700, 5), 0.1),
    "one value": lambda rng: np.full((1, 1), -2.5),
    "a dim of NaN": lambda rng: np.where(np.arange(5) == 2, np.nan, rng.normal(size=(700, 5))),
    "a token of NaN": lambda rng: np.where(np.arange(700)[:, None] == 300, np.nan, rng.normal(size=(700, 5))),
    "nothing finite": lambda rng: np.where(rng.random((70, 5)) < 0.5, np.nan, -np.inf),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", EXTREMES)
def test_extreme_values(name, dtype):
    values = EXTREMES[name](np.random.default_rng(11))
    batch = column_of(dtype, values)
    accumulator = _native.SiteAccumulator(statistics=["unit_sums"] if name != "all scales" else [])
    for start in range(0, values.shape[0], 450):
        batch.columns(slice(start, start + 450)).update(accumulator)
    batch.check(accumulator.state())


@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_a_million_ones_are_a_million_ones(dtype):
    """A counter or sum in the data's own precision would have stopped at 256 (bfloat16), 2,048 or 16,777,216."""
    accumulator = _native.SiteAccumulator()
    ones = torch.ones(1, 64, dtype=TORCH[dtype]).expand(1_000_000, 64)
    n = len(ones)
    tokens = _native.TokenBatch(np.zeros(n, np.int64), np.arange(1, n + 1), np.zeros(n, np.int64), np.ones(n, np.uint8))
    accumulator.update(ones, tokens)
    rest = arrays_of(accumulator.state(), "rest")
    assert rest["counts"].tolist() == [64_000_000]
    np.testing.assert_array_equal(rest["moments"][:6], np.array([1, 0, 0, 0, 1, 1.0])[:, None] * np.ones(64))
    np.testing.assert_array_equal(rest["token_moments"][0, :7], [n, 8, 0, 0, 0, 8, 8])
    assert rest["norm_counts"].tolist() == [n]
    # All are ties: the list is the first 64 places.
    np.testing.assert_array_equal(rest["outlier_index"][:, 1], np.ones(64))
    np.testing.assert_array_equal(rest["outlier_index"][:, 2], np.arange(64))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_pattern_of_a_16_bit_type_is_counted_as_itself(dtype):
    patterns = np.arange(1 << 16, dtype=np.uint16).reshape(256, 256)
    stored = patterns if dtype == "bfloat16" else patterns.view(np.float16)
    tensor = to_torch(stored, dtype)
    tokens = _native.TokenBatch(np.zeros(256, np.int64), np.arange(1, 257), np.arange(256), np.ones(256, np.uint8))
    accumulator = _native.SiteAccumulator(k=1000)
    for _ in range(3):
        accumulator.update(tensor, tokens)
    rest = arrays_of(accumulator.state(), "rest")
    np.testing.assert_array_equal(rest["codes"], np.arange(1 << 16))
    np.testing.assert_array_equal(rest["counts"], np.full(1 << 16, 3))
    values = oracle.widen(stored, dtype)
    np.testing.assert_array_equal(rest["dim_counts"][0], 3 * (~np.isfinite(values)).sum(axis=0))
    largest = np.sort(np.abs(values[np.isfinite(values)]))[::-1]
    np.testing.assert_array_equal(np.abs(rest["outlier_values"]), np.repeat(largest, 3)[:1000])


def test_the_edges_of_float32_codes():
    """The codes beside every power of two, of the largest and smallest numbers, and of NaN that cut to infinity."""
    powers = 2.0 ** np.arange(-149, 128)
    bits = powers.astype(np.float32).view(np.uint32)
    bits = np.concatenate(
        [bits, bits - 1, bits + 1, [0, 1, 0x7F7FFFFF, 0x7F800000, 0x7F800001, 0x7F80FFFF, 0x7FC00000]]
    )
    bits = np.concatenate([bits, bits | 0x80000000]).astype(np.uint32)
    for dtype in ("float32", "float64"):
        with np.errstate(invalid="ignore"):
            values = bits.view(np.float32).astype(dtype)
        accumulator = _native.SiteAccumulator()
        n = len(values)
        tokens = _native.TokenBatch(np.zeros(n, np.int64), np.arange(1, n + 1), np.arange(n), np.ones(n, np.uint8))
        accumulator.update(values[:, None], tokens)
        rest = arrays_of(accumulator.state(), "rest")
        finite = np.isfinite(values)
        codes = bits >> 16
        codes[np.isnan(values)] = np.where(bits[np.isnan(values)] >> 31, 0xFFC0, 0x7FC0)
        expected = np.bincount(codes, minlength=1 << 16)
        np.testing.assert_array_equal(rest["codes"], np.flatnonzero(expected))
        np.testing.assert_array_equal(rest["counts"], expected[expected > 0])
        assert rest["dim_counts"][0, 0] == (~finite).sum()
        assert rest["moments"][4, 0] == values[finite].min()
        assert rest["moments"][5, 0] == values[finite].max()


def test_the_whole_range_of_float64_is_counted():
    """Where fourth powers overflow, what does not need them is still right."""
    rng = np.random.default_rng(2)
    values = rng.choice([-1, 1], (300, 4)) * 10.0 ** rng.uniform(-320, 300, (300, 4))
    accumulator = _native.SiteAccumulator(k=300, threshold=1e100)
    batch = column_of("float64", values)
    batch.update(accumulator)
    with np.errstate(all="ignore"):
        expected = oracle.site_state(
            batch.stored[0], dtype="float64", token_id=batch.token_id[0], k=300, threshold=1e100
        )
    assert_same_exact_parts(accumulator.state(), expected)
    rest = arrays_of(accumulator.state(), "rest")
    np.testing.assert_allclose(rest["moments"][0], values[1:].mean(axis=0), rtol=1e-12)
