"""How a run file lays out its arrays: a layout for each schema that was ever released.

Schema 1 has a tensor for each array, named `SITE/POPULATION/NAME`, as in `blocks.3.resid_post/rest/moments`. Schema 2
has a tensor of bytes for each site, named `sites/SITE`, in which `lmfacts.run.packed_arrays` packed the same arrays as
`POPULATION/NAME`, and the other arrays whose names begin with the site's; further arrays are tensors `arrays/NAME`.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, Final, Protocol

import numpy as np

from lmfacts.run.packed_arrays import DamagedArraysError, pack, unpack
from lmfacts.run.state import stored_arrays
from lmfacts.run.statistic import POPULATIONS, describe_shape, fits
from lmfacts.run.statistics import recorded_in

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray

    from lmfacts.files.safetensors_view import SafetensorsView
    from lmfacts.run.state import SiteState

__all__ = ["LAYOUTS", "Layout", "LayoutError", "tensors_of"]

_SITES: Final = "sites/"
_FURTHER: Final = "arrays/"


class LayoutError(ValueError):
    """The arrays of a file are not those that its document promises; the message is a clause without its period."""


class Layout(Protocol):
    """Reads the arrays of a file."""

    def __init__(self, view: SafetensorsView, entries: Mapping[str, Mapping[str, Any]]) -> None:
        """Look at the file's header.

        Args:
            view: the file.
            entries: the sites' entries in its document, by name.

        Raises:
            LayoutError: it cannot hold what the entries promise.
        """

    def of_site(self, name: str) -> Mapping[str, NDArray[Any]]:
        """The arrays of a site's state as `POPULATION/NAME`, of the right dtypes, and others that are its.

        Raises:
            LayoutError: one is missing, or has another dtype.
        """

    def further(self) -> dict[str, NDArray[Any]]:
        """The arrays that are no part of any site's state, by the name that they were given.

        Raises:
            LayoutError: those of a site cannot be read.
        """


def tensors_of(states: Mapping[str, SiteState], further: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """The tensors to store, in the newest layout.

    Args:
        states: site name -> state.
        further: other arrays; those named `SITE/...` are packed with that site's.

    Raises:
        StateError: an array of a site holds no numbers, or its name is longer than 255 bytes.
    """
    tensors: dict[str, NDArray[Any]] = {}
    of_sites: dict[str, dict[str, NDArray[Any]]] = {site: {} for site in states}
    for name, array in further.items():
        site = _site_of(name, states)
        if site is None:
            tensors[_FURTHER + name] = np.asarray(array, order="C")
        else:
            of_sites[site][name.removeprefix(f"{site}/")] = array
    for site, state in states.items():
        # In an order that does not depend on which of the arrays this version knows.
        tensors[_SITES + site] = pack(dict(sorted((of_sites[site] | dict(state.arrays())).items())))
    return tensors


def _site_of(name: str, sites: Mapping[str, Any]) -> str | None:
    """The site whose name an array's name begins with; names of sites may themselves have a `/`."""
    site = name
    while "/" in site:
        site = site.rpartition("/")[0]
        if site in sites:
            return site
    return None


class _TensorPerArray:
    """Schema 1."""

    def __init__(self, view: SafetensorsView, entries: Mapping[str, Mapping[str, Any]]) -> None:
        self._view = view
        self._entries = entries
        for name, entry in entries.items():
            for array, dtype, shape in _expected(entry):
                stored = view.stored.get(f"{name}/{array}")
                _check(f"{name}/{array}", None if stored is None else (stored.dtype, stored.shape), dtype, shape)

    def of_site(self, name: str) -> Mapping[str, NDArray[Any]]:
        return {array: self._view.array(f"{name}/{array}") for array, _, _ in _expected(self._entries[name])}

    def further(self) -> dict[str, NDArray[Any]]:
        own = {f"{name}/{array}" for name, entry in self._entries.items() for array, _, _ in _expected(entry)}
        return {name: self._view.array(name) for name in sorted(self._view.stored.keys() - own)}


class _TensorPerSite:
    """Schema 2."""

    def __init__(self, view: SafetensorsView, entries: Mapping[str, Mapping[str, Any]]) -> None:
        self._view = view
        self._entries = entries
        for name in entries:
            stored = view.stored.get(_SITES + name)
            _check(_SITES + name, None if stored is None else (stored.dtype, stored.shape), np.dtype(np.uint8), (-1,))
        for name in view.stored:
            site = name.removeprefix(_SITES)
            if not name.startswith(_FURTHER) and (site == name or site not in entries):
                raise LayoutError(f"the array {name} belongs to no site")

    def of_site(self, name: str) -> Mapping[str, NDArray[Any]]:
        try:
            arrays = unpack(self._view.array(_SITES + name))
        except DamagedArraysError as error:
            raise LayoutError(f"the arrays of {name} are damaged ({error})") from None
        for array, dtype, shape in _expected(self._entries[name]):
            held = arrays.get(array)
            if held is None or held.dtype != dtype:  # shapes are the state's to check
                _check(f"{name}/{array}", None if held is None else (held.dtype, held.shape), dtype, shape)
        return arrays

    def further(self) -> dict[str, NDArray[Any]]:
        arrays = {
            name.removeprefix(_FURTHER): self._view.array(name)
            for name in self._view.stored
            if name.startswith(_FURTHER)
        }
        for site, entry in self._entries.items():
            own = {array for array, _, _ in _expected(entry)}
            for name, array in self.of_site(site).items():
                if name not in own:
                    arrays[f"{site}/{name}"] = array
        return dict(sorted(arrays.items()))


LAYOUTS: Final[Mapping[int, type[Layout]]] = {1: _TensorPerArray, 2: _TensorPerSite}
"""By schema version."""


def _check(
    name: str,
    found: tuple[np.dtype[Any] | None, tuple[int, ...]] | None,
    dtype: np.dtype[Any],
    shape: tuple[int, ...],
) -> None:
    if found is None:
        raise LayoutError(f"the array {name} is missing")
    if found[0] != dtype or not fits(found[1], shape):
        raise LayoutError(f"the array {name} is {found[0]} {list(found[1])}, expected {dtype} {describe_shape(shape)}")


def _expected(entry: Mapping[str, Any]) -> list[tuple[str, np.dtype[Any], tuple[int, ...]]]:
    """Name, dtype and shape of each array of a site's state."""
    return _expected_at(entry["n_dims"], recorded_in(entry))


@cache
def _expected_at(n_dims: int, statistics: frozenset[str]) -> list[tuple[str, np.dtype[Any], tuple[int, ...]]]:
    arrays = [(name, array.dtype, array.shape_at(n_dims)) for name, array in stored_arrays(statistics)]
    return [(f"{part}/{name}", dtype, shape) for part in POPULATIONS for name, dtype, shape in arrays]
