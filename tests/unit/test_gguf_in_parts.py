"""GGUF files in parts, as llama-gguf-split makes them, and those whose tensors are not where they should be."""

from __future__ import annotations

import struct

import gguf
import numpy as np
import pytest

import lmfacts
from lmfacts.checkpoints import open_weights
from lmfacts.errors import ModelError, WeightFileError

HEADS = {"block_count": 1, "embedding_length": 32, "attention.head_count": 4, "attention.head_count_kv": 2}
FIRST = {"token_embd.weight": np.random.default_rng(0).normal(size=(7, 32)).astype(np.float32)}
SECOND = {"blk.0.ffn_up.weight": np.random.default_rng(1).normal(size=(64, 32)).astype(np.float16)}
THIRD = {"blk.0.attn_norm.weight": np.ones(32, np.float32)}


def in_parts(folder, parts, stem="x"):
    """The files, with the metadata of the model in the first."""
    folder.mkdir(exist_ok=True)
    for number, tensors in enumerate(parts):
        writer = gguf.GGUFWriter(folder / f"{stem}-{number + 1:05d}-of-{len(parts):05d}.gguf", "llama")
        if number == 0:
            for key, value in HEADS.items():
                writer.add_uint32(f"llama.{key}", value)
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", len(parts))
        writer.add_int32("split.tensors.count", sum(map(len, parts)))
        for name, array in tensors.items():
            writer.add_tensor(name, array)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return sorted(folder.glob(f"{stem}-*.gguf"))


def refused(asked, *words):
    with pytest.raises(WeightFileError) as caught:
        open_weights(asked).close()
    for word in words:
        assert word in str(caught.value)


def test_any_part_and_the_folder_stand_for_all_parts(tmp_path):
    paths = in_parts(tmp_path / "x", [FIRST, SECOND, THIRD])
    for asked in (tmp_path / "x", *paths):
        with open_weights(asked) as source:
            assert source.config["num_attention_heads"] == 4
            assert {tensor.file for tensor in source.tensors} == {path.name for path in paths}
            found = {tensor.name: np.array(source.read(tensor)) for tensor in source.tensors}
        assert len(found) == 3
        np.testing.assert_array_equal(found["model.embed_tokens.weight"], FIRST["token_embd.weight"])
        np.testing.assert_array_equal(found["model.layers.0.mlp.up_proj.weight"], SECOND["blk.0.ffn_up.weight"])
    run = lmfacts.scan_weights(paths[1])
    assert set(run) == {"embed.W_E", "blocks.0.W_in", "blocks.0.ln1.gain"}
    assert len(run.model["files"]) == 3


def test_scan_says_that_transformers_reads_one_file(tmp_path):
    paths = in_parts(tmp_path / "x", [FIRST, SECOND])
    with pytest.raises(ModelError, match="one of 2 parts, which transformers cannot read"):
        lmfacts.scan(paths[0])


def test_a_missing_part(tmp_path):
    paths = in_parts(tmp_path / "x", [FIRST, SECOND, THIRD])
    paths[1].unlink()
    for asked in (tmp_path / "x", paths[0], paths[2]):
        refused(asked, "expected 3 parts of x", paths[1].name, "is missing")
    alone = tmp_path / "alone.gguf"
    alone.write_bytes(paths[2].read_bytes())
    refused(alone, "expected part 1 of 1", "part 3 of 3")


def test_parts_of_different_models(tmp_path):
    paths = in_parts(tmp_path / "x", [FIRST, SECOND, THIRD])
    for others, words in (
        ([FIRST, SECOND, FIRST], ["token_embd.weight twice"]),
        ([FIRST, SECOND, THIRD | {"a": np.ones(3, np.float32)}], ["promises 3 tensors", "have 4"]),
    ):
        paths[2].write_bytes(in_parts(tmp_path / "y", others)[2].read_bytes())
        refused(paths[0], *words)
    paths[2].write_bytes(paths[1].read_bytes())
    refused(paths[0], paths[2].name, "expected part 3 of 3", "part 2 of 3")
    in_parts(tmp_path / "x", [FIRST, SECOND], stem="other")
    refused(tmp_path / "x", "no one set", "name one")


def test_tensors_that_lie_in_one_another(tmp_path):
    (path,) = in_parts(tmp_path, [{"a": np.ones((7, 32), np.float32), "b": np.ones((3, 32), np.float32)}])
    whole = path.read_bytes()
    place = struct.pack("<QQIQ", 32, 3, 0, 7 * 32 * 4)
    assert place in whole
    for offset in (0, 32, 864):
        path.write_bytes(whole.replace(place, struct.pack("<QQIQ", 32, 3, 0, offset)))
        refused(path, "it is damaged", "inside the tensor before it")
