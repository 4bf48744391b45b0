"""Which CUDA devices can count values, and why the others cannot."""

from __future__ import annotations

import functools
import importlib.util
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lmfacts import _native
from lmfacts.errors import CudaError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import nn

__all__ = ["DTYPES", "MAX_K", "cuda_report", "find_device", "kernel_cache", "nvrtc_folders", "prepare_for"]

DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
"""The types that kernels count, and their names."""

MAX_K = 512
"""The most outliers that kernels keep."""


@functools.cache
def nvrtc_folders() -> tuple[str, ...]:
    """Folders of installed wheels that have NVRTC in them."""
    spec = importlib.util.find_spec("nvidia")
    roots: Sequence[str] = () if spec is None else list(spec.submodule_search_locations or ())
    folders = {str(path.parent) for root in roots for path in Path(root).glob("**/lib/libnvrtc.so.*")}
    return tuple(sorted(folders, reverse=True))


def kernel_cache() -> Path:
    """Where compiled kernels are kept: `LMFACTS_KERNEL_CACHE`, or a folder in the user's cache."""
    chosen = os.environ.get("LMFACTS_KERNEL_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "lmfacts" / "kernels"


_OPENED: dict[int, _native.Device | str] = {}
"""Each device that was asked for, or why it cannot be used."""


def _opened(index: int) -> _native.Device | str:
    """The device of this number, or why it cannot be used.

    Raises:
        CudaError: a CUDA graph is being captured, and no kernel can be loaded meanwhile.
    """
    if index not in _OPENED:
        if torch.version.hip is not None:
            _OPENED[index] = "this torch is built for ROCm, for which there are no kernels"
        elif torch.cuda.is_current_stream_capturing():
            raise CudaError(
                "no kernels are loaded yet, and a CUDA graph is captured; run the model once before capturing"
            )
        else:
            _OPENED[index] = _open(index)
    return _OPENED[index]


def _open(index: int) -> _native.Device | str:
    try:
        device = _native.Device.cuda(index, nvrtc_folders(), kernel_cache())
        device.prepare("bfloat16")
    except CudaError as error:
        return str(error)
    return device


def prepare_for(model: nn.Module) -> None:
    """Load what the values of a model will need, so that no hook has to."""
    kinds = {(parameter.device, parameter.dtype) for parameter in model.parameters() if parameter.is_cuda}
    for device, dtype in kinds:
        kernels = find_device(device)
        if kernels is not None:
            for name in sorted({DTYPES.get(dtype, "float32"), "float32"}):  # norms and softmax may be in float32
                kernels.prepare(name)


def find_device(device: torch.device) -> _native.Device | None:
    """The device's kernels, or None where tensors have to be copied to the host; the first time, a warning says why."""
    if device.type != "cuda":
        return None
    opened = _opened(torch.cuda.current_device() if device.index is None else device.index)
    if isinstance(opened, str):
        _warn_once(str(device), opened)
        return None
    return opened


@functools.cache
def _warn_once(device: str, reason: str) -> None:
    warnings.warn(f"tensors of {device} are copied to the host to be counted: {reason}", stacklevel=4)


def cuda_report() -> dict[str, Any]:
    """For `lmfacts info`: the GPUs that torch sees and where values on them are counted, driver, NVRTC and cache."""
    software = _native.cuda_info(nvrtc_folders())
    gpus = {}
    for index in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        opened = _opened(index)
        how = f"values are copied to the host: {opened}" if isinstance(opened, str) else "values are counted on it"
        gpus[torch.cuda.get_device_name(index)] = how
    driver, nvrtc = software.get("driver"), software.get("nvrtc")
    return {
        "gpus": gpus,
        "driver": "none: " + software["driver_reason"] if driver is None else f"CUDA {driver[0]}.{driver[1]}",
        "nvrtc": "none: " + software["nvrtc_reason"] if nvrtc is None else f"{nvrtc[0]}.{nvrtc[1]}",
        "kernel_cache": str(kernel_cache()),
    }
