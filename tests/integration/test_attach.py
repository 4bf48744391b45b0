"""`lmfacts.attach`: the model does what it did without it, everything is counted, and nothing is left behind."""

from __future__ import annotations

import numpy as np
import pytest
import torch

import lmfacts
from lmfacts.errors import HookError, LmfactsError, SiteNotFoundError, UsageError
from lmfacts.recording.recorder import Recorder
from support.recording import assert_same_records, record, states
from support.tiny import TINY, batch, build

FAMILIES = sorted(TINY)
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
HOOKS = (
    "_forward_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks",
    "_forward_pre_hooks_with_kwargs",
    "_backward_hooks",
    "_backward_pre_hooks",
    "_state_dict_hooks",
)


def hooks_of(model):
    """Every hook on every module, by the identity of its function."""
    return {
        (path, kind): {key: id(hook) for key, hook in getattr(module, kind).items()}
        for path, module in model.named_modules()
        for kind in HOOKS
    }


def picture(model):
    """All that a recorder could have changed of a model."""
    return (
        hooks_of(model),
        {path: (tensor.data_ptr(), tensor._version) for path, tensor in model.state_dict().items()},
        {path: (module.training, id(type(module).forward)) for path, module in model.named_modules()},
        {path: sorted(vars(module)) for path, module in model.named_modules()},
        {path: (p.requires_grad, p._backward_hooks) for path, p in model.named_parameters()},
    )


@pytest.fixture
def gpt2():
    return build("gpt2")


@pytest.fixture
def llama():
    return build("llama")


# The model's own results


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FAMILIES)
def test_outputs_and_gradients_are_the_same_bits(name, dtype):
    model = build(name, DTYPES[dtype])
    inputs = batch(model, "left" if dtype == "float32" else "right")
    labels = inputs["input_ids"].masked_fill(inputs["attention_mask"] == 0, -100)

    def run(mode):
        model.train(mode)
        model.zero_grad()
        torch.manual_seed(0)
        output = model(**inputs, labels=labels, output_hidden_states=True)
        output.loss.backward()
        grads = {path: parameter.grad for path, parameter in model.named_parameters() if parameter.grad is not None}
        return {"loss": output.loss.detach().reshape(1), "logits": output.logits.detach(), **grads} | {
            f"hidden {i}": hidden.detach() for i, hidden in enumerate(output.hidden_states)
        }

    for mode in (False, True):
        expected = run(mode)
        before = picture(model)[0]
        with lmfacts.attach(model, ["all", "logits"]) as recorder:
            found = run(mode)
        assert hooks_of(model) == before
        assert recorder.run().metadata["complete"]
        assert set(found) == set(expected)
        for key, value in expected.items():
            assert torch.equal(found[key].view(torch.uint8), value.view(torch.uint8)), f"{key}, training {mode}"


def test_inference_mode_and_no_grad_give_the_same_records(llama):
    inputs = batch(llama)
    with torch.inference_mode(), lmfacts.attach(llama, "all") as recorder:
        llama(**inputs)
    assert_same_records(states(recorder), states(record(llama, [inputs])))


# What is left behind


def test_nothing_is_left_after_a_normal_exit(gpt2):
    gpt2.transformer.h[1].train()
    before = picture(gpt2)
    record(gpt2, [batch(gpt2)] * 2)
    assert picture(gpt2) == before


def test_nothing_is_left_after_an_exception_in_the_block(gpt2):
    before = picture(gpt2)
    recorder = lmfacts.attach(gpt2, "all")

    def work():
        with recorder:
            gpt2(**batch(gpt2))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        work()
    assert picture(gpt2) == before
    assert_same_records(states(recorder), states(record(gpt2, [batch(gpt2)])))


class Stop(Exception):  # noqa: N818  raised by no library
    pass


def stop_once(module):
    """Let the next forward of a module fail."""

    def hook(_module, _args):
        handle.remove()
        raise Stop

    handle = module.register_forward_pre_hook(hook)


