"""The CUDA kernels, run on this processor, against the host's accumulators."""

from __future__ import annotations

import pytest
import torch

from lmfacts import _native
from lmfacts.errors import LayoutError, UnsupportedDtypeError, UsageError
from lmfacts.run.state import array_of_native
from support.device_calls import ALL, on_device, on_host, tokenized
from support.device_comparison import assert_agrees
from support.device_data import DATA, DTYPES, values, with_holes
from support.emulated_device import COMPILER, NO_COMPILER, emulated_device

pytestmark = pytest.mark.skipif(COMPILER is None, reason=NO_COMPILER)


@pytest.fixture(scope="module")
def device():
    return emulated_device()


def check(device, calls, **options):
    found, n_calls = on_device(device, calls, **options)
    assert n_calls == len(calls)
    assert_agrees(found, on_host(calls, **options))
    return found


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("data", DATA)
def test_every_statistic_is_the_host_s(device, data, dtype):
    check(device, [tokenized(DATA[data]().to(dtype))], **ALL)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_calls_add_up(device, dtype):
    calls = [
        tokenized(scale * values((3, n, 48), seed).to(dtype))
        for seed, (n, scale) in enumerate([(9, 1), (40, 1), (3, 7)])
    ]
    check(device, calls, **ALL)
    check(device, calls, k=5)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_padding_is_left_out(device, dtype):
    mask = torch.ones(4, 40, dtype=torch.long)
    mask[0, :7] = mask[1, 33:] = mask[2] = 0
    calls = [
        tokenized(values((4, 40, 24)).to(dtype), mask),
        tokenized(values((1, 5, 24), 1).to(dtype), torch.zeros(1, 5)),
    ]
    check(device, calls, **ALL)


@pytest.mark.parametrize(
    ("shared_kib", "dtype"), [(99, torch.bfloat16), (99, torch.float16), (99, torch.float32), (163, torch.float16)]
)
def test_smaller_tables_give_the_same_counts(shared_kib, dtype):
    device = emulated_device((str(dtype).removeprefix("torch."),), shared_kib=shared_kib)
    spread = values((2, 30, 32)) * torch.logspace(-30, 30, 32)
    spread[0, 5] = 0.0
    check(device, [tokenized(spread.to(dtype))], **ALL)
    check(device, [tokenized(with_holes(values((2, 30, 16)).relu()).to(dtype))])


def test_a_table_that_some_values_have_no_place_in(device):
    # For bfloat16 it ends at 2^33: every second value is counted in global memory.
    wide = values((2, 30, 32)) * torch.tensor([1.0, 2.0**40]).repeat(16)
    check(device, [tokenized(wide.bfloat16()), tokenized(wide.bfloat16())], k=40)


@pytest.mark.parametrize("k", [0, 1, 64, 512])
def test_the_largest_values_are_exact_for_any_k(device, k):
    calls = [tokenized(values((2, 60, 64), seed).bfloat16()) for seed in range(3)]
    check(device, calls, k=k)


def test_more_candidates_than_can_be_noted_are_collected(device):
    # The first call fills the list; in the second all 8192 values are larger than any before, in the third none is.
    small, large = values((1, 64, 64)).bfloat16(), 100 + values((2, 64, 64)).abs().bfloat16()
    check(device, [tokenized(small), tokenized(large), tokenized(small)], k=7)


def test_equal_values_come_in_the_order_of_their_places(device):
    calls = [tokenized(torch.full((2, 40, 64), sign * 3.0).bfloat16()) for sign in (1, -1, 1)]
    found = check(device, calls, k=20)
    index = array_of_native(found["rest/outlier_index"])
    assert index[:, :3].tolist() == [[0, 1, dim] for dim in range(20)]


def test_rows_are_read_in_place(device):
    whole = values((3, 20, 96)).bfloat16()
    aligned, askew = whole[..., 16:80], whole[:, 3:18, 5:70]
    across = values((20, 3, 64)).bfloat16().transpose(0, 1)
    heads = values((3, 20, 4, 16)).bfloat16()
    for cut in (aligned, askew, across, heads):
        assert not cut.is_contiguous() or cut.ndim == 4
        check(device, [tokenized(cut)], **ALL)


def test_values_that_are_spread_out_have_to_be_copied_first(device):
    site = _native.DeviceSite(device, "float32", 64)
    buffer = _native.DeviceBuffer(torch.zeros(1 << 22, dtype=torch.uint8))
    apart = values((2, 4, 5, 16)).transpose(1, 2)  # heads in front of tokens
    assert not site.update(apart, 10, buffer, buffer, buffer, 0)


def test_what_does_not_fit_is_an_error(device):
    with pytest.raises(UnsupportedDtypeError, match="float32, bfloat16 or float16"):
        _native.DeviceSite(device, "float64", 4)
    with pytest.raises(UsageError, match="at most 512 outliers"):
        _native.DeviceSite(device, "float32", 4, k=513)
    site = _native.DeviceSite(device, "float32", 4)
    large = _native.DeviceBuffer(torch.zeros(1 << 22, dtype=torch.uint8))
    small = _native.DeviceBuffer(torch.zeros(64, dtype=torch.uint8))
    with pytest.raises(LayoutError, match="4 dims, as before"):
        site.update(values((2, 3, 5)), 6, large, large, large, 0)
    with pytest.raises(LayoutError, match="leading axes that count 7 tokens"):
        site.update(values((2, 3, 4)), 7, large, large, large, 0)
    with pytest.raises(UnsupportedDtypeError, match="expected float32, as before"):
        site.update(values((2, 3, 4)).half(), 6, large, large, large, 0)
    with pytest.raises(UsageError, match="larger buffers"):
        site.update(values((2, 3, 4)), 6, small, large, large, 0)
    with pytest.raises(LayoutError, match="bytes of scratch memory"):
        site.update(values((2, 3, 4)), 6, large, large, small, 0)
    with pytest.raises(UsageError, match="contiguous bytes"):
        _native.DeviceBuffer(torch.zeros(8))


def test_the_host_can_go_on_from_a_device_s_state(device):
    calls = [tokenized(values((3, 20, 32), seed)) for seed in range(2)]
    found, _ = on_device(device, calls[:1], **ALL)
    joined = _native.SiteAccumulator.from_state(found)
    # The second call's sequences have to be numbered after the first's.
    second = on_host(calls, **ALL)
    first = on_host(calls[:1], **ALL)
    assert second["rest/n_tokens"] == 2 * first["rest/n_tokens"]
    joined.merge(_native.SiteAccumulator.from_state(first))
    twice = _native.SiteAccumulator.from_state(first)
    twice.merge(_native.SiteAccumulator.from_state(first))
    assert_agrees(joined.state(), twice.state())
