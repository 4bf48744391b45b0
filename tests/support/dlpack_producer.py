"""A producer of DLPack capsules that keeps the books: what was consumed, and how often its deleter ran.

The structures follow the C header (https://dmlc.github.io/dlpack/latest/c_api.html).
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

__all__ = ["Producer", "capsule_name"]

CPU = 1
FLOAT = 2


class _DLTensor(ctypes.Structure):
    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_DELETER = ctypes.CFUNCTYPE(None, ctypes.c_void_p)


class _Unversioned(ctypes.Structure):
    _fields_ = (("dl_tensor", _DLTensor), ("manager_ctx", ctypes.c_void_p), ("deleter", _DELETER))


class _Versioned(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_uint32),
        ("minor", ctypes.c_uint32),
        ("manager_ctx", ctypes.c_void_p),
        ("deleter", _DELETER),
        ("flags", ctypes.c_uint64),
        ("dl_tensor", _DLTensor),
    )


_API = ctypes.pythonapi
_API.PyCapsule_New.restype = ctypes.py_object
_API.PyCapsule_New.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
_API.PyCapsule_GetName.restype = ctypes.c_char_p
_API.PyCapsule_GetName.argtypes = (ctypes.py_object,)


def capsule_name(capsule: object) -> bytes:
    """The name that a capsule has now."""
    name: bytes = _API.PyCapsule_GetName(capsule)
    return name


class Producer:
    """An object with `__dlpack__` over a NumPy array; every field of what it exports can be set wrong.

    The capsules have no destructor: what a consumer does not delete stays, and shows in `n_deleted`.

    Attributes:
        n_deleted: how often the deleter was called.
        capsules: those that were handed out, in order.
        on_delete: called by the deleter, if set.
    """

    def __init__(
        self,
        array: NDArray[Any],
        *,
        version: tuple[int, int] | None = (1, 0),
        device: tuple[int, int] = (CPU, 0),
        dtype: tuple[int, int, int] = (FLOAT, 32, 1),
        with_strides: bool = True,
        byte_offset: int = 0,
        n_axes: int | None = None,
        with_deleter: bool = True,
        name: bytes | None = None,
        takes_max_version: bool = True,
    ) -> None:
        """Prepare the export.

        Args:
            array: the memory.
            version: of the structure; None for the form before version 1.
            device: type and id.
            dtype: code, bits and lanes.
            with_strides: otherwise the pointer to them is null.
            byte_offset: what is taken off `data` and given as the offset.
            n_axes: instead of the array's own.
            with_deleter: otherwise it is null.
            name: of the capsule, instead of the right one.
            takes_max_version: whether `__dlpack__` knows that argument.
        """
        self.n_deleted = 0
        self.capsules: list[object] = []
        self.on_delete: Callable[[], None] | None = None
        self._array = array
        self._takes_max_version = takes_max_version
        self._deleter = _DELETER(self._delete) if with_deleter else _DELETER()
        n = array.ndim if n_axes is None else n_axes
        self._shape = (ctypes.c_int64 * max(n, 1))(*(list(array.shape) + [1] * n)[:n])
        self._strides = (ctypes.c_int64 * max(n, 1))(*([s // array.itemsize for s in array.strides] + [1] * n)[:n])
        self._managed = _Unversioned() if version is None else _Versioned()
        if isinstance(self._managed, _Versioned) and version is not None:
            self._managed.major, self._managed.minor = version
        self._managed.deleter = self._deleter
        tensor = self._managed.dl_tensor
        tensor.data = array.ctypes.data - byte_offset
        tensor.byte_offset = byte_offset
        tensor.device_type, tensor.device_id = device
        tensor.ndim = n
        tensor.code, tensor.bits, tensor.lanes = dtype
        tensor.shape = self._shape
        if with_strides:
            tensor.strides = self._strides
        # The capsule keeps the pointer to its name, so the bytes have to live as long.
        self._name = name or (b"dltensor" if version is None else b"dltensor_versioned")

    def __dlpack__(self, **options: object) -> object:
        """A fresh capsule over the same structure."""
        if options and not self._takes_max_version:
            raise TypeError("__dlpack__() got an unexpected keyword argument 'max_version'")
        capsule: object = _API.PyCapsule_New(ctypes.addressof(self._managed), self._name, None)
        self.capsules.append(capsule)
        return capsule

    def _delete(self, pointer: int) -> None:
        assert pointer == ctypes.addressof(self._managed)
        self.n_deleted += 1
        if self.on_delete is not None:
            self.on_delete()


def floats(*shape: int) -> NDArray[np.float32]:
    """Different float32 values in the given shape, so that a wrong offset or stride shows."""
    return np.arange(1, 1 + int(np.prod(shape)), dtype=np.float32).reshape(shape)
