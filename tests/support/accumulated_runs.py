"""Runs of a residual stream made from arrays, recorded by the native accumulators as a scan would."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lmfacts._native import SiteAccumulator, TokenBatch
from lmfacts.run import Run
from lmfacts.run.state import SiteState
from lmfacts.sites import detail_sites

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from lmfacts.facts import Inputs

__all__ = ["accumulated_run", "inputs_of"]

TOKEN_TEXT = {"0": "<s>", "1": " the", "2": "\n"}


def accumulated_run(
    values_of: Callable[[int, NDArray[np.int64], NDArray[np.int64]], NDArray[np.float64]],
    *,
    n_layers: int = 1,
    n_sequences: int = 16,
    n_positions: int = 64,
    dtype: str = "float32",
    blocks: bool = True,
    dim_blocks: bool = True,
    places: bool = False,
    model: dict[str, Any] | None = None,
) -> Run:
    """A run of `embed` (the first block's `resid_pre`) and every `resid_post`, with what a scan keeps of them.

    Token ids are 0 at position 0 and 1 elsewhere; their texts are `<s>` and ` the`.

    Args:
        values_of: from the layer (-1 for `embed`), the tokens' sequences and their positions to values [tokens, dims].
        n_layers: number of blocks.
        n_sequences: sequences.
        n_positions: tokens of each.
        dtype: `float32`, `float64` or `bfloat16`.
        blocks: False for what the earliest versions recorded, without any blocks of sequences.
        dim_blocks: False for what later ones did, without sums of dims by blocks.
        places: whether the places of the dims' largest values are kept, as scans do since they exist.
        model: more about the model.
    """
    sequence, position = np.divmod(np.arange(n_sequences * n_positions), n_positions)
    batch = TokenBatch(sequence, position, np.minimum(position, 1), np.ones(sequence.size, np.uint8))
    detailed = detail_sites(n_layers)
    states, entries = {}, []
    for layer in range(-1, n_layers):
        name = "embed" if layer < 0 else f"blocks.{layer}.resid_post"
        kept = ["unit_sums", "dim_places"] if places else ["unit_sums"]
        kept += ["sequence_blocks"] if blocks else []
        kept += ["dim_blocks"] if blocks and dim_blocks else []
        kept += ["block_codes", "dim_histograms"] if blocks and name in detailed else []
        accumulator = SiteAccumulator(statistics=kept)
        accumulator.update(_stored(values_of(layer, sequence, position), dtype), batch)
        states[name] = SiteState.from_native(accumulator.state())
        aliases = [f"blocks.{layer + 1}.resid_pre"] if layer + 1 < n_layers else []
        entries.append({"name": name, "aliases": aliases, "module_path": f"transformer.h.{layer}"})
    return Run(
        {
            "kind": "activations",
            "model": {"id": "synthetic", "n_layers": n_layers, **(model or {})},
            "n_sequences": n_sequences,
            "n_tokens": n_sequences * n_positions,
            "token_text": TOKEN_TEXT,
            "sites": entries,
        },
        states,
    )


def inputs_of(run: Run) -> Inputs:
    """The run alone."""
    from lmfacts.facts import Inputs

    return Inputs(activations=run)


def _stored(values: NDArray[np.float64], dtype: str) -> Any:
    if dtype == "bfloat16":
        import torch

        return torch.from_numpy(values.astype(np.float32)).to(torch.bfloat16)
    return np.ascontiguousarray(values, dtype=dtype)
