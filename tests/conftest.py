"""What all tests start from, however they were started."""

from __future__ import annotations

import signal
from contextlib import suppress


def pytest_configure() -> None:
    """Take signals as a terminal leaves them: `nohup` and background jobs ignore some, which children inherit."""
    for name in ("SIGINT", "SIGHUP", "SIGTERM"):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            handler = signal.default_int_handler if name == "SIGINT" else signal.SIG_DFL
            with suppress(ValueError):  # not the main thread: then they stay as they are
                signal.signal(number, handler)
