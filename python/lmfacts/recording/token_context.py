"""The tokens around the largest values, kept while they pass: which text a value stands in is gone when a scan ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lmfacts.recording.pass_tokens import Tokens

__all__ = ["Context", "Place", "TokenContexts"]

Place = tuple[int, int]
"""A sequence and a position in it."""

Context = tuple[list[int], int, list[int]]
"""Token ids before a place, its own, and those after it."""

N_BEFORE, N_AFTER = 24, 8
"""Tokens that are kept before and after a place, as far as they were in the same pass."""

_MANY = 4096
"""Contexts from which on it is worth dropping those of places that are no longer among the largest values."""


class TokenContexts:
    """Token ids around places, for as many places as still matter."""

    def __init__(self) -> None:
        self._contexts: dict[Place, Context] = {}

    def add(self, tokens: Tokens, places: Iterable[Place]) -> None:
        """Keep what surrounds those places that stand in a pass.

        Args:
            tokens: the pass's.
            places: where the largest values stand now; others than in this pass may be among them.
        """
        wanted = {place for place in places if place not in self._contexts}
        for row in range(tokens.sequence.shape[0]) if wanted else ():
            real = tokens.real[row]
            sequence, position, ids = (a[row][real] for a in (tokens.sequence, tokens.position, tokens.token_id))
            sequences_here = set(sequence.tolist())
            for place in [place for place in wanted if place[0] in sequences_here]:
                own = ids[sequence == place[0]].tolist()  # a row may hold several sequences
                for at in np.flatnonzero(position[sequence == place[0]] == place[1]).tolist():
                    self._contexts[place] = (own[max(0, at - N_BEFORE) : at], own[at], own[at + 1 : at + 1 + N_AFTER])

    @property
    def are_many(self) -> bool:
        """Whether it is time to call `keep_only`, so that memory does not grow with the text."""
        return len(self._contexts) > _MANY

    def keep_only(self, places: Iterable[Place]) -> None:
        """Drop the contexts of all other places."""
        still_matter = set(places)
        self._contexts = {place: context for place, context in self._contexts.items() if place in still_matter}

    def by_place(self) -> dict[Place, Context]:
        """The context of each place, in the order of places."""
        return dict(sorted(self._contexts.items()))
