"""torch's files, read without torch: against torch's own reader, and never running what they name."""

from __future__ import annotations

import pickle
import struct
import warnings
import zipfile
from collections import Counter, OrderedDict, defaultdict

import numpy as np
import pytest
import torch

import lmfacts
from lmfacts.checkpoints import open_weights
from lmfacts.errors import WeightFileError

BASE = torch.arange(60.0).reshape(6, 10)
READABLE = {
    "base": BASE,
    "transposed": BASE.t(),
    "slice": BASE[2:4, 1:9:2],
    "parameter": torch.nn.Parameter(torch.ones(2, 3)),
    "scalar": torch.tensor(3.0),
    "empty": torch.empty(0, 3),
    "complex": torch.ones(3, dtype=torch.complex64),
    "boolean": torch.tensor([True, False]),
}


def unreadable():
    """Tensors without plain values, and what is said of them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return {
            "expanded": (torch.ones(1, 4).expand(3, 4), "its values repeat"),
            "sparse": (torch.eye(3).to_sparse(), "it is sparse"),
            "rows": (torch.eye(3).to_sparse_csr(), "it is sparse"),
            "quantized": (torch.quantize_per_tensor(torch.ones(3, 3), 0.1, 0, torch.qint8), "it is quantized by torch"),
            "meta": (torch.empty(3, 3, device="meta"), "cannot be read"),
        }


FORMATS = [(True, 2), (True, 4), (True, 5), (False, 2), (False, 4)]


def save(content, path, form):
    torch.save(content, path, _use_new_zipfile_serialization=form[0], pickle_protocol=form[1])


@pytest.mark.filterwarnings("ignore")  # of torch, while it saves
@pytest.mark.parametrize("form", FORMATS)
def test_every_kind_of_tensors_among_what_else_is_saved(tmp_path, form):
    kinds = unreadable()
    attributed = torch.nn.Parameter(torch.ones(2))
    attributed.mark = "x"
    content = READABLE | {name: tensor for name, (tensor, _) in kinds.items()}
    content |= {"same": BASE, "attributed": attributed, "_extra": {"a": [1, (2.5, None)], "b": {1, 2}, (1, 2): 3}}
    content |= {"bytes": b"12", "more": bytearray(b"12"), "array": np.ones(3), "number": np.float64(3), "c": 1 + 2j}
    content |= {"counter": Counter("ab"), "default": defaultdict(int), "device": torch.device("cpu"), "long": 1 << 70}
    save(OrderedDict(content), tmp_path / "x.bin", form)
    with open_weights(tmp_path / "x.bin") as source:
        assert dict(source.tied) == {"same": "base"}
        assert {tensor.name for tensor in source.tensors} == {*READABLE, *kinds, "attributed"}
        for tensor in source.tensors:
            if tensor.name in kinds:
                assert kinds[tensor.name][1] in tensor.problem
                with pytest.raises(WeightFileError, match="cannot be read"):
                    source.read(tensor)
            else:
                expected = content[tensor.name].detach().numpy()
                np.testing.assert_array_equal(source.read(tensor), expected)
                assert (tensor.shape, tensor.dtype) == (expected.shape, expected.dtype.name)
    run = lmfacts.scan_weights(tmp_path / "x.bin", spectra=0)
    assert set(run) == {"base", "transposed", "slice", "parameter", "scalar", "attributed"}
    assert run["slice"].mean == BASE[2:4, 1:9:2].mean()
    assert run.metadata["skipped"]["sparse"].startswith("it is sparse")
    assert run.metadata["skipped"]["complex"] == "complex64 is not one of those that are measured"


def test_tensors_that_old_files_keep_in_views_of_storages(tmp_path):
    """As torch 0.3 wrote them: a storage is a part of another, which alone is in the file."""

    class Storage:
        def __init__(self, pid):
            self.pid = pid

    class Pickler(pickle.Pickler):
        def persistent_id(self, value):
            return value.pid if isinstance(value, Storage) else None

    class Tensor:
        def __init__(self, *arguments):
            self.arguments = arguments

        def __reduce__(self):
            return torch._utils._rebuild_tensor, self.arguments

    def storage(view):
        return Storage(("storage", torch.FloatStorage, "7", "cpu", 10, view))

    whole = Tensor(storage(None), 0, (10,), (1,))
    part = Tensor(storage(("8", 4, 6)), 1, (5,), (1,))
    path = tmp_path / "x.pt"
    with path.open("wb") as file:
        for content in (0x1950A86A20F9469CFC6C, 1001, {"little_endian": True}):
            pickle.dump(content, file, protocol=2)
        Pickler(file, protocol=2).dump({"whole": whole, "part": part})
        pickle.dump(["7"], file, protocol=2)
        file.write(struct.pack("<q", 10) + np.arange(10, dtype="<f4").tobytes())
    loaded = torch.load(path, weights_only=True)
    with open_weights(path) as source:
        for tensor in source.tensors:
            np.testing.assert_array_equal(source.read(tensor), loaded[tensor.name].numpy())
        assert source.shapes == {"whole": (10,), "part": (5,)}


class Calls:
    """A pickle that calls something."""

    def __init__(self, function, *arguments):
        self.function, self.arguments = function, arguments

    def __reduce__(self):
        return self.function, self.arguments


def test_names_of_every_kind(tmp_path):
    names = {"half \ud83d a character": "half ? a character", 7: "7", "é": "é"}
    torch.save({**dict.fromkeys(names, BASE), 10**5000: BASE, (1, 2): BASE, None: BASE}, tmp_path / "x.bin")
    with open_weights(tmp_path / "x.bin") as source:
        assert {*source.shapes, *source.tied} == set(names.values())
    assert lmfacts.load(lmfacts.scan_weights(tmp_path / "x.bin").save(tmp_path / "w.lmfacts"))


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(
    ("harmful", "name"),
    [
        (Calls(eval, "1"), "eval"),
        (Calls(getattr, 1, "real"), "getattr"),
        (Calls(torch.load, "x"), "torch.serialization.load"),
        (Calls(struct.calcsize, "q"), "calcsize"),
    ],
)
def test_what_would_be_called_is_named(tmp_path, form, harmful, name):
    save({"a": torch.ones(3), "b": harmful}, tmp_path / "x.bin", form)
    with pytest.raises(WeightFileError, match=rf"refused, since opening it would call \S*{name}; expected tensors"):
        open_weights(tmp_path / "x.bin")


def archive(path, content, **records):
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("x/data.pkl", content)
        for name, data in records.items():
            file.writestr(f"x/{name.replace('__', '/')}", data)


NESTED = b")" + b"2\x86" * 100
"""A tuple of two tuples of two tuples ...: small, but neither a text nor a hash of it could be made."""


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"\x80\x02" + NESTED + b"\x85Q.", "does not say of what"),
        (b"\x80\x02ctorch.serialization\n_get_layout\n" + NESTED + b"\x85R.", "without any"),
        (b"\x80\x02ctorch._utils\n_rebuild_sparse_tensor\n" + NESTED + b")\x86R.", "without any"),
        (b"\x80\x02ctorch._utils\n_rebuild_qtensor\n" + NESTED + NESTED + NESTED + b"\x87R.", "AttributeError"),
        # A memo of two thousand million entries, a byte array of as many bytes, and a string of exabytes.
        (b"\x80\x02}r\xff\xff\xff\x7f.", "without any"),
        (b"\x80\x05\x96" + struct.pack("<Q", 1 << 31) + b".", "ValueError"),
        (b"\x80\x04\x8d" + struct.pack("<Q", 1 << 60) + b".", "ValueError"),
        # Tuples within tuples as a key, whose hash would take for ever, or all of the stack.
        (b"\x80\x02}" + b")" + b"2\x86" * 100 + b"K\x01s.", "without any"),
        (b"\x80\x02}" + b")" + b"\x85" * 200_000 + b"K\x01s.", "without any"),
        (b"\x80\x02}" + b"(" * 200_000 + b".", "cannot be read|without any"),
        (b"\x80\x02cbuiltins\nlist\n)R}b.", "got _Ignored without any"),
        (b"\x80\x02cbuiltins\nlist\n)\x81.", "KeyError"),
        (b"\x80\x02ctorch\nSize\n}b.", "without any"),
    ],
)
def test_pickles_that_ask_for_too_much(tmp_path, content, said):
    archive(tmp_path / "x.bin", content)
    with pytest.raises(WeightFileError, match=said):
        open_weights(tmp_path / "x.bin")


def test_storages_of_an_old_file_that_are_no_names(tmp_path):
    before = pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + pickle.dumps({}, 2)
    (tmp_path / "x.bin").write_bytes(before + b"\x80\x02}." + b"\x80\x02]" + NESTED + b"a." + bytes(32))
    with pytest.raises(WeightFileError, match="list of storages"):
        open_weights(tmp_path / "x.bin")


def test_a_tensor_of_more_values_than_there_can_be(tmp_path):
    torch.save({"a": torch.ones(1).expand(1 << 30, 1 << 30)}, tmp_path / "x.bin")
    with pytest.raises(WeightFileError, match="more values than there can be"):
        open_weights(tmp_path / "x.bin")


def test_archives_that_are_none_of_torch_s(tmp_path):
    path = tmp_path / "x.bin"
    torch.save({"a": torch.arange(30_000.0)}, path)
    with zipfile.ZipFile(path) as file:
        root = file.namelist()[0].partition("/")[0]
        records = {name.removeprefix(f"{root}/"): file.read(name) for name in file.namelist()}
    content = records.pop("data.pkl")
    archive(path, content, **records)
    with open_weights(path) as source:
        np.testing.assert_array_equal(source.read(source.tensors[0]), np.arange(30_000.0))
    for changed, said in (
        ({"byteorder": b"big"}, "another byte order"),
        ({"constants.pkl": b""}, "TorchScript"),
        ({"data/0": b"short"}, "has 5 bytes and should have 120000"),
        ({"data/0": None}, "no record of the storage 0"),
    ):
        kept = {name: data for name, data in (records | changed).items() if data is not None}
        archive(path, content, **kept)
        with pytest.raises(WeightFileError, match=said):
            open_weights(path)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("x/data.pkl", content)
        file.writestr("x/data/0", records["data/0"])
    with pytest.raises(WeightFileError, match="compressed"):
        open_weights(path)
