"""What could not be recorded, and since when. It makes a run incomplete instead of ending somebody's forward pass."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Failures"]

_LISTED = 3


@dataclass
class _Failure:
    """One thing that went wrong, as it was seen first."""

    since: int
    reason: str
    n: int = 1


@dataclass
class Failures:
    """What went wrong inside hooks, site by site and pass by pass.

    Attributes:
        sites: sites that are not recorded any more.
        passes: forward passes of which nothing was recorded; None if there were none.
        outside: sites whose modules ran outside a forward pass of the model.
        n_broken_off: forward passes that ended before all sites had their values.
    """

    sites: dict[str, _Failure] = field(default_factory=dict)
    passes: _Failure | None = None
    outside: dict[str, _Failure] = field(default_factory=dict)
    n_broken_off: int = 0

    def site(self, name: str, error: Exception, n_tokens: int) -> None:
        """A site cannot be recorded, from the pass after so many tokens on."""
        self.sites.setdefault(name, _Failure(n_tokens, _reason(error)))

    def forward_pass(self, error: Exception, n_tokens: int) -> None:
        """Nothing of a pass can be recorded."""
        if self.passes is None:
            self.passes = _Failure(n_tokens, _reason(error))
        else:
            self.passes.n += 1

    def outside_pass(self, site: str, error: Exception, n_tokens: int) -> None:
        """A module ran by itself, so that its tokens are not known."""
        known = self.outside.setdefault(site, _Failure(n_tokens, _reason(error), 0))
        known.n += 1

    def sentence(self) -> str | None:
        """Why the run is not complete, or None if nothing failed."""
        sentences = []
        if self.passes is not None:
            n, them = self.passes.n, "forward passes were" if self.passes.n > 1 else "forward pass was"
            sentences.append(
                f"{n} {them} not recorded, the first after {self.passes.since} tokens: {self.passes.reason}"
            )
        if self.sites:
            first, failure = next(iter(self.sites.items()))
            sentences.append(
                f"{_listed(self.sites)} not been recorded since token {failure.since}"
                f"{f', {first} because' if len(self.sites) > 1 else ''}: {failure.reason}"
            )
        if self.outside:
            failure = next(iter(self.outside.values()))
            sentences.append(f"{_listed(self.outside)} not been recorded in {failure.n} calls: {failure.reason}")
        if self.n_broken_off:
            n, them = self.n_broken_off, "forward passes" if self.n_broken_off > 1 else "forward pass"
            sentences.append(f"{n} {them} ended before all sites were reached")
        return "; ".join(sentences) or None


def _listed(names: dict[str, _Failure]) -> str:
    shown = ", ".join(list(names)[:_LISTED])
    more = len(names) - _LISTED
    return f"{shown}{f' and {more} more' if more > 0 else ''} {'have' if len(names) > 1 else 'has'}"


def _reason(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text or type(error).__name__
