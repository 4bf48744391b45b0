"""Updates run without the interpreter lock, beside each other, on memory that stays where it is and is never copied."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from lmfacts import _native
from lmfacts.errors import MergeError
from lmfacts.run.state import array_of_native
from support.comparison import assert_same_exact_parts, assert_same_states

N_CORES = os.cpu_count() or 1


@pytest.fixture(autouse=True)
def threads():
    yield
    _native.set_num_threads(N_CORES)


def tokens(n, *, sequence=0):
    return _native.TokenBatch(np.full(n, sequence), np.arange(n), np.full(n, -1), np.ones(n, np.uint8))


def in_subprocess(script, **environment):
    root = Path(_native.__file__).parents[1]
    variables = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join([str(root), str(Path(__file__).parents[1])]),
        **environment,
    }
    done = subprocess.run(
        [sys.executable, "-c", script], env=variables, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, f"exit code {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def test_other_python_threads_run_during_an_update():
    values = torch.randn(1, 512).expand(200_000, 512)  # some 100 million values: a good part of a second
    batch = tokens(len(values))
    accumulator = _native.SiteAccumulator()
    _native.set_num_threads(1)
    n_ticks, stop, span = [], threading.Event(), []

    def tick():
        while not stop.is_set():
            n_ticks.append(time.perf_counter())
            time.sleep(0.001)

    ticker = threading.Thread(target=tick)
    ticker.start()
    try:
        start = time.perf_counter()
        accumulator.update(values, batch)
        span = [start, time.perf_counter()]
    finally:
        stop.set()
        ticker.join()
    duration = span[1] - span[0]
    assert duration > 0.05, "the update is too short to show anything"
    inside = [at for at in n_ticks if span[0] + 0.1 * duration < at < span[1] - 0.1 * duration]
    assert len(inside) >= 5, f"{len(inside)} ticks in {duration:.2f} s: the interpreter was locked"


def test_reading_a_state_waits_for_the_update_without_the_interpreter():
    values = torch.randn(1, 512).expand(100_000, 512)
    batch = tokens(len(values))
    accumulator = _native.SiteAccumulator()
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            jobs = [pool.submit(accumulator.update, values, batch)]
            jobs += [pool.submit(accumulator.state) for _ in range(2)]
            jobs += [pool.submit(lambda: accumulator.n_bytes)]
            states = [job.result(timeout=120) for job in jobs[1:3]]
            # All of an update is seen, or none of it.
            assert {state["first/n_tokens"] + state["rest/n_tokens"] for state in states} <= {
                0,
                100_000,
                200_000,
                300_000,
            }
    assert accumulator.state()["rest/n_tokens"] == 3 * 99_999


@pytest.mark.parametrize("n_threads", [1, 2, 5])
def test_updates_from_several_threads_count_what_updates_in_turn_count(n_threads):
    _native.set_num_threads(n_threads)
    generator = torch.Generator().manual_seed(0)
    # Small integers, so that most outliers are ties.
    parts = [torch.randint(-9, 10, (300 + 7 * i, 64), generator=generator).float() for i in range(24)]
    batches = [tokens(len(part), sequence=i) for i, part in enumerate(parts)]
    in_turn = _native.SiteAccumulator(statistics=["unit_sums"])
    for part, batch in zip(parts, batches, strict=True):
        in_turn.update(part, batch)
    for _ in range(5):
        shared = _native.SiteAccumulator(statistics=["unit_sums"])
        barrier = threading.Barrier(4)

        def work(start, shared=shared, barrier=barrier):
            barrier.wait()
            for i in range(start, len(parts), 4):
                shared.update(parts[i], batches[i])

        with ThreadPoolExecutor(4) as pool:
            list(pool.map(work, range(4)))
        assert_same_exact_parts(shared.state(), in_turn.state())


def test_merging_two_accumulators_into_each_other_at_once_does_not_lock_up():
    values = torch.randn(64, 32)
    pair = [_native.SiteAccumulator(), _native.SiteAccumulator()]
    for accumulator in pair:
        accumulator.update(values, tokens(64))
    with ThreadPoolExecutor(2) as pool:
        jobs = [pool.submit(pair[i].merge, pair[1 - i]) for i in (0, 1) for _ in range(3)]
        for job in jobs:
            job.result(timeout=60)
    pair[0].merge(pair[0])
    n = pair[0].state()["first/n_tokens"]
    assert n % 2 == 0


def test_tensors_that_python_drops_meanwhile_stay_readable():
    """Threads update from temporaries that nothing else holds, while others churn the allocator and the collector."""
    stop = threading.Event()

    def churn():
        while not stop.is_set():
            torch.full((257, 64), float("nan"))  # freed memory would soon read as NaN
            np.full((257, 64), np.nan, np.float32)
            gc.collect(0)

    class Cycle:
        def __init__(self, tensor):
            self.tensor, self.me = tensor, self

    churners = [threading.Thread(target=churn) for _ in range(2)]
    for thread in churners:
        thread.start()
    batch = tokens(257)
    accumulators = [_native.SiteAccumulator() for _ in range(3)]

    def work(accumulator):
        for i in range(60):
            value = float(1 + i % 3)
            if i % 3 == 0:
                accumulator.update(torch.full((257, 64), value), batch)
            elif i % 3 == 1:
                accumulator.update(np.full((257, 64), value, np.float32), batch)
            else:
                accumulator.update(Cycle(torch.full((257, 64), value)).tensor, batch)

    try:
        with ThreadPoolExecutor(3) as pool:
            list(pool.map(work, accumulators))
    finally:
        stop.set()
        for thread in churners:
            thread.join()
    states = [accumulator.state() for accumulator in accumulators]
    codes = [array_of_native(states[0]["rest/codes"]), array_of_native(states[0]["rest/counts"])]
    np.testing.assert_array_equal(codes[0], [0x3F80, 0x4000, 0x4040])
    np.testing.assert_array_equal(codes[1], [20 * 256 * 64] * 3)
    for state in states[1:]:
        assert_same_states(state, states[0])


def test_a_tensor_whose_last_name_goes_during_the_update_stays_readable():
    """The update holds the object itself: the caller's variable is rebound while Rust reads."""
    box = [torch.ones(1, 512).expand(100_000, 512).contiguous()]
    batch = tokens(100_000)
    accumulator = _native.SiteAccumulator()
    started = threading.Event()

    def update():
        tensor = box[0]
        started.set()
        accumulator.update(tensor, batch)

    thread = threading.Thread(target=update)
    thread.start()
    started.wait()
    box[0] = torch.full((100_000, 512), 2.0)
    gc.collect()
    thread.join()
    state = accumulator.state()
    assert array_of_native(state["rest/codes"]).tolist() == [0x3F80]


