"""Drawing with block characters: numbers in, lines of text out.

Zero is a blank and any count above zero is visible. On a logarithmic scale the lowest block is a count of 1, so that a
single value in a tail shows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["bar", "histogram_line", "resample", "sparkline", "tall_histogram"]

RISING: Final = "▁▂▃▄▅▆▇█"
"""Blocks that fill a cell from below, in eighths."""

LINE_LEVELS: Final = 7
"""Heights of a graphic of one line: without the full block, whose rows would grow together in a table."""

GROWING: Final = "▏▎▍▌▋▊▉█"
"""Blocks that fill a cell from the left, in eighths."""

MARK: Final = "•"
"""Where an expected count lies in a tall histogram."""

_EIGHTHS: Final = 8


def histogram_line(counts: ArrayLike, *, log: bool = True) -> str:
    """A histogram in one line, one character per bin.

    Args:
        counts: how many values each bin has.
        log: whether heights follow the logarithm of the counts.
    """
    heights = _relative_heights(np.asarray(counts, dtype=np.float64), log=log)
    levels = np.clip(np.rint(heights * LINE_LEVELS), 1, LINE_LEVELS).astype(int)
    return "".join(RISING[level - 1] if height > 0 else " " for level, height in zip(levels, heights, strict=True))


def sparkline(values: ArrayLike, low: float, high: float) -> str:
    """A series in one line, one character per value; what is at or below `low` gets the lowest block, NaN a blank.

    Args:
        values: the series.
        low: what the lowest block stands for.
        high: what the highest block stands for.
    """
    series = np.asarray(values, dtype=np.float64)
    span = high - low if high > low else 1.0
    with np.errstate(invalid="ignore"):
        levels = np.nan_to_num(np.clip(np.rint((series - low) / span * (LINE_LEVELS - 1)), 0, LINE_LEVELS - 1)).astype(
            int
        )
    return "".join(" " if np.isnan(x) else RISING[level] for x, level in zip(series, levels, strict=True))


def resample(values: ArrayLike, width: int) -> NDArray[np.float64]:
    """A series of at most `width` values: the largest magnitude of each stretch (NaN where a stretch has only NaN)."""
    series = np.asarray(values, dtype=np.float64)
    if series.size <= width:
        return series
    stretches = np.array_split(series, width)
    largest = [stretch[~np.isnan(stretch)] for stretch in stretches]
    return np.array([part[np.abs(part).argmax()] if part.size else np.nan for part in largest])


def bar(fraction: float, width: int) -> str:
    """A horizontal bar in eighths of a cell; visible for any fraction above 0, empty for NaN.

    Args:
        fraction: how much of the width to fill, cut to 0 to 1.
        width: the number of cells of a full bar.
    """
    if not fraction > 0:
        return ""
    eighths = max(1, round(min(fraction, 1.0) * width * _EIGHTHS))
    full, rest = divmod(eighths, _EIGHTHS)
    return "█" * full + (GROWING[rest - 1] if rest else "")


def tall_histogram(
    counts: ArrayLike, height: int, *, log: bool = False, expected: ArrayLike | None = None
) -> list[str]:
    """A histogram over several lines, from the top down, one column per bin.

    Args:
        counts: how many values each bin has.
        height: the number of lines.
        log: whether heights follow the logarithm of the counts; the bottom line then begins at a count of 1.
        expected: counts to mark with a dot on the same scale, for comparison; those below 1 (log) or too small to be
            seen are left out.

    Returns:
        `height` strings of as many characters as there are bins.
    """
    bin_counts = np.asarray(counts, dtype=np.float64)
    top = bin_counts.max(initial=0.0)
    heights = _relative_heights(bin_counts, log=log, top=top)
    eighths = np.rint(heights * height * _EIGHTHS).astype(int)
    eighths[(bin_counts > 0) & (eighths == 0)] = 1
    canvas = [[_cell(filled - _EIGHTHS * row) for filled in eighths] for row in range(height)]
    if expected is not None:
        wanted = np.asarray(expected, dtype=np.float64)
        for column, fraction in enumerate(_relative_heights(wanted, log=log, top=top)):
            row = int(np.floor(fraction * height - 1e-9))
            if 0 <= row < height and fraction * height * _EIGHTHS >= 1:
                canvas[row][column] = MARK
    return ["".join(row) for row in reversed(canvas)]


def _relative_heights(counts: NDArray[np.float64], *, log: bool, top: float | None = None) -> NDArray[np.float64]:
    """Heights from 0 to 1: counts, or 1 + their logarithm to base 10, over that of the largest.

    The 1 gives a single value a height of its own: otherwise it could not be told from none.
    """
    largest = counts.max(initial=0.0) if top is None else top
    if largest <= 0:
        return np.zeros_like(counts)
    if not log:
        return counts / largest
    # A full decade below the count of 1 would waste space: a single value gets a third of a decade.
    with np.errstate(divide="ignore"):
        heights = np.where(counts >= 1, np.log10(np.maximum(counts, 1.0)) + _FOOT, 0.0)
    return np.asarray(heights / (np.log10(max(largest, 1.0)) + _FOOT))


_FOOT: Final = 1 / 3


def _cell(filled_eighths: int) -> str:
    """The character of a cell that is filled so far from below."""
    if filled_eighths <= 0:
        return " "
    return RISING[min(filled_eighths, _EIGHTHS) - 1]


if __name__ == "__main__":
    rng = np.random.default_rng(0)
    for name, sample in (("Gaussian", rng.normal(size=100_000)), ("Laplace", rng.laplace(size=100_000))):
        n_by_bin, _ = np.histogram(sample, 61, (-8, 8))
        print(f"{name:10}{histogram_line(n_by_bin)}")  # noqa: T201  a demonstration
        print("\n".join(" " * 10 + line for line in tall_histogram(n_by_bin, 6, log=True)))  # noqa: T201  a demo prints
