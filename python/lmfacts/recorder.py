"""The recorder: from the values that hooks report to accumulators, and from those to a run."""

from __future__ import annotations

import inspect
import os
import platform
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import torch

import lmfacts
from lmfacts import _native
from lmfacts.architectures import Architecture, Tap, describe, module_taps, norm_kind
from lmfacts.compiled_hooks import CompiledHooks
from lmfacts.cuda.passes import DevicePass, HostPass, Passes
from lmfacts.cuda.probe import prepare_for
from lmfacts.cuda.site_states import SiteStates, places_in
from lmfacts.cuda.streams import Order, Rooms, to_host
from lmfacts.errors import BufferImportError, HookError, UsageError
from lmfacts.fingerprint import TokenHash, model_fingerprint, tokenizer_fingerprint
from lmfacts.hooks import hooked
from lmfacts.run import Run
from lmfacts.site_record import SiteRecord
from lmfacts.site_state import SiteState
from lmfacts.sites import Site, SiteKind, detail_sites, is_module_pattern
from lmfacts.token_batch import TokenReader, Tokens
from lmfacts.token_context import TokenContexts
from lmfacts.torch_threads import share_torch_threads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from types import TracebackType

    from torch import nn

__all__ = ["Recorder", "attach"]

_HOST = "cpu"
"""The device type whose tensors are counted where they lie by the accumulators of the host."""

_ALONG_DEPTH = frozenset(
    {SiteKind.EMBED, SiteKind.RESID_PRE, SiteKind.RESID_MID, SiteKind.RESID_POST, SiteKind.FINAL_NORM_OUT}
)
"""The sites of the stream: for them, unit sums are kept, and what varies from sequence to sequence."""


def attach(
    model: nn.Module,
    sites: str | Sequence[str] | Callable[[str], bool] = "default",
    *,
    k: int = 64,
    threshold: float = 6.0,
    tokenizer: Any = None,
) -> Recorder:
    """Record what passes through a model's sites until the recorder is detached.

    Use it around your own forward passes:

        with lmfacts.attach(model) as recorder:
            for batch in loader:
                model(**batch)
        run = recorder.run()

    The model's outputs are the same bits as without it. `attention_mask` is found in each call, and padding is never
    counted.

    Args:
        model: a Hugging Face causal language model, or its base model.
        sites: a preset (`resid`, `default`, `all`), names, globs (`blocks.*.mlp_post`), module paths with a side
            (`model.layers.*.mlp.down_proj:in`), a list of those, or a function of a site's name.
        k: how many of the largest values to keep of each site, for the first tokens of sequences and for all others.
        threshold: magnitude at or above which values are counted in each dim.
        tokenizer: if given, the run has the text of the tokens that outliers sit on.

    Raises:
        ModelError: the model is none whose inside can be found; `SiteNotFoundError` for a name that matches nothing.
        UsageError: k or the threshold is negative.
    """
    recorder = Recorder(model, sites, k=k, threshold=threshold, tokenizer=tokenizer)
    recorder.attach()
    return recorder


