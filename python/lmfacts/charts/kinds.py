"""The kinds of weight matrices in charts: their names and colors."""

from __future__ import annotations

from typing import Final

from lmfacts.writing.visible_text import visible_line

__all__ = ["kind_color", "kind_name"]

_COLORS: Final = {
    "W_O": "orange",
    "W_out": "red",
    "W_V": "brown",
    "W_Q": "blue",
    "W_K": "teal",
    "W_in": "green",
    "W_gate": "purple",
}


def kind_color(kind: str) -> str:
    """The color of a kind in every figure: warm for those that write to the residual stream and for W_V."""
    return _COLORS.get(kind.rpartition(".")[2].removeprefix("expert "), "gray")


def kind_name(kind: str) -> str:
    """A kind as figures write it: `W_O`, `expert W_in`."""
    return visible_line(kind.replace("experts.*.", "expert "))
