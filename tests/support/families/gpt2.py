"""A tiny GPT-2."""

from __future__ import annotations

from support.tiny_model import Parts, TinyModel

MODELS = {
    "gpt2": TinyModel(
        config="GPT2Config",
        arguments={
            "vocab_size": 97,
            "n_positions": 64,
            "n_layer": 3,
            "n_head": 4,
            "n_embd": 32,
            "bos_token_id": 1,
            "eos_token_id": 1,
        },
        parts=Parts(
            norm1="ln_1",
            norm2="ln_2",
            w_o="attn.c_proj",
            w_in="mlp.c_fc",
            w_out="mlp.c_proj",
            act="mlp.act",
            final_norm="ln_f",
            attn="attn",
        ),
        root="transformer",
        blocks="h",
        is_rotary=False,
        is_transposed=True,
    )
}
