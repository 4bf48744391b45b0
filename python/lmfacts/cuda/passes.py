"""Which tokens a pass is about, when the arguments of the call lie on a device.

The device works it out for the kernels (`kernels/tokens.cu`). The host needs it too, for the number of tokens, the
hash of the text and the tokens around outliers, but never at once: the arguments are copied to pinned memory without
waiting, and `lmfacts.token_batch.TokenReader` reads them when they have arrived, in the order of the passes. Both
number sequences by the same rules, so what the kernels put beside an outlier is what the host knows.

A pass whose arguments lie on the host is read there at once, and its description is copied to the devices that need it.
A pass that is replayed from a CUDA graph is not seen by the host: the device counts its tokens, its text is not hashed.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lmfacts import _native
from lmfacts.cuda import probe
from lmfacts.cuda.streams import Buffer, event_here
from lmfacts.token_batch import n_cached_tokens, shape_of_ids

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from lmfacts.cuda.streams import Order
    from lmfacts.token_batch import TokenReader, Tokens

__all__ = ["DevicePass", "HostPass", "Passes"]

_GIVEN = ("input_ids", "input", "inputs_embeds", "attention_mask", "position_ids")
_MOST_PENDING = 64
_LEAST_ROWS = 1024


class HostPass:
    """A pass whose tokens the host knows.

    Attributes:
        tokens: the tokens.
    """

    def __init__(self, tokens: Tokens) -> None:
        self.tokens = tokens
        self.n_tokens = tokens.sequence.size
        self._described: dict[torch.device, Buffer] = {}

    @property
    def native(self) -> _native.TokenBatch:
        """The tokens for the accumulators of the host."""
        return self.tokens.native

    @property
    def n_real(self) -> int:
        """Tokens that are not padding."""
        return self.tokens.n_real

    def on(self, device: torch.device) -> Buffer:
        """The description in memory of a device."""
        if device not in self._described:
            buffer = Buffer(_native.tokens_bytes(self.n_tokens), device, "the description of a pass")
            buffer.tensor.copy_(torch.from_numpy(_description(self.tokens)))
            self._described[device] = buffer
        return self._described[device]


def _description(tokens: Tokens) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """What the kernel would have written: sequence, position, token id, rows of first and rest, counts, real."""
    real = tokens.real.reshape(-1)
    is_first = real & (tokens.position.reshape(-1) == 0)
    lists = np.zeros((2, real.size), dtype="<u4")
    rows = [np.flatnonzero(is_first), np.flatnonzero(real & ~is_first)]
    for kept, found in zip(lists, rows, strict=True):
        kept[: found.size] = found
    parts = [
        np.ascontiguousarray(values, dtype="<i8") for values in (tokens.sequence, tokens.position, tokens.token_id)
    ]
    parts += [lists, np.array([found.size for found in rows], dtype="<u4"), real.astype(np.uint8)]
    return np.frombuffer(b"".join(part.tobytes() for part in parts), dtype=np.uint8).copy()


@dataclass
class DevicePass:
    """A pass whose tokens a device knows, and the host will know.

    Attributes:
        n_tokens: tokens, padding included.
        device: where its arguments lie.
        described: its description there.
        given: the arguments in host memory, which are there when `arrived` is over; None once they were read, and in a
            pass that is captured.
        n_cached: tokens of each sequence that earlier passes have seen.
        is_over: whether the pass has ended.
        is_captured: whether it only was captured into a CUDA graph: the host does not know its tokens.
        places: where the outliers stood after the pass, in host memory, for whoever asked for them.
    """

    passes: Passes
    n_tokens: int
    device: torch.device
    described: Buffer
    given: dict[str, torch.Tensor] | None
    n_cached: int
    arrived: torch.cuda.Event | None = None
    tokens: Tokens | None = None
    places: dict[str, list[tuple[_native.DeviceSite, torch.Tensor]]] = field(default_factory=dict)
    is_over: bool = False
    is_captured: bool = False
    _elsewhere: dict[torch.device, Buffer] = field(default_factory=dict)

    @property
    def native(self) -> _native.TokenBatch:
        """The tokens for the accumulators of the host, which has to wait for them."""
        return self._known().native

    @property
    def n_real(self) -> int:
        """Tokens that are not padding; the host has to wait for them."""
        return self._known().n_real

    def _known(self) -> Tokens:
        if self.tokens is None:
            self.passes.read_until(self)
        assert self.tokens is not None
        return self.tokens

    def on(self, device: torch.device) -> Buffer:
        """The description in memory of a device."""
        if device == self.device:
            return self.described
        if device not in self._elsewhere:
            buffer = Buffer(self.described.n_bytes, device, "the description of a pass")
            buffer.tensor.copy_(self.described.tensor, non_blocking=True)
            self._elsewhere[device] = buffer
        return self._elsewhere[device]


class Passes:
    """The passes of a recorder, one after the other.

    Attributes:
        n_replayed: tokens of passes that the host has not seen, because a CUDA graph was replayed; as of the last
            `wait`.
    """

    def __init__(
        self,
        order: Order,
        reader: TokenReader,
        counted: Callable[[Tokens], None],
        ended: Callable[[Tokens, DevicePass | None], None],
    ) -> None:
        """No passes yet.

        Args:
            order: that of all that is queued.
            reader: numbers the sequences on the host.
            counted: told of a pass's tokens when the host knows them, in the order of passes.
            ended: told again when the pass is over, with the pass itself if a device described it.
        """
        self._order = order
        self._reader = reader
        self._counted = counted
        self._ended = ended
        self._pending: deque[DevicePass] = deque()
        self._memory: Buffer | None = None
        self._is_in_step = False
        self._n_last_rows = 0
        self._n_read = 0  # tokens of passes that were described on a device and read on the host
        self._described: dict[tuple[torch.device, int], Buffer] = {}
        self.n_replayed = 0

    def begin(self, given: Mapping[str, Any]) -> HostPass | DevicePass:
        """The pass that starts with these arguments of the call.

        Raises:
            HookError: as `TokenReader.number`.
        """
        ids = given.get("input_ids", given.get("input"))
        ids = ids if isinstance(ids, torch.Tensor) else given.get("inputs_embeds")
        device = None
        if isinstance(ids, torch.Tensor) and ids.device.type != _HOST:
            device = probe.find_device(ids.device)
        if device is None or not isinstance(ids, torch.Tensor):
            self.wait()
            tokens = self._reader.number(given)
            self._is_in_step = False
            self._counted(tokens)
            return HostPass(tokens)
        if not _is_capturing(ids.device):
            self.read_arrived()
        return self._described_on_device(device, ids.device, given)

    def end(self, finished: HostPass | DevicePass) -> None:
        """The pass is over."""
        if isinstance(finished, HostPass):
            self._ended(finished.tokens, None)
            return
        finished.is_over = True
        if not finished.is_captured:
            finished.arrived = event_here(finished.device)
        if finished.tokens is not None:  # the host had to wait for it before
            self._ended(finished.tokens, finished)

    def _described_on_device(
        self, native: _native.Device, device: torch.device, given: Mapping[str, Any]
    ) -> DevicePass:
        n_rows, n_columns = shape_of_ids(given)
        n_tokens = n_rows * n_columns
        memory = self._memory_for(n_rows, device)
        n_cached = n_cached_tokens(given, n_rows, n_columns)
        stream = self._order.stream(device)
        described = self._described.get((device, n_tokens))
        if described is None:
            described = Buffer(_native.tokens_bytes(n_tokens), device, "the description of a pass")
            self._described[device, n_tokens] = described

        def argument(name: str) -> torch.Tensor | None:
            tensor = given.get(name)
            if not isinstance(tensor, torch.Tensor):
                return None
            return tensor.detach() if tensor.device == device else tensor.detach().to(device, non_blocking=True)

        starts = argument("position_ids")
        if starts is not None and (starts.ndim > 2 or starts.shape[-1] != n_columns):  # noqa: PLR2004  axes
            starts = None  # as on the host: they are of another kind, and say nothing of where sequences begin
        ids = argument("input_ids")
        ids = argument("input") if ids is None else ids
        _native.describe_tokens(
            native,
            (n_rows, n_columns),
            _whole_numbers(ids),
            argument("attention_mask"),
            _whole_numbers(starts),
            n_cached,
            n_cached > 0 and self._n_last_rows == n_rows,
            described.native,
            memory.native,
            stream,
        )
        self._n_last_rows = n_rows if n_columns else 0
        begun = DevicePass(self, n_tokens, device, described, None, n_cached)
        if _is_capturing(device):
            begun.is_captured = True
            return begun
        begun.given = {name: _arriving(given[name]) for name in _GIVEN if isinstance(given.get(name), torch.Tensor)}
        begun.arrived = event_here(device)
        self._pending.append(begun)
        if len(self._pending) > _MOST_PENDING:
            self.read_until(self._pending[0])
        return begun

    def _memory_for(self, n_rows: int, device: torch.device) -> Buffer:
        """What the device remembers from pass to pass, in step with the host's numbering."""
        memory, n_bytes = self._memory, _native.tokens_memory_bytes(max(n_rows, _LEAST_ROWS))
        if memory is not None and memory.tensor.device == device and memory.n_bytes >= n_bytes and self._is_in_step:
            return memory
        self.wait()
        totals = [0, 0, 0] if memory is None else memory.tensor[:24].cpu().view(torch.int64).tolist()
        if memory is None or memory.tensor.device != device or memory.n_bytes < n_bytes:
            memory = Buffer(n_bytes, device, "the numbering of sequences")
        last = self._reader.last
        numbers = np.array([self._reader.n_sequences, *totals[1:], *([] if last is None else last)], dtype="<i8")
        memory.tensor[: numbers.nbytes].copy_(torch.from_numpy(numbers.view(np.uint8)))
        self._n_last_rows = 0 if last is None else len(last)
        self._memory = memory
        self._is_in_step = True
        return memory

    # What the host learns later

    def read_arrived(self) -> None:
        """Read the passes whose arguments have arrived, without waiting for others."""
        while self._pending and self._pending[0].is_over:
            arrived = self._pending[0].arrived
            if arrived is not None and not arrived.query():  # type: ignore[no-untyped-call]  # torch's own
                return
            self._read(self._pending.popleft())

    def read_until(self, wanted: DevicePass) -> None:
        """Wait for the arguments of a pass and of those before it, and read them."""
        while wanted.tokens is None and self._pending:
            following = self._pending.popleft()
            if following.arrived is not None:
                following.arrived.synchronize()
            self._read(following)
        if wanted.tokens is None:
            raise RuntimeError("the tokens of a captured pass are not known to the host")

    def wait(self) -> None:
        """Wait for all passes, and count what was replayed."""
        while self._pending:
            self.read_until(self._pending[-1])
        if self._memory is not None and self._is_in_step:
            device = self._memory.tensor.device
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            n_sequences, n_tokens, _ = self._memory.tensor[:24].cpu().view(torch.int64).tolist()
            self.n_replayed = n_tokens - self._n_read
            self._reader.n_sequences = n_sequences

    @property
    def n_pending(self) -> int:
        """Passes that the host has not read."""
        return len(self._pending)

    def _read(self, arrived: DevicePass) -> None:
        assert arrived.given is not None
        arrived.tokens = self._reader.number(arrived.given, n_cached=arrived.n_cached)
        arrived.given = None
        self._n_read += arrived.tokens.n_real
        self._counted(arrived.tokens)
        if arrived.is_over:
            self._ended(arrived.tokens, arrived)


_HOST = "cpu"
"""The device type whose tensors the host reads itself."""


def _is_capturing(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _arriving(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor in host memory, as soon as the stream has come past its copy; of embeddings only the shape counts."""
    if tensor.is_floating_point() and tensor.ndim > 2:  # noqa: PLR2004  [B, S, dims]
        return torch.empty(1, dtype=tensor.dtype).expand(tensor.shape)
    # What lies on the host already is copied, too: the caller may change it.
    return tensor.detach().to("cpu", non_blocking=True, copy=True)


def _whole_numbers(tensor: torch.Tensor | None) -> torch.Tensor | None:
    return tensor if tensor is None or tensor.dtype in (torch.int64, torch.int32) else tensor.long()
