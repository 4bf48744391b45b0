"""Streams and buffers of torch, as the kernels need them."""

from __future__ import annotations

import torch

from lmfacts import _native
from lmfacts.errors import CudaError

__all__ = ["Buffer", "Order", "Scratch", "event_here", "to_host"]


def event_here(device: torch.device) -> torch.cuda.Event | None:
    """An event that is over when what was queued so far on the current stream is; None where nothing is queued."""
    if device.type != "cuda":
        return None
    event = torch.cuda.Event()  # type: ignore[no-untyped-call]  # torch's own
    event.record(torch.cuda.current_stream(device))
    return event


def to_host(tensor: torch.Tensor) -> torch.Tensor:
    """A copy in pinned host memory, of values that are all there when it returns."""
    tensor = tensor.detach()
    if tensor.device.type != "cuda":
        return tensor.cpu()
    copied = tensor.to("cpu", non_blocking=True)
    event = event_here(tensor.device)
    if event is not None:
        event.synchronize()
    return copied


class Order:
    """The order of everything that is queued: on each device, one thing after the other, on whatever streams."""

    def __init__(self) -> None:
        self._last: dict[torch.device, torch.cuda.Stream] = {}

    def stream(self, device: torch.device) -> int:
        """The handle of torch's current stream, which has been told to wait for what was queued elsewhere before."""
        if device.type != "cuda":
            return 0
        stream, last = torch.cuda.current_stream(device), self._last.get(device)
        # torch waits for the device before it captures a graph; within one, a stream cannot wait for others.
        if stream != last and not torch.cuda.is_current_stream_capturing():
            if last is not None:
                stream.wait_stream(last)
            self._last[device] = stream
        return int(stream.cuda_stream)


class Buffer:
    """Bytes on a device, that torch allocates and kernels write to.

    Attributes:
        tensor: uint8 [n_bytes].
        native: the same for the native part.
    """

    def __init__(self, n_bytes: int, device: torch.device, purpose: str) -> None:
        """Zeros.

        Raises:
            CudaError: a CUDA graph is being captured; zeros made now would be made again by each replay.
        """
        if device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            raise CudaError(
                f"{purpose} would have to be allocated while a CUDA graph is captured; run the model once with the "
                "same shapes before capturing, as torch asks for too"
            )
        # Not an inference tensor: it outlives the mode that a forward pass may run in.
        with torch.inference_mode(mode=False):
            self.tensor = torch.zeros(n_bytes, dtype=torch.uint8, device=device)
        self.native = _native.DeviceBuffer(self.tensor)

    @property
    def n_bytes(self) -> int:
        """How many bytes there are."""
        return self.tensor.numel()


class Scratch:
    """Scratch memory for updates, shared by all that run one after the other: a buffer for each device.

    A buffer that has become too small is kept: a captured graph may still work in it.
    """

    def __init__(self) -> None:
        self._buffers: dict[torch.device, list[Buffer]] = {}

    def get(self, device: torch.device, n_bytes: int) -> Buffer:
        """A buffer of at least so many bytes."""
        buffers = self._buffers.setdefault(device, [])
        if not buffers or buffers[-1].n_bytes < n_bytes:
            buffers.append(
                Buffer(max(n_bytes, 2 * buffers[-1].n_bytes if buffers else 0), device, "scratch memory for statistics")
            )
        return buffers[-1]

    @property
    def n_bytes(self) -> int:
        """Bytes of all buffers."""
        return sum(buffer.n_bytes for buffers in self._buffers.values() for buffer in buffers)
