"""Charts as SVG: a small pair of axes each in the page's style, drawn by matplotlib."""

from __future__ import annotations

import io
import math
from functools import singledispatchmethod
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lmfacts.charts.chart import (
    Area,
    Band,
    Bars,
    Cells,
    Columns,
    EndLabels,
    Label,
    Line,
    Note,
    Points,
    Rule,
)
from lmfacts.errors import MissingExtraError
from lmfacts.render.page.palette import COLORS
from lmfacts.render.page.svg import cleaned
from lmfacts.render.page.ticks import log_ticks, plain, power
from lmfacts.writing.visible_text import visible_line

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import NDArray

    from lmfacts.charts import Chart
    from lmfacts.charts.chart import Axis, Mark

    Floats = NDArray[np.float64]

__all__ = ["DASHES", "draw", "require_matplotlib"]

WIDTH: Final = 360.0

DASHES: Final[dict[str, Any]] = {"line": "-", "dashed": (0, (5, 3)), "dotted": (0, (1.2, 2.4))}
"""Patterns of lines by the names that `Key` has for them."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 12.0, 42.0, 38.0
_PIXELS_PER_INCH = 72  # a point is a pixel
_MOST_POINTS = 400

_STYLE: Final[dict[Any, Any]] = {
    "svg.fonttype": "none",
    "text.usetex": False,
    "text.parse_math": False,
    "axes.unicode_minus": True,
    "axes.axisbelow": True,
    "axes.edgecolor": COLORS["axis"],
    "axes.linewidth": 1.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.labelcolor": COLORS["muted"],
    "axes.labelsize": 11.5,
    "axes.xmargin": 0.0,
    "axes.facecolor": "none",
    "figure.facecolor": "none",
    "grid.color": COLORS["grid"],
    "grid.linewidth": 1.0,
    "xtick.color": COLORS["axis"],
    "xtick.labelcolor": COLORS["muted"],
    "xtick.labelsize": 11.0,
    "xtick.major.size": 3.0,
    "ytick.color": COLORS["axis"],
    "ytick.labelcolor": COLORS["muted"],
    "ytick.labelsize": 11.0,
    "ytick.left": False,
    "xtick.minor.visible": False,
    "ytick.minor.visible": False,
    "path.simplify": True,
    "path.simplify_threshold": 0.2,
}


def require_matplotlib() -> None:
    """Load matplotlib, so that it is missing now and not after the work.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import matplotlib.backends.backend_svg  # noqa: F401, PLC0415  an extra
    except ImportError as error:
        raise MissingExtraError(
            "A report draws its figures with matplotlib, which is not installed. Install it with "
            'pip install "lmfacts[plot]".'
        ) from error


