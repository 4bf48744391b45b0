"""Holds a state against the oracle: counts and extremes to the bit, sums within a bound that is written here.

The bound of a central moment M_k = sum of (x - mean)^k over n values is

    tolerance * S_k  +  k * S_(k-1) * d  +  n * d^k,      S_k = sum of |x - mean|^k,  d = 8 * 2^-52 * max |x|

The first term is what the library promises. The others are what moving each value by d would change: no float64
computation knows the values better, and they matter only where |mean| / std is beyond a thousand.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lmfacts.run.state import array_of_native
from lmfacts.run.statistics.sequence_blocks import N_BLOCKS
from support import oracle

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import ArrayLike, NDArray

    Floats = NDArray[np.float64]
    State = Mapping[str, Any]

__all__ = ["EXACT_FIELDS", "arrays_of", "assert_matches_oracle", "assert_same_exact_parts", "assert_same_states"]

EXACT_FIELDS = (
    "codes",
    "counts",
    "dim_counts",
    "outlier_values",
    "outlier_index",
    "block_tokens",
    "maxima_values",
    "maxima_index",
    "block_lengths",
    "block_codes",
    "block_counts",
    "dim_bins",
    "dim_bin_counts",
)
"""The arrays whose bytes depend on nothing but the values."""

OF_THEIR_OWN = {"blocks_of_16", "blocks_of_32", "dim_blocks", "dim_places", "token_maxima"}
"""Statistics that the oracle's states lack: `test_dim_blocks.py` and the tests of the others have theirs."""

_EPSILON = 8 * 2.0**-52


def arrays_of(state: State, population: str) -> dict[str, NDArray[Any]]:
    """The arrays of one population by field name, shaped."""
    names = {name: name.partition("/")[2] for name in state if name.startswith(f"{population}/")}
    return {field: array_of_native(state[name]) for name, field in names.items() if field != "n_tokens"}


def assert_same_exact_parts(found: State, expected: State) -> None:
    """The parts that may not depend on cuts, order, threads or merging are the same bytes."""
    assert set(found["statistics"]) == set(expected["statistics"])
    for key in ("dtype", "n_dims", "k", "threshold", "first/n_tokens", "rest/n_tokens"):
        assert found[key] == expected[key], f"{key}: {found[key]} instead of {expected[key]}"
    for population in ("first", "rest"):
        for field in EXACT_FIELDS:
            name = f"{population}/{field}"
            if found.get(name) != expected.get(name):
                ours, theirs = (arrays_of(state, population)[field] for state in (found, expected))
                raise AssertionError(f"{name} differs:\n{ours}\ninstead of\n{theirs}")
        ours, theirs = (arrays_of(state, population)["moments"][4:6] for state in (found, expected))
        np.testing.assert_array_equal(ours, theirs, err_msg=f"{population}: min and max")
        assert not np.signbit(ours[ours == 0]).any(), f"{population}: a minimum or maximum is -0"


def assert_same_states(found: State, expected: State) -> None:
    """All bits are the same."""
    differing = [key for key in expected if found[key] != expected[key]]
    assert set(found) == set(expected)
    assert not differing, f"differs in {differing}"


