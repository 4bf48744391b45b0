"""Forward calls that are under way: which pass the values that come now belong to, in each thread by itself."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from lmfacts.pass_tokens import Arguments

if TYPE_CHECKING:
    from lmfacts.cuda.passes import DevicePass, HostPass

__all__ = ["ForwardCall", "ForwardCalls"]


@dataclass
class ForwardCall:
    """A call of a model, from its start until it returns.

    Attributes:
        path: the module that was called from outside.
        entered: when, in seconds of `time.perf_counter`.
        own_s: seconds spent in lmfacts since.
        not_its_own_s: seconds spent in calls that are counted separately, such as that of an encoder.
        arguments: what is known of its tokens so far; modules further inside may add to it.
        begun: its pass, as soon as its tokens were needed.
        n_before: tokens that were recorded before it.
        is_skipped: whether its tokens cannot be told, so that nothing of it is recorded.
        recorded: the sites that have had their value.
        n_inside: calls of modules inside it that may be given tokens, under way.
    """

    path: str
    entered: float
    own_s: float = 0.0
    not_its_own_s: float = 0.0
    arguments: Arguments = field(default_factory=Arguments)
    begun: HostPass | DevicePass | None = None
    n_before: int = 0
    is_skipped: bool = False
    recorded: set[str] = field(default_factory=set)
    n_inside: int = 0


class ForwardCalls(threading.local):
    """The calls under way in a thread, the innermost last: more than one where an encoder runs inside its model."""

    def __init__(self) -> None:
        super().__init__()
        self.stack: list[ForwardCall] = []

    @property
    def innermost(self) -> ForwardCall | None:
        """The call that values belong to now."""
        return self.stack[-1] if self.stack else None
