"""One panel of a figure: a small pair of axes in the page's style, drawn by matplotlib."""

from __future__ import annotations

import io
import math
import re
import zlib
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lmfacts.errors import MissingExtraError
from lmfacts.render.page.document import Drawing
from lmfacts.render.page.palette import COLORS
from lmfacts.render.page.svg import cleaned
from lmfacts.render.page.ticks import log_ticks, plain, power
from lmfacts.writing.visible_text import visible_line

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike, NDArray

__all__ = ["DASHES", "Panel", "drawing_name", "panel", "require_matplotlib"]

WIDTH: Final = 360.0
HEIGHT: Final = 236.0

DASHES: Final[dict[str, Any]] = {"line": "-", "dashed": (0, (5, 3)), "dotted": (0, (1.2, 2.4))}
"""Patterns of lines by the names that `document.Key` has for them."""

_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 12.0, 42.0, 38.0
_PIXELS_PER_INCH = 72  # a point is a pixel
_MOST_POINTS = 400
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9-]+")

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


@contextmanager
def panel(name: str, title: str, *, x: str = "", y: str = "", height: float = HEIGHT) -> Iterator[Panel]:
    """An empty panel to draw into; take its `drawing` before the block ends.

    Args:
        name: unique on the page; see `drawing_name` for what becomes of other than letters, digits and hyphens.
        title: a few words above it.
        x: what the horizontal axis is, below it.
        y: what the vertical axis is, under the title.
        height: in pixels, of `WIDTH`.
    """
    require_matplotlib()
    import matplotlib as mpl  # noqa: PLC0415  an extra

    with mpl.rc_context():
        mpl.rcdefaults()
        name = drawing_name(name)
        mpl.rcParams.update({**_STYLE, "svg.hashsalt": name})
        yield Panel(name, title, x, y, height)


def drawing_name(name: str) -> str:
    """A name of letters, digits and hyphens, which is a file's name too; one that had others ends in its checksum."""
    plain = _NOT_IN_NAMES.sub("-", name)
    return plain if plain == name else f"{plain.strip('-')}-{zlib.crc32(name.encode(errors='replace')):08x}"


