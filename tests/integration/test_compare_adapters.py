"""LoRA adapters as differences, against what PEFT makes of them by merging."""

from __future__ import annotations

import json
import math

import numpy as np
import peft
import pytest
import torch

from lmfacts.comparison import compare_checkpoints
from lmfacts.errors import MismatchedRunsError, ModelError, UsageError, WeightFileError
from lmfacts.render.terminal.checkpoints_json import checkpoints_json
from lmfacts.render.terminal.checkpoints_view import render_checkpoints
from lmfacts.render.terminal.console import to_text
from support.tiny import build

pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning:peft")
# PEFT asks transformers by names that it has renamed, and says where it corrects its own settings.


def adapted(tmp_path, family="llama", **settings):
    """The folders of a model, of an adapter for it, and of the two merged."""
    torch.manual_seed(0)
    model = build(family)
    model.save_pretrained(tmp_path / "model")
    config = peft.LoraConfig(**{"r": 4, "lora_alpha": 12, "target_modules": ["q_proj", "down_proj"], **settings})
    with_adapter = peft.get_peft_model(model, config)
    for name, parameter in with_adapter.named_parameters():
        if "lora_" in name or parameter.requires_grad:
            torch.nn.init.normal_(parameter, std=0.1)
    with_adapter.save_pretrained(tmp_path / "adapter")
    with_adapter.merge_and_unload().save_pretrained(tmp_path / "merged")
    return tmp_path / "model", tmp_path / "adapter", tmp_path / "merged"


def same_as_merged(folders, *, least):
    """An adapter says what the merged model says, and that is not nothing."""
    model, adapter, merged = folders
    found, expected = compare_checkpoints(model, adapter), compare_checkpoints(model, merged)
    changed = {change.name: change for change in expected.beyond(0)}
    assert {change.name for change in found.beyond(0)} == set(changed)
    assert len(changed) >= least
    for change in found.beyond(0):
        other = changed[change.name]
        assert change.effect == pytest.approx(other.effect, rel=1e-5)
        assert change.distance.largest == pytest.approx(other.distance.largest, rel=1e-4)
        # With the sign: B - A and A - B are as large as each other.
        assert change.distance.norm_b == pytest.approx(other.distance.norm_b, rel=1e-5)
        assert change.distance.cosine == pytest.approx(other.distance.cosine, abs=1e-5)
    return found


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True},
        {"alpha_pattern": {"q_proj": 3, r"layers\.1\.mlp\.down_proj": 40}, "rank_pattern": {"down_proj": 2}},
        # The first that fits; PEFT sorts them where it saves them.
        {"alpha_pattern": {"down_proj": 3, r"layers\.1\.mlp\.down_proj": 40}},
        {"modules_to_save": ["lm_head"]},
        {"target_modules": ["embed_tokens", "o_proj"]},
        {"bias": "all"},
    ],
    ids=str,
)
def test_an_adapter_changes_what_merging_it_changes(tmp_path, settings):
    same_as_merged(adapted(tmp_path, **settings), least=4)


@pytest.mark.parametrize(
    ("family", "targets"),
    [("gpt2", ["c_attn", "c_proj"]), ("gpt_neox", ["query_key_value"]), ("phi3", ["qkv_proj", "gate_up_proj"])],
)
def test_adapted_fused_and_transposed_projections_by_role(tmp_path, family, targets):
    found = same_as_merged(adapted(tmp_path, family, target_modules=targets), least=6)
    assert {"W_Q", "W_K", "W_V"} <= {change.kind for change in found.changes}


def test_the_rank_is_the_adapters(tmp_path):
    model, adapter, _ = adapted(tmp_path)
    found = compare_checkpoints(model, adapter)
    # Of these small matrices the smallest of four singular values may lie among those of shuffled entries.
    assert all(1 <= change.spectrum.rank <= 4 for change in found.changes)
    assert {change.dtypes[1] for change in found.changes} == {"lora"}
    assert all(np.count_nonzero(np.array(change.spectrum.values) > 1e-6) == 4 for change in found.changes)
    text = to_text(render_checkpoints(found), 120)
    assert "LoRA adapter · rank 4 · alpha 12" in text
    document = checkpoints_json(found)
    json.dumps(document, allow_nan=False)
    assert document["b"]["config"]["lora_alpha"] == 12
    assert (document["only_a"], document["only_b"]) == ([], [])


