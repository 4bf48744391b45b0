"""Values that are hard on a kernel in one way each, [B, S, dims] in float32."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["DATA", "DTYPES", "LARGE_DATA", "values", "with_holes"]

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
"""The types that kernels count."""


def values(shape: Sequence[int], seed: int = 0) -> torch.Tensor:
    """Gaussian values."""
    return torch.randn(tuple(shape), generator=torch.Generator().manual_seed(seed))


def with_holes(x: torch.Tensor) -> torch.Tensor:
    """The same values, some of them not finite."""
    x[0, 3, 4], x[1, 5], x[1, 0, 0], x[0, 9, 9] = float("nan"), float("inf"), -float("inf"), -float("nan")
    return x


DATA: dict[str, Callable[[], torch.Tensor]] = {
    "gaussian": lambda: values((3, 40, 64)),
    "relu": lambda: values((3, 40, 64)).relu(),
    "gelu": lambda: torch.nn.functional.gelu(values((3, 40, 64))),
    "few values": lambda: (values((3, 40, 64)) * 2).round() / 4,
    "constant": lambda: torch.full((2, 40, 32), -0.25),
    "zeros": lambda: torch.zeros(2, 20, 32) * torch.tensor([1.0, -1.0]).repeat(16),
    "not finite": lambda: with_holes(values((2, 30, 16))),
    "nothing but NaN": lambda: torch.full((2, 9, 16), float("nan")),
    "huge": lambda: values((2, 40, 16)) * 1e30,
    "tiny": lambda: values((2, 40, 16)) * 1e-12,
    "far from zero": lambda: values((2, 70, 16)) + 1000,
    "one huge row": lambda: values((2, 70, 16)) * torch.where(torch.arange(70) == 8, 1e9, 1.0)[:, None],
    "one value": lambda: values((1, 1, 1)),
    "odd dims": lambda: values((2, 35, 13)),
    "many dims": lambda: values((1, 9, 700)),
    "many sequences": lambda: values((70, 3, 8)),
}
"""Small ones, of which an emulated device counts each in less than a second."""

LARGE_DATA: dict[str, Callable[[], torch.Tensor]] = {
    "large gaussian": lambda: values((8, 1024, 1024)),
    "large relu": lambda: values((4, 2048, 768)).relu(),
    "large few values": lambda: (values((4, 1024, 1024)) * 2).round() / 4,
    "large constant": lambda: torch.full((4, 1024, 1024), 1.5),
    "large with an outlier dim": lambda: values((8, 512, 1536)) * torch.where(torch.arange(1536) == 77, 300.0, 1.0),
    "large, wide": lambda: values((2, 64, 14336)),
    "large, odd": lambda: values((3, 777, 333)),
    "large, many short sequences": lambda: values((512, 2, 256)),
    "large, not finite": lambda: with_holes(values((8, 1024, 512))),
}
"""Ones that fill a GPU's multiprocessors."""
