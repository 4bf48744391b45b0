"""Weights: every parameter of a checkpoint, streamed from its files one tensor at a time."""

from __future__ import annotations

import math
import platform
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

import lmfacts
from lmfacts import _native
from lmfacts.checkpoints import open_weights
from lmfacts.errors import ModelError, UsageError
from lmfacts.files.destination import check_destination, model_inputs
from lmfacts.models import WeightView, weight_views
from lmfacts.run import Run
from lmfacts.run.site import SiteRecord
from lmfacts.run.slices import Slices
from lmfacts.run.state import SiteState, array_of_native
from lmfacts.run.statistic import NO_MOMENTS
from lmfacts.run.statistics.dim_moments import DimMomentArrays
from lmfacts.scans.interruption import interruptible
from lmfacts.scans.saving import save_measured
from lmfacts.stats.float_values import float_values
from lmfacts.stats.singular_values import largest_singular_value, singular_values
from lmfacts.stats.spectrum import shuffled_edge

if TYPE_CHECKING:
    import os
    from collections.abc import Callable

    from numpy.typing import NDArray
    from torch import nn

    from lmfacts.checkpoints import StoredTensor, WeightSource
    from lmfacts.models import WeightLayout
    from lmfacts.run.weight import WeightRecord

__all__ = ["MEASURED_DTYPES", "scan_weights"]

MEASURED_DTYPES = ("float64", "float32", "bfloat16", "float16", "float8_e4m3fn", "float8_e5m2")
"""The dtypes whose values are measured; integers are listed and skipped."""

_AS_BITS = ("bfloat16", "float8_e4m3fn", "float8_e5m2")
"""Those that NumPy lacks: their bits are read as unsigned integers."""

_HEAVY_TAILS = 5.0
"""The excess kurtosis from which a few giant entries may push singular values over the Marchenko-Pastur edge."""

_LARGEST_SIDE = 4096
"""The largest smaller side of a matrix whose singular values are computed, unless another is asked for."""

_WRITING = ("W_O", "W_out")
"""The kinds of weights that write to the residual stream."""


