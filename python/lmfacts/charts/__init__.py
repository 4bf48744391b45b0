"""Charts as data: what is drawn, on which axes, and how it is read. `lmfacts.render` draws them."""

from lmfacts.charts.chart import Chart
from lmfacts.charts.figure import Figure, Key

__all__ = ["Chart", "Figure", "Key"]
