"""Which types this processor computes in, and what it costs where it does not.

oneDNN multiplies matrices of bfloat16 and float16 on processors that have instructions for them, and torch's own loops
do on all others: by converting every value to float32 and back, at a fraction of float32's speed. oneDNN itself is
asked, so that the answer is what torch will do, within any limits (`ONEDNN_MAX_CPU_ISA`, a build without oneDNN).
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["computes_in", "emulation_note", "times_slower_than_float32"]

_ASKED: Final = {torch.bfloat16: "_is_mkldnn_bf16_supported", torch.float16: "_is_mkldnn_fp16_supported"}
_SHAPE: Final = (128, 512, 512)
_N_ROUNDS: Final = 3
_WORTH_SAYING: Final = 1.5


def computes_in(dtype: torch.dtype) -> bool:
    """Whether matrices of a type are multiplied by instructions for it, as those of float32 and float64 are."""
    name = _ASKED.get(dtype)
    if name is None:
        return True
    ask: Callable[[], bool] | None = getattr(torch.ops.mkldnn, name, None)
    return bool(torch.backends.mkldnn.enabled) and ask is not None and bool(ask())


def times_slower_than_float32(dtype: torch.dtype) -> float:
    """How much longer a matrix product takes than in float32, measured now in the CPU time of this thread.

    Some ten milliseconds; a tenth of a second where the type is emulated badly.
    """
    rows, inner, columns = _SHAPE
    taken = []
    with torch.inference_mode():
        for kind in (torch.float32, dtype):
            left, right = torch.ones(rows, inner, dtype=kind), torch.ones(inner, columns, dtype=kind)
            rounds = []
            for _ in range(_N_ROUNDS):
                start = time.thread_time()
                torch.mm(left, right)
                rounds.append(time.thread_time() - start)
            taken.append(min(rounds))
    return taken[1] / max(taken[0], 1e-9)


def emulation_note(dtype: torch.dtype, device: torch.device) -> str | None:
    """What to tell the user before a model runs in a type that this processor has no arithmetic for, or None.

    Args:
        dtype: of the model's parameters.
        device: where it runs; the answer is None for any other device than the processor.
    """
    if device.type != "cpu" or computes_in(dtype):
        return None
    slower = times_slower_than_float32(dtype)
    if slower < _WORTH_SAYING:
        return None
    name = str(dtype).removeprefix("torch.")
    return (
        f"this processor has no {name} arithmetic, and torch emulates it: a matrix product takes about {slower:.1f} "
        "times as long as in float32 (measured just now). With --dtype float32 the scan is faster by up to that much, "
        f"and records what the same weights compute without the rounding to {name}"
    )
