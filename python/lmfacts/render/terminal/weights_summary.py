"""The summary of a run of weights: what a reader wants to see first.

`python -m lmfacts.render.terminal.weights_summary RUN.lmfacts` prints one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group

from lmfacts.analysis.weights_view import WeightsView
from lmfacts.render.terminal.console import result_console
from lmfacts.render.terminal.weight_norms import WeightNorms
from lmfacts.render.terminal.weights_by_kind import DepthSection, FarthestSection, MatricesSection, VectorsSection
from lmfacts.render.terminal.weights_header import WeightsHeader

if TYPE_CHECKING:
    from rich.console import RenderableType

    from lmfacts.run import Run
    from lmfacts.run.weight import WeightRecord

__all__ = ["render_weights_summary"]


def render_weights_summary(run: Run[WeightRecord]) -> RenderableType:
    """A run of weights on a few screens: header and problems, matrices by kind and by depth, those farthest from a
    Gaussian, norms by depth, gains and biases.

    The result adapts to the width of the console that prints it: narrow ones get fewer columns, rows are never wrapped.
    """  # noqa: D205  one sentence
    view = WeightsView(run)
    return Group(
        WeightsHeader(view),
        MatricesSection(view),
        DepthSection(view),
        FarthestSection(view),
        WeightNorms(view),
        VectorsSection(view),
    )


if __name__ == "__main__":
    import sys

    from lmfacts.run import load

    result_console().print(render_weights_summary(load(sys.argv[1])))