def assert_matches_oracle(
    found: State,
    stored: NDArray[Any],
    *,
    dtype: str,
    tolerance: float = 1e-10,
    sequence: ArrayLike | None = None,
    position: ArrayLike | None = None,
    token_id: ArrayLike | None = None,
    real: ArrayLike | None = None,
) -> None:
    """A state is the one that these values give.

    Args:
        found: what the accumulator gave; its settings are taken over.
        stored: the values as `oracle.store` gives them, [tokens, dims].
        dtype: their dtype.
        tolerance: of moments, relative to the sum of the magnitudes of their terms.
        sequence: of each token, as the oracle takes it.
        position: as above.
        token_id: as above.
        real: as above.

    Raises:
        AssertionError: it is not; the message says where.
    """
    kept = found["statistics"]
    parts = {"unit_sums": "unit_sums" in kept, "blocks": "sequence_blocks" in kept, "detail": "block_codes" in kept}
    settings = {"k": found["k"], "threshold": found["threshold"], **parts}
    expected = oracle.site_state(
        stored, dtype=dtype, sequence=sequence, position=position, token_id=token_id, real=real, **settings
    )
    found = {**found, "statistics": tuple(name for name in kept if name not in OF_THEIR_OWN)}
    assert_same_exact_parts(found, expected)
    values = oracle.widen(stored, dtype)
    counted = np.ones(len(values), np.bool_) if real is None else np.asarray(real, np.bool_)
    is_first = (np.arange(len(values)) if position is None else np.asarray(position)) == 0
    for population, chosen in (("first", counted & is_first), ("rest", counted & ~is_first)):
        ours, theirs = (arrays_of(state, population) for state in (found, expected))
        _assert_dims(population, values[chosen], ours["moments"], theirs["moments"], tolerance)
        tokens = values[chosen][np.isfinite(values[chosen]).all(axis=1)]
        if "dim_largest" in ours:
            magnitudes = np.where(np.isfinite(values[chosen]), np.abs(values[chosen]), 0.0).max(axis=0, initial=0.0)
            np.testing.assert_array_equal(np.abs(ours["dim_largest"]), magnitudes, err_msg=population)
        if "token_maxima_squares" in ours:
            squares = float((np.abs(tokens).max(axis=1, initial=0.0) ** 2).sum())
            np.testing.assert_allclose(ours["token_maxima_squares"][0], squares, rtol=1e-12, err_msg=population)
        _assert_norms(population, tokens, ours, theirs, tolerance)
        of_token = np.zeros(len(values), np.int64) if sequence is None else np.asarray(sequence)
        blocks = of_token[chosen][np.isfinite(values[chosen]).all(axis=1)] % N_BLOCKS
        if "block_dim_sums" in ours:
            for block in range(N_BLOCKS):
                sums = ours["block_dim_sums"][:, block]
                _assert_block_sums(f"{population}, block {block}", tokens[blocks == block], sums, tolerance)
        if settings["blocks"]:
            for block in range(N_BLOCKS):
                rows = (ours["block_token_moments"][block], theirs["block_token_moments"][block])
                _assert_token_moments(f"{population}, block {block}", tokens[blocks == block], *rows, tolerance)
        if settings["unit_sums"]:
            _assert_unit_sums(population, tokens, ours["unit_sums"], tolerance)


def _assert_dims(name: str, values: Floats, ours: Floats, theirs: Floats, tolerance: float) -> None:
    for dim in range(values.shape[1]):
        column = values[np.isfinite(values[:, dim]), dim]
        shift = _EPSILON * float(np.abs(column).max(initial=0.0))
        bounds = _bounds(column, shift, tolerance)
        off = np.abs(ours[:4, dim] - theirs[:4, dim])
        assert (off <= bounds).all(), f"{name}, dim {dim}: mean, M2, M3, M4 off by {off}, allowed {bounds}"


def _bounds(values: Floats, shift: float, tolerance: float) -> Floats:
    """How far mean, M2, M3 and M4 of these values may be off: see the head of this file."""
    n = values.size
    if n == 0:
        return np.zeros(4)
    deviations = np.abs(values - values.mean())
    sums = [float((deviations**order).sum()) for order in range(5)]
    # The magnitudes of the mean's terms are those of the values.
    bounds = [tolerance * float(np.abs(values).mean()) + shift]
    bounds += [tolerance * sums[k] + k * sums[k - 1] * shift + n * shift**k for k in (2, 3, 4)]
    return np.array(bounds)


def _assert_norms(
    name: str, tokens: Floats, ours: Mapping[str, NDArray[Any]], theirs: Mapping[str, NDArray[Any]], tolerance: float
) -> None:
    norms = np.sqrt((tokens**2).sum(axis=1))
    found = np.repeat(ours["norm_codes"].astype(np.int64), ours["norm_counts"].astype(np.int64))
    assert found.size == norms.size, f"{name}: {found.size} norms instead of {norms.size}"
    # A norm that rounding carries over the edge of a code may be counted on either side of it.
    for factor, side in ((1 - 1e-13, np.less_equal), (1 + 1e-13, np.greater_equal)):
        edge = np.sort(oracle.code_of(norms * factor, "float64").astype(np.int64))
        assert side(edge, found).all(), f"{name}: norm codes {found} beyond {edge}"

    _assert_token_moments(name, tokens, ours["token_moments"], theirs["token_moments"], tolerance)


