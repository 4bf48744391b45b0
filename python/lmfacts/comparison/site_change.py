"""What changed at one site, and the one number that says how much.

The effect of a site is the largest of these differences. Each is a number without a unit that is 0 where nothing
changed; 0.01 stands for one percent.

| key | difference |
|---|---|
| `levy` | Levy distance: a share e of the values moved by more than e standard deviations |
| `wasserstein` | Wasserstein-1 distance: the mean distance that values moved, in A's standard deviations |
| `mean` | change of the mean in A's standard deviations |
| `std` | ln(std of B / std of A) |
| `dim_scale` | largest ln(RMS in B / RMS in A) of a dim; of matrices `output_dim_scale`, `input_dim_scale` |
| `dim_mean` | largest change of a dim's mean in units of the dim's RMS; activations only |
| `nonfinite` | 1 if only one run has NaN, or only one has infinities; else the difference of their shares |
| `relative_change` | of weights: norm of B - A over norm of A; `known` says how it is known |
| `spectral` | ln(spectral norm of B / of A) of matrices |

The first four see the values pooled, the next two see single dims. Of a vector of weights all values are kept, and
its effect is its relative change alone (1 where A is all zero and B is not). Excess kurtosis and the largest value are
given beside the effect and are no part of it: they hang on a handful of values.

A difference counts only above its resolution, which is what storing the same values in two different dtypes can do by
itself: for scales and means the sum of the dtypes' unit roundoffs (2^-8 of bfloat16), for distances see `Distances`.
Between runs of one dtype it is next to 0, for the last bits of sums only: what was recorded differs, however little.

Runs of different text differ by chance as well. There a difference counts only above its resolution and its noise
together, the noise being the size that it stays below where nothing changed (`lmfacts.comparison.noise`), and what
counts is its excess, size less noise. A difference whose noise is not known cannot be judged and does not count. Runs
that read the same text, and runs of weights, have no noise, and the excess is the whole size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from lmfacts.comparison.dim_change import DimChange, change_of_dims
from lmfacts.comparison.matching import kind_and_layer, without_numbers
from lmfacts.comparison.weight_change import WeightChange, change_of_weight, dims_of_weights
from lmfacts.run.site import SiteRecord
from lmfacts.run.weight import WeightRecord
from lmfacts.stats.distances import Distances, distances
from lmfacts.stats.ratios import in_units, log_magnitude, ratio

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lmfacts.run.record import Record

__all__ = ["Difference", "SiteChange", "change_of_record", "rounding"]

_UNIT_ROUNDOFF: Final = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
    "float8_e4m3fn": 2.0**-4,
    "float8_e5m2": 2.0**-3,
}
"""The largest relative error of rounding to nearest."""

_SUMS: Final = 1e-10
"""What the order of summation may do to a moment of activations; promised is 1e-12."""

_SUMS_OF_WEIGHTS: Final = 1e-6
"""The same for weights, whose products are formed in float32, and for singular values."""

_LABELS: Final = {
    "levy": "Levy distance",
    "wasserstein": "Wasserstein distance",
    "dim_scale": "scale of dim",
    "output_dim_scale": "scale of output dim",
    "input_dim_scale": "scale of input dim",
    "dim_mean": "mean of dim",
    "nonfinite": "NaN or infinities",
    "relative_change": "relative change",
    "spectral": "spectral norm",
}


@dataclass(frozen=True)
class Difference:
    """One of the numbers that an effect is the largest of.

    Attributes:
        key: which, as in the table above.
        size: its magnitude; 0 where nothing changed, NaN where it has no meaning.
        resolution: what rounding can do by itself.
        dim: the dim it was found at, or None.
        noise: what different text does by chance; 0 where both runs read the same, NaN where it is not known.
        known: of a relative change, `estimated` or `at least` where it is not exact (see `WeightChange`).
    """

    key: str
    size: float
    resolution: float = 0.0
    dim: int | None = None
    noise: float = 0.0
    known: str | None = None

    @property
    def judged(self) -> bool:
        """Whether it is known what different text does to it."""
        return not math.isnan(self.noise)

    @property
    def counts(self) -> bool:
        """Whether it is larger than rounding and different text can make it; never where it cannot be judged."""
        return self.size > self.resolution + self.noise

    @property
    def excess(self) -> float:
        """What of it different text does not explain: size less noise where it counts, else 0."""
        return self.size - self.noise if self.counts else 0.0

    @property
    def label(self) -> str:
        """In words: `scale of dim 447`."""
        label = _LABELS.get(self.key, self.key)
        if self.known is not None:
            return f"estimated {label}" if self.known == "estimated" else f"{label}, {self.known}"
        return label if self.dim is None else f"{label} {self.dim}"


@dataclass(frozen=True)
class SiteChange:
    """What changed at one site from run A to run B. Numbers are NaN where they have no meaning.

    Attributes:
        name: its name in A.
        name_b: its name in B.
        kind: the site's kind (`resid_post`), or the weight's (`W_O`).
        layer: the block, or None.
        dtypes: dtypes of the values in A and B.
        n_values: number of finite values in A and B.
        n_nonfinite: number of NaN and infinities in A and B.
        distances: between the distributions.
        mean_shift: (mean of B - mean of A) / std of A.
        std_ratio: std of B / std of A; 1 where both are 0.
        excess_kurtosis: of A and B.
        largest_ratio: max |x| in B / in A; 1 where both are 0.
        log_norm_shift: mean ln norm of a token in B less that in A; NaN for weights.
        dims: what changed from dim to dim; output and input dims for matrices, nothing for vectors.
        weight: what else changed of a weight, or None.
        differences: the numbers that the effect is the largest of.
    """

    name: str
    name_b: str
    kind: str
    layer: int | None
    dtypes: tuple[str, str]
    n_values: tuple[int, int]
    n_nonfinite: tuple[int, int]
    distances: Distances
    mean_shift: float
    std_ratio: float
    excess_kurtosis: tuple[float, float]
    largest_ratio: float
    log_norm_shift: float
    dims: tuple[DimChange, ...]
    weight: WeightChange | None
    differences: tuple[Difference, ...]

    @property
    def decided_by(self) -> Difference | None:
        """The difference with the largest excess, or None where none counts."""
        return max((item for item in self.differences if item.counts), key=lambda item: item.excess, default=None)

    @property
    def effect(self) -> float:
        """How much the site changed: the largest excess of a difference, or 0."""
        decided_by = self.decided_by
        return 0.0 if decided_by is None else decided_by.excess

    @property
    def judged(self) -> bool:
        """Whether any of its differences can be judged."""
        return any(item.judged for item in self.differences)

    @property
    def foremost(self) -> Difference | None:
        """What decides the effect, or else the judged difference that is nearest to its noise, or None."""
        judged = (item for item in self.differences if item.judged and not math.isnan(item.size))
        return self.decided_by or max(judged, key=lambda item: item.size / (item.noise or math.inf), default=None)

    @property
    def identical(self) -> bool:
        """Whether every one of the differences is exactly 0 (or has no meaning)."""
        return not any(item.size > 0 for item in self.differences)

    def with_noise(self, noises: Mapping[str, float]) -> SiteChange:
        """The same between runs of different text.

        Args:
            noises: the noise of each difference by its key, where it is known.
        """
        differences = tuple(replace(item, noise=noises.get(item.key, math.nan)) for item in self.differences)
        return replace(self, differences=differences)


def change_of_record(a: Record, b: Record) -> SiteChange:
    """Compare a site of run A with the same site of run B, over the population of each record; or two weights."""
    kind, layer = kind_and_layer(a.name)
    weights = (a, b) if isinstance(a, WeightRecord) and isinstance(b, WeightRecord) else None
    dims: tuple[DimChange, ...] = ()
    log_norm_shift = math.nan
    if isinstance(a, SiteRecord) and isinstance(b, SiteRecord):
        dims = (change_of_dims("dim", (a.dims.rms, b.dims.rms), (a.dims.mean, b.dims.mean)),)
        log_norm_shift = b.norms.mean_log - a.norms.mean_log
    elif weights is not None:
        dims = dims_of_weights(*weights)
        kind, layer = without_numbers(weights[0].kind or a.name), weights[0].layer
    n_nonfinite = a.n_nan + a.n_inf, b.n_nan + b.n_inf
    apart = distances(a.distribution, b.distribution)
    std_ratio = ratio(a.std, b.std)
    mean_shift = in_units(b.mean - a.mean, a.std)
    weight = change_of_weight(*weights) if weights else None
    resolution = max(rounding(a.dtype, b.dtype), _SUMS_OF_WEIGHTS if weights else _SUMS)
    differences: tuple[Difference, ...]
    n_values = a.n + n_nonfinite[0], b.n + n_nonfinite[1]
    apart_by = [_nonfinite(n_values, bad) for bad in ((a.n_nan, b.n_nan), (a.n_inf, b.n_inf))]
    nonfinite = Difference("nonfinite", max(apart_by))
    if weight is not None and weight.exact:
        differences = (_relative_change(weight, resolution), nonfinite)
    else:
        differences = (
            Difference("levy", apart.levy, apart.levy_resolution),
            Difference("wasserstein", apart.wasserstein, apart.wasserstein_resolution),
            *_of_moments(a, b, mean_shift, std_ratio, resolution),
            *(item for axis in dims for item in _of_dims(axis, resolution)),
            nonfinite,
            *(_of_matrix(weight, resolution) if weight else ()),
        )
    return SiteChange(
        name=a.name,
        name_b=b.name,
        kind=kind,
        layer=layer,
        dtypes=(a.dtype, b.dtype),
        n_values=(a.n, b.n),
        n_nonfinite=n_nonfinite,
        distances=apart,
        mean_shift=mean_shift,
        std_ratio=std_ratio,
        excess_kurtosis=(a.excess_kurtosis, b.excess_kurtosis),
        largest_ratio=ratio(_largest(a), _largest(b)),
        log_norm_shift=log_norm_shift,
        dims=dims,
        weight=weight,
        differences=differences,
    )


def rounding(dtype_a: str, dtype_b: str) -> float:
    """The largest relative change that storing the same values in two dtypes makes; 0 for one dtype."""
    if dtype_a == dtype_b:
        return 0.0
    return _UNIT_ROUNDOFF.get(dtype_a, 0.0) + _UNIT_ROUNDOFF.get(dtype_b, 0.0)


def _of_moments(a: Record, b: Record, mean_shift: float, std_ratio: float, resolution: float) -> tuple[Difference, ...]:
    """Relative errors of the values move their mean and their std by at most as much of their RMS."""
    in_stds = in_units(resolution * max(math.hypot(x.mean, x.std) for x in (a, b)), a.std)
    # Of each std by its own values: where B is a thousand times A, so is its rounding, but not as a share of its std.
    of_std = max(in_units(resolution * math.hypot(x.mean, x.std), x.std) for x in (a, b))
    return Difference("mean", abs(mean_shift), in_stds), Difference("std", log_magnitude(std_ratio), of_std)


def _of_dims(axis: DimChange, resolution: float) -> tuple[Difference, ...]:
    key = f"{axis.axis.replace(' ', '_')}_scale"
    scale = Difference(key, abs(axis.log_rms_ratio), resolution, axis.dim)
    if axis.axis != "dim":
        return (scale,)
    return scale, Difference("dim_mean", abs(axis.mean_shift), resolution, axis.mean_dim)


def _of_matrix(weight: WeightChange, resolution: float) -> tuple[Difference, ...]:
    return (
        _relative_change(weight, resolution),
        # Rounding changes no singular value by more than the norm of what it changes.
        Difference("spectral", log_magnitude(weight.spectral_ratio), resolution * weight.frobenius_over_spectral),
    )


def _relative_change(weight: WeightChange, resolution: float) -> Difference:
    norm_a, norm_b = weight.frobenius
    size = 1.0 if norm_a == 0 and norm_b > 0 else weight.relative_change
    return Difference("relative_change", size, resolution, known=None if weight.exact else weight.known)


def _largest(site: Record) -> float:
    return max(abs(site.min), abs(site.max))


def _nonfinite(n_values: tuple[int, int], n_nonfinite: tuple[int, int]) -> float:
    """How much a number of values that are not finite differs: 1 where only one run has any."""
    if bool(n_nonfinite[0]) != bool(n_nonfinite[1]):
        return 1.0
    shares = [bad / max(of, 1) for of, bad in zip(n_values, n_nonfinite, strict=True)]
    return abs(shares[1] - shares[0])
