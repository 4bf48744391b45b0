"""States recorded by kernels, held against those of the host's accumulators."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lmfacts.run.state import array_of_native

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["TOLERANCE", "assert_agrees"]

TOLERANCE = {"float32": 1e-12, "bfloat16": 2e-6, "float16": 2e-6}
"""How far moments of dims may be off, relative to the sum of the magnitudes of their terms."""

_TOKENS = 1e-12
_MOMENTS = ("moments", "token_moments", "block_token_moments", "unit_sums", "block_dim_sums")
"""The sums that are held against the magnitudes of their terms."""
_ROUNDING = 4e-15
"""Of a sum of as many squares as a token has dims, added in another order."""

_SMALLEST = 1.2e-38


def assert_agrees(found: Mapping[str, Any], expected: Mapping[str, Any]) -> None:
    """Counts, codes, extremes and places are the same bits; sums are as near as their precision allows."""
    exact = [key for key, value in expected.items() if not _is_sum(key, value)]
    assert set(found) == set(expected)
    differing = [key for key in exact if found[key] != expected[key]]
    assert not differing, f"differs in {differing}"
    tolerance = TOLERANCE[expected["dtype"]]
    for name in ("first", "rest"):
        n_tokens = expected[f"{name}/n_tokens"]
        if n_tokens == 0:
            continue
        for key, value in expected.items():
            field = key.removeprefix(f"{name}/")
            if key != field and _is_sum(key, value) and field not in _MOMENTS and not field.endswith("mean_rests"):
                ours, theirs = (array_of_native(state[key]) for state in (found, expected))
                size = np.abs(theirs).max(initial=0.0)
                np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance * size, err_msg=key)
        n_not_finite = array_of_native(expected[f"{name}/dim_counts"])[0]
        ours, theirs = (array_of_native(state[f"{name}/moments"]) for state in (found, expected))
        _assert_moments(ours, theirs, n_tokens - n_not_finite.astype(float), tolerance, f"{name}/moments")
        for field in ("token_moments", "block_token_moments"):
            if f"{name}/{field}" not in expected:
                continue
            ours, theirs = (array_of_native(state[f"{name}/{field}"]).reshape(-1, 7).T for state in (found, expected))
            np.testing.assert_array_equal(ours[0], theirs[0], err_msg=f"{name}/{field}: n")
            _assert_moments(ours[1:], theirs[1:], theirs[0], _TOKENS, f"{name}/{field}", extremes=1e-13, absolute=1)
        if f"{name}/block_dim_sums" in expected:
            ours, theirs = (array_of_native(state[f"{name}/block_dim_sums"]) for state in (found, expected))
            # A sum is at most the square root of n times that of the squares; entries of unit vectors are at most 1.
            sizes = [np.sqrt(n_tokens * theirs[1]), theirs[1], np.full(theirs[2].shape, float(n_tokens))]
            assert np.all(np.abs(ours - theirs) <= _TOKENS * np.array(sizes)), f"{name}/block_dim_sums"
        if f"{name}/unit_sums" not in expected:
            continue
        ours, theirs = (array_of_native(state[f"{name}/unit_sums"]) for state in (found, expected))
        # A sum of entries of unit vectors is at most the square root of n times that of the squares.
        # What is smaller than any float32, of vectors of length 1, may be lost.
        lost = n_tokens * _SMALLEST
        off = np.abs(ours[0] - theirs[0])
        assert np.all(off <= tolerance * np.sqrt(n_tokens * theirs[1]) + lost), f"{name}/unit_sums"
        np.testing.assert_allclose(ours[1], theirs[1], rtol=tolerance, atol=lost, err_msg=f"{name}/unit_sums")


def _is_sum(key: str, value: Any) -> bool:
    """Whether an entry is an array of sums, which depend on the order of their terms."""
    return "/" in key and isinstance(value, tuple) and value[0] == "<f8" and not key.endswith("_values")


def _assert_moments(
    ours: NDArray[np.float64],
    theirs: NDArray[np.float64],
    n: NDArray[np.float64],
    tolerance: float,
    what: str,
    *,
    extremes: float = 0.0,
    absolute: float = 0.0,
) -> None:
    """mean, m2, m3, m4, min, max of some dims, each against the magnitude of what was summed for it.

    `extremes` is how far those may be off, relatively; `absolute` the size of values whose rounding the numbers have.
    """
    mean, m2, m3, m4, least, most = theirs
    spread = np.sqrt(m2 / np.maximum(n, 1))
    rounding = _ROUNDING * (np.abs(mean) + absolute)
    scales = [
        spread + rounding / tolerance,
        m2 + n * rounding * (spread + rounding) / tolerance,
        np.sqrt(m2 * m4) + n * rounding * (spread + rounding) ** 2 / tolerance,
        m4 + n * rounding * (spread + rounding) ** 3 / tolerance,
    ]
    for name, a, b, scale in zip(("mean", "m2", "m3", "m4"), ours, (mean, m2, m3, m4), scales, strict=False):
        off = np.abs(a - b)
        assert np.all(off <= tolerance * scale), (
            f"{what}: {name} is off by {np.nanmax(off / np.maximum(scale, 1e-300))}"
        )
    np.testing.assert_allclose(ours[4], least, rtol=extremes, atol=extremes * absolute, err_msg=f"{what}: min")
    np.testing.assert_allclose(ours[5], most, rtol=extremes, atol=extremes * absolute, err_msg=f"{what}: max")
