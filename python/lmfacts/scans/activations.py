"""Activations: run a model over a corpus and record its sites."""

from __future__ import annotations

import math
import operator
import os
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lmfacts.errors import CorpusError, LmfactsError, UnsavedRunError, UsageError
from lmfacts.files.destination import check_destination, model_inputs
from lmfacts.models.loading import Loaded, load_model, max_positions, tokenizer_of
from lmfacts.recording.recorder import Recorder
from lmfacts.run.statistics.value_blocks import block_sizes
from lmfacts.scans.interruption import Interruption, interruptible
from lmfacts.scans.memory import resident_bytes
from lmfacts.scans.model_call import ModelCall
from lmfacts.scans.processor import emulation_note
from lmfacts.scans.progress import Progress
from lmfacts.scans.saving import save_measured
from lmfacts.text.corpus import Corpus
from lmfacts.text.sequences import Sequences

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from lmfacts.run import Run

__all__ = ["INTERRUPTED", "scan"]

INTERRUPTED = "interrupted"
"""The `incomplete_reason` of a run that was stopped by Ctrl-C, SIGTERM or SIGHUP."""

_DEFAULT_SEQ_LEN = 512


def scan(
    model: str | os.PathLike[str] | nn.Module,
    corpus: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    *,
    sites: str | Sequence[str] | Callable[[str], bool] = "default",
    out: str | os.PathLike[str] | None = None,
    max_tokens: int | None = None,
    max_seconds: float | None = None,
    seq_len: int | None = None,
    batch_size: int = 8,
    pack: bool = True,
    tokenizer: Any = None,
    revision: str | None = None,
    dtype: str = "auto",
    device: str = "auto",
    k: int = 64,
    threshold: float = 6.0,
    blocks_of: Sequence[int] = (),
    text_field: str = "text",
    progress: Callable[[Progress], None] | None = None,
) -> Run:
    """Stream text through a model once and record what its sites hold.

    Memory does not grow with the length of the text. On Ctrl-C, SIGTERM or SIGHUP the batch is finished and what was
    recorded is saved and returned as an incomplete run (`run.incomplete_reason == "interrupted"`); a second one drops
    the batch. Saving is finished whatever comes, unless two more come while it lasts.

    What was recorded is kept in any case. Whatever ends a scan early, an error of `progress` included, is raised after
    what there is was saved to `out`, and the exception has it as `run`.

    Args:
        model: a hub id, a folder, a `.gguf` file, `demo`, or a model.
        corpus: files (`.txt`, `.jsonl`, `.json`), folders of them, `-` for standard input; the embedded text if None.
        sites: see `lmfacts.attach`.
        out: where to write the run file, atomically: a new name or a regular file, and nothing that is read.
        max_tokens: stop after so many tokens; all of the corpus if None.
        max_seconds: read no more text once so many seconds have passed since the first batch began. The run is complete
            for what was read.
        seq_len: most tokens in a sequence; by default 512, or what the model has positions for if that is less.
        batch_size: sequences in a forward pass. It does not change what is recorded but for the model's own rounding.
        pack: join documents and cut them to `seq_len`; otherwise one document is one sequence.
        tokenizer: for a model that was given as a module; found beside its checkpoint if None.
        revision: branch, tag or commit on the hub.
        dtype: `auto` (as stored), `float32`, `bfloat16`, `float16` or `float64`.
        device: `auto`, `cpu`, `cuda`, ...
        k: how many of the largest values to keep of each site and population.
        threshold: magnitude at or above which values are counted in each dim.
        blocks_of: see `lmfacts.attach`.
        text_field: the key of the text in the objects of `.jsonl` and `.json` files.
        progress: called after every batch.

    Raises:
        FileNotFoundError: no such corpus, or no such model.
        CorpusError: the corpus is empty or not text.
        ModelError: not a model that can be read; `SiteNotFoundError` for a site that it does not have.
        UsageError: an invalid value, such as a sequence longer than the model's positions.
        DestinationError: the run file cannot be written there; found before anything is loaded.
        UnsavedRunError: it could be when the scan began, and cannot be now; the error has the run as `run`.
        KeyboardInterrupt: a stop was asked for before anything was recorded.
    """
    for name, value, least in (("batch_size", batch_size, 1), ("seq_len", seq_len, 2), ("k", k, 0)):
        _check_number(name, value, least, 1 << 31)
    _check_number("max_tokens", max_tokens, 1, 1 << 53)
    if not 0 <= threshold < math.inf:
        raise UsageError(f"threshold: expected a number of at least 0 that is not infinite, got {threshold}")
    blocks_of = block_sizes(blocks_of)
    if model == "":
        raise UsageError("model: expected a hub id, folder or file, got an empty name; is a variable not set?")
    if out is not None:
        check_destination(out, model_inputs(model))
    text = Corpus(corpus, text_field=text_field)
    if out is not None:
        check_destination(out, text.inputs)
    report = progress or (lambda _progress: None)

    if isinstance(model, nn.Module):
        loaded = Loaded(model, tokenizer or tokenizer_of(model), getattr(model.config, "name_or_path", "") or "", None)
    else:
        report(Progress("loading", os.fspath(model)))
        loaded = load_model(model, revision=revision, dtype=dtype, device=device)
    sequences = Sequences(
        text, loaded.tokenizer, _seq_len(loaded.model, seq_len), pack=bool(pack), max_tokens=max_tokens
    )
    recorder = Recorder(
        loaded.model,
        sites,
        k=k,
        threshold=threshold,
        tokenizer=loaded.tokenizer,
        blocks_of=blocks_of,
        on_error="raise",
    )
    recorder.settings.update(
        {"seq_len": sequences.seq_len, "batch_size": batch_size, "pack": bool(pack), "max_tokens": max_tokens}
    )
    if max_seconds is not None:
        recorder.settings["max_seconds"] = max_seconds
    note = emulation_note(loaded.model.dtype, loaded.model.device)
    if note is not None:
        report(Progress("loading", loaded.name, note=note))
    return _Scan(loaded, sequences, recorder, batch_size, report, None if out is None else Path(out), max_seconds).run()