def draw(chart: Chart) -> str:
    """A chart as SVG, colored from `palette.COLORS` for a light background, without `xmlns`.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    require_matplotlib()
    import matplotlib as mpl  # noqa: PLC0415  an extra

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update({**_STYLE, "svg.hashsalt": chart.name})
        return _Panel(chart).svg()


class _Panel:
    """Matplotlib's axes for a chart."""

    def __init__(self, chart: Chart) -> None:
        from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415  an extra
        from matplotlib.figure import Figure  # noqa: PLC0415  an extra

        self._chart = chart
        self._height = height = chart.height
        self._figure = Figure(figsize=(WIDTH / _PIXELS_PER_INCH, height / _PIXELS_PER_INCH), dpi=_PIXELS_PER_INCH)
        FigureCanvasSVG(self._figure)
        top = _TOP if chart.y.label else _TOP - 16.0
        bottom = _BOTTOM if chart.x.label else _BOTTOM - 14.0
        left = _LEFT if chart.left is None else chart.left
        right = _RIGHT if chart.right is None else chart.right
        self._axes: Axes = self._figure.add_axes(
            (left / WIDTH, bottom / height, 1 - (left + right) / WIDTH, 1 - (top + bottom) / height)
        )
        self._axes.grid(visible=chart.has_frame, axis="y")
        self._write(chart.title, 15.0, COLORS["ink"], 13.0, weight="bold")
        if chart.y.label:
            self._write(chart.y.label, 31.0, COLORS["muted"], 11.5)
        if chart.x.label:
            self._axes.set_xlabel(chart.x.label, labelpad=4)

    def svg(self) -> str:
        """The chart, drawn."""
        x, y = self._chart.x, self._chart.y
        # A logarithmic axis is one from the start, and marks that mind the limits find them set.
        if x.low is not None and x.high is not None:
            self._axes.set_xlim(x.low, x.high)
        if y.low is not None and y.high is not None:
            self._axes.set_ylim(y.low, y.high)
        self._set_axis(x, self._axes.xaxis, self._axes.set_xscale)
        self._set_axis(y, self._axes.yaxis, self._axes.set_yscale)
        for mark in self._chart.marks:
            self._add(mark)
        if y.low is not None and y.high is None:
            self._axes.set_ylim(bottom=y.low)
        if not self._chart.has_frame:
            self._axes.spines["left"].set_visible(False)
            self._axes.spines["bottom"].set_visible(False)
            self._axes.tick_params(axis="x", length=0)
        file = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        self._figure.savefig(file, format="svg", metadata=nothing)
        return cleaned(file.getvalue(), self._chart.name)

    def _set_axis(self, axis: Axis, drawn: Any, set_scale: Callable[..., None]) -> None:
        from matplotlib.ticker import FixedLocator, FuncFormatter, MaxNLocator, NullLocator  # noqa: PLC0415  an extra

        low, high = sorted(drawn.get_view_interval())
        text: Callable[[float], str] = plain
        if axis.scale == "log":
            set_scale("log")
            drawn.set_major_locator(FixedLocator(list(log_ticks(low, high))))
            drawn.set_minor_locator(NullLocator())
            text = power
        elif axis.scale == "symlog":
            set_scale("symlog", linthresh=1.0, linscale=0.7)
            drawn.set_major_locator(FixedLocator(_symlog_ticks(low, high)))
            drawn.set_minor_locator(NullLocator())
            text = _signed_power
        if axis.ticks == "whole":
            drawn.set_major_locator(MaxNLocator(axis.most, integer=True, min_n_ticks=1))
        elif axis.ticks == "percent":
            text = _percent
        drawn.set_major_formatter(FuncFormatter(lambda value, _: text(value)))
        if axis.names:
            drawn.set_ticks(range(len(axis.names)), list(axis.names))

    @singledispatchmethod
    def _add(self, mark: Mark) -> None:
        raise TypeError(f"no way to draw a {type(mark).__name__}")

    @_add.register
    def _(self, mark: Line) -> None:
        x, y = _thinned(mark.x, mark.y)
        color = COLORS[mark.color]
        self._axes.plot(x, y, color=color, linestyle=DASHES[mark.style], linewidth=mark.width, zorder=mark.above)
        lone = np.isfinite(y) & ~_has_neighbor(np.isfinite(y))
        if lone.any() and mark.dots:
            self._add(Points(x[lone], y[lone], mark.color, 2.5, 4))

    @_add.register
    def _(self, mark: Points) -> None:
        self._axes.plot(
            mark.x,
            mark.y,
            color=COLORS[mark.color],
            linestyle="none",
            marker="o",
            markersize=2 * mark.size,
            markeredgewidth=0,
            zorder=mark.above,
        )

    @_add.register
    def _(self, mark: Area) -> None:
        self._axes.fill_between(mark.x, mark.low, mark.high, color=COLORS[mark.color], linewidth=0, zorder=mark.above)

    @_add.register
    def _(self, mark: Bars) -> None:
        self._axes.stairs(
            mark.heights,
            mark.edges,
            baseline=mark.floor,
            fill=True,
            color=COLORS[mark.color],
            linewidth=0,
            zorder=2,
        )

    @_add.register
    def _(self, mark: Columns) -> None:
        self._axes.bar(mark.x, mark.heights, width=mark.width, color=COLORS[mark.color], linewidth=0)

    @_add.register
    def _(self, mark: Band) -> None:
        self._axes.axhspan(mark.low, mark.high, color=COLORS[mark.color], linewidth=0, zorder=1)

    @_add.register
    def _(self, mark: Rule) -> None:
        style: dict[str, Any] = {"color": COLORS[mark.color], "linewidth": 1.0}
        style |= {"linestyle": DASHES["dashed"], "zorder": 2.5}
        if mark.y is not None:
            self._axes.axhline(mark.y, **style)
            low, high = sorted(self._axes.get_ylim())
            if mark.label and low <= mark.y <= high:
                across = self._axes.get_yaxis_transform()
                self._mark(mark.label, 1.0, mark.y, ha="right", va="bottom", transform=across, color=mark.color)
        if mark.x is not None:
            self._axes.axvline(mark.x, **style)
            low, high = sorted(self._axes.get_xlim())
            if mark.label and low <= mark.x <= high:
                across = self._axes.get_xaxis_transform()
                self._mark(mark.label, mark.x, 1.0, ha="left", va="top", transform=across, color=mark.color)

    @_add.register
    def _(self, mark: Note) -> None:
        place = self._axes.transAxes
        self._mark(mark.text, mark.x, mark.y, ha=mark.align, va="center", transform=place, color=mark.color)

    @_add.register
    def _(self, mark: Label) -> None:
        self._axes.annotate(
            visible_line(mark.text),
            (mark.x, mark.y),
            xytext=(mark.dx, mark.dy),
            textcoords="offset points",
            ha=mark.align,
            va="center" if mark.is_centered else "baseline",
            fontsize=10.5,
            color=COLORS["ink"],
        )

    @_add.register
    def _(self, mark: EndLabels) -> None:
        """Move names apart where they would cover each other."""
        low, high = self._axes.transData.transform([(0, limit) for limit in sorted(self._axes.get_ylim())])[:, 1]
        spots = [(self._axes.transData.transform((0, value))[1], name, color) for name, value, color in mark.labels]
        spots = sorted((min(max(spot, low), high), name, color) for spot, name, color in spots if math.isfinite(spot))
        step = 11.5
        heights = _apart([spot for spot, _, _ in spots], step, low + 2, high)
        for (_, name, color), height in zip(spots, heights, strict=True):
            self._axes.text(
                1.015,
                (height - low) / (high - low),
                visible_line(name),
                transform=self._axes.transAxes,
                color=COLORS[color],
                fontsize=10.5,
                ha="left",
                va="center",
            )

    @_add.register
    def _(self, mark: Cells) -> None:
        """Fill the cells as one shape."""
        from matplotlib.patches import PathPatch  # noqa: PLC0415  an extra
        from matplotlib.path import Path  # noqa: PLC0415  an extra

        corners = np.array([[-0.46, -0.44], [0.46, -0.44], [0.46, 0.44], [-0.46, 0.44], [-0.46, -0.44]])
        vertices = np.concatenate([corners + place for place in mark.places])
        codes = [Path.MOVETO, *([Path.LINETO] * 3), Path.CLOSEPOLY] * len(mark.places)
        self._axes.add_patch(PathPatch(Path(vertices, codes), facecolor=COLORS[mark.color], linewidth=0))

    def _write(self, text: str, top: float, color: str, size: float, weight: str = "normal") -> None:
        self._figure.text(
            4 / WIDTH, 1 - top / self._height, visible_line(text), color=color, fontsize=size, weight=weight
        )

    def _mark(self, text: str, x: float, y: float, *, ha: str, va: str, transform: Any, color: str) -> None:
        from matplotlib.transforms import offset_copy  # noqa: PLC0415  an extra

        shift = {"right": -2, "left": 4, "center": 0}[ha], {"bottom": 2, "top": -3, "center": 0}[va]
        moved = offset_copy(transform, fig=self._figure, x=shift[0], y=shift[1], units="points")
        self._axes.text(
            x, y, visible_line(text), transform=moved, color=COLORS[color], fontsize=10.5, ha=ha, va=va, zorder=5
        )


