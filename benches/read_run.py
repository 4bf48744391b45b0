"""How long `lmfacts show` and `lmfacts facts` take on saved runs: 400 sites, and for facts 280 weights as well.

    python benches/read_run.py [--rounds 9] [--seconds S]

Beside them, what Python needs to start with numpy, rich and typer, and what a command of typer takes that does nothing:
typer loads more once a command is run. Whole processes, in turn; each output is looked at before anything is timed. As
after an installation by pip, every module's bytecode is there: the processes keep it in a folder of their own, which
the first, untimed turn fills.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np

from lmfacts.run import Run
from lmfacts.run.state import SiteState
from lmfacts.sites import detail_sites
from measuring import Figure, Report, Target, command, interleaved
from spreads import ratios, spread
from support import oracle
from support.checkpoints import scanned

if TYPE_CHECKING:
    import argparse

N_LAYERS, N_DIMS, N_SEQUENCES, N_POSITIONS = 40, 768, 16, 128
START = "python, with numpy, rich and typer"
NOTHING = "a command that does nothing"
EMPTY_COMMAND = """
import pathlib, sys, typing, numpy, rich.table, typer
app = typer.Typer()
@app.command()
def nothing(path: typing.Annotated[pathlib.Path, typer.Argument()]):
    print("nothing")
sys.argv = ["nothing", "path"]
app()
"""
TARGETS = {"lmfacts show": Target(0.5, at_most=True, text="under 0.5 s")}
KINDS = ["resid_mid", "resid_post", "ln1_out", "ln2_out", "q", "k", "v", "z", "attn_out", "mlp_out"]
SHAPES = {"W_Q": (256, 256), "W_K": (256, 256), "W_V": (256, 256), "W_O": (256, 256)}
SHAPES |= {"W_gate": (704, 256), "W_in": (704, 256), "W_out": (256, 704)}


def build(path: Path) -> None:
    """A run of 400 sites in float32, 40 layers of 10 kinds."""
    rng = np.random.default_rng(0)
    values = rng.standard_normal((N_SEQUENCES * N_POSITIONS, N_DIMS)).astype(np.float32)
    values[:, 7] *= 50
    sequence, position = np.divmod(np.arange(len(values)), N_POSITIONS)
    places: dict[str, Any] = {"sequence": sequence, "position": position, "token_id": np.arange(len(values)) % 97}

    def state(**options: Any) -> SiteState:
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


def run(command_line: list[str], expected: str, environment: dict[str, str]) -> None:
    """A process whose output must hold a text."""
    done = subprocess.run(command_line, capture_output=True, text=True, check=True, env=environment)
    assert expected in done.stdout, done.stdout


def with_bytecode(folder: str) -> dict[str, str]:
    """This process's environment, where Python keeps bytecode in a folder."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    return {**environment, "PYTHONPYCACHEPREFIX": folder}


def measure(options: argparse.Namespace) -> Report:
    """Build the runs, check the answers, time."""
    with tempfile.TemporaryDirectory() as folder:
        activations, weights = Path(folder) / "large.lmfacts", Path(folder) / "weights.lmfacts"
        build(activations)
        build_weights(Path(folder) / "model", weights)
        lmfacts = [sys.executable, "-m", "lmfacts"]
        commands = {
            START: ([sys.executable, "-c", "import numpy, rich.table, typer; print('up')"], "up"),
            NOTHING: ([sys.executable, "-c", EMPTY_COMMAND], "nothing"),
            "lmfacts show": ([*lmfacts, "show", str(activations)], "resid_post"),
            "lmfacts facts": ([*lmfacts, "facts", str(activations), str(weights)], "Dim 7 is an outlier dim"),
        }
        n_bytes = activations.stat().st_size
        environment = with_bytecode(str(Path(folder) / "bytecode"))
        variants = {name: partial(run, *given, environment) for name, given in commands.items()}
        times = interleaved(variants, options.rounds, clock=options.clock)
    report = Report("read_run", {"sites": N_LAYERS * len(KINDS), "run file": f"{n_bytes / 1e6:.0f} MB"})
    report.add_times(times)
    for name in ("lmfacts show", "lmfacts facts"):
        for beside in (START, NOTHING):
            report.figures.append(Figure(f"time of {name}", beside, ratios(times[name], times[beside])))
        report.figures.append(Figure(f"{name}, whole process", "a clock", spread(times[name]), "s", TARGETS.get(name)))
    return report


if __name__ == "__main__":
    command(measure, __doc__, rounds=9)
