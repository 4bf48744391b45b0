"""A plain float64 reference of what a site records: slow, obvious, and independent of the library.

Values are given as the dtype stores them ("stored" values): uint16 bit patterns for bfloat16, and NumPy's own float16,
float32 and float64 arrays otherwise, shape [tokens, dims]. `store` makes such an array from float64 values, rounding to
the nearest even as PyTorch does, and `widen` gives the exact float64 values back.

`site_state` builds the flat dict that the native accumulator's `state()` gives. `statistics` computes the same figures
straight from the raw values, by sorting and by sums in extended precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lmfacts.run.state import native_array

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    Stored = NDArray[Any]

QUIET_NAN = 0x7FC0
SIGN = 0x8000


# Values as a dtype stores them


def store(values: ArrayLike, dtype: str) -> Stored:
    """Round float64 values to `dtype` (to nearest, ties to even) and give them as that dtype stores them."""
    wide = np.asarray(values, dtype=np.float64)
    with np.errstate(over="ignore", under="ignore"):
        if dtype == "float64":
            return wide
        if dtype == "float32":
            return wide.astype(np.float32)
        if dtype == "float16":
            return wide.astype(np.float16)
        assert dtype == "bfloat16", dtype
        bits = wide.astype(np.float32).view(np.uint32)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
    quiet = (bits >> 16) | 0x40  # rounding could carry a NaN into the infinities
    return np.where(np.isnan(wide), quiet, rounded).astype(np.uint16)


def widen(stored: Stored, dtype: str) -> Floats:
    """The float64 values of stored ones, exactly."""
    with np.errstate(invalid="ignore"):
        if dtype == "bfloat16":
            return (stored.astype(np.uint32) << 16).view(np.float32).astype(np.float64)
        return stored.astype(np.float64)


def code_of(stored: Stored, dtype: str) -> NDArray[np.uint16]:
    """The 16-bit code of each value: the pattern of 16-bit types, else the top 16 bits of the float32 toward zero."""
    if dtype == "bfloat16":
        return stored
    if dtype == "float16":
        return stored.view(np.uint16)
    wide = widen(stored, dtype)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        narrow = wide.astype(np.float32)
        away = np.isfinite(wide) & (np.abs(narrow.astype(np.float64)) > np.abs(wide))
        narrow = np.where(away, np.nextafter(narrow, np.float32(0)), narrow)
    codes = (narrow.view(np.uint32) >> 16).astype(np.uint16)
    nan_codes = np.where(np.signbit(wide), QUIET_NAN | SIGN, QUIET_NAN).astype(np.uint16)
    return np.where(np.isnan(wide), nan_codes, codes)


# The state of a site


def site_state(
    stored: Stored,
    *,
    dtype: str,
    sequence: ArrayLike | None = None,
    position: ArrayLike | None = None,
    token_id: ArrayLike | None = None,
    real: ArrayLike | None = None,
    k: int = 64,
    threshold: float = 6.0,
    unit_sums: bool = False,
    blocks: bool = False,
    detail: bool = False,
    dim_places: bool = False,
) -> dict[str, Any]:
    """What an accumulator's `state()` is after it has seen these values, however they were cut into calls.

    Args:
        stored: the values as the dtype stores them, [tokens, dims].
        dtype: `bfloat16`, `float16`, `float32` or `float64`.
        sequence: sequence of each token; by default all are in sequence 0.
        position: position of each token in its sequence; by default 0, 1, 2, ...
        token_id: id of each token; by default -1, unknown.
        real: whether each token is real and not padding; by default all are.
        k: number of outliers to keep.
        threshold: what `n_at_least` counts from.
        unit_sums: whether to sum unit vectors.
        blocks: whether to keep norms by blocks of sequences, and the maxima of the first sequences.
        detail: whether to keep codes by blocks of sequences and a histogram of each dim.
        dim_places: whether to keep the places of the dims' largest values.
    """
    n_tokens, n_dims = stored.shape
    places = np.stack(
        [
            np.zeros(n_tokens, np.int64) if sequence is None else np.asarray(sequence, np.int64),
            np.arange(n_tokens) if position is None else np.asarray(position, np.int64),
            np.full(n_tokens, -1) if token_id is None else np.asarray(token_id, np.int64),
        ],
        axis=1,
    )
    counted = np.ones(n_tokens, np.bool_) if real is None else np.asarray(real, np.bool_)
    is_first = places[:, 1] == 0
    state: dict[str, Any] = {
        "dtype": dtype,
        "n_dims": n_dims,
        "k": k,
        "threshold": threshold,
        "statistics": statistics_kept(unit_sums=unit_sums, blocks=blocks, detail=detail, dim_places=dim_places),
    }
    for name, chosen in (("first", counted & is_first), ("rest", counted & ~is_first)):
        arrays = _population(stored[chosen], dtype, places[chosen], k, threshold)
        if blocks:
            arrays.update(_blocks(stored[chosen], dtype, places[chosen]))
        if detail and name == "rest":
            arrays.update(_detail(stored[chosen], dtype, places[chosen]))
        if dim_places:
            arrays.update(_dim_places(widen(stored[chosen], dtype), places[chosen]))
        if not unit_sums:
            del arrays["unit_sums"]
        state[f"{name}/n_tokens"] = int(chosen.sum())
        state.update({f"{name}/{field}": native_array(array) for field, array in arrays.items()})
    return state


def statistics_kept(
    *, unit_sums: bool = False, blocks: bool = False, detail: bool = False, dim_places: bool = False
) -> tuple[str, ...]:
    """The names of the statistics that a state with these parts has."""
    kept = ["token_norms", "outliers"]
    kept += ["unit_sums"] if unit_sums else []
    kept += ["sequence_blocks"] if blocks else []
    kept += ["block_codes", "dim_histograms"] if detail else []
    kept += ["dim_places"] if dim_places else []
    return tuple(sorted(kept))


def _population(
    stored: Stored, dtype: str, places: NDArray[np.int64], k: int, threshold: float
) -> dict[str, NDArray[Any]]:
    """The arrays of one population by field name."""
    values = widen(stored, dtype)
    n_dims = values.shape[1]
    finite = np.isfinite(values)
    codes, counts = _sparse_counts(code_of(stored, dtype))
    columns = [moments_of(values[finite[:, dim], dim]) for dim in range(n_dims)]
    moments = np.array([column[1:] for column in columns]).reshape(n_dims, 6).T
    with np.errstate(invalid="ignore"):
        n_at_least = (np.abs(values) >= threshold).sum(axis=0)

    tokens = values[finite.all(axis=1)]
    squares = (tokens**2).sum(axis=1)
    norms = np.sqrt(squares)
    centered = tokens - tokens.mean(axis=1, keepdims=True) if n_dims else tokens
    centered_norms = np.sqrt((centered**2).sum(axis=1))
    norm_codes, norm_counts = _sparse_counts(code_of(norms, "float64"))
    quantities = (norms, np.log(norms[norms > 0]), np.log(centered_norms[centered_norms > 0]))
    units = tokens[norms > 0] / norms[norms > 0, None]

    token, dim = np.nonzero(finite)
    candidates = values[token, dim]
    sequence, position, token_id = places[token].T
    order = np.lexsort((dim, position, sequence, -np.abs(candidates)))[:k]
    index = np.stack([sequence, position, dim, token_id], axis=1)[order]
    return {
        "codes": codes.astype("<u2"),
        "counts": counts.astype("<u8"),
        "moments": moments.astype("<f8"),
        "mean_rests": np.array([mean_rest_of(values[finite[:, dim], dim]) for dim in range(n_dims)]).astype("<f8"),
        "dim_counts": np.stack([(~finite).sum(axis=0), n_at_least]).astype("<u8"),
        "norm_codes": norm_codes.astype("<u2"),
        "norm_counts": norm_counts.astype("<u8"),
        "token_moments": np.array([moments_of(quantity) for quantity in quantities]).astype("<f8"),
        "token_mean_rests": np.array([mean_rest_of(quantity) for quantity in quantities]).astype("<f8"),
        "unit_sums": np.stack([units.sum(axis=0), (units**2).sum(axis=0)]).astype("<f8"),
        "outlier_values": candidates[order].astype("<f8"),
        "outlier_index": index.astype("<i8"),
    }


def _blocks(stored: Stored, dtype: str, places: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """What is kept by blocks of sequences, and the largest value of each of the first 64 sequences."""
    values = widen(stored, dtype)
    finite = np.isfinite(values)
    moments, rests = [], []
    for block in range(8):
        tokens = values[finite.all(axis=1) & (places[:, 0] % 8 == block)]
        norms = np.sqrt((tokens**2).sum(axis=1))
        centered = np.sqrt(((tokens - tokens.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)) if tokens.size else norms
        quantities = (norms, np.log(norms[norms > 0]), np.log(centered[centered > 0]))
        moments.append([moments_of(quantity) for quantity in quantities])
        rests.append([mean_rest_of(quantity) for quantity in quantities])
    maxima, index = [], []
    for sequence in range(64):
        token, dim = np.nonzero(finite & (places[:, 0] == sequence)[:, None])
        if token.size:
            candidates = values[token, dim]
            first = np.lexsort((dim, places[token, 1], -np.abs(candidates)))[0]
            maxima.append(candidates[first])
            index.append([sequence, places[token[first], 1], dim[first], places[token[first], 2]])
    return {
        "block_tokens": np.bincount(places[:, 0] % 8, minlength=8).astype("<u8"),
        "block_token_moments": np.array(moments).astype("<f8"),
        "block_token_mean_rests": np.array(rests).astype("<f8"),
        "maxima_values": np.array(maxima).astype("<f8"),
        "maxima_index": np.array(index).reshape(-1, 4).astype("<i8"),
    }


def _dim_places(values: Floats, places: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """The largest finite value of each dim, 0 if there is none, and where it stands."""
    n_dims = values.shape[1]
    largest, found = np.zeros(n_dims), np.full((3, n_dims), -1)
    for dim, column in enumerate(values.T):
        token = np.flatnonzero(np.isfinite(column))
        if token.size:
            at = token[np.lexsort((places[token, 1], places[token, 0], -np.abs(column[token])))[0]]
            largest[dim], found[:, dim] = column[at], places[at]
    return {"dim_largest": largest.astype("<f8"), "dim_places": found.astype("<i8")}


def _detail(stored: Stored, dtype: str, places: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Codes by blocks of sequences and the histogram of each dim."""
    codes = code_of(stored, dtype)
    by_block = [_sparse_counts(codes[places[:, 0] % 8 == block]) for block in range(8)]
    values = widen(stored, dtype)
    bins = np.zeros((values.shape[1], 256), dtype=np.int64)
    # Quarters of powers of two from 2^-16 on, by comparison with their edges.
    edges = np.array([2.0**exponent * (1 + quarter / 4) for exponent in range(-16, 16) for quarter in range(4)])
    for dim in range(values.shape[1]):
        column = values[np.isfinite(values[:, dim]), dim]
        of_sign = np.clip(np.searchsorted(edges, np.abs(column), side="right") - 1, 0, 127)
        bins[dim] = np.bincount(of_sign + 128 * np.signbit(column), minlength=256)
    occupied = np.flatnonzero(bins)
    return {
        "block_lengths": np.array([codes.size for codes, _ in by_block]).astype("<u8"),
        "block_codes": np.concatenate([codes for codes, _ in by_block]).astype("<u2"),
        "block_counts": np.concatenate([counts for _, counts in by_block]).astype("<u8"),
        "dim_bins": occupied.astype("<u4"),
        "dim_bin_counts": bins.ravel()[occupied].astype("<u8"),
    }


