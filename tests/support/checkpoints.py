"""Small checkpoints written from arrays, and the runs of weights that a scan of them gives."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from safetensors.numpy import save_file

import lmfacts
from lmfacts.facts.inputs import Inputs

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from numpy.typing import NDArray

    from lmfacts.run import Run
    from lmfacts.run.weight import WeightRecord

LLAMA: Final = {
    "W_Q": "self_attn.q_proj.weight",
    "W_K": "self_attn.k_proj.weight",
    "W_V": "self_attn.v_proj.weight",
    "W_O": "self_attn.o_proj.weight",
    "W_gate": "mlp.gate_proj.weight",
    "W_in": "mlp.up_proj.weight",
    "W_out": "mlp.down_proj.weight",
    "ln1.gain": "input_layernorm.weight",
    "ln2.gain": "post_attention_layernorm.weight",
    "embed.W_E": "model.embed_tokens.weight",
    "ln_final.gain": "model.norm.weight",
    "q_norm": "self_attn.q_norm.weight",
}
"""Llama's names: RMSNorm, no biases."""

OPT: Final = {
    "W_Q": "self_attn.q_proj.weight",
    "W_K": "self_attn.k_proj.weight",
    "W_V": "self_attn.v_proj.weight",
    "W_O": "self_attn.out_proj.weight",
    "W_in": "fc1.weight",
    "W_out": "fc2.weight",
    "ln1.gain": "self_attn_layer_norm.weight",
    "ln1.bias": "self_attn_layer_norm.bias",
    "ln2.gain": "final_layer_norm.weight",
    "ln2.bias": "final_layer_norm.bias",
    "ln_final.gain": "model.decoder.final_layer_norm.weight",
    "ln_final.bias": "model.decoder.final_layer_norm.bias",
}
"""OPT's names: LayerNorm, with biases, q, k and v apart."""

_FAMILIES: Final = {"llama": (LLAMA, "model.layers"), "opt": (OPT, "model.decoder.layers")}


def scanned(
    folder: Path, weights: Mapping[str, NDArray[Any]], *, family: str = "llama", spectra: int = 4096, **config: Any
) -> Run[WeightRecord]:
    """Write weights, given by role ([out, in], stored as float32), as a checkpoint and scan it.

    Args:
        folder: where to write.
        weights: role (`blocks.3.W_O`, `ln_final.gain`) -> values.
        family: `llama` or `opt`.
        spectra: as in `lmfacts.scan_weights`.
        config: more of the configuration.
    """
    names, layers = _FAMILIES[family]
    tensors = {}
    for role, values in weights.items():
        _, layer, kind = role.split(".", 2) if role.startswith("blocks.") else ("", "", role)
        name = f"{layers}.{layer}.{names[kind]}" if layer else names[kind]
        tensors[name] = np.ascontiguousarray(values, dtype=np.float32)
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "model.safetensors")
    described = {"model_type": family, "tie_word_embeddings": False, **config}
    (folder / "config.json").write_text(json.dumps(described), encoding="utf-8")
    return lmfacts.scan_weights(folder, spectra=spectra)


def weights_inputs(run: Run[WeightRecord]) -> Inputs:
    """A run of weights as facts take it."""
    return Inputs.of([run])
