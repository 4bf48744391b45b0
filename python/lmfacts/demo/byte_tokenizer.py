"""The tokenizer of the embedded model: one token per byte of UTF-8, and an end-of-text token.

Token id i below 256 is the byte i; id 256 is `<|endoftext|>`. It is the byte-level BPE of GPT-2 with no merges, so it
round-trips every string and is stored as an ordinary `tokenizer.json`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["END_OF_TEXT", "END_OF_TEXT_ID", "N_TOKENS", "build_tokenizer", "encode_documents"]

END_OF_TEXT = "<|endoftext|>"
END_OF_TEXT_ID = 256
N_TOKENS = 257


def _byte_symbols() -> list[str]:
    """The printable character that byte-level BPE writes for each byte, indexed by byte.

    GPT-2's table: printable Latin-1 stands for itself, the other 68 bytes take the characters from U+0100 on, in order.
    """
    printable = {*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)}
    others = [byte for byte in range(256) if byte not in printable]
    return [chr(byte) if byte in printable else chr(0x100 + others.index(byte)) for byte in range(256)]


def build_tokenizer(n_positions: int) -> PreTrainedTokenizerFast:
    """Make the tokenizer.

    Args:
        n_positions: The longest sequence of the model, stored as `model_max_length`.

    Returns:
        A tokenizer that adds no special tokens by itself; the beginning and the end of a text are both marked by
        `<|endoftext|>`, as in GPT-2.
    """
    symbols = {symbol: byte for byte, symbol in enumerate(_byte_symbols())}
    tokenizer = Tokenizer(models.BPE(vocab=symbols, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(END_OF_TEXT, special=True, normalized=False)])
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]  # transformers gives it no types
        tokenizer_object=tokenizer,
        bos_token=END_OF_TEXT,
        eos_token=END_OF_TEXT,
        clean_up_tokenization_spaces=False,
        model_max_length=n_positions,
    )


def encode_documents(texts: Sequence[str]) -> list[int]:
    """The token stream of packed documents: every document preceded by the end-of-text token, and one at the end."""
    stream = [END_OF_TEXT_ID]
    for text in texts:
        stream.extend(text.encode())
        stream.append(END_OF_TEXT_ID)
    return stream
