"""One parameter of a model, or one part of a fused one: its values, its scales, its spectrum."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from lmfacts.run.entries import WeightInfo
from lmfacts.run.record import Record
from lmfacts.run.weight_arrays import N_SLICE_FIELDS, arrays_of
from lmfacts.stats.codes import is_exact
from lmfacts.stats.distribution import Distribution
from lmfacts.stats.moments import Moments
from lmfacts.stats.shape import (
    ShapeStatistics,
    Weibull,
    expected_max_abs_z,
    max_abs_z,
    shape_statistics,
    weibull,
)
from lmfacts.stats.spectrum import Spectrum

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from lmfacts.run.entries import SiteInfo
    from lmfacts.run.state import SiteState

__all__ = ["ScaledWeights", "WeightRecord"]


@dataclass(frozen=True, eq=False)
class ScaledWeights:
    """What is left of a matrix when its columns, then its rows, were divided by their root mean squares.

    Rows and columns that are all zero or hold a NaN or an infinity have no scale and are left out. The scaled values
    are rounded to float32 before they are counted.

    Attributes:
        distribution: the scaled values.
        moments: their moments (0-d).
    """

    distribution: Distribution
    moments: Moments

    @property
    def n(self) -> int:
        """Number of scaled values."""
        return int(self.moments.n)

    @property
    def excess_kurtosis(self) -> float:
        """Fourth standardized moment less 3; NaN without values."""
        return float(self.moments.excess_kurtosis)

    @property
    def max_abs_z(self) -> float:
        """Largest distance from the mean, in standard deviations."""
        return max_abs_z(self.distribution)

    @cached_property
    def weibull(self) -> Weibull:
        """The Weibull law of |x| (FACTS: k is 1.205 for a Gaussian)."""
        return weibull(self.distribution)


class WeightRecord(Record):
    """Statistics of one weight: those of all its values, and those of a matrix.

    In the arrays below a row is an output dim and a column an input dim, however the checkpoint stores them.

    Attributes:
        parameter: the parameter's Hugging Face name.
        part: which part of a fused parameter it is, or None.
        role: the name by role (`blocks.3.W_O`), or None.
        kind: the role without its block (`W_O`), or None.
        layer: the block, or None.
        shape: [out, in] of a matrix, [n] of a vector.
        stored_dtype: what the checkpoint stores; for quantized tensors the type is in `quantization`.
        quantization: GGUF's name of the quantization, or None.
        frobenius: root of the sum of squares of the finite values.
        frobenius_folded: for weights that read the residual stream, the same after multiplying each input dim by the
            gain of the norm before it; for weights that write to it in models with LayerNorm, after centering over the
            output dims, as the next norm does; the plain one otherwise.
        spectral_folded: largest singular value of the folded matrix; None where the spectrum was not computed.
        shuffled_edge: largest singular value of the same entries in random places (with 5 % of margin), measured where
            the excess kurtosis is above 5 and the Marchenko-Pastur edge therefore cannot be trusted; None elsewhere.
    """

    def __init__(self, state: SiteState, entry: WeightInfo, arrays: Mapping[str, NDArray[Any]]) -> None:
        """From a run.

        Args:
            state: the values, every stored row a token.
            entry: the weight's entry in the run's metadata.
            arrays: the run's further arrays, those of this weight under `NAME/FIELD`.
        """
        super().__init__(state, (state.rest,), name=entry.name, aliases=entry.aliases, note=entry.note)
        self.parameter = entry.parameter
        self.part = entry.part
        self.role = entry.role
        self.kind = entry.weight_kind
        self.layer = entry.layer
        self.shape = tuple(entry.shape)
        self.stored_dtype = entry.stored_dtype
        self.quantization = entry.quantization
        self.frobenius = _number(entry.frobenius)
        self.frobenius_folded = _number(entry.frobenius_folded)
        self.spectral_folded = entry.spectral_folded
        self.shuffled_edge = entry.shuffled_edge
        self._transposed = entry.transposed
        self._arrays = arrays

    @classmethod
    def of_entry(cls, state: SiteState, entry: SiteInfo, arrays: Callable[[], Mapping[str, NDArray[Any]]]) -> Self:
        """From what a run says of the weight."""
        assert isinstance(entry, WeightInfo)  # a run of weights has no others
        return cls(state, entry, arrays())

    def __getstate__(self) -> dict[str, Any]:
        """For `pickle` and `copy`: of the run's further arrays, those of this weight."""
        own = {f"{self.name}/{field}": array for field, array in arrays_of(self.name, self._arrays).items()}
        return {**vars(self), "_arrays": own}

    def _array(self, field: str) -> NDArray[Any]:
        return self._arrays.get(f"{self.name}/{field}", np.empty(0))

    def __repr__(self) -> str:
        """Name, parameter and shape, and what a site says of its values."""
        shape = " x ".join(f"{n:,}" for n in self.shape)
        named = self.name if self.name == self.parameter else f"{self.name} ({self.parameter})"
        head = f"WeightRecord {named}, {shape}, {self.stored_dtype}"
        return "\n".join([head, *self._figures()]) if self.n else f"{head}, no finite values"

    @property
    def is_matrix(self) -> bool:
        """Whether it has rows and columns."""
        return len(self.shape) > 1

    @property
    def exact(self) -> bool:
        """Whether quantiles, histograms and moments of every order are exact: of vectors, and of 16-bit matrices."""
        return not self.is_matrix or super().exact

    @cached_property
    def distribution(self) -> Distribution:
        """The distribution behind the statistics; of a vector that of its entries, all of which are known."""
        codes, counts = self.codes()
        if self.is_matrix or is_exact(self.dtype):
            return super().distribution
        counted = Distribution(codes, counts, self.dtype)
        entries = self.dims.mean
        finite = entries[np.isfinite(entries)]
        return Distribution.of_values(finite, self.dtype, n_nan=counted.n_nan, n_inf=counted.n_inf)

    @cached_property
    def _stored_column_rms(self) -> NDArray[np.float64]:
        return self.dims.rms

    @property
    def row_rms(self) -> NDArray[np.float64]:
        """Root mean square of the weights of each output dim, float64 [out]; empty for vectors."""
        if not self.is_matrix:
            return np.empty(0)
        return self._stored_column_rms if self._transposed else self._array("row_rms")

    @property
    def column_rms(self) -> NDArray[np.float64]:
        """Root mean square of the weights of each input dim, float64 [in]; empty for vectors."""
        if not self.is_matrix:
            return np.empty(0)
        return self._array("row_rms") if self._transposed else self._stored_column_rms

    @cached_property
    def largest(self) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
        """The finite values of largest magnitude, largest first, with their rows and columns; a vector is one row."""
        values, index = self._largest
        stored_rows, stored_columns = index[:, 1] - 1, index[:, 2]
        rows, columns = (stored_columns, stored_rows) if self._transposed else (stored_rows, stored_columns)
        return values, rows, columns

    @property
    def max_abs_z(self) -> float:
        """Largest |x - mean| / std."""
        return max_abs_z(self.distribution)

    @property
    def expected_max_abs_z(self) -> float:
        """What `max_abs_z` is expected to be for as many independent Gaussian values."""
        return expected_max_abs_z(self.n)

    @cached_property
    def weibull(self) -> Weibull:
        """The Weibull law that fits the body of |x| (k is 1.205 for a Gaussian)."""
        return weibull(self.distribution)

    @cached_property
    def distribution_shape(self) -> ShapeStatistics:
        """How far the distribution is from a Gaussian, by several measures."""
        return shape_statistics(self.distribution)

    @cached_property
    def scaled(self) -> ScaledWeights:
        """The same after dividing columns, then rows, by their RMS; without values for vectors."""
        n, mean, m2, m3, m4, least, greatest = (np.asarray(value) for value in self._array("scaled_moments"))
        moments = Moments(n, mean, m2, m3, m4, least, greatest)
        codes, counts = self._array("scaled_codes"), self._array("scaled_counts")
        return ScaledWeights(Distribution(codes, counts, "float32", moments), moments)

    @property
    def slices(self) -> NDArray[np.float64]:
        """Number of values, third and fourth standardized moment of a few rows and columns by themselves: [n, 3].

        Of matrices inside the blocks; empty for others, and in runs of earlier versions.
        """
        return self._array("slices").reshape(-1, N_SLICE_FIELDS)

    @property
    def singular_values(self) -> NDArray[np.float64] | None:
        """float64 [min(out, in)], descending; None where they were not computed."""
        values = self._array("singular_values")
        return values if values.size else None

    @property
    def sketch(self) -> NDArray[np.float64] | None:
        """The count sketch of the finite values, float64 [4096]; None for vectors and in runs that were made without.

        `lmfacts.stats.count_sketch` says what it tells. Values that are not finite (`n_nan`, `n_inf`) are left out.
        """
        values = self._array("sketch")
        return values if values.size else None

    @property
    def spectral(self) -> float | None:
        """The largest singular value; None where they were not computed."""
        values = self.singular_values
        return None if values is None else float(values[0])

    @cached_property
    def spectrum(self) -> Spectrum | None:
        """What follows from the singular values; None where they were not computed."""
        values = self.singular_values
        return None if values is None else Spectrum(values, (self.shape[0], self.shape[1]), self.frobenius)


def _number(value: float | None) -> float:
    """A number of the metadata, which hold null for NaN."""
    return math.nan if value is None else value
