"""The recorder: from the values that hooks report to accumulators, and from those to a run."""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import torch

from lmfacts import _native
from lmfacts.errors import HookError, UsageError
from lmfacts.models import Architecture, Tap, architecture_for, token_modules
from lmfacts.models.fingerprint import TokenHash, tokenizer_fingerprint
from lmfacts.recording.channel import Axes, Channel
from lmfacts.recording.chosen_taps import chosen_taps, is_along_depth
from lmfacts.recording.compiled_hooks import CompiledHooks
from lmfacts.recording.cuda.passes import DevicePass, HostPass, Passes
from lmfacts.recording.cuda.probe import prepare_for
from lmfacts.recording.cuda.site_states import SiteStates, places_in
from lmfacts.recording.cuda.streams import Order, Rooms
from lmfacts.recording.failures import Failures
from lmfacts.recording.forward_calls import ForwardCall, ForwardCalls, is_in_backward
from lmfacts.recording.hooks import hooked
from lmfacts.recording.pass_tokens import Arguments, EndOfText, Tokens, named_arguments, parameter_names
from lmfacts.recording.pass_tokens.caches import find_cache
from lmfacts.recording.run_description import describe_contexts, describe_machine, describe_model, describe_tokens
from lmfacts.recording.token_context import TokenContexts
from lmfacts.recording.torch_threads import share_torch_threads
from lmfacts.run import Run
from lmfacts.run.site import SiteRecord
from lmfacts.sites import Site, SiteKind, detail_sites, spelled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import FrameType, TracebackType

    from torch import nn

    from lmfacts.run.state import SiteState

__all__ = ["OnError", "Recorder", "attach"]

OnError = Literal["incomplete", "raise"]
"""What becomes of an error in a hook: the run is incomplete and says why, or the forward pass raises it."""

_EMBED = str(Site(SiteKind.EMBED))


