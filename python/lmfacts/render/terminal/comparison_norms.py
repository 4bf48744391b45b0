"""How norms changed with depth: of the residual stream, and of the weights of each kind."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING, Final

import numpy as np
from rich.text import Text

from lmfacts.render.terminal.blocks import resample, sparkline
from lmfacts.render.terminal.comparison_sites import quiet, ratio_text
from lmfacts.render.terminal.console import BULK, paragraph, section
from lmfacts.render.terminal.depth_table import evenly
from lmfacts.render.terminal.table import Column, NumberTable
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult

    from lmfacts.comparison import Comparison, KindNormChange, NormChange

__all__ = ["NormsChanged"]

_MOST_ROWS: Final = 40
_LEAST: Final = 1e-3
"""Norms that agree within this share are not listed."""


class NormsChanged:
    """The section on norms by depth; a sentence where they are the same."""

    def __init__(self, comparison: Comparison) -> None:
        """The section of a comparison."""
        self.paired = comparison.paired
        self.norms = [norm for norm in comparison.norms if not any(math.isnan(mean_log) for mean_log in norm.mean_log)]
        self.weight_norms = comparison.weight_norms

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if self.norms:
            yield from self._residual()
        if self.weight_norms:
            yield from self._weights(options.max_width)

    def _residual(self) -> RenderResult:
        title = f"Norm of the residual stream by depth ({self.norms[-1].name.rsplit('.', 1)[-1]})"
        farthest = max(self.norms, key=lambda norm: (norm.counts, abs(math.log(norm.ratio))))
        if abs(math.log(farthest.ratio)) < _LEAST:
            yield section(title, paragraph(f"The same at every depth, within {100 * _LEAST:g} %."))
            return
        where = "before the first block" if farthest.label == "in" else f"at layer {farthest.label}"
        columns = [Column("layer"), Column("A"), Column("B"), Column("change")]
        columns += [] if self.paired else [Column("noise")]
        rows = [self._row(norm) for norm in evenly(self.norms, _MOST_ROWS)]
        yield section(
            title,
            paragraph(
                f"Geometric mean of the tokens' L2 norms. {self._most(f'{where}: {ratio_text(farthest.ratio)}')}"
            ),
            Text(""),
            NumberTable(columns, rows),
        )

    def _most(self, farthest: str) -> str:
        """Where the norm changed most, or how much of that different text may have done."""
        if self.paired:
            return f"It changed most {farthest}."
        if all(math.isnan(norm.noise) for norm in self.norms):
            return f"It differs most {farthest}; how much of that the text does is not known."
        n_changed = sum(norm.counts for norm in self.norms)
        if not n_changed:
            return "Within the noise of different text at every depth."
        return f"Beyond the noise of different text at {n_changed:,} of {len(self.norms):,} depths; most {farthest}."

    def _row(self, norm: NormChange) -> list[str | Text]:
        row = [norm.label, *(numbers.number(math.exp(mean)) for mean in norm.mean_log), ratio_text(norm.ratio)]
        if self.paired:
            return [*row]
        noise = "-" if math.isnan(norm.noise) else f"{numbers.number(100 * math.expm1(norm.noise), 2)} %"
        return [*row, noise] if norm.counts else quiet([*row, noise])

    def _weights(self, available: int) -> RenderResult:
        title = "Frobenius norms of the matrices by kind"
        ratios = {norm.kind: _ratios(norm.norms) for norm in self.weight_norms}
        folded = {norm.kind: _ratios(norm.folded) for norm in self.weight_norms}
        known = np.concatenate([*ratios.values(), *folded.values()])
        span = float(np.abs(np.log(known[known > 0])).max(initial=0.0))
        if span < _LEAST:
            yield section(title, paragraph(f"The same, raw and folded, within {100 * _LEAST:g} %."))
            return
        width = 16 if available < 100 else 32  # noqa: PLR2004  columns of the terminal
        columns = [
            Column("kind", "left"),
            Column("n", keep=40),
            Column("A", group="median"),
            Column("B", group="median"),
            Column("change by depth", "left"),
            Column("change", group="changed most"),
            Column("layer", group="changed most", keep=90),
            Column("folded", group="changed most", alone="folded", keep=80),
        ]
        rows = [
            self._kind_row(norm, ratios[norm.kind], folded[norm.kind], span, width)
            for norm in self.weight_norms
            if not (np.all(ratios[norm.kind] == 1) and np.all(folded[norm.kind] == 1))
        ]
        yield section(
            title,
            paragraph(
                f"Sparklines share a logarithmic scale: B over A from {ratio_text(math.exp(-span))} to "
                f"{ratio_text(math.exp(span))}. Folded: with the norm before or after the matrix taken in. Kinds "
                "without a change are left out."
            ),
            Text(""),
            NumberTable(columns, rows),
        )

    @staticmethod
    def _kind_row(
        norm: KindNormChange, ratios: np.ndarray, folded: np.ndarray, span: float, width: int
    ) -> list[str | Text]:
        logs = np.log(np.where(ratios > 0, ratios, np.nan))
        finite = np.isfinite(logs)
        place = int(np.argmax(np.where(finite, np.abs(logs), -1.0)))
        layer = norm.layers[place]
        sides = [statistics.median(pair[side] for pair in norm.norms) for side in (0, 1)]
        return [
            norm.kind,
            str(len(norm.norms)),
            *(numbers.number(side) for side in sides),
            Text(sparkline(resample(logs, width), -span, span), style=BULK),
            ratio_text(float(ratios[place])),
            "" if layer is None else str(layer),
            ratio_text(_farthest(folded)),
        ]


def _ratios(norms: tuple[tuple[float, float], ...]) -> np.ndarray:
    """B over A of each; NaN where that has no meaning."""
    a, b = np.array(norms, dtype=np.float64).T
    with np.errstate(all="ignore"):
        return np.where((a > 0) & np.isfinite(a) & np.isfinite(b), b / a, np.where(a == b, 1.0, np.nan))


def _farthest(ratios: np.ndarray) -> float:
    good = ratios[ratios > 0]
    return float(good[np.abs(np.log(good)).argmax()]) if good.size else math.nan
