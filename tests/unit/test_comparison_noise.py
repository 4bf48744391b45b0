"""The noise of runs of different text: what must not count as change, and what must all the same."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import combinations
from math import nan

import numpy as np
import pytest

from lmfacts.comparison import compare, fact_change
from lmfacts.comparison import noise as noise_module
from lmfacts.comparison.dim_change import change_of_dims
from lmfacts.comparison.noise import FALSE_POSITIVES, Absence, Spread, chances_of_site, noises
from lmfacts.comparison.site_change import Difference
from lmfacts.stats.distances import distances
from lmfacts.stats.moments import Moments, pool_moments
from support.accumulated_runs import accumulated_run
from support.synthetic_runs import residual_run

N_DIMS, N_LAYERS, N_SEQUENCES, N_POSITIONS = 24, 3, 32, 32
N_PAIRS = 12
ALL_KEYS = {"levy", "wasserstein", "mean", "std", "dim_scale", "dim_mean"}


@pytest.fixture(scope="module", autouse=True)
def no_facts():
    """Facts take longer than all that is tested here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fact_change, "check", lambda _run: [])
        yield


def run_of(seed, *, sequence_scale=0.0, change=lambda values, layer: values, n_sequences=N_SEQUENCES, **options):
    """A run of Gaussian values, independent from layer to layer, whose sequences may have scales of their own."""
    rng = np.random.default_rng(seed)

    def values_of(layer, sequence, position):
        scales = np.exp(sequence_scale * rng.normal(size=n_sequences))
        return change(rng.normal(size=(position.size, N_DIMS)) * scales[sequence][:, None], layer)

    return accumulated_run(values_of, n_layers=N_LAYERS, n_sequences=n_sequences, n_positions=N_POSITIONS, **options)


def difference(site, key):
    return next(item for item in site.differences if item.key == key)


def site_of(comparison, layer):
    return next(site for site in comparison.sites if site.name == f"blocks.{layer}.resid_post")


# Runs of one law


@pytest.fixture(scope="module", params=[0.0, 0.25], ids=["independent tokens", "scales of sequences"])
def of_one_law(request):
    """Comparisons of runs of one law: 12 pairs of 4 independent sites."""
    runs = [run_of(seed, sequence_scale=request.param) for seed in range(2 * N_PAIRS)]
    return [compare(a, b) for a, b in zip(runs[::2], runs[1::2], strict=True)]


def test_two_samples_of_one_law_are_no_change(of_one_law):
    assert not any(found.paired for found in of_one_law)
    assert all(site.judged for found in of_one_law for site in found.sites)
    assert [found.beyond(0.0) for found in of_one_law] == [[]] * N_PAIRS
    assert all(site.decided_by is None and site.effect == 0 for found in of_one_law for site in found.sites)
    sizes = [item.size for found in of_one_law for site in found.sites for item in site.differences if item.judged]
    assert min(sizes) > 0  # it is the noise that makes the difference


def test_noise_follows_the_size_that_differences_have(of_one_law):
    """Not only above it: the mean square is that of the differences themselves, and the noise a few times its root."""
    sizes: dict[str, list[float]] = {}
    for found in of_one_law:
        for site in found.sites:
            for item in site.differences:
                if item.judged:
                    sizes.setdefault(item.key, []).append(item.size / item.noise)
    assert set(sizes) == ALL_KEYS
    for ratios in sizes.values():
        assert 0.1 < np.sqrt(np.mean(np.square(ratios))) < 0.5


def test_the_mean_square_of_halves_is_that_of_the_runs():
    """E T(A, B)^2 = (E T(halves of A)^2 + E T(halves of B)^2) / 4, for each difference and for runs of two sizes."""
    squares: dict[str, list[tuple[float, float]]] = {}
    for seed in range(40):
        a = run_of(seed, sequence_scale=0.1, n_sequences=16)
        b = run_of(1000 + seed, sequence_scale=0.1, n_sequences=48)
        found = compare(a, b)
        for layer in range(N_LAYERS):
            site, name = site_of(found, layer), f"blocks.{layer}.resid_post"
            for key, chance in chances_of_site(a[name].rest, b[name].rest).items():
                squares.setdefault(key, []).append((difference(site, key).size ** 2, chance.mean_square))
    assert set(squares) == ALL_KEYS
    for pairs in squares.values():
        seen, predicted = np.mean(pairs, axis=0)
        assert math.sqrt(seen / predicted) == pytest.approx(1.0, abs=0.15)


# What changed all the same


