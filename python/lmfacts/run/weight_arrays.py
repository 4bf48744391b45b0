"""The arrays of a weight in a run file beside those of a site, and the check of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lmfacts.stats.count_sketch import N_BUCKETS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["EXTRA_FIELDS", "N_SLICE_FIELDS", "SLICES_A_SIDE", "arrays_of", "weight_arrays_problem"]

EXTRA_FIELDS: Final[dict[str, str]] = {
    "row_means": "<f8",
    "row_rms": "<f8",
    "scaled_codes": "<u2",
    "scaled_counts": "<u8",
    "scaled_moments": "<f8",
    "singular_values": "<f8",
    "sketch": "<f8",
    "slices": "<f8",
}
"""Their names, under `NAME/FIELD`, and dtypes; `lmfacts.scans.weights` says what they hold. Those that would be empty
may be missing, but for `scaled_moments`; `slices` may be missing in any case, since earlier versions did not keep
them."""

SLICES_A_SIDE: Final = 4
"""How many rows, and how many columns, of a matrix in a block `slices` describes at most."""

N_SLICE_FIELDS: Final = 3
"""Numbers in `slices` for each: how many finite values it has, and their third and fourth standardized moments."""

_N_MOMENTS: Final = 7


def arrays_of(name: str, arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The arrays of one weight among those of a run, by field."""
    return {field: arrays[f"{name}/{field}"] for field in EXTRA_FIELDS if f"{name}/{field}" in arrays}


def weight_arrays_problem(entry: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> str | None:
    """What contradicts what in the arrays of a weight, as a sentence without its period, or None.

    Args:
        entry: the weight's entry in the metadata, valid by itself.
        arrays: the run's further arrays.
    """
    own = arrays_of(entry["name"], arrays)
    for field, array in own.items():
        if array.dtype != EXTRA_FIELDS[field] or array.ndim != 1:
            return f"{field} is {array.dtype} {list(array.shape)}, expected {np.dtype(EXTRA_FIELDS[field])} of one axis"
    sizes = {field: own[field].size if field in own else 0 for field in EXTRA_FIELDS}
    is_matrix = len(entry["shape"]) > 1
    n_rows = entry["n_tokens"]["rest"] if is_matrix else 0
    for field, allowed in {
        "row_means": (n_rows,),
        "row_rms": (n_rows,),
        "scaled_moments": (_N_MOMENTS,),
        "scaled_counts": (sizes["scaled_codes"],),
        "singular_values": (0, min(entry["shape"])) if is_matrix else (0,),
        "sketch": (0, N_BUCKETS) if is_matrix else (0,),
    }.items():
        if sizes[field] not in allowed:
            return f"{field} has {sizes[field]} entries, expected {' or '.join(map(str, allowed))}"
    if not np.isfinite(own.get("sketch", np.empty(0))).all():
        return "sketch has sums that are not finite"
    return _scaled_problem(entry, own) or _singular_values_problem(own) or _slices_problem(entry, own)


def _scaled_problem(entry: Mapping[str, Any], own: Mapping[str, NDArray[Any]]) -> str | None:
    """What is wrong with the values that are left when scales are divided out."""
    n, *moments = own["scaled_moments"]
    codes, counts = (own.get(field, np.empty(0)) for field in ("scaled_codes", "scaled_counts"))
    if (codes[1:] <= codes[:-1]).any():
        return "scaled_codes do not ascend"
    if counts.size and int(counts.max()) > entry["n_values"]:
        return "scaled_counts count more values than there are"
    n_counted = int(counts.sum())
    if n_counted != n or n_counted > entry["n_values"]:
        return f"scaled_counts add up to {n_counted}, and scaled_moments are of {n:g} values of {entry['n_values']}"
    if n and not (np.isfinite(moments).all() and moments[1] >= 0 and moments[3] >= 0 and moments[4] <= moments[5]):
        return "scaled_moments are not those of finite values"
    return None


def _singular_values_problem(own: Mapping[str, NDArray[Any]]) -> str | None:
    values = own.get("singular_values", np.empty(0))
    if not np.isfinite(values).all() or (values < 0).any() or (values[1:] > values[:-1]).any():
        return "singular_values do not descend to 0 or more"
    return None


def _slices_problem(entry: Mapping[str, Any], own: Mapping[str, NDArray[Any]]) -> str | None:
    """What is wrong with the moments of single rows and columns."""
    slices = own.get("slices", np.empty(0))
    if not slices.size:
        return None
    most = 2 * SLICES_A_SIDE * N_SLICE_FIELDS
    if len(entry["shape"]) < 2 or slices.size % N_SLICE_FIELDS or slices.size > most:  # noqa: PLR2004  axes
        return f"slices has {slices.size} entries, expected up to {most} of a matrix, {N_SLICE_FIELDS} a slice"
    counts, third, fourth = slices.reshape(-1, N_SLICE_FIELDS).T
    if not ((counts >= 0) & (counts <= entry["n_values"]) & (counts == np.floor(counts))).all():
        return "slices do not begin with their numbers of values"
    known = ~np.isnan(fourth)
    # The fourth standardized moment is at least 1 + the square of the third (Pearson), and at most their number.
    within = (fourth >= (third**2 + 1) * (1 - 1e-9)) & (fourth <= counts)
    if (np.isnan(third) == known).any() or not within[known].all():
        return "slices have moments that no values have"
    return None
