"""One site while it is recorded: its tap, its accumulators, and how the axes of its tensors are those of the tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from math import prod
from typing import TYPE_CHECKING, Any

from lmfacts import _native
from lmfacts.errors import LayoutError
from lmfacts.recording.cuda.streams import to_host
from lmfacts.run.state import SiteState
from lmfacts.sites import Site, SiteKind, is_module_pattern

if TYPE_CHECKING:
    import threading

    import torch
    from numpy.typing import NDArray

    from lmfacts.models import Tap
    from lmfacts.recording.cuda.passes import DevicePass, HostPass
    from lmfacts.recording.cuda.site_states import SiteStates

__all__ = ["Axes", "Channel"]

_HOST = "cpu"
"""The device type whose tensors are counted where they lie by the accumulators of the host."""


class _Fit(Enum):
    """What the leading axes of a tensor are."""

    BATCH_FIRST = "[batch, sequence], or their product"
    SEQUENCE_FIRST = "[sequence, batch]"
    LAST_COLUMNS = "[batch, the last columns of the sequence]"
    CHOSEN_COLUMNS = "[batch, columns that the call names]"
    SOME_TOKENS = "tokens of which it is not known which they are"


@dataclass
class Axes:
    """What the sites of a model have shown of the order of its axes.

    Attributes:
        has_sequence_first: whether the tensors of some site are [sequence, batch, dims].
    """

    has_sequence_first: bool = False


@dataclass
class Channel:
    """One tap, its accumulators, and how often it was recorded.

    Attributes:
        tap: where the values come from.
        accumulator: what the host has counted.
        on_devices: what devices have counted.
        axes: shared by all sites of the model.
        aliases: other sites whose tensor this is.
        by_path: whether it was asked for by a module's path, and not as a site.
        n_calls: calls of its module that were recorded.
        n_tokens: tokens that the host has counted.
        n_copies: tensors that were copied to the host.
        n_repeats: further calls within a pass, which are not counted.
        n_without_places: rows that were counted without being told which tokens they are.
        n_not_computed: tokens of passes in which the model computed only the values of the last columns.
        is_sequence_first: whether its tensors are [sequence, batch, dims]; None until a pass has shown it.
    """

    tap: Tap
    accumulator: _native.SiteAccumulator
    on_devices: SiteStates
    axes: Axes
    aliases: list[str] = field(default_factory=list)
    by_path: bool = field(init=False)
    n_calls: int = 0
    n_tokens: int = 0
    n_copies: int = 0
    n_repeats: int = 0
    n_without_places: int = 0
    n_not_computed: int = 0
    is_sequence_first: bool | None = None
    _n_dims: int | None = None
    _n_square: int = 0
    _n_queued: int = 0

    def __post_init__(self) -> None:
        """What every call of the hook asks is worked out once."""
        self.by_path = is_module_pattern(self.tap.site)
        self._has_logits = not self.by_path and Site.parse(self.tap.site).kind is SiteKind.LOGITS

    def update(
        self,
        tensor: torch.Tensor,
        begun: HostPass | DevicePass,
        lock: threading.RLock,
        kept: torch.Tensor | None = None,
    ) -> None:
        """Count the values of a pass.

        Args:
            tensor: the values; its leading axes are the pass's tokens.
            begun: the pass.
            lock: held while anything that other threads change, too, is changed.
            kept: the indices of the columns for which the model computes logits; None if it was given none.

        Raises:
            LayoutError: its axes are not those of the tokens, or its dims not those of the tensors before.
            UnsupportedDtypeError: a dtype that cannot be counted, or another than before.
            CudaError: the driver refuses.
        """
        if tensor.numel() == 0:  # nor does it say how many dims there are
            with lock:
                self.n_calls += 1
            return
        chosen = kept.cpu().numpy() if self._has_logits and kept is not None and kept.ndim == 1 else None
        fit = self._fit(tensor, begun.shape) if chosen is None else self._fit_of_chosen(tensor, begun.shape, chosen)
        if fit is _Fit.SEQUENCE_FIRST:
            tensor = tensor.transpose(0, 1)
        on_host = tensor.device.type == _HOST
        if not on_host and fit in (_Fit.BATCH_FIRST, _Fit.SEQUENCE_FIRST):
            with lock:
                if self.on_devices.update(tensor, begun):
                    self.n_calls += 1
                    self._n_queued += 1  # the device counts them too, and those of replayed graphs
                    return
        if not on_host:
            tensor = to_host(tensor)
        n_without_places = n_not_computed = 0
        if fit is _Fit.SOME_TOKENS:
            n_without_places = prod(tensor.shape[: -self.tap.dim_axes])
            tokens = _native.TokenBatch.without_places(n_without_places)
        elif fit is _Fit.LAST_COLUMNS or chosen is not None:
            computed = slice(begun.shape[1] - tensor.shape[1], None) if chosen is None else chosen
            tokens = begun.known().columns(computed)
            n_not_computed = begun.n_real - tokens.n_real
        else:
            tokens = begun.native
        self.accumulator.update(tensor, tokens)
        if self._n_dims is None and len(tokens):
            self._n_dims = tensor.numel() // len(tokens)
        with lock:
            self.n_copies += not on_host
            self.n_calls += 1
            self.n_tokens += tokens.n_real
            self.n_without_places += n_without_places
            self.n_not_computed += n_not_computed

    def _fit(self, tensor: torch.Tensor, shape: tuple[int, int]) -> _Fit:
        """What the leading axes of a tensor are, given those of the tokens, [B, S]."""
        sizes = tensor.shape
        n_rows, n_columns = shape
        n_leading = len(sizes) - self.tap.dim_axes
        if n_leading > 1 and sizes[0] == n_rows and sizes[1] == n_columns:
            if n_rows != n_columns:
                if n_rows > 1 and n_columns > 1:
                    self.is_sequence_first = False
            elif n_rows > 1:
                if self.is_sequence_first:
                    return _Fit.SEQUENCE_FIRST
                self._n_square += self.is_sequence_first is None
            return _Fit.BATCH_FIRST
        # In a pass of one column the first axis alone counts as many as the tokens, whatever the second is.
        is_flat = n_leading > 0 and sizes[0] == n_rows * n_columns
        if is_flat and (n_leading == 1 or self._n_dims in (None, prod(sizes[1:]))):
            if self.axes.has_sequence_first and n_rows > 1 and n_columns > 1:
                raise LayoutError(
                    f"a tensor of shape {tuple(sizes)} has its tokens along one axis, in a model where other sites are "
                    "[sequence, batch, dims]: their order is not known; record single sequences (a batch of 1)"
                )
            return _Fit.BATCH_FIRST
        if n_leading > 1 and sizes[0] == n_columns and sizes[1] == n_rows:
            self.axes.has_sequence_first |= n_rows > 1 and n_columns > 1
            if self._n_square and self.is_sequence_first is None:
                self.is_sequence_first = True
                raise LayoutError(
                    f"its axes turn out to be [sequence, batch, dims], but {self._n_square} passes before had as many "
                    "sequences as columns and were read as [batch, sequence, dims]; record this model with batches "
                    "that are not square"
                )
            self.is_sequence_first = True
            return _Fit.SEQUENCE_FIRST
        if self._has_logits and n_leading > 1 and sizes[0] == n_rows and sizes[1] < n_columns:
            return _Fit.LAST_COLUMNS
        if self.by_path and n_leading > 0:
            return _Fit.SOME_TOKENS
        raise LayoutError(
            f"expected leading axes [{n_rows}, {n_columns}] (batch, sequence), their product or [{n_columns}, "
            f"{n_rows}], got a tensor of shape {tuple(sizes)}; which of its values belong to which tokens is not known"
        )

    def _fit_of_chosen(self, tensor: torch.Tensor, shape: tuple[int, int], chosen: NDArray[Any]) -> _Fit:
        """The same where the call names the columns."""
        n_chosen = int(chosen.sum()) if chosen.dtype == bool else len(chosen)
        if tuple(tensor.shape[: -self.tap.dim_axes]) != (shape[0], n_chosen):
            raise LayoutError(
                f"expected leading axes [{shape[0]}, {n_chosen}] (batch, the columns that logits_to_keep names), got a "
                f"tensor of shape {tuple(tensor.shape)}; which of its values belong to which tokens is not known"
            )
        return _Fit.CHOSEN_COLUMNS

    def recorded(self) -> tuple[SiteState, dict[str, int]]:
        """The state, and how often and for how many tokens the hook fired. Waits for devices."""
        joined, on_devices = self.on_devices.join(self.accumulator)
        state = SiteState.from_native(joined.state())
        coverage = {
            "n_calls": self.n_calls + on_devices["n_calls"] - self._n_queued,
            "n_tokens": self.n_tokens + on_devices["n_tokens"],
            "n_copies": self.n_copies + self.on_devices.n_copies,
            "n_repeats": self.n_repeats,
        }
        return state, coverage

    @property
    def n_bytes(self) -> int:
        """Bytes that its accumulators hold."""
        return self.accumulator.n_bytes + self.on_devices.n_bytes

    def note(self) -> str | None:
        """What a reader of the run should know of how it was recorded, a sentence."""
        if self.n_without_places:
            return (
                f"{self.tap.site} sees only some of a pass's tokens, and not which: {self.n_without_places} rows are "
                "counted without their places, padding among them if there is any."
            )
        if self.n_not_computed:
            return f"{self.tap.site}: for {self.n_not_computed} tokens the model did not compute it."
        return None
