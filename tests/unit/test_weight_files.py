"""Every format of weights, whole and broken; what is read is what was stored, and no more than one tensor at a time."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from lmfacts.checkpoints import open_weights
from lmfacts.errors import MissingExtraError, ModelError, UsageError, WeightFileError
from lmfacts.models import weight_views
from support.smollm import gguf_path
from support.tiny import build


def everything(source):
    """Name to a copy of the values."""
    return {tensor.name: np.array(source.read(tensor)) for tensor in source.tensors}


def patterns(tensor):
    """A torch tensor as `read` gives it."""
    if tensor.dtype == torch.bfloat16:
        return tensor.view(torch.uint16).numpy()
    return (tensor.view(torch.uint8) if "float8" in str(tensor.dtype) else tensor).numpy()


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, tensor in expected.items():
        stored = patterns(tensor.detach())
        assert found[name].shape == stored.shape
        assert found[name].dtype == stored.dtype
        assert found[name].tobytes() == stored.tobytes()


@pytest.fixture
def state():
    """Tensors of every dtype that is common, a scalar and an empty one among them."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(6, 5, generator=generator)
    dtypes = ("float32", "bfloat16", "float16", "float64", "float8_e4m3fn", "float8_e5m2", "int64", "uint8", "bool")
    tensors = {f"a.{name}": values.to(getattr(torch, name)) for name in dtypes}
    return tensors | {"b.scalar": torch.tensor(3.5), "b.empty": torch.empty(0, 4)}


# Formats


def test_safetensors_of_every_dtype(tmp_path, state):
    save_file(state, tmp_path / "x.safetensors")
    with open_weights(tmp_path / "x.safetensors") as source:
        same(everything(source), state)
        assert {tensor.dtype for tensor in source.tensors} == {str(each.dtype)[6:] for each in state.values()}
        assert source.n_bytes == sum(each.numel() * each.element_size() for each in state.values())
        assert source.config is None
        described = source.describe()
    assert described["format"] == "safetensors"
    assert described["files"] == [{"name": "x.safetensors", "n_bytes": source.n_bytes}]
    assert described["dtypes"]["bfloat16"] == 30
    assert json.loads(json.dumps(described)) == described


@pytest.mark.parametrize("suffix", [".bin", ".pt", ".pth"])
@pytest.mark.parametrize("new_format", [True, False])
def test_torch_files_of_every_dtype(tmp_path, state, suffix, new_format):
    path = tmp_path / f"x{suffix}"
    if not new_format:  # torch has no float8 in its old format
        state = {name: tensor for name, tensor in state.items() if "float8" not in name}
    torch.save({"state_dict": state, "epoch": 3}, path, _use_new_zipfile_serialization=new_format)
    with open_weights(path) as source:
        same(everything(source), state)
        assert source.format == "torch"


def test_a_module_is_read_in_place():
    model = build("qwen2", torch.bfloat16)
    with open_weights(model) as source:
        parameters = dict(model.named_parameters())
        same(everything(source), parameters)
        assert dict(source.tied) == {"lm_head.weight": "model.embed_tokens.weight"}
        assert source.config["model_type"] == "qwen2"
        tensor = source.tensors[0]
        assert source.read(tensor).ctypes.data == parameters[tensor.name].data_ptr()


@pytest.mark.parametrize("as_index", [True, False])
def test_shards_of_both_formats(tmp_path, as_index):
    model = build("llama")
    model.save_pretrained(tmp_path / "safetensors", max_shard_size="40KB")
    expected = dict(model.named_parameters())
    folder = tmp_path / "safetensors"
    with open_weights(folder / "model.safetensors.index.json" if as_index else folder) as source:
        assert len({tensor.file for tensor in source.tensors}) > 2
        assert [tensor.file for tensor in source.tensors] == sorted(tensor.file for tensor in source.tensors)
        same(everything(source), expected)
    torch_folder = tmp_path / "torch"
    torch_folder.mkdir()
    names = list(expected)
    index = {}
    for number in (1, 2):
        file = f"pytorch_model-0000{number}-of-00002.bin"
        part = {name: expected[name].detach().clone() for name in names[number - 1 :: 2]}
        torch.save(part, torch_folder / file)
        index |= dict.fromkeys(part, file)
    if as_index:
        (torch_folder / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))
    with open_weights(torch_folder) as source:
        same(everything(source), expected)


