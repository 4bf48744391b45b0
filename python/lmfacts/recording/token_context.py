"""The tokens around the largest values, kept while they pass: which text a value stands in is gone when a scan ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from lmfacts.recording.pass_tokens import Tokens

__all__ = ["TokenContexts"]

Place = tuple[int, int]
"""A sequence and a position in it."""

N_BEFORE, N_AFTER = 24, 8
"""Tokens that are kept before and after a place, as far as they were in the same pass."""

_MOST_KEPT = 4096


class TokenContexts:
    """Token ids around places, for as many places as still matter."""

    def __init__(self, places_from: Callable[[int], Iterable[Place]]) -> None:
        """Keep the surroundings of the places that `places_from(sequence)` names in a sequence or later ones."""
        self._places_from = places_from
        self._kept: dict[Place, tuple[list[int], int, list[int]]] = {}

    def after_pass(self, tokens: Tokens) -> None:
        """Take from a pass, which is over, what surrounds the places in it."""
        if not tokens.real.any():
            return
        first_sequence = int(tokens.sequence[tokens.real].min())
        wanted = {place for place in self._places_from(first_sequence) if place not in self._kept}
        for row in range(tokens.sequence.shape[0]) if wanted else ():
            real = tokens.real[row]
            sequence, position, ids = (a[row][real] for a in (tokens.sequence, tokens.position, tokens.token_id))
            sequences_here = set(sequence.tolist())
            for place in [place for place in wanted if place[0] in sequences_here]:
                own = ids[sequence == place[0]].tolist()  # a row may hold several sequences
                for at in np.flatnonzero(position[sequence == place[0]] == place[1]).tolist():
                    self._kept[place] = (own[max(0, at - N_BEFORE) : at], own[at], own[at + 1 : at + 1 + N_AFTER])
        if len(self._kept) > _MOST_KEPT:
            self._forget_others()

    def contexts(self) -> dict[Place, tuple[list[int], int, list[int]]]:
        """Place -> ids before it, its own, ids after it; for the places that matter now."""
        self._forget_others()
        return dict(sorted(self._kept.items()))

    def _forget_others(self) -> None:
        places = set(self._places_from(0))
        self._kept = {place: kept for place, kept in self._kept.items() if place in places}
