"""A tiny Phi-3."""

from __future__ import annotations

from support.tiny_model import LLAMA_SIZES, Parts, TinyModel

MODELS = {
    "phi3": TinyModel(
        config="Phi3Config",
        arguments={**LLAMA_SIZES, "sliding_window": None},
        parts=Parts(
            norm1="input_layernorm",
            norm2="post_attention_layernorm",
            w_o="self_attn.o_proj",
            w_in="mlp.gate_up_proj",
            w_out="mlp.down_proj",
            act="mlp.activation_fn",
            final_norm="norm",
        ),
    )
}
