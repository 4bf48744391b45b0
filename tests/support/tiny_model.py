"""What the tests know of one tiny model: how it is built, and where its parts are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LLAMA_PARTS", "LLAMA_SIZES", "Parts", "TinyModel"]


@dataclass(frozen=True, kw_only=True)
class Parts:
    """Where a family keeps its parts, relative to a block; "" where it has none.

    `sums` says what enters the stream where: `sequential`, `parallel`, `post_norm` (a norm after each sum) or
    `normed_residual` (the norms' outputs are the residual).
    """

    norm1: str
    norm2: str
    w_o: str
    final_norm: str
    w_in: str = ""
    w_out: str = ""
    act: str = ""
    attn: str = "self_attn"
    w_up: str = ""
    post_attn: str = ""
    post_mlp: str = ""
    sums: str = "sequential"
    moe: str = ""


@dataclass(frozen=True, kw_only=True)
class TinyModel:
    """A model of 2 or 3 layers and 32 to 48 dims.

    Attributes:
        config: the class of its configuration in transformers.
        arguments: those of the configuration.
        parts: where its parts are.
        root: the path of its base transformer.
        blocks: the list of blocks in that.
        is_rotary: whether positions that are all 0 leave q and k as they are.
        is_transposed: whether the matrices of a block are stored [in, out].
        without_role: last names of the modules whose parameters have no role.
    """

    config: str
    arguments: Mapping[str, Any]
    parts: Parts
    root: str = "model"
    blocks: str = "layers"
    is_rotary: bool = True
    is_transposed: bool = False
    without_role: frozenset[str] = frozenset()


LLAMA_SIZES: Mapping[str, Any] = {
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
"""The arguments of most configurations."""

LLAMA_PARTS = Parts(
    norm1="input_layernorm",
    norm2="post_attention_layernorm",
    w_o="self_attn.o_proj",
    w_in="mlp.gate_proj",
    w_up="mlp.up_proj",
    w_out="mlp.down_proj",
    act="mlp.act_fn",
    final_norm="norm",
)
"""Llama's block, and that of a dense layer in a mixture of experts."""
