"""Calls of a site on a device and on the host, for the same values and tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from lmfacts import _native
from lmfacts.recording.pass_tokens import Arguments, CallReader, TokenReader
from lmfacts.run.statistics import STATISTICS

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ALL", "Tokenized", "on_device", "on_host", "tokenized"]

Tokenized = tuple[torch.Tensor, dict[str, torch.Tensor]]
"""Values [B, S, dims], and the arguments of the model's call that they came from."""

ALL: dict[str, Any] = {"statistics": [name for name, statistic in STATISTICS.items() if statistic.is_option]}
"""Everything that a site can keep."""


def tokenized(values: torch.Tensor, mask: torch.Tensor | None = None) -> Tokenized:
    """Values with token ids that are all different, on the values' device."""
    n_rows, n_columns = values.shape[:2]
    given = {"input_ids": torch.arange(n_rows * n_columns, device=values.device).reshape(n_rows, n_columns)}
    if mask is not None:
        given["attention_mask"] = mask.to(values.device)
    return values, given


def _buffer(n_bytes: int, device: torch.device) -> tuple[torch.Tensor, _native.DeviceBuffer]:
    tensor = torch.zeros(n_bytes, dtype=torch.uint8, device=device)
    return tensor, _native.DeviceBuffer(tensor)


def on_device(
    device: _native.Device, calls: Sequence[Tokenized], *, stream: int = 0, **options: Any
) -> tuple[dict[str, Any], int]:
    """The state after these calls, and how many calls the device has counted."""
    values = calls[0][0]
    site = _native.DeviceSite(device, str(values.dtype).removeprefix("torch."), values[0, 0].numel(), **options)
    state, state_buffer = _buffer(site.state_bytes, values.device)
    _, memory = _buffer(_native.tokens_memory_bytes(max(x.shape[0] for x, _ in calls)), values.device)
    kept = [memory]
    for values, given in calls:
        n_rows, n_columns = values.shape[:2]
        tokens, scratch = (
            _buffer(n_bytes, values.device)[1]
            for n_bytes in (_native.tokens_bytes(n_rows * n_columns), site.scratch_bytes(n_rows * n_columns))
        )
        kept += [tokens, scratch]
        call = CallReader().read(Arguments.of(given))
        _native.describe_tokens(
            device, call.shape, call.ids, call.real, call.starts, None, 0, None, False, tokens, memory, stream
        )
        assert site.update(values, n_rows * n_columns, tokens, state_buffer, scratch, stream)
    return site.decode(state.cpu().numpy().tobytes())


def on_host(calls: Sequence[Tokenized], **options: Any) -> dict[str, Any]:
    """The state after these calls by the host's accumulator."""
    accumulator, reader = _native.SiteAccumulator(**options), TokenReader()
    for values, given in calls:
        on_host = {name: tensor.cpu() for name, tensor in given.items()}
        accumulator.update(values.cpu(), reader.number(CallReader().read(Arguments.of(on_host))).native)
    return accumulator.state()
