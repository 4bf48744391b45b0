"""The largest values of a run or of a site, with the tokens they sit on."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from rich.text import Text

from lmfacts.render.terminal.console import STANDOUT, paragraph, section
from lmfacts.render.terminal.run_view import POPULATION_TITLES
from lmfacts.render.terminal.table import Column, NumberTable
from lmfacts.render.terminal.token_text import quoted
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from lmfacts.render.terminal.run_view import RunView
    from lmfacts.run.site import Population, SiteRecord

__all__ = ["WHAT_A_DASH_SAYS", "LargestValue", "LargestValuesSection", "find_largest", "outlier_table", "token_name"]

_MOST_TOKENS: Final = 4

WHAT_A_DASH_SAYS: Final = (
    "A dash: which token it is on is not known; tokens are kept for the largest values of a whole site only."
)


@dataclass(frozen=True, slots=True)
class LargestValue:
    """The value of largest magnitude of one dim.

    Where it is not among the k outliers that were kept of its site, its token is not known: `sequence`, `position`,
    `token_id` and `token` are None.

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


def find_largest(view: RunView, population: Population, most: int = 64) -> list[LargestValue]:
    """The largest values of the residual stream, or of all sites where it was not recorded: one for each dim.

    They are the dims' own largest magnitudes, which are kept of every dim of every site; sequence, position and token
    are known where the value is among the k outliers of its site. Of equal values the first with a token is taken, in
    order of depth. Outside the residual stream, equal numbers of a dim at different kinds of site mean different
    things, so each dim of each site is listed by itself.

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
    candidates.sort(key=lambda found: -found[0])
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
    found: dict[int, list[_Outlier]] = {}
    for value, sequence, position, dim, token_id in site.outliers.tolist():
        found.setdefault(dim, []).append((value, sequence, position, token_id))
    return found


def _largest_of(
    dim: int,
    sites: Mapping[str, SiteRecord],
    outliers: Mapping[str, Mapping[int, Sequence[_Outlier]]],
    magnitude: float,
    text: Mapping[int, str],
) -> LargestValue:
    """The value of a dim that has this magnitude, the largest at these sites, and the tokens of its other outliers."""
    there = [name for name, site in sites.items() if dim < site.n_dims and site.dims.absmax[dim] == magnitude]
    known = {name: found[0] for name in there if (found := outliers[name].get(dim)) and abs(found[0][0]) == magnitude}
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


def token_name(token_id: int | None, text: str | None, width: int | None = None) -> str:
    """A token in quotes, or its id where its text is not known; a dash where it is not known which token it is."""
    if token_id is None:
        return "-"
    if text is not None:
        return quoted(text, width)
    return f"id {token_id}" if token_id >= 0 else "unknown"


class LargestValuesSection:
    """The section of the summary with the largest values; nothing where no outliers were kept."""

    def __init__(self, view: RunView, most: int = 8) -> None:
        """The section of a run, with at most so many rows per population."""
        self.found = {population: find_largest(view, population, most) for population in view.populations}
        self.in_stream = bool(view.depths)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not any(self.found.values()):
            return
        where = "of the residual stream" if self.in_stream else "of all sites"
        shown = [item for largest in self.found.values() for item in largest]
        unknown = f" {WHAT_A_DASH_SAYS}" if any(item.position is None for item in shown) else ""
        parts: list[RenderableType] = [paragraph(f"The largest |x| {where}, one row per dim.{unknown}")]
        for population, largest in self.found.items():
            if largest:
                title = Text(POPULATION_TITLES[population], style="bold")
                parts += [Text(""), paragraph(title), self._table(largest)]
        yield section("Largest values", *parts)

    @staticmethod
    def _table(largest: Sequence[LargestValue]) -> RenderableType:
        columns = [
            Column("value"),
            Column("dim"),
            Column("token", "left"),
            Column("sequence", keep=80),
            Column("position", keep=90),
            Column("site", "left"),
            Column("outliers of the dim, by token", "left", keep=50, shrink_to=29),
        ]
        rows: list[list[str | Text]] = [
            [
                numbers.signed(item.value, 4),
                Text(str(item.dim), style=f"bold {STANDOUT}"),
                token_name(item.token_id, item.token, 16),
                "-" if item.sequence is None else str(item.sequence),
                "-" if item.position is None else str(item.position),
                item.site,
                _tokens(item) or "-",
            ]
            for item in largest
        ]
        return NumberTable(columns, rows)


def _tokens(item: LargestValue) -> str:
    """The most frequent tokens with how often each occurs."""
    shown = [f"{token_name(token, text, 12)} {n}x" for token, text, n in item.tokens[:_MOST_TOKENS]]
    return ", ".join([*shown, "..."] if len(item.tokens) > _MOST_TOKENS else shown)


def outlier_table(site: SiteRecord, text: Mapping[int, str], most: int) -> RenderableType:
    """The largest values of one site over its population, with the texts of tokens by id."""
    columns = [
        Column("value"),
        Column("dim"),
        Column("token", "left"),
        Column("token id", keep=50),
        Column("sequence", keep=80),
        Column("position", keep=90),
    ]
    rows: list[list[str | Text]] = [
        [
            numbers.signed(value, 6),
            Text(str(dim), style=f"bold {STANDOUT}"),
            token_name(token_id, text.get(token_id), 24),
            *(str(known) if known >= 0 else "-" for known in (token_id, sequence, position)),
        ]
        for value, sequence, position, dim, token_id in site.outliers[:most].tolist()
    ]
    return NumberTable(columns, rows)
