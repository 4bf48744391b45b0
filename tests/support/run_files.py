"""Looking at all that a run file holds, and changing it by the safetensors library."""

from __future__ import annotations

import json
import struct
from typing import TYPE_CHECKING, Any

from safetensors.numpy import load_file, save_file

from lmfacts.run import load
from lmfacts.run.file import METADATA_KEY
from lmfacts.run.packed_arrays import pack, unpack

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from numpy.typing import NDArray

    from lmfacts.run import Run

SITES = "sites/"


def document_of(path: Path) -> Any:
    """The JSON document of a run file."""
    with path.open("rb") as file:
        (n_header,) = struct.unpack("<Q", file.read(8))
        return json.loads(json.loads(file.read(n_header))["__metadata__"][METADATA_KEY])


def arrays_of(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of a file of schema 2: `SITE/POPULATION/NAME` of sites, others as tensors are called."""
    arrays: dict[str, NDArray[Any]] = {}
    for tensor, stored in load_file(path).items():
        if tensor.startswith(SITES):
            site = tensor.removeprefix(SITES)
            arrays |= {f"{site}/{name}": array for name, array in unpack(stored).items()}
        else:
            arrays[tensor] = stored
    return arrays


def rewrite(
    path: Path,
    change: Callable[[Any], object] = lambda document: None,
    arrays: Callable[[dict[str, NDArray[Any]]], object] = lambda arrays: None,
) -> None:
    """Change the document or the arrays of a file of schema 2; a string that `change` gives is stored as it is."""
    document, held = document_of(path), arrays_of(path)
    tensors: dict[str, dict[str, NDArray[Any]]] = {name: {} for name in load_file(path) if name.startswith(SITES)}
    replacement = change(document)
    arrays(held)
    further = {}
    for name, array in held.items():
        site = next((site for site in tensors if name.startswith(site.removeprefix(SITES) + "/")), None)
        if site is None:
            further[name] = array
        else:
            tensors[site][name.removeprefix(site.removeprefix(SITES) + "/")] = array
    packed = {site: pack(of_site) for site, of_site in tensors.items()}
    text = replacement if isinstance(replacement, str) else json.dumps(document)
    save_file(packed | further, path, metadata={METADATA_KEY: text})


def assert_same(loaded: Run, run: Run) -> None:
    """Two runs have the same document and the same states, bit for bit."""
    assert loaded.metadata == run.metadata
    assert list(loaded) == list(run)
    for name in run:
        assert loaded[name].state.to_native() == run[name].state.to_native()


def use_all(path: Path) -> None:
    """Load a file and look at everything in it."""
    for site in load(path).values():
        for record in (site, site.first, site.rest):
            record.quantile([0.0, 0.5])
            record.histogram(bins="log")
            repr((record, record.dims, record.norms, record.outliers, record.unit_sums))
