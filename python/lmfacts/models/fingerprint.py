"""Short names for what was measured: the same fingerprints mean the same weights and the same tokenizer."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from numpy.typing import NDArray
    from torch import nn

__all__ = ["TokenHash", "model_fingerprint", "tokenizer_fingerprint"]

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


class TokenHash:
    """A running hash of sequences of token ids; it does not depend on how sequences are put into batches."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)

    def update(self, sequences: Iterable[NDArray[np.int64]]) -> None:
        """Add sequences, int64 [length] each, padding left out."""
        for ids in sequences:
            self._digest.update(len(ids).to_bytes(8, "little"))
            self._digest.update(np.ascontiguousarray(ids, dtype="<i8").tobytes())

    def hexdigest(self) -> str:
        """The hash of all sequences so far."""
        return self._digest.hexdigest()
