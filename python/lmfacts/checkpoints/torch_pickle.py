"""The pickles in torch's files, read for what they say about tensors and without calling anything that they name.

torch's own reader gives tensors whose values it has read or mapped. A checkpoint's values are wanted one tensor at a
time, and mapped files that are cut short kill the process (see `stored_bytes`). What torch pickles is little:
containers, numbers, strings, and calls of a dozen functions that rebuild a tensor from a storage. Each of these has a
stand-in here that notes what it was called with; a file that names anything else is refused, as
`torch.load(weights_only=True)` does.
"""

from __future__ import annotations

import math
import pickle
from collections import OrderedDict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["ForbiddenGlobalError", "PickledStorage", "PickledTensor", "TorchUnpickler"]

_MOST_PICKLE_BYTES: Final = 1 << 28
"""What a file can make us hold; a state dictionary needs some hundred bytes for a tensor."""

_MOST_AXES: Final = 1 << 10
_MOST_VALUES: Final = 1 << 48
"""What no tensor has, whose values may be in the file once, or nowhere."""

_ITEM_SIZES: Final[Mapping[str, int]] = {
    **dict.fromkeys(("bool", "int8", "uint8", "qint8", "quint8", "quint4x2", "quint2x4"), 1),
    **dict.fromkeys(("float8_e4m3fn", "float8_e5m2", "float8_e8m0fnu", "float8_e4m3fnuz", "float8_e5m2fnuz"), 1),
    **dict.fromkeys(("float4_e2m1fn_x2",), 1),
    **dict.fromkeys(("int16", "uint16", "float16", "bfloat16"), 2),
    **dict.fromkeys(("int32", "uint32", "float32", "complex32", "qint32"), 4),
    **dict.fromkeys(("int64", "uint64", "float64", "complex64"), 8),
    "complex128": 16,
}
"""torch's dtypes, to the bytes of an element."""

_STORAGES: Final[Mapping[str, str]] = {
    "BFloat16Storage": "bfloat16",
    "BoolStorage": "bool",
    "ByteStorage": "uint8",
    "CharStorage": "int8",
    "ComplexDoubleStorage": "complex128",
    "ComplexFloatStorage": "complex64",
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "IntStorage": "int32",
    "LongStorage": "int64",
    "QInt32Storage": "qint32",
    "QInt8Storage": "qint8",
    "QUInt2x4Storage": "quint2x4",
    "QUInt4x2Storage": "quint4x2",
    "QUInt8Storage": "quint8",
    "ShortStorage": "int16",
    "UntypedStorage": "uint8",
}
"""What the types of storages are called, to their dtypes."""


class ForbiddenGlobalError(Exception):
    """A pickle names something that no file of tensors needs; the message is its name."""


@dataclass(frozen=True, slots=True)
class PickledStorage:
    """A storage that a pickle refers to.

    Attributes:
        key: what it is called in the file.
        dtype: the dtype of its elements.
        n_elements: how many of these it has.
    """

    key: str
    dtype: str
    n_elements: int

    @property
    def n_bytes(self) -> int:
        """Its size."""
        return self.n_elements * _ITEM_SIZES[self.dtype]


@dataclass(frozen=True, slots=True)
class PickledTensor:
    """What a pickle says about a tensor.

    Attributes:
        dtype: its dtype.
        shape: its shape.
        strides: its strides, in elements.
        offset: where it begins in its storage, in elements.
        storage: where its values are; None where `problem` says why they cannot be read.
        problem: `it is sparse`, ...; None for a tensor that can be read.
    """

    dtype: str
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    offset: int
    storage: PickledStorage | None
    problem: str | None = None

    @property
    def item_bytes(self) -> int:
        """The bytes of an element."""
        return _ITEM_SIZES.get(self.dtype, 1)

    @property
    def n_values(self) -> int:
        """The number of its values."""
        return math.prod(self.shape)

    @property
    def n_elements(self) -> int:
        """The elements of the storage from its first value to its last."""
        if 0 in self.shape:
            return 0
        return 1 + sum((size - 1) * stride for size, stride in zip(self.shape, self.strides, strict=True))


@dataclass(frozen=True, slots=True)
class _Dtype:
    """Stands for a dtype, or for the type of a storage."""

    name: str


class _Ignored:
    """Stands for what is no tensor and does not matter: a device, a NumPy scalar of an optimizer, a Counter."""


