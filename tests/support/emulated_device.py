"""The processor in the place of a CUDA device: the kernels' own sources, built by the host's C compiler.

`emulated_device()` gives a `lmfacts._native.Device` whose launches run `tests/gpu/emulator.c` on host memory. All is
the same as on a GPU but the driver's own calls: kernels, shapes of launches, layouts of buffers, and what is made of
them in Python.
"""

from __future__ import annotations

import functools
import hashlib
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from lmfacts import _native

__all__ = ["COMPILER", "NO_COMPILER", "built_library", "emulated_device", "kernel_sources"]

COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
NO_COMPILER = "no C compiler on PATH: the CUDA kernels were not run on this processor"

_EMULATOR = Path(__file__).resolve().parents[1] / "gpu" / "emulator.c"
_DTYPES = ("float32", "bfloat16", "float16")
_KERNEL = re.compile(r"^KERNEL\([^)]*\) (\w+)\(ARGUMENTS\((\w+)\)", re.MULTILINE)
"""A kernel and the type of its arguments, in the sources."""

_FLAGS = ("-std=gnu11", "-O2", "-ffp-contract=off", "-fPIC", "-shared", "-Wall", "-Wno-unused-function")


@functools.cache
def _built_in() -> Path:
    folder = tempfile.TemporaryDirectory(prefix="lmfacts-emulator-")
    _KEPT.append(folder)
    return Path(folder.name)


_KEPT: list[tempfile.TemporaryDirectory[str]] = []


@functools.cache
def _library(dtype: str, shared_bytes: int) -> Path:
    """The shared library for values of a dtype, built once."""
    return built_library(dtype, kernel_sources(dtype), shared_bytes)


def kernel_sources(dtype: str) -> str:
    """The kernels that describe tokens and those that count values of a dtype."""
    return _native.kernel_source(None) + _native.kernel_source(dtype).removeprefix(_shared_part(dtype))


def built_library(dtype: str, source: str, shared_bytes: int) -> Path:
    """The shared library of these sources, for values of a dtype.

    Raises:
        AssertionError: with what the compiler says, if they do not build.
    """
    definitions = [option for option in _native.kernel_options(dtype, (9, 0), shared_bytes) if option.startswith("-D")]
    kernels = " ".join(f"X({kernel}, {arguments})" for kernel, arguments in _KERNEL.findall(source))
    source += f"\n#define EACH_KERNEL(X) {kernels}\n"
    name = hashlib.sha256("".join([source, *definitions]).encode()).hexdigest()[:16]
    folder = _built_in() / name
    folder.mkdir(exist_ok=True)
    (folder / "kernels.h").write_text(source, encoding="utf-8")
    library = folder / "kernels.so"
    command = [str(COMPILER), *_FLAGS, *definitions, f"-I{folder}", str(_EMULATOR), "-o", str(library), "-lm"]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode != 0:
        raise AssertionError(f"the kernels do not build on this processor:\n{built.stderr}")
    return library


def _shared_part(dtype: str) -> str:
    """What the sources of both programs begin with: the definitions of values."""
    tokens, values = _native.kernel_source(None), _native.kernel_source(dtype)
    n_same = next(i for i, (a, b) in enumerate(zip(tokens, values, strict=False)) if a != b)
    return values[: values.rindex("\n", 0, n_same) + 1] if n_same else ""


def emulated_device(
    dtypes: tuple[str, ...] = _DTYPES, *, n_multiprocessors: int = 4, shared_kib: int = 227
) -> _native.Device:
    """A device of a few multiprocessors.

    Args:
        dtypes: those that it can count.
        n_multiprocessors: how many; few, since each block takes its time.
        shared_kib: KiB of shared memory that a block can have, which decides the table of the histogram.
    """
    libraries = {dtype: str(_library(dtype, shared_kib << 10)) for dtype in dtypes}
    return _native.Device.emulated(libraries, n_multiprocessors, shared_kib << 10)
