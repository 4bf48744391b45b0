"""Checkpoints that change while they are measured, with many tensors, with names that lie, and with adapters."""

from __future__ import annotations

import cProfile
import json
import os
import pstats
import time

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import lmfacts
from lmfacts.demo import MODEL_DIR
from lmfacts.errors import WeightFileError
from lmfacts.render.terminal.console import to_text
from lmfacts.render.terminal.weights_summary import render_weights_summary
from support.smollm import gguf_path
from support.tiny import build

# What happens to a file in the meantime


def cut(path):
    os.truncate(path, path.stat().st_size // 2)


def emptied(path):
    os.truncate(path, 0)


def overwritten(path):
    with path.open("r+b") as file:
        file.seek(-4096, os.SEEK_END)
        file.write(bytes(4096))
    os.utime(path, ns=(0, time.time_ns() + 10**9))  # the clock of files is coarser than this test


@pytest.mark.parametrize("change", [cut, emptied, overwritten])
@pytest.mark.parametrize("suffix", ["safetensors", "bin", "old.bin"])
def test_a_file_that_changes_while_it_is_measured_is_a_sentence(tmp_path, suffix, change):
    """Cut short, a mapped file would kill the process."""
    path = tmp_path / f"x.{suffix}"
    tensors = {f"t{index}": torch.full((64, 256), float(index)) for index in range(20)}
    if suffix == "safetensors":
        save_file(tensors, path)
    else:
        torch.save(tensors, path, _use_new_zipfile_serialization=suffix == "bin")

    def progress(_done, _total, name):
        if name == "t3":
            change(path)

    with pytest.raises(WeightFileError, match="it was cut short or written to while it was read"):
        lmfacts.scan_weights(path, spectra=0, progress=progress, out=tmp_path / "w.lmfacts")
    assert not (tmp_path / "w.lmfacts").exists()


@pytest.mark.real_model
def test_a_gguf_that_is_cut_short_while_it_is_measured(tmp_path):
    path = tmp_path / "x.gguf"
    path.write_bytes(gguf_path().read_bytes())

    def progress(done, _total, _name):
        if done > 40_000_000:
            cut(path)

    with pytest.raises(WeightFileError, match="it was cut short or written to while it was read"):
        lmfacts.scan_weights(path, spectra=0, progress=progress)


def test_a_file_that_is_replaced_is_read_to_its_end(tmp_path):
    path = tmp_path / "x.safetensors"
    save_file({f"t{index}": torch.full((4, 8), float(index)) for index in range(5)}, path)

    def progress(_done, _total, name):
        if name == "t1":
            (tmp_path / "new").write_bytes(b"something else")
            (tmp_path / "new").replace(path)

    run = lmfacts.scan_weights(path, progress=progress)
    assert [run[name].mean for name in run] == [0, 1, 2, 3, 4]


# Many tensors, and names that lie


def calls_of(path):
    """How often Python functions are called in a scan: what takes time, on a machine of any speed."""
    profile = cProfile.Profile()
    profile.enable()
    lmfacts.scan_weights(path, spectra=0)
    profile.disable()
    return pstats.Stats(profile).total_calls


@pytest.mark.parametrize("name", ["w.{}.weight", "model.layers.{}.self_attn.q_proj.weight"])
def test_the_work_is_in_proportion_to_the_number_of_tensors(tmp_path, name):
    calls = {}
    for n in (10, 200, 400, 800):
        save_file({name.format(index): torch.ones(2, 2) for index in range(n)}, tmp_path / "x.safetensors")
        calls[n] = calls_of(tmp_path / "x.safetensors")
    assert (calls[800] - calls[400]) / (calls[400] - calls[200]) == pytest.approx(2, rel=0.1)


def test_layers_are_bounded_by_the_number_of_tensors(tmp_path):
    names = {
        "model.layers.99999999999.self_attn.q_proj.weight": None,
        "model.layers.4294967295.self_attn.k_proj.weight": None,
        "model.layers.1024.self_attn.v_proj.weight": None,
        "model.layers.1023.self_attn.o_proj.weight": 1023,
        "model.layers.7.self_attn.q_proj.weight": 7,
        "model.layers.0.mlp.experts.99999999999.up_proj.weight": 0,
    }
    save_file({name: torch.randn(4, 8) for name in names}, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "num_hidden_layers": 10**12}))
    run = lmfacts.scan_weights(tmp_path)
    assert {run[name].parameter: run[name].layer for name in run} == names
    assert run.model["n_layers"] == 1024
    assert run.facts()
    assert to_text(render_weights_summary(run))


