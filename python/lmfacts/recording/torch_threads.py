"""Updates run on the threads of torch's own loops."""

from __future__ import annotations

import sys
from pathlib import Path

from lmfacts import _native

__all__ = ["share_torch_threads"]

_RUNTIMES = ("libgomp", "libiomp5", "libomp")


def share_torch_threads(maps: Path = Path("/proc/self/maps")) -> bool:
    """Run updates on the threads of torch's OpenMP runtime, where it can be found.

    Those threads are awake between torch's own loops and would keep the cores from threads of ours. A number of threads
    that was asked for (`LMFACTS_NUM_THREADS`, `set_num_threads`) stays, with threads of our own.

    Args:
        maps: the list of files that this process has mapped, as Linux gives it.

    Returns:
        Whether updates use those threads.
    """
    if not sys.platform.startswith("linux"):
        return False
    try:
        lines = maps.read_text().splitlines()
    except OSError:
        return False
    # device, inode and so on stand before the path, which may contain spaces
    mapped = {Path(fields[5]) for line in lines if len(fields := line.split(maxsplit=5)) > 5}  # noqa: PLR2004  as above
    runtimes = [path for path in mapped if path.name.startswith(_RUNTIMES)]
    # Other packages may have loaded runtimes of their own; torch's lies in its folder or with its bundled libraries.
    of_torch = [path for path in runtimes if {"torch", "torch.libs"} & set(path.parts)]
    chosen = of_torch or runtimes
    return len(chosen) == 1 and _native.share_openmp(chosen[0])
