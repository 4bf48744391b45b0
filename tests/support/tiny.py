"""Small random models of every family: 2 or 3 layers, 32 to 48 dims, seeded, with weights that make mistakes visible.

Weights are normal with a standard deviation of 0.2, gains are scattered about the value that means "no change", and
every bias is non-zero. So no two sites of a model have equal values by accident, and a tap on the wrong module is seen.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, Literal

import torch
import transformers

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedModel

__all__ = ["TINY", "batch", "build"]

Side = Literal["right", "left", "none"]

_N_TOKENS = 11
_LENGTHS = (11, 7, 4)
_STD = 0.2

_LLAMA = {
    "vocab_size": 101,
    "hidden_size": 32,
    "intermediate_size": 56,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "tie_word_embeddings": False,
}
_FALCON = {
    "vocab_size": 103,
    "hidden_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 6,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_OPT = {
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
_NEOX = {
    "vocab_size": 104,
    "hidden_size": 40,
    "intermediate_size": 96,
    "num_hidden_layers": 3,
    "num_attention_heads": 5,
    "max_position_embeddings": 64,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
_BLOOM = {
    "vocab_size": 106,
    "hidden_size": 40,
    "n_layer": 2,
    "n_head": 5,
    "pad_token_id": 3,
    "hidden_dropout": 0.0,
    "attention_dropout": 0.0,
}
_EXPERTS = {"moe_intermediate_size": 24, "num_experts": 4, "num_experts_per_tok": 2, "norm_topk_prob": True}
_GPT2 = {"vocab_size": 97, "n_positions": 64, "n_layer": 2, "n_head": 4, "bos_token_id": 1, "eos_token_id": 1}

# name: the configuration's class and its arguments. The key's part before a colon is the model type.
_CONFIGS: dict[str, tuple[str, dict[str, Any]]] = {
    "gpt2": ("GPT2Config", {**_GPT2, "n_embd": 32, "n_layer": 3}),
    "gpt_neo": (
        "GPTNeoConfig",
        {
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
    ),
    "gpt_neox": ("GPTNeoXConfig", {**_NEOX, "use_parallel_residual": True}),
    "gpt_neox:sequential": ("GPTNeoXConfig", {**_NEOX, "use_parallel_residual": False}),
    "gptj": ("GPTJConfig", {**_GPT2, "n_embd": 48, "rotary_dim": 4, "n_inner": 80}),
    "opt": ("OPTConfig", {**_OPT, "do_layer_norm_before": True, "word_embed_proj_dim": 32}),
    "opt:post_norm": ("OPTConfig", {**_OPT, "do_layer_norm_before": False, "word_embed_proj_dim": 20}),
    "bloom": ("BloomConfig", _BLOOM),
    "bloom:post_norm_residual": ("BloomConfig", {**_BLOOM, "apply_residual_connection_post_layernorm": True}),
    "falcon": (
        "FalconConfig",
        {**_FALCON, "parallel_attn": True, "multi_query": True, "new_decoder_architecture": False},
    ),
    "falcon:new_decoder": ("FalconConfig", {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": 2}),
    "falcon:new_decoder_one_norm": (
        "FalconConfig",
        {**_FALCON, "new_decoder_architecture": True, "num_kv_heads": 3, "num_ln_in_parallel_attn": 1, "bias": True},
    ),
    "falcon:sequential": (
        "FalconConfig",
        {**_FALCON, "parallel_attn": False, "multi_query": False, "alibi": True, "bias": True},
    ),
    "falcon:multi_head": ("FalconConfig", {**_FALCON, "parallel_attn": True, "multi_query": False}),
    "llama": ("LlamaConfig", _LLAMA),
    "llama:bias": ("LlamaConfig", {**_LLAMA, "attention_bias": True, "mlp_bias": True, "num_hidden_layers": 2}),
    "mistral": ("MistralConfig", {**_LLAMA, "sliding_window": 5, "head_dim": 12}),
    "qwen2": ("Qwen2Config", {**_LLAMA, "tie_word_embeddings": True}),
    "qwen3": ("Qwen3Config", {**_LLAMA, "head_dim": 12}),
    "smollm3": ("SmolLM3Config", {**_LLAMA, "num_hidden_layers": 2, "no_rope_layers": [1, 0]}),
    "gemma": ("GemmaConfig", {**_LLAMA, "head_dim": 12, "tie_word_embeddings": True}),
    "gemma2": ("Gemma2Config", {**_LLAMA, "head_dim": 12, "query_pre_attn_scalar": 12, "sliding_window": 5}),
    "gemma3_text": (
        "Gemma3TextConfig",
        {
            **_LLAMA,
            "head_dim": 12,
            "query_pre_attn_scalar": 12,
            "sliding_window": 5,
            "layer_types": ["sliding_attention", "full_attention", "sliding_attention"],
        },
    ),
    "phi3": ("Phi3Config", {**_LLAMA, "sliding_window": None}),
    "olmo2": ("Olmo2Config", _LLAMA),
    "mixtral": ("MixtralConfig", {**_LLAMA, "num_local_experts": 4, "num_experts_per_tok": 2}),
    "qwen2_moe": (
        "Qwen2MoeConfig",
        {**_LLAMA, **_EXPERTS, "shared_expert_intermediate_size": 40, "mlp_only_layers": [1]},
    ),
    "qwen3_moe": ("Qwen3MoeConfig", {**_LLAMA, **_EXPERTS, "head_dim": 12, "num_hidden_layers": 2}),
}


def build(name: str, dtype: torch.dtype = torch.float32, *, seed: int = 0, head: bool = True) -> PreTrainedModel:
    """A tiny model in evaluation mode, the same at every call.

    Args:
        name: a key of `TINY`.
        dtype: of its parameters, which are drawn in float32 and rounded.
        seed: of the weights.
        head: whether the model is a causal LM; otherwise its base model.
    """
    class_name, arguments = _CONFIGS[name]
    config = getattr(transformers, class_name)(**arguments)
    auto: Any = transformers.AutoModelForCausalLM if head else transformers.AutoModel
    # Eager attention is the one implementation that can report its attention pattern.
    model: PreTrainedModel = auto.from_config(config, attn_implementation="eager", dtype=torch.float32)
    generator = torch.Generator().manual_seed(seed)
    zero_centered = str(config.model_type).startswith("gemma")
    with torch.no_grad():
        for path, parameter in sorted(model.named_parameters()):
            noise = torch.randn(parameter.shape, generator=generator)
            is_gain = parameter.ndim == 1 and path.endswith("weight")
            center = 1.0 if is_gain and not zero_centered else 0.0
            parameter.copy_(center + _STD * noise)
    torch.nn.Module.to(model, dtype)
    model.train(mode=False)
    return model


TINY: dict[str, Callable[[], PreTrainedModel]] = {name: functools.partial(build, name) for name in _CONFIGS}
"""A function for each tiny model, by model type and, after a colon, variant."""


def batch(model: PreTrainedModel, side: Side = "right") -> dict[str, torch.Tensor]:
    """Three sequences of 11, 7 and 4 random tokens as `input_ids` and `attention_mask`, [3, 11] each.

    Args:
        model: its vocabulary and padding token are used.
        side: where the padding is; with "none" all three sequences have 11 tokens.
    """
    config = model.config
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(4, config.vocab_size, (len(_LENGTHS), _N_TOKENS), generator=generator)
    mask = torch.ones_like(ids)
    if side != "none":
        for row, length in enumerate(_LENGTHS):
            padding = slice(length, None) if side == "right" else slice(None, _N_TOKENS - length)
            mask[row, padding] = 0
    padding_id = getattr(config, "pad_token_id", None)
    ids[mask == 0] = 0 if padding_id is None else padding_id
    return {"input_ids": ids, "attention_mask": mask}
