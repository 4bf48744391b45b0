"""Tiny BLOOM models."""

from __future__ import annotations

from support.tiny_model import Parts, TinyModel

_SIZES = {
    "vocab_size": 106,
    "hidden_size": 40,
    "n_layer": 2,
    "n_head": 5,
    "pad_token_id": 3,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
}


def _model(sums: str = "sequential", **arguments: bool) -> TinyModel:
    return TinyModel(
        config="BloomConfig",
        arguments={**_SIZES, **arguments},
        parts=Parts(
            norm1="input_layernorm",
            norm2="post_attention_layernorm",
            w_o="self_attention.dense",
            w_in="mlp.dense_h_to_4h",
            w_out="mlp.dense_4h_to_h",
            act="mlp.gelu_impl",
            final_norm="ln_f",
            attn="self_attention",
            sums=sums,
        ),
        root="transformer",
        blocks="h",
        is_rotary=False,
        without_role=frozenset({"word_embeddings_layernorm"}),
    )


MODELS = {
    "bloom": _model(),
    "bloom:post_norm_residual": _model("normed_residual", apply_residual_connection_post_layernorm=True),
}