@pytest.mark.parametrize("sequence_scale", [0.0, 0.25])
def test_a_change_beyond_the_noise_is_found_and_measured_by_its_excess(sequence_scale):
    growth = 1.03 if sequence_scale == 0 else 1.6
    a = run_of(0, sequence_scale=sequence_scale)
    b = run_of(1, sequence_scale=sequence_scale, change=lambda x, layer: x * growth if layer == 1 else x)
    found = compare(a, b)
    site = site_of(found, 1)
    assert [other.name for other in found.beyond(0.0)] == [site.name]
    by = site.decided_by
    assert by.size > by.noise > 0
    assert site.effect == by.excess == by.size - by.noise
    assert difference(site, "std").size == pytest.approx(math.log(growth), abs=0.015 if sequence_scale == 0 else 0.2)
    assert found.beyond(site.effect) == []
    assert found.beyond(0.99 * site.effect) == [site]


def test_a_change_of_shape_and_one_of_the_mean_are_found():
    def change(values, layer):
        return np.sign(values) if layer == 0 else values + 0.06 if layer == 2 else values

    found = compare(run_of(0), run_of(1, change=change))
    assert [site.layer for site in found.sites if site.effect > 0] == [0, 2]
    assert difference(site_of(found, 0), "levy").counts
    assert difference(site_of(found, 2), "mean").counts
    assert not difference(site_of(found, 2), "std").counts


@pytest.mark.parametrize(("key", "size"), [("dim_scale", math.log(2)), ("dim_mean", 1 / math.sqrt(2))])
def test_a_change_of_a_single_dim_is_found(key, size):
    def change(values, layer):
        if layer == 1 and key == "dim_scale":
            values[:, 5] *= 2.0
        if layer == 1 and key == "dim_mean":
            values[:, 5] += 1.0  # which its root mean square grows with
        return values

    found = compare(run_of(0), run_of(1, change=change))
    (site,) = found.beyond(0.0)
    assert site.layer == 1
    assert (site.decided_by.key, site.decided_by.dim) == (key, 5)
    assert site.decided_by.size == pytest.approx(size, rel=0.15)
    assert 0 < site.decided_by.noise < 0.7 * size


def test_rare_large_values_of_single_dims_are_no_change():
    """One sequence in ten holds a value of 200 standard deviations in some dim: each run has others."""

    def rare(seed):
        rng = np.random.default_rng([7, seed])

        def change(values, _layer):
            for sequence in np.flatnonzero(rng.random(N_SEQUENCES) < 0.1):
                at = sequence * N_POSITIONS + rng.integers(1, N_POSITIONS)
                values[at, rng.integers(N_DIMS)] = 200.0
            return values

        return run_of(seed, change=change)

    for seed in range(0, 16, 2):
        found = compare(rare(seed), rare(seed + 1))
        sizes = [(difference(site, "dim_scale").size, difference(site, "dim_scale").noise) for site in found.sites]
        assert all(size < noise for size, noise in sizes)
        assert max(size for size, _ in sizes) > 1  # the dims themselves do differ


def test_noise_falls_with_the_number_of_sequences():
    few, many = ([run_of(seed, n_sequences=n) for seed in (0, 1)] for n in (16, 256))
    for key in ("levy", "wasserstein", "mean", "std"):
        by_size = [np.mean([difference(site, key).noise for site in compare(*runs).sites[1:]]) for runs in (few, many)]
        assert by_size[0] / by_size[1] == pytest.approx(4.0, rel=0.35)


# What counts


def test_a_difference_counts_above_its_resolution_and_its_noise_together():
    below, above = (Difference("std", size, resolution=0.1, noise=0.15) for size in (0.2499, 0.2501))
    assert (below.counts, below.excess) == (False, 0.0)
    assert (above.counts, above.excess) == (True, pytest.approx(0.1001))
    unknown = Difference("dim_scale", 5.0, noise=math.nan)
    assert (unknown.judged, unknown.counts, unknown.excess) == (False, False, 0.0)
    assert Difference("std", 0.2).excess == 0.2


