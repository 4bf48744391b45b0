from typing import Any, final

__all__ = [
    "Device",
    "DeviceBuffer",
    "DeviceSite",
    "SiteAccumulator",
    "TokenBatch",
    "buffer_info",
    "build_info",
    "compile_kernels",
    "cuda_info",
    "describe_tokens",
    "kernel_options",
    "kernel_source",
    "measure_matrix",
    "pack_arrays",
    "set_num_threads",
    "share_openmp",
    "tokens_bytes",
    "tokens_memory_bytes",
    "unpack_arrays",
]

from collections.abc import Sequence
from os import PathLike

from lmfacts.errors import BufferImportError as BufferImportError

@final
class TokenBatch:
    def __new__(cls, sequence: object, position: object, token_id: object, real: object) -> TokenBatch: ...
    @staticmethod
    def without_places(n_tokens: int) -> TokenBatch: ...
    def __len__(self) -> int: ...
    @property
    def n_real(self) -> int: ...

@final
class SiteAccumulator:
    def __new__(cls, *, k: int = 64, threshold: float = 6.0, statistics: Sequence[str] = ...) -> SiteAccumulator: ...
    def update(self, tensor: object, tokens: TokenBatch) -> None: ...
    def merge(self, other: SiteAccumulator) -> None: ...
    def outlier_places_from(self, sequence: int) -> list[tuple[int, int]]: ...
    def state(self) -> dict[str, Any]: ...
    @staticmethod
    def from_state(state: dict[str, Any]) -> SiteAccumulator: ...
    @property
    def n_bytes(self) -> int: ...

def buffer_info(tensor: object) -> dict[str, Any]: ...
def build_info() -> dict[str, Any]: ...
def set_num_threads(n_threads: int) -> None: ...
def share_openmp(path: str | PathLike[str]) -> bool: ...
def measure_matrix(
    matrix: object, n_rows: int, *, dtype: str | None = None, transposed: bool = False, k: int = 16
) -> dict[str, Any]: ...

@final
class Device:
    @staticmethod
    def cuda(
        index: int, folders: Sequence[str | PathLike[str]], cache: str | PathLike[str] | None = None
    ) -> Device: ...
    @staticmethod
    def emulated(libraries: dict[str, str], n_multiprocessors: int, shared_bytes: int) -> Device: ...
    def prepare(self, dtype: str) -> None: ...
    def limits(self) -> tuple[int, int, tuple[int, int] | None]: ...

@final
class DeviceBuffer:
    def __new__(cls, tensor: object) -> DeviceBuffer: ...

@final
class DeviceSite:
    def __new__(
        cls,
        device: Device,
        dtype: str,
        n_dims: int,
        *,
        k: int = 64,
        threshold: float = 6.0,
        statistics: Sequence[str] = ...,
    ) -> DeviceSite: ...
    @property
    def state_bytes(self) -> int: ...
    def scratch_bytes(self, n_rows: int) -> int: ...
    def update(
        self,
        tensor: object,
        n_tokens: int,
        tokens: DeviceBuffer,
        state: DeviceBuffer,
        scratch: DeviceBuffer,
        stream: int,
    ) -> bool: ...
    @property
    def places_section(self) -> tuple[int, int]: ...
    def places(self, section: bytes) -> list[tuple[int, int]]: ...
    def decode(self, state: bytes) -> tuple[dict[str, Any], int]: ...

def describe_tokens(
    device: Device,
    shape: tuple[int, int],
    ids: object | None,
    real: object | None,
    starts: object | None,
    earlier: object | None,
    n_earlier: int,
    length: object | None,
    continues: bool,
    tokens: DeviceBuffer,
    memory: DeviceBuffer,
    stream: int,
) -> None: ...
def tokens_bytes(n_tokens: int) -> int: ...
def tokens_memory_bytes(n_rows: int) -> int: ...
def cuda_info(folders: Sequence[str | PathLike[str]]) -> dict[str, Any]: ...
def kernel_source(dtype: str | None = None) -> str: ...
def kernel_options(dtype: str | None, architecture: tuple[int, int], shared_bytes: int) -> list[str]: ...
def compile_kernels(
    dtype: str | None, architecture: tuple[int, int], shared_bytes: int, folders: Sequence[str | PathLike[str]]
) -> bytes: ...
def pack_arrays(arrays: Sequence[tuple[str, str, Sequence[int], bytes]]) -> bytes: ...
def unpack_arrays(packed: bytes) -> list[tuple[str, str, list[int], bytes]]: ...
