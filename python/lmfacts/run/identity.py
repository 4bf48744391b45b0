"""Whether two runs are of the same model, as far as what they recorded can tell."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lmfacts.errors import MismatchedRunsError

if TYPE_CHECKING:
    from lmfacts.run.run import Run

__all__ = ["check_same_model", "run_name"]

_PARAMETERS_APART: Final = 2.0
"""The factor between two numbers of parameters that one model cannot have: a checkpoint may hold a tied head twice, and
masks beside its parameters."""

_CHECKPOINT_FILES: Final = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
"""Files of which the folder is as good a name."""


def check_same_model(one: Run, other: Run) -> None:
    """Refuse runs of different models, by what both of them say of theirs.

    Runs of one kind each are meant: a run of activations names the model it ran, one of weights the files it read.

    Raises:
        MismatchedRunsError: blocks, dims, layout, commit or number of parameters differ, or the names do.
    """
    for described in (_layers, _dims, _family, _revision):
        a, b = described(one), described(other)
        if a and b and a != b:
            raise _different(one, a, other, b)
    m, n = _n_parameters(one), _n_parameters(other)
    if m and n and not 1 / _PARAMETERS_APART < m / n < _PARAMETERS_APART:
        raise _different(one, f"{m:,} parameters", other, f"{n:,}")
    if not _same_name(one, other):
        raise MismatchedRunsError(
            f"The runs are of different models: {run_name(one)} is of {one.model['id']}, {run_name(other)} of "
            f"{other.model['id']}. If those are two names of one model, scan it under one of them."
        )


def run_name(run: Run[Any]) -> str:
    """The run's file, or what it is of if it has none."""
    return f"the run of {run.kind}" if run.path is None else str(run.path)


def _different(one: Run, a: str, other: Run, b: str) -> MismatchedRunsError:
    return MismatchedRunsError(
        f"The runs are of different models: {run_name(one)} has {a}, {run_name(other)} has {b}. Give runs of one model."
    )


def _layers(run: Run[Any]) -> str | None:
    n = run.model.n_layers
    return f"{n} blocks" if n else None


def _dims(run: Run[Any]) -> str | None:
    """The width of the residual stream; a run of weights shows it in the norm gains."""
    n = run.model.n_dims
    if n is None:
        n = next((entry.shape[0] for entry in run.info.weights if (entry.role or "").endswith(".ln1.gain")), None)
    return f"{n} dims" if n else None


def _family(run: Run[Any]) -> str | None:
    """The family, unless it was only found by structure."""
    family = run.model.family
    return None if family in (None, "generic") else f"the layout of {family}"


def _revision(run: Run[Any]) -> str | None:
    revision = run.model.revision
    return f"the revision {revision}" if revision else None


def _n_parameters(run: Run[Any]) -> int | None:
    """The number of parameters, unless tensors were skipped."""
    n = run.model.n_parameters
    return None if run.info.skipped else n


def _same_name(one: Run, other: Run) -> bool:
    """Whether the names may be of one model; the same commit under two names is one model."""
    if _revision(one) and _revision(one) == _revision(other):
        return True
    classes = {run.model.architecture for run in (one, other)}
    names = [_names(run, classes) for run in (one, other)]
    return not all(names) or any(_same_path(a, b) for a in names[0] for b in names[1])


def _names(run: Run[Any], classes: set[Any]) -> list[Path]:
    """What the model is called: a hub id, or where it lies; nothing for a model that only has a class."""
    model_id = run.model.id
    if not model_id or model_id in classes:
        return []
    if model_id == "demo":
        from lmfacts.demo import MODEL_DIR  # noqa: PLC0415  looks for its checkpoints

        return [MODEL_DIR]
    path = Path(model_id).expanduser()
    names = [path]
    if path.name in _CHECKPOINT_FILES:
        names.append(path.parent)
    files = run.model.files
    if files is not None and len(files) == 1 and (name := str(files[0].get("name", ""))).endswith(".gguf"):
        names.append(path / name)
    return names


def _same_path(a: Path, b: Path) -> bool:
    """Whether two paths are one: here where they exist, else a relative one may be the end of an absolute one."""
    if a == b:
        return True
    if a.exists() and b.exists():
        return a.samefile(b)
    absolute, relative = (a, b) if a.is_absolute() else (b, a)
    return absolute.is_absolute() and not relative.is_absolute() and _ends_with(absolute, relative)


def _ends_with(path: Path, end: Path) -> bool:
    parts = [part for part in end.parts if part not in (".", "..")]
    return bool(parts) and list(path.parts[-len(parts) :]) == parts
