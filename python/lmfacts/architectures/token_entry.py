"""The modules of a model that may be given the tokens of a forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from lmfacts.architectures.adapter import Architecture

__all__ = ["TokenModules", "token_modules"]


@dataclass(frozen=True)
class TokenModules:
    """Where token ids or embeddings come in.

    Attributes:
        paths: all such modules, from the outside in: the model, what lies between it and its transformer, and that.
        encoder: the one among them whose tokens are another text than the model's own; None if there is none.
    """

    paths: tuple[str, ...]
    encoder: str | None = None


def token_modules(model: nn.Module, architecture: Architecture) -> TokenModules:
    """Find them.

    Whoever calls a model may call any module around its transformer: a vision-language model, its language tower, a
    wrapper of either. An encoder-decoder's decoder reads the model's own tokens, its encoder other ones.
    """
    parts = architecture.root_path.split(".") if architecture.root_path else []
    paths = [".".join(parts[:n]) for n in range(len(parts) + 1)]
    encoder = None
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        encoder, decoder = (_path_of(model, getter) for getter in ("get_encoder", "get_decoder"))
        paths += [path for path in (encoder, decoder) if path is not None and path not in paths]
        encoder = encoder or None
    return TokenModules(tuple(paths), encoder)


def _path_of(model: nn.Module, getter: str) -> str | None:
    """The path of the module that a method of the model gives."""
    method = getattr(model, getter, None)
    try:
        wanted = method() if callable(method) else None
    except (AttributeError, NotImplementedError, TypeError):  # a model may have the method and nothing to give
        wanted = None
    return next((path for path, module in model.named_modules() if module is wanted), None)
