"""What a benchmark ran on: processor, instructions, threads, versions. No names of machines, users or folders."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

__all__ = ["RIVALS", "machine", "mitigation", "record_name", "thread_settings", "versions"]

RIVALS = ("fast_histogram", "boost_histogram", "datasketches")
"""Packages that are only here to be compared with."""


def machine() -> dict[str, Any]:
    """Processor, cores, caches, memory, and the instructions that lmfacts and torch use."""
    import torch

    from lmfacts import _native

    info = _native.build_info()
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
        "simd": info["simd"],
        "simd_best": info["simd_available"][-1],
        "torch_simd": torch.backends.cpu.get_cpu_capability(),
        "speculative_store_bypass": mitigation(),
        "threads": thread_settings(),
    }


def record_name(machine: dict[str, Any]) -> str:
    """The name of a processor's record: its model, and the level of instructions, `forced-` where it has a better one.

    >>> name = "Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz"
    >>> record_name({"processor": name, "family": "6", "model": "143", "simd": "avx2", "simd_best": "avx512"})
    'intel-xeon-platinum-8481c-forced-avx2'
    >>> name = "AMD EPYC"
    >>> record_name({"processor": name, "family": "25", "model": "17", "simd": "avx512", "simd_best": "avx512"})
    'amd-epyc-family25-model17-avx512'
    """
    decoration = r"\((R|TM|C)\)|@.*|\b(CPU|Processor|\d+-Core)\b"
    processor = re.sub(decoration, " ", str(machine["processor"]), flags=re.IGNORECASE)
    # A virtual machine may call all processors of a maker the same; the numbers tell them apart.
    is_exact = re.search(r"\d", processor) is not None
    numbers = "" if is_exact or not machine["family"] else f" family{machine['family']} model{machine['model']}"
    level = machine["simd"] if machine["simd"] == machine["simd_best"] else f"forced {machine['simd']}"
    return re.sub(r"[^a-z0-9]+", "-", f"{processor}{numbers} {level}".lower()).strip("-")


def mitigation() -> str:
    """Whether stores are kept from being bypassed in this process, which makes histograms several times slower."""
    return _field(Path("/proc/self/status"), "Speculation_Store_Bypass") or "not said by this system"


def thread_settings() -> dict[str, Any]:
    """Threads of torch and of lmfacts, and the variables that set them or choose instructions."""
    import torch

    from lmfacts import _native

    of_threads = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OMP_WAIT_POLICY", "LMFACTS_NUM_THREADS")
    of_instructions = ("LMFACTS_SIMD", "ATEN_CPU_CAPABILITY", "ONEDNN_MAX_CPU_ISA")
    return {
        "torch": torch.get_num_threads(),
        "torch between operations": torch.get_num_interop_threads(),
        "lmfacts": _native.build_info()["n_threads"],
        **{name: os.environ[name] for name in (*of_threads, *of_instructions) if name in os.environ},
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
