"""States go out and come back, and no setting of the environment changes what is counted."""

from __future__ import annotations

import copy
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from lmfacts import _native
from lmfacts.errors import StateError, UsageError
from lmfacts.run.state import array_of_native
from lmfacts.run.statistic import fits
from lmfacts.run.statistics import STATISTICS
from support.comparison import assert_same_states

LEVELS = ["scalar", "avx2", "avx512"]
OPTIONS = [name for name, statistic in STATISTICS.items() if statistic.is_option]

# A state of every dtype over awkward data: ties, NaN, infinities, padding, permuted axes, more than one call.
DIGEST = """
import hashlib, json, numpy as np, torch
from lmfacts import _native
digest = hashlib.sha256()
STATISTICS = ["unit_sums", "sequence_blocks", "block_codes", "dim_histograms"]
generator = torch.Generator().manual_seed(5)
for dtype in (torch.float64, torch.float32, torch.bfloat16, torch.float16):
    site = _native.SiteAccumulator(k=40, threshold=2.0, statistics=STATISTICS)
    for call, (n_rows, n_columns) in enumerate(((3, 5), (40, 100), (1, 1))):
        base = torch.randn((n_rows, 6, n_columns, 37), generator=generator)
        base[:, :, ::7] = (base[:, :, ::7] * 3).round()
        if call == 1:
            base[7, 3, 50, 4], base[9, 0, 3, 36], base[9, 5, 3, 0] = torch.nan, torch.inf, -torch.inf
        n = n_rows * n_columns
        sequence = np.repeat(np.arange(n_rows) + 100 * call, n_columns)
        position = np.tile(np.arange(n_columns), n_rows)
        real = (np.arange(n) % 11 != 3).astype(np.uint8)
        tokens = _native.TokenBatch(sequence, position, np.arange(n), real)
        site.update(base.to(dtype).permute(0, 2, 1, 3), tokens)
    for key, value in sorted(site.state().items()):
        digest.update(key.encode() + repr(value).encode())
print(digest.hexdigest(), _native.build_info()["simd"], _native.build_info()["n_threads"])
"""


def run(script, **environment):
    root = Path(_native.__file__).parents[1]
    variables = {k: v for k, v in os.environ.items() if not k.startswith("LMFACTS_")}
    variables |= {"PYTHONPATH": str(root), "OMP_NUM_THREADS": "1", **environment}
    return subprocess.run(
        [sys.executable, "-c", script], env=variables, capture_output=True, text=True, check=False, timeout=300
    )


def digest(**environment):
    done = run(DIGEST, **environment)
    assert done.returncode == 0, f"exit code {done.returncode}: {done.stderr}"
    return done.stdout.split()


@pytest.fixture(scope="module")
def reference():
    return digest(LMFACTS_SIMD="scalar", LMFACTS_NUM_THREADS="1")[0]


@pytest.mark.parametrize(("level", "n_threads"), [*((level, n) for level in LEVELS for n in "12"), (LEVELS[-1], "7")])
def test_every_level_and_number_of_threads_gives_the_same_bytes(level, n_threads, reference):
    if level not in _native.build_info()["simd_available"]:
        done = run(DIGEST, LMFACTS_SIMD=level)
        assert "UsageError: LMFACTS_SIMD: expected one of" in done.stderr
        return
    assert digest(LMFACTS_SIMD=level, LMFACTS_NUM_THREADS=n_threads) == [reference, level, n_threads]


def test_empty_variables_are_as_if_not_set(reference):
    found = digest(LMFACTS_SIMD="", LMFACTS_NUM_THREADS="")
    assert found[0] == reference
    assert found[1] == _native.build_info()["simd_available"][-1]


def test_fresh_and_freed_memory_filled_with_rubbish_changes_nothing(reference):
    """Nothing reads memory that it has not written, or that Python has given back."""
    assert digest(MALLOC_PERTURB_="165", PYTHONMALLOC="debug", PYTHONDEVMODE="1")[0] == reference
    assert digest(MALLOC_PERTURB_="90", LMFACTS_SIMD="scalar")[0] == reference


