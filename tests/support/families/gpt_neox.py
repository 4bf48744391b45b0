"""Tiny GPT-NeoX models, with parallel and with sequential blocks."""

from __future__ import annotations

from support.tiny_model import Parts, TinyModel


def _model(*, is_parallel: bool) -> TinyModel:
    return TinyModel(
        config="GPTNeoXConfig",
        arguments={
            "vocab_size": 104,
            "hidden_size": 40,
            "intermediate_size": 96,
            "num_hidden_layers": 3,
            "num_attention_heads": 5,
            "max_position_embeddings": 64,
            "bos_token_id": 1,
            "eos_token_id": 2,
            "pad_token_id": 0,
            "use_parallel_residual": is_parallel,
        },
        parts=Parts(
            norm1="input_layernorm",
            norm2="post_attention_layernorm",
            w_o="attention.dense",
            w_in="mlp.dense_h_to_4h",
            w_out="mlp.dense_4h_to_h",
            act="mlp.act",
            final_norm="final_layer_norm",
            attn="attention",
            sums="parallel" if is_parallel else "sequential",
        ),
        root="gpt_neox",
    )


MODELS = {"gpt_neox": _model(is_parallel=True), "gpt_neox:sequential": _model(is_parallel=False)}
