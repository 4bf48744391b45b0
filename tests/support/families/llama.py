"""Tiny models of Llama's layout."""

from __future__ import annotations

from typing import Any

from support.tiny_model import LLAMA_PARTS, LLAMA_SIZES, TinyModel


def _model(config: str, **arguments: Any) -> TinyModel:
    return TinyModel(
        config=config,
        arguments={**LLAMA_SIZES, **arguments},
        parts=LLAMA_PARTS,
        without_role=frozenset({"q_norm", "k_norm"}),
    )


MODELS = {
    "llama": _model("LlamaConfig"),
    "llama:bias": _model("LlamaConfig", attention_bias=True, mlp_bias=True, num_hidden_layers=2),
    "mistral": _model("MistralConfig", sliding_window=5, head_dim=12),
    "qwen2": _model("Qwen2Config", tie_word_embeddings=True),
    "qwen3": _model("Qwen3Config", head_dim=12),
    "smollm3": _model("SmolLM3Config", num_hidden_layers=2, no_rope_layers=[1, 0]),
    "gemma": _model("GemmaConfig", head_dim=12, tie_word_embeddings=True),
}
