"""The largest values of a run, one for each dim, with the tokens they are on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from lmfacts.analysis.run_view import RunView
    from lmfacts.run.site import Population, SiteRecord

__all__ = ["LargestValue", "largest_values"]


@dataclass(frozen=True, slots=True)
class LargestValue:
    """The value of largest magnitude of one dim.

    Where the run has no places of the dims' largest values and it is not among the k outliers that were kept of its
    site, its token is not known: `sequence`, `position`, `token_id` and `token` are None.

    Attributes:
        value: the value.
        site: where it is.
        sequence, position: which token of which sequence it is at.
        dim: its coordinate.
        token_id: id of the token; -1 if it is not known although the position is.
        token: its text, or None if that is not known.
        n_tokens: how many of the recorded outliers (k per site) sit on this dim, counted by (sequence, position).
        tokens: those outliers' tokens as (token id, text, number of places), most frequent first.
    """

    value: float
    site: str
    sequence: int | None
    position: int | None
    dim: int
    token_id: int | None
    token: str | None
    n_tokens: int
    tokens: tuple[tuple[int, str | None, int], ...]


def largest_values(view: RunView, population: Population, most: int = 64) -> list[LargestValue]:
    """The largest values of the residual stream, or of all sites where it was not recorded: one for each dim.

    They are the dims' own largest magnitudes, which are kept of every dim of every site, with their places. In runs
    without these, sequence, position and token are known where the value is among the k outliers of its site. Of equal
    values the first with a place is taken, in order of depth. Outside the residual stream, equal numbers of a dim at
    different kinds of site mean different things, so each dim of each site is listed by itself.

    Args:
        view: the run.
        population: the population of tokens.
        most: the most values to give.

    Returns:
        The values of largest magnitude, the largest first; of equal ones those of the smallest dim first.
    """
    in_stream = bool(view.depths)
    names = list(dict.fromkeys(depth.name for depth in view.depths)) if in_stream else list(view.run)
    sites = {name: site for name in names if (site := view.site(name, population)).n_dims and site.n_tokens}
    groups = [list(sites)] if in_stream else [[name] for name in sites]
    candidates: list[tuple[float, int, list[str]]] = []
    for group in groups:
        magnitudes = _largest_magnitudes([sites[name] for name in group])
        candidates += [(float(magnitudes[dim]), dim, group) for dim in _first(magnitudes, most)]
    candidates.sort(key=lambda candidate: -candidate[0])
    outliers = {name: _by_dim(sites[name]) for name in {name for _, _, group in candidates[:most] for name in group}}
    return [
        _largest_of(dim, {name: sites[name] for name in group}, outliers, magnitude, view.tokens)
        for magnitude, dim, group in candidates[:most]
    ]


def _largest_magnitudes(sites: Sequence[SiteRecord]) -> NDArray[np.float64]:
    """The largest magnitude of each dim over some sites, float64 [widest]; -1 where a dim has no finite values."""
    largest = np.full(max(site.n_dims for site in sites), -1.0)
    for site in sites:
        part = largest[: site.n_dims]
        np.fmax(part, site.dims.absmax, out=part)
    return largest


def _first(magnitudes: NDArray[np.float64], most: int) -> list[int]:
    """The dims of the largest magnitudes, those first, without dims that have none."""
    order = np.argsort(-magnitudes, kind="stable")[:most]
    return [int(dim) for dim in order if magnitudes[dim] >= 0]


_Outlier = tuple[float, int, int, int]
"""Value, sequence, position and token id."""


def _by_dim(site: SiteRecord) -> dict[int, list[_Outlier]]:
    """The site's outliers by dim, each dim's largest first."""
    by_dim: dict[int, list[_Outlier]] = {}
    for value, sequence, position, dim, token_id in site.outliers.tolist():
        by_dim.setdefault(dim, []).append((value, sequence, position, token_id))
    return by_dim


def _place(site: SiteRecord, dim: int, outliers: Sequence[_Outlier]) -> _Outlier | None:
    """The largest value of a dim with its place, if that is known."""
    largest = site.largest_of_dims
    if largest is not None:
        value, sequence, position, token_id = (of_dims[dim].item() for of_dims in largest)
        return value, sequence, position, token_id
    return outliers[0] if outliers and abs(outliers[0][0]) == site.dims.absmax[dim] else None


def _largest_of(
    dim: int,
    sites: Mapping[str, SiteRecord],
    outliers: Mapping[str, Mapping[int, Sequence[_Outlier]]],
    magnitude: float,
    text: Mapping[int, str],
) -> LargestValue:
    """The value of a dim that has this magnitude, the largest at these sites, and the tokens of its other outliers."""
    there = [name for name, site in sites.items() if dim < site.n_dims and site.dims.absmax[dim] == magnitude]
    known = {name: place for name in there if (place := _place(sites[name], dim, outliers[name].get(dim, ())))}
    places: dict[tuple[int, int], int] = {}
    for name in sites:
        for _, sequence, position, token_id in outliers[name].get(dim, ()):
            places[sequence, position] = token_id
    counts = Counter(places.values()).most_common()
    tokens = tuple((token_id, text.get(token_id), n) for token_id, n in counts)
    if known:
        name, (value, sequence, position, token_id) = next(iter(known.items()))
        return LargestValue(value, name, sequence, position, dim, token_id, text.get(token_id), len(places), tokens)
    dims = sites[there[0]].dims
    value = float(dims.max[dim] if dims.max[dim] == magnitude else dims.min[dim])
    return LargestValue(value, there[0], None, None, dim, None, None, len(places), tokens)
