"""What else differs between two runs, for a reader who would put all of the differences down to the model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from lmfacts.run import Run

__all__ = ["are_paired", "differences_of_runs"]

_SIZES: Final = {"family": "family", "n_layers": "number of layers", "n_dims": "number of dims"}
_SETTINGS: Final = {"seq_len": "length of sequences", "pack": "packing of documents"}


def are_paired(a: Run[Any], b: Run[Any]) -> bool:
    """Whether what the runs read is the same: weights, or the same token ids in the same sequences.

    A hash of ids that were not known (embeddings were given in their place) says nothing.
    """
    if not a.info.run_kind.reads_text:
        return True
    hashes = a.info.token_hash, b.info.token_hash
    return (
        None not in hashes and hashes[0] == hashes[1] and a.n_tokens == b.n_tokens and _knows_ids(a) and _knows_ids(b)
    )


def _knows_ids(run: Run[Any]) -> bool:
    """Whether the largest values of some site sit on a token that is known, or no site has any values."""
    outliers = [run[name].outliers["token_id"] for name in run]
    return any((ids >= 0).any() for ids in outliers) or not any(ids.size for ids in outliers)


def differences_of_runs(a: Run[Any], b: Run[Any]) -> tuple[str, ...]:
    """One sentence each: incomplete runs, other text, other sizes, other settings."""
    return tuple(_sentences(a, b))


def _sentences(a: Run[Any], b: Run[Any]) -> Iterator[str]:
    for side, run in (("A", a), ("B", b)):
        if not run.complete:
            reason = (run.incomplete_reason or "the reason was not recorded").rstrip(".")
            yield f"{side} is not complete: {reason}."
    sizes = _unlike(a.model, b.model, _SIZES)
    if sizes:
        yield f"The models are of different build ({sizes}): sites are matched by their names alone."
    if not a.info.run_kind.reads_text:
        return
    if a.tokenizer.get("fingerprint") != b.tokenizer.get("fingerprint"):
        yield "The tokenizers differ, so that the same text is other tokens."
    hashes = a.info.token_hash, b.info.token_hash
    if a.n_tokens != b.n_tokens:
        yield (
            f"The runs read different amounts of text ({a.n_tokens:,} and {b.n_tokens:,} tokens): only what exceeds "
            "the noise of different text counts."
        )
    elif hashes[0] != hashes[1] and None not in hashes:
        yield "The runs read different text: only what exceeds the noise of that counts."
    elif not are_paired(a, b):
        yield (
            "Whether the runs read the same text was not recorded: only what exceeds the noise of different text "
            "counts."
        )
    settings = _unlike(a.settings, b.settings, _SETTINGS)
    if settings:
        yield f"The text was cut differently ({settings})."


def _unlike(a: Mapping[str, Any], b: Mapping[str, Any], names: Mapping[str, str]) -> str:
    """What both have and have differently, in words."""
    return ", ".join(
        f"{name} {a[key]} and {b[key]}"
        for key, name in names.items()
        if a.get(key) is not None and b.get(key) is not None and a[key] != b[key]
    )
