"""Whether a run has all that was asked for, and why not, if not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lmfacts.recording.channels import Channels

__all__ = ["why_incomplete"]

_LISTED = 5


def why_incomplete(channels: Channels, coverage: Mapping[str, Mapping[str, int]], n_tokens: int) -> str | None:
    """Why the hooks have not seen all values of all tokens, although nothing failed; None if they have.

    Args:
        channels: the recorded sites.
        coverage: `n_tokens` and more of each of them, as `Channel.recorded` gives it.
        n_tokens: tokens that the model was given.
    """
    silent = channels.silent
    n_sites = len(channels.by_site)
    if len(silent) == n_sites:
        if n_tokens == 0:
            return "no forward pass of the model was seen"
        return (
            f"the model was called, but none of its {n_sites} hooks fired; a model that was compiled before "
            "they were registered runs without them"
        )
    if silent:
        more = len(silent) - _LISTED
        shown = ", ".join(silent[:_LISTED]) + (f" and {more} more" if more > 0 else "")
        return f"{len(silent)} of {n_sites} hooks never fired: {shown}"
    if n_tokens == 0:
        return "no token was recorded: all that the model was given is padding"
    for site, channel in channels.by_site.items():
        if not channel.by_path and coverage[site]["n_tokens"] + channel.n_not_computed != n_tokens:
            return f"a forward pass did not reach all sites: {site} lacks tokens of it"
    return None