def test_after_an_exception_in_a_forward_the_next_one_is_recorded_rightly(gpt2):
    left, right = batch(gpt2, "left"), batch(gpt2, "right")
    before = picture(gpt2)
    with torch.no_grad(), lmfacts.attach(gpt2, "all", on_error="raise") as recorder:
        stop_once(gpt2.transformer.h[1].mlp)
        with pytest.raises(Stop):
            gpt2(**left)
        with pytest.raises(HookError, match="outside a forward pass"):
            gpt2.transformer.ln_f(torch.ones(1, 1, 32))
        gpt2(**right)
    assert picture(gpt2) == before
    n = int(right["attention_mask"].sum())
    # What ran before the failure was seen; what came after it, and all of the second pass, is counted once.
    assert recorder.site("blocks.1.ln2_out").n_tokens == 2 * n
    for site in ("blocks.1.mlp_out", "blocks.1.resid_post", "blocks.2.z", "final_norm_out"):
        record_of_site = recorder.site(site)
        assert (record_of_site.first.n_tokens, record_of_site.n_tokens) == (3, n)
        expected = record(gpt2, [left, right]).site(site).outliers
        expected = expected[expected["sequence"] >= 3]
        found = record_of_site.outliers
        n_common = min(len(found), len(expected))
        assert n_common > 10
        np.testing.assert_array_equal(found[:n_common], expected[:n_common])


def test_an_exception_before_the_tokens_are_known_is_no_problem(gpt2):
    with torch.no_grad(), lmfacts.attach(gpt2, "resid") as recorder:
        stop_once(gpt2)
        with pytest.raises(Stop):
            gpt2(**batch(gpt2))
        stop_once(gpt2.transformer)
        with pytest.raises(Stop):
            gpt2(**batch(gpt2))
        gpt2(**batch(gpt2))
    assert recorder.site("blocks.0.resid_post").first.n_tokens == 3


@pytest.mark.parametrize(
    ("sites", "options", "error"),
    [
        ("blocks.7.resid_post", {}, SiteNotFoundError),
        ("resid,nonsense", {}, SiteNotFoundError),
        (["transformer.h.*.mlp.c_fc:in", "transformer.h.9:out"], {}, SiteNotFoundError),
        ([], {}, LmfactsError),
        ("", {}, LmfactsError),
        (lambda _name: False, {}, LmfactsError),
        ("resid", {"k": -1}, UsageError),
        ("resid", {"threshold": -2.0}, UsageError),
        ("resid", {"threshold": float("nan")}, UsageError),
    ],
)
def test_a_failed_attach_registers_nothing(gpt2, sites, options, error):
    before = picture(gpt2)
    with pytest.raises(error):
        lmfacts.attach(gpt2, sites, **options)
    assert picture(gpt2) == before


def test_an_attach_that_fails_halfway_takes_back_what_it_did(gpt2):
    recorder = Recorder(gpt2, "all", k=4, threshold=6.0)
    last = gpt2.transformer.h[2]
    del gpt2.transformer.h[2]
    before = picture(gpt2)
    with pytest.raises(AttributeError):
        recorder.attach()
    assert picture(gpt2) == before
    gpt2.transformer.h.append(last)
    with torch.no_grad(), recorder:
        gpt2(**batch(gpt2))
    assert recorder.run().metadata["complete"]


def test_foreign_hooks_are_neither_touched_nor_reordered(gpt2):
    order = []
    block = gpt2.transformer.h[1]
    handles = [
        block.register_forward_pre_hook(lambda *_: order.append("a")),
        block.register_forward_hook(lambda *_: order.append("b")),
        gpt2.register_forward_hook(lambda *_: order.append("c"), always_call=True),
    ]
    before = picture(gpt2)
    with torch.no_grad(), lmfacts.attach(gpt2, "all"):
        handles.append(block.register_forward_hook(lambda *_: order.append("d")))
        gpt2(**batch(gpt2))
    assert order == ["a", "b", "d", "c"]
    handles.pop().remove()
    assert picture(gpt2) == before
    gpt2(**batch(gpt2))
    assert order == ["a", "b", "d", "c", "a", "b", "c"]
    assert all(
        handle.id in getattr(owner, kind)
        for handle, owner, kind in zip(
            handles, (block, block, gpt2), ("_forward_pre_hooks", "_forward_hooks", "_forward_hooks"), strict=True
        )
    )


