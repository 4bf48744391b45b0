"""Torch tensors as NumPy arrays, with bit patterns for the dtypes that NumPy lacks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from lmfacts.stats.float_values import PATTERNS, dtype_problem

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["array_of", "dtype_name", "tensor_problem"]


def dtype_name(tensor: torch.Tensor) -> str:
    """`float32`, `bfloat16`, `float8_e4m3fn`, ..."""
    return str(tensor.dtype).removeprefix("torch.")


def tensor_problem(tensor: torch.Tensor) -> str | None:
    """Why the values of a tensor cannot be read as an array; None if they can."""
    if hasattr(tensor, "__tensor_flatten__"):
        return f"it is a {type(tensor).__name__}, which keeps its values in tensors of its own"
    if tensor.layout is not torch.strided:
        return f"it is sparse ({tensor.layout})"
    return "it is quantized by torch" if tensor.is_quantized else dtype_problem(dtype_name(tensor))


def array_of(tensor: torch.Tensor) -> NDArray[Any]:
    """The values of a tensor, in place where it is on the CPU; bfloat16 as uint16 patterns, float8 as uint8."""
    tensor = tensor.detach().cpu()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.view(torch.uint16)
    elif dtype_name(tensor) in PATTERNS:
        tensor = tensor.view(torch.uint8)
    array: NDArray[Any] = tensor.numpy()
    return array
