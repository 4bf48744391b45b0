"""The CUDA kernels by NVRTC, which needs no GPU: they compile, and what comes out is what was meant."""

from __future__ import annotations

import functools
import importlib.util
import re
import subprocess
from pathlib import Path

import pytest

from lmfacts import _native
from lmfacts.errors import CudaError
from lmfacts.recording.cuda.probe import nvrtc_folders

ARCHITECTURES = {(8, 0): 163, (9, 0): 227, (10, 0): 227, (8, 9): 99}
"""Compute capability -> KiB of shared memory that a block can have."""

PROGRAMS = [
    *(
        (dtype, architecture)
        for dtype in (None, "float32", "bfloat16", "float16")
        for architecture in list(ARCHITECTURES)[:3]
    ),
    ("bfloat16", (8, 9)),  # the smaller table
]
OF_VALUES = [(dtype, architecture) for dtype, architecture in PROGRAMS if dtype is not None]

N_REGISTERS = 65_536
"""Of a multiprocessor."""

STATIC_BYTES = 48 << 10
RESERVED_BYTES = 1 << 10


def nvrtc_reason():
    return _native.cuda_info(nvrtc_folders()).get("nvrtc_reason")


def cuobjdump():
    triton = importlib.util.find_spec("triton")
    found = [
        Path(root) / "backends/nvidia/bin/cuobjdump"
        for root in (triton.submodule_search_locations or () if triton else ())
    ]
    return next((path for path in found if path.exists()), None)


def most_registers(dtype):
    """Kernel -> registers of a thread with which as many blocks as its source says fit on a multiprocessor at once."""
    source = _native.kernel_source(dtype)
    numbers = dict(re.findall(r"#define (\w+) (\d+)$", source, flags=re.MULTILINE))

    def number(text):
        return int(numbers.get(text, text))

    kernels = re.findall(r"^KERNEL\((\w+), (\w+)\) (\w+)\(", source, flags=re.MULTILINE)
    return {
        name: min(N_REGISTERS // (number(n_threads) * number(n_blocks)) // 8 * 8, 255)
        for n_threads, n_blocks, name in kernels
    }


NEEDS_NVRTC = pytest.mark.skipif(
    nvrtc_reason() is not None, reason=f"kernels were not compiled for a GPU: {nvrtc_reason()}"
)
NEEDS_CUOBJDUMP = pytest.mark.skipif(
    cuobjdump() is None, reason="no cuobjdump (it is in triton's wheel): code was not looked at"
)


@functools.cache
def compiled(dtype, architecture):
    return _native.compile_kernels(dtype, architecture, ARCHITECTURES[architecture] << 10, nvrtc_folders())


def dumped(dtype, architecture, option, folder):
    path = folder / "kernels.cubin"
    path.write_bytes(compiled(dtype, architecture))
    return subprocess.run([str(cuobjdump()), option, str(path)], capture_output=True, text=True, check=True).stdout


@NEEDS_NVRTC
@pytest.mark.parametrize(("dtype", "architecture"), PROGRAMS, ids=str)
def test_kernels_compile(dtype, architecture):
    assert compiled(dtype, architecture).startswith(b"\x7fELF")


@NEEDS_NVRTC
@NEEDS_CUOBJDUMP
@pytest.mark.parametrize(("dtype", "architecture"), PROGRAMS, ids=str)
def test_kernels_keep_to_registers_and_shared_memory(dtype, architecture, tmp_path):
    usage = dumped(dtype, architecture, "-res-usage", tmp_path)
    found = re.findall(r"Function (\w+):\s+REG:(\d+) STACK:(\d+) SHARED:(\d+) LOCAL:(\d+)", usage)
    most = most_registers(dtype)
    assert {name for name, *_ in found} == set(most)
    options = _native.kernel_options(dtype, architecture, ARCHITECTURES[architecture] << 10)
    n_slots = next(int(option.partition("=")[2]) for option in options if "SLOTS" in option)
    for name, registers, stack, shared, local in found:
        assert int(registers) <= most[name], name
        assert (int(stack), int(local)) == (0, 0), f"{name} spills, or keeps an array in local memory"
        dynamic = 4 * (n_slots + 4) if name == "codes" else 0
        limit = ARCHITECTURES[architecture] << 10 if dynamic else STATIC_BYTES + RESERVED_BYTES
        assert int(shared) + dynamic <= limit, name


@NEEDS_NVRTC
@NEEDS_CUOBJDUMP
@pytest.mark.parametrize(("dtype", "architecture"), OF_VALUES, ids=str)
def test_histograms_count_by_merged_atomics(dtype, architecture, tmp_path):
    code = dumped(dtype, architecture, "-sass", tmp_path)
    bodies = dict(re.findall(r"Function : (\w+)\n(.*?)(?=Function :|\Z)", code, flags=re.DOTALL))
    for kernel in ("codes", "dim_histograms"):
        merged = len(re.findall(r"ATOMS\.POPC\.INC", bodies[kernel]))
        others = len(re.findall(r"ATOMS\.(?:ADD|INC)|ATOM\.E|ATOMS\.CAS", bodies[kernel]))
        assert merged > 0, f"{kernel} has no ATOMS.POPC.INC"
        assert others <= 1, f"{kernel} counts by other atomics"  # one in global memory notes candidates
    assert not re.findall(r"\b(?:LDL|STL)\b", code), "local memory is used"


@NEEDS_NVRTC
def test_a_compiler_s_complaint_is_in_the_error():
    with pytest.raises(CudaError, match="do not compile with --gpu-architecture=sm_10"):
        _native.compile_kernels("bfloat16", (1, 0), 163 << 10, nvrtc_folders())


def test_a_device_without_a_driver_has_a_reason():
    info = _native.cuda_info(nvrtc_folders())
    if "driver" in info:
        pytest.skip("this machine has an NVIDIA driver")
    assert "no NVIDIA driver" in info["driver_reason"]
    with pytest.raises(CudaError, match="no NVIDIA driver"):
        _native.Device.cuda(0, nvrtc_folders())
