"""The metadata of a run: what its JSON document holds, and the check of it.

Schema version 1. One object, without NaN or infinities. Keys that are not listed are kept as they are.

| key | value |
|---|---|
| `schema` | 1 |
| `lmfacts` | version of lmfacts that wrote it |
| `kind` | `activations`, `weights` or `gradients` |
| `model` | object: `id`, `revision`, `fingerprint`, `architecture`, `family`, `n_layers`, `n_dims`, `dtype`, `device` |
| `tokenizer` | object: `fingerprint` and whatever else identifies it |
| `corpus` | object: what was read |
| `n_sequences`, `n_tokens` | integers: how much was read, padding not counted |
| `token_hash` | running hash of the token ids, a string, or null |
| `settings` | object: `sites`, `k`, `threshold`, `seq_len`, `batch_size`, `pack`, ... |
| `sites` | list in order of depth, see below |
| `absent` | object: site name -> why the model does not have it |
| `coverage` | object: site name -> `n_calls`, `n_tokens`, `n_copies` (tensors copied to the host) and |
|  | `n_repeats` (further calls within one forward pass, which are not counted) |
| `notes` | list of sentences: what a reader of the numbers should know; optional |
| `state_bytes` | bytes that the accumulators held in memory; optional |
| `token_text` | object: token id, as a string -> its text, for the tokens that outliers sit on |
| `token_context` | object: `SEQUENCE:POSITION` -> `before`, `token`, `after`: the text around the largest values of |
|  | the residual stream; optional |
| `machine` | object: what it ran on |
| `timing` | object: `wall_s`, `model_s`, `lmfacts_s` |
| `complete` | whether everything that was asked for was recorded |
| `incomplete_reason` | why not, or null |
| `created` | ISO 8601 time |

Runs of weights have `tied` (object: a parameter's name -> the name of the one that it is) and `skipped` (object: a
tensor's name -> why it was not measured) as well, and in `settings` the largest smaller side whose `spectra` were
computed.

Each entry of `sites`:

| key | value |
|---|---|
| `name` | name of the site |
| `aliases` | other names of the same tensor |
| `module_path` | path of the Hugging Face module, or null |
| `note` | a remark on the shape or meaning of the values, or null |
| `dtype` | `bfloat16`, `float16`, `float32` or `float64`; empty if the site was never reached |
| `n_dims` | number of dims |
| `k`, `threshold`, `unit_sums`, `blocks`, `detail` | settings of its accumulator; the last two may be missing |
| `n_tokens` | object: `first`, `rest`: number of tokens of each population |

An entry of a weight has `parameter`, `part`, `role`, `weight_kind`, `layer`, `shape`, `transposed`, `stored_dtype`,
`quantization`, `n_values`, `n_nonfinite`, `frobenius`, `frobenius_folded`, `spectral_folded` and `shuffled_edge`, which
`lmfacts.run.weight` explains; its rows are the tokens, all in `rest`, and its columns the dims.
"""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import lmfacts
from lmfacts.errors import UsageError
from lmfacts.files.json_types import BOOLEAN, COUNT, NUMBER, STRING, Listed, Mapped, OrNull, Record, Scalar
from lmfacts.run.state import POPULATIONS
from lmfacts.stats.codes import DTYPES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lmfacts.run.state import SiteState

__all__ = ["KINDS", "SCHEMA_VERSION", "complete_metadata", "metadata_problem", "parse_metadata", "to_json"]

SCHEMA_VERSION: Final = 1
"""The newest schema that this version reads, and the one it writes."""

MOST_LAYERS: Final = 100_000
"""More than any model has, and few enough to be counted one by one."""

_MATRIX_AXES: Final = 2

KINDS: Final = ("activations", "weights", "gradients")
"""What a run can be of."""

_LAYERS: Final = Scalar(
    f"a number of layers, at most {MOST_LAYERS:,}",
    lambda value: COUNT.problem(value, "") is None and value <= MOST_LAYERS,
)
_KIND: Final = Scalar(f"one of {', '.join(KINDS)}", lambda value: isinstance(value, str) and value in KINDS)
_DTYPE: Final = Scalar(
    f"one of {', '.join(sorted(DTYPES))}, or empty",
    lambda value: isinstance(value, str) and (not value or value in DTYPES),
)
_SIZES: Final = Scalar(
    "a list of one size or more, all above 0",
    lambda value: isinstance(value, list) and bool(value) and all(COUNT.problem(n, "") is None and n for n in value),
)

_FILES: Final = Listed(Record(optional={"path": STRING, "name": STRING, "n_bytes": COUNT}))

_MODEL: Final = Record(
    optional={
        **dict.fromkeys(("id", "revision", "fingerprint", "architecture", "family"), OrNull(STRING)),
        **dict.fromkeys(("norm_kind", "dtype", "device", "source", "format", "model_type"), OrNull(STRING)),
        **dict.fromkeys(("n_dims", "n_parameters", "n_tensors", "n_values", "n_bytes"), OrNull(COUNT)),
        "n_layers": OrNull(_LAYERS),
        "gain_offset": OrNull(NUMBER),
        "files": OrNull(_FILES),
        "notes": OrNull(Listed(STRING)),
        "tied": OrNull(Mapped(STRING)),
        "dtypes": OrNull(Mapped(COUNT)),
        "quantizations": OrNull(Mapped(COUNT)),
    }
)

