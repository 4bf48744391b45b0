"""The run file: one safetensors file whose header carries one JSON document.

The document (`lmfacts.run.schema` lists its keys) is a string under the metadata key `lmfacts`. The arrays of a site
are named `SITE/POPULATION/NAME`, as in `blocks.3.resid_post/rest/moments`; `lmfacts.run.statistics` say what each
holds. Arrays under other names are kept when a run is read and written again. Arrays are looked at when a site is asked
for, not when a file is opened; what the header says about them is checked at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from lmfacts.errors import RunFileCorruptError, RunFileError, RunFileVersionError, UsageError
from lmfacts.files.atomic import replacing
from lmfacts.files.safetensors_view import NotSafetensorsError, SafetensorsView
from lmfacts.run.info import RunInfo
from lmfacts.run.schema import SCHEMA_VERSION, metadata_problem, parse_metadata, to_json
from lmfacts.run.state import SiteState, stored_arrays
from lmfacts.run.statistic import POPULATIONS, describe_shape, fits
from lmfacts.run.statistics import recorded_in
from lmfacts.run.weight_arrays import weight_arrays_problem

if TYPE_CHECKING:
    import os

    import numpy as np
    from numpy.typing import NDArray

__all__ = ["METADATA_KEY", "RunFile", "write_run_file"]

METADATA_KEY: Final = "lmfacts"
"""The key of the safetensors metadata that holds the JSON document."""


def write_run_file(
    path: str | os.PathLike[str],
    metadata: Mapping[str, Any],
    states: Mapping[str, SiteState],
    extra_arrays: Mapping[str, NDArray[Any]],
) -> None:
    """Write a run file atomically.

    Args:
        path: where to.
        metadata: a complete document.
        states: site name -> state.
        extra_arrays: further arrays under names of their own.

    Raises:
        DestinationError: it cannot be written there.
        RunFileError: writing failed; nothing is left behind, and a file that was there is untouched.
    """
    # Only writing needs the library, so that looking at a file does not wait for its import.
    from safetensors import SafetensorError  # noqa: PLC0415  see above
    from safetensors.numpy import save_file  # noqa: PLC0415  see above

    with replacing(path) as temporary:
        arrays = {f"{site}/{name}": array for site, state in states.items() for name, array in state.arrays()}
        try:
            save_file({**extra_arrays, **arrays}, temporary, metadata={METADATA_KEY: to_json(metadata)})
        except SafetensorError as error:
            raise RunFileError(f"Cannot write {path}: {error}.") from error


class RunFile(Mapping[str, SiteState]):
    """A run file in memory: its metadata, and its sites' states, each made when it is asked for.

    Attributes:
        path: where it was opened.
        metadata: the JSON document, checked.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Read and check a run file. What happens to the file after that does not matter.

        Raises:
            FileNotFoundError: there is no such file.
            RunFileVersionError: a newer lmfacts wrote it.
            RunFileCorruptError: it is truncated, damaged or not a run file.
            RunFileError: the system does not let it be read.
        """
        self.path = Path(path)
        try:
            self._view = SafetensorsView(self.path, METADATA_KEY)
        except NotSafetensorsError as error:
            raise self._corrupt(f"{error}; expected a file that `lmfacts scan` or `lmfacts weights` wrote") from None
        except FileNotFoundError:
            raise FileNotFoundError(
                f"There is no run file {path}. Check the path, or record one with `lmfacts scan`."
            ) from None
        except (OSError, ValueError) as error:
            raise RunFileError(f"Cannot read {path}: {getattr(error, 'strerror', None) or error}.") from error
        self.metadata = self._checked_metadata()
        self._entries: dict[str, dict[str, Any]] = {entry["name"]: entry for entry in self.metadata["sites"]}
        self._check_arrays()

    def __repr__(self) -> str:
        return f"RunFile({str(self.path)!r}, {len(self)} sites)"

    def __getitem__(self, name: str) -> SiteState:
        """Read the state of one site.

        Raises:
            KeyError: the run has no such site (aliases are not looked up here).
            RunFileCorruptError: its arrays contradict each other.
        """
        entry = self._entries[name]
        statistics = recorded_in(entry)
        names = [f"{population}/{array}" for population in POPULATIONS for array, _ in stored_arrays(statistics)]
        arrays = {array: self._view.array(f"{name}/{array}") for array in names}
        try:
            return SiteState.from_arrays(
                arrays,
                dtype=entry["dtype"],
                n_dims=entry["n_dims"],
                k=entry["k"],
                threshold=float(entry["threshold"]),
                statistics=statistics,
                n_tokens=entry["n_tokens"],
            )
        except UsageError as error:
            raise self._corrupt(f"the arrays of {name} contradict each other ({error})") from error

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def extra_arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays that are no part of a site's state.

        Raises:
            RunFileCorruptError: those of a weight contradict each other.
        """
        own = {name for entry in self._entries.values() for name, _, _ in _expected_arrays(entry)}
        arrays = {name: self._view.array(name) for name in sorted(self._view.stored.keys() - own)}
        for weight in RunInfo(self.metadata).weights:
            problem = weight_arrays_problem(weight, arrays)
            if problem is not None:
                raise self._corrupt(f"the arrays of {weight.name} contradict each other ({problem})")
        return arrays

    def _checked_metadata(self) -> dict[str, Any]:
        try:
            metadata = parse_metadata(self._view.metadata[METADATA_KEY])
        except ValueError as error:
            raise self._corrupt(f"its metadata is not valid JSON ({error})") from error
        schema = metadata.get("schema") if isinstance(metadata, dict) else None
        if isinstance(schema, int) and schema > SCHEMA_VERSION:
            raise RunFileVersionError(
                f"{self.path} has schema version {schema} (written by lmfacts {metadata.get('lmfacts', 'unknown')}); "
                f"this version reads up to {SCHEMA_VERSION}. Update lmfacts."
            )
        if isinstance(schema, int) and schema < 1:
            raise self._corrupt(f"schema version {schema} does not exist")
        problem = metadata_problem(metadata)
        if problem is not None:
            raise self._corrupt(f"its metadata is not valid: {problem}")
        checked: dict[str, Any] = metadata
        return checked

    def _check_arrays(self) -> None:
        """Compare what the header says about each array with what the metadata says about its site."""
        for entry in self._entries.values():
            for name, dtype, shape in _expected_arrays(entry):
                stored = self._view.stored.get(name)
                if stored is None:
                    raise self._corrupt(f"the array {name} is missing")
                if stored.dtype != dtype or not fits(stored.shape, shape):
                    found = f"{stored.dtype} {list(stored.shape)}"
                    raise self._corrupt(f"the array {name} is {found}, expected {dtype} {describe_shape(shape)}")

    def _corrupt(self, reason: str) -> RunFileCorruptError:
        return RunFileCorruptError(f"{self.path} is not a readable run file: {reason}.")


def _expected_arrays(entry: Mapping[str, Any]) -> Iterator[tuple[str, np.dtype[Any], tuple[int, ...]]]:
    """Name, dtype and shape of each array of a site."""
    site, arrays = entry["name"], _arrays_at(entry["n_dims"], recorded_in(entry))
    for population in POPULATIONS:
        for name, dtype, shape in arrays:
            yield f"{site}/{population}/{name}", dtype, shape


@cache
def _arrays_at(n_dims: int, statistics: frozenset[str]) -> list[tuple[str, np.dtype[Any], tuple[int, ...]]]:
    """Name, dtype and shape of each array of a population, at sites with so many dims."""
    return [(name, array.dtype, array.shape_at(n_dims)) for name, array in stored_arrays(statistics)]
