"""What Rust sees of a tensor is the tensor's own memory, and what it cannot read it refuses in words."""

from __future__ import annotations

import gc
import weakref

import numpy as np
import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from lmfacts import _native
from lmfacts.errors import BufferImportError, LayoutError, UnsupportedDtypeError
from lmfacts.run.site import SiteRecord
from lmfacts.run.state import SiteState
from lmfacts.stats.codes import float8_values
from support import oracle
from support.comparison import assert_matches_oracle, assert_same_states

DTYPES = {
    torch.float64: "float64",
    torch.float32: "float32",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
}


def tokens(n, *, real=None):
    ones = np.ones(n, np.uint8) if real is None else np.asarray(real, np.uint8)
    return _native.TokenBatch(np.zeros(n, np.int64), np.arange(n), np.full(n, -1), ones)


def state_of(tensor, n, **settings):
    accumulator = _native.SiteAccumulator(**settings)
    accumulator.update(tensor, tokens(n))
    return accumulator.state()


def stored(tensor):
    """A tensor's values as the oracle takes them."""
    tensor = tensor.detach()
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


def inference(*shape):
    with torch.inference_mode():
        return torch.randn(shape)


LAYOUTS = {
    "contiguous": lambda: torch.randn(4, 6),
    "offset": lambda: torch.randn(40)[7:31].view(4, 6),
    "rows of a wider matrix": lambda: torch.randn(4, 9)[:, 2:8],
    "every second row": lambda: torch.randn(8, 6)[::2],
    "every second dim": lambda: torch.randn(4, 12)[:, ::2],
    "transposed": lambda: torch.randn(6, 4).t(),
    "permuted": lambda: torch.randn(6, 2, 2).permute(1, 2, 0),
    "heads in front": lambda: torch.randn(2, 3, 2, 5).permute(0, 2, 1, 3),
    "expanded tokens": lambda: torch.randn(1, 6).expand(4, 6),
    "expanded dims": lambda: torch.randn(4, 1).expand(4, 6),
    "one value": lambda: torch.randn(1).expand(4, 6),
    "axes of one": lambda: torch.randn(1, 4, 1, 6, 1),
    "as_strided, overlapping": lambda: torch.randn(12).as_strided((4, 6), (2, 1)),
    "requires_grad": lambda: torch.randn(4, 6, requires_grad=True),
    "has a grad_fn": lambda: torch.randn(4, 6, requires_grad=True) * 2,
    "parameter": lambda: torch.nn.Parameter(torch.randn(4, 6)),
    "buffer": lambda: torch.nn.Buffer(torch.randn(4, 6)),
    "inference mode": lambda: inference(4, 6),
    "channels last": lambda: torch.randn(2, 3, 2, 2).to(memory_format=torch.channels_last),
    "eight axes": lambda: torch.randn(2, 1, 2, 1, 3, 1, 1, 2),
}


def has_versioned_capsules(kind):
    """Whether its DLPack capsules have a version: those of NumPy 2.0 and of torch 2.8 do not."""
    return "max_version" in (kind.__dlpack__.__doc__ or "") or "max_version" in getattr(
        getattr(kind.__dlpack__, "__code__", None), "co_varnames", ()
    )


torch_version = tuple(int(part) for part in torch.__version__.split(".")[:2])
OFFERS_EXCHANGE = hasattr(torch.Tensor, "__dlpack_c_exchange_api__")
TORCH_CAPSULE, NUMPY_CAPSULE = (
    "capsule" if has_versioned_capsules(kind) else "unversioned capsule" for kind in (torch.Tensor, np.ndarray)
)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", LAYOUTS)
def test_rust_reads_the_tensors_own_pointer(name, dtype):
    tensor = LAYOUTS[name]()
    tensor = tensor if dtype == torch.float32 else _as(tensor, dtype)
    info = _native.buffer_info(tensor)
    assert info["pointer"] == tensor.data_ptr()
    assert tuple(info["shape"]) == tuple(tensor.shape)
    steps = [(a, b) for a, b, n in zip(info["strides"], tensor.stride(), tensor.shape, strict=True) if n > 1]
    assert all(a == b for a, b in steps)
    assert info["dtype"] == DTYPES[dtype]
    assert info["way"] == ("exchange" if OFFERS_EXCHANGE else TORCH_CAPSULE)