class Panel:
    """See `panel`.

    Attributes:
        axes: matplotlib's axes; colors are names given through `color`.
    """

    def __init__(self, name: str, title: str, x: str, y: str, height: float) -> None:
        from matplotlib.backends.backend_svg import FigureCanvasSVG  # noqa: PLC0415  an extra
        from matplotlib.figure import Figure  # noqa: PLC0415  an extra
        from matplotlib.ticker import FuncFormatter  # noqa: PLC0415  an extra

        self.name = name
        self._figure = Figure(figsize=(WIDTH / _PIXELS_PER_INCH, height / _PIXELS_PER_INCH), dpi=_PIXELS_PER_INCH)
        FigureCanvasSVG(self._figure)
        self._height = height
        top = _TOP if y else _TOP - 16.0
        bottom = _BOTTOM if x else _BOTTOM - 14.0
        self.axes: Axes = self._figure.add_axes(
            (_LEFT / WIDTH, bottom / height, 1 - (_LEFT + _RIGHT) / WIDTH, 1 - (top + bottom) / height)
        )
        self.axes.grid(visible=True, axis="y")
        for axis in (self.axes.xaxis, self.axes.yaxis):
            axis.set_major_formatter(FuncFormatter(lambda value, _: plain(value)))
        self._write(title, 15.0, COLORS["ink"], 13.0, weight="bold")
        if y:
            self._write(y, 31.0, COLORS["muted"], 11.5)
        if x:
            self.axes.set_xlabel(x, labelpad=4)

    def margins(self, *, left: float | None = None, right: float | None = None) -> None:
        """Room beside the axes for labels, in pixels."""
        box = self.axes.get_position()
        x0 = box.x0 if left is None else left / WIDTH
        x1 = box.x1 if right is None else 1 - right / WIDTH
        self.axes.set_position((x0, box.y0, x1 - x0, box.height))

    def line(
        self,
        x: ArrayLike,
        y: ArrayLike,
        color: str,
        *,
        style: str = "line",
        width: float = 1.8,
        above: int = 3,
        dots: bool = True,
    ) -> None:
        """A line through points; it is broken at values that are not finite, and `dots` shows lone ones."""
        xs, ys = _thinned(np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64))
        self.axes.plot(xs, ys, color=COLORS[color], linestyle=DASHES[style], linewidth=width, zorder=above)
        lone = np.isfinite(ys) & ~_has_neighbor(np.isfinite(ys))
        if lone.any() and dots:
            self.points(xs[lone], ys[lone], color, size=2.5)

    def points(self, x: ArrayLike, y: ArrayLike, color: str, *, size: float = 3.5, above: int = 4) -> None:
        """Points, `size` being their radius in pixels."""
        self.axes.plot(
            x,
            y,
            color=COLORS[color],
            linestyle="none",
            marker="o",
            markersize=2 * size,
            markeredgewidth=0,
            zorder=above,
        )

    def area(self, x: ArrayLike, low: ArrayLike, high: ArrayLike, color: str = "fill") -> None:
        """The area between two curves."""
        self.axes.fill_between(
            np.asarray(x, dtype=np.float64),
            np.asarray(low, dtype=np.float64),
            np.asarray(high, dtype=np.float64),
            color=COLORS[color],
            linewidth=0,
            zorder=2,
        )

    def bars(self, edges: ArrayLike, heights: ArrayLike, color: str = "fill", floor: float = 0.0) -> None:
        """A histogram as one filled outline."""
        self.axes.stairs(
            np.asarray(heights, dtype=np.float64),
            np.asarray(edges, dtype=np.float64),
            baseline=floor,
            fill=True,
            color=COLORS[color],
            linewidth=0,
            zorder=2,
        )

    def rule(self, *, y: float | None = None, x: float | None = None, label: str = "", color: str = "gray") -> None:
        """A thin straight line across the panel, such as a threshold, with its name at its end if that is in sight."""
        style: dict[str, Any] = {"color": COLORS[color], "linewidth": 1.0, "linestyle": DASHES["dashed"], "zorder": 2.5}
        if y is not None:
            self.axes.axhline(y, **style)
            low, high = sorted(self.axes.get_ylim())
            if label and low <= y <= high:
                self._mark(
                    label, 1.0, y, ha="right", va="bottom", transform=self.axes.get_yaxis_transform(), color=color
                )
        if x is not None:
            self.axes.axvline(x, **style)
            low, high = sorted(self.axes.get_xlim())
            if label and low <= x <= high:
                self._mark(label, x, 1.0, ha="left", va="top", transform=self.axes.get_xaxis_transform(), color=color)

    def note(self, text: str, x: float, y: float, *, align: str = "left", color: str = "muted") -> None:
        """A remark within the panel; x and y are shares of the axes, from the lower left."""
        self._mark(text, x, y, ha=align, va="center", transform=self.axes.transAxes, color=color)

    def labels_at_the_end(self, labels: Sequence[tuple[str, float, str]]) -> None:
        """Names of lines to the right of their last values, moved apart where they would cover each other.

        Args:
            labels: (name, last value, color), in any order. Set limits and scale first.
        """
        low, high = self.axes.transData.transform([(0, limit) for limit in sorted(self.axes.get_ylim())])[:, 1]
        spots = [(self.axes.transData.transform((0, value))[1], name, color) for name, value, color in labels]
        spots = sorted((min(max(spot, low), high), name, color) for spot, name, color in spots if math.isfinite(spot))
        step = 11.5
        heights = _apart([spot for spot, _, _ in spots], step, low + 2, high)
        for (_, name, color), height in zip(spots, heights, strict=True):
            share = (height - low) / (high - low)
            self.axes.text(
                1.015,
                share,
                visible_line(name),
                transform=self.axes.transAxes,
                color=COLORS[color],
                fontsize=10.5,
                ha="left",
                va="center",
            )

    def log(self, axis: str) -> None:
        """A logarithmic axis, with round numbers on it; call it after its limits are set."""
        from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator  # noqa: PLC0415  an extra

        which = self.axes.xaxis if axis == "x" else self.axes.yaxis
        low, high = sorted(self.axes.get_xlim() if axis == "x" else self.axes.get_ylim())
        if axis == "x":
            self.axes.set_xscale("log")
        else:
            self.axes.set_yscale("log")
        which.set_major_locator(FixedLocator(list(log_ticks(low, high))))
        which.set_minor_locator(NullLocator())
        which.set_major_formatter(FuncFormatter(lambda value, _: power(value)))

    def symmetric_log(self, low: float, high: float) -> None:
        """A vertical axis for values from `low` to `high`, linear between -1 and 1 and logarithmic beyond."""
        from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator  # noqa: PLC0415  an extra

        bottom, top = min(low * 1.2 if low < 0 else 0.0, -0.3), max(high, 1.0) * 1.6
        self.axes.set_yscale("symlog", linthresh=1.0, linscale=0.7)
        self.axes.set_ylim(bottom, top)
        decades = 10.0 ** np.arange(math.floor(math.log10(max(top, -bottom))) + 1)
        decades = decades[:: max(1, math.ceil(decades.size / 6))]
        ticks = [tick for tick in (0.0, *decades, *-decades) if bottom <= tick <= top]
        self.axes.yaxis.set_major_locator(FixedLocator(ticks))
        self.axes.yaxis.set_minor_locator(NullLocator())
        self.axes.yaxis.set_major_formatter(
            FuncFormatter(lambda value, _: ("\N{MINUS SIGN}" if value < 0 else "") + power(abs(value)))
        )

    def whole_numbers(self, axis: str = "x", most: int = 7) -> None:
        """Ticks at whole numbers only, such as layers."""
        from matplotlib.ticker import MaxNLocator  # noqa: PLC0415  an extra

        which = self.axes.xaxis if axis == "x" else self.axes.yaxis
        which.set_major_locator(MaxNLocator(most, integer=True, min_n_ticks=1))

    def percent(self, axis: str) -> None:
        """Shares written in percent."""
        from matplotlib.ticker import FuncFormatter  # noqa: PLC0415  an extra

        which = self.axes.xaxis if axis == "x" else self.axes.yaxis
        which.set_major_formatter(FuncFormatter(lambda value, _: f"{100 * value:.4g} %"))

    def drawing(self, alt: str) -> Drawing:
        """The panel as it stands now.

        Args:
            alt: what it shows, in words and numbers.
        """
        file = io.StringIO()
        nothing = {"Date": None, "Creator": None, "Format": None, "Type": None}
        self._figure.savefig(file, format="svg", metadata=nothing)
        return Drawing(self.name, alt, cleaned(file.getvalue(), self.name))

    def _write(self, text: str, top: float, color: str, size: float, weight: str = "normal") -> None:
        self._figure.text(
            4 / WIDTH, 1 - top / self._height, visible_line(text), color=color, fontsize=size, weight=weight
        )

    def _mark(self, text: str, x: float, y: float, *, ha: str, va: str, transform: Any, color: str) -> None:
        from matplotlib.transforms import offset_copy  # noqa: PLC0415  an extra

        shift = {"right": -2, "left": 4, "center": 0}[ha], {"bottom": 2, "top": -3, "center": 0}[va]
        moved = offset_copy(transform, fig=self._figure, x=shift[0], y=shift[1], units="points")
        self.axes.text(
            x, y, visible_line(text), transform=moved, color=COLORS[color], fontsize=10.5, ha=ha, va=va, zorder=5
        )


def _apart(heights: Sequence[float], step: float, low: float, high: float) -> list[float]:
    """Ascending heights pushed apart to at least `step`, within limits as far as they allow."""
    moved: list[float] = []
    for height in heights:
        moved.append(max(height, moved[-1] + step) if moved else max(height, low))
    for i in range(len(moved) - 1, -1, -1):
        limit = high if i == len(moved) - 1 else moved[i + 1] - step
        moved[i] = min(moved[i], limit)
    return moved


def _thinned(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if x.size <= _MOST_POINTS:
        return x, y
    chosen = np.unique(np.linspace(0, x.size - 1, _MOST_POINTS).round().astype(np.int64))
    return x[chosen], y[chosen]


def _has_neighbor(good: NDArray[np.bool_]) -> NDArray[np.bool_]:
    padded = np.concatenate([[False], good, [False]])
    return np.asarray(padded[:-2] | padded[2:])