_MEMORY = """
import numpy as np, torch
from lmfacts import _native
from lmfacts.scans.memory import peak_bytes
tokens = lambda n: _native.TokenBatch(np.zeros(n, np.int64), np.arange(n), np.full(n, -1), np.ones(n, np.uint8))
warm = _native.SiteAccumulator()
warm.update(torch.randn(4096, 1024), tokens(4096))
accumulator = _native.SiteAccumulator()
"""


def test_a_tensor_of_4_gib_that_is_one_row_is_read_without_memory_of_its_size():
    script = _MEMORY + (
        "batch = tokens(1 << 20)\n"
        "tensor = torch.randn(1, 1024).expand(1 << 20, 1024)\n"
        "before = peak_bytes()\n"
        "accumulator.update(tensor, batch)\n"
        "print(peak_bytes() - before, accumulator.state()['rest/n_tokens'])\n"
    )
    grown, n = map(int, in_subprocess(script).split())
    assert n == (1 << 20) - 1
    assert grown < 32 << 20, f"grew by {grown >> 20} MiB"


@pytest.mark.parametrize(
    "layout",
    [
        "torch.ones(1 << 15, 1024)",
        "torch.ones(1024, 1 << 15).t()",
        "torch.ones(8, 1 << 15, 128).permute(1, 0, 2)",
        "torch.ones(1 << 16, 1024, dtype=torch.bfloat16)",
        "torch.ones(1 << 15, 1024).requires_grad_()",
        "torch.ones(1 << 15, 1024).as_subclass(type('Marked', (torch.Tensor,), {}))",
        "np.ones((1 << 15, 1024), np.float32)[::-1]",
    ],
)
def test_no_layout_is_copied(layout):
    script = _MEMORY + (
        f"tensor = {layout}\n"
        "batch = tokens(len(tensor))\n"
        "before = peak_bytes()\n"
        "accumulator.update(tensor, batch)\n"
        "print(peak_bytes() - before)\n"
    )
    grown = int(in_subprocess(script))
    assert grown < 32 << 20, f"grew by {grown >> 20} MiB over a tensor of at least 128"