@pytest.mark.parametrize("value", ["nonsense", "AVX2", "avx1024", " scalar"])
def test_an_unknown_level_is_a_usage_error(value):
    script = (
        "from lmfacts import _native\nfrom lmfacts.errors import UsageError\n"
        "for call in (_native.SiteAccumulator, _native.build_info):\n"
        "    try: call()\n"
        "    except UsageError as error: print(error)\n"
    )
    done = run(script, LMFACTS_SIMD=value)
    lines = done.stdout.splitlines()
    assert done.returncode == 0, done.stderr
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("LMFACTS_SIMD: expected one of scalar")
        assert line.endswith(f"got {value}")


@pytest.mark.parametrize("value", ["nonsense", "0", "-1", "1.5", "99999999999999999999999"])
def test_an_impossible_number_of_threads_is_a_usage_error(value):
    script = (
        "import numpy as np\nfrom lmfacts import _native\nfrom lmfacts.errors import UsageError\n"
        "one = np.ones(1, np.int64)\n"
        "tokens = _native.TokenBatch(one, one, one, np.ones(1, np.uint8))\n"
        "site = _native.SiteAccumulator()\n"
        "for call in (_native.build_info, lambda: site.update(np.ones((1, 1)), tokens)):\n"
        "    try: call()\n"
        "    except UsageError as error: print(error)\n"
        "assert site.state()['dtype'] == ''\n"
    )
    done = run(script, LMFACTS_NUM_THREADS=value)
    assert done.returncode == 0, done.stderr
    assert (
        done.stdout.splitlines() == [f"LMFACTS_NUM_THREADS: expected a number of threads, at least 1, got {value}"] * 2
    )


def test_settings_that_cannot_be_meant_are_usage_errors():
    for threshold in (-1.0, float("nan"), -float("inf")):
        with pytest.raises(UsageError, match="threshold: expected a magnitude of at least 0"):
            _native.SiteAccumulator(threshold=threshold)
    with pytest.raises(UsageError, match="at least 1 thread"):
        _native.set_num_threads(0)
    for arguments in ({"k": -1}, {"k": 1.5}, {"k": 2**70}, {"threshold": "high"}):
        with pytest.raises((TypeError, OverflowError)):
            _native.SiteAccumulator(**arguments)
    with pytest.raises(TypeError):
        _native.SiteAccumulator(64)


