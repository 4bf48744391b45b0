"""The tokens of a pass as a device numbers them, against `TokenReader`, for the same calls."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from lmfacts import _native
from lmfacts.errors import LayoutError
from lmfacts.recording.cuda.passes import _description, _on_device
from lmfacts.recording.pass_tokens import Arguments, CallReader, EndOfText, TokenReader
from support.emulated_device import COMPILER, NO_COMPILER, emulated_device

pytestmark = pytest.mark.skipif(COMPILER is None, reason=NO_COMPILER)


@pytest.fixture(scope="module")
def device():
    return emulated_device(("float32",))


class Both:
    """Passes numbered by the kernel and by the host."""

    def __init__(self, device):
        self.device, self.calls, self.reader = device, CallReader(EndOfText(0, (2,))), TokenReader()
        self.memory = torch.zeros(_native.tokens_memory_bytes(64), dtype=torch.uint8)
        self.memory_buffer = _native.DeviceBuffer(self.memory)

    def check(self, ids=None, mask=None, starts=None, n_cached=0):
        cache = None if isinstance(n_cached, int) and n_cached == 0 else Cache(n_cached)
        call = self.calls.read(Arguments(ids, None, mask, starts, cache))
        if isinstance(n_cached, torch.Tensor):  # as on a device, where nobody may wait for it
            call = replace(call, length=n_cached)
        tokens = self.reader.number(call)
        n_tokens = call.shape[0] * call.shape[1]
        described = torch.zeros(_native.tokens_bytes(n_tokens), dtype=torch.uint8)
        on_device = _on_device(call, torch.device("cpu"))
        _native.describe_tokens(
            self.device,
            call.shape,
            on_device.ids,
            on_device.real,
            on_device.starts,
            on_device.earlier,
            on_device.n_earlier,
            on_device.length,
            call.continues is not None,
            _native.DeviceBuffer(described),
            self.memory_buffer,
            0,
        )
        self.compare(described.numpy(), _description(tokens), n_tokens)
        totals = self.memory[:24].view(torch.int64)
        assert totals[0] == self.reader.n_sequences
        np.testing.assert_array_equal(self.memory[24 : 24 + 8 * call.shape[0]].view(torch.int64), self.reader.last)
        return tokens

    @staticmethod
    def compare(found, expected, n):
        """The same bytes, but for what lies behind the ends of the lists of rows."""
        counts = expected[32 * n : 32 * n + 8].view("<u4")
        np.testing.assert_array_equal(found[32 * n : 32 * n + 8].view("<u4"), counts)
        for population, count in enumerate(counts):
            rows = slice(24 * n + 4 * n * population, 24 * n + 4 * n * population + 4 * count)
            np.testing.assert_array_equal(found[rows].view("<u4"), expected[rows].view("<u4"))
        np.testing.assert_array_equal(found[: 24 * n].view("<i8"), expected[: 24 * n].view("<i8"))
        np.testing.assert_array_equal(found[32 * n + 8 :], expected[32 * n + 8 :])


class Cache:
    def __init__(self, length):
        self.length = length

    def get_seq_length(self):
        return self.length


def ids(n_rows, n_columns, seed=0):
    return torch.randint(0, 50_000, (n_rows, n_columns), generator=torch.Generator().manual_seed(seed))


MASKS = {
    "none": lambda _shape: None,
    "all": lambda shape: torch.ones(shape, dtype=torch.long),
    "left": lambda shape: (torch.arange(shape[1]) >= torch.arange(shape[0])[:, None] * 9).long(),
    "right, bool": lambda shape: torch.arange(shape[1]) < 3 + torch.arange(shape[0])[:, None] * 9,
    "holes, float": lambda shape: (
        (torch.arange(shape[1]) % 5 != torch.arange(shape[0])[:, None]).float() * -0.0
        + (torch.arange(shape[1]) % 3 != 0)
    ),
    "int32": lambda shape: (torch.arange(shape[1]) % 2 * torch.ones(shape[0], 1)).int(),
    "bfloat16, nothing": lambda shape: torch.zeros(shape, dtype=torch.bfloat16),
}


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("shape", [(1, 1), (3, 11), (5, 70), (40, 33)])
def test_padding_and_positions(device, mask, shape):
    both = Both(device)
    both.check(ids(*shape), MASKS[mask](shape))
    both.check(ids(*shape, seed=1), MASKS[mask](shape))


def test_passes_that_go_on_with_cached_tokens(device):
    both = Both(device)
    mask = MASKS["left"]((3, 12))
    both.check(ids(3, 7), mask[:, :7])
    for column in (7, 8, 9):
        both.check(ids(3, 1, column), mask[:, : column + 1], n_cached=column)
    both.check(ids(3, 2), mask, n_cached=10)
    after = both.check(ids(3, 2), None, n_cached=12)  # a cache and no mask: the passes before say what was padding
    assert after.position[:, 0].tolist() == [12, 3, 0]
    assert after.sequence[:, 0].tolist() == [0, 1, 2]
    both.check(ids(2, 5))
    both.check(ids(3, 5), n_cached=5)  # other rows than before: new sequences


def test_a_length_that_only_the_device_knows(device):
    both = Both(device)
    both.check(ids(2, 4))
    assert both.check(ids(2, 1), n_cached=torch.tensor(4)).sequence.tolist() == [[0], [1]]
    assert both.check(ids(2, 3), n_cached=torch.tensor(0)).sequence[:, 0].tolist() == [2, 3]


def test_padding_after_the_end_of_generated_text(device):
    both = Both(device)
    both.check(torch.tensor([[5, 6, 2], [5, 6, 7]]))
    columns = [[2, 9], [0, 0], [0, 2], [0, 0], [8, 0]]
    real = [both.check(torch.tensor(column)[:, None], n_cached=3 + i).real[:, 0] for i, column in enumerate(columns)]
    assert np.array(real).T.tolist() == [[True, False, False, False, True], [True, True, True, False, False]]


def test_several_sequences_in_a_row(device):
    both = Both(device)
    starts = torch.cat([torch.arange(40), torch.arange(25), torch.arange(5)]).repeat(3, 1)
    both.check(ids(3, 70), None, starts)
    both.check(ids(3, 70, 1), MASKS["left"]((3, 70)), starts[:1])
    both.check(ids(3, 70, 2), MASKS["right, bool"]((3, 70)), starts.int())
    both.check(ids(3, 70, 3), None, torch.arange(70)[None])  # none begins inside
    both.check(ids(3, 70, 4), MASKS["bfloat16, nothing"]((3, 70)), starts)
    both.check(ids(3, 1, 5), None, torch.zeros(3, 1, dtype=torch.long))


def test_ids_of_other_kinds(device):
    both = Both(device)
    both.check(ids(3, 9).int())
    both.check((ids(9, 3) - 25_000).T)
    both.check(ids(3, 20)[:, ::2])


def describe(device, token_ids, real, tokens, memory):
    _native.describe_tokens(device, (3, 11), token_ids, real, None, None, 0, None, False, tokens, memory, 0)


def test_what_does_not_fit_is_an_error(device):
    memory = _native.DeviceBuffer(torch.zeros(_native.tokens_memory_bytes(8), dtype=torch.uint8))
    tokens = _native.DeviceBuffer(torch.zeros(_native.tokens_bytes(33), dtype=torch.uint8))
    small = _native.DeviceBuffer(torch.zeros(40, dtype=torch.uint8))
    with pytest.raises(LayoutError, match=r"shape \[3, 11\]"):
        describe(device, ids(3, 10), None, tokens, memory)
    with pytest.raises(LayoutError, match=r"shape \[3, 11\]"):
        describe(device, ids(3, 11), torch.ones(3, 4), tokens, memory)
    for buffers in ((small, memory), (tokens, small)):
        with pytest.raises(LayoutError, match="expected buffers of"):
            describe(device, ids(3, 11), None, *buffers)
