"""What hooks report, put together: which call a value belongs to, which tokens that call is about, and who counts it.

Hooks run inside somebody else's forward pass. So nothing of ours raises there unless the user asked for it: what goes
wrong with a site, or with all of a pass, is kept in `Failures`, and the run says so.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import torch

from lmfacts.errors import HookError
from lmfacts.recording.counted_text import CountedText
from lmfacts.recording.cuda.passes import DevicePass, HostPass, Passes
from lmfacts.recording.failures import Failures
from lmfacts.recording.forward_calls import ForwardCall, ForwardCalls, frame_that_called_the_hook, is_in_backward
from lmfacts.recording.pass_tokens.caches import find_cache
from lmfacts.recording.token_context import TokenContexts
from lmfacts.sites import Site, SiteKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from types import FrameType

    from lmfacts.models import Tap
    from lmfacts.recording.channel import Channel
    from lmfacts.recording.channels import Channels
    from lmfacts.recording.cuda.streams import Order
    from lmfacts.recording.pass_tokens import ArgumentReader, Arguments, EndOfText
    from lmfacts.recording.token_context import Context, Place

__all__ = ["PassRecorder"]

_EMBED = str(Site(SiteKind.EMBED))


class PassRecorder:
    """The sink of a recorder's hooks, and the observer of its operators in compiled graphs.

    Calls may come from several threads at once.

    Attributes:
        text: the tokens that the host has seen.
        passes: the passes over the model's own tokens.
        failures: what could not be recorded.
        model_s: seconds spent in the model's own forward passes.
        lmfacts_s: seconds spent in lmfacts within them.
    """

    def __init__(
        self,
        channels: Channels,
        reader: ArgumentReader,
        encoder: str | None,
        order: Order,
        end_of_text: EndOfText,
        *,
        keeps_contexts: bool,
        raises: bool,
    ) -> None:
        """See the arguments.

        Args:
            channels: the recorded sites.
            reader: finds what says something about tokens among a call's arguments.
            encoder: the path of a module whose tokens are another text than the model's own, if there is one.
            order: that of all that is queued on devices.
            end_of_text: how padding after the end of a generated text is known.
            keeps_contexts: whether to keep the tokens around the largest values.
            raises: whether what goes wrong is raised in the forward pass.
        """
        self._channels = channels
        self._by_site = channels.by_site
        self._reader = reader
        self._encoder = encoder
        self._raises = raises
        self.text = CountedText()
        self.passes = Passes(order, end_of_text, self.text)
        self._encoder_passes = Passes(order, end_of_text, self.text)
        self._contexts = TokenContexts() if keeps_contexts else None
        self.failures = Failures()
        self.model_s = 0.0
        self.lmfacts_s = 0.0
        self._calls = ForwardCalls()
        self._lock = threading.RLock()

    # A call of the model: it starts, is given its arguments, and is over

    def module_called(self, path: str) -> None:
        """A module that may be given tokens starts; the outermost one starts a forward pass."""
        self.call_started(path, frame_that_called_the_hook())

    def call_started(self, path: str, frame: FrameType | None) -> None:
        """The same, in a frame that runs until the module is over, or None in a compiled graph."""
        for abandoned in self._calls.abandoned():
            self._over(abandoned, None)
        self._calls.started(path, frame, is_encoder=path == self._encoder)
        if torch.jit.is_tracing():  # type: ignore[attr-defined, no-untyped-call]  # torch's own
            self._skip(self._calls.innermost, HookError("torch.jit traced the model; call the traced model's original"))

    def module_given(self, path: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """The same module starts, with these arguments."""
        try:
            arguments = self._reader.read(path, args, kwargs)
        except Exception as error:  # noqa: BLE001  nothing of ours raises in somebody's forward pass
            self._skip(self._calls.innermost, error)
            return
        self.arguments_given(arguments)

    def arguments_given(self, arguments: Arguments) -> None:
        """The module that started last has these arguments."""
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
        """A module that may be given tokens is over; with the outermost one the forward pass is."""
        call = self._calls.returned(path)
        if call is not None:
            self._over(call, output)

    def _over(self, call: ForwardCall, output: Any) -> None:
        """A call is over; without an output if it raised."""
        start = time.perf_counter()
        try:
            self._finish(call, output)
        except Exception as error:  # noqa: BLE001  nothing of ours raises in somebody's forward pass
            self._skip(call, error)
        now = time.perf_counter()
        call.lmfacts_s += now - start
        elapsed = now - call.entered
        around = self._calls.innermost
        if around is not None:
            around.inner_s += elapsed
        # In a compiled graph there is no output to see, and no frame.
        is_broken_off = output is None and call.frame is not None and len(call.recorded) < len(self._by_site)
        with self._lock:
            self.failures.n_broken_off += is_broken_off and call.begun is not None and not call.is_skipped
            self.model_s += max(0.0, elapsed - call.inner_s - call.lmfacts_s)
            self.lmfacts_s += call.lmfacts_s

    def _finish(self, call: ForwardCall, output: Any) -> None:
        """End the pass of a call, and keep the contexts of all passes that are finished now."""
        if call.begun is None and not (call.is_skipped or call.has_recursed or call.arguments.is_nothing):
            self._begin(call)  # no site was reached, or none is recorded: the tokens count all the same
        begun = call.begun
        if begun is None:
            return
        with self._lock:
            passes = self._passes_of(call)
            if call.arguments.cache is None and output is not None:
                passes.remember(find_cache(output), begun)
            if isinstance(begun, DevicePass) and not begun.is_captured and self._contexts is not None:
                begun.outlier_places = self._channels.outlier_places_arriving()
            self._keep_contexts(passes.end(begun))

    def _keep_contexts(self, finished: Iterable[HostPass | DevicePass]) -> None:
        """Keep the text around the largest values that stand in these passes."""
        contexts = self._contexts
        if contexts is None:
            return
        for each in finished:
            tokens = each.known()
            # By the time a device's pass is read, later ones may be under way there: it has copies of its own.
            on_devices = each.outlier_places if isinstance(each, DevicePass) else None
            if tokens.first_sequence is not None:
                contexts.add(tokens, self._channels.outlier_places(tokens.first_sequence, on_devices))
            if contexts.are_many:
                contexts.keep_only(self._channels.outlier_places(0, on_devices))

    def _passes_of(self, call: ForwardCall) -> Passes:
        return self._encoder_passes if call.path == self._encoder else self.passes

    def _begin(self, call: ForwardCall) -> HostPass | DevicePass | None:
        """The pass of a call, now that its tokens are needed; None if they cannot be told."""
        try:
            with self._lock:
                call.n_before = self.text.n_tokens
                call.begun = self._passes_of(call).begin(call.arguments)
        except Exception as error:  # noqa: BLE001  nothing of ours raises in somebody's forward pass
            self._skip(call, error)
            return None
        embeddings = call.arguments.embeddings
        if call.arguments.ids is None and embeddings is not None and _EMBED in self._by_site:
            # They stand for what the token embedding would have given.
            self._count(self._by_site[_EMBED], embeddings, call)
        return call.begun

    # A value

    def tapped(self, tap: Tap, args: Sequence[Any], kwargs: Mapping[str, Any], output: Any) -> None:
        """A tapped module was called with these arguments, or gave back this output."""
        site = tap.site
        if site in self.failures.sites:
            return
        channel, call = self._by_site[site], self._calls.innermost
        try:
            tensor = tap.cut(tap.tensor(args, kwargs, output))
        except Exception as error:  # noqa: BLE001  nothing of ours raises in somebody's forward pass
            self._fail(channel, error, self.text.n_tokens if call is None or call.begun is None else call.n_before)
            return
        self._count(channel, tensor, call)

    def observe(self, site: str, tensor: torch.Tensor) -> None:
        """A site has this value, says an operator of a compiled graph."""
        if site not in self.failures.sites:
            self._count(self._by_site[site], tensor, self._calls.innermost)

    def _count(self, channel: Channel, tensor: torch.Tensor, call: ForwardCall | None) -> None:
        """Count the values of a site, which belong to this call."""
        if call is None:
            self._outside(channel)
            return
        begun = call.begun
        if call.is_skipped or (begun is None and (begun := self._begin(call)) is None):
            return
        start = time.perf_counter()
        site = channel.tap.site
        if site in call.recorded and not channel.by_path:
            channel.n_repeats += 1  # GPT-2 looks up token types in the token embedding too, after the tokens
            return
        call.recorded.add(site)
        try:
            channel.update(tensor, begun, self._lock, call.arguments.kept)
        except Exception as error:  # noqa: BLE001  nothing of ours raises in somebody's forward pass
            self._fail(channel, error, call.n_before)
        call.lmfacts_s += time.perf_counter() - start

    # What goes wrong

    def _skip(self, call: ForwardCall | None, error: Exception) -> None:
        """Stop recording a call, and have the run say so."""
        if call is not None:
            call.is_skipped = True
        with self._lock:
            self.failures.forward_pass(error, self.text.n_tokens)
        if self._raises:
            raise error

    def _fail(self, channel: Channel, error: Exception, n_before: int) -> None:
        """Stop recording a site, and have the run say so: it has the values of `n_before` tokens."""
        tap = channel.tap
        with self._lock:
            self.failures.site(tap.site, error, n_before)
        if self._raises:
            message = f"site {tap.site!r} (module {tap.module_path!r}): {error}"
            raise (type(error)(message) if isinstance(error, BufferError) else error) from error

    def _outside(self, channel: Channel) -> None:
        """A tapped module ran outside the model: which tokens its values belong to is not known."""
        if is_in_backward():
            return  # a block computed anew for the backward pass was recorded when it was computed first
        tap = channel.tap
        if tap.site == _EMBED:
            return  # somebody embeds tokens to give the model embeddings, which are recorded when it gets them
        error = HookError(
            f"site {tap.site!r}: module {tap.module_path!r} ran outside a forward pass of the model, "
            "so its tokens are not known; call the model itself, or detach the recorder first"
        )
        with self._lock:
            self.failures.outside_pass(tap.site, error, self.text.n_tokens)
        if self._raises:
            raise error

    def drop_calls(self) -> None:
        """The hooks are gone: nothing more will be heard of the calls that are under way."""
        self._calls = ForwardCalls()

    def forked(self) -> None:
        """This is a copy in a forked process, in which only the thread that forked exists."""
        self._lock = threading.RLock()  # another thread may have held it

    # What was seen

    @property
    def n_tokens(self) -> int:
        """Real tokens seen so far. Those of passes on a device may lag behind, but are not 0 if there were any."""
        with self._lock:
            self.passes.read_arrived()
            if self.text.n_tokens == 0:
                self._keep_contexts(self.passes.wait())
            return self.text.n_tokens + self.passes.n_replayed

    @property
    def n_sequences(self) -> int:
        """Sequences seen so far; those of the encoder if the model has read none itself."""
        return self.passes.n_sequences or self._encoder_passes.n_sequences

    def wait(self) -> None:
        """Wait for what devices still have to tell."""
        with self._lock:
            self._keep_contexts(self.passes.wait())
            self._keep_contexts(self._encoder_passes.wait())

    def contexts(self) -> dict[Place, Context]:
        """The tokens around the values of the residual stream that are the largest now."""
        if self._contexts is None:
            return {}
        self._contexts.keep_only(self._channels.outlier_places(0))
        return self._contexts.by_place()
