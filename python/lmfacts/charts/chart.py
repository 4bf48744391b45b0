"""One chart: marks in the order in which they are drawn, and two axes.

    chart = Chart("f5-cosine", "Mean cosine between tokens", x="layer", y="0: no common direction")
    chart.limits_x(-0.5, 11.5)
    chart.rule(y=0.2)
    chart.line(layers, cosines, "blue")
    return chart.described("Mean cosine between tokens by layer: ...")

Colors are names (`lmfacts.charts.colors`). Whatever draws a chart sets limits and scales first, then draws the marks.
"""

from __future__ import annotations

import re
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, Self

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]

__all__ = [
    "HEIGHT",
    "Area",
    "Axis",
    "Band",
    "Bars",
    "Cells",
    "Chart",
    "Columns",
    "EndLabels",
    "Label",
    "Line",
    "Mark",
    "Note",
    "Points",
    "Rule",
    "chart_name",
]

HEIGHT: Final = 236.0
"""Pixels that a chart is high, of 360 in width, unless it says otherwise."""

_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9-]+")

LineStyle = Literal["line", "dashed", "dotted"]
Align = Literal["left", "center", "right"]


@dataclass(frozen=True, eq=False)
class Line:
    """A line through points, broken at values that are not finite; `dots` shows those that stand alone."""

    x: Floats
    y: Floats
    color: str
    style: LineStyle
    width: float
    above: float
    dots: bool


@dataclass(frozen=True, eq=False)
class Points:
    """Points, `size` being their radius in pixels."""

    x: Floats
    y: Floats
    color: str
    size: float
    above: float


@dataclass(frozen=True, eq=False)
class Area:
    """The area between two curves."""

    x: Floats
    low: Floats
    high: Floats
    color: str
    above: float


@dataclass(frozen=True, eq=False)
class Bars:
    """A histogram as one filled outline, from `floor` up."""

    edges: Floats
    heights: Floats
    color: str
    floor: float


@dataclass(frozen=True, eq=False)
class Columns:
    """A column about each x, from 0 up."""

    x: Floats
    heights: Floats
    color: str
    width: float


@dataclass(frozen=True, eq=False)
class Band:
    """What lies between two values of y, across the chart."""

    low: float
    high: float
    color: str


@dataclass(frozen=True, eq=False)
class Rule:
    """A thin straight line across the chart, such as a threshold, with its name at its end if that is in sight."""

    x: float | None
    y: float | None
    label: str
    color: str


@dataclass(frozen=True, eq=False)
class Note:
    """A remark within the chart; x and y are shares of the axes, from the lower left."""

    text: str
    x: float
    y: float
    align: Align
    color: str


@dataclass(frozen=True, eq=False)
class Label:
    """The name of a point, `dx` and `dy` pixels from it."""

    text: str
    x: float
    y: float
    dx: float
    dy: float
    align: Align
    is_centered: bool


@dataclass(frozen=True, eq=False)
class EndLabels:
    """Names of lines to the right of their last values: (name, last value, color), in any order."""

    labels: tuple[tuple[str, float, str], ...]


@dataclass(frozen=True, eq=False)
class Cells:
    """Cells of a map that have the same color, each at (x, y)."""

    places: tuple[tuple[int, int], ...]
    color: str


Mark = Line | Points | Area | Bars | Columns | Band | Rule | Note | Label | EndLabels | Cells


@dataclass
class Axis:
    """One axis.

    Attributes:
        label: what it is.
        low: where it starts; None for where the marks start.
        high: where it ends, likewise.
        scale: `symlog` is linear between -1 and 1 and logarithmic beyond.
        ticks: how numbers are written: `whole` has ticks at whole numbers only, such as layers.
        most: ticks that it has at most, where they are whole.
        names: what stands at 0, 1, 2, ... in place of numbers; empty for numbers.
    """

    label: str
    low: float | None = None
    high: float | None = None
    scale: Literal["linear", "log", "symlog"] = "linear"
    ticks: Literal["plain", "whole", "percent"] = "plain"
    most: int = 7
    names: tuple[str, ...] = ()


