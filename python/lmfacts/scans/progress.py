"""What a scan reports while it runs. Its readers (the live view, a log line) do not need torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmfacts.run.site import SiteRecord

__all__ = ["Progress"]


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a scan stands, after a batch.

    Attributes:
        stage: what is being done now.
        model: the model's id, as it was given.
        n_tokens: real tokens counted so far.
        n_tokens_total: how many there will be, where a limit says so.
        fraction: share of the work that is done, 0 to 1, or None where it cannot be known (standard input).
        elapsed_s: seconds since the first batch began.
        model_s: seconds spent in the model's own forward passes.
        lmfacts_s: seconds spent in lmfacts within them.
        memory_bytes: resident memory of the process now.
        state_bytes: what the accumulators hold; it does not grow with the number of tokens.
        site_names: the recorded sites in depth order, without aliases.
        site: gives the record of one site as it stands; costs a fraction of a millisecond, so ask for what is shown.
        note: what the user should know while waiting, a sentence without its period; given once.
    """

    stage: Literal["loading", "scanning", "saving"]
    model: str
    n_tokens: int = 0
    n_tokens_total: int | None = None
    fraction: float | None = None
    elapsed_s: float = 0.0
    model_s: float = 0.0
    lmfacts_s: float = 0.0
    memory_bytes: int = 0
    state_bytes: int = 0
    site_names: tuple[str, ...] = ()
    site: Callable[[str], SiteRecord] | None = None
    note: str = ""

    @property
    def tokens_per_s(self) -> float:
        """Tokens counted per second of elapsed time; 0 before anything was counted."""
        return self.n_tokens / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def overhead(self) -> float | None:
        """Time in lmfacts over time in the model, or None before a forward pass ended."""
        return self.lmfacts_s / self.model_s if self.model_s > 0 else None

    @property
    def remaining_s(self) -> float | None:
        """Estimated seconds to go, or None where the end is not known."""
        if not self.fraction or self.n_tokens == 0:
            return None
        return self.elapsed_s * (1.0 - self.fraction) / self.fraction
