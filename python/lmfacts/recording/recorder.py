"""`attach`, and the recorder that it gives: from a model and a list of sites to a run."""

from __future__ import annotations

import os
import weakref
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import torch

from lmfacts.errors import UsageError
from lmfacts.models import Architecture, Tap, architecture_for, token_modules
from lmfacts.models.fingerprint import tokenizer_fingerprint
from lmfacts.recording.channels import open_channels
from lmfacts.recording.compiled_hooks import TracedSink
from lmfacts.recording.completeness import why_incomplete
from lmfacts.recording.cuda.probe import prepare_for
from lmfacts.recording.cuda.streams import Order
from lmfacts.recording.hooks import hooked
from lmfacts.recording.pass_recorder import PassRecorder
from lmfacts.recording.pass_tokens import ArgumentReader, EndOfText
from lmfacts.recording.run_description import describe_contexts, describe_machine, describe_model, describe_tokens
from lmfacts.recording.torch_threads import share_torch_threads
from lmfacts.run import Run
from lmfacts.run.site import SiteRecord
from lmfacts.run.statistics.value_blocks import block_sizes
from lmfacts.sites import spelled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import TracebackType

    from torch import nn

    from lmfacts.run.state import SiteState

__all__ = ["OnError", "Recorder", "attach"]

OnError = Literal["incomplete", "raise"]
"""What becomes of an error in a hook: the run is incomplete and says why, or the forward pass raises it."""


def attach(
    model: nn.Module,
    sites: str | Sequence[str] | Callable[[str], bool] = "default",
    *,
    k: int = 64,
    threshold: float = 6.0,
    tokenizer: Any = None,
    blocks_of: Sequence[int] = (),
    on_error: OnError = "incomplete",
    ids_argument: str | None = None,
) -> Recorder:
    """Record what passes through a model's sites until the recorder is detached.

    Use it around your own forward passes:

        with lmfacts.attach(model) as recorder:
            for batch in loader:
                model(**batch)
        run = recorder.run()

    The model's outputs are the same bits as without it. `attention_mask` is found in each call, and padding is never
    counted; `lmfacts.recording.pass_tokens` has the rules. Calls may come from several threads at once.

    Args:
        model: a Hugging Face causal language model, or its base model; any module if `sites` has module paths only.
        sites: a preset (`resid`, `default`, `all`), names, globs (`blocks.*.mlp_post`), module paths with a side
            (`model.layers.*.mlp.down_proj:in`), a list of those, or a function of a site's name.
        k: how many of the largest values to keep of each site, for the first tokens of sequences and for all others.
        threshold: magnitude at or above which values are counted in each dim.
        tokenizer: if given, the run has the text of the tokens that outliers sit on.
        blocks_of: sizes of blocks of values, 16 or 32 or both: at the inputs of matrices, how often each pair of a
            value and the largest of its block occurs, from which the error of MXFP4 (32) and NVFP4 (16) follows.
        on_error: what happens when something cannot be recorded (a module returned no tensor, a mask that says
            nothing). `incomplete`: nothing is raised in the forward pass; the site, or the pass, is left out, and the
            run is incomplete and says which, why and since which token. `raise`: the forward pass raises it.
        ids_argument: the name of the argument with the token ids in the model's forward, if it is an unusual one.

    Raises:
        ModelError: the inside of this model cannot be found; `SiteNotFoundError` for a name that matches nothing.
        UsageError: k or the threshold is negative, `on_error` has another value, or there are no blocks of such a size.
    """
    recorder = Recorder(
        model,
        sites,
        k=k,
        threshold=threshold,
        tokenizer=tokenizer,
        blocks_of=blocks_of,
        on_error=on_error,
        ids_argument=ids_argument,
    )
    recorder.attach()
    return recorder


