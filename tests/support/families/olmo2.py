"""A tiny OLMo 2."""

from __future__ import annotations

from support.tiny_model import LLAMA_SIZES, Parts, TinyModel

MODELS = {
    "olmo2": TinyModel(
        config="Olmo2Config",
        arguments=LLAMA_SIZES,
        parts=Parts(
            norm1="",
            norm2="",
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
}