def test_the_effect_is_the_largest_excess_and_not_the_largest_difference():
    site = site_of(compare(run_of(0), run_of(1)), 1)
    sizes = {"levy": 0.5, "wasserstein": 0.9, "mean": 0.0}
    noise = {"levy": 0.1, "wasserstein": 0.7, "mean": 0.1}
    named = tuple(
        replace(item, size=sizes.get(item.key, 0.0), noise=noise.get(item.key, nan)) for item in site.differences
    )
    changed = replace(site, differences=named)
    assert (changed.decided_by.key, changed.effect) == ("levy", pytest.approx(0.4))
    quiet = changed.with_noise({"levy": 1.0, "wasserstein": 1.2, "mean": 0.1})
    assert (quiet.decided_by, quiet.effect, quiet.foremost.key) == (None, 0.0, "wasserstein")
    assert changed.with_noise({}).foremost is None


def test_rounding_and_different_text_together():
    found = compare(run_of(0), run_of(1, dtype="bfloat16"))
    assert found.beyond(0.0) == []
    assert all(difference(site, "std").resolution > 0.003 for site in found.sites)
    assert all(difference(site, "std").noise > 0.003 for site in found.sites)


def test_a_std_that_grew_much_counts_in_another_dtype_too():
    """The rounding of a std is a share of that std: 2^-8 of B's own, not ten thousand times as much of A's."""
    a = run_of(0)
    for dtype in ("float32", "bfloat16"):
        found = compare(a, run_of(1, change=lambda x, _: 1e4 * x, dtype=dtype))
        for site in found.sites:
            by = difference(site, "std")
            assert by.counts
            assert by.resolution < 0.005
            assert by.size == pytest.approx(math.log(1e4), rel=0.01)


# What can be judged


def test_what_the_blocks_allow_to_judge():
    site = site_of(compare(run_of(0), run_of(1)), 1)
    assert {item.key for item in site.differences if item.judged} == ALL_KEYS
    shape = {"n_layers": 1, "n_sequences": 16, "n_positions": 16}
    rngs = [np.random.default_rng(seed) for seed in (0, 1)]
    norms_only = [
        residual_run(lambda _, at, rng=rng: rng.normal(size=(at.size, 8)), blocks=True, **shape) for rng in rngs
    ]
    (site,) = compare(*norms_only).sites
    assert {item.key for item in site.differences if item.judged} == {"std"}
    assert site.judged
    nothing = [residual_run(lambda _, at, rng=rng: 2 * rng.normal(size=(at.size, 8)), **shape) for rng in rngs]
    for pair in ((norms_only[0], nothing[1]), (nothing[0], norms_only[1])):
        (site,) = compare(*pair).sites
        assert not any(item.judged for item in site.differences)
        assert not site.judged
        assert site.effect == 0
        assert difference(site, "std").size > 0.5
        assert compare(*pair).beyond(0.0) == compare(*pair).judged == []


def test_fewer_than_eight_sequences_cannot_be_judged():
    assert compare(run_of(0, n_sequences=8), run_of(1, n_sequences=8)).judged
    assert not compare(run_of(0, n_sequences=7), run_of(1, n_sequences=8)).judged
    assert not compare(run_of(0, n_sequences=8), run_of(1, n_sequences=7)).judged
    hollow = run_of(0, n_sequences=7, change=lambda values, _: values + np.where(np.arange(N_DIMS) == 3, np.nan, 0.0))
    assert not compare(hollow, run_of(1)).judged


def test_the_std_by_norms_agrees_with_that_by_codes():
    a, b = (run_of(seed, sequence_scale=0.2)["blocks.1.resid_post"].rest for seed in (0, 1))
    by_codes = noise_module._halves_of_codes(a, a.blocks, a.std)["std"]
    by_norms = noise_module._halves_of_norms(a, a.blocks)["std"]
    np.testing.assert_allclose(by_norms, by_codes, rtol=0.02, atol=2e-4)
    assert chances_of_site(a, b)["std"].modes == 1


def test_halves_of_dims_are_compared_as_runs_are():
    run = run_of(3, sequence_scale=0.25, change=lambda x, _: x * np.linspace(1, 3, N_DIMS) + 0.2)
    site = run["blocks.1.resid_post"].rest
    of_halves = noise_module._halves_of_dims(site)
    blocks = site.dim_blocks
    for split in (0, 17, 34):
        first = noise_module._SPLITS[split] > 0
        rms, means = [], []
        for chosen in (first, ~first):
            n = blocks.n[chosen].sum()
            rms.append(np.sqrt(blocks.squares[chosen].sum(axis=0) / n))
            means.append(blocks.sums[chosen].sum(axis=0) / n)
        change = change_of_dims("dim", tuple(rms), tuple(means))
        assert of_halves["dim_scale"][split] == pytest.approx(abs(change.log_rms_ratio), rel=1e-9)
        assert of_halves["dim_mean"][split] == pytest.approx(abs(change.mean_shift), rel=1e-9)


