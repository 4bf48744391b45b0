"""Headers of safetensors files: what the library accepts is accepted, and what it refuses is refused."""

from __future__ import annotations

import json
import struct

import numpy as np
import pytest
from safetensors import SafetensorError, safe_open

from lmfacts.checkpoints import open_weights
from lmfacts.errors import WeightFileError


def entry(begin, end, dtype="F32", shape=None):
    return {"dtype": dtype, "shape": [(end - begin) // 4] if shape is None else shape, "data_offsets": [begin, end]}


def written(path, header, n_bytes, pad=b""):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text + pad)) + text + pad + bytes(range(n_bytes)))
    return path


def library_accepts(path):
    try:
        with safe_open(path, "numpy") as file:
            file.keys()
    except SafetensorError:
        return False
    return True


A = b'{"dtype":"F32","shape":[2],"data_offsets":[0,8]}'
HEADERS = {
    "one": ({"a": entry(0, 8)}, 8, True),
    "nothing": ({}, 0, True),
    "another order": ({"a": entry(8, 16), "b": entry(0, 8)}, 16, True),
    "empty ones": ({"a": entry(0, 0), "b": entry(0, 8), "c": entry(8, 8), "d": entry(8, 8)}, 8, True),
    "an empty one within": ({"a": entry(0, 8), "b": entry(4, 4)}, 8, False),
    "a hole": ({"a": entry(0, 8), "b": entry(12, 20)}, 20, False),
    "a hole first": ({"a": entry(4, 12)}, 12, False),
    "an overlap": ({"a": entry(0, 8), "b": entry(4, 12)}, 12, False),
    "one range twice": ({"a": entry(0, 8), "b": entry(0, 8)}, 8, False),
    "more bytes": ({"a": entry(0, 8)}, 9, False),
    "fewer bytes": ({"a": entry(0, 8)}, 7, False),
    "another size": ({"a": entry(0, 8, shape=[3])}, 8, False),
    "backwards": ({"a": entry(8, 0, shape=[])}, 8, False),
    "a negative size": ({"a": entry(0, 8, shape=[-2])}, 8, False),
    "a size too large": ({"a": entry(0, 0, shape=[1 << 40, 1 << 40, 0])}, 0, False),
    "no size too large": ({"a": entry(0, 0, shape=[0, 1 << 40, 1 << 40])}, 0, True),
    "a float": ({"a": entry(0, 8, shape=[2.0])}, 8, False),
    "a boolean": ({"a": entry(0, 4, shape=[True])}, 4, False),
    "minus zero": (b'{"a":{"dtype":"F32","shape":[-0],"data_offsets":[0,0]}}', 0, False),
    "half a byte": ({"a": entry(0, 2, "F4", [3])}, 2, False),
    "whole bytes of halves": ({"a": entry(0, 2, "F4", [4])}, 2, True),
    "three offsets": ({"a": {**entry(0, 8), "data_offsets": [0, 8, 8]}}, 8, False),
    "a field missing": ({"a": {"dtype": "F32", "shape": [2]}}, 8, False),
    "a field more": ({"a": {**entry(0, 8), "more": [1, {"x": None}]}}, 8, True),
    "a field twice": (b'{"a":{"dtype":"F32",' + A[1:] + b"}", 8, False),
    "a name twice": (b'{"a":' + A + b',"a":' + A + b"}", 8, True),
    "metadata twice": (b'{"__metadata__":{},"__metadata__":{}}', 0, False),
    "no metadata": ({"__metadata__": None}, 0, True),
    "metadata of numbers": ({"__metadata__": {"a": 1}}, 0, False),
    "space before": (b" \n" + json.dumps({"a": entry(0, 8)}).encode(), 8, True),
    "space behind": (json.dumps({"a": entry(0, 8)}).encode() + b" \n ", 8, True),
    "a zero byte behind": (json.dumps({"a": entry(0, 8)}).encode() + b"\0", 8, False),
    "NaN": (b'{"a":' + A[:-1] + b',"x":NaN}}', 8, False),
    "a number too large": (b'{"a":' + A[:-1] + b',"x":1e400}}', 8, False),
    "half a character": (b'{"\\ud83d":' + A + b"}", 8, False),
    "no UTF-8": (b'{"\xff":' + A + b"}", 8, False),
    "a list": ([], 0, False),
    "an empty name": ({"": entry(0, 8)}, 8, True),
}


