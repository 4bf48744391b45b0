"""Ctrl-C and SIGTERM as a request that is honored where nothing is half done."""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["Interruption", "interruptible"]


class Interruption:
    """Whether a stop was asked for."""

    def __init__(self) -> None:
        self.requested = False
        self._waiting = False

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Mark a stretch of work that can be dropped at any moment: a request raises `KeyboardInterrupt` there."""
        self._waiting = True
        try:
            yield
        finally:
            self._waiting = False

    def request(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        """Ask for a stop.

        Raises:
            KeyboardInterrupt: while waiting, or when asked a second time.
        """
        again, self.requested = self.requested, True
        if again or self._waiting:
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Turn SIGINT and SIGTERM into requests while the context lasts; the handlers from before are put back.

    Outside the main thread Python cannot set handlers, and nothing is changed.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.signal(number, interruption.request) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
