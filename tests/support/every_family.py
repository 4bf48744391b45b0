"""Tiny models of every family of transformers, from the usual names of sizes in their configurations."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final, Literal

import torch
import transformers
from transformers.models.auto import configuration_auto, modeling_auto

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CAUSAL", "VISION", "Auto", "build_family", "tiny_config"]

Auto = Literal["causal", "vision"]

CAUSAL: Final = tuple(modeling_auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
"""The model types that `AutoModelForCausalLM` knows."""

VISION: Final = tuple(modeling_auto.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
"""The model types that `AutoModelForImageTextToText` knows."""

_STD: Final = 0.05

_SIZES: Final[Mapping[str, int]] = {
    # tokens
    "vocab_size": 96,
    "n_token": 96,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 1,
    "decoder_vocab_size": 96,
    "vocab_size_per_layer_input": 96,
    "unpadded_vocab_size": 96,
    # the stream and the blocks
    "hidden_size": 32,
    "d_model": 32,
    "n_embd": 32,
    "emb_dim": 32,
    "embedding_size": 32,
    "embedding_dim": 32,
    "input_embedding_size": 32,
    "output_embedding_size": 32,
    "backbone_hidden_size": 32,
    "word_embed_proj_dim": 32,
    "num_hidden_layers": 4,
    "num_layers": 4,
    "n_layer": 4,
    "n_layers": 4,
    "num_blocks": 4,
    "decoder_layers": 4,
    "num_decoder_layers": 4,
    "encoder_layers": 4,
    "num_encoder_layers": 4,
    # attention
    "num_attention_heads": 4,
    "num_heads": 4,
    "n_head": 4,
    "n_heads": 4,
    "attention_heads": 4,
    "decoder_attention_heads": 4,
    "num_decoder_attention_heads": 4,
    "encoder_attention_heads": 4,
    "num_encoder_attention_heads": 4,
    "swa_num_attention_heads": 4,
    "num_key_value_heads": 2,
    "num_global_key_value_heads": 2,
    "swa_num_key_value_heads": 2,
    "num_kv_heads": 2,
    "head_dim": 8,
    "global_head_dim": 8,
    "swa_head_dim": 8,
    "dim_head": 8,
    "d_head": 8,
    "kv_channels": 8,
    "attention_head_size": 8,
    "rotary_dim": 4,
    "d_rel": 4,
    "rel_extent": 16,
    "query_pre_attn_scalar": 8,
    "sliding_window": 5,
    "sliding_window_size": 5,
    "attention_window_size": 5,
    "local_attention": 6,
    "window_size": 4,
    "keep_window_size": 8,
    "q_lora_rank": 16,
    "kv_lora_rank": 16,
    "o_lora_rank": 16,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 8,
    "qk_head_dim": 16,
    "v_head_dim": 8,
    "index_head_dim": 16,
    "index_n_heads": 2,
    "index_topk": 4,
    "gated_norm_rank": 4,
    # MLPs
    "intermediate_size": 48,
    "intermediate_size_mlp": 48,
    "dense_intermediate_size": 48,
    "ffn_hidden_size": 48,
    "ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "encoder_ffn_dim": 48,
    "feed_forward_size": 48,
    "d_inner": 48,
    "n_inner": 48,
    "dim_ff": 48,
    "dff": 48,
    "moe_intermediate_size": 24,
    "expert_ffn_hidden_size": 24,
    "shared_expert_intermediate_size": 24,
    "shared_experts_intermediate_size": 24,
    "moe_shared_expert_intermediate_size": 24,
    "prefix_dense_intermediate_size": 24,
    "shared_intermediate_size": 24,
    "num_experts": 4,
    "num_local_experts": 4,
    "n_routed_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "top_k_experts": 2,
    "moe_k": 2,
    "moe_topk": 2,
    "n_shared_experts": 1,
    "num_shared_experts": 1,
    "moe_num_shared_experts": 1,
    "zero_expert_num": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "num_dense_layers": 1,
    "router_hidden_size": 16,
    "hidden_size_per_layer_input": 8,
    "laurel_rank": 8,
    "altup_num_inputs": 2,
    "num_kv_shared_layers": 0,
    "num_mtp_layers": 0,
    "num_nextn_predict_layers": 0,
    # positions
    "max_position_embeddings": 64,
    "original_max_position_embeddings": 64,
    "n_positions": 64,
    "max_seq_len": 64,
    "max_target_positions": 64,
    "n_ctx": 64,
    "context_length": 64,
    "type_vocab_size": 2,
    # state-space mixers and linear attention
    "state_size": 8,
    "ssm_state_size": 8,
    "mamba_d_state": 8,
    "mamba_n_heads": 8,
    "mamba_num_heads": 8,
    "n_mamba_heads": 2,
    "mamba_head_dim": 8,
    "mamba_headdim": 8,
    "mamba_d_head": 8,
    "mamba_d_ssm": 64,
    "mamba_n_groups": 1,
    "mamba_ngroups": 1,
    "n_groups": 1,
    "mamba_dt_rank": 4,
    "time_step_rank": 4,
    "mamba_chunk_size": 8,
    "chunk_size": 8,
    "lru_width": 32,
    "attention_hidden_size": 32,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
    "linear_head_dim": 8,
    "linear_num_heads": 4,
    "adapter_rank": 4,
    # vision and audio towers
    "image_size": 28,
    "patch_size": 14,
    "num_channels": 3,
    "projection_dim": 32,
    "mm_tokens_per_image": 4,
    "depth": 2,
    "embed_dim": 32,
    "out_hidden_size": 32,
    "vision_output_dim": 32,
    "projector_hidden_size": 32,
    "num_mel_bins": 8,
}
"""A size for each name that configurations use."""


_ROTARY: Final = {"rope_type": "default", "rope_theta": 10000.0}
_AXES: Final = {"text_config": {"rope_parameters": {**_ROTARY, "mrope_section": [1, 1, 2]}}}
_TEXT: Final = {"text_hidden_size": 32}
_ALTERNATING: Final = ["linear_attention", "full_attention"] * 2
_INDEXER: Final = {
    "indexer_n_heads": 2,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 8,
    "indexer_budget": 4,
    "indexer_compress_ratio": 2,
    "hc_lowrank": 8,
}
_MARKERS: Final = {"vision_start_token_id": 90, "vision_end_token_id": 91}

_MORE: Final[Mapping[str, dict[str, Any]]] = {
    "bailing_hybrid": {"layer_group_size": 2},
    "bamba": {"attn_layer_indices": [1, 3]},
    "chameleon": {"vocabulary_map": {"<image>": 90, "IMGIMGA1Z": 91}},
    "cohere_compass": {"text_config": {"rope_parameters": {"full_attention": _ROTARY}}},
    "cohere_compass_text": {"rope_parameters": {"full_attention": _ROTARY}},
    "cosmos3_edge": _AXES,
    "dbrx": {
        "attn_config": {"rope_theta": 10000.0, "kv_n_heads": 2, "clip_qkv": 8.0},
        "ffn_config": {"ffn_hidden_size": 24, "hidden_size": 32, "moe_num_experts": 4, "moe_top_k": 2},
    },
    "deepseek_ocr2": {"text_config": {"mlp_layer_types": ["dense", *["sparse"] * 3]}},
    "dory": {"n_input_layers": 1, "n_output_layers": 1},
    "dots3_note": {
        "text_config": {"num_key_value_heads": 4},
        "audio_config": {"adapter_input_size": 32, "adapter_output_size": 32},
        "vision_config": {"adapter_in_dim": 32, "adapter_out_dim": 32, "mlp_layer_types": ["dense"] * 4},
    },
    "dots3_note_text": {"num_key_value_heads": 4},
    "ernie4_5_vl_moe": {
        "text_config": {"moe_intermediate_size": [24, 24], "rope_parameters": {**_ROTARY, "mrope_section": [1, 1, 2]}}
    },
    "glm46v": _AXES,
    "glm4v": _AXES,
    "glm4v_moe": {"text_config": {"rope_parameters": {**_ROTARY, "mrope_section": [1, 1, 0]}}},
    "glm5_next": {"text_config": {"index_topk": 16, "index_kpool": 4, "qk_rope_head_dim": 0}},
    "glm_ocr": _AXES,
    "glmga": _AXES,
    "gpt_neo": {"attention_types": [[["global", "local"], 2]]},
    "granitemoehybrid": {"layer_types": ["mamba", "attention"] * 2},
    "hunyuan_vl": {"text_config": {"rope_parameters": {**_ROTARY, "mrope_section": [1, 1, 2]}}},
    "hy_v4_vl": _AXES,
    "inkling2": {"audio_config": _TEXT, "vision_config": _TEXT},
    "inkling2_loop": {"audio_config": _TEXT, "vision_config": _TEXT},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "kimi_linear": {"layer_types": _ALTERNATING},
    "lfm2_moe": {"layer_types": ["conv", "full_attention"] * 2},
    "longcat_flash": {"head_dim": 8},
    "mamba2": {"num_heads": 8},
    "molmo2": {"vit_config": {"image_size": [28, 28]}, "vision_config": {"image_size": [28, 28]}},
    "mpt": {"use_cache": True},
    "nemotron_h_omni": {"vision_config": {"video_temporal_patch_size": 2}},
    "paddleocr_vl": _AXES,
    "qwen2_5_omni_thinker": {**_AXES, **_MARKERS},
    "qwen2_5_vl": _AXES,
    "qwen2_vl": _AXES,
    "qwen3_omni_moe_thinker": _MARKERS,
    "qwen4_exp": {"text_config": _INDEXER},
    "qwen4_exp_text": _INDEXER,
    "reformer": {
        "is_decoder": True,
        "axial_pos_shape": (8, 8),
        "axial_pos_embds_dim": (16, 16),
        "attn_layers": ["local", "lsh"] * 2,
        "lsh_attn_chunk_length": 4,
        "local_attn_chunk_length": 4,
        "num_buckets": 4,
    },
    "xlstm": {"hidden_size": 128, "embedding_dim": 128, "num_heads": 4},
    "xmod": {"default_language": "en_XX"},
    "zamba": {
        "layers_block_type": ["linear_attention", "hybrid"] * 2,
        "attention_hidden_size": 64,
        "attention_head_dim": 16,
        "num_key_value_heads": 4,
    },
    "zamba2": {"layers_block_type": ["mamba", "hybrid"] * 2, "num_key_value_heads": 4, "n_mamba_heads": 8},
    "zaya": {"num_experts_per_tok": 1},
}
"""What a model type needs beside the usual sizes, or instead of them; configurations inside have a dictionary each."""


def build_family(model_type: str, auto: Auto = "causal", *, vocab_size: int = _SIZES["vocab_size"]) -> Any:
    """A random model of this type in evaluation mode and float32, the same at every call.

    Args:
        model_type: one of `CAUSAL` or `VISION`.
        auto: the class of transformers that makes it.
        vocab_size: the number of tokens.

    Raises:
        Exception: whatever transformers raises where no such model can be built of these sizes, or here.
    """
    sizes = {**_SIZES, "vocab_size": vocab_size}
    config = tiny_config(configuration_auto.CONFIG_MAPPING[model_type], sizes, _MORE.get(model_type, {}))
    loaders: Mapping[str, Any] = {
        "causal": transformers.AutoModelForCausalLM,
        "vision": transformers.AutoModelForImageTextToText,
    }
    torch.manual_seed(0)
    model = loaders[auto].from_config(config, dtype=torch.float32).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _, parameter in sorted(model.named_parameters()):
            if parameter.is_floating_point():
                parameter.add_((_STD * torch.randn(parameter.shape, generator=generator)).to(parameter.dtype))
    return model


def tiny_config(config_class: Any, sizes: Mapping[str, int], more: Mapping[str, Any]) -> Any:
    """A small configuration of this class; those inside it are small as well.

    Args:
        config_class: a subclass of `PreTrainedConfig`.
        sizes: the number for each name that it may have.
        more: arguments beside the usual ones or instead of them.
    """
    names = set(inspect.signature(config_class).parameters)
    arguments: dict[str, Any] = {name: size for name, size in sizes.items() if name in names}
    if "qk_rope_head_dim" in names:
        # Latent attention: one key and value for each head; the head's size is the rotary part's.
        arguments.pop("head_dim", None)
        arguments["num_key_value_heads"] = sizes["num_attention_heads"]
    inner = [name for name in config_class.sub_configs if name in names]
    usual = config_class() if inner else None
    for name in inner:
        kind = type(getattr(usual, name))
        if hasattr(kind, "sub_configs"):
            arguments[name] = tiny_config(kind, sizes, more.get(name, {})).to_dict()
    return config_class(
        **arguments | {name: value for name, value in more.items() if name not in arguments or name not in inner}
    )
