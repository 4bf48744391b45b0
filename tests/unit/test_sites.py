"""Names of sites: one parser, one printer, and the ways to choose among them."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmfacts.errors import SiteNotFoundError, UsageError
from lmfacts.sites import PRESETS, Site, SiteKind, is_module_pattern, select

IN_BLOCK = [kind for kind in SiteKind if kind.in_block]
OUTSIDE = [kind for kind in SiteKind if not kind.in_block]

sites = st.one_of(
    st.builds(Site, st.sampled_from(IN_BLOCK), st.integers(0, 999_999_999)),
    st.builds(Site, st.sampled_from(OUTSIDE)),
)


def names(n_layers=3, without=()):
    found = [Site(kind, layer) for kind in IN_BLOCK for layer in range(n_layers)] + [Site(kind) for kind in OUTSIDE]
    return [str(site) for site in sorted(found) if site.kind not in without]


@given(sites)
def test_printing_and_parsing_round_trip(site):
    assert Site.parse(str(site)) == site


@given(st.text(max_size=40) | st.from_regex(r"blocks\.[^.]{0,3}\.[a-z_.]{0,15}", fullmatch=True))
def test_parsing_any_text_gives_a_site_or_the_error_for_it(text):
    try:
        site = Site.parse(text)
    except SiteNotFoundError:
        with pytest.raises(SiteNotFoundError, match=re.escape(repr(text))):
            Site.parse(text)
    else:
        assert Site.parse(str(site)) == site


@given(st.lists(sites, max_size=8))
def test_sites_are_ordered_by_depth(some):
    ordered = sorted(some)
    for earlier, later in itertools.pairwise(ordered):
        assert earlier <= later
        if earlier.layer is not None and later.layer is not None:
            assert earlier.layer <= later.layer


def test_depth_runs_from_the_embedding_to_the_logits():
    assert names(2)[0] == "embed"
    assert names(2)[-2:] == ["final_norm_out", "logits"]
    kinds = [kind.value for kind in IN_BLOCK]
    assert kinds == [
        *("resid_pre", "ln1_out", "q", "k", "v", "z", "attn_out"),
        *("resid_mid", "ln2_out", "mlp_pre", "mlp_post", "mlp_out", "resid_post"),
    ]
    assert names(2)[1:14] == [f"blocks.0.{kind}" for kind in kinds]
    with pytest.raises(TypeError):
        _ = Site(SiteKind.EMBED) < "embed"


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("blocks.3.hook_resid_pre", "blocks.3.resid_pre"),
        ("blocks.3.hook_resid_mid", "blocks.3.resid_mid"),
        ("blocks.3.hook_resid_post", "blocks.3.resid_post"),
        ("blocks.3.hook_attn_out", "blocks.3.attn_out"),
        ("blocks.3.hook_mlp_out", "blocks.3.mlp_out"),
        ("blocks.3.attn.hook_q", "blocks.3.q"),
        ("blocks.3.attn.hook_k", "blocks.3.k"),
        ("blocks.3.attn.hook_v", "blocks.3.v"),
        ("blocks.3.attn.hook_z", "blocks.3.z"),
        ("blocks.3.mlp.hook_pre", "blocks.3.mlp_pre"),
        ("blocks.3.mlp.hook_post", "blocks.3.mlp_post"),
        ("blocks.3.ln1.hook_normalized", "blocks.3.ln1_out"),
        ("blocks.3.ln2.hook_normalized", "blocks.3.ln2_out"),
        ("blocks.12.hook_out", "blocks.12.resid_post"),
        ("blocks.12.hook_in", "blocks.12.resid_pre"),
        ("blocks.12.attn.q.hook_out", "blocks.12.q"),
        ("blocks.12.attn.o.hook_in", "blocks.12.z"),
        ("blocks.12.mlp.hook_out", "blocks.12.mlp_out"),
        ("hook_embed", "embed"),
        ("ln_final.hook_normalized", "final_norm_out"),
        ("ln_final.hook_out", "final_norm_out"),
        ("unembed.hook_out", "logits"),
    ],
)
def test_transformerlens_spellings(spelling, name):
    assert str(Site.parse(spelling)) == name
    assert select(spelling, names(13)) == [name]
    if spelling.startswith("blocks.3."):
        assert select(spelling.replace(".3.", ".*."), names()) == [name.replace(".3.", f".{n}.") for n in range(3)]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("resid_post", "lacks its layer"),
        ("blocks.x.resid_post", "where a layer number"),
        ("blocks.-1.resid_post", "where a layer number"),
        ("blocks.03.resid_post", "where a layer number"),
        ("blocks.99999999999999999999.q", "where a layer number"),
        ("blocks.3.embed", "is not the name of a site"),
        ("blocks.3.pattern", "is not the name of a site"),
        ("blocks.3.resid_post\n", "is not the name of a site"),
        ("", "is not the name of a site"),
    ],
)
def test_what_is_no_site_name_says_why(text, reason):
    with pytest.raises(SiteNotFoundError, match=reason):
        Site.parse(text)


def test_a_layer_belongs_to_the_kinds_inside_blocks():
    for kind in IN_BLOCK:
        for layer in (None, -1):
            with pytest.raises(UsageError, match="needs a layer"):
                Site(kind, layer)
    for kind in OUTSIDE:
        with pytest.raises(UsageError, match="has no layer"):
            Site(kind, 0)


def test_presets():
    per_layer = {name: {n.rpartition(".")[2] for n in select(name, names())} for name in PRESETS}
    assert per_layer["resid"] == {"resid_pre", "resid_mid", "resid_post"}
    assert per_layer["default"] == per_layer["resid"] | {
        "ln1_out",
        "ln2_out",
        "final_norm_out",
        "z",
        "mlp_post",
        "attn_out",
        "mlp_out",
    }
    assert select("all", names()) == names(without={SiteKind.LOGITS})


def test_choosing_keeps_the_order_of_depth_and_takes_each_once():
    assert select("blocks.*.mlp_post, blocks.1.mlp_post,embed", names()) == [
        "embed",
        "blocks.0.mlp_post",
        "blocks.1.mlp_post",
        "blocks.2.mlp_post",
    ]
    assert select(["blocks.2.z", "resid", "blocks.0.z"], names()) == select("resid,blocks.{0,2}.z", names())
    assert select("blocks.1.*", names()) == [name for name in names() if name.startswith("blocks.1.")]
    assert select("blocks.[0-1].q", names()) == ["blocks.0.q", "blocks.1.q"]
    assert select("mlp_pre", names()) == [f"blocks.{layer}.mlp_pre" for layer in range(3)]
    assert select(lambda name: name.endswith(".k"), names()) == [f"blocks.{layer}.k" for layer in range(3)]


def test_layers_count_from_the_end():
    assert select("blocks.-1.resid_post", names()) == ["blocks.2.resid_post"]
    assert select("blocks.-3.hook_resid_post", names()) == ["blocks.0.resid_post"]
    assert select("blocks.{0,-1}.resid_post", names(12)) == ["blocks.0.resid_post", "blocks.11.resid_post"]
    with pytest.raises(SiteNotFoundError, match=r"'blocks\.-4\.resid_post'"):
        select("blocks.-4.resid_post", names())


def test_logits_come_only_by_name():
    assert "logits" not in select("*", names())
    assert "logits" not in select(["all", "*o*"], names())
    assert select("logits", names()) == ["logits"]
    assert select("resid_mid,*logits", names())[-1] == "logits"


@given(st.lists(st.sampled_from([*names(), *PRESETS, "blocks.*.q", "*", "resid_post"]), min_size=1, max_size=5))
def test_several_patterns_choose_the_union(patterns):
    together = select(patterns, names())
    assert together == select(",".join(patterns), names())
    assert together == [name for name in names() if any(name in select(each, names()) for each in patterns)]


def test_a_pattern_without_a_match_names_what_comes_close():
    with pytest.raises(SiteNotFoundError, match=r"did you mean blocks\.1\.resid_post") as caught:
        select("embed,blocks.1.residpost", names())
    assert "Presets are resid, default, all" in str(caught.value)
    with pytest.raises(SiteNotFoundError, match="layers 0 to 2"):
        select("blocks.7.resid_post", names())
    with pytest.raises(SiteNotFoundError, match=r"there are embed, .* \(42 in all\)\. Presets are"):
        select("§§§", names())
    with pytest.raises(SiteNotFoundError, match="no sites to choose from"):
        select("resid", [])
    with pytest.raises(SiteNotFoundError, match="took none of embed"):
        select(lambda _name: False, names())


def test_a_site_that_the_model_lacks_is_explained():
    absent = {f"blocks.{layer}.resid_mid": "parallel block: no such sum" for layer in range(3)}
    available = names(without={SiteKind.RESID_MID})
    for pattern in ("blocks.1.resid_mid", "blocks.*.resid_mid", "resid_mid", "blocks.-1.hook_resid_mid"):
        with pytest.raises(SiteNotFoundError, match="parallel block: no such sum"):
            select(pattern, available, absent)
    assert "blocks.0.resid_mid" not in select("resid", available, absent)


def test_nothing_asked_for_is_wrong_usage():
    for patterns in ("", " , ", []):
        with pytest.raises(UsageError, match="no site was named"):
            select(patterns, names())


def test_module_paths_are_told_apart_by_their_side():
    assert is_module_pattern("model.layers.*.mlp.down_proj:in")
    assert is_module_pattern("lm_head:out")
    for pattern in ("blocks.0.z", "model.layers.0:inside", "resid", "in", "out"):
        assert not is_module_pattern(pattern)
    with pytest.raises(UsageError, match="names modules"):
        select("lm_head:out", names())


def test_the_module_needs_no_torch():
    code = "import sys, lmfacts.sites; assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