@dataclass
class _Channel:
    """One tap, its accumulator and what is said of it in the run."""

    tap: Tap
    accumulator: _native.SiteAccumulator
    on_devices: SiteStates
    aliases: list[str] = field(default_factory=list)
    n_calls: int = 0
    n_tokens: int = 0
    n_copies: int = 0
    n_repeats: int = 0
    n_queued: int = 0
    last_tokens: HostPass | DevicePass | None = None
    by_path: bool = field(init=False)

    def __post_init__(self) -> None:
        """What hooks ask each time is found out once."""
        self.by_path = is_module_pattern(self.tap.site)

    def recorded(self) -> tuple[SiteState, dict[str, int]]:
        """The state, and how often and for how many tokens the hook fired. Waits for devices."""
        joined, on_devices = self.on_devices.join(self.accumulator)
        state = SiteState.from_native(joined.state())
        coverage = {
            "n_calls": self.n_calls + on_devices["n_calls"] - self.n_queued,
            "n_tokens": self.n_tokens + on_devices["n_tokens"],
            "n_copies": self.n_copies + self.on_devices.n_copies,
            "n_repeats": self.n_repeats,
        }
        return state, coverage


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
    ) -> None:
        """See `attach`, which also attaches it."""
        if k < 0:
            raise UsageError(f"k: expected a number of outliers of at least 0, got {k}")
        self.model = model
        self.architecture: Architecture = describe(model)
        self.model_s = 0.0
        self.lmfacts_s = 0.0
        self.sites = sites
        self.settings: dict[str, Any] = {"sites": _spelled(sites), "k": k, "threshold": threshold}
        root = model.get_submodule(self.architecture.root_path)
        self._parameters = tuple(inspect.signature(root.forward).parameters)
        parameter = next(model.parameters(), None)
        self._compiled = CompiledHooks(self, torch.device("cpu") if parameter is None else parameter.device)
        self._order = Order()
        rooms = Rooms()
        self._channels = {}
        for tap in _taps(model, self.architecture, sites):
            options = self._options(tap.site)
            states = SiteStates(self._order, rooms, options)
            self._channels[tap.site] = _Channel(tap, _native.SiteAccumulator(**options), states)
        for alias, owner in self.architecture.aliases.items():
            if owner in self._channels:
                self._channels[owner].aliases.append(alias)
        self._tokenizer = tokenizer
        self._reader = TokenReader()
        self._passes = Passes(self._order, self._reader, self._count, self._ended)
        self._n_counted = 0
        self._hash = TokenHash()
        self._contexts = None if tokenizer is None else TokenContexts(self._places_from)
        self._tokens: HostPass | DevicePass | None = None
        self._ended_pass: DevicePass | None = None
        self._depth = 0
        self._entered = 0.0
        self._own_s_before = 0.0
        self._hooks: ExitStack | None = None
        self._left_by: str | None = None

    def _options(self, site: str) -> dict[str, Any]:
        """What is kept of a site, as the accumulators take it."""
        along_depth = _is_along_depth(site)
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
                hooks.enter_context(hooked(self.model, self._taps(), self.architecture.root_path, self))
                self._hooks = hooks.pop_all()

    def detach(self) -> None:
        """Remove the hooks that `attach` registered; what was recorded stays."""
        if self._hooks is not None:
            self._hooks.close()
            self._hooks = None
            self._tokens = None
            self._depth = 0

    def __enter__(self) -> Self:
        self.attach()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left_by = None if kind is None else kind.__name__
        self.detach()

    def _taps(self) -> list[Tap]:
        return [channel.tap for channel in self._channels.values()]

    # What hooks report

    def model_called(self) -> None:
        """A forward pass of the outermost module starts."""
        if torch.compiler.is_compiling():
            self._compiled.event("called")
            return
        if self._depth == 0:
            self._entered = time.perf_counter()
            self._own_s_before = self.lmfacts_s
        self._depth += 1

    def model_returned(self) -> None:
        """It is over: no value that comes now belongs to its tokens."""
        if torch.compiler.is_compiling():
            self._compiled.event("returned")
            return
        self._depth = max(0, self._depth - 1)
        if self._depth == 0:
            tokens, self._tokens = self._tokens, None
            if tokens is not None:
                start = time.perf_counter()
                if isinstance(tokens, DevicePass) and not tokens.is_captured and self._contexts is not None:
                    tokens.places = self._places_arriving()
                self._passes.end(tokens)
                self.lmfacts_s += time.perf_counter() - start
            own = self.lmfacts_s - self._own_s_before
            self.model_s += max(0.0, time.perf_counter() - self._entered - own)

    def tokens_given(self, _root: nn.Module, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """The transformer starts with these arguments."""
        given = {**dict(zip(self._parameters, args, strict=False)), **kwargs}
        if torch.compiler.is_compiling():
            self._compiled.arguments(given)
            return
        self.arguments_given(given)

    def arguments_given(self, given: Mapping[str, Any]) -> None:
        """The transformer starts with these arguments, by their names."""
        start = time.perf_counter()
        self._tokens = self._passes.begin(given)
        self.lmfacts_s += time.perf_counter() - start

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

    def value(self, tap: Tap, tensor: torch.Tensor) -> None:
        """A site has this value for the tokens of the pass."""
        if torch.compiler.is_compiling():
            self._compiled.value(tap.site, tensor)
            return
        start = time.perf_counter()
        tokens = self._tokens
        channel = self._channels[tap.site]
        if tokens is None:
            if torch._C._current_graph_task_id() != -1:  # noqa: SLF001  torch's own checkpointing asks the same
                return  # a block computed anew for the backward pass was recorded when it was computed first
            raise HookError(
                f"site {tap.site!r}: module {tap.module_path!r} ran outside a forward pass of the model, so its "
                "tokens are not known; call the model itself, or detach the recorder first"
            )
        if tokens is channel.last_tokens and not channel.by_path:
            channel.n_repeats += 1  # GPT-2 looks up token types in the token embedding too, after the tokens
            return
        channel.last_tokens = tokens
        try:
            if tensor.device.type != _HOST:
                if channel.on_devices.update(tensor, tokens):
                    channel.n_calls += 1
                    channel.n_queued += 1  # the device counts them too, and those of replayed graphs
                    self.lmfacts_s += time.perf_counter() - start
                    return
                tensor = to_host(tensor)
                channel.n_copies += 1
            channel.accumulator.update(tensor, tokens.native)
        except BufferImportError as error:
            raise type(error)(f"site {tap.site!r} (module {tap.module_path!r}): {error}") from error
        channel.n_calls += 1
        channel.n_tokens += tokens.n_real
        self.lmfacts_s += time.perf_counter() - start

    def observe(self, site: str, tensor: torch.Tensor) -> None:
        """A site has this value, says an operator of a compiled graph."""
        self.value(self._channels[site].tap, tensor)

    # What was recorded

    @property
    def site_names(self) -> tuple[str, ...]:
        """The recorded sites in depth order, without aliases."""
        return tuple(self._channels)

    @property
    def n_tokens(self) -> int:
        """Real tokens seen so far. Those of passes on a device may lag behind, but are not 0 if there were any."""
        self._passes.read_arrived()
        if self._n_counted == 0:
            self._passes.wait()
        return self._n_counted + self._passes.n_replayed

    @property
    def n_sequences(self) -> int:
        """Sequences seen so far. Waits for passes on a device."""
        self._passes.wait()
        return self._reader.n_sequences

    @property
    def state_bytes(self) -> int:
        """Bytes that the accumulators hold; it does not grow with the number of tokens."""
        return sum(channel.accumulator.n_bytes + channel.on_devices.n_bytes for channel in self._channels.values())

    @property
    def silent_sites(self) -> tuple[str, ...]:
        """Sites whose hook has not fired."""
        return tuple(name for name, channel in self._channels.items() if channel.n_calls == 0)

    def site(self, name: str) -> SiteRecord:
        """The record of one site as it stands."""
        return SiteRecord(self._state(name), name=name)

    def _state(self, name: str) -> SiteState:
        return self._channels[name].recorded()[0]

    def run(self, *, incomplete_reason: str | None = None, metadata: Mapping[str, Any] | None = None) -> Run:
        """All that was recorded so far; recording may go on.

        Args:
            incomplete_reason: why this is not all that was asked for, if the caller knows; sites whose hook never fired
                make a run incomplete in any case.
            metadata: entries to add to the run's metadata (`lmfacts.run_schema`); dictionaries are joined to those
                here.
        """
        self._passes.wait()
        states: dict[str, SiteState] = {}
        coverage: dict[str, dict[str, int]] = {}
        for name, channel in self._channels.items():
            states[name], coverage[name] = channel.recorded()
        reason = incomplete_reason or self._why_incomplete(coverage)
        if reason is None and self._left_by is not None:
            reason = f"recording was ended by {self._left_by}"
        own: dict[str, Any] = {
            "kind": "activations",
            "model": self._model_metadata(),
            "tokenizer": {} if self._tokenizer is None else {"fingerprint": tokenizer_fingerprint(self._tokenizer)},
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
            "token_text": self._token_text(states),
            "token_context": self._token_context(),
            "machine": _machine(),
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
        n_replayed = self._passes.n_replayed
        if n_replayed == 0:
            return []
        return [f"{n_replayed} tokens came from replayed CUDA graphs: they are counted, but not in the text's hash"]

    def _why_incomplete(self, coverage: Mapping[str, Mapping[str, int]]) -> str | None:
        silent = self.silent_sites
        if not silent:
            short = [
                name
                for name, covered in coverage.items()
                if covered["n_tokens"] != self.n_tokens and not is_module_pattern(name)
            ]
            return f"a forward pass did not reach all sites: {short[0]} lacks tokens of it" if short else None
        if len(silent) == len(self._channels):
            return "no forward pass of the model was seen"
        shown = ", ".join(silent[:5]) + (f" and {len(silent) - 5} more" if len(silent) > 5 else "")  # noqa: PLR2004  names in a sentence
        return f"{len(silent)} of {len(self._channels)} hooks never fired: {shown}"

    def _model_metadata(self) -> dict[str, Any]:
        config = getattr(self.model, "config", None)
        parameter = next(self.model.parameters(), None)
        return {
            "id": getattr(config, "name_or_path", "") or type(self.model).__name__,
            "revision": getattr(config, "_commit_hash", None),
            "fingerprint": model_fingerprint(self.model),
            "architecture": type(self.model).__name__,
            "family": self.architecture.family,
            "n_layers": self.architecture.n_layers,
            "n_dims": self.architecture.n_dims,
            "norm_kind": norm_kind(self.model, self.architecture),
            "n_parameters": sum(p.numel() for p in self.model.parameters()),
            "dtype": "" if parameter is None else str(parameter.dtype).removeprefix("torch."),
            "device": "" if parameter is None else str(parameter.device),
        }

    def _token_text(self, states: Mapping[str, SiteState]) -> dict[str, str]:
        if self._tokenizer is None:
            return {}
        ids = {
            int(i)
            for state in states.values()
            for part in (state.first, state.rest)
            for index in (part.outlier_index, part.maxima_index)
            for i in index[:, 3]
        }
        return {str(i): _text(self._tokenizer, i) for i in sorted(ids) if i >= 0}

    def _places_from(self, sequence: int) -> Iterator[tuple[int, int]]:
        """Where the largest values of the residual stream stand, from a sequence on."""
        for name, channel in self._channels.items():
            if _is_along_depth(name):
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
            if _is_along_depth(name)
        }

    def _token_context(self) -> dict[str, dict[str, str]]:
        if self._contexts is None:
            return {}
        return {
            f"{sequence}:{position}": {
                "before": _decoded(self._tokenizer, before),
                "token": _text(self._tokenizer, token_id),
                "after": _decoded(self._tokenizer, after),
            }
            for (sequence, position), (before, token_id, after) in self._contexts.contexts().items()
            if token_id >= 0
        }


def _is_along_depth(site: str) -> bool:
    return not is_module_pattern(site) and Site.parse(site).kind in _ALONG_DEPTH


def _decoded(tokenizer: Any, ids: list[int]) -> str:
    return str(tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False))


