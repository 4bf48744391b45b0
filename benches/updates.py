"""One site's update, with all its statistics, beside tools that compute one of them.

    pip install fast-histogram boost-histogram datasketches
    python benches/updates.py

An array of 2048 tokens x 4096 dims in float32, Gaussian with one dim 40 times as large, and the same in bfloat16; one
thread each, interleaved in one process. lmfacts counts the codes and accumulates the four moments of every dim, the
tokens' norms, minima, maxima and the 64 largest values; each rival does what its name says and nothing else. Answers
are compared before anything is timed. Medians, and the time of each as a multiple of that of lmfacts.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import time
from typing import TYPE_CHECKING, Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("LMFACTS_NUM_THREADS", "1")

import numpy as np
import torch

from lmfacts import _native
from lmfacts.site_record import SiteRecord
from lmfacts.site_state import SiteState

if TYPE_CHECKING:
    from collections.abc import Callable

N_TOKENS, N_DIMS, TOP, BINS, LIMIT, ROUNDS = 2048, 4096, 64, 2048, 8.0, 7


def with_lmfacts(tensor: torch.Tensor, tokens: _native.TokenBatch) -> Callable[[], _native.SiteAccumulator]:
    """An accumulator's update."""

    def update() -> _native.SiteAccumulator:
        accumulator = _native.SiteAccumulator(k=TOP)
        accumulator.update(tensor, tokens)
        return accumulator

    return update


def rivals(tensor: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """One statistic each."""
    flat = tensor.reshape(-1)
    found: dict[str, Callable[[], Any]] = {
        "torch.var_mean(dim=0)": lambda: torch.var_mean(tensor, dim=0, correction=0),
        "torch, Welford over rows": lambda: welford(tensor),
        "torch.topk(64) of |x|": lambda: torch.topk(flat.abs(), TOP).values,
    }
    if tensor.dtype == torch.float32:
        values = flat.numpy()
        limits = (-LIMIT, LIMIT)
        found["torch.histc"] = lambda: torch.histc(flat, BINS, *limits).numpy()
        found["torch.quantile of 1/8"] = lambda: torch.quantile(flat[::8], 0.5)
        found["numpy.histogram"] = lambda: np.histogram(values, BINS, limits)[0]
        if importlib.util.find_spec("fast_histogram"):
            from fast_histogram import histogram1d

            found["fast_histogram"] = lambda: histogram1d(values, BINS, limits)
        if importlib.util.find_spec("boost_histogram"):
            import boost_histogram

            def boost() -> Any:
                histogram = boost_histogram.Histogram(boost_histogram.axis.Regular(BINS, *limits))
                return histogram.fill(values).values()

            found["boost_histogram"] = boost
        if importlib.util.find_spec("datasketches"):
            from datasketches import kll_floats_sketch

            def kll() -> Any:
                sketch = kll_floats_sketch(200)
                sketch.update(values)
                return sketch.get_quantile(0.5)

            found["datasketches, KLL"] = kll
    return found


def welford(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and variance of each dim, token by token."""
    mean, m2 = torch.zeros(N_DIMS, dtype=torch.float64), torch.zeros(N_DIMS, dtype=torch.float64)
    for n, row in enumerate(tensor.double(), start=1):
        delta = row - mean
        mean += delta / n
        m2 += delta * (row - mean)
    return m2 / N_TOKENS, mean


def check(
    tensor: torch.Tensor, ours: Callable[[], _native.SiteAccumulator], others: dict[str, Callable[[], Any]]
) -> None:
    """Every rival's answer follows from the accumulator's state."""
    site = SiteRecord(SiteState.from_native(ours().state()))
    values = np.sort(tensor.double().numpy().ravel())
    for name, other in others.items():
        answer = other()
        if "var_mean" in name or "Welford" in name:
            tolerance = 2e-2 if tensor.dtype == torch.bfloat16 and "var_mean" in name else 1e-4
            np.testing.assert_allclose(site.dims.std**2, answer[0].double().numpy(), rtol=tolerance)
        elif "topk" in name:
            np.testing.assert_array_equal(np.abs(site.outliers["value"]), answer.double().numpy())
        elif "quantile" in name or "KLL" in name:
            share = np.searchsorted(values, float(answer)) / values.size
            assert abs(share - 0.5) < 0.02
            assert abs(np.searchsorted(values, site.quantile(0.5)) / values.size - 0.5) < 0.02
        else:
            inside = np.count_nonzero((values >= -LIMIT) & (values < LIMIT))
            assert abs(float(np.sum(answer)) - inside) <= 1
            exact, _ = site.histogram(bins=BINS, range=(-LIMIT, LIMIT))
            assert abs(int(exact.sum()) - inside) <= 1e-4 * inside


def main() -> None:
    """Check, then time in turn."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(N_TOKENS, N_DIMS, generator=generator)
    base[:, 7] *= 40
    torch.set_num_threads(1)
    _native.set_num_threads(1)
    index = np.arange(N_TOKENS)
    tokens = _native.TokenBatch(index // 256, index % 256, np.zeros_like(index), np.ones(N_TOKENS, np.uint8))
    for dtype in (torch.float32, torch.bfloat16):
        tensor = base.to(dtype)
        ours, others = with_lmfacts(tensor, tokens), rivals(tensor)
        check(tensor, ours, others)
        times: dict[str, list[float]] = {"lmfacts, everything": [], **{name: [] for name in others}}
        for _ in range(ROUNDS):
            for name, run in (("lmfacts, everything", ours), *others.items()):
                start = time.perf_counter()
                run()
                times[name].append(time.perf_counter() - start)
        first = statistics.median(times["lmfacts, everything"])
        print(f"{str(dtype).removeprefix('torch.')}, {_native.build_info()['simd']}")
        for name, taken in times.items():
            median = statistics.median(taken)
            part = 8 if "1/8" in name else 1
            rate = tensor.numel() / part / median / 1e9
            print(f"  {name:26} {rate:7.3f} Gel/s   {median * part / first:7.1f}x")


if __name__ == "__main__":
    main()
