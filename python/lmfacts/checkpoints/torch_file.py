"""What torch.save wrote: the object in it, and where in the file its storages lie.

Two formats: a zip archive of uncompressed records (torch 1.6 and later), and before that a row of pickles with the
storages behind them, each after the number of its elements.
"""

from __future__ import annotations

import struct
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from lmfacts.checkpoints.torch_pickle import ForbiddenGlobalError, TorchUnpickler
from lmfacts.errors import WeightFileError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from lmfacts.checkpoints.stored_bytes import StoredBytes

__all__ = ["TorchFile", "read_torch_file"]

_MAGIC: Final = 0x1950A86A20F9469CFC6C
_PROTOCOL: Final = 1001
_ZIP: Final = b"PK\x03\x04"
_LOCAL_HEADER: Final = struct.Struct("<4s22xHH")
_N_ELEMENTS: Final = struct.Struct("<q")
_MOST_REASON: Final = 200


@dataclass(frozen=True, slots=True)
class TorchFile:
    """What a file holds.

    Attributes:
        content: the object that was saved, with a `PickledTensor` for each tensor.
        offsets: where the storages begin in the file, by key.
    """

    content: Any
    offsets: Mapping[str, int]


def read_torch_file(file: StoredBytes) -> TorchFile:
    """Read everything but the storages.

    Raises:
        WeightFileError: it is damaged, or names something that is no part of a tensor.
    """
    try:
        file.file.seek(0)
        is_zip = file.file.read(len(_ZIP)) == _ZIP
        file.file.seek(0)
        return _from_archive(file) if is_zip else _from_pickles(file)
    except ForbiddenGlobalError as error:
        raise WeightFileError(
            f"{file.path}: refused, since opening it would call {error}; expected tensors and nothing that runs. Save "
            "the weights as safetensors where you trust the file"
        ) from None
    except WeightFileError:
        raise
    except Exception as error:  # noqa: BLE001 - damaged pickles raise whatever their bytes happen to ask for
        reason = " ".join(str(error).split())[:_MOST_REASON]
        raise WeightFileError(
            f"{file.path}: expected a file that torch.save wrote, but it cannot be read ({type(error).__name__}: "
            f"{reason}); it is damaged, cut short, or something else"
        ) from None


def _from_archive(file: StoredBytes) -> TorchFile:
    with zipfile.ZipFile(file.file) as archive:
        records = {record.filename: record for record in archive.infolist()}
        pickles = [name for name in records if name.rpartition("/")[2] == "data.pkl" and name.count("/") <= 1]
        if len(pickles) != 1:
            raise ValueError("it is a zip archive without a data.pkl")
        root = pickles[0].removesuffix("data.pkl")
        if f"{root}constants.pkl" in records:
            raise WeightFileError(
                f"{file.path}: expected a state dictionary, got an archive of TorchScript; save model.state_dict()"
            )
        if f"{root}byteorder" in records and _contents(file, records[f"{root}byteorder"]) != b"little":
            raise WeightFileError(f"{file.path}: expected little-endian values, got a file of another byte order")
        where, _ = _range(file, records[pickles[0]])
        file.file.seek(where)
        unpickler = TorchUnpickler(file.file)
        content = unpickler.load()
        offsets: dict[str, int] = {}
        for key, storage in unpickler.storages.items():
            record = records.get(f"{root}data/{key}")
            if record is None:
                raise ValueError(f"it has no record of the storage {key}")
            offsets[key], n_bytes = _range(file, record)
            if n_bytes < storage.n_bytes:
                raise ValueError(f"the storage {key} has {n_bytes} bytes and should have {storage.n_bytes}")
        return TorchFile(content, offsets)


def _range(file: StoredBytes, record: zipfile.ZipInfo) -> tuple[int, int]:
    """Where the bytes of a record begin, and how many they are."""
    if record.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"its record {record.filename} is compressed, which torch.save never does")
    file.file.seek(record.header_offset)
    signature, n_name, n_extra = _LOCAL_HEADER.unpack(file.file.read(_LOCAL_HEADER.size))
    start = record.header_offset + _LOCAL_HEADER.size + n_name + n_extra
    if signature != _ZIP or start + record.file_size > file.n_bytes:
        raise ValueError(f"its record {record.filename} is not where its directory says")
    return start, record.file_size


def _contents(file: StoredBytes, record: zipfile.ZipInfo) -> bytes:
    start, n_bytes = _range(file, record)
    file.file.seek(start)
    return file.file.read(min(n_bytes, 64))


def _from_pickles(file: StoredBytes) -> TorchFile:
    reader = file.file
    if TorchUnpickler(reader).load() != _MAGIC or TorchUnpickler(reader).load() != _PROTOCOL:
        raise ValueError("it does not begin as such a file does")
    system = TorchUnpickler(reader).load()
    if isinstance(system, dict) and system.get("little_endian") is False:
        raise WeightFileError(f"{file.path}: expected little-endian values, got a file of another byte order")
    unpickler = TorchUnpickler(reader)
    content = unpickler.load()
    keys = TorchUnpickler(reader).load()
    offsets: dict[str, int] = {}
    if type(keys) is not list or not all(type(key) is str for key in keys):
        raise ValueError("its list of storages is none")
    at = reader.tell()
    for key in keys:
        reader.seek(at)
        (n_elements,) = _N_ELEMENTS.unpack(reader.read(_N_ELEMENTS.size))
        storage = unpickler.storages.get(key)
        if storage is None:
            raise ValueError("it has a storage that no tensor lies in, so that it is not known how long it is")
        offsets[key] = at + _N_ELEMENTS.size
        at = offsets[key] + storage.n_bytes
        if n_elements != storage.n_elements or at > file.n_bytes:
            raise ValueError(f"the storage {key} is cut short, or of another size than its tensors say")
    if missing := unpickler.storages.keys() - offsets.keys():
        raise ValueError(f"it has no storage {min(missing)}")
    return TorchFile(content, offsets)
