"""Small random models of every family: 2 or 3 layers, 32 to 48 dims, seeded, with weights that make mistakes visible.

Weights are normal with a standard deviation of 0.2, gains are scattered about the value that means "no change", and
every bias is non-zero. So no two sites of a model have equal values by accident, and a tap on the wrong module is seen.

The models themselves are in `support/families`, a file for each family.
"""

from __future__ import annotations

import functools
import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Any, Literal

import torch
import transformers

from support import families

if TYPE_CHECKING:
    from collections.abc import Callable

    from transformers import PreTrainedModel

    from support.tiny_model import TinyModel

__all__ = ["MODELS", "TINY", "batch", "build"]

Side = Literal["right", "left", "none"]

_N_TOKENS = 11
_LENGTHS = (11, 7, 4)
_STD = 0.2


def _models() -> dict[str, TinyModel]:
    models: dict[str, TinyModel] = {}
    for module in pkgutil.iter_modules(families.__path__):
        models |= import_module(f"{families.__name__}.{module.name}").MODELS
    return models


MODELS = _models()
"""What is known of each tiny model, by model type and, after a colon, variant."""


def build(name: str, dtype: torch.dtype = torch.float32, *, seed: int = 0, head: bool = True) -> PreTrainedModel:
    """A tiny model in evaluation mode, the same at every call.

    Args:
        name: a key of `TINY`.
        dtype: of its parameters, which are drawn in float32 and rounded.
        seed: of the weights.
        head: whether the model is a causal LM; otherwise its base model.
    """
    tiny = MODELS[name]
    config = getattr(transformers, tiny.config)(**tiny.arguments)
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


TINY: dict[str, Callable[[], PreTrainedModel]] = {name: functools.partial(build, name) for name in MODELS}
"""A function for each tiny model, by the keys of `MODELS`."""


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