# The one in Python: its instructions can be chosen one by one.
_Unpickler: Any = pickle._Unpickler  # noqa: SLF001  the one written in C cannot be told what to do less of


class TorchUnpickler(_Unpickler):  # type: ignore[misc]  # of no known type
    """Reads one pickle after the other from a file.

    Raises whatever damaged bytes happen to lead to; `ForbiddenGlobalError` for a name that is not torch's.

    Attributes:
        storages: those that the pickles referred to, by key.
    """

    def __init__(self, file: BinaryIO) -> None:
        """From a file, at a pickle."""
        super().__init__(_Bounded(file), encoding="latin-1")
        self.storages: dict[str, PickledStorage] = {}

    def find_class(self, module: str, name: str) -> Any:
        """The stand-in of a global."""
        if module in ("torch", "torch.cuda", "torch.storage") and name in _STORAGES:
            return _Dtype(_STORAGES[name])
        if module == "torch" and name in _ITEM_SIZES:
            return _Dtype(name)
        known = _GLOBALS.get(f"{module}.{name}")
        if known is None:
            raise ForbiddenGlobalError(f"{module}.{name}")
        return known

    def persistent_load(self, pid: Any) -> Any:
        """The storage that an id stands for: ("storage", type, key, device, number of elements[, view])."""
        kind, *rest = pid
        if type(kind) is not str:  # what pickles nest, they may nest so that it cannot be printed
            raise ValueError("an id that does not say of what")
        if kind == "module":  # the source of a module, in files of old
            return rest[0]
        if kind != "storage":
            raise ValueError(f"an id of a {kind!r}")
        dtype, key, _, n_elements, *view = rest
        if type(key) is not str or type(n_elements) is not int or n_elements < 0:
            raise ValueError("a storage without a name or a size")
        storage = self.storages.setdefault(key, PickledStorage(key, dtype.name, n_elements))
        if view and view[0] is not None:  # a part of a storage, in files of old
            _, first, size = view[0]
            return _Part(storage, first, size)
        return storage

    # Without tuples as keys (hashing nested ones is not bounded), sets, and states of objects.

    def _set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _set(self.stack[-1], key, value)

    def _set_items(self) -> None:
        items = self.pop_mark()
        for key, value in zip(items[::2], items[1::2], strict=True):
            _set(self.stack[-1], key, value)

    def _dict(self) -> None:
        items = self.pop_mark()
        made: dict[Any, Any] = {}
        for key, value in zip(items[::2], items[1::2], strict=True):
            _set(made, key, value)
        self.append(made)

    def _append(self) -> None:
        value = self.stack.pop()
        _list(self.stack[-1]).append(value)

    def _appends(self) -> None:
        items = self.pop_mark()
        _list(self.stack[-1]).extend(items)

    def _empty_set(self) -> None:
        self.append([])

    def _frozen_set(self) -> None:
        self.append(self.pop_mark())

    def _byte_array(self) -> None:
        self.append(self.read(int.from_bytes(self.read(8), "little")))

    def _build(self) -> None:
        self.stack.pop()

    def _reduce(self) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        if not isinstance(function, _StandIn) or type(arguments) is not tuple:
            raise ValueError("a call of what is no function")
        self.append(function.call(*arguments))

    dispatch = {
        code[0]: _Unpickler.dispatch[code[0]]
        for code in (
            *(pickle.PROTO, pickle.FRAME, pickle.STOP, pickle.MARK, pickle.POP, pickle.POP_MARK, pickle.DUP),
            *(pickle.NONE, pickle.NEWTRUE, pickle.NEWFALSE, pickle.INT, pickle.BININT, pickle.BININT1, pickle.BININT2),
            *(pickle.LONG, pickle.LONG1, pickle.LONG4, pickle.FLOAT, pickle.BINFLOAT, pickle.STRING, pickle.BINSTRING),
            *(pickle.SHORT_BINSTRING, pickle.UNICODE, pickle.BINUNICODE, pickle.SHORT_BINUNICODE, pickle.BINUNICODE8),
            *(pickle.BINBYTES, pickle.SHORT_BINBYTES, pickle.BINBYTES8, pickle.TUPLE, pickle.EMPTY_TUPLE),
            *(pickle.TUPLE1, pickle.TUPLE2, pickle.TUPLE3, pickle.LIST, pickle.EMPTY_LIST, pickle.EMPTY_DICT),
            *(pickle.GET, pickle.BINGET, pickle.LONG_BINGET, pickle.PUT, pickle.BINPUT, pickle.LONG_BINPUT),
            *(pickle.MEMOIZE, pickle.GLOBAL, pickle.STACK_GLOBAL, pickle.BINPERSID),
        )
    } | {
        pickle.SETITEM[0]: _set_item,
        pickle.SETITEMS[0]: _set_items,
        pickle.DICT[0]: _dict,
        pickle.APPEND[0]: _append,
        pickle.APPENDS[0]: _appends,
        pickle.EMPTY_SET[0]: _empty_set,
        pickle.ADDITEMS[0]: _appends,
        pickle.FROZENSET[0]: _frozen_set,
        pickle.BYTEARRAY8[0]: _byte_array,
        pickle.BUILD[0]: _build,
        pickle.REDUCE[0]: _reduce,
    }
    """What the instructions do; a pickle with others ends in a `KeyError`."""


