"""A run: everything that one scan recorded, as a mapping from names to records."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, cast
from weakref import WeakValueDictionary

from lmfacts.errors import SiteNotFoundError
from lmfacts.run.file import RunFile, write_run_file
from lmfacts.run.info import RunInfo
from lmfacts.run.record import Record
from lmfacts.run.schema import complete_metadata
from lmfacts.sites import is_module_pattern, select
from lmfacts.writing import numbers
from lmfacts.writing.visible_text import visible

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from numpy.typing import NDArray

    # A type checker's, since Python before 3.13 has no defaults of type variables.
    from typing_extensions import TypeVar

    from lmfacts.facts import Fact
    from lmfacts.run.entries import SiteInfo, WeightInfo
    from lmfacts.run.info import CorpusInfo, CoverageInfo, ModelInfo, SettingsInfo, TimingInfo, TokenizerInfo
    from lmfacts.run.site import SiteRecord
    from lmfacts.run.state import SiteState

    R = TypeVar("R", bound=Record, default=SiteRecord)
else:
    from typing import TypeVar

    R = TypeVar("R", bound=Record)

__all__ = ["Run", "load"]


def load(path: str | os.PathLike[str]) -> Run[Any]:
    """Read a run file, whole; what happens to the file after that does not matter to the run.

    Raises:
        FileNotFoundError: there is no such file.
        RunFileVersionError: a newer lmfacts wrote it.
        RunFileCorruptError: it is truncated, damaged or not a run file.
        RunFileError: the system does not let it be read.
    """
    file = RunFile(path)
    return Run._opened(file)  # noqa: SLF001  the constructor completes metadata; a file's is complete


class Run(Mapping[str, R], Generic[R]):
    """What one scan recorded: `run["blocks.3.resid_post"]` is a `SiteRecord`, and in a run of weights a `WeightRecord`.

    Iterating gives the names of the sites in order of depth. An alias finds the site that owns the tensor.

    Attributes:
        metadata: the JSON document of the run file; `info` has it typed.
        path: the file it was loaded from, or None.
    """

    def __init__(
        self,
        metadata: Mapping[str, Any],
        sites: Mapping[str, SiteState],
        extra_arrays: Mapping[str, NDArray[Any]] | None = None,
    ) -> None:
        """A run from recorded states.

        Args:
            metadata: `kind`, `model`, `sites` (in order of depth, each with a `name`), and what else is known; the rest
                is filled in.
            sites: site name -> state.
            extra_arrays: further arrays to keep in the file under names of their own.

        Raises:
            UsageError: the metadata is not valid, or lists other sites than `sites`.
        """
        self._set(complete_metadata(metadata, sites), sites, extra_arrays)
        self.path: Path | None = None

    @classmethod
    def _opened(cls, file: RunFile) -> Run[Any]:
        run = cls.__new__(cls)
        run._set(file.metadata, file, None)  # noqa: SLF001  its own class
        run.path = file.path
        return run

    def _set(
        self,
        metadata: dict[str, Any],
        sites: Mapping[str, SiteState],
        extra_arrays: Mapping[str, NDArray[Any]] | None,
    ) -> None:
        self.metadata = metadata
        self._states = sites
        self._extra_arrays = extra_arrays
        self._entries: dict[str, SiteInfo] = {entry.name: entry for entry in self.info.entries}
        self._owners = {alias: name for name, entry in self._entries.items() for alias in entry.aliases}
        # A record computes on demand and remembers; it goes when its user lets go of it, so that a walk over all sites
        # does not end up holding all of them.
        self._records: WeakValueDictionary[str, R] = WeakValueDictionary()

    def __getstate__(self) -> dict[str, Any]:
        """All but the records that somebody uses, for `pickle` and `copy`."""
        return {key: value for key, value in vars(self).items() if key != "_records"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._records = WeakValueDictionary()

    # The mapping

    def __getitem__(self, name: str) -> R:
        """The record of a site or a weight, by its name or an alias.

        Raises:
            SiteNotFoundError: the run has no such site; the message has the closest names, or why the model lacks it.
        """
        owner = self._owners.get(name, name)
        if owner not in self._entries:
            raise SiteNotFoundError(self._not_found(name))
        record = self._records.get(owner)
        if record is None:
            # Kinds say which class it is, where a type checker cannot follow.
            record = cast(
                "R", self.info.run_kind.record(self._states[owner], self._entries[owner], lambda: self.extra_arrays)
            )
            self._records[owner] = record
        return record

    def __iter__(self) -> Iterator[str]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, name: object) -> bool:
        return name in self._entries or name in self._owners

    __eq__ = object.__eq__
    __hash__ = object.__hash__

    def __repr__(self) -> str:
        state = "complete" if self.complete else f"incomplete ({self.incomplete_reason or 'no reason given'})"
        names = list(self)
        shown = names if len(names) <= 4 else [*names[:2], "...", names[-1]]  # noqa: PLR2004  as many as fit a line
        kind = self.info.run_kind
        read = (
            f"{numbers.counted(self.n_tokens, 'token')} in {numbers.counted(self.n_sequences, 'sequence')}, "
            if kind.reads_text
            else ""
        )
        what = numbers.counted(len(self), kind.noun)
        model = self.model.id or "an unnamed model"
        return visible(f"Run of {model} ({self.kind}): {what}, {read}{state}\n  {', '.join(shown)}")

    def _ipython_key_completions_(self) -> list[str]:
        return [*self._entries, *self._owners]

    def resolve(self, name: str) -> str:
        """The name under which a site is stored, given its name or an alias.

        Raises:
            SiteNotFoundError: the run has no such site.
        """
        if name not in self:
            raise SiteNotFoundError(self._not_found(name))
        return self._owners.get(name, name)

    def select(self, patterns: str | Sequence[str]) -> list[str]:
        """The recorded sites that presets, globs, names and aliases stand for, in order of depth.

        Weights are chosen by names, aliases, names of parameters (which may hold several weights), and globs of those.

        Raises:
            SiteNotFoundError: a pattern matches nothing here.
        """
        selected: set[str] = set()
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            if pattern in self:
                names = [pattern]
            elif weights := self.info.weights:
                names = [weight.name for weight in weights if _is_called(weight, pattern)]
            elif is_module_pattern(pattern):
                names = [name for name in self if fnmatchcase(name, pattern)]
            else:
                known = [name for name in (*self._entries, *self._owners) if not is_module_pattern(name)]
                names = select(pattern, known, self.absent)
            if not names:
                raise SiteNotFoundError(self._not_found(pattern))
            selected.update(map(self.resolve, names))
        return [name for name in self if name in selected]

    def layers_of(self, kind: str) -> dict[int, str]:
        """Layer -> stored name of each site `blocks.LAYER.KIND` of the run, aliases included, by layer."""
        pattern = re.compile(rf"blocks\.(\d+)\.{re.escape(kind)}")
        by_layer = {
            int(m[1]): self.resolve(name) for name in [*self._entries, *self._owners] if (m := pattern.fullmatch(name))
        }
        return dict(sorted(by_layer.items()))

    # What was recorded

    @property
    def info(self) -> RunInfo:
        """The metadata, typed."""
        return RunInfo(self.metadata)

    @property
    def kind(self) -> str:
        """`activations`, `weights` or `gradients`; `info.run_kind` says what follows from it."""
        return self.info.kind

    @property
    def model(self) -> ModelInfo:
        """Id, revision, fingerprint, architecture and sizes of the model."""
        return self.info.model

    @property
    def tokenizer(self) -> TokenizerInfo:
        """What identifies the tokenizer."""
        return self.info.tokenizer

    @property
    def corpus(self) -> CorpusInfo:
        """What text was read."""
        return self.info.corpus

    @property
    def settings(self) -> SettingsInfo:
        """The settings of the scan."""
        return self.info.settings

    @property
    def coverage(self) -> dict[str, CoverageInfo]:
        """Site name -> how often its hook fired, how many tokens it saw, how many tensors had to be copied."""
        return self.info.coverage

    @property
    def absent(self) -> dict[str, str]:
        """Site name -> why the model does not have it."""
        return self.info.absent

    @property
    def machine(self) -> dict[str, Any]:
        """What the scan ran on."""
        return self.info.machine

    @property
    def timing(self) -> TimingInfo:
        """Seconds in all, in the model and in lmfacts."""
        return self.info.timing

    @property
    def n_tokens(self) -> int:
        """Number of tokens read, padding not counted."""
        return self.info.n_tokens

    @property
    def n_sequences(self) -> int:
        """Number of sequences read."""
        return self.info.n_sequences

    @property
    def complete(self) -> bool:
        """Whether everything that was asked for was recorded."""
        return self.info.complete

    @property
    def incomplete_reason(self) -> str | None:
        """Why the run is not complete, or None."""
        return self.info.incomplete_reason

    @property
    def tokens(self) -> dict[int, str]:
        """Token id -> text, for the tokens that outliers sit on."""
        return {int(token_id): text for token_id, text in self.info.token_text.items()}

    @property
    def extra_arrays(self) -> Mapping[str, NDArray[Any]]:
        """The arrays that are no part of a site's state, by name."""
        if self._extra_arrays is None:
            self._extra_arrays = self._states.extra_arrays() if isinstance(self._states, RunFile) else {}
        return self._extra_arrays

    def facts(self, *others: Run[Any], only: Sequence[str] | None = None) -> list[Fact]:
        """Check the catalogue of facts on this run.

            lmfacts.load("gpt2.lmfacts").facts(lmfacts.load("gpt2-weights.lmfacts"))

        Args:
            others: runs of other kinds of the same model, so that more facts can be checked.
            only: ids of the facts to check (`["F2", "F8"]`); all by default.

        Returns:
            The facts in the catalogue's order; NOT-APPLICABLE where a run that is needed is not given.

        Raises:
            UsageError: two runs of one kind, or an id that the catalogue lacks.
            MismatchedRunsError: runs of different models.
        """
        from lmfacts.facts import check  # noqa: PLC0415  brings every fact, and most runs are asked for none

        return check(self, *others, only=only)

    def save(self, path: str | os.PathLike[str]) -> Path:
        """Write the run to a file, atomically: under that name there is the old file or the whole new one.

        The file that the run was loaded from may be replaced: the run holds all of it.

        Returns:
            The path.

        Raises:
            DestinationError: the path is neither a new name nor a regular file, or its folder cannot be written to.
            RunFileError: writing failed.
        """
        write_run_file(path, self.metadata, self._states, self.extra_arrays)
        return Path(path)

    def _not_found(self, name: str) -> str:
        """Why there is no such site, as a message."""
        if name in self.absent:
            return f"The model has no {name}: {self.absent[name].rstrip('.')}."
        close = difflib.get_close_matches(name, [*self._entries, *self._owners], n=5)
        hint = f" The closest names: {', '.join(close)}." if close else ""
        return f"This run has no site {name!r}.{hint} It has {len(self)} sites; `list(run)` names them."


def _is_called(weight: WeightInfo, pattern: str) -> bool:
    """Whether a weight's name, alias or parameter matches a glob."""
    return any(fnmatchcase(name, pattern) for name in (weight.name, *weight.aliases, weight.parameter))
