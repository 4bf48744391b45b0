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
`lmfacts.weight_record` explains; its rows are the tokens, all in `rest`, and its columns the dims.
"""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import numpy as np

import lmfacts
from lmfacts.codes import DTYPES
from lmfacts.errors import UsageError
from lmfacts.site_state import POPULATIONS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lmfacts.site_state import SiteState

__all__ = ["KINDS", "SCHEMA_VERSION", "complete_metadata", "metadata_problem", "parse_metadata", "to_json"]

SCHEMA_VERSION: Final = 1
"""The newest schema that this version reads, and the one it writes."""

KINDS: Final = ("activations", "weights", "gradients")
"""What a run can be of."""

_STRING_OR_NULL: Final = (str, type(None))

_TOP: Final[dict[str, type | tuple[type, ...]]] = {
    "schema": int,
    "lmfacts": str,
    "kind": str,
    "model": dict,
    "tokenizer": dict,
    "corpus": dict,
    "n_sequences": int,
    "n_tokens": int,
    "token_hash": _STRING_OR_NULL,
    "settings": dict,
    "sites": list,
    "absent": dict,
    "coverage": dict,
    "token_text": dict,
    "machine": dict,
    "timing": dict,
    "complete": bool,
    "incomplete_reason": _STRING_OR_NULL,
    "created": str,
}

_SITE: Final[dict[str, type | tuple[type, ...]]] = {
    "name": str,
    "aliases": list,
    "module_path": _STRING_OR_NULL,
    "note": _STRING_OR_NULL,
    "dtype": str,
    "n_dims": int,
    "k": int,
    "threshold": (int, float),
    "unit_sums": bool,
    "n_tokens": dict,
}

_TYPE_NAMES: Final = {
    int: "an integer",
    str: "a string",
    dict: "an object",
    list: "a list",
    bool: "true or false",
    _STRING_OR_NULL: "a string or null",
    (int, float): "a number",
}


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
    if not isinstance(metadata, dict):
        return "it is not an object"
    problem = _type_problem(metadata, _TOP, "")
    if problem is not None:
        return problem
    if metadata["kind"] not in KINDS:
        return f"kind is {metadata['kind']!r}, expected one of {', '.join(KINDS)}"
    if metadata["n_sequences"] < 0 or metadata["n_tokens"] < 0:
        return "a number of sequences or tokens is negative"
    if not all(key.lstrip("-").isascii() and key.lstrip("-").isdigit() for key in metadata["token_text"]):
        return "a key of token_text is not a token id"
    if not all(isinstance(text, str) for text in [*metadata["token_text"].values(), *metadata["absent"].values()]):
        return "a text in token_text or absent is not a string"
    names: set[str] = set()
    for i, entry in enumerate(metadata["sites"]):
        problem = _site_problem(entry, f"sites[{i}]")
        if problem is not None:
            return problem
        for name in (entry["name"], *entry["aliases"]):
            if name in names:
                return f"two sites are named {name!r}"
            names.add(name)
    return None


def _site_problem(entry: Any, where: str) -> str | None:
    if not isinstance(entry, dict):
        return f"{where} is not an object"
    problem = _type_problem(entry, _SITE, f"{where}.")
    if problem is not None:
        return problem
    if not all(isinstance(alias, str) for alias in entry["aliases"]):
        return f"{where}.aliases holds something else than strings"
    if entry["dtype"] not in DTYPES and (entry["dtype"] or entry["n_dims"]):
        return f"{where}.dtype is {entry['dtype']!r}"
    if not 0 <= entry["n_dims"] < 2**63 or entry["k"] < 0:
        return f"{where} has a size that is negative or too large"
    for population in POPULATIONS:
        n_tokens = entry["n_tokens"].get(population)
        if not isinstance(n_tokens, int) or isinstance(n_tokens, bool) or n_tokens < 0:
            return f"{where}.n_tokens.{population} is not a number of tokens"
    return None


def _type_problem(found: dict[str, Any], expected: dict[str, type | tuple[type, ...]], where: str) -> str | None:
    for key, types in expected.items():
        if key not in found:
            return f"{where}{key} is missing"
        value = found[key]
        if not isinstance(value, types) or (isinstance(value, bool) and types is not bool):
            return f"{where}{key} is not {_TYPE_NAMES[types]}"
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