_CORPUS: Final = Record(
    optional={
        **dict.fromkeys(("kind", "name", "path", "source", "description", "fingerprint"), OrNull(STRING)),
        **dict.fromkeys(("bos_token", "separator"), OrNull(STRING)),
        **dict.fromkeys(("n_bytes", "seq_len", "n_documents"), OrNull(COUNT)),
        **dict.fromkeys(("n_documents_cut_off", "n_documents_skipped"), OrNull(COUNT)),
        "packed": OrNull(BOOLEAN),
        "files": OrNull(_FILES),
    }
)

_SETTINGS: Final = Record(
    optional={
        **dict.fromkeys(("k", "seq_len", "batch_size", "max_tokens", "spectra", "state_bytes"), OrNull(COUNT)),
        "threshold": OrNull(NUMBER),
        "max_seconds": OrNull(NUMBER),
        "pack": OrNull(BOOLEAN),
    }
)

_COVERED: Final = Record(optional=dict.fromkeys(("n_calls", "n_tokens", "n_copies", "n_repeats"), OrNull(COUNT)))
_CONTEXT: Final = Record(optional=dict.fromkeys(("before", "token", "after"), STRING))
_TIMES: Final = Record(optional=dict.fromkeys(("wall_s", "model_s", "lmfacts_s"), OrNull(NUMBER)))

_SITE: Final = Record(
    required={
        "name": STRING,
        "aliases": Listed(STRING),
        "module_path": OrNull(STRING),
        "note": OrNull(STRING),
        "dtype": _DTYPE,
        "n_dims": COUNT,
        "k": COUNT,
        "threshold": NUMBER,
        "unit_sums": BOOLEAN,
        "n_tokens": Record(dict.fromkeys(POPULATIONS, COUNT)),
    },
    optional={"blocks": BOOLEAN, "detail": BOOLEAN},
)

_WEIGHT: Final = Record(
    required={
        "parameter": STRING,
        "part": OrNull(STRING),
        "role": OrNull(STRING),
        "weight_kind": OrNull(STRING),
        "layer": OrNull(_LAYERS),
        "shape": _SIZES,
        "transposed": BOOLEAN,
        "stored_dtype": STRING,
        "quantization": OrNull(STRING),
        "n_values": COUNT,
        "frobenius": OrNull(NUMBER),
        "frobenius_folded": OrNull(NUMBER),
        "spectral_folded": OrNull(NUMBER),
    },
    optional={"n_nonfinite": OrNull(COUNT), "shuffled_edge": OrNull(NUMBER)},
)

_RUN: Final = Record(
    required={
        "schema": COUNT,
        "lmfacts": STRING,
        "kind": _KIND,
        "model": _MODEL,
        "tokenizer": Record(optional={"fingerprint": OrNull(STRING)}),
        "corpus": _CORPUS,
        "n_sequences": COUNT,
        "n_tokens": COUNT,
        "token_hash": OrNull(STRING),
        "settings": _SETTINGS,
        "sites": Listed(_SITE),
        "absent": Mapped(STRING),
        "coverage": Mapped(_COVERED),
        "token_text": Mapped(STRING, re.compile(r"-?\d{1,18}", re.ASCII), "a token id"),
        "machine": Record(),
        "timing": _TIMES,
        "complete": BOOLEAN,
        "incomplete_reason": OrNull(STRING),
        "created": STRING,
    },
    optional={
        "notes": OrNull(Listed(STRING)),
        "state_bytes": OrNull(COUNT),
        "token_context": OrNull(Mapped(_CONTEXT, re.compile(r"\d{1,18}:\d{1,18}", re.ASCII), "SEQUENCE:POSITION")),
        "tied": OrNull(Mapped(STRING)),
        "skipped": OrNull(Mapped(STRING)),
    },
)


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
    k, threshold, unit_sums and n_tokens of each site) is always taken from it.

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
        problem = _site_problem(entry, f"sites[{i}]", metadata["kind"])
        if problem is not None:
            return problem
        for name in (entry["name"], *entry["aliases"]):
            if name in names:
                return f"two sites are named {name!r}"
            names.add(name)
    return None


def _site_problem(entry: dict[str, Any], where: str, kind: str) -> str | None:
    if not entry["dtype"] and entry["n_dims"]:
        return f"{where}.dtype is empty, expected one, for there are {entry['n_dims']} dims"
    if kind != "weights":
        return None
    problem = _WEIGHT.problem(entry, where)
    if problem is not None:
        return problem
    rows, columns = (1, entry["shape"][0]) if len(entry["shape"]) == 1 else (entry["shape"][0], entry["shape"][-1])
    stored_columns = rows if entry["transposed"] and len(entry["shape"]) > 1 else columns
    if len(entry["shape"]) > _MATRIX_AXES or stored_columns != entry["n_dims"]:
        return f"{where}.shape is {entry['shape']}, expected that of {entry['n_dims']} dims"
    if rows * columns != entry["n_tokens"]["rest"] * entry["n_dims"]:
        return (
            f"{where}.shape is {entry['shape']}, and n_tokens of {entry['n_dims']} dims have another number of values"
        )
    return None


def _state_entry(state: SiteState) -> dict[str, Any]:
    """What the entry of a site says about its state."""
    return {
        "dtype": state.dtype,
        "n_dims": state.n_dims,
        "k": state.k,
        "threshold": state.threshold,
        "unit_sums": state.unit_sums,
        "blocks": state.blocks,
        "detail": state.detail,
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
