"""Runs in which every text is hostile to a terminal, to rich's markup, to Markdown and to HTML."""

from __future__ import annotations

import unicodedata
from typing import Any, Final

import numpy as np

from lmfacts.run import Run
from lmfacts.run.state import SiteState
from support import oracle
from support.accumulated_runs import accumulated_run
from support.synthetic_weights import weights_run

__all__ = ["HOSTILE", "NAME", "hostile_activations", "hostile_weights", "invisible"]

HOSTILE: Final = (
    "x\x1b]0;owned\x07\x1b[2J\x9b31m\r\b\x7f\u202e\u2066\u200b\u200f\u2028\ufeff\udcff\ud83d\x00\t\n```\n"
    "[red][/][/red][link=http://a.example]y[/link][bold on blue]:smile: | `$(id)` '\"<script>alert(1)</script>\\"
)
"""Escape sequences, controls, bidirectional and zero-width characters, surrogates, markup, a fence, a pipe, tags."""

NAME: Final = "".join(character for character in HOSTILE if unicodedata.category(character) != "Cs")
"""The same for the name of a site, which UTF-8 has to have."""

_KEPT: Final = frozenset({"kind", "dtype", "lmfacts", "name", "aliases", "role", "weight_kind"})
"""Keys whose strings mean something to the program."""


def invisible(text: str) -> set[str]:
    """The characters of a text that would steer a terminal or hide in it; line breaks are none of them."""
    hidden = {"Cc", "Cf", "Co", "Cs", "Zl", "Zp"}
    return {character for character in text if character != "\n" and unicodedata.category(character) in hidden}


def hostile_activations(seed: int = 0) -> Run:
    """A run of three blocks, with a site that has a hostile name and NaN, and one that was never reached."""

    def values(layer: int, sequence: Any, position: Any) -> Any:
        found = np.random.default_rng([seed, layer + 1]).normal(size=(position.size, 16))
        found[:, 5] *= 30
        found[(sequence == 2) & (position == 5), 3] = 400.0
        return found

    plain = accumulated_run(values, n_layers=3)
    states = {name: plain[name].state for name in plain}
    spoiled = accumulated_run(lambda *at: np.where(at[2][:, None] == 7, np.nan, values(*at)), n_layers=0)
    states[f"a.{NAME}:out"] = spoiled["embed"].state
    states[f"b.{NAME}:in"] = SiteState.from_native(
        {**oracle.site_state(oracle.store(np.empty((0, 0)), "float32"), dtype="float32"), "dtype": "", "n_dims": 0}
    )
    entries = {entry["name"]: entry for entry in plain.metadata["sites"]}
    sites = [{"module_path": "", "note": "", **entries.get(name, {}), "name": name} for name in states]
    return _hostile(Run({**plain.metadata, "sites": sites}, states))


def hostile_weights(seed: int = 0) -> Run:
    """A run of weights, with matrices of a kind that has a hostile name, and a matrix and a vector of no block."""
    matrix = np.random.default_rng(seed).normal(size=(24, 16))
    of_blocks = {f"blocks.{layer}.{NAME}": matrix for layer in range(3)}
    spoiled = np.where(matrix > 2, np.nan, matrix)
    return _hostile(
        weights_run(3, extra={**of_blocks, f"extra.{NAME}.weight": spoiled, f"extra.{NAME}.bias": matrix[0]})
    )


def _hostile(run: Run) -> Run:
    """The run with all that a run may have, and every string of it hostile."""
    known = run.metadata
    more: dict[str, dict[str, Any]] = {
        "model": {
            **dict.fromkeys(
                ("id", "revision", "fingerprint", "architecture", "family", "dtype", "device", "format"), ""
            ),
            "dtypes": {HOSTILE: 1},
        },
        "tokenizer": {"fingerprint": "", "class": ""},
        "corpus": {"description": "", "files": [{"path": ""}], "n_documents": 3, "bos_token": "", "packed": True},
        "settings": {"sites": "", "seq_len": 64},
        "absent": {"blocks.0.ln1_out": "", f"c.{NAME}": ""},
        "token_text": {str(token): "" for token in range(3)},
        "token_context": {"2:5": {"before": "", "token": "", "after": ""}},
        "machine": {"cpu": "", "platform": ""},
        "tied": {HOSTILE: ""},
        "skipped": {HOSTILE: ""},
    }
    for key, entries in more.items():
        known[key] = {**known.get(key, {}), **entries}
    known |= {"notes": [""], "complete": False, "incomplete_reason": "", "created": ""}
    for key, value in known.items():
        known[key] = _spoiled(value, key)
    return run


def _spoiled(value: Any, key: str = "") -> Any:
    if isinstance(value, dict):
        return {name: _spoiled(item, name) for name, item in value.items()}
    if isinstance(value, list) and key not in _KEPT:
        return [_spoiled(item, key) for item in value]
    return f"{value}{HOSTILE}" if isinstance(value, str) and key not in _KEPT else value
