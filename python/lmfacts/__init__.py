"""Stream text through a language model once and see what its inside looks like.

    run = lmfacts.scan("gpt2", "corpus.txt", out="gpt2.lmfacts")
    run["blocks.3.resid_post"].excess_kurtosis

`attach` records around your own forward passes, `scan` runs a model over a corpus, `load` reads a saved run. Importing
this package loads neither torch nor transformers; what needs them loads them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    __version__: str
    from lmfacts.errors import LmfactsError
    from lmfacts.facts import check
    from lmfacts.recording.recorder import Recorder, attach
    from lmfacts.run import Run, load
    from lmfacts.run.site import SiteRecord
    from lmfacts.scans.activations import scan
    from lmfacts.scans.weights import scan_weights

__all__ = [
    "LmfactsError",
    "Recorder",
    "Run",
    "SiteRecord",
    "__version__",
    "attach",
    "check",
    "load",
    "scan",
    "scan_weights",
]

_HOMES = {
    "LmfactsError": "lmfacts.errors",
    "Recorder": "lmfacts.recording.recorder",
    "Run": "lmfacts.run",
    "SiteRecord": "lmfacts.run.site",
    "attach": "lmfacts.recording.recorder",
    "check": "lmfacts.facts",
    "load": "lmfacts.run",
    "scan": "lmfacts.scans.activations",
    "scan_weights": "lmfacts.scans.weights",
}


def __getattr__(name: str) -> Any:
    """Load a public name from its module when it is first used."""
    if name == "__version__":
        return _version()
    if name == "_native":
        return _native_module()
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'lmfacts' has no attribute {name!r}")
    return getattr(import_module(home), name)


def _native_module() -> Any:
    try:
        return import_module("lmfacts._native")
    except ImportError as error:
        raise ImportError(
            f"{error}; the native part of lmfacts is not built here: install it with pip install ."
        ) from error


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415  slow, and rarely asked for

    try:
        return version("lmfacts")
    except PackageNotFoundError:  # a source tree that was never installed
        return "unknown"


def __dir__() -> list[str]:
    return sorted(__all__)
