"""How long `lmfacts show` and `lmfacts facts` take on saved runs: 400 sites, and for facts 280 weights as well.

    python benches/read_run.py

Beside them, what Python needs to start with numpy, rich and typer. Prints medians of interleaved whole processes.
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
from lmfacts.sites import detail_sites
from support import oracle
from support.checkpoints import scanned

N_LAYERS, N_DIMS, N_SEQUENCES, N_POSITIONS, ROUNDS = 40, 768, 16, 128, 9
KINDS = ["resid_mid", "resid_post", "ln1_out", "ln2_out", "q", "k", "v", "z", "attn_out", "mlp_out"]
SHAPES = {"W_Q": (256, 256), "W_K": (256, 256), "W_V": (256, 256), "W_O": (256, 256)}
SHAPES |= {"W_gate": (704, 256), "W_in": (704, 256), "W_out": (256, 704)}


def build(path: Path) -> None:
    """A run of 400 sites in float32, 40 layers of 10 kinds."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((N_SEQUENCES * N_POSITIONS, N_DIMS)).astype(np.float32)
    values[:, 7] *= 50
    sequence, position = np.divmod(np.arange(len(values)), N_POSITIONS)
    places = {"sequence": sequence, "position": position, "token_id": np.arange(len(values)) % 97}

    def state(**options: bool) -> SiteState:
        return SiteState.from_native(oracle.site_state(values, dtype="float32", **places, **options))

    plain, stream = state(), state(unit_sums=True, blocks=True)
    in_detail = state(unit_sums=True, blocks=True, detail=True)
    detailed = detail_sites(N_LAYERS)
    states = {
        name: in_detail if name in detailed else stream if "resid" in name else plain
        for name in (f"blocks.{layer}.{kind}" for layer in range(N_LAYERS) for kind in KINDS)
    }
    metadata = {
        "kind": "activations",
        "model": {"id": str(path.parent / "model"), "n_layers": N_LAYERS, "norm_kind": "rmsnorm"},
        "n_tokens": len(values),
        "n_sequences": N_SEQUENCES,
        "sites": [{"name": name, "aliases": _aliases(name)} for name in states],
    }
    Run(metadata, states).save(path)


def _aliases(name: str) -> list[str]:
    """What a block gives is what the next one gets."""
    _, layer, kind = name.split(".")
    return [f"blocks.{int(layer) + 1}.resid_pre"] if kind == "resid_post" and int(layer) + 1 < N_LAYERS else []


def build_weights(folder: Path, path: Path) -> None:
    """A run of 280 matrices and their norms, spectra included."""
    rng = np.random.default_rng(1)
    weights = {f"blocks.{i}.{kind}": rng.normal(size=shape) for i in range(N_LAYERS) for kind, shape in SHAPES.items()}
    weights |= {f"blocks.{i}.{norm}.gain": rng.normal(1, 0.1, 256) for i in range(N_LAYERS) for norm in ("ln1", "ln2")}
    scanned(folder, weights).save(path)


def seconds(command: list[str], expected: str) -> float:
    """Wall time of a process, whose output must hold a text."""
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    elapsed = time.perf_counter() - start
    assert expected in done.stdout, done.stdout
    return elapsed


def main() -> None:
    """Build the runs, check the answers, time."""
    with tempfile.TemporaryDirectory() as folder:
        run, weights = Path(folder) / "large.lmfacts", Path(folder) / "weights.lmfacts"
        build(run)
        build_weights(Path(folder) / "model", weights)
        lmfacts = [sys.executable, "-m", "lmfacts"]
        commands = {
            "python, numpy and rich": ([sys.executable, "-c", "import numpy, rich.table, typer; print('up')"], "up"),
            "lmfacts show": ([*lmfacts, "show", str(run)], "resid_post"),
            "lmfacts facts": ([*lmfacts, "facts", str(run), str(weights)], "Dim 7 is an outlier dim"),
        }
        times: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(ROUNDS):
            for name, command in commands.items():
                times[name].append(seconds(*command))
        print(f"{N_LAYERS * len(KINDS)} sites, {run.stat().st_size / 1e6:.0f} MB")
        start = statistics.median(times["python, numpy and rich"])
        for name, taken in times.items():
            median = statistics.median(taken)
            print(f"{name:23} {median:.3f} s (median of {ROUNDS}), {median / start:.2f}x")


if __name__ == "__main__":
    main()