def _sparse_counts(codes: NDArray[np.uint16]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The codes that occur, ascending, and how often."""
    counts = np.bincount(codes.ravel(), minlength=1 << 16)
    occurring = np.flatnonzero(counts)
    return occurring, counts[occurring]


# Direct statistics


def moments_of(values: Floats) -> tuple[float, ...]:
    """n, mean, M2, M3, M4, min, max of a list of finite values, in two passes in extended precision."""
    if not values.size:
        return 0.0, 0.0, 0.0, 0.0, 0.0, np.inf, -np.inf
    wide = values.astype(np.longdouble)
    mean = wide.sum() / wide.size
    deviations = wide - mean
    powers = [float((deviations**order).sum()) for order in (2, 3, 4)]
    return float(values.size), float(mean), *powers, float(values.min()), float(values.max())


def mean_rest_of(values: Floats) -> float:
    """What is left of the mean, in extended precision, when its rounded value is taken off."""
    if not values.size:
        return 0.0
    mean = values.astype(np.longdouble).mean()
    return float(mean - np.float64(mean))


def central_moment(values: Floats, order: int) -> float:
    """Mean of (x - mean)^order, in extended precision."""
    wide = values.astype(np.longdouble)
    return float(((wide - wide.mean()) ** order).mean())


@dataclass(frozen=True)
class Statistics:
    """Statistics of a set of raw values, the non-finite ones counted apart."""

    n: int
    n_nan: int
    n_inf: int
    n_zero: int
    mean: float
    std: float
    skewness: float
    excess_kurtosis: float
    min: float
    max: float


def statistics(values: Floats) -> Statistics:
    """Statistics straight from raw float64 values of any shape; at least two different finite ones."""
    finite = values[np.isfinite(values)]
    n, mean, m2, m3, m4, low, high = moments_of(finite)
    variance = m2 / n
    return Statistics(
        n=int(n),
        n_nan=int(np.isnan(values).sum()),
        n_inf=int(np.isinf(values).sum()),
        n_zero=int((values == 0).sum()),
        mean=mean,
        std=variance**0.5,
        skewness=m3 / n / variance**1.5,
        excess_kurtosis=m4 / n / variance**2 - 3,
        min=low,
        max=high,
    )


def quantile(values: Floats, q: ArrayLike) -> Any:
    """NumPy's inverted CDF over the finite values."""
    return np.quantile(values[np.isfinite(values)], np.asarray(q, dtype=np.float64), method="inverted_cdf")