def filled(dtype=torch.float32, **settings):
    site = _native.SiteAccumulator(**{"k": 5, "statistics": ["unit_sums"], **settings})
    values = torch.randn((9, 4), generator=torch.Generator().manual_seed(1))
    values[3, 1], values[5, 2] = torch.nan, -torch.inf
    numbers = np.arange(9)
    site.update(values.to(dtype), _native.TokenBatch(numbers // 3, numbers % 3, numbers, np.ones(9, np.uint8)))
    return site


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("kept", [[], *([name] for name in OPTIONS), OPTIONS], ids=",".join)
def test_a_state_that_comes_back_is_the_same_and_can_go_on(dtype, kept):
    site = filled(dtype, statistics=kept)
    state = site.state()
    twin = _native.SiteAccumulator.from_state(state)
    assert_same_states(twin.state(), state)
    assert twin.n_bytes == site.n_bytes
    more = (torch.ones(2, 4).to(dtype), _native.TokenBatch(*[np.arange(2)] * 3, np.ones(2, np.uint8)))
    for one in (site, twin):
        one.update(*more)
    assert_same_states(twin.state(), site.state())


def test_the_native_arrays_are_those_that_python_knows():
    state = filled(statistics=OPTIONS).state()
    assert set(state["statistics"]) == set(OPTIONS)
    known = {
        f"{population}/{name}": array
        for statistic in STATISTICS.values()
        for population in statistic.populations
        for name, array in statistic.arrays.items()
    }
    assert set(known) == {key for key in state if "/" in key and not key.endswith("n_tokens")}
    for name, array in known.items():
        found = array_of_native(state[name])
        assert found.dtype == array.dtype, name
        assert fits(found.shape, array.shape_at(4)), name


def test_an_empty_state_comes_back():
    empty = _native.SiteAccumulator(k=3, threshold=1.5)
    twin = _native.SiteAccumulator.from_state(empty.state())
    assert_same_states(twin.state(), empty.state())
    filled_twin = _native.SiteAccumulator.from_state(filled(k=3, threshold=1.5, statistics=[]).state())
    twin.merge(filled_twin)
    assert_same_states(twin.state(), filled_twin.state())


def test_a_missing_entry_is_an_error_by_name():
    for key, value in filled().state().items():
        state = filled().state()
        del state[key]
        is_array = isinstance(value, tuple) and key != "statistics"
        with pytest.raises(StateError if is_array else KeyError, match=key):
            _native.SiteAccumulator.from_state(state)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "float8"}, "dtype .*float8.* is not known"),
        ({"dtype": "int64"}, "dtype .*int64.* is not known"),
        ({"n_dims": 5}, ""),
        ({"k": 1}, "outlier_values should be at most 1 values"),
        ({"threshold": -1.0}, "threshold"),
        ({"rest/n_tokens": 7}, "counts should be 7 tokens x 4 dims"),
        ({"statistics": ["sums"]}, "statistics: expected .*, got sums"),
        ({"rest/codes": ("<u2", (0,), b"")}, "rest/codes should be ascending codes with one count each"),
        ({"rest/codes": ("<u2", (1,), b"123")}, "rest/codes should be whole numbers of a known dtype, got 3 bytes"),
        ({"rest/codes": ("<u3", (1,), b"123")}, 'got 3 bytes of "<u3"'),
        ({"rest/codes": ("<u8", (0,), b"")}, r"rest/codes should be an array \[any\] of <u2, got one \[0\] of <u8"),
        ({"rest/counts": ("<u8", (2,), bytes(8))}, "as many entries as its shape"),
        ({"rest/moments": ("<f8", (6, 3), bytes(144))}, r"rest/moments should be an array \[6, 4\]"),
        ({"rest/dim_counts": ("<u8", (2, 4), b"\xff" * 64)}, "rest/dim_counts should be at most 6 values of a dim"),
        ({"rest/norm_counts": ("<u8", (0,), b"")}, "rest/norm_codes"),
        ({"rest/token_moments": ("<f8", (1,), bytes(8))}, r"rest/token_moments should be an array \[3, 7\]"),
        ({"rest/unit_sums": ("<f8", (0,), b"")}, r"rest/unit_sums should be an array \[2, 4\]"),
        ({"rest/outlier_values": ("<f8", (0,), b"")}, "rest/outlier_index should be a place for each of 0 values"),
        ({"rest/outlier_index": ("<i8", (1, 1), bytes(8))}, r"rest/outlier_index should be an array \[any, 4\]"),
    ],
)
def test_entries_that_do_not_fit_are_refused(change, message):
    with pytest.raises((StateError, UsageError), match=message or "cannot restore the state"):
        _native.SiteAccumulator.from_state(filled().state() | change)


def test_entries_of_another_type_are_type_errors():
    for key, value in filled().state().items():
        wrong = "text" if isinstance(value, tuple) else [1]
        with pytest.raises(TypeError):
            _native.SiteAccumulator.from_state(filled().state() | {key: wrong})


ARRAYS = sorted(key for key in filled().state() if "/" in key and not key.endswith("n_tokens"))


@hypothesis_settings(max_examples=200, deadline=None)
@given(
    key=st.sampled_from(ARRAYS),
    cut=st.integers(0, 300),
    noise=st.binary(max_size=64),
    n_dims=st.sampled_from([4, 0, 3, 2**31, 2**62]),
    n_tokens=st.sampled_from([None, 0, 2**63]),
)
def test_a_damaged_state_is_refused_or_restored_but_never_fatal(key, cut, noise, n_dims, n_tokens):
    state = copy.copy(filled().state())
    dtype, shape, data = state[key]
    data = data[:cut] + noise
    size = int(dtype[-1])
    state[key] = (dtype, (*shape[:-1], len(data) // size) if len(shape) == 1 else shape, data)
    state["n_dims"] = n_dims
    if n_tokens is not None:
        state["rest/n_tokens"] = n_tokens
    try:
        site = _native.SiteAccumulator.from_state(state)
    except (StateError, UsageError):
        return
    _native.SiteAccumulator.from_state(site.state())
    merged = filled()
    merged.merge(filled())
    if n_dims == 4:
        merged.merge(site)
