"""What makes a pool depart from a Gaussian: each cause alone, two at once, and the limits of each."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from lmfacts.facts import Verdict
from lmfacts.facts.f01_activation_shape import DEFINITION
from lmfacts.facts.shape_causes import DimShapes, TokenScales
from support.accumulated_runs import accumulated_run, inputs_of

N_DIMS = 384
LAWS, TOKENS = "themselves", "tokens differ in scale (ln norm"
SCALES, MEANS = "dims differ in scale", "dims differ in mean"
NO_DIMS = np.empty(0, dtype=np.int64)


def normal_quantiles(n, seed):
    """n values as normal as they can be, in random order, with a standard deviation of 1."""
    values = stats.norm.ppf((np.arange(n) + 0.5) / n)
    return np.random.default_rng(seed).permutation(values / values.std())


def heavy(rng, shape, kurtosis):
    """Values of variance 1 and a given excess kurtosis up to 3: Gaussian, each with one of two scales."""
    ratio = np.roots([kurtosis / 12, kurtosis / 6 - 1, kurtosis / 12]).real.min() if kurtosis else 0.0
    values = rng.normal(size=shape) * (1 + math.sqrt(ratio) * rng.choice([-1.0, 1.0], size=shape))
    return values / math.sqrt(1 + ratio)


def run_of(
    *, own=0.0, heavy_dims=N_DIMS, tokens=0.0, scales=0.0, means=0.0, offset=0.0, law=None, n_positions=129, huge=0
):
    """Sixteen sequences of one layer.

    Args:
        own: excess kurtosis of the dims by their own law.
        heavy_dims: how many dims have it; the others are Gaussian.
        tokens: c, the relative variance of the squared scale of the tokens (lognormal).
        scales: standard deviation over dims of their ln scale.
        means: standard deviation over dims of their means, which are of two kinds.
        offset: a mean that all dims have.
        law: from a generator and a shape to values, in place of `own`.
        n_positions: tokens of a sequence.
        huge: how many dims are a hundred times as large.
    """

    def values_of(layer, sequence, position):
        rng = np.random.default_rng(7)
        shape = (position.size, N_DIMS)
        values = rng.normal(size=shape) if law is None else law(rng, shape)
        if own:
            values[:, :heavy_dims] = heavy(rng, (position.size, heavy_dims), own)
        log_scale = math.sqrt(math.log1p(tokens)) / 2
        values *= np.exp(log_scale * normal_quantiles(position.size, 1))[:, None]
        values *= np.exp(scales * normal_quantiles(N_DIMS, 2))
        values += means * np.resize([-1.0, 1.0], N_DIMS) + offset
        values[:, :huge] *= 100.0
        return values

    return accumulated_run(values_of, n_positions=n_positions)


def shapes_of(**options):
    return DimShapes.of(run_of(**options)["blocks.0.resid_post"].rest, NO_DIMS)


def named(dims):
    causes = dims.causes()
    return [word for word in (LAWS, TOKENS, SCALES, MEANS) if any(word in cause for cause in causes)]


# One cause, and two


@pytest.mark.parametrize(
    ("options", "causes"),
    [
        ({}, []),
        ({"own": 2.0}, [LAWS]),
        ({"tokens": 0.5}, [TOKENS]),
        ({"scales": 0.3}, [SCALES]),
        ({"means": 1.0}, [MEANS]),
        ({"own": 2.0, "tokens": 0.5}, [LAWS, TOKENS]),
        ({"own": 2.0, "scales": 0.3}, [LAWS, SCALES]),
        ({"own": 2.0, "means": 0.7}, [LAWS, MEANS]),
        ({"tokens": 0.5, "scales": 0.3}, [TOKENS, SCALES]),
        ({"scales": 0.3, "means": 0.5}, [SCALES, MEANS]),
        ({"own": 2.0, "tokens": 0.5, "scales": 0.3, "means": 0.4}, [LAWS, TOKENS, SCALES, MEANS]),
        ({"law": lambda rng, shape: rng.uniform(-1, 1, size=shape)}, [LAWS]),
    ],
)
def test_causes_that_are_there_are_named_and_no_others(options, causes):
    assert named(shapes_of(**options)) == causes


def test_the_scales_of_tokens_are_measured_by_their_norms():
    dims = shapes_of(tokens=0.5)
    assert dims.tokens.excess == pytest.approx(0.5, rel=0.1)
    assert dims.tokens.kurtosis == pytest.approx(dims.kurtosis, rel=0.15)
    assert dims.tokens.spread == pytest.approx(math.sqrt(math.log(1.5)) / 2, rel=0.05)
    assert abs(dims.own_kurtosis) < 0.2
    assert dims.near_gaussian < 0.05
    both = shapes_of(own=2.0, tokens=0.5)
    assert both.tokens.excess == pytest.approx(0.5, rel=0.1)
    assert both.own_kurtosis == pytest.approx(2.0, rel=0.15)


@pytest.mark.parametrize("options", [{"own": 2.0}, {"scales": 0.5}, {"means": 0.5}])
def test_other_causes_do_not_look_like_scales_of_tokens(options):
    assert shapes_of(**options).tokens.kurtosis < 0.05


def test_norms_that_vary_because_few_dims_make_them_up_show_no_common_scale():
    # Dims this unlike make the square of the norm vary by 2 / 7, as independent dims do.
    assert shapes_of(scales=1.0).tokens.excess < 0.02


def test_correlated_gaussian_dims_are_no_matter_of_tokens():
    def few_directions(rng, shape):
        return rng.normal(size=(shape[0], 6)) @ np.linalg.qr(rng.normal(size=(shape[1], 6)))[0].T

    dims = shapes_of(law=few_directions)
    assert dims.tokens.excess == pytest.approx(2 / 6, rel=0.15)
    assert dims.near_gaussian > 0.9
    assert not {LAWS, TOKENS} & set(named(dims))


def test_means_that_stay_as_they_are_hide_no_scale():
    assert shapes_of(tokens=0.5, offset=0.8).tokens.excess == pytest.approx(0.5, rel=0.15)


def test_whole_sequences_of_unlike_scale():
    def values_of(_, sequence, position):
        values = np.random.default_rng(0).normal(size=(position.size, N_DIMS))
        return values * np.where(sequence % 2, 2.0, 1.0)[:, None]

    dims = DimShapes.of(accumulated_run(values_of, n_positions=129)["blocks.0.resid_post"].rest, NO_DIMS)
    # E u^4 / (E u^2)^2 - 1 of u = 1 or 2.
    assert dims.tokens.excess == pytest.approx(8.5 / 2.5**2 - 1, rel=0.02)
    assert named(dims) == [TOKENS]


def test_light_and_partial_tails_are_called_so():
    uniform = shapes_of(law=lambda rng, shape: rng.uniform(-1, 1, size=shape))
    assert uniform.causes()[0].startswith("the dims themselves are light-tailed (0 %")
    part = shapes_of(own=2.0, heavy_dims=150)
    assert part.causes()[0].startswith("some dims are not near Gaussian themselves (6")
    assert shapes_of(own=2.0).causes()[0].startswith("the dims themselves are heavy-tailed (")


# The limits


@pytest.mark.parametrize(("share", "causes"), [(0.83, []), (0.81, []), (0.79, [LAWS]), (0.77, [LAWS])])
def test_from_80_percent_of_the_dims_they_are_near_gaussian(share, causes):
    dims = shapes_of(own=2.5, heavy_dims=N_DIMS - round(share * N_DIMS), n_positions=257)
    assert dims.near_gaussian == pytest.approx(share, abs=0.003)
    assert named(dims) == causes


@pytest.mark.parametrize(("kurtosis", "near"), [(0.35, True), (0.65, False)])
def test_near_gaussian_is_an_excess_kurtosis_within_a_half(kurtosis, near):
    assert (shapes_of(own=kurtosis, n_positions=513).near_gaussian > 0.8) is near


@pytest.mark.parametrize(("spread", "causes"), [(0.095, []), (0.105, [SCALES])])
def test_the_limit_of_the_scales_of_dims(spread, causes):
    dims = shapes_of(scales=spread)
    assert dims.scale_spread == pytest.approx(spread, abs=0.004)
    assert named(dims) == causes


@pytest.mark.parametrize(("spread", "causes"), [(0.29, []), (0.31, [MEANS])])
def test_the_limit_of_the_means_of_dims(spread, causes):
    dims = shapes_of(means=spread)
    assert dims.mean_spread == pytest.approx(spread, abs=0.006)
    assert named(dims) == causes


def shape_with(*, kurtosis, excess, near_gaussian=0.3, share_of_norm=1.0, n_tokens=32_000):
    """The numbers of dims that are alike, and whose tokens differ in scale or not."""
    tokens = TokenScales(0.2, excess, share_of_norm)
    return DimShapes(n_tokens, kurtosis, near_gaussian, near_gaussian, 0.02, 0.1, tokens)


@pytest.mark.parametrize(
    ("kurtosis", "by_norms", "causes"),
    [
        # The median dim has to be heavy-tailed.
        (0.49, 0.49, [LAWS]),
        (0.51, 0.49, [TOKENS]),
        # Half of the median dim's is enough.
        (0.80, 0.41, [TOKENS]),
        (0.80, 0.39, [LAWS]),
        # So is 0.5, and what is left above 0.5 is the dims' own.
        (3.0, 0.51, [LAWS, TOKENS]),
        (3.0, 0.49, [LAWS]),
        # (K + 3) / (1 + c) - 3 with c = 0.5 is 0.49 and 0.51.
        (2.235, 1.5, [TOKENS]),
        (2.265, 1.5, [LAWS, TOKENS]),
    ],
)
def test_the_limits_of_the_scales_of_tokens(kurtosis, by_norms, causes):
    assert named(shape_with(kurtosis=kurtosis, excess=by_norms / 3)) == causes


@pytest.mark.parametrize(("by_norms", "more"), [(1.15, False), (1.25, True)])
def test_norms_that_vary_by_more_than_the_dims_allow(by_norms, more):
    """(K + 3) / (1 + c) - 3 is -0.5 at K = 0.51 and 3 c = 1.212."""
    (cause,) = shape_with(kurtosis=0.51, excess=by_norms / 3).causes()
    assert ("a few heavy-tailed directions could be all of it" in cause) is more


def test_heavy_tailed_directions_are_not_firmly_scales_of_tokens():
    """Eight Laplace values mixed into all dims: no token has a scale, and norms vary all the same."""
    mixing = np.random.default_rng(3).normal(size=(8, N_DIMS)) / math.sqrt(8)
    dims = shapes_of(law=lambda rng, shape: rng.laplace(size=(shape[0], 8)) @ mixing)
    assert dims.tokens.excess == pytest.approx((3 + 2) / 8, rel=0.15)
    assert dims.kurtosis < 0.6 * dims.tokens.kurtosis
    assert any("a few heavy-tailed directions could be all of it" in cause for cause in dims.causes())
    gaussian = shapes_of(law=lambda rng, shape: rng.normal(size=(shape[0], 8)) @ mixing)
    assert not any(TOKENS in cause for cause in gaussian.causes())


def test_dims_that_are_near_gaussian_are_no_matter_of_tokens():
    assert named(shape_with(kurtosis=0.55, excess=0.5, near_gaussian=0.81)) == []
    assert named(shape_with(kurtosis=0.55, excess=0.5, near_gaussian=0.79)) == [TOKENS]


def test_dims_that_the_scales_of_tokens_bring_within_the_limit_are_not_named():
    tokens = TokenScales(0.2, 0.15, 1.0)
    for own_near_gaussian, causes in ((0.81, []), (0.79, [LAWS])):
        assert named(DimShapes(32_000, 0.45, 0.6, own_near_gaussian, 0.02, 0.1, tokens)) == causes


@pytest.mark.parametrize(("offset", "tells"), [(1.04, True), (1.17, False)])
def test_norms_tell_if_half_of_their_square_is_variance(offset, tells):
    dims = shapes_of(tokens=0.5, offset=offset)
    assert dims.tokens.share_of_norm == pytest.approx(1.5**0.5 / (1.5**0.5 + offset**2), abs=0.02)
    assert (dims.tokens.share_of_norm >= 0.5) is tells
    assert math.isnan(dims.tokens.excess) is not tells
    (cause,) = dims.causes()
    if tells:
        assert TOKENS in cause
    else:
        assert cause.startswith("the dims are heavy-tailed one at a time (")
        assert "by their own laws or because tokens differ in scale (the norms do not tell which, as only 4" in cause


def test_norms_of_outlier_dims_tell_nothing_of_the_others():
    run = run_of(own=2.0, huge=3)
    dims = DimShapes.of(run["blocks.0.resid_post"].rest, np.arange(3))
    assert dims.tokens.share_of_norm < 0.05
    assert "the norms do not tell which" in dims.causes()[0]
    assert SCALES not in named(dims)


@pytest.mark.parametrize(("n_tokens", "causes"), [(999, []), (1000, [LAWS])])
def test_few_tokens_name_no_cause(n_tokens, causes):
    dims = shape_with(kurtosis=3.0, excess=0.0, n_tokens=n_tokens)
    assert named(dims) == causes
    assert ("too few to name a cause" in dims.in_words()) is not causes


def test_where_no_cause_passes_the_numbers_are_said():
    assert shapes_of().in_words().startswith("no cause passes its limit: 100 % of the dims have an excess kurtosis")


@pytest.mark.parametrize("filler", [0.0, 3.0, math.nan, 1e200])
def test_sites_without_a_shape(filler):
    run = accumulated_run(lambda _, __, at: np.full((at.size, N_DIMS), filler), n_positions=129, dtype="float64")
    dims = DimShapes.of(run["blocks.0.resid_post"].rest, NO_DIMS)
    assert dims.causes() == []
    assert math.isnan(dims.kurtosis)


def test_a_dim_without_values_leaves_the_scales_of_tokens_open():
    def spoilt(rng, shape):
        values = heavy(rng, shape, 2.0)
        values[:, 10] = np.nan
        return values

    dims = shapes_of(law=spoilt)
    assert math.isnan(dims.tokens.excess)  # a token with NaN has no norm
    assert "the norms do not tell which" in dims.causes()[0]


# In the fact


@pytest.mark.parametrize(
    ("options", "word", "others"),
    [
        ({"own": 2.0}, LAWS, (TOKENS, SCALES, MEANS)),
        ({"tokens": 0.5}, TOKENS, (LAWS, SCALES, MEANS)),
        ({"scales": 0.4}, SCALES, (LAWS, TOKENS, MEANS)),
        ({"means": 1.5}, MEANS, (LAWS, TOKENS, SCALES)),
    ],
)
def test_the_fact_names_the_cause(options, word, others):
    fact = DEFINITION.check(inputs_of(run_of(**options)))
    assert fact.verdict is Verdict.FAILS
    note = fact.evidence.notes[0]
    assert note.startswith("Layer 0: what makes the pool depart from a Gaussian: ")
    assert word in note
    assert not any(other in note for other in others)
    numbers = {one.name: one.value for one in fact.evidence.measures}
    dims = shapes_of(**options)
    assert numbers["excess kurtosis that these norms give a Gaussian dim"] == pytest.approx(
        dims.tokens.kurtosis, nan_ok=True
    )
    assert numbers["spread of ln norm over tokens"] == pytest.approx(dims.tokens.spread)
    assert numbers["spread of the means of dims, in standard deviations"] == pytest.approx(dims.mean_spread)
