"""The weights by kind: how far each is from a Gaussian, where in depth, and which ones are farthest."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
from rich.text import Text

from lmfacts.render.terminal.blocks import resample, sparkline
from lmfacts.render.terminal.console import BULK, STANDOUT, paragraph, section
from lmfacts.render.terminal.notable import distance_from_gaussian, emphasis, is_notable
from lmfacts.render.terminal.table import Column, NumberTable
from lmfacts.stats.shape import GAUSSIAN_WEIBULL_K
from lmfacts.stats.spectrum import weightwatcher
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from lmfacts.analysis.weights_view import WeightGroup, WeightsView
    from lmfacts.quantities.weight_figures import WeightFigures

__all__ = ["CRITERIA", "DepthSection", "FarthestSection", "MatricesSection", "VectorsSection"]

CRITERIA: Final[dict[str, str]] = {
    "excess_kurtosis": "excess kurtosis",
    "scaled_excess_kurtosis": "  after scaling",
    "weibull_k": "Weibull k",
    "max_z_ratio": "largest |z|",
    "row_ratio": "RMS, output dim",
    "column_ratio": "RMS, input dim",
}
"""What the farthest matrices are named by."""

_MOST_ROWS: Final = 40
_ALPHA_FROM: Final = 130
_MOST_NEXT: Final = 4
_MOST_OF_A_DIM: Final = 0.5
"""A value with more than this share of its output dim's energy stands alone."""


class MatricesSection:
    """Matrices, one row per kind."""

    def __init__(self, view: WeightsView) -> None:
        """The section of a run."""
        self.groups = view.matrices

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self.groups:
            return
        with_alpha = options.max_width >= _ALPHA_FROM
        raw, scaled, spectrum = "excess kurtosis", "after scaling", "spectrum"
        columns = [
            Column("kind", "left", shrink_to=30, cut="start"),
            Column("n", keep=97),
            Column("shape", keep=30),
            Column("std", keep=70),
            Column("median", group=raw),
            Column("worst", group=raw),
            Column("layer", group=raw),
            Column("median", group=scaled),
            Column("worst", group=scaled),
            Column("layer", group=scaled, keep=50),
            Column("median", group="Weibull k", keep=75),
            Column("worst", group="Weibull k", alone="Weibull k"),
            Column("layer", group="Weibull k", keep=49),
            Column("worst", group="largest |z|", alone="largest |z|", keep=98),
            Column("layer", group="largest |z|", keep=48),
            Column("s1 / edge", group=spectrum, keep=64),
            Column("eff. rank", group=spectrum, alone="eff. rank", keep=66),
        ]
        if with_alpha:
            columns += [Column("alpha", group=spectrum, keep=45)]
        shown = self.groups[:_MOST_ROWS]
        more = len(self.groups) - len(shown)
        alpha = (
            " Alpha: WeightWatcher's, ± its standard error, of the middle layer (the page of a weight has its D and n)."
            if with_alpha
            else ""
        )
        yield section(
            "Matrices by kind",
            paragraph(
                "Medians over the layers, and the layer farthest from a Gaussian (which has excess kurtosis 0, Weibull "
                f"k {GAUSSIAN_WEIBULL_K:.3f}). After scaling: columns, then rows, divided by their RMS. Largest |z|: "
                "over what as many Gaussian values have. s1 / edge: the largest singular value over the "
                "Marchenko-Pastur edge, where those of independent entries end. Effective rank: a share of the smaller "
                "side." + alpha + " ",
                Text("In color", style=STANDOUT),
                ": farther from a Gaussian than a logistic law (excess kurtosis 1.21, k 1.159), or a |z| of twice the "
                "expected.",
            ),
            Text(""),
            NumberTable(columns, [self._row(group, with_alpha) for group in shown]),
            paragraph(f"and {more} more kinds") if more > 0 else None,
        )

    @staticmethod
    def _row(group: WeightGroup, with_alpha: bool) -> list[str | Text]:
        shape = group.shape
        row: list[str | Text] = [
            group.kind,
            str(len(group.figures)),
            f"{shape[0]:,} x {shape[1]:,}" if shape else "various",
            numbers.number(group.median("std")),
        ]
        for quantity, text in (
            ("excess_kurtosis", numbers.signed),
            ("scaled_excess_kurtosis", numbers.signed),
            ("weibull_k", _k),
            ("max_z_ratio", _times),
        ):
            worst = group.worst(quantity)
            cells = [_marked(quantity, value, text) for value in (group.median(quantity), getattr(worst, quantity))]
            row += [*(cells if quantity != "max_z_ratio" else cells[1:]), worst.label]
        row += [
            _times(group.median("edge_ratio")),
            numbers.percent(group.median("effective_rank_share")),
        ]
        return [*row, _alpha(group)] if with_alpha else row


