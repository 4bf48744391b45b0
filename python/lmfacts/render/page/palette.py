"""The colors of figures by name, for light and for dark backgrounds.

Figures are drawn in the light colors. Each of them occurs once here, so that a page can put a variable in its place and
follow the reader's color scheme.
"""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["COLORS", "DARK", "style_sheet", "themed"]

_PAIRS: Final = {
    "ink": ("#1f2328", "#e6e8eb"),
    "muted": ("#59636e", "#9aa5b1"),
    "axis": ("#c3c9d0", "#49525c"),
    "grid": ("#e9ecef", "#262c33"),
    "paper": ("#fffffe", "#14171a"),
    "blue": ("#1f6fb4", "#6cb1ee"),
    "orange": ("#c4560a", "#f0994d"),
    "green": ("#2b7d46", "#63c283"),
    "purple": ("#7d4bb5", "#b996e8"),
    "red": ("#b5323c", "#ef7f87"),
    "teal": ("#0d7f86", "#4cc3c9"),
    "brown": ("#8a6116", "#d3a954"),
    "gray": ("#7a828d", "#87919d"),
    "fill": ("#bcd6ee", "#24486a"),
    "fill-orange": ("#f6cfae", "#6a4123"),
    "depth-0": ("#dba300", "#f2d24a"),
    "depth-1": ("#4aa564", "#7fd08f"),
    "depth-2": ("#2489a0", "#59bccb"),
    "depth-3": ("#3b5fb0", "#86a5f0"),
    "depth-4": ("#5b2a86", "#c394ef"),
    "heat-0": ("#eef3f9", "#1b232c"),
    "heat-1": ("#d5e5f4", "#1f3448"),
    "heat-2": ("#b3d3ec", "#234663"),
    "heat-3": ("#85bbdf", "#295b82"),
    "heat-4": ("#57a0ce", "#3373a2"),
    "heat-5": ("#327fb8", "#448dc0"),
    "heat-6": ("#1c5f9b", "#66a9d8"),
    "heat-7": ("#12437a", "#93c6e9"),
    "heat-8": ("#0b2a55", "#c7e4f7"),
    "low-4": ("#8c3b07", "#f5b37a"),
    "low-3": ("#c0601b", "#d98945"),
    "low-2": ("#e19352", "#a8622a"),
    "low-1": ("#f3caa3", "#6d4426"),
    "level": ("#f0f0ef", "#2a2f36"),
    "high-1": ("#b9d5ec", "#274a6a"),
    "high-2": ("#78aedb", "#35719f"),
    "high-3": ("#3a7fbd", "#5fa1d4"),
    "high-4": ("#17508a", "#a3d0f2"),
}

COLORS: Final[Mapping[str, str]] = MappingProxyType({name: light for name, (light, _) in _PAIRS.items()})
"""Name -> color on a light background, as matplotlib writes it."""

DARK: Final[Mapping[str, str]] = MappingProxyType({name: dark for name, (_, dark) in _PAIRS.items()})
"""Name -> color on a dark background."""

_NAMES: Final = {light: name for name, light in COLORS.items()}
_COLOR: Final = re.compile(r"#[0-9a-f]{6}")


def themed(svg: str) -> str:
    """A drawing with CSS variables in the place of its colors."""
    return _COLOR.sub(lambda m: f"var(--{_NAMES[m[0]]})" if m[0] in _NAMES else m[0], svg)


def style_sheet() -> str:
    """CSS that sets the variables: for light backgrounds, and for dark ones on screens of readers who prefer them."""
    light = ";".join(f"--{name}:{color}" for name, color in COLORS.items())
    dark = ";".join(f"--{name}:{color}" for name, color in DARK.items())
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"
