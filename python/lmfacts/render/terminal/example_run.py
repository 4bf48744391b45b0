"""A made-up run, so that every view can be looked at without a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lmfacts.run import Run
from lmfacts.run.state import SiteState, native_array
from lmfacts.stats.codes import SIGN

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["example_run", "example_state"]

PLANTED: Final = {13: 9.0, 44: -14.0, 71: 30.0}
"""The outlier dims of the example: dim -> its mean in units of the other dims' std."""

_THRESHOLD: Final = 6.0
_TOKENS: Final = (" the", " of", "\n", " a", ".", ",", " model", "ing", "\t", " 文字", "[bold]", "\u200b", "é", "'s")


def example_run(
    *, n_layers: int = 12, n_dims: int = 96, n_sequences: int = 12, n_positions: int = 48, seed: int = 0
) -> Run:
    """A run with heavy tails, three outlier dims, massive values at position 0 and on newlines, and growing norms.

    The residual stream, `mlp_out` and `mlp_post` of each layer, as float32. The dims of `PLANTED` are outlier dims at
    every layer but the first and the last.
    """
    rng = np.random.default_rng(seed)
    sequence, position = np.divmod(np.arange(n_sequences * n_positions), n_positions)
    token_id = rng.integers(len(_TOKENS), size=sequence.size)
    places = np.stack([sequence, position, np.zeros_like(sequence), token_id], axis=1)
    states, entries = {}, []
    resid = rng.normal(size=(sequence.size, n_dims)) * np.exp(0.2 * rng.normal(size=n_dims))
    for layer in range(n_layers):
        neurons = np.maximum(rng.normal(-0.5, 1.0, size=(sequence.size, 2 * n_dims)), 0.0) ** 2
        written = rng.standard_t(5, size=resid.shape) * 0.45 * 1.09**layer
        resid = resid + written
        stream = resid.copy()
        if 0 < layer < n_layers - 1:
            for dim, offset in PLANTED.items():
                stream[:, dim] += offset * resid.std() * (1 + 0.1 * rng.normal(size=sequence.size))
            stream[position == 0, 44] -= 400.0 * min(layer, 3)
            stream[(token_id == _TOKENS.index("\n")) & (position > 0), 71] += 60.0
        for kind, values in (("mlp_post", neurons), ("mlp_out", written), ("resid_post", stream)):
            name = f"blocks.{layer}.{kind}"
            states[name] = example_state(values, places)
            aliases = [f"blocks.{layer + 1}.resid_pre"] if kind == "resid_post" and layer + 1 < n_layers else []
            path = {"mlp_post": ".mlp.c_proj", "mlp_out": ".mlp", "resid_post": ""}[kind]
            entries.append({"name": name, "aliases": aliases, "module_path": f"transformer.h.{layer}{path}"})
    return Run(
        {
            "kind": "activations",
            "model": {
                "id": "example",
                "architecture": "GPT2LMHeadModel",
                "n_layers": n_layers,
                "n_dims": n_dims,
                "dtype": "float32",
                "device": "cpu",
            },
            "corpus": {"description": "made-up tokens"},
            "n_sequences": n_sequences,
            "n_tokens": n_sequences * n_positions,
            "settings": {"seq_len": n_positions, "sites": "default"},
            "token_text": {str(i): text for i, text in enumerate(_TOKENS)},
            "timing": {"wall_s": 4.5, "model_s": 4.0, "lmfacts_s": 0.27},
            "created": "2024-01-01T00:00:00+00:00",
            "sites": entries,
        },
        states,
    )


def example_state(values: NDArray[np.float64], places: NDArray[np.int64], k: int = 64) -> SiteState:
    """What is recorded of float32 values.

    Args:
        values: finite values [tokens, dims], rounded to float32 first.
        places: int64 [tokens, 4]: sequence, position, anything, token id.
        k: the number of outliers to keep.
    """
    values = values.astype(np.float32).astype(np.float64)
    state: dict[str, Any] = {
        "dtype": "float32",
        "n_dims": values.shape[1],
        "k": k,
        "threshold": _THRESHOLD,
        "statistics": ("token_norms", "outliers", "dim_places"),
    }
    is_first = places[:, 1] == 0
    for population, chosen in (("first", is_first), ("rest", ~is_first)):
        x, at = values[chosen], places[chosen]
        codes, counts = np.unique((x.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16), return_counts=True)
        norms = np.linalg.norm(x, axis=1)
        norm_codes, norm_counts = np.unique(
            (norms.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16) & np.uint16(SIGN - 1), return_counts=True
        )
        centered = np.linalg.norm(x - x.mean(axis=1, keepdims=True), axis=1)
        token, dim = np.unravel_index(np.argsort(-np.abs(x), axis=None, kind="stable")[:k], x.shape)
        index = at[token].copy()
        index[:, 2] = dim
        arrays: dict[str, NDArray[Any]] = {
            "codes": codes.astype("<u2"),
            "counts": counts.astype("<u8"),
            "moments": _moments(x)[1:].astype("<f8"),
            "mean_rests": np.zeros(x.shape[1]),
            "dim_counts": np.stack([np.zeros(x.shape[1]), (np.abs(x) >= _THRESHOLD).sum(axis=0)]).astype("<u8"),
            "norm_codes": norm_codes.astype("<u2"),
            "norm_counts": norm_counts.astype("<u8"),
            "token_moments": _moments(np.stack([norms, np.log(norms), np.log(centered)], axis=1)).T.astype("<f8"),
            "token_mean_rests": np.zeros(3),
            "outlier_values": x[token, dim].astype("<f8"),
            "outlier_index": index.astype("<i8"),
            **_places_of_dims(x, at),
        }
        state[f"{population}/n_tokens"] = int(chosen.sum())
        state.update({f"{population}/{name}": native_array(array) for name, array in arrays.items()})
    return SiteState.from_native(state)


def _places_of_dims(x: NDArray[np.float64], places: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """The largest value of each column, and its place; rows come in the order of their places."""
    rows = np.abs(x).argmax(axis=0)
    return {
        "dim_largest": x[rows, np.arange(x.shape[1])].astype("<f8"),
        "dim_places": places[rows][:, [0, 1, 3]].T.astype("<i8"),
    }


def _moments(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Rows n, mean, M2, M3, M4, min, max of each column."""
    mean = x.mean(axis=0)
    deviation = x - mean
    powers = [(deviation**order).sum(axis=0) for order in (2, 3, 4)]
    return np.stack([np.full(x.shape[1], float(x.shape[0])), mean, *powers, x.min(axis=0), x.max(axis=0)])
