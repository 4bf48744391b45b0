"""A tiny GPT-Neo."""

from __future__ import annotations

from support.tiny_model import Parts, TinyModel

MODELS = {
    "gpt_neo": TinyModel(
        config="GPTNeoConfig",
        arguments={
            "vocab_size": 98,
            "hidden_size": 32,
            "num_layers": 2,
            "num_heads": 4,
            "attention_types": [[["global", "local"], 1]],
            "window_size": 4,
            "intermediate_size": 72,
            "max_position_embeddings": 64,
            "bos_token_id": 1,
            "eos_token_id": 1,
        },
        parts=Parts(
            norm1="ln_1",
            norm2="ln_2",
            w_o="attn.attention.out_proj",
            w_in="mlp.c_fc",
            w_out="mlp.c_proj",
            act="mlp.act",
            final_norm="ln_f",
            attn="attn.attention",
        ),
        root="transformer",
        blocks="h",
        is_rotary=False,
    )
}
