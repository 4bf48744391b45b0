"""What a benchmark ran on: processor, caches, threads, versions. No names of machines, users or folders."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["RIVALS", "machine", "mitigation", "thread_settings", "versions"]

RIVALS = ("fast_histogram", "boost_histogram", "datasketches")
"""Packages that are only here to be compared with."""


def machine() -> dict[str, Any]:
    """Processor, cores, caches, memory, and the level of instructions that lmfacts uses."""
    from lmfacts import _native

    return {
        "processor": _field(Path("/proc/cpuinfo"), "model name") or platform.processor() or platform.machine(),
        "architecture": platform.machine(),
        "family": _field(Path("/proc/cpuinfo"), "cpu family"),
        "model": _field(Path("/proc/cpuinfo"), "model"),
        "cores": os.cpu_count(),
        "caches": _caches(),
        "memory_gb": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9),
        "system": f"{platform.system()} {platform.release().partition('-')[0]}",
        "virtual": "hypervisor" in _field(Path("/proc/cpuinfo"), "flags").split(),
        "simd": _native.build_info()["simd"],
        "speculative_store_bypass": mitigation(),
        "threads": thread_settings(),
    }


def mitigation() -> str:
    """Whether stores are kept from being bypassed in this process, which makes histograms several times slower."""
    return _field(Path("/proc/self/status"), "Speculation_Store_Bypass") or "not said by this system"


def thread_settings() -> dict[str, Any]:
    """Threads of torch and of lmfacts, and the variables that set them."""
    import torch

    from lmfacts import _native

    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "LMFACTS_NUM_THREADS", "LMFACTS_SIMD")
    return {
        "torch": torch.get_num_threads(),
        "torch between operations": torch.get_num_interop_threads(),
        "lmfacts": _native.build_info()["n_threads"],
        **{name: os.environ[name] for name in names if name in os.environ},
    }


def versions() -> dict[str, str]:
    """Of Python, the packages and the compiler; a rival that is not installed is left out."""
    from lmfacts import _native

    found = {"python": platform.python_version(), "lmfacts": _native.build_info()["version"]}
    for name in ("torch", "numpy", "transformers", "rich", *RIVALS):
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    try:
        done = subprocess.run(["rustc", "--version"], capture_output=True, text=True, check=True)
        found["rustc"] = done.stdout.split()[1]
    except (OSError, subprocess.CalledProcessError):
        pass
    return found


def _caches() -> str:
    """Kind and size of each cache of the first core."""
    found = []
    for cache in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = ((cache / name).read_text(encoding="ascii").strip() for name in ("level", "type", "size"))
        found.append(f"L{level}{'' if kind == 'Unified' else kind[0].lower()} {size}")
    return ", ".join(found)


def _field(path: Path, name: str) -> str:
    """What follows a name in a file of `name: value` lines; empty where there is none."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.split(":")[0].strip() == name), "")
