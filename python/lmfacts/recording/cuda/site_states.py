"""The state of a site on devices: where an update is queued, and what becomes of it when a run is made."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch

from lmfacts import _native
from lmfacts.recording.cuda import probe
from lmfacts.recording.cuda.streams import Buffer

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from lmfacts.recording.cuda.streams import Order, Scratch

__all__ = ["DescribedTokens", "SiteStates", "places_in"]

_MOST_VALUES = 2**32 - 1


class DescribedTokens(Protocol):
    """The tokens of a pass, as far as an update needs them."""

    @property
    def n_tokens(self) -> int:
        """Tokens, padding included."""

    def on(self, device: torch.device) -> Buffer:
        """Their description in memory of a device."""


@dataclass
class _State:
    """One device's share of a site."""

    native: _native.DeviceSite
    buffer: Buffer


class SiteStates:
    """What a site has recorded on devices, one buffer on each that its values came from."""

    def __init__(self, order: Order, scratch: Scratch, options: Mapping[str, Any]) -> None:
        """Nothing recorded yet.

        Args:
            order: that of all that is queued.
            scratch: shared with the other sites.
            options: `k`, `threshold` and `statistics`, as `SiteAccumulator` takes them.
        """
        self._order = order
        self._scratch = scratch
        self._options = dict(options)
        self._states: dict[torch.device, _State] = {}
        self.n_copies = 0

    def update(self, tensor: torch.Tensor, tokens: DescribedTokens) -> bool:
        """Queue an update on the current stream of the tensor's device.

        Returns:
            Whether it was queued; False if the tensor has to be counted on the host.

        Raises:
            LayoutError, UnsupportedDtypeError: as `SiteAccumulator.update`.
            CudaError: the driver refuses, or a graph is captured before a first pass.
        """
        device = tensor.device
        state = self._states.get(device)
        if state is None:
            state = self._opened(tensor, tokens.n_tokens)
            if state is None:
                return False
        if tensor.numel() >= _MOST_VALUES or tokens.n_tokens == 0:
            return False
        stream = self._order.stream(device)
        scratch = self._scratch.get(device, state.native.scratch_bytes(tokens.n_tokens))
        described = tokens.on(device)
        buffers = (described.native, state.buffer.native, scratch.native)
        if not state.native.update(tensor, tokens.n_tokens, *buffers, stream):
            tensor = tensor.detach().contiguous()
            state.native.update(tensor, tokens.n_tokens, *buffers, stream)
            self.n_copies += 1
        return True

    def _opened(self, tensor: torch.Tensor, n_tokens: int) -> _State | None:
        """A new state for values like these, or none if kernels do not count them."""
        dtype = probe.DTYPES.get(tensor.dtype)
        if dtype is None or self._options["k"] > probe.MAX_K or n_tokens == 0 or tensor.numel() >= _MOST_VALUES:
            return None
        device = probe.find_device(tensor.device)
        if device is None:
            return None
        device.prepare(dtype)
        native = _native.DeviceSite(device, dtype, tensor.numel() // n_tokens, **self._options)
        state = _State(native, Buffer(native.state_bytes, tensor.device, "a site's statistics"))
        self._states[tensor.device] = state
        return state

    @property
    def n_bytes(self) -> int:
        """Bytes that the states hold, on all devices."""
        return sum(state.buffer.n_bytes for state in self._states.values())

    def join(self, accumulator: _native.SiteAccumulator) -> tuple[_native.SiteAccumulator, dict[str, int]]:
        """What the host and all devices have recorded together, and the calls and tokens that the devices have counted.

        Waits for the devices. Recording may go on.

        Raises:
            MergeError: values of different dtypes or numbers of dims were recorded on the host and on a device.
        """
        counted = {"n_calls": 0, "n_tokens": 0}
        if not self._states:
            return accumulator, counted
        joined = _native.SiteAccumulator.from_state(accumulator.state())
        for device, state in self._states.items():
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            decoded, n_calls = state.native.decode(state.buffer.tensor.cpu().numpy().tobytes())
            joined.merge(_native.SiteAccumulator.from_state(decoded))
            counted["n_calls"] += n_calls
            counted["n_tokens"] += decoded["first/n_tokens"] + decoded["rest/n_tokens"]
        return joined, counted

    def places_from(self, sequence: int) -> Iterable[tuple[int, int]]:
        """Sequence and position of the outliers in a sequence or a later one. Waits for the devices."""
        arriving = self.places_arriving()
        for device in self._states:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        return places_in(arriving, sequence)

    def places_arriving(self) -> list[tuple[_native.DeviceSite, torch.Tensor]]:
        """Where the outliers stand now, in host memory as soon as the streams have come past the copies."""
        arriving = []
        for state in self._states.values():
            start, n_bytes = state.native.places_section
            part = state.buffer.tensor[start : start + n_bytes]
            arriving.append((state.native, part.to("cpu", non_blocking=True, copy=True)))
        return arriving


def places_in(arrived: Iterable[tuple[_native.DeviceSite, torch.Tensor]], sequence: int) -> Iterable[tuple[int, int]]:
    """Sequence and position of the outliers in a sequence or a later one, from copies that have arrived."""
    for native, part in arrived:
        for place in native.places(part.numpy().tobytes()):
            if place[0] >= sequence:
                yield place