@pytest.mark.parametrize(("mean", "judged"), [(0.19, True), (0.21, False)])
def test_norms_tell_the_std_only_where_the_mean_is_small(mean, judged):
    rng = np.random.default_rng(0)

    def values_of(_, at):
        values = rng.normal(size=(at.size, 8))
        return mean + (values - values.mean()) / values.std()

    runs = [residual_run(values_of, n_layers=1, n_sequences=64, n_positions=32, blocks=True) for _ in range(2)]
    assert bool(compare(*runs).judged) is judged


@pytest.mark.parametrize(("std", "judged"), [(0.01, True), (0.0005, False)])
def test_cells_tell_mean_and_std_only_where_they_are_fine_enough(std, judged):
    """Near 1.003 float32 values have cells of 0.0078."""
    found = compare(*(run_of(seed, change=lambda x, _: 1.003 + std * x) for seed in (0, 1)))
    site = site_of(found, 1)
    assert {item.key for item in site.differences if item.judged} == ALL_KEYS - (set() if judged else {"mean", "std"})
    assert site.effect == 0


# The halves against the distances of the runs themselves


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_halves_are_compared_as_runs_are(dtype):
    site = run_of(3, sequence_scale=0.25, dtype=dtype)["blocks.1.resid_post"].rest
    found = noise_module._halves_of_codes(site, site.blocks, site.std)
    for split in (0, 17, 34):
        first = noise_module._SPLITS[split] > 0
        one, other = (_joined(site, chosen) for chosen in (first, ~first))
        apart = distances(one, other)
        scale = one.std / site.std
        assert found["wasserstein"][split] == pytest.approx(apart.wasserstein * scale, rel=0.03)
        assert found["levy"][split] == pytest.approx(apart.levy, rel=0.1)
        assert found["mean"][split] == pytest.approx(abs(one.mean - other.mean) / site.std, rel=0.02, abs=1e-4)
        assert found["std"][split] == pytest.approx(abs(math.log(other.std / one.std)), rel=0.02, abs=1e-4)


def _joined(site, chosen):
    """The distribution of some blocks together."""
    counts = np.zeros(1 << 16, dtype=np.int64)
    for (codes, n), taken in zip(site.blocks.histograms, chosen, strict=True):
        counts[codes] += n.astype(np.int64) * taken
    held = np.flatnonzero(counts).astype(np.uint16)
    return type(site.distribution)(held, counts[held], site.dtype)


def test_there_are_35_ways_to_halve():
    splits = noise_module._SPLITS
    assert splits.shape == (35, 8)
    assert (splits.sum(axis=1) == 4).all()
    assert len({tuple(row) for row in (*splits, *(1 - splits))}) == 70


# The factor


def test_one_number_has_student_s_factor():
    from scipy.special import stdtrit

    halves = np.random.default_rng(0).normal(size=35)
    spread = Spread.of_halves(halves, halves, single=True)
    assert (spread.modes, spread.freedom) == (1.0, pytest.approx(14.0))
    assert spread.mean_square == pytest.approx(np.mean(halves**2) / 2)
    for chance in (0.05, 1e-4):
        factor = float(stdtrit(14, 1 - chance / 2))
        assert spread.noise(chance) == pytest.approx(factor * math.sqrt(spread.mean_square))
    lopsided = Spread.of_halves(halves, 1e-6 * halves, single=True)
    assert lopsided.freedom == pytest.approx(7.0)
    assert Spread.of_halves(0 * halves, 0 * halves, single=False).noise(1e-9) == 0.0
    assert Spread.of_halves(np.full(35, np.nan), halves, single=True) is None


@pytest.mark.parametrize("modes", [1, 4, 16])
def test_the_number_of_modes_is_never_taken_too_large(modes):
    rng = np.random.default_rng(modes)
    contrasts = (2 * noise_module._SPLITS - 1) / 4
    found = []
    for _ in range(400):
        a, b = (np.sqrt(((contrasts @ rng.normal(size=(8, modes))) ** 2).sum(axis=1)) for _ in range(2))
        found.append(Spread.of_halves(a, b, single=False).modes)
    assert np.quantile(found, 0.9) <= modes
    assert np.median(found) >= max(modes / 3, 1)
    assert Spread.of_halves(np.ones(35), np.ones(35), single=False).modes == 50