def test_what_a_foreign_hook_makes_of_an_output_is_what_the_next_module_reads(gpt2):
    """A hook that was there first changes a block's output; the recorder sees what the model goes on with."""
    handle = gpt2.transformer.h[0].register_forward_hook(lambda _m, _a, out: out * 2)
    found = states(record(gpt2, [batch(gpt2)], ["blocks.0.resid_post", "transformer.h.1:in"]))
    handle.remove()
    site, module = found.values()
    assert {"unit_sums", "sequence_blocks"} <= set(site["statistics"]) - set(module["statistics"])
    assert len(module) > 20
    assert {key: site[key] for key in module if key != "statistics"} == {
        key: value for key, value in module.items() if key != "statistics"
    }


# Life of a recorder


@pytest.mark.parametrize("first_out", ["inner", "outer"])
def test_nested_recorders_both_see_everything(gpt2, first_out):
    before = picture(gpt2)
    one, two, three = batch(gpt2, "left"), batch(gpt2, "right"), batch(gpt2, "none")
    outer = lmfacts.attach(gpt2, "all")
    with torch.no_grad():
        gpt2(**one)
        inner = lmfacts.attach(gpt2, "resid")
        gpt2(**two)
        (inner if first_out == "inner" else outer).detach()
        gpt2(**three)
    outer.detach()
    inner.detach()
    assert picture(gpt2) == before
    calls = [[one, two, three], [two]] if first_out == "inner" else [[one, two], [two, three]]
    assert_same_records(states(outer), states(record(gpt2, calls[0])))
    assert_same_records(states(inner), states(record(gpt2, calls[1], "resid")))


def test_detach_and_attach_again(gpt2):
    before = picture(gpt2)
    one, two, three = batch(gpt2, "left"), batch(gpt2, "right"), batch(gpt2, "none")
    recorder = lmfacts.attach(gpt2, "all")
    with torch.no_grad():
        recorder.attach()  # attached already: without effect
        gpt2(**one)
        recorder.detach()
        recorder.detach()
        assert picture(gpt2) == before
        gpt2(**two)
        with recorder:
            gpt2(**three)
    assert picture(gpt2) == before
    assert_same_records(states(recorder), states(record(gpt2, [one, three])))


def test_a_run_can_be_taken_while_attached_and_does_not_change_afterwards(gpt2, tmp_path):
    one, two = batch(gpt2, "left"), batch(gpt2, "right")
    with torch.no_grad(), lmfacts.attach(gpt2, "all") as recorder:
        early = recorder.run()
        assert not early.metadata["complete"]
        assert "no forward pass" in early.metadata["incomplete_reason"]
        gpt2(**one)
        middle = recorder.run()
        kept = {name: middle[name].state.to_native() for name in middle}
        gpt2(**two)
        late = recorder.run()
    assert_same_records({name: middle[name].state.to_native() for name in middle}, kept)
    assert_same_records(kept, states(record(gpt2, [one])))
    assert_same_records({name: late[name].state.to_native() for name in late}, states(record(gpt2, [one, two])))
    assert (middle.metadata["n_tokens"], late.metadata["n_tokens"]) == (22, 44)
    assert (middle.metadata["n_sequences"], late.metadata["n_sequences"]) == (3, 6)
    again = lmfacts.load(late.save(tmp_path / "late.lmfacts"))
    assert_same_records({name: again[name].state.to_native() for name in again}, states(recorder))


def test_two_models_do_not_mix(gpt2, llama):
    with torch.no_grad(), lmfacts.attach(gpt2, "resid") as one, lmfacts.attach(llama, "resid") as two:
        gpt2(**batch(gpt2))
        llama(**batch(llama, "left"))
    assert_same_records(states(one), states(record(gpt2, [batch(gpt2)], "resid")))
    assert_same_records(states(two), states(record(llama, [batch(llama, "left")], "resid")))


