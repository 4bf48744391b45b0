"""Recording under autocast, checkpointing, compilation, patched modules and broken weights."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lmfacts
from lmfacts.errors import UnsupportedDtypeError
from lmfacts.models import describe
from support.capture import capture_taps
from support.recording import assert_same_records, record, states
from support.tiny import batch, build


@pytest.fixture
def gpt2():
    return build("gpt2")


@pytest.fixture
def llama():
    return build("llama")


def test_a_module_that_is_bypassed_makes_the_run_incomplete(gpt2):
    mlp = gpt2.transformer.h[1].mlp
    # As fused kernels and patched models do: the module's work is done, the module is not called.
    mlp.forward = lambda x: mlp.dropout(mlp.c_proj(mlp.act(mlp.c_fc.forward(x))))
    recorder = record(gpt2, [batch(gpt2)])
    run = recorder.run()
    assert recorder.silent_sites == ("blocks.1.mlp_pre",)
    assert run.metadata["complete"] is False
    assert run.metadata["incomplete_reason"].endswith("hooks never fired: blocks.1.mlp_pre")
    assert run.metadata["coverage"]["blocks.1.mlp_pre"]["n_calls"] == 0
    assert run.metadata["coverage"]["blocks.1.mlp_post"]["n_calls"] == 1
    assert run["blocks.1.mlp_pre"].n == 0


@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_autocast_records_the_dtype_of_each_tensor(name):
    model = build(name)
    inputs = batch(model, "left")
    taps = describe(model).taps
    with torch.autocast("cpu", torch.bfloat16):
        expected = capture_taps(model, taps, inputs).values
        plain = model(**inputs).logits
        with torch.no_grad(), lmfacts.attach(model, "all") as recorder:
            assert torch.equal(model(**inputs).logits, plain)
    dtypes = {site: recorder.site(site).dtype for site in recorder.site_names}
    assert dtypes == {site: str(expected[site].dtype).removeprefix("torch.") for site in dtypes}
    assert set(dtypes.values()) == {"float32", "bfloat16"}


def test_a_site_that_changes_its_dtype_is_an_error_with_its_name(llama):
    inputs = batch(llama)
    with torch.no_grad(), lmfacts.attach(llama, "all", on_error="raise") as recorder:
        llama(**inputs)
        before = recorder.site("blocks.0.q").state.to_native()
        message = (
            r"site 'blocks.0.q' \(module 'model.layers.0.self_attn.q_proj'\): expected dtype float32.* got bfloat16"
        )
        with torch.autocast("cpu", torch.bfloat16), pytest.raises(UnsupportedDtypeError, match=message):
            llama(**inputs)
        assert recorder.site("blocks.0.q").state.to_native() == before


def test_checkpointed_blocks_are_counted_once(llama):
    inputs = batch(llama)
    llama.train()

    def grads():
        llama.zero_grad()
        llama(**inputs, labels=inputs["input_ids"], use_cache=False).loss.backward()
        return {path: parameter.grad.clone() for path, parameter in llama.named_parameters()}

    with lmfacts.attach(llama, "all") as plain:
        expected = grads()
    llama.activation_checkpointing_enable()
    with lmfacts.attach(llama, "all") as recorder:
        found = grads()
    assert_same_records(states(recorder), states(plain))
    for path, grad in expected.items():
        assert torch.equal(found[path], grad)


@pytest.mark.parametrize("attached", ["the model", "what compile returned"])
def test_a_model_compiled_while_attached_is_recorded(gpt2, attached):
    torch._dynamo.reset()
    calls = [batch(gpt2, "left"), batch(gpt2, "right")]
    expected = states(record(gpt2, calls, "resid"))
    compiled = torch.compile(gpt2, backend="eager")
    with torch.no_grad():
        plain = gpt2(**calls[1]).logits
        with lmfacts.attach(gpt2 if attached == "the model" else compiled, "resid") as recorder:
            compiled(**calls[0])
            assert torch.equal(compiled(**calls[1]).logits, plain)
        after = recorder.n_tokens
        compiled(**calls[0])
    torch._dynamo.reset()
    assert recorder.n_tokens == after
    assert recorder.run().metadata["complete"]
    assert_same_records(states(recorder), expected)


def test_a_model_compiled_before_says_that_no_hook_fired(gpt2):
    """What was traced without hooks runs without them."""
    torch._dynamo.reset()
    compiled = torch.compile(gpt2, backend="eager")
    with torch.no_grad():
        compiled(**batch(gpt2))
        with lmfacts.attach(gpt2, "resid") as recorder:
            compiled(**batch(gpt2))
    torch._dynamo.reset()
    run = recorder.run()
    assert not run.metadata["complete"]
    assert "none of its 7 hooks fired" in run.metadata["incomplete_reason"]


def test_nan_and_infinity_are_counted_and_spoil_no_other_dim(gpt2):
    inputs = batch(gpt2, "left")
    clean = record(gpt2, [inputs], "all")
    with torch.no_grad():
        gpt2.transformer.h[2].mlp.c_proj.weight[:, 3] = torch.nan
        gpt2.transformer.h[2].mlp.c_proj.bias[5] = torch.inf
    run = record(gpt2, [inputs], ["all", "logits"]).run()
    others = [dim for dim in range(32) if dim not in (3, 5)]
    for site in ("blocks.2.mlp_out", "blocks.2.resid_post"):
        found, expected = run[site], clean.site(site)
        assert (found.n_nan, found.n_inf, found.n) == (22, 22, 22 * 30)
        np.testing.assert_array_equal(found.dims.n_nonfinite, np.isin(np.arange(32), (3, 5)) * 22)
        for statistic in ("mean", "std", "min", "max", "excess_kurtosis"):
            ours, theirs = (getattr(record_of_site.dims, statistic)[others] for record_of_site in (found, expected))
            np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)
        assert np.isfinite([found.mean, found.std, found.min, found.max, found.quantile(0.5)]).all()
        assert set(found.outliers["dim"]) <= set(others)
        assert found.norms.n == 0
    for site in ("blocks.1.resid_post", "blocks.2.mlp_post"):
        assert run[site].state.to_native() == clean.site(site).state.to_native()
    assert run["final_norm_out"].n == 0
    assert run["logits"].n_nan == 22 * 97
    assert run.metadata["complete"]