def _as(tensor, dtype):
    """The same layout in another dtype, inference mode and gradients included."""
    if tensor.requires_grad:
        return torch.nn.Parameter(tensor.detach().to(dtype)) if tensor.is_leaf else tensor.to(dtype)
    if tensor.is_inference():
        with torch.inference_mode():
            return tensor.to(dtype)
    base = torch.randn(max(64, tensor.numel() * 4)).to(dtype)
    return base.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("name", LAYOUTS)
def test_what_is_counted_is_what_torch_says(name, dtype):
    tensor = _as(LAYOUTS[name](), dtype)
    n_tokens = 1
    for size in tensor.shape[: 2 if tensor.ndim > 2 else 1]:
        n_tokens *= size
    found = state_of(tensor, n_tokens, statistics=["unit_sums"])
    assert_matches_oracle(found, stored(tensor.detach().reshape(n_tokens, -1).contiguous()), dtype=DTYPES[dtype])


def test_torch_offers_the_exchange_interface():
    assert OFFERS_EXCHANGE or torch_version < (2, 15)


def test_a_subclass_comes_by_capsule_and_gradients_do_not_matter():
    class Marked(torch.Tensor):
        pass

    for requires_grad in (False, True):
        tensor = torch.randn(4, 6).requires_grad_(requires_grad).as_subclass(Marked)
        info = _native.buffer_info(tensor)
        assert info["way"] == TORCH_CAPSULE
        assert info["pointer"] == tensor.data_ptr()
        assert_same_states(state_of(tensor, 4), state_of(tensor.detach().as_subclass(torch.Tensor), 4))


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_numpy_arrays_come_by_capsule(dtype):
    whole = np.random.default_rng(0).normal(size=(5, 9)).astype(dtype)
    read_only = whole.copy()
    read_only.flags.writeable = False
    for array in (whole, whole[1:, 2:], whole.T, whole[::-1, ::-2], whole[:, :1], read_only):
        info = _native.buffer_info(array)
        assert info["way"] == NUMPY_CAPSULE
        assert info["pointer"] == array.__array_interface__["data"][0]
        assert info["shape"] == list(array.shape)
        assert_matches_oracle(state_of(array, len(array)), np.ascontiguousarray(array), dtype=dtype)


def test_reading_leaves_the_tensor_as_it_was():
    tensor = torch.randn(4, 6, requires_grad=True) * 1.5
    before = (tensor._version, tensor.grad_fn, tensor.data_ptr(), tensor.detach().clone())
    state_of(tensor, 4)
    assert (tensor._version, tensor.grad_fn, tensor.data_ptr()) == before[:3]
    assert torch.equal(tensor, before[3])
    tensor.sum().backward()


def test_nothing_keeps_the_tensor_after_the_update():
    accumulator = _native.SiteAccumulator()
    tensor, array = torch.randn(4, 6), np.ones((4, 6), np.float32)
    gone = [weakref.ref(tensor), weakref.ref(tensor.untyped_storage()), weakref.ref(array)]
    for value in (tensor, array):
        _native.buffer_info(value)
        accumulator.update(value, tokens(4))
    del tensor, array, value
    gc.collect()
    assert [ref() for ref in gone] == [None] * 3


UNSUPPORTED_DTYPES = {
    "int64": torch.zeros(4, 6, dtype=torch.int64),
    "int8": torch.zeros(4, 6, dtype=torch.int8),
    "uint8": torch.zeros(4, 6, dtype=torch.uint8),
    "bool": torch.zeros(4, 6, dtype=torch.bool),
    "complex64": torch.zeros(4, 6, dtype=torch.complex64),
    "float8": torch.zeros(4, 6).to(torch.float8_e4m3fnuz),
    "8 bits": torch.zeros(4, 6).to(torch.float8_e5m2fnuz),
    "4 bits": torch.zeros(4, 6, dtype=torch.uint8).view(torch.float4_e2m1fn_x2),
}


OF_SMALL_FLOATS = pytest.mark.skipif(
    not OFFERS_EXCHANGE, reason="this torch hands out no tensors of floats below 16 bits"
)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=OF_SMALL_FLOATS if "bits" in name or "float8" in name else ())
        for name in UNSUPPORTED_DTYPES
    ],
)
def test_other_dtypes_are_refused_by_name(name):
    supported = "float64, float32, bfloat16, float16, float8_e4m3fn, float8_e5m2"
    with pytest.raises(UnsupportedDtypeError, match=f"expected dtype {supported}, got .*{name}"):
        state_of(UNSUPPORTED_DTYPES[name], 4)


