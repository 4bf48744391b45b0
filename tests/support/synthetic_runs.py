"""Runs made from random numbers, for tests that need a run and no model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lmfacts.run import Run
from lmfacts.run.state import SiteState
from support import oracle

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray


def tokens(n_sequences: int, n_positions: int) -> dict[str, Any]:
    """Sequence, position and id of every token of a full batch, as keyword arguments of `oracle.site_state`."""
    sequence, position = np.divmod(np.arange(n_sequences * n_positions), n_positions)
    return {"sequence": sequence, "position": position, "token_id": (sequence * 31 + position * 7) % 1000}


def residual_run(
    values_of: Callable[[int, NDArray[np.int64]], NDArray[np.float64]],
    *,
    n_layers: int,
    n_sequences: int = 4,
    n_positions: int = 16,
    dtype: str = "float32",
    metadata: dict[str, Any] | None = None,
    unit_sums: bool = False,
    blocks: bool = False,
    detail: bool = False,
    dim_places: bool = False,
) -> Run:
    """A run of `blocks.L.resid_post`, each aliased as the next block's `resid_pre`.

    Args:
        values_of: gives the values [tokens, dims] of a layer, from the layer and the tokens' positions.
        n_layers: number of blocks.
        n_sequences: sequences, each of `n_positions` tokens.
        n_positions: tokens per sequence.
        dtype: dtype to round the values to.
        metadata: more metadata.
        unit_sums: whether to record unit sums.
        blocks: whether to record norms by blocks of sequences, and maxima of sequences.
        detail: whether to record codes by blocks of sequences, and a histogram of each dim.
        dim_places: whether to record the places of the dims' largest values.
    """
    places = tokens(n_sequences, n_positions)
    states, entries = {}, []
    for layer in range(n_layers):
        stored = oracle.store(values_of(layer, places["position"]), dtype)
        kept = {"unit_sums": unit_sums, "blocks": blocks, "detail": detail, "dim_places": dim_places}
        state = oracle.site_state(stored, dtype=dtype, **kept, **places)
        name = f"blocks.{layer}.resid_post"
        states[name] = SiteState.from_native(state)
        aliases = [f"blocks.{layer + 1}.resid_pre"] if layer + 1 < n_layers else []
        entries.append({"name": name, "aliases": aliases, "module_path": f"transformer.h.{layer}"})
    return Run(
        {
            "kind": "activations",
            "model": {"id": "synthetic", "n_layers": n_layers},
            "n_sequences": n_sequences,
            "n_tokens": n_sequences * n_positions,
            "sites": entries,
            **(metadata or {}),
        },
        states,
    )


def gaussian_run(*, n_layers: int = 3, n_dims: int = 8, seed: int = 0, **options: Any) -> Run:
    """A `residual_run` of independent Gaussian values."""
    rng = np.random.default_rng(seed)
    return residual_run(
        lambda _layer, positions: rng.normal(size=(positions.size, n_dims)), n_layers=n_layers, **options
    )
