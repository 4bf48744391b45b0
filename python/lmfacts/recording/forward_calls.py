"""Forward calls that are under way, thread by thread: which pass the values that come now belong to."""

from __future__ import annotations

import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from lmfacts.recording.pass_tokens import Arguments

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

    from lmfacts.recording.cuda.passes import DevicePass, HostPass

__all__ = ["ForwardCall", "ForwardCalls", "frame_that_called_the_hook", "is_in_backward"]


@dataclass
class ForwardCall:
    """A call of a model, from its start until it returns.

    Attributes:
        path: the module that was called from outside.
        entered: when it started, in seconds of `time.perf_counter`.
        frame: a frame of torch that runs until the call is over; None in a compiled graph.
        lmfacts_s: seconds of it spent in lmfacts.
        inner_s: seconds of it spent in calls that are counted separately, such as that of an encoder.
        arguments: what is known of its tokens so far; modules further inside may add to it.
        begun: its pass, as soon as its tokens were needed.
        n_before: tokens that were recorded before it.
        is_skipped: whether nothing of it is recorded, because its tokens cannot be told or were recorded before.
        has_recursed: whether the same module was called again inside it; that call is a pass of its own.
        recorded: the sites whose value was counted.
        under_way: the modules of this call that may be given tokens and have not returned, from the outside in.
    """

    path: str
    entered: float
    frame: FrameType | None = None
    lmfacts_s: float = 0.0
    inner_s: float = 0.0
    arguments: Arguments = field(default_factory=Arguments)
    begun: HostPass | DevicePass | None = None
    n_before: int = 0
    is_skipped: bool = False
    has_recursed: bool = False
    recorded: set[str] = field(default_factory=set)
    under_way: list[str] = field(init=False)

    def __post_init__(self) -> None:
        """The call has just started."""
        self.under_way = [self.path]


class ForwardCalls(threading.local):
    """The calls under way in the current thread, the innermost last.

    There is more than one where an encoder runs inside its model, and where a hook or the model itself calls the model.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[ForwardCall] = []

    @property
    def innermost(self) -> ForwardCall | None:
        """The call that values belong to now."""
        return self.stack[-1] if self.stack else None

    def started(self, path: str, frame: FrameType | None, *, is_encoder: bool) -> None:
        """A module that may be given tokens starts: a call of its own, or a part of the one under way."""
        call = self.innermost
        if call is not None and path not in call.under_way and not is_encoder:
            call.under_way.append(path)
            return
        if call is not None:
            call.has_recursed |= path in call.under_way
        # What is computed anew for the backward pass was recorded when it was computed first.
        self.stack.append(ForwardCall(path, time.perf_counter(), frame, is_skipped=is_in_backward()))

    def returned(self, path: str) -> ForwardCall | None:
        """A module is over; the call, if it was called from outside."""
        call = self.innermost
        if call is None or path not in call.under_way:
            return None
        del call.under_way[call.under_way.index(path) :]
        return None if call.under_way else self.stack.pop()

    def abandoned(self) -> Iterator[ForwardCall]:
        """Remove the calls that are over without having returned: torch calls no hook after a KeyboardInterrupt."""
        while self.stack and not _is_running(self.stack[-1].frame):
            yield self.stack.pop()


def frame_that_called_the_hook() -> FrameType | None:
    """The frame of torch that called the hook which runs now, and calls the module next; it ends with the module."""
    frame: FrameType | None = sys._getframe()  # noqa: SLF001  inspect's own is this one, or None
    while frame is not None and frame.f_globals.get("__name__", "").startswith("lmfacts."):
        frame = frame.f_back
    return frame


def is_in_backward() -> bool:
    """Whether a backward pass is under way in this thread; torch's own checkpointing asks the same."""
    return torch._C._current_graph_task_id() != -1  # noqa: SLF001  there is no public way to ask


def _is_running(frame: FrameType | None) -> bool:
    if frame is None:
        return True
    running: FrameType | None = sys._getframe()  # noqa: SLF001  as above
    while running is not None and running is not frame:
        running = running.f_back
    return running is not None
