"""GGUF's names for parameters and sizes, and the Hugging Face names for them.

GGUF files come from the converters of llama.cpp (https://github.com/ggml-org/llama.cpp, convert_hf_to_gguf.py), which
also change some tensors: Llama's q and k have their rows permuted for another form of rotary, Gemma's gains have 1
added, GPT-2's matrices are transposed, and fused projections are q, k, v one after the other.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lmfacts.models.weight_layout import FUSED_ORDER

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["GgufName", "gguf_config", "gguf_tensor_names"]


@dataclass(frozen=True, slots=True)
class GgufName:
    """What a GGUF tensor is in the Hugging Face checkpoint.

    Attributes:
        name: its name there; its own where that is not known.
        n_permuted_heads: the heads whose rows are to be put back in order; 0 if they are in order.
        subtract: what the converter added to every value.
    """

    name: str
    n_permuted_heads: int = 0
    subtract: float = 0.0


_MODEL_TYPES: Final = {
    "bloom": "bloom",
    "falcon": "falcon",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
    "gpt2": "gpt2",
    "gptneox": "gpt_neox",
    "llama": "llama",
    "olmo2": "olmo2",
    "phi3": "phi3",
    "qwen2": "qwen2",
    "qwen2moe": "qwen2_moe",
    "qwen3": "qwen3",
    "qwen3moe": "qwen3_moe",
    "smollm3": "smollm3",
}
"""GGUF's `general.architecture` to `model_type`; Mistral is `llama` there, and Mixtral a `llama` with experts."""

_SIZES: Final = {
    "block_count": "num_hidden_layers",
    "embedding_length": "hidden_size",
    "feed_forward_length": "intermediate_size",
    "attention.head_count": "num_attention_heads",
    "attention.head_count_kv": "num_key_value_heads",
    "attention.key_length": "head_dim",
    "context_length": "max_position_embeddings",
    "expert_count": "num_experts",
    "expert_used_count": "num_experts_per_tok",
    "vocab_size": "vocab_size",
}

