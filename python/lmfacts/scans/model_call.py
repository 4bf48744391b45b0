"""How `scan` calls a model: with tokens, without a cache, and without logits that are not recorded.

The head multiplies every token by the whole vocabulary: a fifth of the forward pass of a small model, and the largest
tensor of all. Nearly all causal language models of transformers take `logits_to_keep`, the number of last positions to
compute logits for (0 means all). With 1 the model's body computes the same bits as without, since it is over when
the argument is read.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["ModelCall"]

_ARGUMENT: Final = "logits_to_keep"


class ModelCall:
    """A model, called for what its modules compute.

    Attributes:
        model: the model.
        arguments: what it is given beside tokens and mask.
    """

    def __init__(self, model: Any, module_paths: Iterable[str]) -> None:
        """See the arguments.

        Args:
            model: a causal language model.
            module_paths: the modules that are looked at; if all of them are inside the model's body, logits are
                computed for the last position only.
        """
        self.model = model
        self.arguments: dict[str, Any] = {"use_cache": False}
        if _takes_number_of_logits(model) and _all_in_body(model, module_paths):
            self.arguments[_ARGUMENT] = 1

    @property
    def device(self) -> torch.device:
        """Where token ids have to be."""
        embedding: nn.Module = self.model.get_input_embeddings()
        return next(embedding.parameters()).device

    def __call__(self, input_ids: torch.Tensor, attention_mask: torch.Tensor | None = None) -> None:
        """Run the model over [batch, sequence] token ids, without gradients.

        Args:
            input_ids: the tokens.
            attention_mask: 1 where they are no padding; no argument is given if None.
        """
        device = self.device
        given = {} if attention_mask is None else {"attention_mask": attention_mask.to(device)}
        with torch.inference_mode():
            self.model(input_ids=input_ids.to(device), **given, **self.arguments)


def _takes_number_of_logits(model: Any) -> bool:
    runner = getattr(model, "_orig_mod", model)  # under torch.compile
    return _ARGUMENT in inspect.signature(runner.forward).parameters


def _all_in_body(model: Any, module_paths: Iterable[str]) -> bool:
    """Whether none of the modules is the head, a part of it, or around both."""
    body = getattr(model, "base_model", None)
    path = next((path for path, module in model.named_modules() if module is body), "")
    return path != "" and all(inside == path or inside.startswith(f"{path}.") for inside in module_paths)
