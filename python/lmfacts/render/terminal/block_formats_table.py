"""What formats of blocks cost the inputs of matrices: signal to quantization noise of each kind, over the layers."""

from __future__ import annotations

import math
import statistics
from typing import TYPE_CHECKING

from rich.text import Text

from lmfacts.quantities.of_sites import OF_BLOCK_FORMATS
from lmfacts.render.terminal.console import paragraph, section
from lmfacts.render.terminal.table import Column, NumberTable

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from rich.console import Console, ConsoleOptions, RenderResult

    from lmfacts.quantities.quantity import Quantity
    from lmfacts.quantities.site_figures import SiteFigures
    from lmfacts.render.terminal.kinds_table import SiteGroup

__all__ = ["BlockFormatsTable"]


class BlockFormatsTable:
    """The section of the summary on formats of blocks, or nothing where values were not counted by blocks."""

    def __init__(self, groups: Sequence[SiteGroup], population: str) -> None:
        """The table of sites by kind.

        Args:
            groups: the kinds of sites.
            population: the population whose figures they have.
        """
        self.population = population
        self.decibels = {
            (group.name, quantity.key): by_layer
            for group in groups
            for quantity in OF_BLOCK_FORMATS
            if (by_layer := _by_layer(group.figures, quantity))
        }

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if not self.decibels:
            return
        formats = [q.key for q in OF_BLOCK_FORMATS if any(key == q.key for _, key in self.decibels)]
        columns = [Column("kind", "left", shrink_to=34, cut="start"), Column("sites", keep=85)]
        for key in formats:
            name = key.removesuffix("_snr").upper()
            columns += [
                Column("lowest", group=name),
                Column("layer", group=name, keep=90),
                Column("median", group=name, keep=80),
                Column("highest", group=name, keep=70),
            ]
        kinds = list(dict.fromkeys(kind for kind, _ in self.decibels))
        yield section(
            "Inputs of matrices in formats of blocks",
            paragraph(
                "Signal to quantization noise in dB, over the layers, of values rounded to 4 bits with a scale for "
                f"each block, {'without position 0' if self.population == 'rest' else 'all tokens'}. "
                "10 dB more is a tenth of the noise's power."
            ),
            Text(""),
            NumberTable(columns, [self._row(kind, formats) for kind in kinds]),
        )

    def _row(self, kind: str, formats: Sequence[str]) -> list[str | Text]:
        by_format = [self.decibels.get((kind, key), {}) for key in formats]
        row: list[str | Text] = [kind, str(max(map(len, by_format)))]
        for by_layer in by_format:
            known = {layer: value for layer, value in by_layer.items() if not math.isnan(value)}
            if not known:
                row += ["-", "-", "-", "-"]
                continue
            lowest, highest = min(known.values()), max(known.values())
            layer = next(label for label, value in known.items() if value == lowest)
            row += [f"{lowest:.1f}", layer or "-", f"{statistics.median(known.values()):.1f}", f"{highest:.1f}"]
        return row


def _by_layer(figures: Mapping[str, SiteFigures], quantity: Quantity) -> dict[str, float]:
    """A quantity of each site that has it, by the site's label."""
    values = {label: quantity.compute(of_site) for label, of_site in figures.items()}
    return {label: float(value) for label, value in values.items() if value is not None}
