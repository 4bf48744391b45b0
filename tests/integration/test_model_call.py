"""Logits that nobody records are not computed, and everything else has the same bits."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers
from transformers import AutoModelForCausalLM, AutoTokenizer

import lmfacts
from lmfacts.demo import MODEL_DIR
from lmfacts.scans.model_call import ModelCall
from support.tiny import TINY, batch, build

FAMILIES = [name for name in TINY if ":" not in name]


class WithoutTheArgument(transformers.LlamaForCausalLM):
    """A model whose forward always computes all logits, as those from before `logits_to_keep`."""

    def forward(self, input_ids=None, attention_mask=None, use_cache=None):
        return super().forward(input_ids=input_ids, attention_mask=attention_mask, use_cache=use_cache)


class HeadRows:
    """How many tokens a model's head has computed logits for."""

    def __init__(self, model):
        self.n = 0
        self._hook = model.get_output_embeddings().register_forward_hook(self._count)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._hook.remove()

    def _count(self, _module, args, _output):
        self.n += args[0].shape[:-1].numel()


def recorded(model, sites, ids, mask, call):
    with lmfacts.attach(model, sites=sites, on_error="raise") as recorder:
        call([tap.module_path for tap in recorder.taps])(ids, mask)
    run = recorder.run()
    assert run.complete
    return {f"{name}/{key}": array for name in run for key, array in run[name].state.arrays()}


@pytest.mark.parametrize("family", FAMILIES)
def test_all_sites_but_the_logits_have_the_same_bits(family):
    model = build(family)
    given = batch(model)
    ids, mask = given["input_ids"], given["attention_mask"]

    def all_logits(_paths):
        return lambda ids, mask: model(input_ids=ids, attention_mask=mask, use_cache=False)

    plain = recorded(model, "default", ids, mask, all_logits)
    with HeadRows(model) as head:
        lean = recorded(model, "default", ids, mask, lambda paths: ModelCall(model, paths))
    assert head.n == ids.shape[0]
    assert lean.keys() == plain.keys()
    for name, array in plain.items():
        np.testing.assert_array_equal(lean[name], array, err_msg=name)


@pytest.mark.parametrize("family", ["gpt2", "llama", "gpt_neox"])
@pytest.mark.parametrize("site", ["logits", "head:in", "head:out", ":out"])
def test_a_site_of_the_head_or_around_it_gets_all_of_them(family, site):
    model = build(family)
    head = next(name for name, module in model.named_modules() if module is model.get_output_embeddings())
    given = batch(model)
    ids, mask = given["input_ids"], given["attention_mask"]
    if site == ":out":
        paths = [""]
    else:
        with lmfacts.attach(model, sites=["blocks.0.resid_post", site.replace("head", head)]) as recorder:
            paths = [tap.module_path for tap in recorder.taps]
    with HeadRows(model) as rows:
        ModelCall(model, paths)(ids, mask)
    assert rows.n == ids.numel()


def test_a_model_that_does_not_take_the_number_is_called_without_it():
    torch.manual_seed(0)
    model = WithoutTheArgument(build("llama").config).eval()
    given = batch(model)
    with HeadRows(model) as rows, lmfacts.attach(model, sites="default", on_error="raise") as recorder:
        ModelCall(model, [tap.module_path for tap in recorder.taps])(given["input_ids"], given["attention_mask"])
    assert rows.n == given["input_ids"].numel()
    assert recorder.run().complete


def test_a_model_without_a_head_is_called_as_it_is():
    model = build("gpt2").transformer
    given = batch(model)
    call = ModelCall(model, ["h.0"])
    call(given["input_ids"], given["attention_mask"])
    assert call.arguments == {"use_cache": False}


@pytest.mark.parametrize(("sites", "n_rows"), [("resid", 1), (["resid", "logits"], 32)])
def test_a_scan_computes_logits_where_they_are_recorded_only(sites, n_rows, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(MODEL_DIR, dtype=torch.float32)
    text = tmp_path / "text.txt"
    text.write_text("for x in y: " * 20)
    with HeadRows(model) as rows:
        run = lmfacts.scan(
            model, text, tokenizer=AutoTokenizer.from_pretrained(MODEL_DIR), sites=sites, seq_len=32, max_tokens=128
        )
    assert run.complete
    assert rows.n == 1 + 4 * n_rows  # one token to measure the state, then four sequences
    assert all(entry["n_tokens"] == 128 for entry in run.coverage.values())
