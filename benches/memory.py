"""Memory over a million tokens: what the accumulators hold and one batch, and no growth.

    python benches/memory.py [--tokens 1000000] [--seconds S]

The embedded model, all sites, token contexts included, batches of 32 x 256 tokens of random bytes. Two processes: one
runs the model bare, for as long as its memory still grows; one records. Told, and asserted: from a tenth of the way on,
and from five batches at least, the bytes of the accumulators are the same ones, and the peak of resident memory rises
by less than 16 MB; that peak is above the bare process's by no more than the accumulators, one batch of all sites, and
16 MB. (The allocators keep what they were given back in pieces: such a margin is what "no growth" can mean for a whole
process.) With `--seconds` there are as many tokens as the rate of the bare process promises time for, and the report
says how many; none if these would be too few to tell.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from measuring import Figure, Report, Target, command, one_thread
from spreads import spread

if TYPE_CHECKING:
    import argparse

N_SEQUENCES, SEQ_LEN = 32, 256
MARGIN_MB = 16.0
SHORT = 40_000
"""Tokens of the bare process: its memory has stopped growing long before."""
FIRST_BATCHES = 5
"""After which the recording process may be compared with itself: the allocators have seen every size a few times."""
LEAST = 5 * FIRST_BATCHES * N_SEQUENCES * SEQ_LEN
"""Tokens of the recording process: fewer tell nothing of growth."""
RECORDED_RATE = 0.6
"""The recording process's rate, at least, as a share of the bare one's."""
START_SHARE = 0.5
"""The part of the bare process's time that the start of another takes, at most."""


def child(n_tokens: int, *, record: bool) -> dict[str, float]:
    """Run the model over so many tokens in this process."""
    import torch

    import lmfacts
    from lmfacts.models.loading import load_model
    from lmfacts.scans.memory import peak_bytes

    one_thread()
    loaded = load_model("demo", dtype="float32")
    generator = torch.Generator().manual_seed(0)
    recorder = lmfacts.attach(loaded.model, sites="all", tokenizer=loaded.tokenizer)
    if not record:
        recorder.detach()
    n_batches = -(-n_tokens // (N_SEQUENCES * SEQ_LEN))
    warm, warm_state = 0, 0
    start = time.monotonic()
    with torch.inference_mode():
        for batch in range(n_batches):
            loaded.model(torch.randint(0, 256, (N_SEQUENCES, SEQ_LEN), generator=generator), use_cache=False)
            if batch + 1 == min(n_batches, max(FIRST_BATCHES, n_batches // 10)):
                warm, warm_state = peak_bytes(), recorder.state_bytes
    end, end_state = peak_bytes(), recorder.state_bytes
    n_dims = sum(recorder.site(name).dims.mean.size for name in recorder.site_names) if record else 0
    if record:
        assert recorder.n_tokens == n_batches * N_SEQUENCES * SEQ_LEN
    return {
        "warm": warm,
        "end": end,
        "warm_state": warm_state,
        "end_state": end_state,
        "batch": 4 * n_dims * N_SEQUENCES * SEQ_LEN,
        "tokens": recorder.n_tokens,
        "tokens_per_s": n_batches * N_SEQUENCES * SEQ_LEN / (time.monotonic() - start),
        "sites": len(recorder.site_names),
    }


def in_a_process(n_tokens: int, *, record: bool) -> dict[str, float]:
    """The same in a process of its own, whose peak is nobody else's."""
    kind = "record" if record else "bare"
    command_line = [sys.executable, __file__, "--tokens", str(n_tokens), "--child", kind]
    done = subprocess.run(command_line, capture_output=True, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def measure(options: argparse.Namespace) -> Report:
    """Both processes, and what follows."""
    start = time.monotonic()
    bare = in_a_process(min(options.tokens, SHORT), record=False)
    time_left = options.clock.left - START_SHARE * (time.monotonic() - start)
    affordable = RECORDED_RATE * bare["tokens_per_s"] * time_left
    report = Report("memory", {"model": "the embedded one, float32", "batch": f"{N_SEQUENCES} x {SEQ_LEN}"})
    if affordable < min(LEAST, options.tokens):
        report.settings["tokens"] = (
            f"none: there was time for {max(0.0, affordable):.0f}, and growth takes {LEAST} to tell"
        )
        return report
    ours = in_a_process(int(min(options.tokens, affordable)), record=True)
    assert ours["warm_state"] == ours["end_state"], "the accumulators grew"
    growth = (ours["end"] - ours["warm"]) / 1e6
    above = (ours["end"] - bare["end"]) / 1e6
    allowed = (ours["end_state"] + ours["batch"]) / 1e6 + MARGIN_MB
    assert growth <= MARGIN_MB, f"the peak grew by {growth:.0f} MB"
    assert above <= allowed, f"{above:.0f} MB above a bare process, of {allowed:.0f} MB"

    report.settings |= {
        "sites": ours["sites"],
        "tokens": ours["tokens"],
        "accumulators": f"{ours['end_state'] / 1e6:.1f} MB, the same ones from a tenth of the way to the end",
        "one batch of all sites": f"{ours['batch'] / 1e6:.1f} MB",
    }
    no_growth = Target(MARGIN_MB, at_most=True, text=f"no growth (at most {MARGIN_MB:.0f} MB)")
    state = Target(allowed, at_most=True, text=f"state + one batch + {MARGIN_MB:.0f} MB: {allowed:.0f} MB")
    report.figures = [
        Figure("peak memory at the end", "a tenth of the way", spread([growth]), "MB more", no_growth),
        Figure("peak memory with lmfacts", "a bare process", spread([above]), "MB more", state),
    ]
    return report


def arguments(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--tokens", type=int, default=1_000_000)
    parser.add_argument("--child", choices=["bare", "record"], default=None, help="used by the benchmark itself")


def measure_or_run(options: argparse.Namespace) -> Report:
    """The benchmark, or one of the processes that it starts."""
    if options.child is None:
        return measure(options)
    found: dict[str, Any] = child(options.tokens, record=options.child == "record")
    print(json.dumps(found))
    raise SystemExit(0)


if __name__ == "__main__":
    command(measure_or_run, __doc__, arguments)
