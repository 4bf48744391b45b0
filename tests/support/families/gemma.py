"""Tiny models of Gemma 2 and 3; the first Gemma is among Llama's."""

from __future__ import annotations

from typing import Any

from support.tiny_model import LLAMA_SIZES, Parts, TinyModel


def _model(config: str, **arguments: Any) -> TinyModel:
    return TinyModel(
        config=config,
        arguments={**LLAMA_SIZES, "head_dim": 12, "query_pre_attn_scalar": 12, "sliding_window": 5, **arguments},
        parts=Parts(
            norm1="input_layernorm",
            norm2="pre_feedforward_layernorm",
            w_o="self_attn.o_proj",
            w_in="mlp.gate_proj",
            w_up="mlp.up_proj",
            w_out="mlp.down_proj",
            act="mlp.act_fn",
            final_norm="norm",
            post_attn="post_attention_layernorm",
            post_mlp="post_feedforward_layernorm",
        ),
        without_role=frozenset({"q_norm", "k_norm", "post_attention_layernorm", "post_feedforward_layernorm"}),
    )


MODELS = {
    "gemma2": _model("Gemma2Config"),
    "gemma3_text": _model("Gemma3TextConfig", layer_types=["sliding_attention", "full_attention", "sliding_attention"]),
}
