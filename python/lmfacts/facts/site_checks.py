"""What the facts on single dims share: sites that hold nothing, layers, lists of dims."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lmfacts.facts.inputs import Inputs
    from lmfacts.run.site import SiteRecord

__all__ = ["degenerate", "listed", "number_of_layers", "unrecorded_layers"]

_MOST_LISTED: Final = 8


def degenerate(sites: Iterable[SiteRecord]) -> str | None:
    """Why one of the sites says nothing, or None: no tokens, no finite values, or the same value everywhere."""
    for site in sites:
        if not site.n_tokens:
            return f"{site.name} has no tokens{' past position 0' if site.population == 'rest' else ''}."
        dims = site.dims
        filled = dims.n > 0
        if not filled.any():
            return f"{site.name} has no finite values ({site.population} tokens)."
        low, high = dims.min[filled].min(), dims.max[filled].max()
        if low == high:
            return f"{site.name} holds the value {numbers.number(float(low))} everywhere ({site.population} tokens)."
    return None


def number_of_layers(inputs: Inputs, recorded: Iterable[int]) -> int:
    """Number of blocks of the model: as the run says, and at least as many as the recorded layers show."""
    return max(inputs.n_layers or 0, 1 + max(recorded, default=-1))


def unrecorded_layers(recorded: Sequence[int], n_layers: int, kind: str) -> tuple[str, ...]:
    """A note where some layers were not recorded, for `Evidence.notes`."""
    if len(recorded) == n_layers:
        return ()
    return (f"{kind} was recorded at {len(recorded)} of {n_layers} layers; neighbors are the next recorded ones.",)


def listed(dims: Iterable[int]) -> str:
    """Dims as text: `3, 50, 90`, at most eight and then how many more."""
    indices = [int(dim) for dim in dims]
    more = f" and {len(indices) - _MOST_LISTED} more" if len(indices) > _MOST_LISTED else ""
    return ", ".join(map(str, indices[:_MOST_LISTED])) + more
