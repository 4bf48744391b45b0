"""The run file: one safetensors file whose header carries one JSON document.

The document (`lmfacts.run.schema` lists its keys) is a string under the metadata key `lmfacts`; where the arrays stand,
`lmfacts.run.layouts` says, and what each holds, `lmfacts.run.statistics`. Arrays under other names are kept when a run
is read and written again. The arrays of a site are looked at when it is asked for, not when a file is opened; what the
header says is checked at once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakValueDictionary

from lmfacts.errors import RunFileCorruptError, RunFileError, RunFileVersionError, StateError, UsageError
from lmfacts.files.atomic import replacing
from lmfacts.files.safetensors_view import NotSafetensorsError, SafetensorsView
from lmfacts.run.info import RunInfo
from lmfacts.run.layouts import LAYOUTS, LayoutError, tensors_of
from lmfacts.run.schema import SCHEMA_VERSION, metadata_problem, parse_metadata, to_json
from lmfacts.run.state import SiteState
from lmfacts.run.statistics import recorded_in
from lmfacts.run.weight_arrays import weight_arrays_problem

if TYPE_CHECKING:
    import os

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
        document = to_json({**metadata, "schema": SCHEMA_VERSION})
        try:
            save_file(tensors_of(states, extra_arrays), temporary, metadata={METADATA_KEY: document})
        except (SafetensorError, StateError) as error:
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
        # A state goes when its user lets go of it: a walk over all sites is not to end up holding all of them.
        self._states: WeakValueDictionary[str, SiteState] = WeakValueDictionary()
        try:
            self._layout = LAYOUTS[self.metadata["schema"]](self._view, self._entries)
        except LayoutError as error:
            raise self._corrupt(str(error)) from None

    def __getstate__(self) -> dict[str, Any]:
        """All but the states that somebody uses, for `pickle` and `copy`."""
        return {key: value for key, value in vars(self).items() if key != "_states"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._states = WeakValueDictionary()

    def __repr__(self) -> str:
        return f"RunFile({str(self.path)!r}, {len(self)} sites)"

    def __getitem__(self, name: str) -> SiteState:
        """Read the state of one site.

        Raises:
            KeyError: the run has no such site (aliases are not looked up here).
            RunFileCorruptError: its arrays contradict each other.
        """
        state = self._states.get(name)
        if state is None:
            self._states[name] = state = self._read(name)
        return state

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def extra_arrays(self) -> dict[str, NDArray[Any]]:
        """The arrays that are no part of a site's state.

        Raises:
            RunFileCorruptError: those of a weight contradict each other.
        """
        try:
            arrays = self._layout.further()
        except LayoutError as error:
            raise self._corrupt(str(error)) from None
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

    def _read(self, name: str) -> SiteState:
        entry = self._entries[name]
        try:
            return SiteState.from_arrays(
                self._layout.of_site(name),
                dtype=entry["dtype"],
                n_dims=entry["n_dims"],
                k=entry["k"],
                threshold=float(entry["threshold"]),
                statistics=recorded_in(entry),
                n_tokens=entry["n_tokens"],
            )
        except LayoutError as error:
            raise self._corrupt(str(error)) from None
        except UsageError as error:
            raise self._corrupt(f"the arrays of {name} contradict each other ({error})") from error

    def _corrupt(self, reason: str) -> RunFileCorruptError:
        return RunFileCorruptError(f"{self.path} is not a readable run file: {reason}.")
