"""The capsule protocol: renamed when consumed, deleted once on every path, refused in words where it is wrong."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from lmfacts import _native
from lmfacts.errors import BufferImportError, LayoutError, UnsupportedDeviceError, UnsupportedDtypeError
from support.comparison import assert_matches_oracle
from support.dlpack_producer import Producer, capsule_name, floats

VERSIONS = [(1, 0), (1, 99), None]
USED = {None: b"used_dltensor"}


def tokens(n):
    return _native.TokenBatch(np.zeros(n, np.int64), np.arange(n), np.full(n, -1), np.ones(n, np.uint8))


@pytest.mark.parametrize("version", VERSIONS)
def test_a_capsule_is_renamed_and_its_deleter_runs_once(version):
    array = floats(4, 6)
    producer = Producer(array, version=version)
    info = _native.buffer_info(producer)
    assert info == {
        "pointer": array.ctypes.data,
        "shape": [4, 6],
        "strides": [6, 1],
        "dtype": "float32",
        "way": "capsule" if version else "unversioned capsule",
    }
    assert capsule_name(producer.capsules[0]) == USED.get(version, b"used_dltensor_versioned")
    assert producer.n_deleted == 1
    producer.capsules.clear()
    gc.collect()
    assert producer.n_deleted == 1


@pytest.mark.parametrize("version", VERSIONS)
def test_an_update_deletes_after_it_has_read(version):
    array = floats(4, 6)
    producer = Producer(array, version=version)
    accumulator = _native.SiteAccumulator()
    expected = array.copy()
    # Were the deleter called before the values are read, other values would be counted.
    producer.on_delete = lambda: array.fill(99)
    accumulator.update(producer, tokens(4))
    assert (producer.n_deleted, array[0, 0]) == (1, 99)
    assert_matches_oracle(accumulator.state(), expected, dtype="float32")


@pytest.mark.parametrize("version", VERSIONS)
def test_a_producer_without_a_deleter_is_fine(version):
    producer = Producer(floats(4, 6), version=version, with_deleter=False)
    assert _native.buffer_info(producer)["shape"] == [4, 6]


@pytest.mark.parametrize("version", VERSIONS)
def test_offset_strides_and_missing_strides_are_honored(version):
    whole = floats(5, 8)
    for array, options in (
        (whole[1:, 3:], {"byte_offset": 12}),
        (whole[::-1, ::2], {}),
        (whole.T, {}),
        (whole, {"with_strides": False}),
        (whole.reshape(2, 2, 10), {"with_strides": False, "byte_offset": 4}),
    ):
        accumulator = _native.SiteAccumulator()
        producer = Producer(array, version=version, **options)
        assert _native.buffer_info(producer)["pointer"] == array.ctypes.data
        accumulator.update(producer, tokens(len(array)))
        flat = np.ascontiguousarray(array).reshape(len(array), -1)
        assert_matches_oracle(accumulator.state(), flat, dtype="float32")
        assert producer.n_deleted == 2


WRONG = {
    "int32": ({"dtype": (0, 32, 1)}, UnsupportedDtypeError, "got int32"),
    "uint16": ({"dtype": (1, 16, 1)}, UnsupportedDtypeError, "got uint16"),
    "bfloat16 of 8 bits": ({"dtype": (4, 8, 1)}, UnsupportedDtypeError, "code 4 with 8 bits"),
    "float128": ({"dtype": (2, 128, 1)}, UnsupportedDtypeError, "128 bits"),
    "a vector type": ({"dtype": (2, 32, 4)}, UnsupportedDtypeError, "4 lanes"),
    "bool": ({"dtype": (6, 8, 1)}, UnsupportedDtypeError, "got bool"),
    "CUDA": ({"device": (2, 3)}, UnsupportedDeviceError, r"got CUDA device 3 \(type 2\); copy it to the CPU first"),
    "Metal": ({"device": (8, 0)}, UnsupportedDeviceError, "got Metal device 0"),
    "some accelerator": ({"device": (77, 0)}, UnsupportedDeviceError, r"type 77"),
    "nine axes": ({"n_axes": 9}, LayoutError, "at most 8 axes, got 9"),
    "more axes than any": ({"n_axes": 64}, LayoutError, "at most 8 axes, got 64"),
    "no axes": ({"n_axes": 0}, LayoutError, r"shape \[\]"),
    "misaligned": ({"byte_offset": 0, "dtype": (2, 64, 1)}, LayoutError, "aligned to 8 bytes for float64"),
}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", WRONG)
def test_what_cannot_be_read_is_given_back_once(name, version):
    options, error, message = WRONG[name]
    array = floats(7, 7)
    start = 1 if (array.ctypes.data // 4) % 2 == 0 else 0
    array = array.reshape(-1)[start : start + 24].reshape(4, 6)  # never aligned to 8 bytes
    producer = Producer(array, version=version, **options)
    accumulator = _native.SiteAccumulator()
    with pytest.raises(error, match=message):
        accumulator.update(producer, tokens(4))
    assert producer.n_deleted == 1
    assert capsule_name(producer.capsules[0]).startswith(b"used_")
    assert accumulator.state()["dtype"] == ""


def test_an_accepted_tensor_that_does_not_fit_is_given_back_once():
    accumulator = _native.SiteAccumulator()
    accumulator.update(torch.ones(4, 5), tokens(4))
    for producer in (Producer(floats(4, 6)), Producer(floats(3, 5)), Producer(floats(4, 6), version=None)):
        with pytest.raises(LayoutError):
            accumulator.update(producer, tokens(4))
        assert producer.n_deleted == 1


def test_a_null_pointer_is_refused():
    producer = Producer(floats(4, 6))
    producer._managed.dl_tensor.data = None
    with pytest.raises(BufferImportError, match="without memory"):
        _native.buffer_info(producer)
    assert producer.n_deleted == 1


def test_a_negative_extent_is_refused():
    producer = Producer(floats(4, 6))
    producer._shape[0] = -4
    with pytest.raises(LayoutError, match="extents of at least 0"):
        _native.buffer_info(producer)
    assert producer.n_deleted == 1


@pytest.mark.parametrize("version", [(2, 0), (0, 8), (7, 1)])
def test_another_major_version_is_refused_and_left_to_its_owner(version):
    producer = Producer(floats(4, 6), version=version)
    with pytest.raises(BufferImportError, match=rf"expected DLPack version 1, got {version[0]}\.{version[1]}"):
        _native.buffer_info(producer)
    # Not consumed: the structure behind such a capsule cannot be known, not even where its deleter is.
    assert capsule_name(producer.capsules[0]) == b"dltensor_versioned"
    assert producer.n_deleted == 0


@pytest.mark.parametrize("name", [b"used_dltensor_versioned", b"used_dltensor", b"something else"])
def test_a_used_capsule_is_refused_and_not_deleted_again(name):
    producer = Producer(floats(4, 6), name=name)
    with pytest.raises(BufferImportError, match="used already"):
        _native.buffer_info(producer)
    assert producer.n_deleted == 0
    assert capsule_name(producer.capsules[0]) == name


def test_the_same_capsule_twice_is_refused_the_second_time():
    class Repeating:
        def __init__(self, capsule):
            self.capsule = capsule

        def __dlpack__(self, **options):
            return self.capsule

    producer = Producer(floats(4, 6))
    repeating = Repeating(producer.__dlpack__())
    assert _native.buffer_info(repeating)["shape"] == [4, 6]
    with pytest.raises(BufferImportError, match="used already"):
        _native.buffer_info(repeating)
    assert producer.n_deleted == 1


def test_a_producer_of_the_old_protocol_is_asked_again_without_a_version():
    producer = Producer(floats(4, 6), version=None, takes_max_version=False)
    assert _native.buffer_info(producer)["way"] == "unversioned capsule"
    assert (producer.n_deleted, len(producer.capsules)) == (1, 1)


@pytest.mark.parametrize("error", [ValueError("no"), RuntimeError("busy"), BufferError("locked"), TypeError("never")])
def test_what_a_producer_raises_is_the_cause(error):
    class Refusing:
        def __dlpack__(self, **options):
            raise error

    with pytest.raises(BufferImportError, match=str(error)) as caught:
        _native.buffer_info(Refusing())
    assert caught.value.__cause__ is error


def test_what_is_no_capsule_is_refused():
    class Confused:
        def __dlpack__(self, **options):
            return 7

    with pytest.raises(BufferImportError, match="expected a capsule"):
        _native.buffer_info(Confused())


def test_an_interrupt_in_a_producer_passes_through():
    class Interrupting:
        def __dlpack__(self, **options):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _native.buffer_info(Interrupting())
