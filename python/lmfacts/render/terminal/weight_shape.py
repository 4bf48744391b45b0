"""How a weight's values are distributed, in numbers: beside known laws, and quantile by quantile."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

import numpy as np
from rich.text import Text

from lmfacts.quantities.value_figures import ValueFigures
from lmfacts.render.terminal.blocks import MARK, bar
from lmfacts.render.terminal.console import BULK, STANDOUT, paragraph, section
from lmfacts.render.terminal.notable import emphasis
from lmfacts.render.terminal.table import Column, NumberTable
from lmfacts.stats.shape import (
    NULL_TABLE,
    bimodality_coefficient,
    expected_max_abs_z,
    max_abs_z,
    shape_problem,
    shape_statistics,
    weibull,
)
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from lmfacts.quantities.weight_figures import WeightFigures
    from lmfacts.run.weight import WeightRecord
    from lmfacts.stats.distribution import Distribution

__all__ = ["WEIGHT_QUANTILES", "QuantileTable", "ShapeTable", "gaussian_quantiles"]

WEIGHT_QUANTILES: Final = (1e-4, 1e-3, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999)
"""The quantiles that are compared with a Gaussian's."""

_FARTHEST_Z: Final = 10.0
"""Where bars of |z| end."""

_LAWS: Final = {"Gaussian": 100, "logistic": 80, "Laplace": 70, "Student t5": 50}
"""The laws beside which a weight is shown, and how much each column matters."""

_ROWS: Final = {
    "weibull_k": "Weibull k",
    "tail_exponent": "tail exponent",
    "beyond_3": "share beyond 3 std",
    "beyond_6": "share beyond 6 std",
    "q999_over_q50": "99.9 % / median of |x|",
    "q9999_over_q50": "99.99 % / median of |x|",
    "std_over_mad": "std / std of the body (MAD)",
    "ks_mean_std": "KS to mean and std",
    "ks_median_mad": "KS to median and MAD",
}


class ShapeTable:
    """Moments and shape: the weight, the same after scaling, and laws that are known."""

    def __init__(self, figures: WeightFigures) -> None:
        """The section of a weight."""
        self.weight = figures.weight
        self.n_beyond_3 = figures.n_beyond_3

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        weight = self.weight
        samples = [weight.distribution]
        columns = [Column("", "left"), Column("weight" if weight.is_matrix else "vector")]
        if weight.is_matrix and weight.scaled.n:
            samples.append(weight.scaled.distribution)
            columns.append(Column("after scaling"))
        columns += [Column(name, keep=keep) for name, keep in _LAWS.items()]
        yield section(
            "Moments and shape",
            paragraph(self._caption()),
            Text(""),
            NumberTable(columns, self._rows(samples)),
            *self._problems(samples),
        )

    def _problems(self, samples: list[Distribution]) -> list[RenderableType]:
        """Why something has no number."""
        problem = shape_problem(samples[0]) if self.weight.is_matrix else None
        return [] if problem is None else [Text(""), paragraph(problem)]

    def _caption(self) -> str:
        if not self.weight.is_matrix:
            n = self.weight.n
            chance = numbers.number(math.sqrt(24 / n), 1)
            return (
                f"The excess kurtosis of {n:,} Gaussian values scatters by ± {chance}; a bimodality coefficient above "
                "0.6 hints at two modes."
            )
        return (
            "After scaling: columns, then rows, divided by their RMS; where that makes a Gaussian, the tails came from "
            "different scales. z is (x - mean) / std."
        )

    def _rows(self, samples: list[Distribution]) -> list[list[str | Text]]:
        rows: list[list[str | Text]] = []

        def add(name: str, cells: list[str | Text], laws: list[str] | None = None) -> None:
            rows.append([name, *cells, *(laws or [""] * len(_LAWS))])

        add("values", [numbers.count(sample.n) for sample in samples])
        add("mean", [numbers.number(sample.mean, 4) for sample in samples])
        add("std", [numbers.number(sample.std, 4) for sample in samples])
        add("smallest", [numbers.number(sample.min, 5) for sample in samples])
        add("largest", [numbers.number(sample.max, 5) for sample in samples])
        add("zeros", [numbers.count(sample.n_zero) for sample in samples])
        add("skewness", [numbers.signed(sample.standardized_moment(3), 4) for sample in samples], ["0"] * len(_LAWS))
        shapes = [shape_statistics(sample) for sample in samples]
        add(
            "excess kurtosis",
            [
                Text(numbers.signed(s.excess_kurtosis, 4), emphasis("excess_kurtosis", s.excess_kurtosis))
                for s in shapes
            ],
            [numbers.signed(NULL_TABLE[law].excess_kurtosis) for law in _LAWS],
        )
        found: list[str | Text] = []
        for sample in samples:
            largest = max_abs_z(sample)
            ratio = largest / expected_max_abs_z(sample.n) if sample.n > 1 else math.nan
            found.append(Text(numbers.number(largest, 4), emphasis("max_z_ratio", ratio)))
        add("largest |z|", found, [numbers.number(expected_max_abs_z(samples[0].n)), *[""] * (len(_LAWS) - 1)])
        if not self.weight.is_matrix:
            coefficient = bimodality_coefficient(samples[0])
            add(
                "bimodality",
                [Text(numbers.number(coefficient), emphasis("bimodality", coefficient))],
                ["0.333", "", "", ""],
            )
            expected = self.weight.n * NULL_TABLE["Gaussian"].beyond_3
            add("values beyond 3 std", [numbers.count(self.n_beyond_3)], [numbers.number(expected, 2), "", "", ""])
            return rows
        add(
            "Weibull lambda / std",
            [_ratio(weibull(sample).lambda_, sample.std) for sample in samples],
            ["0.888", "", "", ""],
        )
        for field, name in _ROWS.items():
            text = numbers.share if field.startswith("beyond") else numbers.number if field != "weibull_k" else _four
            add(
                name,
                [
                    Text(text(getattr(s, field)), emphasis(field, getattr(s, field)) if field == "weibull_k" else "")
                    for s in shapes
                ],
                [text(getattr(NULL_TABLE[law], field)) for law in _LAWS],
            )
        return rows