# Which sites


def test_an_alias_is_the_record_of_its_owner(gpt2):
    run = record(gpt2, [batch(gpt2)], "resid").run()
    assert run["blocks.1.resid_pre"].state is run["blocks.0.resid_post"].state
    assert run["blocks.1.resid_pre"].name == "blocks.0.resid_post"
    assert "blocks.1.resid_pre" in run["blocks.0.resid_post"].aliases
    alone = record(gpt2, [batch(gpt2)], "blocks.1.resid_pre").run()
    assert list(alone) == ["blocks.0.resid_post"]
    assert alone["blocks.1.resid_pre"].state.to_native() == run["blocks.1.resid_pre"].state.to_native()


def test_module_paths_record_inputs_and_outputs(llama):
    inputs = batch(llama, "left")
    sites = ["model.layers.*.mlp.down_proj:in", "model.layers.1.self_attn.q_proj:out", "blocks.2.mlp_out", "lm_head:in"]
    recorder = record(llama, [inputs], sites)
    paths = [name for name in recorder.site_names if ":" in name]
    assert paths == [
        *(f"model.layers.{i}.mlp.down_proj:in" for i in range(3)),
        "model.layers.1.self_attn.q_proj:out",
        "lm_head:in",
    ]
    by_site = record(llama, [inputs])
    ours, theirs = states(recorder), states(by_site)
    for i in range(3):
        assert ours[f"model.layers.{i}.mlp.down_proj:in"] == theirs[f"blocks.{i}.mlp_post"]
    assert ours["model.layers.1.self_attn.q_proj:out"] == theirs["blocks.1.q"]
    assert ours["blocks.2.mlp_out"] == theirs["blocks.2.mlp_out"]
    for key in ("rest/codes", "rest/counts", "rest/moments", "rest/outlier_index"):
        assert ours["lm_head:in"][key] == theirs["final_norm_out"][key]
    run = recorder.run()
    assert run["lm_head:in"].module_path == "lm_head:in"
    assert run.metadata["complete"]


def test_a_function_chooses_sites(gpt2):
    recorder = record(gpt2, [batch(gpt2)], lambda name: name.endswith(("mlp_post", "blocks.1.resid_pre")))
    assert recorder.site_names == (
        "blocks.0.mlp_post",
        "blocks.0.resid_post",
        "blocks.1.mlp_post",
        "blocks.2.mlp_post",
    )
    assert recorder.run().metadata["settings"]["sites"] == "a function"


@pytest.mark.parametrize("name", ["gpt2", "llama", "opt", "gpt_neox", "bloom", "falcon", "gemma2", "mixtral"])
def test_a_base_model_is_recorded_alone_and_inside_its_causal_model(name):
    model = build(name)
    inputs = batch(model, "left")
    whole = record(model, [inputs], "all")
    base = model.base_model
    with torch.no_grad(), lmfacts.attach(model, "all") as inside:
        base(**inputs)
    with torch.no_grad(), lmfacts.attach(base, "all") as alone:
        base(**inputs)
    assert_same_records(states(inside), states(whole))
    assert_same_records(states(alone), states(whole))
    with torch.no_grad(), lmfacts.attach(model, ["resid", "logits"]) as recorder:
        base(**inputs)
    run = recorder.run()
    assert not run.metadata["complete"]
    assert run.metadata["incomplete_reason"].endswith("hooks never fired: logits")


def test_a_block_that_an_exception_ended_is_not_complete(gpt2):
    inputs = batch(gpt2)
    recorder = lmfacts.attach(gpt2, sites="resid")

    def interrupted():
        with recorder:
            gpt2(**inputs)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    run = recorder.run()
    assert not run.complete
    assert run.incomplete_reason == "recording was ended by KeyboardInterrupt"
    with recorder:
        gpt2(**inputs)
    assert recorder.run().complete
