"""One site's update, with all its statistics, beside tools that compute one of them.

    pip install 'lmfacts[bench]'
    python benches/updates.py [--rounds 7] [--seconds S]

An array of 2048 tokens x 4096 dims, Gaussian with one dim 40 times as large, in float32 and in bfloat16; one thread for
each tool, all in turn in one process. lmfacts counts the codes and accumulates the four moments of every dim, the
tokens' norms, minima, maxima and the 64 largest values; each rival does what its name says and nothing else. One that
does not read bfloat16 gets the values as float32, and the time for that is its own. Answers are compared before
anything is timed. A rival that is not installed is left out, and said to be.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from lmfacts import _native
from lmfacts.run.site import SiteRecord
from lmfacts.run.state import SiteState
from machine import RIVALS, mitigation, thread_settings
from measuring import Figure, Report, Target, command, interleaved, one_thread
from spreads import ratios

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

    from numpy.typing import NDArray

N_TOKENS, N_DIMS, TOP, BINS, LIMIT = 2048, 4096, 64, 2048, 8.0
EVERY = 8
"""torch.quantile sorts, and refuses more than 16 million values: it gets every eighth, and its time is multiplied."""
LIMITS = (-LIMIT, LIMIT)
OURS = "lmfacts, everything"
FASTER = Target(1, at_most=False, text="lmfacts faster")
TARGETS = {"fast_histogram": FASTER, "boost_histogram": FASTER, "numpy.histogram": FASTER}


def with_lmfacts(tensor: torch.Tensor, tokens: _native.TokenBatch) -> Callable[[], _native.SiteAccumulator]:
    """An accumulator's first update: making the accumulator counts."""

    def update() -> _native.SiteAccumulator:
        accumulator = _native.SiteAccumulator(k=TOP)
        accumulator.update(tensor, tokens)
        return accumulator

    return update


def rivals(tensor: torch.Tensor) -> dict[str, Callable[[], Any]]:
    """One statistic each, by the name of the tool."""
    flat = tensor.reshape(-1)

    def values() -> NDArray[np.float32]:
        return flat.float().numpy()  # float32 is not copied

    def largest_by_partition() -> NDArray[np.float32]:
        magnitudes = np.abs(values())
        return np.flip(np.sort(np.partition(magnitudes, -TOP)[-TOP:])).copy()

    found: dict[str, Callable[[], Any]] = {
        "torch.var_mean(dim=0)": lambda: torch.var_mean(tensor, dim=0, correction=0),
        "torch, Welford over rows": lambda: welford(tensor),
        "torch.topk(64) of |x|": lambda: torch.topk(flat.abs(), TOP).values,
        "numpy.partition, 64 of |x|": largest_by_partition,
        "torch.quantile": lambda: torch.quantile(flat[::EVERY].float(), 0.5),
        "torch.histc": lambda: torch.histc(flat.float(), BINS, *LIMITS).numpy(),
        "numpy.histogram": lambda: np.histogram(values(), BINS, LIMITS)[0],
    }
    if importlib.util.find_spec("fast_histogram"):
        from fast_histogram import histogram1d

        found["fast_histogram"] = lambda: histogram1d(values(), BINS, LIMITS)
    if importlib.util.find_spec("boost_histogram"):
        import boost_histogram

        def boost() -> Any:
            histogram = boost_histogram.Histogram(boost_histogram.axis.Regular(BINS, *LIMITS))
            return histogram.fill(values()).values()

        found["boost_histogram"] = boost
    if importlib.util.find_spec("datasketches"):
        from datasketches import kll_floats_sketch

        def kll() -> Any:
            sketch = kll_floats_sketch(200)
            sketch.update(values())
            return sketch.get_quantile(0.5)

        found["datasketches, KLL"] = kll
    return found


def welford(tensor: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Variance and mean of each dim, token by token."""
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
        elif "topk" in name or "partition" in name:
            largest = torch.as_tensor(answer).double().numpy()
            np.testing.assert_array_equal(np.abs(site.outliers["value"]), largest)
        elif "quantile" in name or "KLL" in name:
            share = np.searchsorted(values, float(answer)) / values.size
            assert abs(share - 0.5) < 0.02
            assert abs(np.searchsorted(values, site.quantile(0.5)) / values.size - 0.5) < 0.02
        else:
            inside = np.count_nonzero((values >= -LIMIT) & (values < LIMIT))
            assert abs(float(np.sum(answer)) - inside) <= 1e-4 * inside  # a bfloat16 can be the upper limit itself
            exact, _ = site.histogram(bins=BINS, range=LIMITS)
            assert abs(int(exact.sum()) - inside) <= 1e-4 * inside


def measure(options: argparse.Namespace) -> Report:
    """Check, then time in turn, for both dtypes."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn(N_TOKENS, N_DIMS, generator=generator)
    base[:, 7] *= 40
    one_thread()
    index = np.arange(N_TOKENS)
    tokens = _native.TokenBatch(index // 256, index % 256, np.zeros_like(index), np.ones(N_TOKENS, np.uint8))
    report = Report("updates", settings())
    for dtype, part in ((torch.float32, 0.5), (torch.bfloat16, 1.0)):
        clock = options.clock.share(part)
        tensor, short = base.to(dtype), str(dtype).removeprefix("torch.")
        ours, others = with_lmfacts(tensor, tokens), rivals(tensor)
        check(tensor, ours, others)
        times = interleaved({OURS: ours, **others}, options.rounds, clock=clock)
        report.add_times(times, short)
        for name in others:
            times_of_all = EVERY if name == "torch.quantile" else 1
            ratio = ratios([times_of_all * seconds for seconds in times[name]], times[OURS])
            target = TARGETS.get(name) if dtype == torch.float32 else None
            report.figures.append(Figure(f"{short}: time of {name}", OURS, ratio, "x", target))
    return report


def settings() -> dict[str, Any]:
    """What was run, and with what threads."""
    return {
        "array": f"{N_TOKENS} tokens x {N_DIMS} dims",
        "simd": _native.build_info()["simd"],
        "threads": thread_settings(),
        "speculative store bypass": mitigation(),
        "not installed": [name for name in RIVALS if importlib.util.find_spec(name) is None],
    }


if __name__ == "__main__":
    command(measure, __doc__, rounds=7)