def attach(
    model: nn.Module,
    sites: str | Sequence[str] | Callable[[str], bool] = "default",
    *,
    k: int = 64,
    threshold: float = 6.0,
    tokenizer: Any = None,
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
        on_error: what happens when something cannot be recorded (a module returned no tensor, a mask that says
            nothing). `incomplete`: nothing is raised in the forward pass; the site, or the pass, is left out, and the
            run is incomplete and says which, why and since which token. `raise`: the forward pass raises it.
        ids_argument: the name of the argument with the token ids in the model's forward, if it is an unusual one.

    Raises:
        ModelError: the model is none whose inside can be found; `SiteNotFoundError` for a name that matches nothing.
        UsageError: k or the threshold is negative, or `on_error` has another value.
    """
    recorder = Recorder(
        model, sites, k=k, threshold=threshold, tokenizer=tokenizer, on_error=on_error, ids_argument=ids_argument
    )
    recorder.attach()
    return recorder


class Recorder:
    """Accumulators for a model's sites, fed by hooks while attached.

    Attributes:
        model: the model.
        architecture: what its inside is called.
        sites: what was asked to be recorded, as it was given.
        settings: how, for the run file; a caller may add to it.
        model_s: seconds spent in the model's own forward passes.
        lmfacts_s: seconds spent in lmfacts within them.
    """

    def __init__(
        self,
        model: nn.Module,
        sites: str | Sequence[str] | Callable[[str], bool],
        *,
        k: int,
        threshold: float,
        tokenizer: Any = None,
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
        self.model_s = 0.0
        self.lmfacts_s = 0.0
        self.sites = sites
        self.settings: dict[str, Any] = {"sites": spelled(sites), "k": k, "threshold": threshold}
        self._raises = on_error == "raise"
        self._ids_argument = ids_argument
        self._token_modules = token_modules(model, self.architecture)
        self._parameters = {path: parameter_names(model.get_submodule(path)) for path in self._token_modules.paths}
        parameter = next(model.parameters(), None)
        self._compiled = CompiledHooks(self, torch.device("cpu") if parameter is None else parameter.device)
        self._order = Order()
        self._channels = self._channels_for(sites)
        self._tokenizer = tokenizer
        end = EndOfText.of(model, tokenizer)
        self._passes = Passes(self._order, end, self._count, self._ended)
        self._encoder_passes = Passes(self._order, end, self._count, self._ended)
        self._n_counted = 0
        self._hash = TokenHash()
        self._contexts = None if tokenizer is None else TokenContexts(self._places_from)
        self._ended_pass: DevicePass | None = None
        self._calls = ForwardCalls()
        self._lock = threading.RLock()
        self._failures = Failures()
        self._hooks: ExitStack | None = None
        self._left_by: str | None = None
        self._is_forked = False

    def _channels_for(self, sites: str | Sequence[str] | Callable[[str], bool]) -> dict[str, Channel]:
        channels, rooms, axes = {}, Rooms(), Axes()
        for tap in chosen_taps(self.model, self.architecture, sites):
            options = self._options(tap.site)
            states = SiteStates(self._order, rooms, options)
            channels[tap.site] = Channel(tap, _native.SiteAccumulator(**options), states, axes)
        for alias, owner in self.architecture.aliases.items():
            if owner in channels:
                channels[owner].aliases.append(alias)
        return channels

    def _options(self, site: str) -> dict[str, Any]:
        """What is kept of a site, as the accumulators take it."""
        along_depth = is_along_depth(site)
        return {
            "k": self.settings["k"],
            "threshold": float(self.settings["threshold"]),
            "unit_sums": along_depth,
            "blocks": along_depth,
            "detail": site in detail_sites(self.architecture.n_layers),
        }

    # Attaching

    def attach(self) -> None:
        """Register the hooks; without effect while attached."""
        if self._hooks is None:
            share_torch_threads()
            prepare_for(self.model)
            with ExitStack() as hooks:
                hooks.enter_context(hooked(self.model, self.taps, self._token_modules.paths, self))
                self._hooks = hooks.pop_all()
            _ATTACHED.add(self)

    def detach(self) -> None:
        """Remove the hooks that `attach` registered; what was recorded stays."""
        if self._hooks is not None:
            self._hooks.close()
            self._hooks = None
            self._calls = ForwardCalls()
            _ATTACHED.discard(self)

    def forked(self) -> None:
        """This is a copy in a process that was forked while recording: it goes on without being recorded."""
        self._is_forked = True
        self._lock = threading.RLock()  # another thread may have held it
        self.detach()

    def __enter__(self) -> Self:
        self.attach()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left_by = None if kind is None else kind.__name__
        self.detach()

    # What hooks report

    def module_called(self, path: str) -> None:
        """A module that may be given tokens starts; the outermost one starts a forward pass."""
        if torch.compiler.is_compiling():
            self._compiled.event("called", path)
            return
        self.call_started(path, sys._getframe(2))  # noqa: SLF001  torch's, which calls the hook and then the module

    def call_started(self, path: str, frame: FrameType | None) -> None:
        """The same, in a frame that runs until the module is over, or None in a compiled graph."""
        for abandoned in self._calls.abandoned():
            self._over(abandoned, None)
        self._calls.started(path, frame, is_encoder=path == self._token_modules.encoder)
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]  # torch's own
            self._skip(self._calls.innermost, HookError("torch.jit traced the model; call the traced model's original"))

    def module_given(self, path: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """The same module starts, with these arguments."""
        if torch.compiler.is_compiling():
            self._compiled.arguments(self._arguments(path, args, kwargs))
            return
        try:
            arguments = self._arguments(path, args, kwargs)
        except Exception as error:  # noqa: BLE001  nothing of ours raises in somebody's forward pass
            self._skip(self._calls.innermost, error)
            return
        self.arguments_given(arguments)

    def _arguments(self, path: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Arguments:
        given = named_arguments(self._parameters[path], args, kwargs)
        ids_name = self._ids_argument if path == self._token_modules.paths[0] else None
        return Arguments.of(given, ids_name, is_around_encoder=self._token_modules.is_around_encoder(path))

    def arguments_given(self, arguments: Arguments) -> None:
        """A module that may be given tokens starts with these arguments."""
        call = self._calls.innermost
        if call is None or call.is_skipped:
            return
        try:
            refined = call.arguments.refined(arguments)
            if call.begun is not None and not refined.is_nothing and refined.shape != call.begun.shape:
                raise HookError(  # noqa: TRY301  one place for what goes wrong with a call's tokens
                    f"the model was given tokens of shape {list(call.begun.shape)}, and a module inside it reads "
                    f"{list(refined.shape)}: which token each of them is, is not known"
                )
            call.arguments = refined.with_cached()
        except Exception as error:  # noqa: BLE001  nothing of ours raises in somebody's forward pass
            self._skip(call, error)

    def module_returned(self, path: str, output: Any) -> None:
        """It is over. After the outermost one, no value that comes belongs to its tokens."""
        if torch.compiler.is_compiling():
            self._compiled.event("returned", path)
            return
        call = self._calls.returned(path)
        if call is not None:
            self._over(call, output)

    def _over(self, call: ForwardCall, output: Any) -> None:
        """A call is over; without an output if it raised."""
        try:
            self._finish(call, output)
        except Exception as error:  # noqa: BLE001  nothing of ours raises in somebody's forward pass
            self._skip(call, error)
        is_broken_off = output is None and call.frame is not None and len(call.recorded) < len(self._channels)
        elapsed = time.perf_counter() - call.entered
        around = self._calls.innermost
        if around is not None:
            around.not_its_own_s += elapsed
        with self._lock:
            self._failures.n_broken_off += is_broken_off and call.begun is not None and not call.is_skipped
            self.model_s += max(0.0, elapsed - call.not_its_own_s - call.own_s)
            self.lmfacts_s += call.own_s

    def _finish(self, call: ForwardCall, output: Any) -> None:
        start = time.perf_counter()
        if call.begun is None and not (call.is_skipped or call.has_recursed or call.arguments.is_nothing):
            self._begin(call)  # no site was reached, or none is recorded: the tokens count all the same
        begun = call.begun
        if begun is not None:
            with self._lock:
                passes = self._passes_of(call)
                if call.arguments.cache is None and output is not None:
                    passes.remember(find_cache(output), begun)
                if isinstance(begun, DevicePass) and not begun.is_captured and self._contexts is not None:
                    begun.places = self._places_arriving()
                passes.end(begun)
        call.own_s += time.perf_counter() - start

    def _passes_of(self, call: ForwardCall) -> Passes:
        return self._encoder_passes if call.path == self._token_modules.encoder else self._passes

    def _begin(self, call: ForwardCall) -> HostPass | DevicePass | None:
        """The pass of a call, now that its tokens are needed; None if they cannot be told."""
        try:
            with self._lock:
                call.n_before = self._n_counted
                call.begun = self._passes_of(call).begin(call.arguments)
        except Exception as error:  # noqa: BLE001  nothing of ours raises in somebody's forward pass
            self._skip(call, error)
            return None
        embeddings = call.arguments.embeddings
        if call.arguments.ids is None and embeddings is not None and _EMBED in self._channels:
            # They stand for what the token embedding would have given.
            self._record(self._channels[_EMBED], embeddings, call)
        return call.begun

    def _skip(self, call: ForwardCall | None, error: Exception) -> None:
        """Record nothing more of a call, and say so in the run."""
        if call is not None:
            call.is_skipped = True
        with self._lock:
            self._failures.forward_pass(error, self._n_counted)
        if self._raises:
            raise error

    def _count(self, tokens: Tokens) -> None:
        """The host knows the tokens of a pass."""
        self._n_counted += tokens.n_real
        self._hash.update(ids[real] for ids, real in zip(tokens.token_id, tokens.real, strict=True))

    def _ended(self, tokens: Tokens, on_device: DevicePass | None) -> None:
        """A pass is over, and the host knows its tokens; outliers stood where `on_device` says, if it does."""
        if self._contexts is not None:
            self._ended_pass = on_device
            self._contexts.after_pass(tokens)
            self._ended_pass = None

    def tapped(self, tap: Tap, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> None:
        """A tapped module was called with these arguments, or gave back this output."""
        if torch.compiler.is_compiling():
            self._compiled.value(tap.site, tap.cut(tap.tensor(args, kwargs, output)))
            return
        channel = self._channels[tap.site]
        if tap.site in self._failures.sites:
            return
        try:
            tensor = tap.cut(tap.tensor(args, kwargs, output))
        except Exception as error:  # noqa: BLE001  nothing of ours raises in somebody's forward pass
            call = self._calls.innermost
            self._fail(channel, error, self._n_counted if call is None or call.begun is None else call.n_before)
            return
        self._value(channel, tensor)

    def observe(self, site: str, tensor: torch.Tensor) -> None:
        """A site has this value, says an operator of a compiled graph."""
        if site not in self._failures.sites:
            self._value(self._channels[site], tensor)

    def _value(self, channel: Channel, tensor: torch.Tensor) -> None:
        """A site has this value, which belongs to the innermost call of this thread."""
        call = self._calls.innermost
        if call is None:
            self._outside(channel)
        elif not call.is_skipped and (call.begun is not None or self._begin(call) is not None):
            self._record(channel, tensor, call)

    def _record(self, channel: Channel, tensor: torch.Tensor, call: ForwardCall) -> None:
        """Count a site's values of a pass."""
        start = time.perf_counter()
        site, begun = channel.tap.site, call.begun
        assert begun is not None
        if site in call.recorded and not channel.by_path:
            channel.n_repeats += 1  # GPT-2 looks up token types in the token embedding too, after the tokens
            return
        call.recorded.add(site)
        try:
            channel.update(tensor, begun, self._lock, call.arguments.kept)
        except Exception as error:  # noqa: BLE001  nothing of ours raises in somebody's forward pass
            self._fail(channel, error, call.n_before)
        call.own_s += time.perf_counter() - start

    def _fail(self, channel: Channel, error: Exception, n_before: int) -> None:
        """Record a site no more, and say so in the run: it has the values of so many tokens."""
        tap = channel.tap
        with self._lock:
            self._failures.site(tap.site, error, n_before)
        if self._raises:
            said = f"site {tap.site!r} (module {tap.module_path!r}): {error}"
            raise (type(error)(said) if isinstance(error, BufferError) else error) from error

    def _outside(self, channel: Channel) -> None:
        """A module ran by itself."""
        if is_in_backward():
            return  # a block computed anew for the backward pass was recorded when it was computed first
        if channel.tap.site == _EMBED:
            return  # somebody embeds tokens to give the model embeddings, which are recorded when it gets them
        error = HookError(
            f"site {channel.tap.site!r}: module {channel.tap.module_path!r} ran outside a forward pass of the model, "
            "so its tokens are not known; call the model itself, or detach the recorder first"
        )
        with self._lock:
            self._failures.outside_pass(channel.tap.site, error, self._n_counted)
        if self._raises:
            raise error

    # What was recorded

    @property
    def taps(self) -> list[Tap]:
        """Where the recorded values are found."""
        return [channel.tap for channel in self._channels.values()]

    @property
    def site_names(self) -> tuple[str, ...]:
        """The recorded sites in depth order, without aliases."""
        return tuple(self._channels)

    @property
    def n_tokens(self) -> int:
        """Real tokens seen so far. Those of passes on a device may lag behind, but are not 0 if there were any."""
        with self._lock:
            self._passes.read_arrived()
            if self._n_counted == 0:
                self._passes.wait()
            return self._n_counted + self._passes.n_replayed

    @property
    def n_sequences(self) -> int:
        """Sequences seen so far. Waits for passes on a device."""
        self._wait()
        return self._passes.n_sequences or self._encoder_passes.n_sequences

    @property
    def state_bytes(self) -> int:
        """Bytes that the accumulators hold; it does not grow with the number of tokens."""
        return sum(channel.n_bytes for channel in self._channels.values())

    @property
    def silent_sites(self) -> tuple[str, ...]:
        """Sites whose hook has not fired."""
        return tuple(name for name, channel in self._channels.items() if channel.n_calls == 0)

    def site(self, name: str) -> SiteRecord:
        """The record of one site as it stands."""
        return SiteRecord(self._state(name), name=name)

    def _state(self, name: str) -> SiteState:
        return self._channels[name].recorded()[0]

    def _wait(self) -> None:
        """Wait for what devices still have to tell."""
        with self._lock:
            self._passes.wait()
            self._encoder_passes.wait()

    def run(self, *, incomplete_reason: str | None = None, metadata: Mapping[str, Any] | None = None) -> Run:
        """All that was recorded so far; recording may go on.

        Args:
            incomplete_reason: why this is not all that was asked for, if the caller knows; sites whose hook never fired
                make a run incomplete in any case.
            metadata: entries to add to the run's metadata (`lmfacts.run.schema`); dictionaries are joined to those
                here.
        """
        self._wait()
        states: dict[str, SiteState] = {}
        coverage: dict[str, dict[str, int]] = {}
        for name, channel in self._channels.items():
            states[name], coverage[name] = channel.recorded()
        reason = incomplete_reason or self._why_incomplete(coverage)
        tokenizer = self._tokenizer
        own: dict[str, Any] = {
            "kind": "activations",
            "model": describe_model(self.model, self.architecture),
            "tokenizer": {} if tokenizer is None else {"fingerprint": tokenizer_fingerprint(tokenizer)},
            "n_sequences": self.n_sequences,
            "n_tokens": self.n_tokens,
            "token_hash": self._hash.hexdigest(),
            "settings": self.settings,
            "sites": [
                {
                    "name": name,
                    "aliases": channel.aliases,
                    "module_path": f"{channel.tap.module_path}:{channel.tap.side}",
                }
                for name, channel in self._channels.items()
            ],
            "absent": dict(self.architecture.absent),
            "notes": [*self.architecture.notes, *self._notes()],
            "coverage": coverage,
            "token_text": describe_tokens(tokenizer, states.values()),
            "token_context": describe_contexts(tokenizer, self._contexts),
            "machine": describe_machine(),
            "timing": {"wall_s": self.model_s + self.lmfacts_s, "model_s": self.model_s, "lmfacts_s": self.lmfacts_s},
            "state_bytes": self.state_bytes,
            "complete": reason is None,
            "incomplete_reason": reason,
        }
        for key, value in (metadata or {}).items():
            own[key] = {**own[key], **value} if isinstance(own.get(key), dict) and isinstance(value, dict) else value
        return Run(own, states)

    def _notes(self) -> list[str]:
        """What a reader of the run should know of how it was recorded."""
        notes = [note for channel in self._channels.values() if (note := channel.note()) is not None]
        if self._passes.n_odd_masks:
            notes.append(
                f"The masks of {self._passes.n_odd_masks} forward passes had values other than whole numbers; what is "
                "not 0 counts as a real token."
            )
        n_replayed = self._passes.n_replayed
        if n_replayed:
            notes.append(
                f"{n_replayed} tokens came from replayed CUDA graphs: they are counted, but not in the text's hash"
            )
        return notes

    def _why_incomplete(self, coverage: Mapping[str, Mapping[str, int]]) -> str | None:
        failed = self._failures.sentence()
        if failed is not None:
            return failed
        if self._is_forked:
            return "the process was forked while recording; what the new process computes is not recorded"
        if self._left_by is not None:
            return f"recording was ended by {self._left_by}"
        silent = self.silent_sites
        if len(silent) == len(self._channels):
            if self.n_tokens == 0:
                return "no forward pass of the model was seen"
            return (
                f"the model was called, but none of its {len(silent)} hooks fired; a model that was compiled before "
                "they were registered runs without them"
            )
        if silent:
            shown = ", ".join(silent[:5]) + (f" and {len(silent) - 5} more" if len(silent) > 5 else "")  # noqa: PLR2004  names in a sentence
            return f"{len(silent)} of {len(self._channels)} hooks never fired: {shown}"
        if self.n_tokens == 0:
            return "no token was recorded: all that the model was given is padding"
        n_tokens = self.n_tokens
        short = [
            name
            for name, channel in self._channels.items()
            if not channel.by_path and coverage[name]["n_tokens"] + channel.n_not_computed != n_tokens
        ]
        return f"a forward pass did not reach all sites: {short[0]} lacks tokens of it" if short else None

    def _places_from(self, sequence: int) -> Iterator[tuple[int, int]]:
        """Where the largest values of the residual stream stand, from a sequence on."""
        for name, channel in self._channels.items():
            if is_along_depth(name):
                yield from channel.accumulator.outlier_places_from(sequence)
                if self._ended_pass is not None:
                    yield from places_in(self._ended_pass.places[name], sequence)
                else:
                    yield from channel.on_devices.places_from(sequence)

    def _places_arriving(self) -> dict[str, list[tuple[_native.DeviceSite, torch.Tensor]]]:
        """Where the largest values of the residual stream stand on devices after the pass that ends now."""
        return {
            name: channel.on_devices.places_arriving()
            for name, channel in self._channels.items()
            if is_along_depth(name)
        }


_ATTACHED: weakref.WeakSet[Recorder] = weakref.WeakSet()


def _after_fork() -> None:
    for recorder in list(_ATTACHED):
        recorder.forked()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
