"""The spectrum of one matrix: drawn, in numbers, and its fits."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from rich.text import Text

from lmfacts.render.terminal.console import STANDOUT, paragraph, section
from lmfacts.render.terminal.run_header import LabeledLines
from lmfacts.render.terminal.spectrum_plot import SpectrumPlot
from lmfacts.render.terminal.table import Column, NumberTable
from lmfacts.stats.singular_values import gaussian_singular_values
from lmfacts.stats.spectrum import gaussian_null_slope, weightwatcher
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from lmfacts.run.weight import WeightRecord
    from lmfacts.stats.spectrum import Spectrum, WindowFit

__all__ = ["SpectrumSection"]


class SpectrumSection:
    """The section on the spectrum of a matrix that is not all zero."""

    def __init__(self, weight: WeightRecord, spectrum: Spectrum) -> None:
        """The section of a weight."""
        self.weight = weight
        self.spectrum = spectrum

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        rows, columns = self.weight.shape
        sigma = self.spectrum.frobenius / math.sqrt(rows * columns)
        null = sigma * gaussian_singular_values(rows, columns)
        yield section(
            "Spectrum",
            paragraph(
                "Singular values by rank, both logarithmic. ",
                Text("Dots", style=STANDOUT),
                ": a random Gaussian matrix of the same shape and norm; edge: sigma (sqrt m + sqrt n), where such a "
                "spectrum ends (Marchenko-Pastur).",
            ),
            Text(""),
            SpectrumPlot(self.spectrum, null),
            Text(""),
            LabeledLines(self._numbers()),
            Text(""),
            self._windows(),
            paragraph(
                "Slope of ln s on ln rank; R2 of that line, and of ln s on rank. A straight line is no evidence of a "
                "power law: a random Gaussian matrix has one too."
            ),
        )

    def _numbers(self) -> list[tuple[str, str | Text]]:
        weight, spectrum = self.weight, self.spectrum
        size = min(weight.shape)
        folded = ""
        if weight.frobenius_folded != weight.frobenius:
            folded = f" · folded {numbers.number(weight.frobenius_folded, 4)}"
        largest = f" · folded {numbers.number(weight.spectral_folded, 4)}" if weight.spectral_folded is not None else ""
        fit = weightwatcher(spectrum.values)
        alpha = "no fit"
        if not math.isnan(fit.alpha):
            alpha = (
                f"{fit.alpha:.2f} ± {fit.sigma:.2f} ({fit.label}) · D {fit.distance:.3f} · "
                f"{fit.n_tail:,} of {spectrum.values.size:,} eigenvalues from {numbers.number(fit.xmin)} up · "
                f"alpha log10(largest) {fit.alpha_weighted:.2f}"
            )
        alpha += f" · {fit.warning}" if fit.warning else ""
        return [
            ("Frobenius norm", f"{numbers.number(weight.frobenius, 4)}{folded}"),
            ("largest", f"{numbers.number(spectrum.spectral_norm, 4)}{largest}"),
            ("edge", _beside(spectrum, spectrum.marchenko_pastur_edge, size)),
            *self._shuffled(),
            ("stable rank", f"{_of(spectrum.stable_rank, size)} · ||W||_F^2 / s1^2"),
            (
                "effective rank",
                f"{_of(spectrum.effective_rank, size)} · exp entropy of s^2; of s: {_of(spectrum.rank_me, size)}",
            ),
            ("participation", f"{_of(spectrum.participation_ratio, size)} · (sum s^2)^2 / sum s^4"),
            ("alpha", alpha),
        ]

    def _shuffled(self) -> list[tuple[str, str | Text]]:
        """The edge of the same entries in random places, where heavy tails made it worth measuring."""
        if self.weight.shuffled_edge is None:
            return []
        beside = _beside(self.spectrum, self.weight.shuffled_edge, min(self.weight.shape))
        return [("shuffled edge", f"{beside} · the same entries in random places, which heavy tails call for")]

    def _windows(self) -> NumberTable:
        columns = [
            Column("window", "left"),
            Column("ranks"),
            Column("slope"),
            Column("random matrix"),
            Column("power", group="R2", alone="R2 power"),
            Column("exponential", group="R2"),
            Column("first", group="slope of the halves", keep=60),
            Column("second", group="slope of the halves", keep=60),
        ]
        return NumberTable(
            columns,
            [self._window(name, fit) for name, fit in (("head", self.spectrum.head), ("body", self.spectrum.body))],
        )

    def _window(self, name: str, fit: WindowFit) -> list[str | Text]:
        rows, columns = self.weight.shape
        better = fit.r2_power > fit.r2_exponential
        return [
            name,
            f"{fit.first:,}-{fit.last:,}",
            numbers.signed(fit.slope),
            numbers.signed(gaussian_null_slope(rows, columns, (fit.first, fit.last))),
            Text(_fixed(fit.r2_power), style="bold" if better else ""),
            Text(_fixed(fit.r2_exponential), style="" if better else "bold"),
            numbers.signed(fit.slope_first_half),
            numbers.signed(fit.slope_second_half),
        ]


def _beside(spectrum: Spectrum, edge: float, size: int) -> str:
    above = spectrum.n_above(edge)
    largest = f"largest is {numbers.number(spectrum.spectral_norm / edge)}x"
    return f"{numbers.number(edge, 4)} · {largest} · {above:,} above ({numbers.percent(above / size)} of {size:,})"


def _of(value: float, size: int) -> str:
    return f"{numbers.number(value)} ({numbers.percent(value / size)} of {size:,})" if size else "-"


def _fixed(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