class DepthSection:
    """Kinds by depth: one sparkline per statistic, all kinds on one scale; nothing for a single layer."""

    def __init__(self, view: WeightsView) -> None:
        """The section of a run."""
        self.groups = [group for group in view.matrices if len(group.by_layer("std")) > 1][:_MOST_ROWS]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self.groups:
            return
        n_layers = max(len(group.by_layer("std")) for group in self.groups)
        # Two series of 24 layers fit 80 cells; longer ones are cut into stretches, each with its worst layer.
        width = min(n_layers, 24 if options.max_width < 110 else 48)  # noqa: PLR2004  columns of the terminal
        kurtosis, body, largest = (self._scale(name) for name in ("excess_kurtosis", "weibull_k", "max_z_ratio"))
        columns = [
            Column("kind", "left", shrink_to=30, cut="start"),
            Column("excess kurtosis", "left"),
            Column("after scaling", "left", keep=80),
            Column("Weibull k", "left", keep=90),
            Column("largest |z|", "left", keep=70),
        ]
        rows: list[list[str | Text]] = [
            [
                group.kind,
                _series(group, "excess_kurtosis", width, kurtosis),
                _series(group, "scaled_excess_kurtosis", width, kurtosis),
                _series(group, "weibull_k", width, body),
                _series(group, "max_z_ratio", width, largest),
            ]
            for group in self.groups
        ]
        shrunk = f" Of each {math.ceil(n_layers / width)} layers or fewer, the farthest." if width < n_layers else ""
        yield section(
            "Distance from a Gaussian by depth",
            paragraph(
                "From the first layer to the last, on one scale for all kinds: |excess kurtosis| logarithmic from 0.1 "
                f"to {numbers.number(10 ** kurtosis[1], 2)}, the distance of k from {GAUSSIAN_WEIBULL_K:.3f} up to "
                f"{body[1]:.2f}, the largest |z| over the expected from 1 to {numbers.number(largest[1], 2)}.{shrunk} ",
                Text("In color", style=STANDOUT),
                " as above.",
            ),
            Text(""),
            NumberTable(columns, rows),
        )

    def _scale(self, quantity: str) -> tuple[float, float]:
        values = [
            height for group in self.groups for value in group.values(quantity) for height in [_height(quantity, value)]
        ]
        least, most, cap = {"weibull_k": (0.0, 0.1, 0.3), "max_z_ratio": (1.0, 4.0, 10.0)}.get(
            quantity, (-1.0, 1.0, 2.0)
        )
        return least, min(max([most, *values]), cap)


