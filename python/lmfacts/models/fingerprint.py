"""Fingerprints of a model and of its tokenizer: equal ones mean the same weights, and the same ids for a text."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from torch import nn

__all__ = ["model_fingerprint", "tokenizer_fingerprint"]

_SAMPLES = 4096
_DIGEST_BYTES = 16


def model_fingerprint(model: nn.Module) -> str:
    """A hash of the parameters: name, shape, dtype and up to 4096 evenly spaced values of each, bit for bit.

    Two checkpoints of one training differ in nearly every value, so a sample tells them apart at a small part of the
    cost of reading everything. Parameters without data (`meta`) count by name, shape and dtype alone.
    """
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)
    for name, parameter in sorted(model.named_parameters()):
        digest.update(f"{name} {tuple(parameter.shape)} {parameter.dtype}\n".encode())
        if parameter.device.type == "meta" or parameter.numel() == 0:
            continue
        flat = parameter.detach().reshape(-1)
        step = -(-flat.numel() // _SAMPLES)
        digest.update(flat[::step].contiguous().cpu().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def tokenizer_fingerprint(tokenizer: Any) -> str:
    """A hash of what decides how text becomes ids: the definition of a fast tokenizer, else the vocabulary."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is not None:
        # Truncation and padding are settings of a call, which some calls leave behind in the definition.
        definition = json.loads(backend.to_str())
        text = json.dumps(
            {key: definition[key] for key in definition if key not in ("truncation", "padding")}, sort_keys=True
        )
    else:
        text = json.dumps(sorted(tokenizer.get_vocab().items()))
    return hashlib.blake2b(text.encode(), digest_size=_DIGEST_BYTES).hexdigest()
