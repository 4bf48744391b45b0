"""The modules of a model that may be given the tokens of a forward pass."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

    from lmfacts.models.adapter import Architecture

__all__ = ["TokenModules", "token_modules"]


@dataclass(frozen=True)
class TokenModules:
    """Where token ids or embeddings come in.

    Attributes:
        paths: all such modules, from the outside in: the model, what lies between it and its transformer, and that.
        encoder: the one among them whose tokens are another text than the model's own; None if there is none.
        decoder: the one among them that reads the model's own, if there is an encoder.
    """

    paths: tuple[str, ...]
    encoder: str | None = None
    decoder: str | None = None

    def is_around_encoder(self, path: str) -> bool:
        """Whether a module is called with the arguments of an encoder and of a decoder."""
        return self.encoder is not None and path not in (self.encoder, self.decoder)


def token_modules(model: nn.Module, architecture: Architecture) -> TokenModules:
    """Find them.

    Whoever calls a model may call any module around its transformer: a vision-language model, its language tower, a
    wrapper of either. An encoder-decoder's decoder reads the model's own tokens, its encoder other ones.
    """
    parts = architecture.root_path.split(".") if architecture.root_path else []
    paths = [".".join(parts[:n]) for n in range(len(parts) + 1)]
    encoder = decoder = None
    if getattr(getattr(model, "config", None), "is_encoder_decoder", False):
        encoder, decoder = (_path_of(model, getter) for getter in ("get_encoder", "get_decoder"))
        if not encoder or not decoder:  # one of the two alone, or neither is known
            encoder = decoder = None
        else:
            paths += [parent for parent in _around(decoder) if parent not in paths]
            paths += [encoder, decoder]
    return TokenModules(tuple(paths), encoder, decoder)


def _around(path: str) -> list[str]:
    """The paths of the modules around one, from the outside in, without the model itself."""
    parts = path.split(".")
    return [".".join(parts[:n]) for n in range(1, len(parts))]


def _path_of(model: nn.Module, getter: str) -> str | None:
    """The path of the module that a method of the model gives."""
    method = getattr(model, getter, None)
    try:
        wanted = method() if callable(method) else None
    except (AttributeError, NotImplementedError, TypeError):  # a model may have the method and nothing to give
        wanted = None
    return next((path for path, module in model.named_modules() if module is wanted), None)