class QuantileTable:
    """Quantiles in stds of the body against those of a Gaussian, as numbers and as bars."""

    def __init__(self, weight: WeightRecord) -> None:
        """The section of a weight."""
        self.weight = weight

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        weight = self.weight
        quantiles = [q for q in WEIGHT_QUANTILES if weight.n * min(q, 1 - q) >= 1]
        normal = gaussian_quantiles(quantiles)
        raw = standardized_quantiles(weight, quantiles)
        columns = [
            Column("q"),
            Column("value", keep=80),
            Column("z"),
            Column("Gaussian z"),
            Column("/ Gaussian", keep=70),
        ]
        far = np.abs(np.concatenate([raw, normal]))
        top = min(float(far[np.isfinite(far)].max(initial=0.0)), _FARTHEST_Z)
        width = max(10, min(options.max_width - 52, 60))
        columns.append(Column("|z|", "left"))
        rows: list[list[str | Text]] = []
        for q, value, z, expected in zip(quantiles, weight.quantile(quantiles), raw, normal, strict=True):
            known = math.isfinite(z)
            ratio = f"{z / expected:.2f}x" if known and abs(expected) > 0.1 else ""  # noqa: PLR2004  not at the median
            rows.append(
                [
                    f"{q:g}",
                    numbers.number(float(value), 4),
                    f"{z:+.2f}" if known else "-",
                    f"{expected:+.2f}",
                    ratio,
                    _bar_and_mark(
                        abs(float(z)) / top if top else 0.0, abs(float(expected)) / top if top else 0.0, width
                    ),
                ]
            )
        yield section(
            "Quantiles beside a Gaussian's",
            paragraph(
                "z is the distance from the median in stds of the body (IQR / 1.349); dots: a Gaussian's. Bars end at "
                f"{_FARTHEST_Z:g}."
            ),
            Text(""),
            NumberTable(columns, rows),
        )


def gaussian_quantiles(quantiles: list[float]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Those of the standard Gaussian."""
    from scipy.special import ndtri  # noqa: PLC0415  slow to load

    return np.asarray(ndtri(np.asarray(quantiles)), dtype=np.float64).reshape(-1)


def standardized_quantiles(
    weight: WeightRecord, quantiles: list[float]
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Distance of quantiles from the median, in stds of the body."""
    figures = ValueFigures(weight)
    scale = figures.body_std if figures.body_std > 0 else math.nan
    return np.asarray((weight.quantile(quantiles) - figures.median) / scale, dtype=np.float64).reshape(-1)


def _bar_and_mark(fraction: float, mark: float, width: int) -> Text:
    """A bar with a dot."""
    drawn = Text(bar(fraction, width), style=BULK)
    if fraction > 1:
        drawn = drawn[: width - 1].append("▸", style=STANDOUT)
    drawn.pad_right(width - drawn.cell_len)
    place = min(int(mark * width), width - 1)
    result = drawn[:place].append(MARK, style=STANDOUT).append_text(drawn[place + 1 :])
    result.rstrip()
    return result


def _four(value: float) -> str:
    return numbers.number(value, 4)


def _ratio(above: float, below: float) -> str:
    return numbers.number(above / below) if below > 0 else "-"