def _assert_token_moments(name: str, tokens: Floats, ours: Floats, theirs: Floats, tolerance: float) -> None:
    """Moments [3, 7] of the norms of finite tokens, of their logarithms and of those of the centered norms."""
    norms = np.sqrt((tokens**2).sum(axis=1))
    centered = np.sqrt(((tokens - tokens.mean(axis=1, keepdims=True)) ** 2).sum(axis=1)) if tokens.size else norms
    # Where a float64 token is constant, whether rounding leaves zero of its centered norm is a matter of the last bit.
    doubtful = (centered <= _EPSILON * norms) & (np.ptp(tokens, axis=1) == 0) & (norms > 0) & ~_sums_exactly(tokens)
    spread = (centered > 0) & ~doubtful
    lost = [_EPSILON, _EPSILON, _EPSILON]
    if spread.any():
        # The last bit of the values, seen from the centered norm: a logarithm's absolute error. A difference of
        # sums may lose three more digits.
        lost[2] = max(1e3 * _EPSILON, float((_EPSILON * norms[spread] / centered[spread]).max()))
    quantities = [norms, np.log(norms[norms > 0]), np.log(centered[spread])]
    if doubtful.any():
        n_found = ours[2, 0]
        assert quantities[2].size <= n_found <= quantities[2].size + doubtful.sum(), f"{name}: n of token quantity 2"
        del quantities[2]
    for row, (quantity, loss) in enumerate(zip(quantities, lost, strict=False)):
        assert ours[row, 0] == quantity.size, f"{name}: n of token quantity {row}"
        shift = loss * float(np.abs(quantity).max(initial=1.0 if row else 0.0))
        bounds = _bounds(quantity, shift, tolerance)
        off = np.abs(ours[row, 1:5] - theirs[row, 1:5])
        assert (off <= bounds).all(), f"{name}, token quantity {row}: off by {off}, allowed {bounds}"
        if quantity.size:
            off = np.abs(ours[row, 5:7] - theirs[row, 5:7])
            assert (off <= shift).all(), f"{name}, token quantity {row}: min and max off by {off}, allowed {shift}"
        else:
            np.testing.assert_array_equal(ours[row, 5:7], [np.inf, -np.inf])


def _sums_exactly(tokens: Floats) -> NDArray[np.bool_]:
    """Which tokens' values have at most 24 bits, as all but float64 have, so that sums of equal ones do not round."""
    with np.errstate(over="ignore"):
        exact: NDArray[np.bool_] = (tokens.astype(np.float32).astype(np.float64) == tokens).all(axis=1)
    return exact


def _assert_block_sums(name: str, tokens: Floats, ours: Floats, tolerance: float) -> None:
    norms = np.sqrt((tokens**2).sum(axis=1, keepdims=True))
    units = tokens / np.where(norms > 0, norms, 1.0)
    for row, terms in enumerate((tokens, tokens**2, units)):
        off = np.abs(ours[row] - terms.sum(axis=0))
        bounds = (tolerance + _EPSILON) * np.abs(terms).sum(axis=0)
        assert (off <= bounds).all(), f"{name}, sums {row}: off by {off.max()}"


def _assert_unit_sums(name: str, tokens: Floats, ours: Floats, tolerance: float) -> None:
    norms = np.sqrt((tokens**2).sum(axis=1))
    units = tokens[norms > 0] / norms[norms > 0, None]
    for row, terms in enumerate((units, units**2)):
        off = np.abs(ours[row] - terms.sum(axis=0))
        bounds = (tolerance + _EPSILON) * np.abs(terms).sum(axis=0)
        assert (off <= bounds).all(), f"{name}, unit sums {row}: off by {off.max()}"
