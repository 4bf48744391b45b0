"""A tiny GPT-J."""

from __future__ import annotations

from support.tiny_model import Parts, TinyModel

MODELS = {
    "gptj": TinyModel(
        config="GPTJConfig",
        arguments={
            "vocab_size": 97,
            "n_positions": 64,
            "n_layer": 2,
            "n_head": 4,
            "n_embd": 48,
            "rotary_dim": 4,
            "n_inner": 80,
            "bos_token_id": 1,
            "eos_token_id": 1,
        },
        parts=Parts(
            norm1="ln_1",
            norm2="",
            w_o="attn.out_proj",
            w_in="mlp.fc_in",
            w_out="mlp.fc_out",
            act="mlp.act",
            final_norm="ln_f",
            attn="attn",
            sums="parallel",
        ),
        root="transformer",
        blocks="h",
    )
}
