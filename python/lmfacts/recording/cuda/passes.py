"""The passes of a recorder, in their order: those whose tokens the host knows, and those that a device describes first.

What a call says of its tokens is `lmfacts.recording.pass_tokens.Call`, tensors that lie where the call's arguments
lay. On a device they are numbered there for the kernels (`kernels/tokens.cu`). The host needs the numbers too, for the
number of tokens, the hash of the text and the tokens around outliers, but never at once: the tensors are copied to
pinned memory without waiting, and `TokenReader` numbers them when they have arrived, in the order of the passes. Both
number by the same rules, so what the kernels put beside an outlier is what the host knows.

A pass whose arguments lie on the host is read there at once, and its description is copied to the devices that need it.
A pass that is replayed from a CUDA graph is not seen by the host: the device counts its tokens, its text is not hashed.

So a pass is finished when it is over and the host has read it, whichever comes later. `Passes.end` and `Passes.wait`
return the passes that have been finished meanwhile.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lmfacts import _native
from lmfacts.recording.cuda import probe
from lmfacts.recording.cuda.streams import Buffer, event_here
from lmfacts.recording.pass_tokens import CallReader, EndOfText, TokenReader

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmfacts.recording.counted_text import CountedText
    from lmfacts.recording.cuda.streams import Order
    from lmfacts.recording.pass_tokens import Arguments, Call, Tokens
    from lmfacts.recording.pass_tokens.call import Rows

__all__ = ["DevicePass", "HostPass", "Passes"]

_TENSORS = ("ids", "real", "starts", "earlier", "length", "is_odd_mask")
"""The tensors of a `Call`."""

_MOST_PENDING = 64
_LEAST_ROWS = 1024


class HostPass:
    """A pass whose tokens the host knows.

    Attributes:
        tokens: its tokens.
        rows: where its rows stand afterwards.
        shape: sequences and columns, [B, S].
        n_tokens: how many tokens, padding included.
    """

    def __init__(self, tokens: Tokens, rows: Rows) -> None:
        self.tokens = tokens
        self.rows = rows
        self.shape: tuple[int, int] = (tokens.sequence.shape[0], tokens.sequence.shape[1])
        self.n_tokens = tokens.sequence.size
        self._described: dict[torch.device, Buffer] = {}

    def known(self) -> Tokens:
        """The tokens."""
        return self.tokens

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
    for own_list, own_rows in zip(lists, rows, strict=True):
        own_list[: own_rows.size] = own_rows
    parts = [
        np.ascontiguousarray(values, dtype="<i8") for values in (tokens.sequence, tokens.position, tokens.token_id)
    ]
    parts += [lists, np.array([own_rows.size for own_rows in rows], dtype="<u4"), real.astype(np.uint8)]
    return np.frombuffer(b"".join(part.tobytes() for part in parts), dtype=np.uint8).copy()


@dataclass
class DevicePass:
    """A pass whose tokens a device knows, and the host will know.

    Attributes:
        passes: whose pass it is, and who reads it.
        shape: sequences and columns, [B, S].
        rows: where its rows stand afterwards.
        device: where its arguments lie.
        described: its description there.
        call: what the arguments say, copied to host memory; complete once `arrived` is over. None once it was read, and
            in a pass that is captured.
        arrived: over when everything that was queued for the host has come; None where nothing is queued.
        tokens: its tokens, once the host has read them.
        outlier_places: for each site, where the outliers stood after the pass, in host memory, if they were asked for.
        is_over: whether the pass has ended.
        is_captured: whether it was only captured into a CUDA graph: the host never knows its tokens.
    """

    passes: Passes
    shape: tuple[int, int]
    rows: Rows
    device: torch.device
    described: Buffer
    call: Call | None
    arrived: torch.cuda.Event | None = None
    tokens: Tokens | None = None
    outlier_places: dict[str, list[tuple[_native.DeviceSite, torch.Tensor]]] = field(default_factory=dict)
    is_over: bool = False
    is_captured: bool = False
    _elsewhere: dict[torch.device, Buffer] = field(default_factory=dict)

    @property
    def n_tokens(self) -> int:
        """Tokens, padding included."""
        return self.shape[0] * self.shape[1]

    @property
    def native(self) -> _native.TokenBatch:
        """The tokens for the accumulators of the host, which has to wait for them."""
        return self.known().native

    @property
    def n_real(self) -> int:
        """Tokens that are not padding; the host has to wait for them."""
        return self.known().n_real

    def known(self) -> Tokens:
        """The tokens, for which the host has to wait."""
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

    def __init__(self, order: Order, end_of_text: EndOfText, text: CountedText) -> None:
        """No passes yet.

        Args:
            order: that of all that is queued.
            end_of_text: how padding after the end of a generated text is known.
            text: takes the tokens of each pass as soon as the host knows them, in the order of the passes.
        """
        self._order = order
        self._calls = CallReader(end_of_text)
        self._reader = TokenReader()
        self._text = text
        self._pending: deque[DevicePass] = deque()
        self._finished: list[HostPass | DevicePass] = []
        self._memory: Buffer | None = None
        self._rows_in_memory: Rows | None = None
        self._captured: list[Call] = []  # a replayed graph reads their tensors again
        self._n_read = 0  # tokens of passes that were described on a device and read on the host
        self._described: dict[tuple[torch.device, int], Buffer] = {}
        self.n_replayed = 0

    @property
    def n_sequences(self) -> int:
        """Sequences so far; those of passes on a device as of the last `wait`."""
        return self._reader.n_sequences

    @property
    def n_odd_masks(self) -> int:
        """Passes whose mask had values that are neither 0 nor whole numbers."""
        return self._reader.n_odd_masks

    def notes(self) -> list[str]:
        """What a reader of the run should know of how the tokens were read, a sentence each."""
        notes = []
        if self.n_odd_masks:
            notes.append(
                f"The masks of {self.n_odd_masks} forward passes had values other than whole numbers; what is "
                "not 0 counts as a real token."
            )
        if self.n_replayed:
            notes.append(
                f"{self.n_replayed} tokens came from replayed CUDA graphs: they are counted, but not in the text's hash"
            )
        return notes

    def begin(self, arguments: Arguments) -> HostPass | DevicePass:
        """The pass that starts with these arguments of the call.

        Raises:
            HookError: as `CallReader.read`.
        """
        device = None
        if arguments.device.type != _HOST:
            device = probe.find_device(arguments.device)
        if device is not None:
            if not _is_capturing(arguments.device):
                self.read_arrived()
            return self._described_on_device(device, arguments.device, self._calls.read(arguments))
        self._read_all()  # sequences are numbered in the order of the passes
        call = _on_host(self._calls.read(arguments))
        tokens = self._reader.number(call)
        self._rows_in_memory = None
        self._text.add(tokens)
        return HostPass(tokens, call.rows)

    def remember(self, cache: object, begun: HostPass | DevicePass) -> None:
        """Know a cache that a pass has made again when it is given to another one."""
        self._calls.remember(cache, begun.rows)

    def end(self, begun: HostPass | DevicePass) -> list[HostPass | DevicePass]:
        """The pass is over.

        Returns:
            The passes that have been finished and not returned yet, in their order. One that a device described may
            come later, or never if it was only captured.
        """
        if isinstance(begun, HostPass):
            self._finished.append(begun)
        else:
            begun.is_over = True
            if not begun.is_captured:
                begun.arrived = event_here(begun.device)
            if begun.tokens is not None:  # the host needed them before
                self._finished.append(begun)
        return self._take_finished()

    def wait(self) -> list[HostPass | DevicePass]:
        """Wait for all passes, and count what was replayed.

        Returns:
            As `end`.
        """
        self._read_all()
        return self._take_finished()

    def _take_finished(self) -> list[HostPass | DevicePass]:
        finished, self._finished = self._finished, []
        return finished

    def _described_on_device(self, native: _native.Device, device: torch.device, call: Call) -> DevicePass:
        n_rows, n_columns = call.shape
        n_tokens = n_rows * n_columns
        memory = self._memory_for(n_rows, device, call.continues)
        stream = self._order.stream(device)
        described = self._described.get((device, n_tokens))
        if described is None:
            described = Buffer(_native.tokens_bytes(n_tokens), device, "the description of a pass")
            self._described[device, n_tokens] = described
        given = _on_device(call, device)
        _native.describe_tokens(
            native,
            given.shape,
            given.ids,
            given.real,
            given.starts,
            given.earlier,
            given.n_earlier,
            given.length,
            call.continues is not None,
            described.native,
            memory.native,
            stream,
        )
        self._rows_in_memory = call.rows
        begun = DevicePass(self, call.shape, call.rows, device, described, None)
        if _is_capturing(device):
            begun.is_captured = True
            self._captured += [call, given]
            return begun
        begun.call = _arriving(call)
        begun.arrived = event_here(device)
        self._pending.append(begun)
        if len(self._pending) > _MOST_PENDING:
            self.read_until(self._pending[0])
        return begun

    def _memory_for(self, n_rows: int, device: torch.device, continues: Rows | None) -> Buffer:
        """What the device remembers from pass to pass, in step with the host's numbering.

        The device knows the rows of the pass before. If this one goes on with others, or the host has numbered passes
        since, the host's knowledge is written there.
        """
        memory, n_bytes = self._memory, _native.tokens_memory_bytes(max(n_rows, _LEAST_ROWS))
        in_step = self._rows_in_memory is not None and (continues is None or continues is self._rows_in_memory)
        if memory is not None and memory.tensor.device == device and memory.n_bytes >= n_bytes and in_step:
            return memory
        self._read_all()
        totals = [0, 0, 0] if memory is None else memory.tensor[:24].cpu().view(torch.int64).tolist()
        if memory is None or memory.tensor.device != device or memory.n_bytes < n_bytes:
            memory = Buffer(n_bytes, device, "the numbering of sequences")
        last = None if continues is None else continues.sequence
        numbers = np.array([self._reader.n_sequences, *totals[1:], *([] if last is None else last)], dtype="<i8")
        memory.tensor[: numbers.nbytes].copy_(torch.from_numpy(numbers.view(np.uint8)))
        self._memory = memory
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

    def _read_all(self) -> None:
        """Wait for all passes, read them, and count what was replayed."""
        while self._pending:
            self.read_until(self._pending[-1])
        if self._memory is not None and self._rows_in_memory is not None:
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
        assert arrived.call is not None
        arrived.tokens = self._reader.number(arrived.call)
        arrived.call = None
        self._n_read += arrived.tokens.n_real
        self._text.add(arrived.tokens)
        if arrived.is_over:
            self._finished.append(arrived)


_HOST = "cpu"
"""The device type whose tensors the host reads itself."""


def _is_capturing(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _moved(call: Call, move: Callable[[torch.Tensor], torch.Tensor]) -> Call:
    """The call with each of its tensors somewhere else."""
    tensors = {name: getattr(call, name) for name in _TENSORS}
    moved: dict[str, Any] = {name: move(tensor) for name, tensor in tensors.items() if tensor is not None}
    return replace(call, **moved)


def _arriving(call: Call) -> Call:
    """The call in host memory, as soon as the stream has come past the copies."""
    # What lies on the host already is copied, too: the caller may change it.
    return _moved(call, lambda tensor: tensor.to("cpu", non_blocking=True, copy=True))


def _on_host(call: Call) -> Call:
    return _moved(call, lambda tensor: tensor.cpu())


def _on_device(call: Call, device: torch.device) -> Call:
    """The call for the kernel: on one device, and of the types and shapes that it reads."""
    moved = _moved(call, lambda tensor: tensor.to(device, non_blocking=True))
    earlier, length = _whole(moved.earlier), _whole(moved.length)
    return replace(
        moved,
        ids=_whole(moved.ids),
        starts=_whole(moved.starts),
        earlier=None if earlier is None else earlier.expand(call.shape[0])[:, None],
        length=None if length is None else length.reshape(1),
    )


def _whole(tensor: torch.Tensor | None) -> torch.Tensor | None:
    """The numbers as the kernel reads them, with 32 or 64 bits."""
    return tensor if tensor is None or tensor.dtype in (torch.int64, torch.int32) else tensor.long()
