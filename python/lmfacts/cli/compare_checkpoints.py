"""`lmfacts compare` where A and B are checkpoints, not run files."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Final

from lmfacts.cli.exit_codes import ExitCode, complain
from lmfacts.errors import UsageError
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from lmfacts.comparison import CheckpointComparison

__all__ = ["are_checkpoints", "compare_checkpoints"]

_WEIGHTS: Final = (".safetensors", ".gguf", ".bin", ".pt", ".pth", ".index.json")
_EMBEDDED: Final = "demo"
_MOST_NAMES: Final = 3


def are_checkpoints(a: Path, b: Path) -> bool:
    """Whether two arguments name checkpoints; False where they name run files, or nothing that is there.

    Raises:
        UsageError: one is a checkpoint and the other a run file.
        FileNotFoundError: one is a checkpoint and the other is not there.
    """
    sides = [_is_checkpoint(path) for path in (a, b)]
    if sides[0] != sides[1]:
        of_weights, run = (a, b) if sides[0] else (b, a)
        is_there = of_weights.expanduser().exists() or str(of_weights) == _EMBEDDED
        if not is_there:  # as likely a run file's name with an error in it
            return False
        if not run.exists():
            raise FileNotFoundError(f"There is no {run}, neither a checkpoint nor a run file. Check the path.")
        raise UsageError(
            f"{of_weights} is a checkpoint and {run} a run file: expected two of a kind. Make a run of the checkpoint "
            "with lmfacts weights, or name both checkpoints."
        )
    return all(sides)


def _is_checkpoint(path: Path) -> bool:
    """A folder, a file of weights, or a name that can be a hub id's."""
    if path.expanduser().is_dir() or path.name.endswith(_WEIGHTS):
        return True
    name = str(path)
    may_be_on_the_hub = path.suffix != ".lmfacts" and not name.startswith((".", "~", os.sep)) and name.count("/") < 2  # noqa: PLR2004  an owner and a name
    return may_be_on_the_hub and not path.exists()


def compare_checkpoints(a: Path, b: Path, *, threshold: float | None, top: int, spectra: int, json: bool) -> ExitCode:
    """Compare two checkpoints, or a checkpoint and an adapter, and print what changed."""
    os.environ.setdefault("TQDM_DISABLE", "1")
    from lmfacts.cli.output import print_json, print_result
    from lmfacts.cli.weights import reading_progress

    with reading_progress(f"{a} and {b}", quiet=False) as progress:
        from lmfacts.comparison.checkpoints import compare_checkpoints as compare

        comparison = compare(str(a), str(b), spectra=spectra, progress=progress)
    if json:
        from lmfacts.render.terminal.checkpoints_json import checkpoints_json

        print_json(checkpoints_json(comparison))
    else:
        from lmfacts.render.terminal.checkpoints_view import render_checkpoints

        print_result(render_checkpoints(comparison, top))
    failure = _beyond(comparison, threshold)
    if failure:
        complain(failure)
    return ExitCode.FACT_FAILED if failure else ExitCode.FINE


def _beyond(comparison: CheckpointComparison, threshold: float | None) -> str:
    """A sentence that names the weights that changed most, if any changed by more than the threshold."""
    changes = [] if threshold is None else comparison.beyond(threshold)
    if not changes:
        return ""
    named = ", ".join(f"{change.name} {change.effect:.3g}" for change in changes[:_MOST_NAMES])
    more = f" and {len(changes) - _MOST_NAMES} more" if len(changes) > _MOST_NAMES else ""
    have = "has" if len(changes) == 1 else "have"
    every = numbers.counted(len(comparison.changes), "weight")
    return f"{len(changes)} of {every} {have} a relative change above the threshold {threshold:g}: {named}{more}"
