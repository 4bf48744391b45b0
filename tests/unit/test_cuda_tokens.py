"""The tokens of a pass as a device describes them, against `TokenReader`."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lmfacts import _native
from lmfacts.cuda.passes import _description
from lmfacts.errors import LayoutError
from lmfacts.token_batch import TokenReader
from support.emulated_device import COMPILER, NO_COMPILER, emulated_device

pytestmark = pytest.mark.skipif(COMPILER is None, reason=NO_COMPILER)


@pytest.fixture(scope="module")
def device():
    return emulated_device(("float32",))


class Both:
    """Passes described by the kernel and read by the host."""

    def __init__(self, device):
        self.device, self.reader = device, TokenReader()
        self.memory = torch.zeros(_native.tokens_memory_bytes(64), dtype=torch.uint8)
        self.memory_buffer = _native.DeviceBuffer(self.memory)
        self.n_last_rows = 0

    def check(self, ids=None, mask=None, starts=None, n_cached=0):
        given = {"input_ids": ids, "attention_mask": mask, "position_ids": starts}
        given = {name: tensor for name, tensor in given.items() if tensor is not None}
        tokens = self.reader.number(given, n_cached=n_cached)
        n_rows, n_columns = tokens.sequence.shape
        described = torch.zeros(_native.tokens_bytes(n_rows * n_columns), dtype=torch.uint8)
        continues = n_cached > 0 and self.n_last_rows == n_rows
        buffers = (_native.DeviceBuffer(described), self.memory_buffer)
        _native.describe_tokens(self.device, (n_rows, n_columns), ids, mask, starts, n_cached, continues, *buffers, 0)
        self.n_last_rows = n_rows
        self.compare(described.numpy(), _description(tokens), n_rows * n_columns)
        totals = self.memory[:24].view(torch.int64)
        assert totals[0] == self.reader.n_sequences
        np.testing.assert_array_equal(self.memory[24 : 24 + 8 * n_rows].view(torch.int64), self.reader.last)
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
    both.check(ids(3, 2), None, n_cached=12)  # a cache and no mask
    both.check(ids(2, 5))
    both.check(ids(3, 5), n_cached=5)  # other rows than before: new sequences


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


def test_what_does_not_fit_is_an_error(device):
    memory = _native.DeviceBuffer(torch.zeros(_native.tokens_memory_bytes(8), dtype=torch.uint8))
    tokens = _native.DeviceBuffer(torch.zeros(_native.tokens_bytes(33), dtype=torch.uint8))
    small = _native.DeviceBuffer(torch.zeros(40, dtype=torch.uint8))
    with pytest.raises(LayoutError, match=r"shape \[3, 11\]"):
        _native.describe_tokens(device, (3, 11), ids(3, 10), None, None, 0, False, tokens, memory, 0)
    with pytest.raises(LayoutError, match="at least 11 columns"):
        _native.describe_tokens(device, (3, 11), ids(3, 11), torch.ones(3, 4), None, 0, False, tokens, memory, 0)
    for buffers in ((small, memory), (tokens, small)):
        with pytest.raises(LayoutError, match="expected buffers of"):
            _native.describe_tokens(device, (3, 11), ids(3, 11), None, None, 0, False, *buffers, 0)
