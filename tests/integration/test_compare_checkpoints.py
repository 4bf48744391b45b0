"""Two checkpoints at hand: matched, compared exactly, a pair of tensors at a time."""

from __future__ import annotations

import json
import math
import tracemalloc

import numpy as np
import pytest
import safetensors.torch
import torch

from lmfacts.comparison import compare_checkpoints, tensor_change
from lmfacts.errors import MismatchedRunsError, UsageError
from lmfacts.render.terminal.checkpoints_json import checkpoints_json
from lmfacts.render.terminal.checkpoints_view import render_checkpoints
from lmfacts.render.terminal.console import to_text

D, N_HEADS, VOCABULARY = 64, 4, 90
SIZES = {"hidden_size": D, "num_attention_heads": N_HEADS, "num_key_value_heads": N_HEADS, "num_hidden_layers": 2}
LLAMA = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], **SIZES}


def llama_tensors(seed=0, *, tied=True):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator)

    tensors = {"model.embed_tokens.weight": draw(VOCABULARY, D), "model.norm.weight": 1 + 0.1 * draw(D)}
    for layer in range(2):
        block = f"model.layers.{layer}"
        for name in ("q", "k", "v", "o"):
            tensors[f"{block}.self_attn.{name}_proj.weight"] = draw(D, D)
        tensors[f"{block}.mlp.gate_proj.weight"] = draw(2 * D, D)
        tensors[f"{block}.mlp.up_proj.weight"] = draw(2 * D, D)
        tensors[f"{block}.mlp.down_proj.weight"] = draw(D, 2 * D)
        tensors[f"{block}.input_layernorm.weight"] = 1 + 0.1 * draw(D)
    if not tied:
        tensors["lm_head.weight"] = draw(VOCABULARY, D)
    return tensors