def _symlog_ticks(bottom: float, top: float) -> list[float]:
    decades = 10.0 ** np.arange(math.floor(math.log10(max(top, -bottom))) + 1)
    decades = decades[:: max(1, math.ceil(decades.size / 6))]
    return [float(tick) for tick in (0.0, *decades, *-decades) if bottom <= tick <= top]


def _signed_power(value: float) -> str:
    return ("\N{MINUS SIGN}" if value < 0 else "") + power(abs(value))


def _percent(share: float) -> str:
    return f"{100 * share:.4g} %"


def _apart(heights: Sequence[float], step: float, low: float, high: float) -> list[float]:
    """Ascending heights pushed apart to at least `step`, within limits as far as they allow."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + step) if moved else max(height, low))
    for i in range(len(moved) - 1, -1, -1):
        limit = high if i == len(moved) - 1 else moved[i + 1] - step
        moved[i] = min(moved[i], limit)
    return moved


def _thinned(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    if x.size <= _MOST_POINTS:
        return x, y
    chosen = np.unique(np.linspace(0, x.size - 1, _MOST_POINTS).round().astype(np.int64))
    return x[chosen], y[chosen]


def _has_neighbor(good: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.concatenate([[False], good, [False]])
    return np.asarray(padded[:-2] | padded[2:])
