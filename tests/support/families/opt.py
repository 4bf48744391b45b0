"""Tiny OPT models: pre-norm, and post-norm with narrower embeddings."""

from __future__ import annotations

from typing import Any

from support.tiny_model import Parts, TinyModel

_SIZES = {
    "vocab_size": 99,
    "hidden_size": 32,
    "ffn_dim": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "dropout": 0.0,
    "pad_token_id": 1,
    "bos_token_id": 2,
    "eos_token_id": 2,
}


def _model(final_norm: str, sums: str, **arguments: Any) -> TinyModel:
    return TinyModel(
        config="OPTConfig",
        arguments={**_SIZES, **arguments},
        parts=Parts(
            norm1="self_attn_layer_norm",
            norm2="final_layer_norm",
            w_o="self_attn.out_proj",
            w_in="fc1",
            w_out="fc2",
            act="activation_fn",
            final_norm=final_norm,
            sums=sums,
        ),
        root="model.decoder",
        is_rotary=False,
        without_role=frozenset({"project_in", "project_out"}),
    )


MODELS = {
    "opt": _model("final_layer_norm", "sequential", do_layer_norm_before=True, word_embed_proj_dim=32),
    "opt:post_norm": _model("", "post_norm", do_layer_norm_before=False, word_embed_proj_dim=20),
}
