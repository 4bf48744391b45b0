"""Tiny Falcon models, one of each variant."""

from __future__ import annotations

from typing import Any

from support.tiny_model import Parts, TinyModel

_SIZES = {
    "vocab_size": 103,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}


def _model(norm1: str, norm2: str, sums: str, **arguments: Any) -> TinyModel:
    return TinyModel(
        config="FalconConfig",
        arguments={**_SIZES, **arguments},
        parts=Parts(
            norm1=norm1,
            norm2=norm2,
            w_o="self_attention.dense",
            w_in="mlp.dense_h_to_4h",
            w_out="mlp.dense_4h_to_h",
            act="mlp.act",
            final_norm="ln_f",
            attn="self_attention",
            sums=sums,
        ),
        root="transformer",
        blocks="h",
    )


MODELS = {
    "falcon": _model(
        "input_layernorm", "", "parallel", parallel_attn=True, multi_query=True, new_decoder_architecture=False
    ),
    "falcon:new_decoder": _model("ln_attn", "ln_mlp", "parallel", new_decoder_architecture=True, num_kv_heads=2),
    "falcon:new_decoder_one_norm": _model(
        "input_layernorm",
        "",
        "parallel",
        new_decoder_architecture=True,
        num_kv_heads=3,
        num_ln_in_parallel_attn=1,
        bias=True,
    ),
    "falcon:sequential": _model(
        "input_layernorm",
        "post_attention_layernorm",
        "sequential",
        parallel_attn=False,
        multi_query=False,
        alibi=True,
        bias=True,
    ),
    "falcon:multi_head": _model("input_layernorm", "", "parallel", parallel_attn=True, multi_query=False),
}
