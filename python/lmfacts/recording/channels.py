"""All sites that a recorder records."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from lmfacts import _native
from lmfacts.errors import UsageError
from lmfacts.recording.channel import Axes, Channel
from lmfacts.recording.chosen_taps import chosen_taps, is_along_depth
from lmfacts.recording.cuda.site_states import SiteStates, places_in
from lmfacts.recording.cuda.streams import Scratch
from lmfacts.run.statistic import Sites
from lmfacts.run.statistics import STATISTICS
from lmfacts.run.statistics.value_blocks import VALUE_BLOCKS
from lmfacts.sites import detail_sites, is_matrix_input

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import torch
    from torch import nn

    from lmfacts.models import Architecture, Tap
    from lmfacts.recording.cuda.streams import Order
    from lmfacts.recording.token_context import Place
    from lmfacts.run.statistic import Statistic

__all__ = ["Channels", "PlacesOnDevices", "open_channels"]

PlacesOnDevices = dict[str, list[tuple[_native.DeviceSite, "torch.Tensor"]]]
"""For each site of the residual stream, copies of where its largest values stood on devices at some moment."""


@dataclass(frozen=True)
class Channels:
    """One channel for each recorded site.

    Attributes:
        by_site: in depth order, then modules by their paths; without aliases.
    """

    by_site: Mapping[str, Channel]

    @property
    def taps(self) -> list[Tap]:
        """Where the values are found."""
        return [channel.tap for channel in self.by_site.values()]

    @property
    def silent(self) -> tuple[str, ...]:
        """Sites whose hook has not fired."""
        return tuple(site for site, channel in self.by_site.items() if channel.n_calls == 0)

    @property
    def n_bytes(self) -> int:
        """Bytes that the accumulators hold."""
        return sum(channel.n_bytes for channel in self.by_site.values())

    def notes(self) -> list[str]:
        """What a reader of the run should know of how sites were recorded, a sentence each."""
        return [note for channel in self.by_site.values() if (note := channel.note()) is not None]

    def describe(self) -> list[dict[str, Any]]:
        """What the run file has under `sites`."""
        return [
            {"name": site, "aliases": channel.aliases, "module_path": f"{channel.tap.module_path}:{channel.tap.side}"}
            for site, channel in self.by_site.items()
        ]

    def outlier_places(self, sequence: int, on_devices: PlacesOnDevices | None = None) -> Iterator[Place]:
        """Where the largest values of the residual stream stand, from a sequence on.

        Args:
            sequence: the first sequence of which this is asked.
            on_devices: what `outlier_places_arriving` gave, arrived meanwhile; without it, devices are waited for.
        """
        for site, channel in self._along_depth():
            yield from channel.accumulator.outlier_places_from(sequence)
            if on_devices is None:
                yield from channel.on_devices.places_from(sequence)
            else:
                yield from places_in(on_devices[site], sequence)

    def outlier_places_arriving(self) -> PlacesOnDevices:
        """Where the largest values of the residual stream stand on devices now, copied without waiting."""
        return {site: channel.on_devices.places_arriving() for site, channel in self._along_depth()}

    def _along_depth(self) -> Iterator[tuple[str, Channel]]:
        return ((site, channel) for site, channel in self.by_site.items() if is_along_depth(site))


def open_channels(
    model: nn.Module,
    architecture: Architecture,
    sites: str | Sequence[str] | Callable[[str], bool],
    order: Order,
    *,
    k: int,
    threshold: float,
    blocks_of: Sequence[int] = (),
) -> Channels:
    """A channel for each tensor that is asked for, with nothing recorded yet.

    Args:
        model: the model.
        architecture: where its sites are.
        sites: as `lmfacts.attach` takes them.
        order: that of all that is queued on devices.
        k: how many of the largest values to keep of each site and population.
        threshold: magnitude at or above which values are counted in each dim.
        blocks_of: sizes of the blocks of values that are counted with their largest at the inputs of matrices.

    Raises:
        UsageError: blocks are asked for, and no input of a matrix is among the sites.
    """
    wanted = _with_blocks_of(blocks_of)
    in_detail = detail_sites(architecture.n_layers)
    by_site, scratch, axes = {}, Scratch(), Axes()
    for tap in chosen_taps(model, architecture, sites):
        along_depth = is_along_depth(tap.site)
        groups = {
            Sites.EVERY: True,
            Sites.STREAM: along_depth,
            Sites.DETAIL: tap.site in in_detail,
            Sites.MATRIX_INPUTS: is_matrix_input(tap.site),
        }
        kept = [name for name, statistic in wanted.items() if statistic.is_option and groups[statistic.sites]]
        options: dict[str, Any] = {"k": k, "threshold": float(threshold), "statistics": kept}
        accumulator, on_devices = _native.SiteAccumulator(**options), SiteStates(order, scratch, options)
        by_site[tap.site] = Channel(tap, accumulator, on_devices, axes)
    if blocks_of and not any(map(is_matrix_input, by_site)):
        raise UsageError(
            "blocks_of: expected sites that are inputs of matrices (ln1_out, z, ln2_out, mlp_post, final_norm_out, "
            f"PATH:in), got {', '.join(list(by_site)[:3])}; record some of these too"
        )
    for alias, owner in architecture.aliases.items():
        if owner in by_site:
            by_site[owner].aliases.append(alias)
    return Channels(by_site)


def _with_blocks_of(sizes: Sequence[int]) -> dict[str, type[Statistic]]:
    """The statistics that a scan records, by name: those of blocks of values only of these sizes."""
    left_out = {statistic for size, statistic in VALUE_BLOCKS.items() if size not in sizes}
    return {name: statistic for name, statistic in STATISTICS.items() if statistic not in left_out}