def test_experts_of_no_values_are_not_gone_through(tmp_path):
    name = "model.layers.0.mlp.experts.gate_up_proj"
    text = json.dumps(
        {
            name: {"dtype": "F32", "shape": [1 << 50, 0, 4], "data_offsets": [0, 0]},
            "model.norm.weight": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]},
        }
    ).encode()
    content = len(text).to_bytes(8, "little") + text + np.ones(2, "<f4").tobytes()
    (tmp_path / "model.safetensors").write_bytes(content)
    (tmp_path / "config.json").write_text('{"model_type": "mixtral"}')
    run = lmfacts.scan_weights(tmp_path)
    assert list(run) == ["ln_final.gain"]
    assert run.metadata["skipped"] == {name: f"it has no values (shape [{1 << 50}, 0, 4])"}


def test_what_is_skipped_is_in_the_run_and_in_the_summary(tmp_path):
    tensors = {"ok.weight": torch.randn(4, 8), "freqs_cis": torch.ones(3, dtype=torch.complex64)}
    tensors |= {"e8m0": torch.ones(4).to(torch.float8_e8m0fnu), "ids": torch.arange(3)}
    save_file(tensors, tmp_path / "model.safetensors")
    run = lmfacts.scan_weights(tmp_path / "model.safetensors", out=tmp_path / "w.lmfacts")
    for found in (run, lmfacts.load(tmp_path / "w.lmfacts")):
        assert list(found) == ["ok.weight"]
        assert found.metadata["skipped"] == {
            "freqs_cis": "complex64 is not one of those that are measured",
            "e8m0": "float8_e8m0fnu is not one of those that are measured",
            "ids": "int64 is not a floating-point type",
        }
        text = to_text(render_weights_summary(found))
        assert "freqs_cis: complex64 is not one of those that are measured" in text


# Adapters


def test_a_checkpoint_with_adapters_keeps_its_roles(tmp_path):
    """As PEFT names what it wraps: base_model.model before, base_layer and modules_to_save within."""
    model = build("llama", torch.float32)
    model.save_pretrained(tmp_path / "plain")
    plain = lmfacts.scan_weights(tmp_path / "plain", spectra=0)
    wrapped = {}
    for name, tensor in load_file(tmp_path / "plain" / "model.safetensors").items():
        module, _, leaf = name.rpartition(".")
        place = f"base_model.model.{module}"
        if module.endswith(("q_proj", "down_proj")):
            wrapped[f"{place}.base_layer.{leaf}"] = tensor
            wrapped[f"{place}.lora_A.default.{leaf}"] = torch.randn(2, tensor.shape[1])
            wrapped[f"{place}.lora_B.default.{leaf}"] = torch.randn(tensor.shape[0], 2)
        elif module.endswith("lm_head"):
            wrapped[f"{place}.original_module.{leaf}"] = torch.zeros_like(tensor)
            wrapped[f"{place}.modules_to_save.default.{leaf}"] = tensor.clone()
        else:
            wrapped[f"{place}.{leaf}"] = tensor
    (tmp_path / "peft").mkdir()
    save_file(wrapped, tmp_path / "peft" / "model.safetensors")
    (tmp_path / "peft" / "config.json").write_bytes((tmp_path / "plain" / "config.json").read_bytes())
    run = lmfacts.scan_weights(tmp_path / "peft", spectra=0)
    roles = {plain[name].role for name in plain}
    assert {run[name].role for name in run} - {None} == roles
    for role in roles:
        assert (run[role].frobenius, run[role].frobenius_folded) == (
            plain[role].frobenius,
            plain[role].frobenius_folded,
        )
    adapters = [run[name] for name in run if "lora_" in name]
    assert len(adapters) == 4 * run.model["n_layers"]
    assert all(weight.role is None and weight.layer is not None for weight in adapters)
    assert any(note.startswith("Adapters (LoRA and the like)") for note in run.metadata["notes"])


def test_the_embedded_model_as_it_always_was():
    run = lmfacts.scan_weights(MODEL_DIR, spectra=0)
    assert run.metadata["skipped"] == {}
    assert not any("quantized" in note or "Adapters" in note for note in run.metadata["notes"])