class Recorder:
    """Records a model's sites while it is attached, and makes a run of what it has recorded.

    Attributes:
        model: the model.
        architecture: where its sites are.
        sites: what is recorded, as `attach` was given it.
        settings: what the run file says of how it was recorded; a caller may add to it.
    """

    def __init__(
        self,
        model: nn.Module,
        sites: str | Sequence[str] | Callable[[str], bool],
        *,
        k: int,
        threshold: float,
        tokenizer: Any = None,
        blocks_of: Sequence[int] = (),
        on_error: OnError = "incomplete",
        ids_argument: str | None = None,
    ) -> None:
        """See `attach`, which also attaches it."""
        if k < 0:
            raise UsageError(f"k: expected a number of outliers of at least 0, got {k}")
        if on_error not in get_args(OnError):
            raise UsageError(f"on_error: expected one of {', '.join(get_args(OnError))}, got {on_error!r}")
        self.model = model
        self.architecture: Architecture = architecture_for(model, sites)
        self.sites = sites
        self.settings: dict[str, Any] = {"sites": spelled(sites), "k": k, "threshold": threshold}
        sizes = block_sizes(blocks_of)
        if sizes:
            self.settings["blocks_of"] = sizes
        self._tokenizer = tokenizer
        self._token_modules = token_modules(model, self.architecture)
        order = Order()
        self._channels = open_channels(
            model, self.architecture, sites, order, k=k, threshold=threshold, blocks_of=sizes
        )
        reader = ArgumentReader(model, self._token_modules, ids_argument)
        self._recorded = PassRecorder(
            self._channels,
            reader,
            self._token_modules.encoder,
            order,
            EndOfText.of(model, tokenizer),
            keeps_contexts=tokenizer is not None,
            raises=on_error == "raise",
        )
        parameter = next(model.parameters(), None)
        device = torch.device("cpu") if parameter is None else parameter.device
        self._sink = TracedSink(self._recorded, reader, device)
        self._hooks: ExitStack | None = None
        self._left_by: str | None = None
        self._is_forked = False

    # Attaching

    def attach(self) -> None:
        """Register the hooks; without effect while attached."""
        if self._hooks is None:
            share_torch_threads()
            prepare_for(self.model)
            with ExitStack() as hooks:
                hooks.enter_context(hooked(self.model, self.taps, self._token_modules.paths, self._sink))
                self._hooks = hooks.pop_all()
            _ATTACHED.add(self)

    def detach(self) -> None:
        """Remove the hooks that `attach` registered; what was recorded stays."""
        if self._hooks is not None:
            self._hooks.close()
            self._hooks = None
            self._recorded.drop_calls()
            _ATTACHED.discard(self)

    def __enter__(self) -> Self:
        self.attach()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left_by = None if kind is None else kind.__name__
        self.detach()

    def _after_fork(self) -> None:
        """This is a copy in a process that was forked while recording: its model goes on without being recorded."""
        self._is_forked = True
        self._recorded.forked()
        self.detach()

    # What was recorded

    @property
    def taps(self) -> list[Tap]:
        """Where the recorded values are found."""
        return self._channels.taps

    @property
    def site_names(self) -> tuple[str, ...]:
        """The recorded sites in depth order, without aliases."""
        return tuple(self._channels.by_site)

    @property
    def silent_sites(self) -> tuple[str, ...]:
        """Sites whose hook has not fired."""
        return self._channels.silent

    @property
    def n_tokens(self) -> int:
        """Real tokens seen so far. Those of passes on a device may lag behind, but are not 0 if there were any."""
        return self._recorded.n_tokens

    @property
    def n_sequences(self) -> int:
        """Sequences seen so far. Waits for passes on a device."""
        self._recorded.wait()
        return self._recorded.n_sequences

    @property
    def state_bytes(self) -> int:
        """Bytes that the accumulators hold; it does not grow with the number of tokens."""
        return self._channels.n_bytes

    @property
    def model_s(self) -> float:
        """Seconds spent in the model's own forward passes."""
        return self._recorded.model_s

    @property
    def lmfacts_s(self) -> float:
        """Seconds spent in lmfacts within them."""
        return self._recorded.lmfacts_s

    def site(self, name: str) -> SiteRecord:
        """The record of one site as it stands."""
        state, _ = self._channels.by_site[name].recorded()
        return SiteRecord(state, name=name)

    def run(self, *, incomplete_reason: str | None = None, metadata: Mapping[str, Any] | None = None) -> Run:
        """All that was recorded so far; recording may go on.

        Args:
            incomplete_reason: why this is not all that was asked for, if the caller knows; sites whose hook never fired
                make a run incomplete in any case.
            metadata: entries to add to the run's metadata (`lmfacts.run.schema`); dictionaries are joined to those
                here.
        """
        recorded, tokenizer = self._recorded, self._tokenizer
        recorded.wait()
        states: dict[str, SiteState] = {}
        coverage: dict[str, dict[str, int]] = {}
        for name, channel in self._channels.by_site.items():
            states[name], coverage[name] = channel.recorded()
        reason = incomplete_reason or self._why_incomplete(coverage)
        own: dict[str, Any] = {
            "kind": "activations",
            "model": describe_model(self.model, self.architecture),
            "tokenizer": {} if tokenizer is None else {"fingerprint": tokenizer_fingerprint(tokenizer)},
            "n_sequences": self.n_sequences,
            "n_tokens": self.n_tokens,
            "token_hash": recorded.text.hexdigest(),
            "settings": self.settings,
            "sites": self._channels.describe(),
            "absent": dict(self.architecture.absent),
            "notes": [*self.architecture.notes, *self._channels.notes(), *recorded.passes.notes()],
            "coverage": coverage,
            "token_text": describe_tokens(tokenizer, states.values()),
            "token_context": describe_contexts(tokenizer, recorded.contexts()),
            "machine": describe_machine(),
            "timing": {"wall_s": self.model_s + self.lmfacts_s, "model_s": self.model_s, "lmfacts_s": self.lmfacts_s},
            "state_bytes": self.state_bytes,
            "complete": reason is None,
            "incomplete_reason": reason,
        }
        for key, value in (metadata or {}).items():
            own[key] = {**own[key], **value} if isinstance(own.get(key), dict) and isinstance(value, dict) else value
        return Run(own, states)

    def _why_incomplete(self, coverage: Mapping[str, Mapping[str, int]]) -> str | None:
        failed = self._recorded.failures.sentence()
        if failed is not None:
            return failed
        if self._is_forked:
            return "the process was forked while recording; what the new process computes is not recorded"
        if self._left_by is not None:
            return f"recording was ended by {self._left_by}"
        return why_incomplete(self._channels, coverage, self.n_tokens)


_ATTACHED: weakref.WeakSet[Recorder] = weakref.WeakSet()


def _after_fork() -> None:
    for recorder in list(_ATTACHED):
        recorder._after_fork()  # noqa: SLF001  the only caller


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
