"""Which tokens a forward pass is about: the one place where that is worked out.

A pass is read in three steps, a file each:

1. `arguments` finds the token ids (or embeddings), the mask, the positions and the cache among a call's arguments,
   under whatever names the model has for them.
2. `call` says what they mean: which of the pass's columns are real tokens, how many tokens of each row were read
   before, where a document begins inside a row, and which earlier pass this one goes on from. `masks` reads the forms
   a mask can have, `caches` asks a cache for its length. All of this is tensor arithmetic on the device where the
   arguments lie; nothing waits for a device.
3. `numbering` gives each token its sequence and position. The kernel `tokens.cu` does the same on a CUDA device, from
   the same `Call`.

The rules:

- A column is a token unless the mask is 0 there. What counts is what the model attends to: any other value of a mask,
  NaN and 0.5 among them, is a real token (the run says that there were such values).
- A row is a sequence, and begins at position 0. It is cut where `position_ids` start again at 0, and where a mask that
  numbers documents (1, 1, 2, 2) goes on to the next number.
- A pass with a cache that is not empty goes on with the sequences of the pass that filled it. If no pass that was seen
  did, its rows are new sequences whose first tokens are missing: they begin at the position that the cache says.
- What `generate()` appends to a row after its end, while other rows go on, is padding, although the mask has 1 there:
  in a pass of one column that goes on from a cache, the padding id after an end-of-sequence token (or after such
  padding). The ids are those of the tokenizer, if the recorder was given one, or else of the model's configuration.
  The end-of-sequence token itself is a token.
- Rows of a beam search keep their numbers, although the search moves beams between rows.
"""

from __future__ import annotations

from lmfacts.recording.pass_tokens.arguments import ArgumentReader, Arguments, named_arguments
from lmfacts.recording.pass_tokens.call import Call, CallReader, EndOfText
from lmfacts.recording.pass_tokens.numbering import TokenReader, Tokens

__all__ = [
    "ArgumentReader",
    "Arguments",
    "Call",
    "CallReader",
    "EndOfText",
    "TokenReader",
    "Tokens",
    "named_arguments",
]
