"""The text that was recorded, as a number of tokens and a hash of them."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from lmfacts.recording.pass_tokens import Tokens

__all__ = ["CountedText"]

_DIGEST_BYTES = 16


class CountedText:
    """The tokens that the host has seen, padding left out.

    Attributes:
        n_tokens: how many there were.
    """

    def __init__(self) -> None:
        self.n_tokens = 0
        self._digest = hashlib.blake2b(digest_size=_DIGEST_BYTES)

    def add(self, tokens: Tokens) -> None:
        """Count the tokens of a pass."""
        self.n_tokens += tokens.n_real
        # Row by row, each with its length: the hash does not depend on how sequences are put into batches.
        for row, real in zip(tokens.token_id, tokens.real, strict=True):
            ids = row[real]
            self._digest.update(len(ids).to_bytes(8, "little"))
            self._digest.update(np.ascontiguousarray(ids, dtype="<i8").tobytes())

    def hexdigest(self) -> str:
        """The hash of all token ids so far."""
        return self._digest.hexdigest()