def save(folder, tensors, config=LLAMA, *, tied=True):
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({**config, "tie_word_embeddings": tied}))
    safetensors.torch.save_file(
        {name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "m.safetensors"
    )
    return folder


def relative(a, b):
    return float((b.double() - a.double()).norm() / a.double().norm())


def by_name(found):
    return {change.name: change for change in found.changes}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save(tmp_path_factory.mktemp("a") / "a", llama_tensors())


def test_a_checkpoint_and_itself(model):
    found = compare_checkpoints(model, model)
    assert len(found.changes) == len(llama_tensors())
    assert all(change.effect == 0 and change.spectrum is None for change in found.changes)
    assert found.beyond(0) == []
    assert (found.only_a, found.only_b, found.not_comparable) == ((), (), ())
    assert f"Nothing: every entry of {len(found.changes)} weights is the same." in to_text(
        render_checkpoints(found), 100
    )


def test_edits_are_found_where_they_are(model, tmp_path):
    tensors, generator = llama_tensors(), torch.Generator().manual_seed(7)
    before = {name: tensor.clone() for name, tensor in tensors.items()}
    edited = "model.layers.1.mlp.down_proj.weight"
    tensors[edited] += 0.1 * torch.randn(D, 4, generator=generator) @ torch.randn(4, 2 * D, generator=generator)
    noisy = "model.layers.0.self_attn.q_proj.weight"
    tensors[noisy] += 1e-3 * torch.randn(D, D, generator=generator)
    tensors["model.layers.0.input_layernorm.weight"][5] += 0.5
    tensors["model.layers.0.self_attn.k_proj.weight"] *= -1
    found = compare_checkpoints(model, save(tmp_path / "b", tensors))
    changes = by_name(found)
    assert {change.name for change in found.beyond(0)} == {
        "blocks.1.W_out",
        "blocks.0.W_Q",
        "blocks.0.W_K",
        "blocks.0.ln1.gain",
    }
    assert changes["blocks.1.W_out"].spectrum.rank == 4
    assert changes["blocks.0.W_Q"].spectrum.rank == 0
    assert changes["blocks.0.W_K"].effect == pytest.approx(2, rel=1e-14)
    assert changes["blocks.0.W_K"].distance.cosine == pytest.approx(-1)
    for name, role in ((edited, "blocks.1.W_out"), (noisy, "blocks.0.W_Q")):
        assert changes[role].effect == pytest.approx(relative(before[name], tensors[name]), rel=1e-12)
        difference = (tensors[name].double() - before[name].double()).abs()
        assert changes[role].distance.largest == float(difference.max())
        assert difference[changes[role].distance.place] == difference.max()
    assert changes["blocks.0.ln1.gain"].distance.place == (5,)
    assert changes["blocks.0.ln1.gain"].spectrum is None
    assert [change.name for change in found.by_effect][:1] == ["blocks.0.W_K"]


def test_other_layouts_of_the_same_weights_are_equal(model, tmp_path):
    tensors = llama_tensors()
    gpt2 = {"wte.weight": tensors["model.embed_tokens.weight"]}
    for layer in range(2):
        block = f"model.layers.{layer}"
        parts = [tensors[f"{block}.self_attn.{name}_proj.weight"] for name in "qkv"]
        gpt2[f"h.{layer}.attn.c_attn.weight"] = torch.cat(parts).T
        gpt2[f"h.{layer}.attn.c_proj.weight"] = tensors[f"{block}.self_attn.o_proj.weight"].T
        gpt2[f"h.{layer}.mlp.c_fc.weight"] = tensors[f"{block}.mlp.up_proj.weight"].T
    config = {"model_type": "gpt2", "n_embd": D, "n_head": N_HEADS, "n_layer": 2}
    other = save(tmp_path / "gpt2", gpt2, config)
    for a, b in ((model, other), (other, model)):
        found = compare_checkpoints(a, b)
        assert all(change.effect == 0 for change in found.changes)
        kinds = {change.kind for change in found.changes}
        assert kinds == {"embed.W_E", "W_Q", "W_K", "W_V", "W_O", "W_in"}
        rest = found.only_a if a == model else found.only_b
        assert {name.rpartition(".")[2] for name in rest} == {"W_gate", "W_out", "gain"}


def test_dtypes_differ_by_their_rounding(model, tmp_path):
    rounded = {name: tensor.to(torch.bfloat16) for name, tensor in llama_tensors().items()}
    found = compare_checkpoints(model, save(tmp_path / "b", rounded))
    change = by_name(found)["blocks.1.W_V"]
    before = llama_tensors()["model.layers.1.self_attn.v_proj.weight"]
    assert change.effect == pytest.approx(relative(before, before.to(torch.bfloat16)), rel=1e-12)
    assert change.dtypes == ("float32", "bfloat16")
    assert change.spectrum.rank == 0


def test_an_untied_head_is_compared_with_the_embedding_that_it_was(model, tmp_path):
    tensors = llama_tensors()
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + 0.5
    other = save(tmp_path / "b", tensors, tied=False)
    found = compare_checkpoints(model, other)
    head = next(change for change in found.changes if change.name_b == "unembed.W_U")
    assert head.name == "embed.W_E"
    assert head.distance.largest == pytest.approx(0.5, rel=1e-5)
    assert by_name(compare_checkpoints(other, model))["unembed.W_U"].name_b == "embed.W_E"
    assert found.only_b == ()


def test_what_does_not_fit_is_listed(model, tmp_path):
    tensors = llama_tensors()
    tensors["model.layers.0.mlp.up_proj.weight"] = torch.zeros(3 * D, D)
    tensors["model.layers.0.extra.weight"] = torch.zeros(3, 3)
    tensors["model.layers.0.counts"] = torch.zeros(3, dtype=torch.int64)
    del tensors["model.norm.weight"]
    found = compare_checkpoints(model, save(tmp_path / "b", tensors))
    reasons = {weight.name: weight.reason for weight in found.not_comparable}
    assert reasons["blocks.0.W_in"] == "shape 128 x 64 in A and 192 x 64 in B"
    assert "int64" in reasons["model.layers.0.counts"]
    assert found.only_a == ("ln_final.gain",)
    assert found.only_b == ("model.layers.0.extra.weight",)
    text = to_text(render_checkpoints(found), 100)
    assert "ln_final.gain" in text
    assert "192 x 64" in text


def test_what_one_side_has_in_a_type_that_is_not_compared_is_left_out_and_not_missing(model, tmp_path):
    tensors = llama_tensors()
    name = "model.layers.0.self_attn.q_proj.weight"
    tensors[name] = tensors[name] > 0
    tensors["empty"] = torch.zeros(0, 3)
    other = save(tmp_path / "b", tensors)
    for a, b, side in ((model, other, "B"), (other, model, "A")):
        found = compare_checkpoints(a, b)
        reasons = {weight.name: weight.reason for weight in found.not_comparable}
        assert reasons == {name: f"bool values (in {side})", "empty": f"no values (in {side})"}
        assert (found.only_a, found.only_b) == ((), ())
    assert {weight.reason for weight in compare_checkpoints(other, other).not_comparable} == {
        "bool values",
        "no values",
    }


def test_nothing_in_common_is_refused(model, tmp_path):
    other = save(tmp_path / "b", {"x.weight": torch.zeros(3, 3)}, {})
    with pytest.raises(MismatchedRunsError, match="no weight in common"):
        compare_checkpoints(model, other)
    with pytest.raises(UsageError, match="at least 0"):
        compare_checkpoints(model, model, spectra=-1)


def test_nan_counts_as_a_change(model, tmp_path):
    tensors = llama_tensors()
    tensors["model.layers.0.self_attn.q_proj.weight"][1, 2] = torch.nan
    change = by_name(compare_checkpoints(model, save(tmp_path / "b", tensors)))["blocks.0.W_Q"]
    assert change.distance.n_nonfinite == (0, 1)
    assert change.distance.difference == 0
    assert change.effect == 1


@pytest.mark.parametrize(
    ("in_a", "in_b", "n_apart"),
    [
        ({(1, 2): math.nan}, {(3, 4): math.nan}, 2),
        ({(1, 2): math.inf}, {(1, 2): -math.inf}, 1),
        ({(1, 2): math.inf}, {(1, 2): math.nan}, 1),
        ({(1, 2): math.nan, (0, 0): math.inf}, {(1, 2): math.nan, (0, 0): math.inf}, 0),
    ],
)
def test_nan_and_infinities_are_compared_by_their_places(tmp_path, in_a, in_b, n_apart):
    folders = []
    for side, spoiled in (("a", in_a), ("b", in_b)):
        tensors = llama_tensors()
        for place, value in spoiled.items():
            tensors["model.layers.0.self_attn.q_proj.weight"][place] = value
        folders.append(save(tmp_path / side, tensors))
    found = compare_checkpoints(*folders)
    change = by_name(found)["blocks.0.W_Q"]
    assert change.distance.n_nonfinite == (len(in_a), len(in_b))
    assert change.distance.n_nonfinite_apart == n_apart
    assert change.effect == bool(n_apart)
    document = checkpoints_json(found)
    assert (document["n_changed"], document["largest_effect"]) == (bool(n_apart), bool(n_apart))
    row = next(row for row in document["weights"] if row["name"] == "blocks.0.W_Q")
    assert row["n_nonfinite_apart"] == n_apart
    text = " ".join(to_text(render_checkpoints(found), 120).split())
    n, noun = len(in_a), "value" if len(in_a) == 1 else "values"
    same = "not the same" if n_apart else "the same"
    assert f"not finite blocks.0.W_Q ({n} {noun} in A, {n} in B, {same})" in text
    assert ("Nothing: every entry" in text) == (not n_apart)


def test_spectra_can_be_left_out(model, tmp_path):
    other = save(tmp_path / "b", llama_tensors(1))
    for spectra, expected in ((0, 0), (False, 0), (63, 0), (64, 15), (True, 15)):
        found = compare_checkpoints(model, other, spectra=spectra)
        assert sum(change.spectrum is not None for change in found.changes) == expected, spectra


def test_the_document(model, tmp_path):
    tensors = llama_tensors()
    tensors["model.layers.0.self_attn.q_proj.weight"][3, 4] += 1
    document = checkpoints_json(compare_checkpoints(model, save(tmp_path / "b", tensors)))
    json.dumps(document, allow_nan=False)
    assert (document["document"], document["version"]) == ("lmfacts.checkpoint_comparison", 1)
    assert (document["n_weights"], document["n_changed"]) == (len(tensors), 1)
    first = document["weights"][0]
    assert (first["name"], first["place"], first["known"]) == ("blocks.0.W_Q", [3, 4], "exact")
    assert first["effect"] == document["largest_effect"] == first["relative_change"]
    assert first["spectrum"]["rank"] == 0
    assert document["weights"][1]["spectrum"] is None


def test_progress_goes_through_all_bytes(model):
    told = []
    compare_checkpoints(model, model, progress=lambda *each: told.append(each))
    assert {name for *_, name in told} == set(llama_tensors())
    assert [done for done, *_ in told] == sorted(done for done, *_ in told)
    assert told[-1][0] == told[-1][1] == sum(4 * tensor.numel() for tensor in llama_tensors().values())


def test_models_in_memory_are_checkpoints_too(model):
    class Holder(torch.nn.Module):
        def __init__(self, factor):
            super().__init__()
            self.w = torch.nn.Parameter(factor * torch.ones(5, 5))

    found = compare_checkpoints(Holder(1.0), Holder(1.25))
    assert [change.effect for change in found.changes] == [pytest.approx(0.25)]
    assert np.isfinite(found.changes[0].distance.cosine)


def test_a_pair_of_tensors_is_in_memory_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(tensor_change, "_BLOCK_BYTES", 1 << 18)
    n_tensors, side = 24, 512
    folders = [
        save(
            tmp_path / name,
            {f"t.{i}.weight": torch.full((side, side), value + i).to(torch.bfloat16) for i in range(n_tensors)},
            {},
        )
        for name, value in (("a", 1.0), ("b", 2.0))
    ]
    compare_checkpoints(*folders, spectra=0)  # what is loaded once
    tracemalloc.start()
    found = compare_checkpoints(*folders, spectra=0)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert len(found.changes) == n_tensors
    stored = 2 * side * side
    assert peak < 10 * stored  # two as they are stored, two in float32, and blocks; all are 48
