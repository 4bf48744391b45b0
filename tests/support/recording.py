"""Recording some calls of a model, and saying what of it must be the same."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch

import lmfacts

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from lmfacts import Recorder

    Places = list[tuple[int, int, int]]

__all__ = ["assert_same_records", "cache_name", "expected_places", "places", "record", "states"]


def record(model: torch.nn.Module, calls: Sequence[Mapping[str, Any]], sites: Any = "all", **options: Any) -> Recorder:
    """The recorder after these calls of the model, without gradients."""
    with torch.no_grad(), lmfacts.attach(model, sites, **{"on_error": "raise", **options}) as recorder:
        for inputs in calls:
            model(**inputs)
    return recorder


def cache_name(model: torch.nn.Module) -> str:
    """What the model's forward calls its cache, which transformers renamed."""
    return "cache" if "cache" in inspect.signature(model.forward).parameters else "past_key_values"


def states(recorder: Recorder) -> dict[str, dict[str, object]]:
    """The whole state of each site."""
    return {name: recorder.site(name).state.to_native() for name in recorder.site_names}


def assert_same_records(
    found: Mapping[str, Mapping[str, object]], expected: Mapping[str, Mapping[str, object]]
) -> None:
    """The same sites, and the same bits at each."""
    assert set(found) == set(expected)
    differing = [
        f"{site} {key}" for site, state in expected.items() for key, value in state.items() if found[site][key] != value
    ]
    assert not differing, f"differs in {differing}"


def places(recorder: Recorder, site: str = "embed") -> Places:
    """Sequence, position and token id of every recorded token, if k was large enough to keep all values."""
    outliers = recorder.site(site).outliers
    return sorted({(int(one["sequence"]), int(one["position"]), int(one["token_id"])) for one in outliers})


def expected_places(inputs: Mapping[str, torch.Tensor]) -> Places:
    """The same, read off a batch: rows are sequences, and padding has no position."""
    return [
        (row, position, int(token))
        for row, (ids, mask) in enumerate(zip(inputs["input_ids"], inputs["attention_mask"], strict=True))
        for position, token in enumerate(ids[mask.bool()])
    ]