@OF_SMALL_FLOATS
@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_every_float8_value_is_counted_where_it_lies(dtype):
    tensor = torch.arange(256).to(torch.uint8).view(dtype).reshape(16, 16)
    assert _native.buffer_info(tensor)["pointer"] == tensor.data_ptr()
    record = SiteRecord(SiteState.from_native(state_of(tensor, 16)))
    values = tensor.double().numpy()
    assert record.exact
    assert (record.n, record.n_nan, record.n_inf) == (
        np.isfinite(values).sum(),
        np.isnan(values).sum(),
        np.isinf(values).sum(),
    )
    finite = np.sort(values[np.isfinite(values)])
    assert (record.min, record.max) == (finite[0], finite[-1])
    np.testing.assert_array_equal(
        record.quantile([0.1, 0.5, 0.9]), np.quantile(finite, [0.1, 0.5, 0.9], method="inverted_cdf")
    )
    np.testing.assert_array_equal(float8_values(record.dtype), tensor.float().numpy().reshape(-1))


def jagged():
    return torch.nested.nested_tensor([torch.ones(2, 3), torch.ones(1, 3)], layout=torch.jagged)


WITHOUT_PLAIN_MEMORY = {
    "sparse": lambda: torch.eye(4).to_sparse(),
    "meta": lambda: torch.zeros(4, 6, device="meta"),
    "fake": lambda: FakeTensorMode().from_tensor(torch.ones(4, 6)),
    "mkldnn": lambda: torch.ones(4, 6).to_mkldnn(),
    "jagged": jagged,
    "all zero without memory": lambda: torch._efficientzerotensor((4, 6)),
    "negative bit": lambda: torch.ones(4, 6, dtype=torch.complex64).conj().imag,
}


@pytest.mark.parametrize("name", WITHOUT_PLAIN_MEMORY)
def test_tensors_without_plain_memory_are_refused(name):
    with pytest.raises(BufferImportError, match=r"^expected a .*tensor.* got .*") as caught:
        state_of(WITHOUT_PLAIN_MEMORY[name](), 4)
    assert "\n" not in str(caught.value), "a message is a sentence, not torch's own stack"
    assert type(caught.value) is BufferImportError


def test_tensors_inside_a_function_transform_are_refused():
    def read(row):
        state_of(row, 6)
        return row

    for transform in (torch.func.vmap(read), torch.func.grad(lambda row: read(row).sum())):
        with pytest.raises(BufferImportError, match="expected a dense tensor"):
            transform(torch.ones(4, 6))


def test_a_resolved_negative_is_counted_right():
    tensor = torch.randn(4, 6, dtype=torch.complex64).conj().imag
    assert tensor.is_neg()
    resolved = tensor.resolve_neg()
    assert_matches_oracle(state_of(resolved, 4), stored(resolved), dtype="float32")


@pytest.mark.parametrize(
    ("array", "error", "message"),
    [
        (np.ones((4, 6), ">f4"), BufferImportError, "byte order"),
        (np.ones((4, 6), np.longdouble), BufferImportError, "longdouble"),
        (np.ones((4, 6), object), BufferImportError, "expected a dense tensor"),
        (np.ones((4, 6), int), UnsupportedDtypeError, "got int64"),
        (np.ones(4, [("a", "f4"), ("b", "i1")])["a"], BufferImportError, "multiple of itemsize"),
        (np.frombuffer(b"\0" * 25, np.float32, 6, offset=1).reshape(2, 3), LayoutError, "aligned to 4 bytes"),
        ([1.0, 2.0], BufferImportError, "got list; pass the tensor itself"),
        (None, BufferImportError, "got NoneType; pass the tensor itself"),
        ("text", BufferImportError, "got str"),
    ],
)
def test_other_objects_are_refused(array, error, message):
    with pytest.raises(error, match=message):
        state_of(array, 2)