def test_an_adapter_for_another_model_is_refused(tmp_path):
    _, adapter, _ = adapted(tmp_path / "one")
    build("gpt2").save_pretrained(tmp_path / "other")
    with pytest.raises(MismatchedRunsError, match="adapter and the model"):
        compare_checkpoints(tmp_path / "other", adapter)
    with pytest.raises(UsageError, match="is an adapter: expected the model"):
        compare_checkpoints(adapter, tmp_path / "other")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"peft_type": "IA3"}, ModelError, "expected a LoRA adapter.*'IA3'"),
        ({"use_dora": True}, ModelError, "DoRA"),
        ({"layer_replication": [[0, 2]]}, ModelError, "replicated"),
        ({"lora_bias": True}, ModelError, "biases in its factors"),
        ({"target_parameters": ["experts.gate"]}, ModelError, "adapted parameters"),
        ({"trainable_token_indices": [3]}, ModelError, "single trained tokens"),
        ({"use_qalora": True}, ModelError, "QA-LoRA"),
        ({"use_bdlora": {"row": ["q_proj"]}}, ModelError, "block-diagonal"),
        ({"kasa_config": {"beta": 1}}, ModelError, "KaSA"),
        ({"lora_alpha": "much"}, WeightFileError, "expected numbers"),
        ({"lora_alpha": True}, WeightFileError, "expected numbers"),
        ({"lora_alpha": 1e39}, WeightFileError, "expected numbers"),
        ({"lora_alpha": 10**400}, WeightFileError, "expected numbers"),
        ({"lora_alpha": math.nan}, WeightFileError, "expected numbers"),
        ({"alpha_pattern": [1]}, WeightFileError, "alpha_pattern"),
        ({"alpha_pattern": {"(q": 1}}, WeightFileError, "expected regular expressions"),
    ],
)
def test_other_adapters_are_refused_with_a_sentence(tmp_path, change, error, message):
    model, adapter, _ = adapted(tmp_path)
    path = adapter / "adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(error, match=message):
        compare_checkpoints(model, adapter)


def test_damaged_adapters(tmp_path):
    model, adapter, _ = adapted(tmp_path)
    weights = adapter / "adapter_model.safetensors"
    tensors = safetensors_of(weights)
    without = {name: tensor for name, tensor in tensors.items() if "lora_B" not in name or "layers.1" not in name}
    save(without, weights)
    with pytest.raises(WeightFileError, match="expected the factors A and B"):
        compare_checkpoints(model, adapter)
    save({name: tensor[:, :1] if "lora_B" in name else tensor for name, tensor in tensors.items()}, weights)
    with pytest.raises(ModelError, match="expected factors of the shapes"):
        compare_checkpoints(model, adapter)
    save({name: tensor[:0] if "lora_A" in name else tensor[:, :0] for name, tensor in tensors.items()}, weights)
    with pytest.raises(WeightFileError, match="found rank 0"):
        compare_checkpoints(model, adapter)
    weights.unlink()
    with pytest.raises(WeightFileError, match="expected the adapter's weights"):
        compare_checkpoints(model, adapter)
    (adapter / "adapter_config.json").write_text("[]")
    with pytest.raises(WeightFileError, match="expected a JSON object"):
        compare_checkpoints(model, adapter)


def safetensors_of(path):
    from safetensors.torch import load_file

    # Copied: older versions map the file, which is written anew under the tensors.
    return {name: tensor.clone() for name, tensor in load_file(path).items()}


def save(tensors, path):
    from safetensors.torch import save_file

    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path)