def test_the_embedded_model_and_a_folder_with_a_configuration(tmp_path):
    with open_weights("demo") as source:
        assert source.config["model_type"] == "gpt2"
        assert {tensor.dtype for tensor in source.tensors} == {"bfloat16"}
        assert dict(source.tied) == {"lm_head.weight": "transformer.wte.weight"}
        assert weight_views(source.shapes, source.config).aliases == {"unembed.W_U": "embed.W_E"}


def test_a_hub_id_in_the_cache(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    commit = "0123456789abcdef0123456789abcdef01234567"
    snapshot = tmp_path / "models--org--tiny" / "snapshots" / commit
    model = build("gpt2")
    model.save_pretrained(snapshot)
    (tmp_path / "models--org--tiny" / "refs").mkdir()
    (tmp_path / "models--org--tiny" / "refs" / "main").write_text(commit)
    with open_weights("org/tiny") as source:
        same(everything(source), dict(model.named_parameters()))
        assert (source.name, source.revision, source.config["model_type"]) == ("org/tiny", commit, "gpt2")
    with pytest.raises(ModelError, match=r"org/other: no such folder here.*hub's cache"):
        open_weights("org/other")
    with pytest.raises(ModelError, match="hub's cache"):
        open_weights("org/tiny", revision="v2")


# Tied parameters


def test_tied_parameters_are_stored_once(tmp_path):
    model = build("qwen2")
    unique = dict(model.named_parameters())
    model.save_pretrained(tmp_path)
    with open_weights(tmp_path) as source:
        same(everything(source), unique)
        assert dict(source.tied) == {"lm_head.weight": "model.embed_tokens.weight"}
    torch.save(model.state_dict(), tmp_path / "tied.bin")
    for order in (1, -1):
        torch.save(dict(list(model.state_dict().items())[::order]), tmp_path / "tied.bin")
        with open_weights(tmp_path / "tied.bin") as source:
            same(everything(source), unique)
            assert dict(source.tied) == {"lm_head.weight": "model.embed_tokens.weight"}


@pytest.mark.parametrize("alike", [True, False])
def test_a_tied_head_stored_twice_counts_once_if_it_is_the_same(tmp_path, alike):
    model = build("qwen2")
    model.save_pretrained(tmp_path)
    tensors = {name: each.detach().clone() for name, each in model.named_parameters()}
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"] + (0 if alike else 1)
    save_file(tensors, tmp_path / "model.safetensors")
    with open_weights(tmp_path) as source:
        assert ("lm_head.weight" in source.tied) == alike
        assert ("lm_head.weight" in source.shapes) != alike


# Memory


def test_memory_is_used_again_unless_somebody_holds_it(tmp_path):
    save_file({"a": torch.arange(12.0).reshape(3, 4), "b": torch.ones(5)}, tmp_path / "x.safetensors")
    with open_weights(tmp_path / "x.safetensors") as source:
        first, second = source.tensors
        address = source.read(first).ctypes.data
        assert source.read(second).ctypes.data == address
        kept = source.read(first)[1:]
        assert kept.ctypes.data == address + 16
        assert source.read(second).ctypes.data != address
        np.testing.assert_array_equal(source.read_rows(first, 1, 3), kept)
    np.testing.assert_array_equal(kept, np.arange(4.0, 12.0).reshape(2, 4))


MEMORY = """
import sys
from lmfacts.checkpoints import open_weights
import lmfacts.checkpoints.torch_source
def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024
with open_weights(sys.argv[1]) as source:
    before = peak()
    for tensor in source.tensors:
        source.read(tensor).max()
    print(peak() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_memory_does_not_grow_with_the_checkpoint(tmp_path, suffix):
    tensors = {f"t{index:02d}": torch.full((4, 1 << 20), float(index)) for index in range(40)}  # 640 MB
    path = tmp_path / f"x.{suffix}"
    save_file(tensors, path) if suffix == "safetensors" else torch.save(tensors, path)
    done = subprocess.run([sys.executable, "-c", MEMORY, str(path)], capture_output=True, text=True, check=True)
    assert float(done.stdout) < (50 if suffix == "safetensors" else 316)


# GGUF


def write_gguf(path, architecture, metadata, tensors):
    writer = gguf.GGUFWriter(path, architecture)
    for key, value in metadata.items():
        writer.add_uint32(f"{architecture}.{key}", value)
    writer.add_array("tokenizer.ggml.tokens", [f"token {index}" for index in range(7)])
    for name, (array, kind) in tensors.items():
        data = array if kind is None else gguf.quantize(array, kind)
        writer.add_tensor(name, data, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


HEADS = {"block_count": 1, "embedding_length": 32, "attention.head_count": 4, "attention.head_count_kv": 2}


def permuted(weights, n_heads):
    """As convert_hf_to_gguf.py of llama.cpp permutes the rows of q and k."""
    halves = weights.reshape(n_heads, 2, weights.shape[0] // n_heads // 2, *weights.shape[1:])
    return halves.swapaxes(1, 2).reshape(weights.shape)


def test_gguf_has_the_original_names_order_and_values(tmp_path):
    random = np.random.default_rng(0)
    q, k, ffn = (random.normal(size=shape).astype(np.float32) for shape in ((32, 32), (16, 32), (64, 32)))
    tensors = {
        "token_embd.weight": (random.normal(size=(7, 32)).astype(np.float16), None),
        "blk.0.attn_q.weight": (permuted(q, 4), None),
        "blk.0.attn_k.weight": (permuted(k, 2), gguf.GGMLQuantizationType.Q8_0),
        "blk.0.ffn_up.weight": (ffn, gguf.GGMLQuantizationType.Q4_1),
        "blk.0.attn_norm.weight": (np.ones(32, np.float32), None),
        "blk.0.strange.weight": (np.ones(32, np.float32), gguf.GGMLQuantizationType.BF16),
    }
    write_gguf(tmp_path / "x.gguf", "llama", HEADS, tensors)
    with open_weights(tmp_path / "x.gguf") as source:
        found = everything(source)
        kinds = {tensor.name: (tensor.dtype, tensor.quantization) for tensor in source.tensors}
        layout = weight_views(source.shapes, source.config)
    assert source.config["model_type"] == "llama"
    assert source.config["vocab_size"] == 7
    assert dict(source.tied) == {"lm_head.weight": "model.embed_tokens.weight"}
    np.testing.assert_array_equal(found["model.layers.0.self_attn.q_proj.weight"], q)
    np.testing.assert_allclose(found["model.layers.0.self_attn.k_proj.weight"], k, atol=0.02)
    up = gguf.dequantize(gguf.quantize(ffn, gguf.GGMLQuantizationType.Q4_1), gguf.GGMLQuantizationType.Q4_1)
    np.testing.assert_array_equal(found["model.layers.0.mlp.up_proj.weight"], up)
    assert kinds["model.layers.0.self_attn.k_proj.weight"] == ("float32", "Q8_0")
    assert kinds["model.embed_tokens.weight"] == ("float16", None)
    assert kinds["blk.0.strange.weight"] == ("bfloat16", None)
    assert (found["blk.0.strange.weight"] == 0x3F80).all()
    assert "put back in their order" in " ".join(source.notes)
    assert {"blocks.0.W_Q", "blocks.0.W_K", "blocks.0.W_in", "blocks.0.ln1.gain"} <= {v.role for v in layout.views}


def test_gguf_of_families_whose_tensors_are_stored_otherwise(tmp_path):
    d = 32
    fused = np.arange(3 * d * d, dtype=np.float32).reshape(3 * d, d)
    square = np.eye(d, dtype=np.float32)
    write_gguf(
        tmp_path / "gpt2.gguf",
        "gpt2",
        {"block_count": 1, "embedding_length": d, "attention.head_count": 4},
        {"blk.0.attn_qkv.weight": (fused, None), "blk.0.attn_output.weight": (square, None)},
    )
    write_gguf(
        tmp_path / "bloom.gguf",
        "bloom",
        {"block_count": 1, "embedding_length": d, "attention.head_count": 4},
        {"blk.0.attn_qkv.weight": (fused, None), "blk.0.attn_qkv.bias": (np.arange(3.0 * d, dtype=np.float32), None)},
    )
    for name in ("gpt2", "bloom"):
        with open_weights(tmp_path / f"{name}.gguf") as source:
            layout = weight_views(source.shapes, source.config)
            views = {view.role: view for view in layout.views}
            values = source.read(source.tensors[0])
            for index, kind in enumerate("QKV"):
                view = views[f"blocks.0.W_{kind}"]
                assert not view.transposed
                np.testing.assert_array_equal(view(values).reshape(view.shape), fused[index * d : (index + 1) * d])
    write_gguf(
        tmp_path / "gemma2.gguf", "gemma2", HEADS, {"blk.0.attn_norm.weight": (np.full(32, 1.25, np.float32), None)}
    )
    with open_weights(tmp_path / "gemma2.gguf") as source:
        assert source.tensors[0].name == "model.layers.0.input_layernorm.weight"
        assert (source.read(source.tensors[0]) == 0.25).all()
    experts = np.random.default_rng(1).normal(size=(2, 24, 32)).astype(np.float32)
    write_gguf(
        tmp_path / "mixtral.gguf",
        "llama",
        {**HEADS, "expert_count": 2},
        {"blk.0.ffn_gate_exps.weight": (experts, None)},
    )
    with open_weights(tmp_path / "mixtral.gguf") as source:
        views = weight_views(source.shapes, source.config).views
        assert [view.role for view in views] == ["blocks.0.experts.0.W_gate", "blocks.0.experts.1.W_gate"]
        np.testing.assert_array_equal(views[1](source.read(source.tensors[0])), experts[1])
    write_gguf(tmp_path / "strange.gguf", "strange", {}, {"blk.0.attn_q.weight": (square, None)})
    with open_weights(tmp_path / "strange.gguf") as source:
        layout = weight_views(source.shapes, source.config)
        assert [(view.role, view.parameter) for view in layout.views] == [("blocks.0.W_Q", "blk.0.attn_q.weight")]
        assert "no table for the architecture 'strange'" in source.notes[0]


@pytest.mark.real_model
def test_smollm2_from_gguf_is_what_transformers_loads():
    from transformers import AutoModelForCausalLM

    path = gguf_path()
    model = AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    with open_weights(path) as source:
        found = {tensor.name: source.read(tensor) for tensor in source.tensors}
        expected = dict(model.named_parameters())
        assert found.keys() == expected.keys()
        for name, parameter in expected.items():
            np.testing.assert_array_equal(found[name], parameter.detach().numpy(), err_msg=name)
        layout = weight_views(source.shapes, source.config)
    assert layout.n_layers == 30
    assert all(view.role is not None for view in layout.views)


def test_a_quantized_gguf_without_the_package(tmp_path, monkeypatch):
    tensors = {"blk.0.ffn_up.weight": (np.ones((2, 32), np.float32), gguf.GGMLQuantizationType.Q8_0)}
    write_gguf(tmp_path / "x.gguf", "llama", HEADS, tensors)
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(MissingExtraError, match=r"lmfacts\[gguf\]"):
        open_weights(tmp_path / "x.gguf")


# What is broken


def refused(source, *words):
    with pytest.raises(WeightFileError) as caught:
        open_weights(source).close()
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


@pytest.fixture
def llama(tmp_path):
    model = build("llama")
    model.save_pretrained(tmp_path, max_shard_size="40KB")
    return tmp_path


def test_a_truncated_shard(llama):
    shard = sorted(llama.glob("*.safetensors"))[1]
    shard.write_bytes(shard.read_bytes()[:-100])
    refused(llama, shard.name, "truncated")


def test_a_missing_shard_with_an_index_and_without(llama):
    shard = sorted(llama.glob("*.safetensors"))[1]
    shard.unlink()
    refused(llama, "model.safetensors.index.json", shard.name, "missing")
    (llama / "model.safetensors.index.json").unlink()
    refused(llama, shard.name, "missing")


def test_an_index_that_does_not_fit(llama):
    index = llama / "model.safetensors.index.json"
    document = json.loads(index.read_text())
    document["weight_map"]["model.extra.weight"] = min(document["weight_map"].values())
    index.write_text(json.dumps(document))
    refused(llama, "model.extra.weight", "no such tensor")
    document["weight_map"]["model.extra.weight"] = "../secret.safetensors"
    index.write_text(json.dumps(document))
    refused(llama, "../secret.safetensors")
    for text in ("{", "[]", "{}", '{"weight_map": {"a": 1}}', '{"weight_map": {}}'):
        index.write_text(text)
        refused(llama, "index.json")


def header(entries, n_bytes=64):
    text = json.dumps(entries).encode()
    return struct.pack("<Q", len(text)) + text + bytes(n_bytes)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"hello, this is no file of weights",
        header({"a": {"dtype": "F32", "shape": [16], "data_offsets": [0, 60]}}),
        header({"a": {"dtype": "F32", "shape": [16], "data_offsets": [64, 128]}}),
        header({"a": {"dtype": "BF16", "shape": [16], "data_offsets": [0, 64]}}),
        header({"a": {"dtype": "F32", "shape": [-16], "data_offsets": [0, 64]}}),
        header({"a": {"dtype": "F32", "shape": [8], "data_offsets": [0, 32]}}),
        struct.pack("<Q", 1 << 40) + b"{",
        struct.pack("<Q", 4) + b"{...",
    ],
)
def test_safetensors_that_are_none(tmp_path, content):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    refused(path, str(path), "safetensors")
    refused(tmp_path, "model.safetensors")


class Harmful:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("new_format", [True, False])
def test_a_pickle_that_wants_to_run_something_is_refused(tmp_path, new_format):
    harmed = tmp_path / "harmed"
    path = tmp_path / "pytorch_model.bin"
    torch.save({"a": torch.ones(3), "b": Harmful(harmed)}, path, _use_new_zipfile_serialization=new_format)
    refused(tmp_path, str(path), "refused", f"{os.system.__module__}.system")
    assert not harmed.exists()


def test_torch_files_that_are_none(tmp_path):
    path = tmp_path / "x.bin"
    torch.save({"a": torch.zeros(30_000)}, path)
    whole = path.read_bytes()
    for content in (b"", b"PK\x03\x04", b"hello, no weights", whole[:5000], whole[:-10]):
        path.write_bytes(content)
        refused(path, str(path))
    for content in ({"epoch": 3}, [torch.ones(2)], torch.ones(2), {}):
        torch.save(content, path)
        refused(path, str(path), "state dictionary")


def test_gguf_cut_anywhere_or_of_another_kind(tmp_path):
    path = tmp_path / "x.gguf"
    tensors = {"token_embd.weight": (np.ones((7, 32), np.float32), None), "other": (np.ones(3, np.float32), None)}
    write_gguf(path, "llama", HEADS, tensors)
    whole = path.read_bytes()
    for n_bytes in [0, 2, 4, 8, 23, *range(24, len(whole) - 64, 41)]:
        path.write_bytes(whole[:n_bytes])
        refused(path, str(path))
    path.write_bytes(b"GGUF" + struct.pack(">I", 3) + whole[8:])
    refused(path, "little-endian")
    path.write_bytes(whole.replace(struct.pack("<QQI", 32, 7, 0), struct.pack("<QQI", 32, 7, 99), 1))
    with open_weights(path) as source:
        assert [tensor.problem is None for tensor in source.tensors] == [False, True]
        assert "GGML type 99" in source.tensors[0].problem
        assert source.n_bytes == 7 * 32 * 4 + 12
    random = np.random.default_rng(0)
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[random.integers(8, len(whole) - 1000)] = random.integers(256)
        path.write_bytes(damaged)
        try:
            with open_weights(path) as source:
                everything(source)
        except WeightFileError:
            pass


def test_what_is_no_weights_at_all(tmp_path):
    refused(tmp_path, "folder with weights")
    (tmp_path / "notes.txt").write_text("hello")
    refused(tmp_path / "notes.txt", "another kind of file")
    for missing in ("./nothing", "/nothing/here", "a/b/c", "nothing.gguf", tmp_path / "x.safetensors"):
        with pytest.raises(FileNotFoundError, match="no such file"):
            open_weights(missing)
    with pytest.raises(UsageError, match="got int"):
        open_weights(3)
    with pytest.raises(ModelError, match="without parameters"):
        open_weights(torch.nn.ReLU())
    with torch.device("meta"):
        model = torch.nn.Linear(2, 2)
    with pytest.raises(ModelError, match="meta device"):
        open_weights(model)
    for name in ("a.safetensors", "b.safetensors"):
        save_file({"x": torch.ones(2)}, tmp_path / name)
    refused(tmp_path, "a.safetensors", "b.safetensors", "name one")
    (tmp_path / "b.safetensors").unlink()
    (tmp_path / "config.json").write_text("{")
    refused(tmp_path, "config.json")


def test_a_closed_source_says_so(tmp_path):
    save_file({"x": torch.ones(2)}, tmp_path / "a.safetensors")
    torch.save({"x": torch.ones(2)}, tmp_path / "a.bin")
    write_gguf(tmp_path / "a.gguf", "llama", HEADS, {"x": (np.ones(2, np.float32), None)})
    for suffix in ("safetensors", "bin", "gguf"):
        source = open_weights(tmp_path / f"a.{suffix}")
        source.close()
        with pytest.raises(WeightFileError, match="open source"):
            source.read(source.tensors[0])
