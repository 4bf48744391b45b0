"""A made-up run of weights, for tests that need no checkpoint: nothing in it comes from a linear-algebra library."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lmfacts.run import Run
from lmfacts.run.state import SiteState
from support import oracle

if TYPE_CHECKING:
    from numpy.typing import NDArray

N_DIMS = 48
N_NEURONS = 96

GIANT = ("blocks.2.W_O", (7, 11))
"""A matrix with a single giant value, and its [row, column]."""

WIDE_COLUMN = ("blocks.0.W_O", 5)
"""A matrix with an input dim of large scale, and that dim."""


def weights_run(
    n_layers: int = 12, *, extra: dict[str, NDArray[np.float64]] | None = None, metadata: dict[str, Any] | None = None
) -> Run:
    """A run of a small decoder: W_O and W_out grow with depth, gains are heavy-tailed, head and embedding are tied.

    Args:
        n_layers: number of blocks.
        extra: further weights by name, [out, in] or [n], with whatever is in them.
        metadata: more metadata.
    """
    rng = np.random.default_rng(0)
    weights: dict[str, NDArray[np.float64]] = {"embed.W_E": 0.02 * rng.normal(size=(200, N_DIMS))}
    gains: dict[str, NDArray[np.float64]] = {}
    for layer in range(n_layers):
        gain = 0.3 * 1.08**layer * np.exp(0.1 * rng.standard_t(4, size=N_DIMS))
        for kind in ("W_Q", "W_K", "W_V", "W_O", "W_in", "W_out"):
            out, inner = {"W_in": (N_NEURONS, N_DIMS), "W_out": (N_DIMS, N_NEURONS)}.get(kind, (N_DIMS, N_DIMS))
            grows = kind in ("W_O", "W_out")
            matrix = 0.03 * (1.07**layer if grows else 1.08**-layer) * rng.normal(size=(out, inner))
            if kind in ("W_Q", "W_K"):
                matrix *= rng.exponential(size=(out, 1)) + 0.3
            if kind == "W_V":
                matrix = 0.03 * rng.laplace(size=(out, inner))
            name = f"blocks.{layer}.{kind}"
            if name == WIDE_COLUMN[0]:
                matrix[:, WIDE_COLUMN[1]] *= 20.0
            if name == GIANT[0]:
                matrix[GIANT[1]] = -2.5
            weights[name] = matrix
            if not grows:
                gains[name] = gain
        weights[f"blocks.{layer}.ln1.gain"] = gain
        weights[f"blocks.{layer}.b_Q"] = np.where(rng.random(N_DIMS) < 0.5, -1.0, 1.0) + 0.05 * rng.normal(size=N_DIMS)
    weights["ln_final.gain"] = 1.0 + rng.standard_t(2, size=N_DIMS)
    weights.update(extra or {})
    states, entries, arrays = {}, [], {}
    for name, values in weights.items():
        transposed = name.endswith("W_out")
        state, entry, fields = _weight(name, values, gains.get(name), transposed=transposed)
        states[name] = state
        entries.append(entry)
        arrays.update({f"{name}/{field}": array for field, array in fields.items()})
    return Run(
        {
            "kind": "weights",
            "model": {
                "id": "synthetic",
                "family": "example",
                "n_layers": n_layers,
                "norm_kind": "layernorm",
                "n_parameters": sum(values.size for values in weights.values()),
                "format": "safetensors",
                "n_bytes": 4 * sum(values.size for values in weights.values()),
            },
            "settings": {"spectra": 4096},
            "sites": entries,
            "tied": {"lm_head.weight": "embed.W_E.weight"},
            "skipped": {"rotary.position_ids": "int64 is not a floating-point type"},
            "timing": {"wall_s": 1.5},
            "created": "2024-01-01T00:00:00+00:00",
            **(metadata or {}),
        },
        states,
        arrays,
    )


def _weight(
    name: str, values: NDArray[np.float64], gain: NDArray[np.float64] | None, *, transposed: bool
) -> tuple[SiteState, dict[str, Any], dict[str, NDArray[Any]]]:
    """State, metadata entry and further arrays of one weight, stored as float32."""
    is_matrix = values.ndim > 1
    matrix = np.atleast_2d(values).astype(np.float32)
    wide = matrix.astype(np.float64)
    stored = np.ascontiguousarray(matrix.T) if transposed else matrix
    state = SiteState.from_native(
        oracle.site_state(stored, dtype="float32", position=np.arange(1, stored.shape[0] + 1), k=16)
    )
    frobenius = float(np.sqrt((wide[np.isfinite(wide)] ** 2).sum()))
    folded = frobenius if gain is None else float(np.sqrt(((wide * gain) ** 2).sum()))
    fields: dict[str, NDArray[Any]] = {"scaled_moments": np.array([0, 0, 0, 0, 0, np.inf, -np.inf])}
    spectral_folded = None
    if is_matrix:
        of_stored = stored.astype(np.float64)
        with np.errstate(all="ignore"):
            columns = of_stored / np.sqrt((of_stored**2).mean(axis=0))
            scaled = columns / np.sqrt((columns**2).mean(axis=1, keepdims=True))
        kept = scaled[np.isfinite(scaled)].astype(np.float32)
        codes, counts = np.unique((kept.view(np.uint32) >> 16).astype(np.uint16), return_counts=True)
        fields = {
            "row_means": of_stored.mean(axis=1),
            "row_rms": np.sqrt((of_stored**2).mean(axis=1)),
            "scaled_codes": codes.astype("<u2"),
            "scaled_counts": counts.astype("<u8"),
            "scaled_moments": np.array(oracle.moments_of(kept.astype(np.float64))),
        }
        if np.isfinite(wide).all():
            fields["singular_values"] = frobenius * singular_values(min(values.shape))
            spectral_folded = 1.1 * float(fields["singular_values"][0])
    role = None if ":" in name or name.startswith("extra") else name
    block = name.split(".")[1] if name.startswith("blocks.") else None
    entry = {
        "name": name,
        "aliases": [f"{name}.weight", *(["lm_head.weight"] if name == "embed.W_E" else [])],
        "parameter": f"{name}.weight",
        "part": None,
        "role": role,
        "weight_kind": None if role is None else role.removeprefix(f"blocks.{block}."),
        "layer": None if block is None else int(block),
        "shape": list(values.shape),
        "transposed": transposed,
        "stored_dtype": "float32",
        "quantization": None,
        "n_values": values.size,
        "n_nonfinite": int((~np.isfinite(values)).sum()),
        "frobenius": frobenius,
        "frobenius_folded": folded,
        "spectral_folded": spectral_folded,
    }
    return state, entry, fields


def singular_values(n: int) -> NDArray[np.float64]:
    """A power law of exponent 0.4 with a cliff at its end; the sum of squares is 1."""
    ranks = np.arange(1, n + 1, dtype=np.float64)
    values = ranks**-0.4 * np.minimum(1.0, (n + 1 - ranks) / 6)
    return np.asarray(values / np.sqrt((values**2).sum()))
