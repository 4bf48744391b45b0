"""Tiny mixtures of experts."""

from __future__ import annotations

from typing import Any

from support.tiny_model import LLAMA_SIZES, Parts, TinyModel

_EXPERTS = {"moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2, "norm_topk_prob": True}


def _model(config: str, **arguments: Any) -> TinyModel:
    return TinyModel(
        config=config,
        arguments={**LLAMA_SIZES, **arguments},
        parts=Parts(
            norm1="input_layernorm",
            norm2="post_attention_layernorm",
            w_o="self_attn.o_proj",
            final_norm="norm",
            moe="mlp",
        ),
        without_role=frozenset({"gate", "shared_expert_gate", "q_norm", "k_norm"}),
    )


MODELS = {
    "mixtral": _model("MixtralConfig", num_local_experts=4, num_experts_per_tok=2),
    "qwen2_moe": _model("Qwen2MoeConfig", **_EXPERTS, shared_expert_intermediate_size=40, mlp_only_layers=[1]),
    "qwen3_moe": _model("Qwen3MoeConfig", **_EXPERTS, head_dim=12, num_hidden_layers=2),
}
