"""What a run can be of, and what follows from that: what its entries say, which records it has, how it is made.

A further kind is an entry of `KINDS`; what commands and reports do with it, each says by the kind's name.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from lmfacts.run.entries import SiteInfo, WeightInfo

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from lmfacts.run.record import Record
    from lmfacts.run.state import SiteState

__all__ = ["KINDS", "RunKind"]


@dataclass(frozen=True)
class RunKind:
    """One kind of run.

    Attributes:
        name: as it stands in the run file.
        noun: what one of its records is of.
        entry: what the run file says of each.
        record_class: module and name of the class of its records, loaded when one is first asked for: that of weights
            brings the fits of distributions and of spectra.
        reads_text: whether its values come from tokens, so that there are populations, sequences and positions.
        command: how a run of this kind is made, with `{model}` in place of the model.
    """

    name: str
    noun: str
    entry: type[SiteInfo]
    record_class: tuple[str, str]
    reads_text: bool
    command: str

    @property
    def populations(self) -> tuple[str, ...]:
        """The populations that can be asked for."""
        return ("all", "first", "rest") if self.reads_text else ("all",)

    def record(self, state: SiteState, entry: SiteInfo, arrays: Callable[[], Mapping[str, NDArray[Any]]]) -> Record:
        """One record.

        Args:
            state: its recorded state.
            entry: what the run says of it.
            arrays: gives the run's further arrays; called by kinds that have some.
        """
        module, name = self.record_class
        record: Record = getattr(import_module(module), name).of_entry(state, entry, arrays)
        return record


_SITE: Final = ("lmfacts.run.site", "SiteRecord")

KINDS: Final = {
    kind.name: kind
    for kind in (
        RunKind(
            name="activations",
            noun="site",
            entry=SiteInfo,
            record_class=_SITE,
            reads_text=True,
            command="lmfacts scan {model} -o activations.lmfacts",
        ),
        RunKind(
            name="weights",
            noun="weight",
            entry=WeightInfo,
            record_class=("lmfacts.run.weight", "WeightRecord"),
            reads_text=False,
            command="lmfacts weights {model} -o weights.lmfacts",
        ),
        RunKind(
            name="gradients",
            noun="site",
            entry=SiteInfo,
            record_class=_SITE,
            reads_text=True,
            command="lmfacts scan --gradients {model} -o gradients.lmfacts",
        ),
    )
}
"""Name -> kind."""
