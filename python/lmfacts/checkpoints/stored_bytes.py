"""The bytes of a checkpoint's file, read into memory of our own.

A mapped file would be read without a copy, but a file that is cut short while it is mapped kills the process that looks
at its lost pages (SIGBUS), and no check beforehand can rule that out. Read, such a file gives fewer bytes, and that is
a sentence. The copy costs about 0.13 s for each GB on one core; into new memory it would cost half as much again.
"""

from __future__ import annotations

import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, BinaryIO, Final

import numpy as np

from lmfacts import _native
from lmfacts.errors import WeightFileError

if TYPE_CHECKING:
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["Buffer", "StoredBytes"]

_PIECE_BYTES: Final = 1 << 26
"""Read by more threads than one from here on: one thread copies from the page cache more slowly than many measure."""

_MOST_AT_ONCE: Final = 1 << 30
"""Below what one call of the system reads (2 GB)."""


class Buffer:
    """Memory for one tensor after the other: pages that were touched before cost nothing to touch again.

    Arrays that are given out stay valid: memory that somebody still holds a view of is left to him.
    """

    def __init__(self) -> None:
        """Without memory yet."""
        self._memory = np.empty(0, np.uint8)
        self._unshared = self._n_references()

    def take(self, n_bytes: int) -> NDArray[np.uint8]:
        """An array of that many bytes, with whatever was in them."""
        if len(self._memory) < n_bytes or self._n_references() > self._unshared:
            self._memory = np.empty(0, np.uint8)  # first let go of the old, then ask for the new
            self._memory = np.empty(n_bytes, np.uint8)
        return self._memory[:n_bytes]

    def _n_references(self) -> int:
        return sys.getrefcount(self._memory)


class StoredBytes:
    """An open file of weights.

    Attributes:
        path: where it is.
        n_bytes: its size.
        file: the file itself, to read a header from.
    """

    def __init__(self, path: Path) -> None:
        """Open it.

        Raises:
            WeightFileError: it is no regular file, or the system does not let it be read.
        """
        self.path = path
        try:
            # A FIFO would be waited for.
            if not stat.S_ISREG(path.stat().st_mode):
                raise WeightFileError(f"{path}: expected a regular file, got something else")
            self.file: BinaryIO = path.open("rb")
        except OSError as error:
            raise WeightFileError(f"{path}: cannot be read ({error.strerror or error})") from None
        self._status = self._now()
        self.n_bytes = self._status[0]

    def read_into(self, offset: int, out: NDArray[np.uint8]) -> None:
        """Fill an array of bytes from the file.

        Raises:
            WeightFileError: the file was changed since it was opened, or the system cannot read it.
        """
        view = memoryview(out.data)
        n_threads = min(_native.build_info()["n_threads"], -(-len(view) // _PIECE_BYTES))
        try:
            if n_threads > 1 and hasattr(os, "preadv"):
                step = -(-len(view) // n_threads)
                starts = range(0, len(view), step)
                with ThreadPoolExecutor(n_threads) as threads:
                    pieces = [threads.submit(self._fill, offset + at, view[at : at + step]) for at in starts]
                    n_read = sum(piece.result() for piece in pieces)
            elif hasattr(os, "preadv"):
                n_read = self._fill(offset, view)
            else:
                self.file.seek(offset)
                n_read = self.file.readinto(view)  # type: ignore[attr-defined]  # a buffered reader has it
        except (OSError, ValueError) as error:
            raise WeightFileError(f"{self.path}: cannot be read ({error})") from None
        if n_read < len(view) or self._now() != self._status:
            raise WeightFileError(
                f"{self.path}: expected a file that stays as it is, but it was cut short or written to while it was "
                "read; try again when nothing writes to it"
            )

    def close(self) -> None:
        """Close the file."""
        self.file.close()

    def _fill(self, offset: int, view: memoryview) -> int:
        """The number of bytes read; fewer than asked for where the file ends."""
        done = 0
        while done < len(view):
            n_bytes = os.preadv(self.file.fileno(), [view[done : done + _MOST_AT_ONCE]], offset + done)
            if n_bytes == 0:
                break
            done += n_bytes
        return done

    def _now(self) -> tuple[int, int]:
        """What shows that a file was written to: its size, and when it was last."""
        status: Any = os.fstat(self.file.fileno())
        return status.st_size, status.st_mtime_ns
