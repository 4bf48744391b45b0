"""The metadata of a run: making its JSON document whole, checking it, writing it and reading it.

One object, without NaN or infinities; `lmfacts.run.info` and `lmfacts.run.entries` declare its keys, which are those of
schema versions 1 and 2: they differ in how the arrays are laid out (`lmfacts.run.layouts`).
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import lmfacts
from lmfacts.errors import UsageError
from lmfacts.run.entries import WeightInfo
from lmfacts.run.info import RunInfo
from lmfacts.run.kinds import KINDS
from lmfacts.run.statistic import POPULATIONS
from lmfacts.run.statistics import entry_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lmfacts.run.kinds import RunKind
    from lmfacts.run.state import SiteState

__all__ = ["SCHEMA_VERSION", "complete_metadata", "metadata_problem", "parse_metadata", "to_json"]

SCHEMA_VERSION: Final = 2
"""The newest schema that this version reads, and the one it writes."""

_MATRIX_AXES: Final = 2

_RUN: Final = RunInfo.checked()
_WEIGHT: Final = WeightInfo.checked()


def to_json(metadata: Mapping[str, Any]) -> str:
    """The JSON text of metadata, ASCII only; NumPy scalars and paths become numbers and strings.

    Raises:
        UsageError: a value that JSON does not have, NaN and infinities included.
    """
    try:
        return json.dumps(metadata, allow_nan=False, default=_plain)
    except (TypeError, ValueError, RecursionError) as error:
        raise UsageError(f"The metadata of a run cannot be written as JSON: {error}.") from error


def parse_metadata(text: str) -> Any:
    """Parse a JSON document that has no NaN.

    Raises:
        ValueError: it is not one.
    """
    try:
        return json.loads(text, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def complete_metadata(metadata: Mapping[str, Any], sites: Mapping[str, SiteState]) -> dict[str, Any]:
    """A deep copy in plain JSON types, with what is missing filled in.

    `kind`, `model` and `sites` (with a `name` each) must be there. What follows from the recorded state (dtype, n_dims,
    k, threshold, statistics and n_tokens of each site) is always taken from it.

    Raises:
        UsageError: a value is missing or of the wrong type, or the sites of metadata and states differ.
    """
    given = json.loads(to_json(metadata))
    missing = [key for key in ("kind", "model", "sites") if key not in given]
    if missing:
        raise UsageError(f"The metadata of a run lacks {', '.join(missing)}.")
    entries = given["sites"]
    if not isinstance(entries, list) or not all(
        isinstance(e, dict) and isinstance(e.get("name"), str) for e in entries
    ):
        raise UsageError("The metadata of a run lists its sites as objects with a name.")
    listed = {entry["name"] for entry in entries}
    if listed != set(sites):
        raise UsageError(
            f"The metadata lists other sites than there are states: {', '.join(sorted(listed ^ set(sites)))}."
        )
    completed: dict[str, Any] = {
        "schema": SCHEMA_VERSION,
        "lmfacts": lmfacts.__version__,
        "tokenizer": {},
        "corpus": {},
        "n_sequences": 0,
        "n_tokens": 0,
        "token_hash": None,
        "settings": {},
        "absent": {},
        "coverage": {},
        "token_text": {},
        "machine": {},
        "timing": {},
        "complete": True,
        "incomplete_reason": None,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        **given,
    }
    completed["sites"] = [
        {"aliases": [], "module_path": None, "note": None, **entry, **_state_entry(sites[entry["name"]])}
        for entry in entries
    ]
    problem = metadata_problem(completed)
    if problem is not None:
        raise UsageError(f"The metadata of a run is not valid: {problem}.")
    return completed


def metadata_problem(metadata: Any) -> str | None:
    """What is wrong with a metadata document of this schema, as a sentence without its period, or None."""
    problem = _RUN.problem(metadata, "")
    if problem is not None:
        return problem
    names: set[str] = set()
    for i, entry in enumerate(metadata["sites"]):
        problem = _entry_problem(entry, f"sites[{i}]", KINDS[metadata["kind"]])
        if problem is not None:
            return problem
        for name in (entry["name"], *entry["aliases"]):
            if name in names:
                return f"two sites are named {name!r}"
            names.add(name)
    return None


def _entry_problem(entry: dict[str, Any], where: str, kind: RunKind) -> str | None:
    if not entry["dtype"] and entry["n_dims"]:
        return f"{where}.dtype is empty, expected one, for there are {entry['n_dims']} dims"
    if not issubclass(kind.entry, WeightInfo):
        return None
    problem = _WEIGHT.problem(entry, where)
    return problem if problem is not None else _shape_problem(WeightInfo(entry), where)


def _shape_problem(weight: WeightInfo, where: str) -> str | None:
    """What is wrong with the shape of a weight beside the number of its dims and stored rows."""
    shape, n_dims = weight.shape, weight.n_dims
    rows, columns = (1, shape[0]) if len(shape) == 1 else (shape[0], shape[-1])
    stored_columns = rows if weight.transposed and len(shape) > 1 else columns
    if len(shape) > _MATRIX_AXES or stored_columns != n_dims:
        return f"{where}.shape is {shape}, expected that of {n_dims} dims"
    if rows * columns != weight.n_tokens["rest"] * n_dims:
        return f"{where}.shape is {shape}, and n_tokens of {n_dims} dims have another number of values"
    return None


def _state_entry(state: SiteState) -> dict[str, Any]:
    """What the entry of a site says about its state."""
    return {
        "dtype": state.dtype,
        "n_dims": state.n_dims,
        "k": state.k,
        "threshold": state.threshold,
        **entry_of(state.statistics),
        "n_tokens": {name: state.population(name).n_tokens for name in POPULATIONS},
    }


def _plain(value: object) -> Any:
    """What JSON stores for a value it does not know."""
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"it holds a {type(value).__name__}, {value!r}")


def _refuse_constant(constant: str) -> None:
    raise ValueError(f"it holds {constant}")