@pytest.mark.parametrize("case", HEADERS)
def test_the_verdict_is_the_library_s(tmp_path, case):
    header, n_bytes, right = HEADERS[case]
    path = written(tmp_path / "x.safetensors", header, n_bytes)
    assert library_accepts(path) == right
    if right:
        with open_weights(path) as source, safe_open(path, "numpy") as file:
            assert sorted(source.shapes) == sorted(file.keys())
    else:
        with pytest.raises(WeightFileError, match=r"x\.safetensors: expected a whole safetensors file, but "):
            open_weights(path)


def test_a_refusal_names_the_tensor(tmp_path):
    for header, said in (
        (
            {"a": entry(0, 8), "b": entry(12, 20)},
            "the array b leaves a hole before it: it begins at byte 12 of the data",
        ),
        ({"a": entry(0, 8), "b": entry(4, 12)}, "the array b overlaps the array before it"),
        ({"a": entry(0, 8, shape=[3])}, "about the array a"),
    ):
        with pytest.raises(WeightFileError, match=said):
            open_weights(written(tmp_path / "x.safetensors", header, 20))


@pytest.mark.parametrize("n_bytes", [100_000_000, 100_000_001])
def test_the_longest_header(tmp_path, n_bytes):
    text = json.dumps({"a": entry(0, 8)}).encode()
    path = written(tmp_path / "x.safetensors", text, 8, b" " * (n_bytes - len(text)))
    assert library_accepts(path) == (n_bytes <= 100_000_000)
    if n_bytes <= 100_000_000:
        open_weights(path).close()
    else:
        with pytest.raises(WeightFileError, match="its header has 100000001 bytes"):
            open_weights(path)


@pytest.mark.parametrize("shift", range(8))
def test_values_that_begin_anywhere(tmp_path, shift):
    values = np.arange(12, dtype="<f8").reshape(3, 4)
    text = json.dumps({"a": {"dtype": "F64", "shape": [3, 4], "data_offsets": [0, 96]}}).encode()
    text += b" " * ((shift - len(text)) % 8)
    path = tmp_path / "x.safetensors"
    path.write_bytes(struct.pack("<Q", len(text)) + text + values.tobytes())
    with open_weights(path) as source:
        np.testing.assert_array_equal(source.read(source.tensors[0]), values)
        assert source.read(source.tensors[0]).flags.aligned


def test_a_dtype_of_the_future_concerns_its_own_tensor(tmp_path):
    path = written(tmp_path / "x.safetensors", {"a": entry(0, 3, "F3_E1M1", [8]), "b": entry(3, 11)}, 11)
    assert not library_accepts(path)
    with open_weights(path) as source:
        first, second = source.tensors
        assert first.problem == "F3_E1M1 is a dtype that is not known"
        assert source.read(second).tobytes() == bytes(range(3, 11))
        with pytest.raises(WeightFileError, match="a cannot be read"):
            source.read(first)


def test_a_shape_that_its_bytes_cannot_hold_is_refused_of_a_dtype_of_the_future_too(tmp_path):
    for shape in ([1 << 32, 1 << 31], [10**400, 10**400], [25]):
        path = written(tmp_path / "x.safetensors", {"a": entry(0, 3, "F3_E1M1", shape), "b": entry(3, 11)}, 11)
        with pytest.raises(WeightFileError, match="what cannot be about the array a"):
            open_weights(path)
