"""Charts that are read together, with their legend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from lmfacts.charts.chart import Chart

__all__ = ["Figure", "Key"]


@dataclass(frozen=True)
class Key:
    """An entry of a figure's legend.

    Attributes:
        label: what it stands for.
        color: a name of a color: see `lmfacts.charts.colors`.
        style: `line`, `dashed`, `dotted`, `area` or `point`.
    """

    label: str
    color: str
    style: Literal["line", "dashed", "dotted", "area", "point"] = "line"


@dataclass(frozen=True)
class Figure:
    """Charts that are read together.

    Attributes:
        title: a few words.
        caption: how to read it.
        charts: its panels.
        keys: the legend.
    """

    title: str
    caption: str
    charts: tuple[Chart, ...]
    keys: tuple[Key, ...] = ()
