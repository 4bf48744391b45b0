"""The summary of a run: what a reader wants to see first.

`python -m lmfacts.render.terminal.summary [RUN.lmfacts]` prints one, without a file that of a made-up run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Group

from lmfacts.analysis.run_view import RunView
from lmfacts.render.terminal.block_formats_table import BlockFormatsTable
from lmfacts.render.terminal.console import paragraph, result_console, section
from lmfacts.render.terminal.depth_table import DepthTable
from lmfacts.render.terminal.kinds_table import KindsTable
from lmfacts.render.terminal.largest_values import LargestValuesSection
from lmfacts.render.terminal.norm_chart import NormChart
from lmfacts.render.terminal.outlier_dims_table import OutlierDimsSection
from lmfacts.render.terminal.run_header import RunHeader

if TYPE_CHECKING:
    from rich.console import RenderableType

    from lmfacts.run import Run

__all__ = ["render_summary"]


def render_summary(run: Run) -> RenderableType:
    """A run on a few screens: header and problems, the residual stream by depth, its outlier dims, the largest values
    with their tokens, the norm by depth, all sites by kind, and what formats of blocks cost where that was counted.

    The result adapts to the width of the console that prints it: narrow ones get fewer columns, rows are never wrapped.
    """  # noqa: D205  one sentence
    view = RunView(run)
    parts: list[RenderableType] = [RunHeader(view)]
    if view.any_tokens:
        if view.depths:
            parts += [DepthTable(view), OutlierDimsSection(view), LargestValuesSection(view), NormChart(view)]
        else:
            parts.append(LargestValuesSection(view))
        kinds = KindsTable(view)
        parts += [kinds, BlockFormatsTable(kinds.groups, view.population)]
    else:
        parts.append(section("Nothing was recorded", paragraph("No site was reached by any token.")))
    return Group(*parts)


if __name__ == "__main__":
    import sys

    from lmfacts.render.terminal.example_run import example_run
    from lmfacts.run import load

    result_console().print(render_summary(load(sys.argv[1]) if len(sys.argv) > 1 else example_run()))