@pytest.mark.parametrize(
    ("tensor", "n", "message"),
    [
        (torch.tensor(1.0), 1, r"leading axes that count 1 tokens.*shape \[\]"),
        (torch.ones(6), 6, r"leading axes that count 6 tokens.*shape \[6\]"),
        (torch.ones(4, 6), 3, r"leading axes that count 3 tokens.*shape \[4, 6\]"),
        (torch.ones(4, 6), 24, r"leading axes that count 24 tokens.*shape \[4, 6\]"),
        (torch.ones(2, 3, 5), 4, r"leading axes that count 4 tokens.*shape \[2, 3, 5\]"),
        (torch.ones(4, 0), 4, r"between 1 and \d+ dims, got 0"),
        (torch.ones([1] * 9), 1, "at most 8 axes, got 9"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(tensor, n, message):
    with pytest.raises(LayoutError, match=message):
        state_of(tensor, n)


def test_no_tokens_at_all_is_fine():
    found = state_of(torch.ones(0, 3), 0)
    assert (found["n_dims"], found["first/n_tokens"], found["rest/n_tokens"]) == (3, 0, 0)
    found = state_of(torch.ones(2, 0, 3), 0)
    assert found["n_dims"] == 3


def test_only_padding_counts_nothing():
    accumulator = _native.SiteAccumulator(statistics=["unit_sums"])
    accumulator.update(torch.full((4, 3), torch.nan), tokens(4, real=[0] * 4))
    assert_matches_oracle(accumulator.state(), np.ones((4, 3), np.float32), dtype="float32", real=[0] * 4)


def test_an_update_that_fails_changes_nothing():
    accumulator = _native.SiteAccumulator(statistics=["unit_sums"])
    refused = [
        (torch.ones(4, 6, dtype=torch.int64), UnsupportedDtypeError),
        (torch.ones(4, 6, device="meta"), BufferImportError),
        (torch.ones(5, 6), LayoutError),
        (torch.ones(4, 0), LayoutError),
    ]
    for tensor, error in refused:
        with pytest.raises(error):
            accumulator.update(tensor, tokens(4))
    assert accumulator.state()["dtype"] == ""
    assert accumulator.n_bytes == 0

    accumulator.update(torch.randn(4, 6), tokens(4))
    before = accumulator.state()
    refused += [
        (torch.ones(4, 7), LayoutError),
        (torch.ones(4, 2, 6), LayoutError),
        (torch.ones(4, 6, dtype=torch.bfloat16), UnsupportedDtypeError),
        (torch.ones(4, 6, dtype=torch.float64), UnsupportedDtypeError),
    ]
    for tensor, error in refused:
        with pytest.raises(error):
            accumulator.update(tensor, tokens(4))
        assert_same_states(accumulator.state(), before)
    accumulator.update(torch.randn(4, 6), tokens(4))
    assert accumulator.state()["rest/n_tokens"] == 6


@pytest.mark.parametrize(
    ("lists", "message"),
    [
        ((np.zeros(2, np.int64), np.zeros(3, np.int64), np.zeros(2, np.int64), np.ones(2, np.uint8)), "2 entries"),
        ((np.zeros(2, np.int64), np.zeros(2, np.int64), np.zeros(2, np.int64), np.ones(1, np.uint8)), "1 real flags"),
        ((np.zeros(1, np.int64), np.array([-1]), np.zeros(1, np.int64), np.ones(1, np.uint8)), "position -1 in row 0"),
        ((np.array([-1]), np.zeros(1, np.int64), np.zeros(1, np.int64), np.ones(1, np.uint8)), "sequence -1"),
    ],
)
def test_token_lists_that_do_not_fit_are_refused(lists, message):
    with pytest.raises(LayoutError, match=message):
        _native.TokenBatch(*lists)


def test_a_token_batch_keeps_its_own_copy_and_takes_any_strides():
    position = np.arange(8)[::2].copy()
    strided = np.arange(8)[::2]
    batch = _native.TokenBatch(np.zeros(4, np.int64), strided, np.arange(4), np.array([2, 1, 0, 1], np.uint8))
    assert (len(batch), batch.n_real) == (4, 3)
    accumulator = _native.SiteAccumulator()
    values = torch.randn(4, 3)
    strided[:] = 0
    accumulator.update(values, batch)
    real = [True, True, False, True]
    expected = oracle.site_state(
        values.numpy(), dtype="float32", position=position, token_id=np.arange(4), real=real, threshold=6.0
    )
    assert accumulator.state()["rest/outlier_index"] == expected["rest/outlier_index"]


def test_token_lists_of_another_type_are_refused():
    n = np.zeros(2, np.int64)
    for wrong in (np.zeros(2, np.int32), np.zeros(2), [0, 0], None):
        with pytest.raises((BufferError, TypeError)):
            _native.TokenBatch(n, wrong, n, np.ones(2, np.uint8))
