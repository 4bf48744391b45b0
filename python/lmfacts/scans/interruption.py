"""Ctrl-C, SIGTERM and SIGHUP as requests to stop, which are met where nothing is left half done.

What is said of them is elsewhere: `activations.py` gives the run its reason to be incomplete, `lmfacts.cli.scan` prints
it, and `lmfacts.uncaught` has the sentence for where nothing was saved.
"""

from __future__ import annotations

import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

__all__ = ["Interruption", "interruptible"]

_SIGNALS: Final = tuple(
    number for name in ("SIGINT", "SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None
)
_ANYWHERE: Final = 3
"""The number of the request that ends even what must be finished."""


class Interruption:
    """How often a stop was asked for, and at which request the work that is under way raises `KeyboardInterrupt`.

    The first request raises in `waiting` only, the second also in `working`, the third anywhere. Saving is ended by the
    second request that comes while it lasts, if one came before, else by the third.
    """

    def __init__(self) -> None:
        self.n_requests = 0
        self._enough = _ANYWHERE

    @property
    def requested(self) -> bool:
        """Whether a stop was asked for."""
        return self.n_requests > 0

    @contextmanager
    def _ended_by(self, n_requests: int) -> Iterator[None]:
        before, self._enough = self._enough, n_requests
        try:
            if self.n_requests >= n_requests:  # it came just before
                raise KeyboardInterrupt
            yield
        finally:
            self._enough = before

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Work that can be dropped at any moment."""
        with self._ended_by(1):
            yield

    @contextmanager
    def working(self) -> Iterator[None]:
        """Work that is better finished, but is dropped at the second request."""
        with self._ended_by(2):
            yield

    @contextmanager
    def saving(self) -> Iterator[None]:
        """Work that must be finished; all requests from before it count as one."""
        self.n_requests = min(self.n_requests, 1)
        with self._ended_by(_ANYWHERE):
            yield

    def request(self, _number: int = 0, _frame: FrameType | None = None) -> None:
        """Ask for a stop.

        Raises:
            KeyboardInterrupt: this was the request that ends the work that is under way.
        """
        self.n_requests += 1
        if self.n_requests >= self._enough:
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[Interruption]:
    """Turn SIGINT, SIGTERM and SIGHUP into requests while the context lasts; the handlers from before are put back.

    A signal that is ignored stays ignored (`nohup`, jobs in the background of a script), and so does one whose handler
    Python cannot put back. Outside the main thread Python cannot set handlers, and nothing is changed.
    """
    interruption = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield interruption
        return
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    ours = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in ours:
        signal.signal(number, interruption.request)
    try:
        yield interruption
    finally:
        for number, handler in ours.items():
            signal.signal(number, handler)