class _Bounded:
    """A file of which no more than a pickle needs is read."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._left = _MOST_PICKLE_BYTES

    def read(self, n_bytes: int) -> bytes:
        self._take(n_bytes)
        return self._file.read(n_bytes)

    def readline(self) -> bytes:
        line = self._file.readline(self._left)
        self._take(len(line))
        return line

    def _take(self, n_bytes: int) -> None:
        self._left -= n_bytes
        if self._left <= 0:
            raise ValueError(f"its pickle has more than {_MOST_PICKLE_BYTES} bytes")


def _set(container: Any, key: Any, value: Any) -> None:
    if not isinstance(container, dict):
        raise TypeError("items of what is no dictionary")
    if isinstance(key, str | int | float | bytes | None):
        container[key] = value


def _list(container: Any) -> list[Any]:
    if not isinstance(container, list):
        raise TypeError("items of what is no list")
    return container


# The stand-ins


@dataclass(frozen=True, slots=True)
class _StandIn:
    """Stands for a function of torch's or Python's."""

    call: Callable[..., Any]


@dataclass(frozen=True, slots=True)
class _Part:
    """A part of a storage, as the tensors of old files have it."""

    storage: PickledStorage
    first: int
    n_elements: int


def _sizes(values: Any) -> tuple[int, ...]:
    sizes = tuple(values)
    if not all(type(size) is int and 0 <= size < _MOST_VALUES for size in sizes):
        raise ValueError("a shape or strides that are no numbers")
    if len(sizes) > _MOST_AXES:
        raise ValueError(f"a tensor of {len(sizes)} axes")
    return sizes


def _shape(values: Any) -> tuple[int, ...]:
    sizes = _sizes(values)
    if math.prod(sizes) >= _MOST_VALUES:
        raise ValueError("a tensor of more values than there can be")
    return sizes


def _tensor(storage: Any, offset: int, shape: Any, strides: Any, dtype: str | None = None) -> PickledTensor:
    first, n_elements = 0, None
    if isinstance(storage, _Part):
        storage, first, n_elements = storage.storage, storage.first, storage.n_elements
    if not isinstance(storage, PickledStorage) or type(offset) is not int or type(first) is not int:
        raise ValueError("a tensor without a storage")
    made = PickledTensor(dtype or storage.dtype, _shape(shape), _sizes(strides), first + offset, storage)
    most = storage.n_bytes if n_elements is None else (first + n_elements) * _ITEM_SIZES[storage.dtype]
    if len(made.shape) != len(made.strides) or made.offset < 0:
        raise ValueError("a tensor whose strides are not those of its shape")
    if (made.offset + made.n_elements) * made.item_bytes > min(most, storage.n_bytes):
        raise ValueError("a tensor that is larger than its storage")
    if made.n_values > made.n_elements:
        problem = "its values repeat: it was expanded before it was saved"
        return PickledTensor(made.dtype, made.shape, made.strides, made.offset, None, problem)
    return made


def _rebuild_tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> PickledTensor:
    return _tensor(storage, offset, shape, strides)


def _rebuild_tensor_v3(
    storage: Any, offset: Any, shape: Any, strides: Any, _gradient: Any, _hooks: Any, dtype: Any, *_: Any
) -> PickledTensor:
    return _tensor(storage, offset, shape, strides, dtype.name)


def _rebuild_qtensor(storage: Any, _offset: Any, shape: Any, *_: Any) -> PickledTensor:
    return _unreadable(storage.dtype, shape, "it is quantized by torch")


def _rebuild_sparse(layout: Any, arguments: Any, *_: Any) -> PickledTensor:
    values = [each for each in arguments if isinstance(each, PickledTensor)]
    shapes = [each for each in arguments if type(each) is tuple]
    dtype = values[-1].dtype if values else "unknown"
    kind = f" ({layout})" if type(layout) is str else ""
    return _unreadable(dtype, shapes[0] if shapes else (), f"it is sparse{kind}")


def _rebuild_other(*_: Any) -> PickledTensor:
    return _unreadable("unknown", (), "it is of a kind of tensors that cannot be read")


def _unreadable(dtype: str, shape: Any, problem: str) -> PickledTensor:
    sizes = _shape(shape)
    return PickledTensor(dtype, sizes, (0,) * len(sizes), 0, None, problem)


def _rebuild_from_type(function: Any, _type: Any, arguments: Any, *_: Any) -> Any:
    """A tensor of a subclass, or one with attributes."""
    if not isinstance(function, _StandIn) or type(arguments) is not tuple:
        raise ValueError("a call of what is no function")
    return function.call(*arguments)


_BUILTINS: Final = (
    "bool",
    "bytearray",
    "bytes",
    "complex",
    "dict",
    "float",
    "int",
    "list",
    "long",
    "set",
    "str",
    "tuple",
)
_IGNORED: Final = _StandIn(lambda *_: _Ignored())
_PARAMETER: Final = _StandIn(lambda data, *_: data)

_GLOBALS: Final[Mapping[str, _StandIn]] = {
    "collections.OrderedDict": _StandIn(lambda items=(): OrderedDict({k: v for k, v in items if type(k) is str})),
    **dict.fromkeys(("collections.Counter", "collections.defaultdict"), _StandIn(lambda *_: {})),
    "torch.Size": _StandIn(lambda sizes=(): tuple(sizes)),
    "torch.serialization._get_layout": _StandIn(lambda name: name),
    "torch._utils._rebuild_tensor": _StandIn(_rebuild_tensor),
    "torch._utils._rebuild_tensor_v2": _StandIn(_rebuild_tensor),
    "torch._utils._rebuild_tensor_v3": _StandIn(_rebuild_tensor_v3),
    "torch._utils._rebuild_parameter": _PARAMETER,
    "torch._utils._rebuild_parameter_with_state": _PARAMETER,
    "torch._utils._rebuild_qtensor": _StandIn(_rebuild_qtensor),
    "torch._utils._rebuild_sparse_tensor": _StandIn(_rebuild_sparse),
    "torch._utils._rebuild_sparse_csr_tensor": _StandIn(_rebuild_sparse),
    **dict.fromkeys(
        (
            "torch._utils._rebuild_device_tensor_from_cpu_tensor",
            "torch._utils._rebuild_device_tensor_from_numpy",
            "torch._utils._rebuild_meta_tensor_no_storage",
            "torch._utils._rebuild_nested_tensor",
            "torch._utils._rebuild_wrapper_subclass",
        ),
        _StandIn(_rebuild_other),
    ),
    "torch._tensor._rebuild_from_type_v2": _StandIn(_rebuild_from_type),
    "torch.nn.parameter.Parameter": _PARAMETER,
    "torch.nn.parameter.Buffer": _PARAMETER,
    **dict.fromkeys(
        (
            *(f"{module}.{name}" for module in ("builtins", "__builtin__") for name in _BUILTINS),
            *(
                f"{home}.multiarray.{name}"
                for home in ("numpy.core", "numpy._core")
                for name in ("_reconstruct", "scalar")
            ),
            "numpy._core.numeric._frombuffer",
            "numpy.core.numeric._frombuffer",
            "_codecs.encode",
            "numpy.dtype",
            "numpy.ndarray",
            "torch.Tensor",
            "torch.device",
            "torch.per_channel_affine",
            "torch.per_channel_affine_float_qparams",
            "torch.per_channel_symmetric",
            "torch.per_tensor_affine",
            "torch.per_tensor_symmetric",
        ),
        _IGNORED,
    ),
}
"""What a file of tensors may name."""
