"""Every exception that lmfacts raises on purpose, under one base class.

A message says what was expected, what was found and what to do. `exit_code` is what the command line returns for it.
A file that is not there stays `FileNotFoundError`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from lmfacts.run import Run

__all__ = [
    "BufferImportError",
    "CorpusError",
    "CudaError",
    "CudaUnavailableError",
    "DestinationError",
    "HookError",
    "KernelCompileError",
    "LayoutError",
    "LmfactsError",
    "MergeError",
    "MismatchedRunsError",
    "MissingExtraError",
    "ModelError",
    "RunFileCorruptError",
    "RunFileError",
    "RunFileVersionError",
    "SiteNotFoundError",
    "StateError",
    "UnknownArchitectureError",
    "UnsavedRunError",
    "UnsupportedDeviceError",
    "UnsupportedDtypeError",
    "UsageError",
    "WeightFileError",
]


class LmfactsError(Exception):
    """Base of every error that lmfacts raises on purpose."""

    exit_code = 1


class UsageError(LmfactsError, ValueError):
    """An argument has an invalid value."""

    exit_code = 2


class MissingExtraError(LmfactsError, ImportError):
    """An optional dependency is needed and not installed; the message names the extra."""


class ModelError(LmfactsError):
    """A model cannot be loaded, or is not one that lmfacts can read."""


class WeightFileError(ModelError):
    """A file of weights is truncated, damaged, refused, or no file of weights at all."""


class UnknownArchitectureError(ModelError):
    """The generic adapter found no list of blocks in the model."""


class SiteNotFoundError(ModelError, KeyError):
    """A site name, pattern or module path matches nothing."""

    exit_code = 2

    def __str__(self) -> str:
        """The sentence itself; `KeyError` would print its repr."""
        return str(self.args[0]) if self.args else ""


class CorpusError(LmfactsError):
    """The text cannot be read, is empty, or is not text."""


class HookError(LmfactsError):
    """A module's input or output was not what its adapter promised."""


class BufferImportError(LmfactsError, BufferError):
    """A tensor's memory cannot be read by the native part."""


class UnsupportedDtypeError(BufferImportError):
    """The tensor's dtype is not one that can be counted."""


class UnsupportedDeviceError(BufferImportError):
    """The tensor lives where the native part cannot read."""


class LayoutError(BufferImportError):
    """The tensor's shape does not fit the batch it is said to belong to."""


class CudaError(LmfactsError):
    """The CUDA driver refused a call, or cannot be asked now."""


class CudaUnavailableError(CudaError):
    """There is no driver, no compiler or no device that kernels can run on."""


class KernelCompileError(CudaError):
    """A kernel does not compile; the message has the compiler's log."""


class StateError(LmfactsError):
    """An accumulator's stored state does not fit together, or arrays of one cannot be packed."""


class MergeError(LmfactsError):
    """Two states were recorded with different settings, dtypes or shapes."""


class MismatchedRunsError(LmfactsError):
    """Runs given together do not belong together."""

    exit_code = 2


class RunFileError(LmfactsError):
    """A run file cannot be read or written."""


class DestinationError(RunFileError, UsageError):
    """A file cannot be written under that name; nothing was done yet."""

    exit_code = 2


class UnsavedRunError(RunFileError):
    """A run was measured and could not be saved where it was to go.

    Attributes:
        run: the run.
        path: the file in another place that it was saved in instead, or None.
    """

    def __init__(self, message: str, run: Run, path: Path | None) -> None:
        super().__init__(message)
        self.run = run
        self.path = path


class RunFileVersionError(RunFileError):
    """A run file was written by a newer lmfacts."""


class RunFileCorruptError(RunFileError):
    """A file is truncated, damaged, or not a run file at all."""