def scan_weights(
    source: str | os.PathLike[str] | nn.Module,
    *,
    revision: str | None = None,
    spectra: int | bool = True,
    out: str | os.PathLike[str] | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Run[WeightRecord]:
    """Measure every parameter of a checkpoint, without building the model.

    One tensor is read at a time, so that memory does not grow with the size of the checkpoint. Tied weights are
    measured once.

    Args:
        source: a folder or hub id with safetensors or `.bin` files, a `.safetensors`, `.gguf`, `.bin` or `.pt` file,
            `demo`, or a model.
        revision: branch, tag or commit on the hub.
        spectra: compute singular values of matrices whose smaller side is at most this; True for 4096, False or 0 for
            none.
        out: where to write the run file, atomically: a new name or a regular file, and nothing that is read.
        progress: called after every tensor with the bytes read, the bytes in all, and the tensor's name.

    Raises:
        FileNotFoundError: there is no such file.
        ModelError: these are no weights that can be read, or a file is damaged.
        UsageError: `spectra` is negative.
        DestinationError: the run file cannot be written there; found before anything is read.
        UnsavedRunError: it could be when the scan began, and cannot be now; the error has the run as `run`.
    """
    largest_side = _LARGEST_SIDE if spectra is True else int(spectra)
    if largest_side < 0:
        raise UsageError(f"spectra: expected a number of at least 0, got {spectra}")
    if source == "":
        raise UsageError("source: expected a hub id, folder or file, got an empty name; is a variable not set?")
    if out is not None:
        check_destination(out, model_inputs(source))
    with interruptible() as interruption:
        with interruption.waiting(), open_weights(source, revision=revision) as opened:
            run = _Scan(opened, largest_side, progress or (lambda _done, _total, _name: None)).run()
        if out is not None:
            with interruption.saving():
                save_measured(run, out)
    return run


@dataclass
class _Scan:
    source: WeightSource
    spectra: int
    progress: Callable[[int, int, str], None]
    states: dict[str, SiteState] = field(default_factory=dict)
    entries: list[dict[str, Any]] = field(default_factory=list)
    arrays: dict[str, NDArray[Any]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    aliases: dict[str, list[str]] = field(default_factory=dict)
    gains: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    slices: Slices = field(default_factory=Slices)

    def run(self) -> Run[WeightRecord]:
        start = time.perf_counter()
        owned = [tensor for tensor in self.source.tensors if tensor.name not in self.source.tied]
        measured = [tensor for tensor in owned if self._can_be_measured(tensor)]
        layout = weight_views({tensor.name: tensor.shape for tensor in measured}, self.source.config or {})
        for alias, owner in self.source.tied.items():
            self.aliases.setdefault(owner, []).append(alias)
        views: dict[str, list[WeightView]] = {}
        for view in layout.views:
            views.setdefault(view.parameter, []).append(view)
        self._read_gains(measured, views, layout)
        self.slices = Slices({gain.size for gain in self.gains.values()})
        n_done = 0
        for tensor in owned:
            if tensor.name in views:
                self._measure(tensor, views[tensor.name], layout)
            n_done += tensor.n_bytes
            self.progress(n_done, self.source.n_bytes, tensor.name)
        if not self.entries:
            raise ModelError(f"{self.source.name}: expected parameters of a floating-point type, got none")
        self.arrays |= {f"{name}/slices": moments.ravel() for name, moments in self.slices.moments().items()}
        self.entries.sort(key=_depth)
        described = self.source.describe()
        metadata = {
            "kind": "weights",
            "model": {
                "id": self.source.name,
                "family": layout.family,
                "n_layers": layout.n_layers,
                "norm_kind": layout.norm_kind,
                "gain_offset": layout.gain_offset,
                "n_parameters": sum(entry["n_values"] for entry in self.entries),
                **described,
            },
            "settings": {"spectra": self.spectra},
            "notes": [*described.get("notes", []), *layout.notes],
            "sites": self.entries,
            "tied": dict(self.source.tied),
            "skipped": self.skipped,
            "machine": _machine(),
            "timing": {"wall_s": time.perf_counter() - start},
        }
        return Run(metadata, {entry["name"]: self.states[entry["name"]] for entry in self.entries}, self.arrays)

    # What is stored may be anything: overflow and NaN are part of the result.

    @np.errstate(invalid="ignore", over="ignore")
    def _read_gains(
        self, tensors: list[StoredTensor], views: dict[str, list[WeightView]], layout: WeightLayout
    ) -> None:
        """The norms' gains, which fold into the weights behind them; small, and needed before those."""
        wanted = set(layout.preceding_norm.values())
        for tensor in tensors:
            for view in views.get(tensor.name, []):
                if view.role in wanted:
                    gain = float_values(np.asarray(view(self.source.read(tensor))), tensor.dtype).astype(np.float64)
                    self.gains[view.role or ""] = gain + layout.gain_offset

    def _can_be_measured(self, tensor: StoredTensor) -> bool:
        """Whether it has values of a floating-point type; if not, the reason is kept."""
        reason = tensor.problem
        if reason is None and 0 in tensor.shape:
            reason = f"it has no values (shape {list(tensor.shape)})"
        elif reason is None and tensor.dtype not in MEASURED_DTYPES:
            is_float = tensor.dtype.startswith(("float", "complex"))
            why = "not one of those that are measured" if is_float else "not a floating-point type"
            reason = f"{tensor.dtype} is {why}"
        if reason is not None:
            self.skipped[tensor.name] = reason
        return reason is None

    @np.errstate(invalid="ignore", over="ignore")
    def _measure(self, tensor: StoredTensor, views: list[WeightView], layout: WeightLayout) -> None:
        if not views[0].is_parameter:
            self.skipped[tensor.name] = "it is a buffer, not a parameter"
            return
        array = self.source.read(tensor)
        for view in views:
            self._measure_part(tensor, view, view(array), layout)

    def _measure_part(self, tensor: StoredTensor, view: WeightView, values: NDArray[Any], layout: WeightLayout) -> None:
        is_matrix = values.ndim > 1
        n_rows = int(np.prod(values.shape[:-1])) if is_matrix else 1
        n_columns = values.shape[-1] if values.ndim else 1
        dtype = tensor.dtype if tensor.dtype in _AS_BITS else None
        given = values if is_matrix else values.reshape(1, -1)
        measured = _native.measure_matrix(given, n_rows, dtype=dtype, transposed=view.transposed)
        name = view.name
        state = SiteState.from_native(measured["values"])
        self.states[name] = state
        if is_matrix:
            self.arrays[f"{name}/row_means"] = array_of_native(measured["row_means"])
            self.arrays[f"{name}/row_rms"] = array_of_native(measured["row_rms"])
            sketch = array_of_native(measured["sketch"])
            if np.isfinite(sketch).all():  # sums of values near the end of float64's range may not be
                self.arrays[f"{name}/sketch"] = sketch
        if is_matrix and view.layer is not None:
            self.slices.add(name, values, tensor.dtype)
        no_scales = {
            "scaled_codes": np.empty(0, "<u2"),
            "scaled_counts": np.empty(0, "<u8"),
            "scaled_moments": np.array(NO_MOMENTS),
        }
        for array, nothing in no_scales.items():
            self.arrays[f"{name}/{array}"] = array_of_native(measured[array]) if is_matrix else nothing

        frobenius = float(np.sqrt(np.sum(_column_squares(state))))
        folded, scales = self._folded(view, state, n_rows, n_columns, layout)
        spectral_folded = shuffled = None
        if (
            is_matrix
            and min(n_rows, n_columns) <= self.spectra
            and np.isfinite(frobenius)
            and not _has_nonfinite(state)
        ):
            self.arrays[f"{name}/singular_values"] = singular_values(values, dtype=dtype)
            if SiteRecord(state).excess_kurtosis > _HEAVY_TAILS:
                shuffled = shuffled_edge(values, dtype=dtype)
            if scales is not None and np.isfinite(scales).all():
                matrix = float_values(values, tensor.dtype).reshape(n_rows, n_columns)
                # Scaled to at most 1, so that no product leaves the range of float32.
                exponent = math.frexp(float(np.abs(scales).max()))[1]
                small = np.ldexp(scales, -exponent).astype(matrix.dtype)
                folded_matrix = matrix * (small[:, None] if view.transposed else small[None, :])
                spectral_folded = _if_finite(math.ldexp(largest_singular_value(folded_matrix), exponent))
        shape = (n_columns, n_rows) if view.transposed else (n_rows, n_columns)
        tied = self.aliases.get(tensor.name, []) if view.part is None else []
        alias = [tensor.name] if view.part is None and name != tensor.name else []
        self.entries.append(
            {
                "name": name,
                "aliases": [*alias, *tied],
                "parameter": tensor.name,
                "part": view.part,
                "role": view.role,
                "weight_kind": view.kind,
                "layer": view.layer,
                "shape": list(shape) if is_matrix else [n_columns],
                "transposed": view.transposed,
                "stored_dtype": tensor.dtype,
                "quantization": tensor.quantization,
                "n_values": n_rows * n_columns,
                "n_nonfinite": int(DimMomentArrays(state.rest).dim_counts[0].sum()),
                "frobenius": _if_finite(frobenius),
                "frobenius_folded": _if_finite(frobenius if folded is None else folded),
                "spectral_folded": spectral_folded,
                "shuffled_edge": shuffled,
            }
        )

    def _folded(
        self, view: WeightView, state: SiteState, n_rows: int, n_columns: int, layout: WeightLayout
    ) -> tuple[float | None, NDArray[np.float64] | None]:
        """The folded Frobenius norm, and the factor of each input dim, where there are such."""
        moments = DimMomentArrays(state.rest).moments
        row_rms = self.arrays.get(f"{view.name}/row_rms")
        gain = self.gains.get(layout.preceding_norm.get(view.name, ""))
        if gain is not None and row_rms is not None:
            if view.transposed and gain.size == n_rows:
                return float(np.sqrt(np.sum((gain * row_rms) ** 2) * n_columns)), gain
            if not view.transposed and gain.size == n_columns:
                return float(np.sqrt(np.sum(gain**2 * _column_squares(state)))), gain
        if view.kind in _WRITING and layout.norm_kind == "layernorm" and row_rms is not None:
            if view.transposed:
                means = self.arrays[f"{view.name}/row_means"]
                return float(np.sqrt(np.sum(row_rms**2 - means**2) * n_columns)), None
            return float(np.sqrt(np.sum(moments[1]))), None
        return None, None


def _column_squares(state: SiteState) -> NDArray[np.float64]:
    """The sum of the squares of each column's finite values."""
    rest = DimMomentArrays(state.rest)
    n = state.rest.n_tokens - rest.dim_counts[0].astype(np.float64)
    return np.asarray(rest.moments[1] + n * rest.moments[0] ** 2)


def _if_finite(value: float) -> float | None:
    """A number for the metadata, which have no NaN: a NaN in a weight or in the gain that folds into it leaves none."""
    return value if np.isfinite(value) else None


def _has_nonfinite(state: SiteState) -> bool:
    return bool(DimMomentArrays(state.rest).dim_counts[0].any())


def _depth(entry: dict[str, Any]) -> tuple[int, int]:
    """Embeddings first, then block by block, then what comes after; in each the order of the file."""
    if entry["layer"] is not None:
        return 1, entry["layer"]
    kind = entry["weight_kind"] or ""
    return (0 if kind.startswith(("embed", "pos_embed")) else 2), 0


def _machine() -> dict[str, Any]:
    build = _native.build_info()
    return {
        "system": platform.platform(),
        "python": platform.python_version(),
        "lmfacts": lmfacts.__version__,
        "simd": build["simd"],
        "n_threads": build["n_threads"],
    }
