"""Comparing runs of activations: known changes, and what must not count as one."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from lmfacts.comparison import compare
from lmfacts.comparison.site_change import rounding
from lmfacts.errors import MismatchedRunsError, UsageError
from lmfacts.quantities.outlier_criteria import rms_outlier_dims
from lmfacts.render.terminal.comparison_json import comparison_json
from support.synthetic_runs import gaussian_run, residual_run

N_DIMS = 24
LAYERS = 3
SHAPE = {"n_layers": LAYERS, "n_sequences": 16, "n_positions": 32}


def values_of(layer, positions):
    return np.random.default_rng(layer).normal(size=(positions.size, N_DIMS))


def run_of(change=lambda values, layer, positions: values, **options):
    """A Gaussian run, always of the same numbers and the same text, after a change to them."""
    metadata = {"token_hash": "the same", **options.pop("metadata", {})}
    return residual_run(
        lambda layer, at: change(values_of(layer, at), layer, at), metadata=metadata, **{**SHAPE, **options}
    )


@pytest.fixture(scope="module")
def original():
    return run_of()


def at(comparison, layer):
    return next(site for site in comparison.sites if site.layer == layer)


def difference(site, key):
    return next(item for item in site.differences if item.key == key)


# Known changes


def test_a_run_against_itself_is_identical(original):
    found = compare(original, run_of())
    assert len(found.sites) == LAYERS
    assert all(site.identical and site.effect == 0 and site.decided_by is None for site in found.sites)
    assert all(item.size == 0 for site in found.sites for item in site.differences)
    assert found.beyond(0.0) == []
    assert found.paired
    assert found.caveats == ()


def test_values_that_grew_by_a_tenth(original):
    found = compare(original, run_of(lambda x, layer, _: 1.1 * x if layer == 1 else x))
    site = at(found, 1)
    assert [site.effect > 0 for site in found.sites] == [False, True, False]
    assert found.by_effect[0] is site
    assert site.std_ratio == pytest.approx(1.1, rel=1e-6)
    assert site.largest_ratio == pytest.approx(1.1, rel=1e-6)
    assert site.dims[0].log_rms_ratio == pytest.approx(math.log(1.1), rel=1e-5)
    assert site.log_norm_shift == pytest.approx(math.log(1.1), rel=1e-5)
    assert site.excess_kurtosis[0] == pytest.approx(site.excess_kurtosis[1], abs=1e-5)
    assert site.distances.wasserstein == pytest.approx(0.1 * math.sqrt(2 / math.pi), rel=0.02)
    assert site.effect == pytest.approx(math.log(1.1), rel=1e-5)
    assert [norm.ratio for norm in found.norms] == pytest.approx([1.0, 1.1, 1.0], rel=1e-5)


@pytest.mark.parametrize("blocks", [False, True])
def test_one_dim_scaled_by_a_hundredth(blocks):
    def scaled(values, layer, _):
        values[:, 7] *= 1.01 if layer == 1 else 1.0
        return values

    found = compare(run_of(blocks=blocks), run_of(scaled, blocks=blocks))
    assert found.paired
    assert [site.effect for site in found.sites] == pytest.approx([0.0, math.log(1.01), 0.0], rel=1e-4)
    assert (at(found, 1).decided_by.key, at(found, 1).decided_by.dim) == ("dim_scale", 7)


def test_values_that_moved(original):
    site = at(compare(original, run_of(lambda x, layer, _: x + (0.3 if layer == 2 else 0.0))), 2)
    assert site.mean_shift == pytest.approx(0.3, rel=0.03)
    assert difference(site, "mean").size == pytest.approx(site.mean_shift)
    assert site.std_ratio == pytest.approx(1.0, abs=1e-6)
    assert site.distances.wasserstein == pytest.approx(0.3, rel=0.03)


def test_an_outlier_dim_that_came_and_one_that_went():
    def with_dims(*dims):
        def change(values, layer, _):
            values[:, [*dims]] *= 20.0 if layer == 1 else 1.0
            return values

        return run_of(change)

    found = compare(with_dims(5, 7), with_dims(7, 11))
    (dims,) = at(found, 1).dims
    assert [one.dim for one in dims.gained] == [11]
    assert [one.dim for one in dims.lost] == [5]
    assert dims.n_kept == 1
    assert dims.gained[0].ratio_a == pytest.approx(1, rel=0.2)
    assert dims.gained[0].ratio_b == pytest.approx(20, rel=0.2)
    assert abs(dims.log_rms_ratio) == pytest.approx(math.log(20), rel=1e-5)
    assert at(found, 1).decided_by.key == "dim_scale"
    assert at(found, 0).dims[0].gained == at(found, 0).dims[0].lost == ()


def test_outlier_dims_are_those_of_the_project_s_criterion():
    rng = np.random.default_rng(0)
    scales = np.exp(1.5 * rng.normal(size=(2, N_DIMS)))
    a, b = (run_of(lambda x, *_, s=scale: x * s) for scale in scales)
    for site in compare(a, b).sites:
        in_a, in_b = (set(rms_outlier_dims(run[site.name].rest).tolist()) for run in (a, b))
        assert in_a != in_b
        assert {one.dim for one in site.dims[0].gained} == in_b - in_a
        assert {one.dim for one in site.dims[0].lost} == in_a - in_b
        assert site.dims[0].n_kept == len(in_a & in_b)


def test_a_dim_whose_mean_changes_its_sign_is_seen():
    def with_mean(mean):
        def change(values, *_):
            values[:, [3, 9]] += [mean, -mean]  # the pooled distribution stays
            return values

        return run_of(change)

    for site in compare(with_mean(6.0), with_mean(-6.0)).sites:
        assert site.decided_by.key == "dim_mean"
        assert site.decided_by.dim in (3, 9)
        assert site.effect == pytest.approx(12 / math.hypot(6, 1), rel=0.05)
        assert difference(site, "wasserstein").size < 0.1


def test_all_but_silent_dims_do_not_count_until_they_speak():
    def with_scale(scale):
        def change(values, *_):
            values[:, 4] *= scale
            return values

        return run_of(change)

    assert difference(at(compare(with_scale(1e-4), with_scale(5e-4)), 0), "dim_scale").size == 0
    woken = at(compare(with_scale(1e-4), with_scale(1.0)), 0)
    assert woken.decided_by.dim == 4
    assert woken.effect == pytest.approx(math.log(10), rel=0.1)


# Rounding


@pytest.mark.parametrize("dtypes", [("float32", "bfloat16"), ("bfloat16", "float16"), ("float64", "float32")])
def test_the_same_numbers_in_two_dtypes_are_no_change(dtypes):
    a, b = (run_of(lambda x, *_: x + np.arange(N_DIMS), dtype=dtype) for dtype in dtypes)
    found = compare(a, b)
    assert [site.effect for site in found.sites] == [0.0] * LAYERS
    assert not any(site.identical for site in found.sites)
    assert all(site.dtypes == dtypes for site in found.sites)
    assert difference(found.sites[0], "dim_scale").resolution == rounding(*dtypes)


def test_a_change_is_seen_through_the_rounding(original):
    found = compare(original, run_of(lambda x, *_: 1.02 * x, dtype="bfloat16"))
    assert [site.effect for site in found.sites] == pytest.approx([math.log(1.02)] * LAYERS, rel=0.1)


def test_unit_roundoffs():
    assert rounding("bfloat16", "bfloat16") == 0
    assert rounding("float32", "bfloat16") == 2.0**-8 + 2.0**-24
    with np.errstate(all="ignore"):
        half = np.float16(1) + np.float16(2.0**-11)
    assert half == 1  # a tie goes to even: that far is the nearest value


def test_last_bits_of_sums_do_not_count():
    values = values_of(0, np.zeros(512))
    a, b = (run_of(lambda *_, f=f: values * f, dtype="float64") for f in (1.0, 1 + 1e-13))
    found = compare(a, b)
    assert [site.effect for site in found.sites] == [0.0] * LAYERS


# Populations


def test_the_rest_is_compared_unless_asked_otherwise(original):
    changed = run_of(lambda x, _, positions: x * np.where(positions == 0, 3.0, 1.0)[:, None])
    assert compare(original, changed).population == "rest"
    assert compare(original, changed).beyond(0.0) == []
    assert len(compare(original, changed, population="first").beyond(1.0)) == LAYERS
    assert len(compare(original, changed, population="all").beyond(0.0)) == LAYERS


def test_all_tokens_where_there_is_only_position_0(original):
    lone = run_of(n_sequences=512, n_positions=1)
    assert compare(lone, lone).population == "all"
    assert compare(original, lone).population == "all"
    with pytest.raises(MismatchedRunsError, match="no tokens in B"):
        compare(original, lone, population="rest")
    with pytest.raises(UsageError, match="all, first or rest"):
        compare(original, original, population="last")


# Nothing, constants, NaN


@pytest.mark.parametrize("value", [0.0, 2.5])
def test_constant_sites_that_are_equal(value):
    a, b = (run_of(lambda x, *_: np.full_like(x, value)) for _ in range(2))
    site = compare(a, b).sites[0]
    assert site.identical
    assert site.std_ratio == 1
    assert site.mean_shift == 0
    assert site.largest_ratio == 1
    assert (site.distances.ks, site.distances.wasserstein) == (0, 0)


@pytest.mark.parametrize("there", ["zero", "constant", "gaussian"])
@pytest.mark.parametrize("here", ["zero", "constant", "gaussian"])
def test_constant_sites_that_are_not(here, there):
    if here == there:
        return
    make = {"zero": np.zeros_like, "constant": lambda x: np.full_like(x, -2.5), "gaussian": lambda x: x}
    a, b = (run_of(lambda x, *_, f=make[kind]: f(x)) for kind in (here, there))
    found = compare(a, b)
    assert found.sites[0].effect > 0.3
    json.dumps(comparison_json(found), allow_nan=False)


def test_a_dim_that_died(original):
    def change(values, *_):
        values[:, 6] = 0.0
        return values

    site = compare(original, run_of(change)).sites[0]
    assert site.decided_by.key == "dim_scale"
    assert site.decided_by.dim == 6
    assert site.dims[0].log_rms_ratio == pytest.approx(-math.log(10), rel=0.1)
    back = compare(run_of(change), original).sites[0]
    assert back.dims[0].log_rms_ratio == pytest.approx(math.log(10), rel=0.1)


def test_more_than_half_of_the_dims_at_zero():
    def change(factor):
        def zeroed(values, *_):
            values[:, : N_DIMS - 2] = 0.0
            return values * factor

        return run_of(zeroed)

    assert compare(change(1.0), change(1.0)).sites[0].identical
    assert compare(change(1.0), change(2.0)).sites[0].effect == pytest.approx(math.log(2), rel=1e-5)


def test_nan_and_infinities_that_are_new_are_a_change_of_one(original):
    def one_nan(values, layer, _):
        values[5, 3] = np.nan if layer == 0 else np.inf if layer == 1 else values[5, 3]
        return values

    found = compare(original, run_of(one_nan))
    assert [difference(site, "nonfinite").size for site in found.sites] == [1.0, 1.0, 0.0]
    assert found.sites[0].effect == 1.0
    assert found.sites[0].n_nonfinite == (0, 1)
    both = compare(run_of(one_nan), run_of(one_nan))
    assert all(site.identical for site in both.sites)


def test_sites_that_hold_only_nan(original):
    hollow = run_of(lambda x, *_: np.full_like(x, np.nan))
    found = compare(original, hollow)
    assert [site.effect for site in found.sites] == [1.0] * LAYERS
    assert math.isnan(found.sites[0].distances.ks)
    document = json.loads(json.dumps(comparison_json(found), allow_nan=False))
    assert document["sites"][0]["std_ratio"] is None
    assert all(site.effect == 0 for site in compare(hollow, hollow).sites)


# Which sites


def test_sites_are_matched_by_name_and_alias():
    a = residual_run(values_of, **SHAPE)
    states = {f"blocks.{layer + 1}.resid_pre": a[f"blocks.{layer}.resid_post"].state for layer in range(LAYERS - 1)}
    entries = [{"name": name} for name in states]
    b = type(a)({"kind": "activations", "model": {"id": "b"}, "sites": entries}, states)
    found = compare(a, b)
    assert [(site.name, site.name_b) for site in found.sites] == [
        ("blocks.0.resid_post", "blocks.1.resid_pre"),
        ("blocks.1.resid_post", "blocks.2.resid_pre"),
    ]
    assert found.only_a == ("blocks.2.resid_post",)
    assert compare(b, a).only_b == ("blocks.2.resid_post",)
    assert all(site.identical for site in found.sites)


def test_sites_of_other_widths_are_set_apart(original):
    def neurons(run):
        names = {name: name.replace("resid_post", "mlp_post") for name in run}
        states = {new: run[name].state for name, new in names.items()}
        return type(run)({"kind": "activations", "model": {"id": "x"}, "sites": [{"name": n} for n in states]}, states)

    def widen(x, layer, _):
        return np.concatenate([x, x], axis=1) if layer == 1 else x

    found = compare(neurons(original), neurons(run_of(widen, n_layers=4)))
    assert [site.layer for site in found.sites] == [0, 2]
    assert [(site.name, site.reason) for site in found.not_comparable] == [
        ("blocks.1.mlp_post", f"{N_DIMS} dims in A and {2 * N_DIMS} in B")
    ]
    assert found.only_b == ("blocks.3.mlp_post",)


def test_runs_that_cannot_be_compared(original):
    weights = type(original)(
        {**original.metadata, "kind": "gradients"}, {name: original[name].state for name in original}
    )
    with pytest.raises(MismatchedRunsError, match="A is a run of activations and B one of gradients"):
        compare(original, weights)
    other = type(original)(
        {"kind": "activations", "model": {"id": "b"}, "sites": [{"name": "embed"}]},
        {"embed": original["blocks.0.resid_post"].state},
    )
    with pytest.raises(MismatchedRunsError, match="no site in common"):
        compare(original, other)
    with pytest.raises(MismatchedRunsError, match="24 dims in A and 8 in B, and 2 more"):
        compare(original, gaussian_run(**SHAPE))


# What else differs


def test_runs_are_paired_by_the_hash_of_their_tokens(original):
    assert compare(original, run_of()).paired
    for other in ({"token_hash": "another"}, {"token_hash": None}, {"n_tokens": 511}):
        found = compare(original, run_of(lambda x, *_: 3.0 * x, metadata=other))
        assert not found.paired
        assert not any(site.judged for site in found.sites)
        assert found.beyond(0.0) == []
        assert len(found.caveats) == 1
        assert found.caveats[0].endswith("counts.")
    unknown = compare(run_of(metadata={"token_hash": None}), run_of(metadata={"token_hash": None}))
    assert not unknown.paired
    assert unknown.caveats[0].startswith("Whether the runs read the same text was not recorded")


def test_a_hash_of_tokens_that_were_not_known_pairs_nothing(original):
    def without_ids(run):
        def unknown(part):
            index = part.arrays["outlier_index"].copy()
            index[:, 3] = -1
            return replace(part, arrays={**part.arrays, "outlier_index": index})

        states = {
            name: replace(run[name].state, first=unknown(run[name].state.first), rest=unknown(run[name].state.rest))
            for name in run
        }
        return type(run)(run.metadata, states)

    assert not compare(without_ids(run_of()), original).paired
    assert not compare(original, without_ids(run_of())).paired
    assert compare(without_ids(run_of()), without_ids(run_of())).caveats[0].startswith("Whether the runs read the same")


def test_caveats():
    hashed = {"token_hash": "one", "tokenizer": {"fingerprint": "x"}, "settings": {"seq_len": 32, "pack": True}}
    a = run_of(metadata=hashed)
    assert compare(a, run_of(metadata=hashed)).caveats == ()
    b = run_of(
        metadata={
            "token_hash": "two",
            "tokenizer": {"fingerprint": "y"},
            "settings": {"seq_len": 64, "pack": True},
            "model": {"id": "other", "n_layers": LAYERS + 1, "family": "x"},
            "complete": False,
            "incomplete_reason": "interrupted",
        }
    )
    assert compare(a, b).caveats == (
        "B is not complete: interrupted.",
        "The models are of different build (number of layers 3 and 4): sites are matched by their names alone.",
        "The tokenizers differ, so that the same text is other tokens.",
        "The runs read different text: only what exceeds the noise of that counts.",
        "The text was cut differently (length of sequences 32 and 64).",
    )
    shorter = run_of(metadata={**hashed, "n_tokens": 99})
    assert "different amounts of text (512 and 99 tokens)" in " ".join(compare(a, shorter).caveats)
    assert not compare(a, shorter).paired


def test_the_order_is_that_of_effects(original):
    found = compare(original, run_of(lambda x, layer, _: x * (1.0, 1.5, 1.2)[layer]))
    assert [site.layer for site in found.by_effect] == [1, 2, 0]
    assert [site.layer for site in found.beyond(0.1)] == [1, 2]
    assert [site.layer for site in found.beyond(0.3)] == [1]


def test_comparing_loads_neither_torch_nor_scipy():
    program = (
        "import sys, lmfacts.comparison\n"
        "import lmfacts.render.terminal.comparison_view, lmfacts.render.terminal.comparison_json\n"
        "print(sorted({'torch', 'transformers', 'scipy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