def test_all_judged_differences_share_the_chance_of_a_false_positive():
    spread = Spread(1.0, 1.0, 14.0)
    assert noises([{"std": spread}]) == [{"std": spread.noise(FALSE_POSITIVES)}]
    shared = noises([{"std": spread, "mean": spread}, {}, {"std": spread, "levy": spread}])
    assert shared[1] == {}
    assert {value for site in shared for value in site.values()} == {spread.noise(FALSE_POSITIVES / 4)}


# Norms by depth


def test_norms_by_depth_have_a_noise_of_their_own():
    a, b = (run_of(seed, sequence_scale=0.1) for seed in (0, 1))
    same_law = compare(a, b).norms
    assert [norm.label for norm in same_law] == ["in", "0", "1", "2"]
    assert not any(norm.counts for norm in same_law)
    assert all(0.03 < norm.noise < 0.3 for norm in same_law)  # 32 sequences of sd .1: .025 between two runs
    grown = run_of(1, sequence_scale=0.1, change=lambda x, layer: 1.5 * x if layer == 1 else x)
    assert [norm.counts for norm in compare(a, grown).norms] == [False, False, True, False]
    assert all(math.isnan(norm.noise) for norm in compare(a, run_of(1, blocks=False)).norms)
    assert not any(norm.counts for norm in compare(a, run_of(1, blocks=False)).norms)


# NaN and infinities


def with_nan(n_blocks):
    """A change that puts a NaN into the first so many blocks of sequences, at layer 1."""

    def change(values, layer):
        for block in range(n_blocks if layer == 1 else 0):
            values[block * N_POSITIONS + 5, 3] = np.nan
        return values

    return change


@pytest.mark.parametrize(("n_blocks", "counts"), [(0, False), (1, False), (4, False), (6, True), (8, True)])
def test_nan_that_only_one_run_has(n_blocks, counts):
    a, b = run_of(0), run_of(1, change=with_nan(n_blocks))
    for found in (compare(a, b), compare(b, a)):
        assert difference(site_of(found, 1), "nonfinite").size == float(n_blocks > 0)
        assert difference(site_of(found, 1), "nonfinite").counts is counts


def test_the_chance_that_a_text_has_none():
    assert [Absence(k, 1.0).noise(1e-4) for k in range(1, 9)] == [1, 1, 1, 1, 1, 1, 0, 0]
    assert Absence(8, 0.25).noise(1e-4) == 1  # a quarter of the text may well have none
    assert Absence(5, 2.0).noise(1e-4) == 0


def test_nan_in_both_runs_cannot_be_judged():
    found = compare(run_of(0, change=with_nan(1)), run_of(1, change=with_nan(8)))
    assert not difference(site_of(found, 1), "nonfinite").judged
    assert difference(site_of(found, 1), "std").judged


# Values that do not vary


def test_constant_values_have_no_noise():
    rng = np.random.default_rng(0)
    runs = [run_of(seed, change=lambda x, layer: np.full_like(x, 2.5) if layer == 1 else x) for seed in (0, 1)]
    site = site_of(compare(*runs), 1)
    assert site.identical
    moved = run_of(2, change=lambda x, layer: np.full_like(x, 2.6) if layer == 1 else rng.normal(size=x.shape))
    assert site_of(compare(runs[0], moved), 1).effect >= 0  # neither a NaN nor an error


def test_pooled_moments_of_blocks_are_those_of_the_site():
    site = run_of(0)["blocks.1.resid_post"].rest
    norms = site.blocks.norms
    whole = pool_moments([Moments(*(getattr(norms, f)[i] for f in vars(norms))) for i in range(8)])
    assert float(whole.mean) == pytest.approx(site.norms.mean)


def halves_of(values, sequence, statistic):
    """|statistic of one half - of the other| of values [tokens, dims] of blocks modulo 8, for the 35 splits."""
    blocks = sequence % 8
    halves = [half for half in combinations(range(8), 4) if 0 in half]
    inside = [np.isin(blocks, half) for half in halves]
    return np.array([abs(statistic(values[~at]) - statistic(values[at])) for at in inside])


