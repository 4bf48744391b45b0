"""What has to hold on a GPU, each as a function that raises if it does not.

`tests/gpu/` runs them under pytest, `benches/gpu/run.py` as part of its table.
"""

from __future__ import annotations

import functools
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import torch

import lmfacts
from lmfacts import _native
from lmfacts.recording.cuda import probe
from support.device_calls import ALL, on_device, on_host, tokenized
from support.device_comparison import assert_agrees
from support.device_data import DATA, DTYPES, LARGE_DATA, values
from support.recording import states
from support.tiny import batch, build

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from transformers import PreTrainedModel

__all__ = ["CHECKS", "no_gpu_reason"]

SITES = ["embed", "blocks.1.resid_post", "blocks.0.mlp_post", "blocks.0.z"]
_KEPT = ("n_tokens", "n_sequences", "coverage", "complete")


def no_gpu_reason() -> str | None:
    """Why nothing can be checked here, if so."""
    if not torch.cuda.is_available():
        return "no GPU that torch can use"
    return (
        None if probe.find_device(torch.device("cuda", 0)) else "the first GPU cannot run the kernels: see lmfacts info"
    )


def _cuda(index: int = 0) -> torch.device:
    return torch.device("cuda", index)


def _native_device(device: torch.device) -> _native.Device:
    found = probe.find_device(device)
    assert found is not None
    return found


def _none_found(device: torch.device) -> None:
    del device


@contextmanager
def _host_copies() -> Iterator[None]:
    """Values are copied to the host and counted there."""
    known = probe.find_device
    probe.find_device = _none_found
    try:
        yield
    finally:
        probe.find_device = known


def _recorded(
    model: PreTrainedModel, run: Callable[[], Any], sites: Any = None
) -> tuple[dict[str, dict[str, object]], dict[str, Any]]:
    with torch.inference_mode(), lmfacts.attach(model, SITES if sites is None else sites) as recorder:
        run()
        torch.cuda.synchronize()
    return states(recorder), recorder.run().metadata


def _assert_same(
    found: tuple[dict[str, dict[str, object]], dict[str, Any]],
    expected: tuple[dict[str, dict[str, object]], dict[str, Any]],
    *keys: str,
) -> None:
    for site, state in expected[0].items():
        assert_agrees(found[0][site], state)
    for key in keys:
        theirs, ours = expected[1][key], found[1][key]
        if key == "coverage":
            theirs, ours = ({s: {**c, "n_copies": 0} for s, c in of.items()} for of in (theirs, ours))
        assert ours == theirs, key


def _model_and_inputs(name: str = "gpt2", dtype: torch.dtype = torch.bfloat16) -> tuple[Any, list[dict[str, Any]]]:
    model = build(name, dtype)
    inputs = [batch(model, side) for side in ("left", "right", "none", "left")]
    torch.nn.Module.to(model, _cuda())
    return model, [{key: tensor.to(_cuda()) for key, tensor in given.items()} for given in inputs]


def check_values(data: str, dtype: torch.dtype) -> None:
    """A site's whole state is the host's."""
    of_host = {**DATA, **LARGE_DATA}[data]().to(dtype)
    device = _native_device(_cuda())
    device.prepare(str(dtype).removeprefix("torch."))
    calls = [tokenized(of_host.to(_cuda())), tokenized((3 * of_host).to(_cuda()))]
    found, n_calls = on_device(device, calls, **ALL)
    assert n_calls == len(calls)
    host_calls = [(x.cpu(), {name: tensor.cpu() for name, tensor in given.items()}) for x, given in calls]
    assert_agrees(found, on_host(host_calls, **ALL))


def check_repeated_bits() -> None:
    """The same calls give the same bits, sums included."""
    device = _native_device(_cuda())
    calls = [tokenized(values((8, 1024, 1024)).to(_cuda(), torch.bfloat16))] * 2
    assert on_device(device, calls, **ALL) == on_device(device, calls, **ALL)


def check_strides() -> None:
    """Rows are read in place whatever lies between them."""
    device = _native_device(_cuda())
    whole = values((3, 200, 96)).to(_cuda(), torch.bfloat16)
    for cut in (
        whole[..., 16:80],
        whole[:, 3:180, 5:70],
        values((20, 3, 64)).to(_cuda(), torch.bfloat16).transpose(0, 1),
    ):
        found, _ = on_device(device, [tokenized(cut)], **ALL)
        given = {name: tensor.cpu() for name, tensor in tokenized(cut)[1].items()}
        assert_agrees(found, on_host([(cut.cpu(), given)], **ALL))


def check_models(name: str, dtype: torch.dtype) -> None:
    """A run is that of host copies of the same values, text hash and all."""
    model, inputs = _model_and_inputs(name, dtype)

    def run() -> None:
        for given in inputs:
            model(**given)

    with _host_copies():
        expected = _recorded(model, run)
    _assert_same(_recorded(model, run), expected, *_KEPT, "token_hash")


@contextmanager
def detected(recorder: lmfacts.Recorder) -> Iterator[None]:
    """What a recorder does when a hook reports is an error if it waits; the model itself may."""
    n_reports = 0
    reported_to = recorder._recorded

    def watched(method: Callable[..., None]) -> Callable[..., None]:
        @functools.wraps(method)
        def report(*args: Any, **kwargs: Any) -> None:
            nonlocal n_reports
            n_reports += 1
            torch.cuda.set_sync_debug_mode("error")
            try:
                method(*args, **kwargs)
            finally:
                torch.cuda.set_sync_debug_mode("default")

        return report

    with ExitStack() as stack:
        for name in ("module_called", "module_given", "module_returned", "tapped"):
            setattr(reported_to, name, watched(getattr(reported_to, name)))
            stack.callback(delattr, reported_to, name)
        yield
    assert n_reports, "no hook reported to what is watched"


