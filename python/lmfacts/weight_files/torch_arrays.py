"""Torch tensors as NumPy arrays, with bit patterns for the dtypes that NumPy lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["array_of", "dtype_name"]


def dtype_name(tensor: torch.Tensor) -> str:
    """`float32`, `bfloat16`, `float8_e4m3fn`, ..."""
    return str(tensor.dtype).removeprefix("torch.")


def array_of(tensor: torch.Tensor) -> NDArray[Any]:
    """The values of a tensor, in place where it is on the CPU; bfloat16 as uint16 patterns, float8 as uint8."""
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.uint16)
    elif dtype_name(tensor).startswith("float8"):
        tensor = tensor.view(torch.uint8)
    array: NDArray[Any] = tensor.numpy()
    return array