class FarthestSection:
    """The matrices farthest from a Gaussian by each criterion, with what is wrong."""

    def __init__(self, view: WeightsView) -> None:
        """The section of a run."""
        self.matrices = [figures for group in view.matrices for figures in group.figures if figures.weight.n > 1]

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self.matrices:
            return
        columns = [
            Column("by", "left", shrink_to=18),
            Column("value"),
            Column("matrix", "left", shrink_to=16, cut="start"),
            Column("there", "left", shrink_to=31),
            Column("next", "left", keep=50, shrink_to=40),
        ]
        rows: list[list[str | Text]] = []
        for quantity, title in CRITERIA.items():
            ordered = sorted(
                (figures for figures in self.matrices if not math.isnan(getattr(figures, quantity))),
                key=lambda figures, quantity=quantity: -distance_from_gaussian(quantity, getattr(figures, quantity)),  # type: ignore[misc]  # mypy loses the type here
            )
            if not ordered:
                continue
            first, *others = ordered
            text = {"weibull_k": _k, "excess_kurtosis": numbers.signed, "scaled_excess_kurtosis": numbers.signed}.get(
                quantity, _times
            )
            following = (f"{f.weight.name} {text(getattr(f, quantity))}" for f in others[:_MOST_NEXT])
            rows.append(
                [
                    title,
                    _marked(quantity, getattr(first, quantity), text),
                    first.weight.name,
                    _what(quantity, first),
                    ", ".join(following),
                ]
            )
        yield section(
            "Farthest from a Gaussian",
            paragraph(
                "The matrix that is farthest by each criterion. The largest |z| is over the expected, the RMS of a dim "
                "over the median dim's; [row, column] are the output and the input dim."
            ),
            Text(""),
            NumberTable(columns, rows),
        )


class VectorsSection:
    """Gains and biases, one row per kind."""

    def __init__(self, view: WeightsView) -> None:
        """The section of a run."""
        self.groups = view.vectors

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self.groups:
            return
        kurtosis, bimodal = "excess kurtosis", "bimodality"
        columns = [
            Column("kind", "left", shrink_to=26, cut="start"),
            Column("n", keep=80),
            Column("dims", keep=70),
            Column("mean", keep=85),
            Column("std"),
            Column("smallest", keep=75),
            Column("largest"),
            Column("median", group=kurtosis),
            Column("worst", group=kurtosis),
            Column("layer", group=kurtosis),
            Column("worst", group=bimodal, alone=bimodal, keep=60),
            Column("layer", group=bimodal, keep=40),
            Column("> 3 std", keep=50),
        ]
        shown = self.groups[:_MOST_ROWS]
        more = len(self.groups) - len(shown)
        sizes = {group.shape[0] for group in shown if group.shape}
        n = max(sizes, default=0)
        scatter = f" (± {numbers.number(math.sqrt(24 / n), 1)} by chance for {n:,} Gaussian values)" if n else ""
        yield section(
            "Vectors by kind: gains and biases",
            paragraph(
                f"Medians over the layers; smallest and largest over all. A Gaussian has excess kurtosis 0{scatter} "
                "and a bimodality coefficient of 0.33; more than 0.6 hints at two modes. > 3 std: values beyond 3 "
                "std over the number in Gaussian vectors."
            ),
            Text(""),
            NumberTable(columns, [self._row(group) for group in shown]),
            paragraph(f"and {more} more kinds") if more > 0 else None,
        )

    @staticmethod
    def _row(group: WeightGroup) -> list[str | Text]:
        weights = [figures.weight for figures in group.figures]
        filled = [weight for weight in weights if weight.n]
        worst, modes = group.worst("excess_kurtosis"), group.worst("bimodality")
        expected = sum(figures.expected_beyond_3 for figures in group.figures)
        n_beyond_3 = sum(figures.n_beyond_3 for figures in group.figures)
        return [
            group.kind,
            str(len(weights)),
            f"{group.shape[0]:,}" if group.shape else "various",
            numbers.number(float(np.median([weight.mean for weight in filled])) if filled else math.nan),
            numbers.number(group.median("std")),
            numbers.number(min((weight.min for weight in filled), default=math.nan)),
            numbers.number(max((weight.max for weight in filled), default=math.nan)),
            _marked("excess_kurtosis", group.median("excess_kurtosis"), numbers.signed),
            _marked("excess_kurtosis", worst.excess_kurtosis, numbers.signed),
            worst.label,
            _marked("bimodality", modes.bimodality, lambda value: numbers.number(value, 2)),
            modes.label,
            _times(n_beyond_3 / expected) if expected else "-",
        ]


