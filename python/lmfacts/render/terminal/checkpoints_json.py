"""A comparison of two checkpoints as a JSON document.

One object that `json.dumps(..., allow_nan=False)` accepts: NaN and infinities are null.

| key | value |
|---|---|
| `document`, `version` | `"lmfacts.checkpoint_comparison"`, 1 |
| `a`, `b` | of each `source`, `format`, and what else is known of a checkpoint (`revision`, `model_type`, `files`, `n_values`, `dtypes`, ...); of an adapter its `config` |
| `n_weights`, `n_changed` | numbers of weights: compared, with any entry that differs |
| `largest_effect`, `median_effect` | over the weights |
| `weights` | list, the largest effect first: see below |
| `only_a`, `only_b` | names of weights that one of the two has |
| `not_comparable` | list: `name`, `reason` |
| `notes` | sentences |

Each of `weights`: `name` and `name_b`, `kind`, `layer`, `shape` ([out, in] of a matrix), `dtype_a`, `dtype_b`; `effect` (the relative
change; 1 where A is zero and B is not, and at least 1 where `n_nonfinite_apart` is not 0); `relative_change`, ||B - A|| / ||A||,
`known` (`exact`); `frobenius_a`, `frobenius_b`, `frobenius_difference`; `cosine` of the angle between A and B; `largest_difference` and its `place`; `n_nonfinite_a`, `n_nonfinite_b`,
`n_nonfinite_apart` (entries that are NaN or infinite in one of A and B and not the same in the other);
`spectrum` of B - A: null, or `singular_values` (the largest, at most 16), `shuffled_edge`, `rank` (how many lie above it), `stable_rank`.
"""  # noqa: E501  tables

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from lmfacts.render.terminal.json_documents import json_safe

if TYPE_CHECKING:
    from lmfacts.comparison import CheckpointComparison, MatrixChange

__all__ = ["checkpoints_json"]

VERSION: Final = 1
"""Version of the document; it grows when a key changes its meaning or goes away."""


def checkpoints_json(comparison: CheckpointComparison) -> dict[str, Any]:
    """A comparison of checkpoints as a JSON document: see the module."""
    changes = comparison.by_effect
    document: dict[str, Any] = json_safe(
        {
            "document": "lmfacts.checkpoint_comparison",
            "version": VERSION,
            "a": dict(comparison.a),
            "b": dict(comparison.b),
            "n_weights": len(changes),
            "n_changed": sum(change.effect > 0 for change in changes),
            "largest_effect": changes[0].effect,
            "median_effect": statistics.median(change.effect for change in changes),
            "weights": [_weight(change) for change in changes],
            "only_a": comparison.only_a,
            "only_b": comparison.only_b,
            "not_comparable": [asdict(weight) for weight in comparison.not_comparable],
            "notes": comparison.notes,
        }
    )
    return document


def _weight(change: MatrixChange) -> dict[str, Any]:
    distance, spectrum = change.distance, change.spectrum
    return {
        "name": change.name,
        "name_b": change.name_b,
        "kind": change.kind,
        "layer": change.layer,
        "shape": change.shape,
        "dtype_a": change.dtypes[0],
        "dtype_b": change.dtypes[1],
        "effect": change.effect,
        "relative_change": distance.relative_change,
        "known": "exact",
        "frobenius_a": distance.norm_a,
        "frobenius_b": distance.norm_b,
        "frobenius_difference": distance.difference,
        "cosine": distance.cosine,
        "largest_difference": distance.largest,
        "place": distance.place,
        "n_nonfinite_a": distance.n_nonfinite[0],
        "n_nonfinite_b": distance.n_nonfinite[1],
        "n_nonfinite_apart": distance.n_nonfinite_apart,
        "spectrum": None
        if spectrum is None
        else {
            "singular_values": spectrum.values,
            "shuffled_edge": spectrum.shuffled_edge,
            "rank": spectrum.rank,
            "stable_rank": spectrum.stable_rank,
        },
    }
