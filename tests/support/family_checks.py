"""What a model of any family must show under `attach`: the same output, and every token once, at its position."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch

import lmfacts
from lmfacts.models import describe

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["CHECKS", "OK", "outcome"]

OK: Final = "ok"
"""What a check says when all is right."""

_IDS: Final = ((5, 6, 7, 8, 9, 10), (11, 12, 13, 14, 15, 16))
_MASK: Final = ((1, 1, 1, 1, 1, 1), (1, 1, 1, 1, 0, 0))
_N_PROMPT: Final = 4
_N_NEW: Final = 6
_N_PADDING: Final = 2
_CLOSE: Final = 1e-12


def outcome(check: Callable[[Any], str], model: Any) -> str:
    """What a check says; an error becomes its sentence."""
    try:
        return check(model)
    except Exception as error:  # noqa: BLE001  whatever goes wrong is one line of the table
        return f"{type(error).__name__}: {' '.join(str(error).split())}"


def check_forward(model: Any) -> str:
    """A padded batch: the logits are the same bits as without lmfacts, and the run is complete."""
    mask = torch.tensor(_MASK)
    given = {"input_ids": torch.tensor(_IDS), "attention_mask": mask, "use_cache": False}
    names = inspect.signature(model.forward).parameters
    if not any(each.kind is inspect.Parameter.VAR_KEYWORD for each in names.values()):
        given = {name: value for name, value in given.items() if name in names}
    n_tokens = int(mask.sum()) if "attention_mask" in given else mask.numel()
    sites = describe(model).sites
    with torch.no_grad():
        bare = _seeded(lambda: model(**given))
        with lmfacts.attach(model, sites, on_error="raise") as recorder:
            seen = _seeded(lambda: model(**given))
    run = recorder.run()
    if not torch.equal(bare.logits, seen.logits):
        return "the logits are others than without lmfacts"
    if not run.metadata["complete"]:
        return f"incomplete: {run.metadata['incomplete_reason']}"
    if run.metadata["n_tokens"] != n_tokens:
        return f"{run.metadata['n_tokens']} tokens of {n_tokens}"
    return OK


def check_hidden_states(model: Any) -> str:
    """`resid_post` of the first block has the values of `output_hidden_states`."""
    ids = torch.tensor(_IDS)
    with torch.no_grad(), lmfacts.attach(model, "blocks.0.resid_post", on_error="raise") as recorder:
        output = model(input_ids=ids, output_hidden_states=True, use_cache=False)
    states = getattr(output, "hidden_states", None) or getattr(output, "decoder_hidden_states", None)
    if not states:
        return "the model does not give its hidden states"
    site = recorder.run()["blocks.0.resid_post"]
    for given in states[:2]:  # the first is the embedding, but for state-space models
        is_stack = given.ndim > 3 and given.shape[1:3] == ids.shape
        state = given[0] if is_stack else given
        if state.numel() == ids.numel() * site.n_dims:
            mean = state.double().reshape(ids.numel(), -1).mean(0).numpy()
            if float(np.abs(site.dims.mean - mean).max()) < _CLOSE:
                return OK
    return f"hidden states of shape {list(states[1].shape)} have other values"


def check_generate(model: Any) -> str:
    """`generate()` without a mask: every token of the result but the last is recorded once, at its position."""
    return _generated(model, padded=False)


def check_padded(model: Any) -> str:
    """The same with one sequence padded on the left."""
    return _generated(model, padded=True)


CHECKS: Final[Mapping[str, Callable[[Any], str]]] = {
    "forward": check_forward,
    "generate": check_generate,
    "padded": check_padded,
    "hidden": check_hidden_states,
}
"""The checks by the name of their column."""


def _generated(model: Any, *, padded: bool) -> str:
    ids = torch.tensor(_IDS)[:, :_N_PROMPT].clone()
    given = {}
    first = [0, 0]
    if padded:
        first[1] = _N_PADDING
        ids[1, :_N_PADDING] = 0
        given["attention_mask"] = (ids != 0).long()
    for end in ("eos_token_id", "forced_eos_token_id"):
        setattr(model.generation_config, end, None)
    model.generation_config.pad_token_id = 0

    def generate() -> torch.Tensor:
        result: torch.Tensor = model.generate(ids, max_new_tokens=_N_NEW, do_sample=False, **given)
        return result

    bare = _seeded(generate)
    with lmfacts.attach(model, "embed", k=100_000, on_error="raise") as recorder:
        made = _seeded(generate)
    if not torch.equal(bare, made):
        return "other tokens are generated than without lmfacts"
    right = {
        (row, column - first[row], int(token))
        for row, tokens in enumerate(made)
        for column, token in enumerate(tokens[:-1])
        if column >= first[row]
    }
    outliers = recorder.site("embed").outliers
    found = {(int(each["sequence"]), int(each["position"]), int(each["token_id"])) for each in outliers}
    counts = recorder.n_sequences, recorder.n_tokens
    if found == right and counts == (len(made), len(right)):
        return OK
    return (
        f"{counts[0]} sequences and {counts[1]} tokens instead of {len(made)} and {len(right)}, of which "
        f"{len(found & right)} are where they belong"
    )


def _seeded(act: Callable[[], Any]) -> Any:
    """What a model gives, where it draws random numbers the same each time."""
    torch.manual_seed(1)
    return act()