def _height(quantity: str, value: float) -> float:
    """How high a figure stands in a sparkline."""
    far = distance_from_gaussian(quantity, value)
    return math.log10(max(far, 1e-9)) if quantity.endswith("kurtosis") else far


def _series(group: WeightGroup, quantity: str, width: int, scale: tuple[float, float]) -> Text:
    """A sparkline by depth; what stands out is colored."""
    values = np.array(list(group.by_layer(quantity).values()))
    # Stretches keep the value that is farthest from the center, so resample distances and color by the same limits.
    far = resample(
        [math.nan if math.isnan(value) else distance_from_gaussian(quantity, value) for value in values], width
    )
    heights = [_height_of(quantity, distance) for distance in far]
    text = Text()
    for character, distance in zip(sparkline(heights, *scale), far.tolist(), strict=True):
        center = GAUSSIAN_WEIBULL_K if quantity == "weibull_k" else 0.0
        text.append(character, style=STANDOUT if is_notable(quantity, center + distance) else BULK)
    return text


def _height_of(quantity: str, distance: float) -> float:
    if math.isnan(distance):
        return math.nan
    return math.log10(max(distance, 1e-9)) if quantity.endswith("kurtosis") else distance


def _what(quantity: str, figures: WeightFigures) -> str:
    """What is wrong with a matrix, in a few words."""
    weight = figures.weight
    row, column = figures.rows, figures.columns
    values, rows, columns = weight.largest
    if quantity == "row_ratio":
        return f"output dim {row.largest_at}: RMS {numbers.number(row.largest)}"
    if quantity == "column_ratio":
        return f"input dim {column.largest_at}: RMS {numbers.number(column.largest)}"
    if quantity == "max_z_ratio":
        at = f" at [{rows[0]}, {columns[0]}]" if values.size else ""
        value = values[0] if values.size else math.nan
        return f"{numbers.signed(float(value))}{at}, {numbers.number(weight.max_abs_z)} std"
    if quantity == "weibull_k":
        scaled = weight.scaled.weibull.k
        return f"k after scaling {_k(scaled)}"
    if quantity == "scaled_excess_kurtosis":
        return f"largest |z| then {numbers.number(weight.scaled.max_abs_z)}"
    if values.size and values[0] ** 2 > _MOST_OF_A_DIM * _row_energy(figures, int(rows[0])):
        return f"one value, {numbers.signed(float(values[0]))} at [{rows[0]}, {columns[0]}]"
    if is_notable("excess_kurtosis", figures.scaled_excess_kurtosis):
        return f"{numbers.signed(figures.scaled_excess_kurtosis)} after scaling"
    name, spread = ("input", column) if not column.ratio < row.ratio else ("output", row)
    return f"{name} dim {spread.largest_at}: {_times(spread.ratio)} the RMS"


def _row_energy(figures: WeightFigures, row: int) -> float:
    """The sum of the squared weights of an output dim."""
    return float(figures.weight.row_rms[row]) ** 2 * figures.weight.shape[1]


def _alpha(group: WeightGroup) -> str:
    """WeightWatcher's alpha of the middle layer."""
    values = group.figures[len(group.figures) // 2].weight.singular_values
    if values is None:
        return "-"
    fit = weightwatcher(values)
    return "-" if math.isnan(fit.alpha) else f"{fit.alpha:.2f} ± {fit.sigma:.2f}"


def _marked(quantity: str, value: float, text: object) -> Text:
    assert callable(text)
    return Text(text(value), style=emphasis(quantity, value))


def _k(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _times(value: float) -> str:
    return "-" if math.isnan(value) else f"{numbers.number(value, 2 if value < 10 else 3)}x"  # noqa: PLR2004  digits before the point
