"""One weight in full.

`python -m lmfacts.render.terminal.weight_page RUN.lmfacts NAME` prints one.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
from rich.console import Group
from rich.text import Text

from lmfacts.quantities.weight_figures import Spread, WeightFigures
from lmfacts.render.terminal.blocks import histogram_line
from lmfacts.render.terminal.console import BULK, PROBLEM, STANDOUT, heading, paragraph, result_console, section
from lmfacts.render.terminal.distribution_section import DistributionSection
from lmfacts.render.terminal.notable import emphasis
from lmfacts.render.terminal.run_header import LabeledLines
from lmfacts.render.terminal.spectrum_section import SpectrumSection
from lmfacts.render.terminal.table import Column, NumberTable
from lmfacts.render.terminal.weight_shape import QuantileTable, ShapeTable
from lmfacts.stats.laws import fit_families, tied_families
from lmfacts.stats.shape import coarse_problem
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from rich.console import RenderableType

    from lmfacts.run import Run
    from lmfacts.run.weight import WeightRecord

__all__ = ["render_weight"]

_MOST_LARGEST: Final = 12
_RATIO_BINS: Final = 25
_RATIO_LIMIT: Final = 8.0
_REPEATED: Final = 3


def render_weight(weight: WeightRecord, run: Run[WeightRecord]) -> RenderableType:
    """One weight in full: histograms, shape raw and scaled, quantiles, families, rows and columns, the largest values,
    the spectrum.

    Args:
        weight: the record.
        run: the run it belongs to.
    """  # noqa: D205  one sentence
    figures = WeightFigures(weight)
    parts: list[RenderableType] = _header(weight, run)
    if not weight.n:
        return Group(*parts, Text(""), paragraph(Text("It has no finite values.", style=PROBLEM)))
    if weight.min == weight.max:
        equal = Text(f"All its values are {numbers.number(weight.min)}.", style=PROBLEM)
        return Group(*parts, Text(""), paragraph(equal))
    parts += [DistributionSection(figures, "Distribution"), ShapeTable(figures), QuantileTable(weight)]
    if weight.is_matrix:
        parts += [_families(weight), _rows_and_columns(figures), _largest(figures)]
    else:
        parts.append(_farthest(weight))
    spectrum = weight.spectrum
    if spectrum is not None and spectrum.spectral_norm > 0:
        parts.append(SpectrumSection(weight, spectrum))
    elif weight.is_matrix:
        parts.append(section("Spectrum", paragraph(_no_spectrum(weight, run))))
    return Group(*parts)


def _header(weight: WeightRecord, run: Run[WeightRecord]) -> list[RenderableType]:
    shape = f"{weight.shape[0]:,} out x {weight.shape[1]:,} in" if weight.is_matrix else f"{weight.shape[0]:,} values"
    tied = [alias for alias in weight.aliases if alias != weight.parameter]
    stored = [
        f"{weight.quantization}, read as {weight.stored_dtype}" if weight.quantization else weight.stored_dtype,
        "exact" if weight.exact else "cells of at most 0.8 % for quantiles and histograms",
    ]
    parameter = weight.parameter if weight.part is None else f"{weight.parameter}, part {weight.part}"
    n_values = weight.n + weight.n_nan + weight.n_inf
    lines = {
        "model": str(run.model.id or "unnamed"),
        "role": "" if weight.role is not None else "none known: named by its parameter",
        "parameter": parameter,
        "tied": ", ".join(tied),
        "shape": f"{shape} · {n_values:,} weights" if weight.is_matrix else shape,
        "stored": " · ".join(stored),
        "note": weight.note or "",
    }
    problems: list[RenderableType] = []
    if weight.n_nan or weight.n_inf:
        sentence = f"{weight.n_nan:,} NaN and {weight.n_inf:,} infinities were found here."
        problems = [Text(""), paragraph(Text(sentence, style=PROBLEM))]
    labeled: list[tuple[str, str | Text]] = [(name, value) for name, value in lines.items() if value]
    if not run.complete:
        labeled.append(("state", Text("this run is NOT COMPLETE", style=PROBLEM)))
    return [heading(weight.name), LabeledLines(labeled), *problems]


def _families(weight: WeightRecord) -> RenderableType:
    """How well each family of laws describes the values."""
    fits = fit_families(weight.distribution)
    if not fits:
        return section(
            "Families of laws", paragraph(coarse_problem(weight.distribution) or "Too few different values.")
        )
    ties = tied_families(fits)
    simplest = ties[0].name
    if len(ties) > 1:
        said = f"Within 0.001 nats per value of the best, which is no evidence: {', '.join(fit.name for fit in ties)}."
    else:
        said = f"The best is {simplest}."
    columns = [
        Column("law", "left"),
        Column("nats/value"),
        Column("behind"),
        Column("parameters", "left", keep=60, shrink_to=20),
    ]
    rows: list[list[str | Text]] = [
        [
            Text(fit.name, style=f"bold {STANDOUT}" if fit.name == simplest else ""),
            f"{fit.nats_per_value:.4f}",
            "best" if fit.gap <= 0 else f"{fit.gap:.4f}",
            ", ".join(
                f"{name} {numbers.number(value)}" for name, value in fit.parameters.items() if name != "location"
            ),
        ]
        for fit in fits
    ]
    caption = "Largest likelihood, as the mean log density of (x - mean) / std: -1.4189 for a Gaussian. "
    return section("Families of laws", paragraph(caption, said), Text(""), NumberTable(columns, rows))


def _rows_and_columns(figures: WeightFigures) -> RenderableType:
    """How the scales of rows and columns are spread."""
    weight = figures.weight
    columns = [
        Column("RMS of the", "left"),
        Column("smallest"),
        Column("at"),
        Column("5 %", keep=50),
        Column("median"),
        Column("95 %", keep=50),
        Column("largest"),
        Column("at"),
        Column("/ median"),
        Column("all 0", keep=70),
        Column("RMS / median, 1/8 to 8", "left", keep=60),
    ]
    rows = [
        _spread_row("output dims", weight.row_rms, figures.rows, "row_ratio"),
        _spread_row("input dims", weight.column_rms, figures.columns, "column_ratio"),
    ]
    return section("Rows and columns", NumberTable(columns, rows))


def _spread_row(name: str, rms: NDArray[np.float64], spread: Spread, quantity: str) -> list[str | Text]:
    finite = rms[np.isfinite(rms)]
    low, high = np.quantile(finite, [0.05, 0.95]) if finite.size else (math.nan, math.nan)
    drawn = ""
    if spread.median > 0:
        limit = math.log(_RATIO_LIMIT)
        ratios = np.clip(np.log(finite[finite > 0] / spread.median), -limit, limit)
        drawn = histogram_line(np.histogram(ratios, _RATIO_BINS, (-limit, limit))[0])
    return [
        name,
        numbers.number(spread.smallest),
        str(spread.smallest_at),
        numbers.number(float(low)),
        numbers.number(spread.median),
        numbers.number(float(high)),
        numbers.number(spread.largest),
        str(spread.largest_at),
        Text(f"{numbers.number(spread.ratio)}x", style=emphasis(quantity, spread.ratio)),
        numbers.count(spread.n_zero),
        Text(drawn, style=BULK),
    ]


def _largest(figures: WeightFigures) -> RenderableType:
    """The values of largest magnitude, with where they are."""
    weight = figures.weight
    values, rows, columns = weight.largest
    shown = min(values.size, _MOST_LARGEST)
    head = [
        *(Column("value"), Column("z")),
        *(Column("row"), Column("RMS / median", keep=60)),
        *(Column("column"), Column("RMS / median", keep=60)),
    ]
    cells: list[list[str | Text]] = [
        [
            numbers.signed(value, 6),
            f"{(value - weight.mean) / weight.std:+.2f}",
            _index(row, rows),
            _over(float(weight.row_rms[row]), figures.rows.median),
            _index(column, columns),
            _over(float(weight.column_rms[column]), figures.columns.median),
        ]
        for value, row, column in list(zip(values.tolist(), rows.tolist(), columns.tolist(), strict=True))[:shown]
    ]
    caption = f"The first {shown} of {values.size} that were kept. Row: output dim; column: input dim."
    return section("Largest values", paragraph(caption), NumberTable(head, cells))


def _farthest(weight: WeightRecord) -> RenderableType:
    """A vector by index, and its values farthest from the mean."""
    values = weight.dims.mean  # one value per dim
    z = (values - weight.mean) / weight.std
    finite = np.flatnonzero(np.isfinite(values))
    order = finite[np.argsort(-np.abs(z[finite]), kind="stable")][:_MOST_LARGEST]
    cells: list[list[str | Text]] = [
        [str(index), numbers.signed(float(values[index]), 6), Text(f"{z[index]:+.2f}", _beyond(float(z[index])))]
        for index in order.tolist()
    ]
    return section(
        "Values farthest from the mean",
        paragraph("In color: more than 3 std."),
        NumberTable([Column("index"), Column("value"), Column("z")], cells),
    )


def _beyond(z: float) -> str:
    return STANDOUT if abs(z) > 3 else ""  # noqa: PLR2004  the usual three


def _index(index: int, among: NDArray[np.int64]) -> Text:
    """An index, in color where several of the largest values share it."""
    return Text(str(index), style=f"bold {STANDOUT}" if np.count_nonzero(among == index) >= _REPEATED else "")


def _over(value: float, median: float) -> str:
    return f"{numbers.number(value / median)}x" if median > 0 else "-"


def _no_spectrum(weight: WeightRecord, run: Run[WeightRecord]) -> str:
    limit = run.settings.spectra
    if weight.n_nan or weight.n_inf:
        return "None: a value is not finite."
    if isinstance(limit, int) and min(weight.shape) > limit:
        return f"Not computed: the smaller side is more than {limit:,} (`spectra`)."
    return "Not computed, or all values are 0."


if __name__ == "__main__":
    import sys

    from lmfacts.run import load
    from lmfacts.run.weight import WeightRecord as _WeightRecord

    shown_run = load(sys.argv[1])
    shown_weight = shown_run[sys.argv[2]]
    assert isinstance(shown_weight, _WeightRecord)
    result_console().print(render_weight(shown_weight, shown_run))
