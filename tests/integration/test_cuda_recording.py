"""A recorder whose values are counted by the CUDA kernels, run on this processor, against one on the host."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

import lmfacts
from lmfacts.errors import HookError
from lmfacts.recording import channel
from lmfacts.recording.cuda import passes, probe
from support.device_comparison import assert_agrees
from support.emulated_device import COMPILER, NO_COMPILER, emulated_device
from support.recording import cache_name, states
from support.tiny import batch, build

pytestmark = pytest.mark.skipif(COMPILER is None, reason=NO_COMPILER)

SITES = ["embed", "blocks.1.resid_post", "blocks.0.mlp_post", "blocks.0.z"]


@pytest.fixture(scope="module")
def device():
    return emulated_device(n_multiprocessors=2)


@pytest.fixture
def counted_by_kernels(monkeypatch, device):
    """Host tensors are taken for a device's."""

    def count():
        monkeypatch.setattr(channel, "_HOST", "nowhere")
        monkeypatch.setattr(passes, "_HOST", "nowhere")
        monkeypatch.setattr(probe, "find_device", lambda _device: device)

    return count


def recorded(model, calls, **options):
    with torch.no_grad(), lmfacts.attach(model, **{"sites": SITES, **options}) as recorder:
        for inputs in calls:
            model(**inputs)
    return recorder, recorder.run()


def compare(count, model, calls, **options):
    expected, expected_run = recorded(model, calls, **options)
    assert states(expected)[next(iter(expected.site_names))]["dtype"] != ""
    count()
    found, found_run = recorded(model, calls, **options)
    for site, state in states(expected).items():
        assert_agrees(states(found)[site], state)
    for key in (
        "n_tokens",
        "n_sequences",
        "token_hash",
        "coverage",
        "complete",
        "token_text",
        "token_context",
        "notes",
    ):
        assert found_run.metadata[key] == expected_run.metadata[key], key
    return found, expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_run_is_the_host_s(counted_by_kernels, dtype):
    model = build("gpt2", dtype)
    calls = [batch(model, side) for side in ("left", "right", "none")]
    found, expected = compare(counted_by_kernels, model, calls)
    assert found.state_bytes > expected.state_bytes


def test_a_cache_and_several_documents_in_a_row(counted_by_kernels):
    model = build("llama")
    starts = torch.cat([torch.arange(5), torch.arange(6)])[None]
    documents = {"input_ids": batch(model, "none")["input_ids"][:1], "position_ids": starts}
    with torch.no_grad():
        cached = model(**batch(model, "left"), use_cache=True)
    step = {"input_ids": torch.tensor([[5], [6], [7]]), "attention_mask": torch.ones(3, 12, dtype=torch.long)}
    first = batch(model, "left")
    calls = [documents, first, {**step, cache_name(model): _copied(cached[cache_name(model)])}, documents]
    expected, _ = recorded(model, calls)
    calls[2][cache_name(model)] = _copied(cached[cache_name(model)])
    counted_by_kernels()
    found, _ = recorded(model, calls)
    for site, state in states(expected).items():
        assert_agrees(states(found)[site], state)
    assert (found.n_sequences, found.n_tokens) == (expected.n_sequences, expected.n_tokens) == (7, 47)


def _copied(cache):
    return copy.deepcopy(cache)


class Spelling:
    """A tokenizer as far as a recorder needs one."""

    def decode(self, ids, **_options):
        return " ".join(map(str, ids))

    def convert_ids_to_tokens(self, token_id):
        return str(token_id)

    def get_vocab(self):
        return {str(i): i for i in range(200)}


def test_the_text_around_outliers_is_the_host_s(counted_by_kernels):
    model = build("gpt2")
    calls = [batch(model, side) for side in ("left", "none", "right")]
    found, _ = compare(counted_by_kernels, model, calls, tokenizer=Spelling(), k=3)
    assert found.run().metadata["token_context"]


def test_values_that_kernels_do_not_count_are_counted_on_the_host(counted_by_kernels):
    model = build("gpt2", torch.float64)
    expected, _ = recorded(model, [batch(model)])
    counted_by_kernels()
    found, run = recorded(model, [batch(model)])
    assert {site: states(found)[site] for site in SITES} == states(expected)
    assert all(covered["n_copies"] == 1 for covered in run.metadata["coverage"].values())


def test_more_outliers_than_kernels_keep(counted_by_kernels):
    model = build("gpt2")
    expected, _ = recorded(model, [batch(model)], k=600)
    counted_by_kernels()
    found, run = recorded(model, [batch(model)], k=600)
    assert states(found) == states(expected)
    assert run.metadata["coverage"]["embed"]["n_copies"] == 1


def test_host_and_device_passes_take_turns(counted_by_kernels, monkeypatch):
    model = build("gpt2")
    calls = [batch(model, side) for side in ("left", "right", "none", "left")]
    expected, expected_run = recorded(model, calls)
    with torch.no_grad(), lmfacts.attach(model, SITES) as found:
        model(**calls[0])
        with monkeypatch.context() as inner:
            inner.setattr(channel, "_HOST", "nowhere")
            inner.setattr(passes, "_HOST", "nowhere")
            inner.setattr(probe, "find_device", lambda _device: emulated_device(("float32",), n_multiprocessors=2))
            model(**calls[1])
            inner.setattr(passes, "_HOST", "cpu")  # ids on the host, values on the device
            model(**calls[2])
            inner.setattr(passes, "_HOST", "nowhere")
            model(**calls[3])
    for site, state in states(expected).items():
        assert_agrees(states(found)[site], state)
    run = found.run()
    for key in ("n_tokens", "n_sequences", "token_hash", "coverage"):
        assert run.metadata[key] == expected_run.metadata[key]


def test_a_mask_of_another_form_is_an_error_at_once(counted_by_kernels):
    counted_by_kernels()
    model = build("llama")
    inputs = batch(model, "none")
    with torch.no_grad(), lmfacts.attach(model, SITES, on_error="raise") as recorder:
        with pytest.raises(HookError, match=r"expected an attention_mask of shape \[3, 11\]"):
            model(input_ids=inputs["input_ids"], attention_mask=torch.ones(2, 11))
        model(**inputs)
    assert recorder.n_tokens == recorder.site("embed").n_tokens == 33


def test_tokens_of_a_replayed_graph_are_counted(counted_by_kernels):
    counted_by_kernels()
    model = build("gpt2")
    inputs = batch(model, "none")
    with torch.no_grad(), lmfacts.attach(model, ["embed"]) as recorder:
        model(**inputs)
        memory = recorder._recorded.passes._memory.tensor[:24].view(torch.int64)
        memory += torch.tensor([3, 33, 1])  # what the kernels of a replayed graph do to it
    assert (recorder.n_sequences, recorder.n_tokens) == (6, 66)
    run = recorder.run()
    assert run.metadata["notes"][-1].startswith("33 tokens came from replayed CUDA graphs")
    assert np.isclose(recorder.site("embed").n_tokens, 33)
    assert not run.metadata["complete"]