def test_what_halves_differ_by_is_what_their_values_do():
    """In mean and std, of sequences that have means and scales of their own; from codes, and from norms alone."""
    rng = np.random.default_rng(5)
    means, scales = rng.normal(size=N_SEQUENCES), np.exp(0.3 * rng.normal(size=N_SEQUENCES))
    kept = {}

    def values_of(layer, sequence, position):
        kept[layer] = rng.normal(size=(position.size, N_DIMS)) * scales[sequence][:, None] + means[sequence][:, None]
        kept["rest"] = position > 0, sequence
        return kept[layer]

    site = accumulated_run(values_of, n_sequences=N_SEQUENCES, n_positions=N_POSITIONS)["blocks.0.resid_post"].rest
    rest, sequence = kept["rest"]
    values, sequence = kept[0][rest], sequence[rest]
    from_codes = noise_module._halves_of_codes(site, site.blocks, site.std)
    np.testing.assert_allclose(from_codes["mean"], halves_of(values, sequence, np.mean) / values.std(), atol=2e-3)
    of_std = halves_of(values, sequence, lambda half: math.log(half.std()))
    of_squares = halves_of(values, sequence, lambda half: math.log(np.square(half).mean()) / 2)
    assert np.abs(of_std - of_squares).max() > 0.02  # that the mean is taken off matters
    np.testing.assert_allclose(from_codes["std"], of_std, atol=2e-3)


def test_norms_tell_a_std_about_the_mean_of_the_site():
    rng = np.random.default_rng(6)
    kept = {}

    def values_of(_, sequence, position):
        kept["values"] = 0.19 + np.exp(0.3 * (sequence % 8))[:, None] * rng.normal(size=(position.size, N_DIMS)) / 3
        kept["rest"] = position > 0, sequence
        return kept["values"]

    site = accumulated_run(values_of, n_sequences=N_SEQUENCES, n_positions=N_POSITIONS)["blocks.0.resid_post"].rest
    rest, sequence = kept["rest"]
    values, sequence = kept["values"][rest], sequence[rest]
    site_mean = values.mean()
    about = halves_of(values, sequence, lambda half: math.log(np.square(half).mean() - site_mean**2) / 2)
    found = noise_module._halves_of_norms(site, site.blocks)["std"]
    np.testing.assert_allclose(found, about, rtol=1e-5)
    assert np.abs(found - halves_of(values, sequence, lambda half: math.log(np.square(half).mean()) / 2)).max() > 1e-3


def test_distances_are_in_units_of_a_whichever_run_that_is():
    a, b = run_of(0), run_of(1, change=lambda x, _: 3.0 * x)
    name = "blocks.1.resid_post"
    one, other = chances_of_site(a[name].rest, b[name].rest), chances_of_site(b[name].rest, a[name].rest)
    for key in ("wasserstein", "mean"):
        in_values = [math.sqrt(found[key].mean_square) * run[name].rest.std for found, run in ((one, a), (other, b))]
        assert in_values[0] == pytest.approx(in_values[1], rel=1e-9)
    assert math.sqrt(one["wasserstein"].mean_square / other["wasserstein"].mean_square) == pytest.approx(3, rel=0.02)
    assert one["std"].mean_square == pytest.approx(other["std"].mean_square, rel=1e-9)


def test_the_difference_of_two_numbers_has_one_mode():
    a, b = (run_of(seed)["blocks.1.resid_post"].rest for seed in (0, 1))
    chances = chances_of_site(a, b)
    assert (chances["mean"].modes, chances["std"].modes) == (1.0, 1.0)
    assert min(chances["levy"].modes, chances["wasserstein"].modes) > 1.0


@pytest.mark.parametrize("turned", [False, True])
def test_what_only_one_run_has_is_held_against_the_size_of_the_other(turned):
    hollow = run_of(0, change=lambda x, _: np.where(np.arange(N_DIMS) == 3, np.nan, x))
    pair = hollow["blocks.1.resid_post"].rest, run_of(1, n_sequences=3 * N_SEQUENCES)["blocks.1.resid_post"].rest
    assert chances_of_site(*(pair[::-1] if turned else pair))["nonfinite"] == Absence(8, 3.0)


@pytest.mark.parametrize("turned", [False, True])
def test_a_std_about_a_large_mean_is_known_less_well(turned):
    plain, shifted = run_of(0), run_of(1, change=lambda x, _: 2 * x + 40.0, dtype="bfloat16")
    found = compare(shifted, plain) if turned else compare(plain, shifted)
    by = difference(site_of(found, 1), "std")
    assert by.resolution == pytest.approx((2.0**-8 + 2.0**-24) * math.hypot(20.0, 1.0), rel=0.02)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
def test_numbers_at_the_ends_of_the_range_raise_no_warnings(scale):
    found = compare(run_of(0), run_of(1, change=lambda x, _: scale * x, dtype="float64"))
    assert all(site.effect >= 0 for site in found.sites)
    assert not any(item.noise < 0 for site in found.sites for item in site.differences)
