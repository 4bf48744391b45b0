"""Arrays in fewer bytes, without loss: `rust/lmfacts-core/src/packing.rs` says how.

Only reading and writing runs needs the native module, which is not loaded before.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from lmfacts.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

__all__ = ["DamagedArraysError", "pack", "unpack"]


class DamagedArraysError(ValueError):
    """Packed arrays are damaged; the message is a clause that a sentence goes on from."""


def pack(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.uint8]:
    """The bytes that hold arrays with their names, dtypes and shapes.

    Raises:
        StateError: a name is longer than 255 bytes, or a dtype is no number.
    """
    from lmfacts._native import pack_arrays  # noqa: PLC0415  see above

    described = []
    for name, array in arrays.items():
        stored = np.asarray(array, dtype=array.dtype.newbyteorder("<"))
        described.append((name, stored.dtype.str, stored.shape, stored.tobytes()))
    return np.frombuffer(pack_arrays(described), np.uint8)


def unpack(packed: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
    """The arrays that were packed, read-only.

    Raises:
        DamagedArraysError: the bytes are damaged.
    """
    from lmfacts._native import unpack_arrays  # noqa: PLC0415  see above

    arrays: dict[str, NDArray[Any]] = {}
    try:
        for name, dtype, shape, data in unpack_arrays(packed.tobytes()):
            arrays[name] = np.ndarray(shape, dtype, data)
    except (StateError, TypeError, ValueError) as error:
        raise DamagedArraysError(str(error)) from None
    return arrays
