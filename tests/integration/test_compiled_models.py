"""Recording a model under `torch.compile`: the graph stays whole, and the run is the same."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import lmfacts
from support.recording import states
from support.tiny import batch, build

SITES = ["embed", "blocks.0.mlp_post", "blocks.1.resid_post", "final_norm_out"]
_IN_OWN_PROCESS = "LMFACTS_TEST_IN_OWN_PROCESS"
KEPT = ("n_tokens", "n_sequences", "token_hash", "coverage", "complete")


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def recorded(model, calls, prepare):
    with torch.no_grad(), lmfacts.attach(model, SITES) as recorder:
        prepared = prepare(model)
        outputs = [prepared(**inputs, use_cache=False).logits for inputs in calls]
    return recorder, outputs


def assert_close(found, expected):
    """The same tokens, and values as near as another order of operations leaves them."""
    assert found.run().metadata["coverage"] == expected.run().metadata["coverage"]
    for site in SITES:
        assert found.site(site).n == expected.site(site).n
        assert found.site(site).std == pytest.approx(expected.site(site).std, rel=1e-4)


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_the_whole_model_is_one_graph(name):
    model = build(name)
    calls = [batch(model, "left"), batch(model, "right"), batch(model, "left")]
    expected, plain = recorded(model, calls, lambda model: model)
    torch._dynamo.utils.counters.clear()
    found, compiled = recorded(model, calls, lambda model: torch.compile(model, fullgraph=True, backend="aot_eager"))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] >= 1
    assert all(torch.equal(a, b) for a, b in zip(plain, compiled, strict=True))
    assert states(found) == states(expected)
    for key in KEPT:
        assert found.run().metadata[key] == expected.run().metadata[key]


@torch._dynamo.config.patch(skip_nnmodule_hook_guards=False)
def test_blocks_that_are_compiled_one_by_one():
    model = build("llama")
    calls = [batch(model, "left"), batch(model, "none")]
    expected, _ = recorded(model, calls, lambda model: model)

    def compile_blocks(model):
        for block in model.model.layers:
            block.compile(fullgraph=True, backend="aot_eager")
        return model

    found, _ = recorded(model, calls, compile_blocks)
    assert_close(found, expected)


@pytest.mark.skipif(
    shutil.which("g++") is None, reason="no g++, which torch.compile's own backend needs on a processor"
)
def test_operators_are_kept_by_the_backend_that_removes_what_is_unused(tmp_path):
    # With a cache of its own: torch's gives code for AVX-512 to a process that has AVX2 only (ATEN_CPU_CAPABILITY), and
    # half of the values of that are whatever the memory held. In a process of its own, since twice, in whole runs on a
    # processor with AVX-512, one that had run hundreds of tests was aborted here, while torch compared a mask with 0;
    # such code may have been the reason. The tests before this one and it, in one process whose heap glibc checks, do
    # not repeat it. Address sanitizers find nothing in the extension or in what is compiled here.
    if _IN_OWN_PROCESS not in os.environ:
        name = "test_operators_are_kept_by_the_backend_that_removes_what_is_unused"
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", f"{__file__}::{name}"],
            env={**os.environ, _IN_OWN_PROCESS: "1", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path)},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
        assert "1 passed" in done.stdout
        return
    model = build("gpt2")
    calls = [batch(model, "left")] * 2
    expected, _ = recorded(model, calls, lambda model: model)
    found, _ = recorded(model, calls, lambda model: torch.compile(model, fullgraph=True))
    assert_close(found, expected)


def test_gradients_flow_through_a_compiled_model_that_is_recorded():
    model = build("gpt2")
    inputs = batch(model, "none")
    model(**inputs, use_cache=False).logits.square().mean().backward()
    expected = {name: parameter.grad.clone() for name, parameter in model.named_parameters()}
    model.zero_grad()
    with lmfacts.attach(model, SITES) as recorder:
        compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
        compiled(**inputs, use_cache=False).logits.square().mean().backward()
    assert recorder.n_tokens == 33
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, expected[name])


def test_a_recorder_that_is_gone_is_told_nothing():
    model = build("gpt2")
    inputs = batch(model, "none")
    recorder, plain = recorded(model, [inputs], lambda model: model)
    with torch.no_grad():
        with lmfacts.attach(model, SITES) as gone:
            compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
            compiled(**inputs, use_cache=False)
        assert gone.n_tokens == recorder.n_tokens
        after = compiled(**inputs, use_cache=False).logits  # traced anew: the hooks are gone
    assert gone.n_tokens == recorder.n_tokens
    assert torch.equal(after, plain[0])
