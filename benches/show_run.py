"""How long `lmfacts show` takes on a run of 400 sites, beside what Python needs to start with numpy and rich.

    python benches/show_run.py

Prints medians of interleaved whole processes, and their ratio.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np

from lmfacts.run import Run
from lmfacts.site_state import SiteState
from support import oracle

N_LAYERS, KINDS, N_DIMS, N_TOKENS, ROUNDS = 40, 10, 768, 2048, 9
KIND_NAMES = ["resid_mid", "resid_post", "ln1_out", "ln2_out", "q", "k", "v", "z", "attn_out", "mlp_out"]


def build(path: Path) -> None:
    """A run of 400 sites in float32, 40 layers of 10 kinds."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((N_TOKENS, N_DIMS)).astype(np.float32)
    values[:, 7] *= 50
    index = np.arange(N_TOKENS)
    native = oracle.site_state(
        values,
        dtype="float32",
        sequence=index // 256,
        position=index % 256,
        token_id=index % 97,
        real=np.ones(N_TOKENS, dtype=bool),
        k=64,
        threshold=6.0,
        unit_sums=False,
    )
    names = [f"blocks.{layer}.{kind}" for layer in range(N_LAYERS) for kind in KIND_NAMES[:KINDS]]
    metadata = {
        "kind": "activations",
        "model": {"id": "synthetic"},
        "n_tokens": N_TOKENS,
        "sites": [{"name": name} for name in names],
    }
    Run(metadata, {name: SiteState.from_native(native) for name in names}).save(path)


def seconds(command: list[str], expected: str) -> float:
    """Wall time of a process, whose output must hold a text."""
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    elapsed = time.perf_counter() - start
    assert expected in done.stdout, done.stdout
    return elapsed


def main() -> None:
    """Build the run, check the answers, time."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.lmfacts"
        build(path)
        show = ([sys.executable, "-m", "lmfacts", "show", str(path)], "resid_post")
        bare = ([sys.executable, "-c", "import numpy, rich.table, typer; print('up')"], "up")
        times = [(seconds(*show), seconds(*bare)) for _ in range(ROUNDS)]
        shown, started = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{N_LAYERS * KINDS} sites, {path.stat().st_size / 1e6:.0f} MB")
        print(f"lmfacts show           {shown:.3f} s (median of {ROUNDS})")
        print(f"python, numpy and rich {started:.3f} s")
        print(f"ratio                  {shown / started:.2f}")


if __name__ == "__main__":
    main()