def test_merge_needs_the_same_settings_and_layout():
    base = {"k": 8, "threshold": 6.0}
    ours = _native.SiteAccumulator(**base)
    ours.update(torch.randn(4, 6), tokens(4))
    before = ours.state()

    def other(tensor=None, **settings):
        accumulator = _native.SiteAccumulator(**{**base, **settings})
        if tensor is not None:
            accumulator.update(tensor, tokens(4))
        return accumulator

    for theirs, message in (
        (other(torch.randn(4, 6), k=9), "8 and .*9|9 and .*8"),
        (other(torch.randn(4, 6), threshold=5.0), "6.* and .*5|5.* and .*6"),
        (other(torch.randn(4, 6), statistics=["unit_sums"]), "different unit_sums: (not )?kept and (not )?kept"),
        (other(torch.randn(4, 6), statistics=["block_codes"]), "different block_codes: (not )?kept and (not )?kept"),
        (other(torch.randn(4, 7)), "6 and 7"),
        (other(torch.randn(4, 6).double()), "float32 and float64"),
        (other(k=9), "8 and .*9"),
    ):
        with pytest.raises(MergeError, match=f"cannot merge accumulators with .*({message})"):
            ours.merge(theirs)
        assert_same_states(ours.state(), before)
    ours.merge(other())
    assert_same_states(ours.state(), before)
    empty = other()
    empty.merge(ours)
    assert_same_states(empty.state(), before)
    with pytest.raises(TypeError):
        ours.merge(None)


SUBNORMALS = """
import numpy as np, torch
from lmfacts import _native
from lmfacts.recording.torch_threads import share_torch_threads
from support.comparison import assert_same_states
torch.randn(300, 300) @ torch.randn(300, 300)
if {shared}:
    share_torch_threads()
i = np.arange(4000)
batch = _native.TokenBatch(i // 50, i % 50, i * 0, np.ones(4000, np.uint8))
values = torch.randn(4000, 256, generator=torch.Generator().manual_seed(1)).double()
scaled = [(values * 1e-5).half(), (values * 1e-40).float(), (values * 1e-40).bfloat16()]
states = []
kept = ["unit_sums", "sequence_blocks", "block_codes", "dim_histograms"]
for flush in (False, True):
    assert torch.set_flush_denormal(flush)
    sites = [_native.SiteAccumulator(statistics=kept) for _ in scaled]
    for site, tensor in zip(sites, scaled):
        site.update(tensor, batch)
    states.append([site.state() for site in sites])
    flushed = (torch.tensor([1e-40]) * 1).item() == 0
    assert flushed == flush, "the thread is as it was"
for plain, with_flushing in zip(*states):
    assert_same_states(with_flushing, plain)
"""


@pytest.mark.parametrize(("n_threads", "shared"), [("1", False), ("2", False), ("", True)])
def test_subnormal_values_count_as_what_they_are_on_threads_that_flush_them(n_threads, shared):
    in_subprocess(SUBNORMALS.format(shared=shared), LMFACTS_NUM_THREADS=n_threads, OMP_NUM_THREADS="2")


FORK = """
import os, signal, numpy as np, torch
from lmfacts import _native
from support.comparison import assert_same_states
values = torch.from_numpy(np.random.default_rng(2).normal(size=(4000, 100)))
i = np.arange(4000)
batch = _native.TokenBatch(i // 50, i % 50, i * 0, np.ones(4000, np.uint8))

def state():
    site = _native.SiteAccumulator()
    site.update(values, batch)
    return site.state()

before = state()
child = os.fork()
if child == 0:
    signal.alarm(60)
    assert_same_states(state(), before)
    assert _native.build_info()["n_threads"] == 3
    os._exit(0)
_, status = os.waitpid(child, 0)
assert status == 0, status
assert_same_states(state(), before)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_fork_after_updates_goes_on_with_threads_of_its_own():
    in_subprocess(FORK, LMFACTS_NUM_THREADS="3", OMP_NUM_THREADS="1")


def test_a_small_site_does_not_hold_the_memory_of_a_large_one():
    """Updates share memory to work in; what a site keeps is its own, and as large as it says."""
    script = """
import numpy as np, torch
from lmfacts import _native
from lmfacts.scans.memory import resident_bytes
_native.set_num_threads(1)
i = np.arange(64)
batch = _native.TokenBatch(i // 8, i % 8, i * 0, np.ones(64, np.uint8))
small, large = torch.randn(64, 16), torch.randn(64, 20_000)
_native.SiteAccumulator().update(large, batch)
kept = []
def one():
    kept.append(_native.SiteAccumulator(k=4))
    kept[-1].update(small, batch)
    _native.SiteAccumulator(k=4).update(large, batch)
for _ in range(10):
    one()
before, told = resident_bytes(), sum(site.n_bytes for site in kept)
for _ in range(60):
    one()
grown, told = resident_bytes() - before, sum(site.n_bytes for site in kept) - told
assert grown < told + (20 << 20), (grown, told)
"""
    in_subprocess(script, MALLOC_TRIM_THRESHOLD_="65536")