def _check_number(name: str, value: int | None, least: int, limit: int) -> None:
    """Refuse what is not a whole number from `least` up to `limit`; None stands for a number that was not given."""
    if value is None:
        return
    try:
        number = operator.index(value)
    except TypeError:
        raise UsageError(f"{name}: expected a whole number, got {value!r}") from None
    if not least <= number < limit:
        raise UsageError(f"{name}: expected a number of at least {least} (and less than {limit}), got {value}")


def _seq_len(model: nn.Module, asked: int | None) -> int:
    limit = max_positions(model)
    if asked is None:
        return _DEFAULT_SEQ_LEN if limit is None else min(_DEFAULT_SEQ_LEN, limit)
    if limit is not None and asked > limit:
        raise UsageError(f"seq_len: expected at most {limit} tokens, for which the model has positions, got {asked}")
    return asked


@dataclass
class _Scan:
    """A scan whose model and text are there.

    Attributes:
        started: when the first batch began, in seconds of `time.perf_counter`.
        state_bytes: what the accumulators will hold.
        all_read: whether reading has come to its end, that of the corpus or of the time for it.
        call: how the model is called.
    """

    loaded: Loaded
    sequences: Sequences
    recorder: Recorder
    batch_size: int
    report: Callable[[Progress], None]
    out: Path | None
    max_seconds: float | None
    started: float = 0.0
    state_bytes: int = 0
    all_read: bool = False
    call: ModelCall = field(init=False)

    def __post_init__(self) -> None:
        self.call = ModelCall(self.loaded.model, [tap.module_path for tap in self.recorder.taps])

    def run(self) -> Run:
        was_training = self.loaded.model.training
        self.loaded.model.eval()
        try:
            self.state_bytes = self._measure_state()
            return self._record()
        finally:
            self.loaded.model.train(was_training)

    def _measure_state(self) -> int:
        """The size of the state, from one token through a recorder that is thrown away.

        Its run says what the real one will say, so that what a run file cannot hold is refused before the work.
        """
        trial = Recorder(
            self.loaded.model,
            self.recorder.sites,
            k=self.recorder.settings["k"],
            threshold=1.0,
            blocks_of=self.recorder.settings.get("blocks_of", ()),
            on_error="raise",
        )
        with trial:
            self.call(torch.zeros((1, 1), dtype=torch.long))
        trial.settings = self.recorder.settings
        trial.run(metadata=self._metadata())
        return trial.state_bytes

    def _record(self) -> Run:
        """Record the whole text, or as much as there is time for, and save the run."""
        self.started = time.perf_counter()
        self._report_progress(0)
        with interruptible() as interruption, self.recorder:
            try:
                self._read_all(interruption)
                self._report_saving()
            except BaseException as error:
                with interruption.saving():
                    # A closed terminal sends a signal, and is also an error to whoever writes to it.
                    asked = INTERRUPTED if interruption.requested else None
                    self._keep_with(error, asked or f"stopped by an error: {str(error) or type(error).__name__}")
                raise
            with interruption.saving():
                if self.recorder.n_tokens > 0:
                    return self._save(self._recorded(INTERRUPTED))
        if interruption.requested:
            raise KeyboardInterrupt
        skipped = "".join(f" ({note})" for note in self.sequences.notes())
        raise CorpusError(f"expected text with at least one token, got none in the whole corpus{skipped}")

    def _read_all(self, interruption: Interruption) -> None:
        """Run every batch through the model, until there is none or a stop is asked for."""
        batches = self.sequences.batches(self.batch_size)
        while not interruption.requested:
            try:
                with interruption.waiting():
                    batch = next(batches, None)
                if batch is None or self._is_late():
                    self.all_read = True
                    return
                with interruption.working():
                    self.call(torch.from_numpy(batch.input_ids), torch.from_numpy(batch.attention_mask))
            except KeyboardInterrupt:
                if not interruption.requested:  # not one of the signals: something else raised it
                    raise
                return
            self._report_progress(batch.n_bytes_read)

    def _is_late(self) -> bool:
        """Whether the time for reading is over; the first batch is read in any case."""
        return (
            self.max_seconds is not None
            and self.recorder.n_tokens > 0
            and time.perf_counter() - self.started > self.max_seconds
        )

    # The run

    def _recorded(self, reason: str) -> Run:
        """The run as it stands; unless all was read, it is incomplete for this reason."""
        timing = {"wall_s": time.perf_counter() - self.started}
        run = self.recorder.run(
            incomplete_reason=None if self.all_read else reason, metadata={**self._metadata(), "timing": timing}
        )
        run.metadata["notes"] += self.sequences.notes()
        return run

    def _metadata(self) -> dict[str, Any]:
        """What is known of model and text, for the run file."""
        model = {"revision": self.loaded.revision} | ({"id": self.loaded.name} if self.loaded.name else {})
        return {"model": model, "corpus": self.sequences.describe()}

    def _save(self, run: Run) -> Run:
        if self.out is not None:
            save_measured(run, self.out)
        return run

    def _keep_with(self, error: BaseException, reason: str) -> None:
        """Keep what was recorded before the error that ends the scan: in the file, and as `run` of the error."""
        if self.recorder.n_tokens == 0:
            return
        try:
            run = self._recorded(reason)
            error.run = run  # type: ignore[attr-defined]  # documented for errors of any class
            self._save(run)
        except UnsavedRunError as unsaved:
            error.add_note(str(unsaved))
        except LmfactsError as another:
            error.add_note(f"What was recorded until then could not be kept: {another}")
        else:
            where = f"in {self.out}" if self.out is not None else "the `run` of this error"
            error.add_note(f"What was recorded until then is {where}.")

    # Progress

    def _report_progress(self, n_bytes_read: int) -> None:
        limit, total = self.sequences.max_tokens, self.sequences.corpus.n_bytes
        shares = [self.recorder.n_tokens / limit] if limit else []
        shares += [n_bytes_read / total] if total else []
        self.report(
            Progress(
                "scanning",
                self.loaded.name,
                n_tokens=self.recorder.n_tokens,
                n_tokens_total=limit,
                fraction=min(1.0, max(shares)) if shares else None,
                elapsed_s=time.perf_counter() - self.started,
                model_s=self.recorder.model_s,
                lmfacts_s=self.recorder.lmfacts_s,
                memory_bytes=resident_bytes(),
                state_bytes=self.state_bytes,
                site_names=self.recorder.site_names,
                site=self.recorder.site,
            )
        )

    def _report_saving(self) -> None:
        elapsed = time.perf_counter() - self.started
        n_tokens = self.recorder.n_tokens
        self.report(Progress("saving", self.loaded.name, n_tokens=n_tokens, fraction=1.0, elapsed_s=elapsed))