def check_no_synchronization() -> None:
    """After a first pass no hook waits for the device, says torch's own detector; nothing is allocated that stays."""
    model, inputs = _model_and_inputs()
    with torch.inference_mode(), lmfacts.attach(model, "default") as recorder:
        for given in inputs:
            model(**given)
        torch.cuda.synchronize()
        recorder.n_sequences  # noqa: B018  the host has read all passes so far
        before = torch.cuda.memory_allocated()
        with detected(recorder):
            for given in inputs:
                model(**given)
        torch.cuda.synchronize()
        assert torch.cuda.memory_allocated() <= before + (1 << 20)


def _model_to_capture() -> tuple[Any, dict[str, Any]]:
    """A model and inputs that a CUDA graph can hold: eager attention and padding make tensors on the host."""
    model, inputs = _model_and_inputs()
    model.set_attn_implementation("sdpa")
    return model, {"input_ids": inputs[0]["input_ids"]}


def check_cuda_graph() -> None:
    """What is replayed is counted, as many times as it is replayed."""
    model, given = _model_to_capture()

    def eager() -> None:
        for _ in range(5):
            model(**given, use_cache=False)

    def replayed() -> None:
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's own
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            model(**given, use_cache=False)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            model(**given, use_cache=False)
        for _ in range(4):
            graph.replay()

    _assert_same(_recorded(model, replayed), _recorded(model, eager), "n_tokens", "n_sequences", "coverage")


def check_capture_without_a_first_pass() -> None:
    """Capturing before a first pass is an error that says what to do."""
    model, given = _model_to_capture()
    with torch.inference_mode(), lmfacts.attach(model, SITES, on_error="raise"):
        try:
            with torch.cuda.graph(torch.cuda.CUDAGraph()):
                model(**given, use_cache=False)
        except lmfacts.errors.CudaError as error:
            assert "before capturing" in str(error)  # noqa: PT017  pytest is not at hand everywhere that this runs
        else:
            raise AssertionError("the capture went through")


def check_compiled(mode: str) -> None:
    """A model under torch.compile is recorded in one graph."""
    model, inputs = _model_and_inputs(dtype=torch.float32)
    torch.compiler.reset()
    given = inputs[0]

    def eager() -> None:
        for _ in range(4):
            model(**given, use_cache=False)

    def compiled() -> None:
        prepared = torch.compile(model, fullgraph=True, mode=mode)
        for _ in range(4):
            prepared(**given, use_cache=False)  # type: ignore[no-untyped-call]  # torch's own

    found, expected = _recorded(model, compiled), _recorded(model, eager)
    assert found[1]["n_tokens"] == expected[1]["n_tokens"]
    for site, covered in expected[1]["coverage"].items():
        assert found[1]["coverage"][site]["n_tokens"] == covered["n_tokens"], site


def check_streams() -> None:
    """Passes on different streams are counted one after the other."""
    model, inputs = _model_and_inputs()

    def one() -> None:
        for given in inputs:
            model(**given)

    def several() -> None:
        for given in inputs:
            stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's own
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                model(**given)

    _assert_same(_recorded(model, several), _recorded(model, one), *_KEPT, "token_hash")


def check_backward_thread() -> None:
    """An update can be queued from autograd's own thread, which may have no context."""
    device = _native_device(_cuda())
    x = values((2, 20, 64)).to(_cuda()).requires_grad_()
    found = []
    gradient = values((2, 20, 64), 1).to(_cuda())

    def count(grad: torch.Tensor) -> None:
        found.append(on_device(device, [tokenized(grad)], **ALL)[0])

    x.register_hook(count)  # type: ignore[no-untyped-call]  # torch's own
    (x * gradient).sum().backward()  # type: ignore[no-untyped-call]  # torch's own
    assert_agrees(found[0], on_host([tokenized(gradient.cpu())], **ALL))


def check_another_device() -> None:
    """Values on a device that is not the current one are counted there."""
    last = torch.cuda.device_count() - 1
    device = _native_device(_cuda(last))
    device.prepare("bfloat16")
    x = values((2, 20, 64)).to(_cuda(last), torch.bfloat16)
    with torch.cuda.device(0):
        found, _ = on_device(device, [tokenized(x)], stream=torch.cuda.current_stream(last).cuda_stream, **ALL)
    given = {name: tensor.cpu() for name, tensor in tokenized(x)[1].items()}
    assert_agrees(found, on_host([(x.cpu(), given)], **ALL))


CHECKS: dict[str, Callable[[], None]] = {
    **{
        f"values: {data}, {str(dtype).removeprefix('torch.')}": functools.partial(check_values, data, dtype)
        for data in (*DATA, *LARGE_DATA)
        for dtype in DTYPES
    },
    "the same bits twice": check_repeated_bits,
    "strides": check_strides,
    **{
        f"model: {name}, {str(dtype).removeprefix('torch.')}": functools.partial(check_models, name, dtype)
        for name, dtype in (("gpt2", torch.bfloat16), ("llama", torch.float16), ("gpt_neox", torch.float32))
    },
    "no synchronization in hooks": check_no_synchronization,
    "CUDA graph": check_cuda_graph,
    "capture without a first pass": check_capture_without_a_first_pass,
    "torch.compile": functools.partial(check_compiled, "default"),
    "torch.compile, reduce-overhead": functools.partial(check_compiled, "reduce-overhead"),
    "streams": check_streams,
    "autograd's thread": check_backward_thread,
    "a device that is not current": check_another_device,
}
"""All checks, by what they are about."""