class Chart:
    """See the module.

    Attributes:
        name: unique among the charts of a page, of letters, digits and hyphens.
        title: a few words above it.
        height: in pixels.
        x, y: the axes.
        left, right: room beside the axes for labels in pixels; None for what is usual.
        has_frame: whether it has axis lines and a grid; a map has not.
        marks: what is drawn.
        alt: what it shows, in words and numbers.
    """

    def __init__(self, name: str, title: str, *, x: str = "", y: str = "", height: float = HEIGHT) -> None:
        """An empty chart; see `chart_name` for what becomes of its name."""
        self.name = chart_name(name)
        self.title = title
        self.height = height
        self.x, self.y = Axis(x), Axis(y)
        self.left: float | None = None
        self.right: float | None = None
        self.has_frame = True
        self.marks: list[Mark] = []
        self.alt = ""

    def described(self, alt: str) -> Self:
        """The chart, with what it shows in words and numbers."""
        self.alt = alt
        return self

    # Axes

    def margins(self, *, left: float | None = None, right: float | None = None) -> None:
        """Set the room beside the axes for labels, in pixels."""
        self.left, self.right = left, right

    def limits_x(self, low: float, high: float) -> None:
        """Set where the horizontal axis starts and ends."""
        self.x.low, self.x.high = float(low), float(high)

    def limits_y(self, low: float, high: float | None = None) -> None:
        """Set where the vertical axis starts and ends; without an end it ends above the marks."""
        self.y.low, self.y.high = float(low), None if high is None else float(high)

    def symmetric_log(self, low: float, high: float) -> None:
        """Make the vertical axis one for values from `low` to `high`, linear between -1 and 1, logarithmic beyond."""
        self.y.scale = "symlog"
        self.limits_y(min(low * 1.2 if low < 0 else 0.0, -0.3), max(high, 1.0) * 1.6)

    def log(self, axis: Literal["x", "y"]) -> None:
        """Make an axis logarithmic, with round numbers on it."""
        self._axis(axis).scale = "log"

    def whole_numbers(self, axis: Literal["x", "y"] = "x", most: int = 7) -> None:
        """Have ticks at whole numbers only."""
        self._axis(axis).ticks, self._axis(axis).most = "whole", most

    def percent(self, axis: Literal["x", "y"]) -> None:
        """Write shares in percent."""
        self._axis(axis).ticks = "percent"

    def _axis(self, axis: Literal["x", "y"]) -> Axis:
        return self.x if axis == "x" else self.y

    # Marks

    def line(
        self,
        x: ArrayLike,
        y: ArrayLike,
        color: str,
        *,
        style: LineStyle = "line",
        width: float = 1.8,
        above: float = 3,
        dots: bool = True,
    ) -> None:
        """Add a line."""
        self.marks.append(Line(_floats(x), _floats(y), color, style, width, above, dots))

    def points(self, x: ArrayLike, y: ArrayLike, color: str, *, size: float = 3.5, above: float = 4) -> None:
        """Add points, `size` being their radius in pixels."""
        self.marks.append(Points(_floats(x), _floats(y), color, size, above))

    def area(self, x: ArrayLike, low: ArrayLike, high: ArrayLike, color: str = "fill", *, above: float = 2) -> None:
        """Add the area between two curves."""
        self.marks.append(Area(_floats(x), _floats(low), _floats(high), color, above))

    def bars(self, edges: ArrayLike, heights: ArrayLike, color: str = "fill", floor: float = 0.0) -> None:
        """Add a histogram as one filled outline."""
        self.marks.append(Bars(_floats(edges), _floats(heights), color, floor))

    def columns(self, x: ArrayLike, heights: ArrayLike, color: str, *, width: float = 0.75) -> None:
        """Add a column about each x."""
        self.marks.append(Columns(_floats(x), _floats(heights), color, width))

    def band(self, low: float, high: float, color: str) -> None:
        """Add what lies between two values of y."""
        self.marks.append(Band(low, high, color))

    def rule(self, *, y: float | None = None, x: float | None = None, label: str = "", color: str = "gray") -> None:
        """Add a thin line across the chart, at a y or an x."""
        self.marks.append(Rule(x, y, label, color))

    def note(self, text: str, x: float, y: float, *, align: Align = "left", color: str = "muted") -> None:
        """Add a remark at these shares of the axes."""
        self.marks.append(Note(text, x, y, align, color))

    def label(
        self, text: str, x: float, y: float, dx: float, dy: float, *, align: Align, is_centered: bool = False
    ) -> None:
        """Add the name of a point, beside it by so many pixels; `is_centered` puts its middle at that height."""
        self.marks.append(Label(text, float(x), float(y), dx, dy, align, is_centered))

    def labels_at_the_end(self, labels: Sequence[tuple[str, float, str]]) -> None:
        """Add the names of lines, each (name, last value, color), beside where they end."""
        self.marks.append(EndLabels(tuple(labels)))

    def cells(self, rows: Sequence[str], places: Mapping[str, Sequence[tuple[int, int]]]) -> None:
        """Add the cells of a map with named rows: color -> the places (column, row) that have it."""
        self.has_frame = False
        self.y.names = tuple(rows)
        self.marks += [Cells(tuple(of_color), color) for color, of_color in places.items()]


def chart_name(name: str) -> str:
    """A name of letters, digits and hyphens, which is a file's name too; one that had others ends in its checksum."""
    plain = _NOT_IN_NAMES.sub("-", name)
    return plain if plain == name else f"{plain.strip('-')}-{zlib.crc32(name.encode(errors='replace')):08x}"


def _floats(values: ArrayLike) -> Floats:
    return np.asarray(values, dtype=np.float64)
