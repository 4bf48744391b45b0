"""What a run says beside its numbers: the model, the machine, the text of tokens."""

from __future__ import annotations

import os
import platform
from typing import TYPE_CHECKING, Any

import torch

import lmfacts
from lmfacts import _native
from lmfacts.models import Architecture, norm_kind
from lmfacts.models.fingerprint import model_fingerprint
from lmfacts.run.statistics import in_order

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from torch import nn

    from lmfacts.recording.token_context import Context, Place
    from lmfacts.run.state import SiteState

__all__ = ["describe_contexts", "describe_machine", "describe_model", "describe_tokens"]


def describe_model(model: nn.Module, architecture: Architecture) -> dict[str, Any]:
    """What the run file has under `model`."""
    config = getattr(model, "config", None)
    parameter = next(model.parameters(), None)
    return {
        "id": str(getattr(config, "name_or_path", "") or type(model).__name__),
        "revision": getattr(config, "_commit_hash", None),
        "fingerprint": model_fingerprint(model),
        "architecture": type(model).__name__,
        "family": architecture.family,
        "n_layers": architecture.n_layers,
        "n_dims": architecture.n_dims,
        "norm_kind": norm_kind(model, architecture),
        "n_parameters": sum(p.numel() for p in model.parameters()),
        "dtype": "" if parameter is None else str(parameter.dtype).removeprefix("torch."),
        "device": "" if parameter is None else str(parameter.device),
    }


def describe_machine() -> dict[str, Any]:
    """What the run file has under `machine`."""
    import transformers  # noqa: PLC0415  loaded already with the model

    build = _native.build_info()
    return {
        "system": platform.platform(),
        "processor": platform.machine(),
        "n_cpus": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "lmfacts": lmfacts.__version__,
        "simd": build["simd"],
        "n_threads": build["n_threads"],
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def describe_tokens(tokenizer: Any, states: Iterable[SiteState]) -> dict[str, str]:
    """The text of the tokens that the largest values sit on, by their ids; nothing without a tokenizer."""
    if tokenizer is None:
        return {}
    ids = {
        int(i)
        for state in states
        for part in (state.first, state.rest)
        for statistic in in_order(state.statistics)
        for i in statistic(part).token_ids()
    }
    return {str(i): _text(tokenizer, i) for i in sorted(ids) if i >= 0}


def describe_contexts(tokenizer: Any, contexts: Mapping[Place, Context]) -> dict[str, dict[str, str]]:
    """The text around the largest values of the residual stream, by `SEQUENCE:POSITION`."""
    return {
        f"{sequence}:{position}": {
            "before": _decoded(tokenizer, before),
            "token": _text(tokenizer, token_id),
            "after": _decoded(tokenizer, after),
        }
        for (sequence, position), (before, token_id, after) in contexts.items()
        if token_id >= 0
    }


def _decoded(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _text(tokenizer: Any, token_id: int) -> str:
    """What a token stands for; a token that is only part of a character is spelled as the tokenizer spells it."""
    text = str(tokenizer.decode([token_id], skip_special_tokens=False, clean_up_tokenization_spaces=False))
    return str(tokenizer.convert_ids_to_tokens(token_id)) if "\ufffd" in text or not text else text