_LLAMA_OUTSIDE: Final = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_ATTENTION: Final = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
}
_MLP: Final = {"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
_PRE_NORMS: Final = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm"}
_POST_NORMS: Final = {
    "post_attention_norm": "post_attention_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
_LLAMA: Final = {**_ATTENTION, **_MLP, **_PRE_NORMS}
_GEMMA: Final = {
    **_ATTENTION,
    **_MLP,
    **_POST_NORMS,
    "attn_norm": "input_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
}
_EXPERTS: Final = {
    **_LLAMA,
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_exps": "mlp.experts.gate_proj",
    "ffn_up_exps": "mlp.experts.up_proj",
    "ffn_down_exps": "mlp.experts.down_proj",
    "ffn_gate_shexp": "mlp.shared_expert.gate_proj",
    "ffn_up_shexp": "mlp.shared_expert.up_proj",
    "ffn_down_shexp": "mlp.shared_expert.down_proj",
    "ffn_gate_inp_shexp": "mlp.shared_expert_gate",
}
_FUSED: Final = {
    "attn_norm": "input_layernorm",
    "attn_norm_2": "ln_attn",
    "attn_qkv": "self_attention.query_key_value",
    "attn_output": "self_attention.dense",
    "ffn_norm": "post_attention_layernorm",
    "ffn_up": "mlp.dense_h_to_4h",
    "ffn_down": "mlp.dense_4h_to_h",
}
_BLOOM_OUTSIDE: Final = {
    "token_embd": "transformer.word_embeddings",
    "token_embd_norm": "transformer.word_embeddings_layernorm",
    "output_norm": "transformer.ln_f",
    "output": "lm_head",
}

_NAMES: Final[Mapping[str, tuple[Mapping[str, str], str, Mapping[str, str]]]] = {
    **dict.fromkeys(("llama", "qwen2", "qwen3", "smollm3", "gemma"), (_LLAMA_OUTSIDE, "model.layers", _LLAMA)),
    **dict.fromkeys(("mixtral", "qwen2_moe", "qwen3_moe"), (_LLAMA_OUTSIDE, "model.layers", _EXPERTS)),
    **dict.fromkeys(("gemma2", "gemma3_text"), (_LLAMA_OUTSIDE, "model.layers", _GEMMA)),
    "olmo2": (_LLAMA_OUTSIDE, "model.layers", {**_ATTENTION, **_MLP, **_POST_NORMS}),
    "phi3": (
        _LLAMA_OUTSIDE,
        "model.layers",
        {**_LLAMA, "attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"},
    ),
    "gpt2": (
        {
            "token_embd": "transformer.wte",
            "position_embd": "transformer.wpe",
            "output_norm": "transformer.ln_f",
            "output": "lm_head",
        },
        "transformer.h",
        {
            "attn_norm": "ln_1",
            "attn_qkv": "attn.c_attn",
            "attn_output": "attn.c_proj",
            "ffn_norm": "ln_2",
            "ffn_up": "mlp.c_fc",
            "ffn_down": "mlp.c_proj",
        },
    ),
    "gpt_neox": (
        {
            "token_embd": "gpt_neox.embed_in",
            "output_norm": "gpt_neox.final_layer_norm",
            "output": "embed_out",
        },
        "gpt_neox.layers",
        {**_FUSED, "attn_qkv": "attention.query_key_value", "attn_output": "attention.dense"},
    ),
    "bloom": (_BLOOM_OUTSIDE, "transformer.h", _FUSED),
    "falcon": (_BLOOM_OUTSIDE, "transformer.h", _FUSED),
}
"""By `model_type`: names outside the blocks, the list of blocks, names in a block."""

_PERMUTED: Final = frozenset({"llama", "mixtral", "smollm3"})
_FUSED_FAMILIES: Final = frozenset({"bloom", "falcon", "gpt_neox"})
_IN_BLOCK: Final = re.compile(r"^blk\.(\d+)\.(.+)\.(weight|bias)$")
_OUTSIDE: Final = re.compile(r"^(.+)\.(weight|bias)$")


def gguf_config(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration from a GGUF file's metadata: `model_type` and the sizes under Hugging Face's names.

    An architecture without a table here keeps GGUF's own name as its `model_type`.
    """
    architecture = metadata.get("general.architecture")
    if not isinstance(architecture, str):
        return {}
    config: dict[str, Any] = {
        key: metadata[f"{architecture}.{stored}"]
        for stored, key in _SIZES.items()
        if f"{architecture}.{stored}" in metadata
    }
    config["model_type"] = _MODEL_TYPES.get(architecture, architecture)
    if architecture == "llama" and config.get("num_experts", 0) > 0:
        config["model_type"] = "mixtral"
    if config["model_type"] in _FUSED_FAMILIES:
        config[FUSED_ORDER] = "q,k,v"
    return config


def gguf_tensor_names(names: Iterable[str], config: Mapping[str, Any]) -> tuple[dict[str, GgufName], list[str]]:
    """The Hugging Face name of each GGUF tensor, what has to be undone in it, and notes for the reader.

    Args:
        names: the tensors' names in the file.
        config: as `gguf_config` gives it.
    """
    model_type = config.get("model_type")
    names = list(names)
    known = _NAMES.get(model_type) if isinstance(model_type, str) else None
    if known is None:
        note = (
            f"Parameters keep their GGUF names: there is no table for the architecture {model_type!r}. The rows of its "
            "q and k may be in another order than in the original checkpoint."
        )
        return {name: GgufName(name) for name in names}, [note]
    outside, blocks, block = known
    if model_type == "falcon" and any(".attn_norm_2." in name for name in names):
        # Falcon-40B's two norms: attn_norm is the MLP's.
        block = {**block, "attn_norm": "ln_mlp"}
    result: dict[str, GgufName] = {}
    for name in names:
        inside = _IN_BLOCK.match(name)
        around = _OUTSIDE.match(name)
        if inside is not None and inside[2] in block:
            renamed = f"{blocks}.{inside[1]}.{block[inside[2]]}.{inside[3]}"
        elif inside is None and around is not None and around[1] in outside:
            renamed = f"{outside[around[1]]}.{around[2]}"
        else:
            renamed = name
        heads = {"attn_q": "num_attention_heads", "attn_k": "num_key_value_heads"}
        key = heads.get(inside[2]) if inside is not None and model_type in _PERMUTED else None
        n_heads = 0 if key is None else config.get(key, config.get("num_attention_heads", 0))
        gain = str(model_type).startswith("gemma") and renamed.endswith("norm.weight")
        result[name] = GgufName(renamed, n_heads if isinstance(n_heads, int) else 0, 1.0 if gain else 0.0)
    notes = []
    if any(each.n_permuted_heads for each in result.values()):
        notes.append("The rows of q and k, which GGUF permutes for this architecture, are put back in their order.")
    if any(each.subtract for each in result.values()):
        notes.append("GGUF stores this architecture's gains with 1 added; the 1 is taken off again, in float32.")
    if config.get(FUSED_ORDER):
        notes.append("GGUF stores this architecture's fused projection as q, k, v, each in one piece.")
    if model_type == "gpt2":
        notes.append("GGUF stores GPT-2's matrices as [out, in], transposed.")
    return result, notes