def _text(tokenizer: Any, token_id: int) -> str:
    """What a token stands for; one that is part of a character is given as the tokenizer spells it."""
    text = str(tokenizer.decode([token_id], skip_special_tokens=False, clean_up_tokenization_spaces=False))
    return str(tokenizer.convert_ids_to_tokens(token_id)) if "\ufffd" in text or not text else text


def _taps(
    model: nn.Module, architecture: Architecture, sites: str | Sequence[str] | Callable[[str], bool]
) -> list[Tap]:
    """One tap for each tensor that the patterns ask for, in depth order, then module paths in the model's."""
    if callable(sites):
        names, paths = architecture.select(sites), []
    else:
        listed = [part.strip() for part in sites.split(",")] if isinstance(sites, str) else list(sites)
        paths = [pattern for pattern in listed if is_module_pattern(pattern)]
        patterns = [pattern for pattern in listed if not is_module_pattern(pattern)]
        names = architecture.select(patterns) if patterns or not paths else []
    wanted = {architecture.owner(name) for name in names}
    taps = [tap for tap in architecture.taps if tap.site in wanted]
    by_path = {tap.site: tap for pattern in paths for tap in module_taps(model, pattern)}
    return [*taps, *by_path.values()]


def _spelled(sites: str | Sequence[str] | Callable[[str], bool]) -> str:
    if callable(sites):
        return "a function"
    return sites if isinstance(sites, str) else ",".join(sites)


def _machine() -> dict[str, Any]:
    import transformers  # noqa: PLC0415  loaded already by whoever made the model

    build = _native.build_info()
    return {
        "system": platform.platform(),
        "processor": platform.machine(),
        "n_cpus": os.cpu_count(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "lmfacts": lmfacts.__version__,
        "simd": build["simd"],
        "n_threads": build["n_threads"],
        "cuda": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }
