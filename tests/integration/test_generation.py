"""`generate()` under `attach`: every token that the model was fed counts once, where it stands."""

from __future__ import annotations

import pytest
import torch
import transformers

import lmfacts
from support.recording import cache_name, places
from support.tiny import batch, build

PROMPT = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])


def generate(model, prompt, site="embed", **options):
    """What `generate` gave back, and the recorder."""
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None, **options}
    with torch.no_grad(), lmfacts.attach(model, site, k=100_000, on_error="raise") as recorder:
        return model.generate(**prompt, **options), recorder


def fed(generated, n_padding=(0, 0)):
    """What of generated sequences the model was given: all but the last token, without padding before the prompt."""
    rows = enumerate(zip(generated, n_padding, strict=True))
    return sorted((i, position, int(token)) for i, (row, n) in rows for position, token in enumerate(row[n:-1]))


def mamba():
    torch.manual_seed(0)
    config = transformers.MambaConfig(
        vocab_size=101,
        hidden_size=32,
        num_hidden_layers=2,
        state_size=4,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    return transformers.MambaForCausalLM(config).eval()


@pytest.mark.parametrize("options", [{}, {"attention_mask": torch.ones_like(PROMPT)}], ids=["no mask", "mask"])
@pytest.mark.parametrize("name", ["llama", "gpt2", "mistral", "gemma2", "mamba"])
def test_the_prompt_and_what_follows(name, options):
    model = mamba() if name == "mamba" else build(name)
    generated, recorder = generate(model, {"input_ids": PROMPT, **options})
    assert places(recorder) == fed(generated)
    assert recorder.n_sequences == 2
    assert recorder.run().complete


def test_rows_of_different_lengths():
    model = build("llama")
    prompt = {"input_ids": PROMPT, "attention_mask": torch.tensor([[0, 0, 1, 1], [1, 1, 1, 1]])}
    generated, recorder = generate(model, prompt)
    assert places(recorder) == fed(generated, (2, 0))


def test_a_prompt_that_is_read_in_chunks():
    generated, recorder = generate(build("llama"), {"input_ids": torch.arange(5, 17)[None]}, prefill_chunk_size=5)
    assert places(recorder) == fed(generated, (0,))
    assert recorder.n_sequences == 1


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_a_static_cache(name):
    generated, recorder = generate(build(name), {"input_ids": PROMPT}, cache_implementation="static")
    assert places(recorder) == fed(generated)
    assert recorder.n_sequences == 2


def test_a_static_cache_filled_by_hand_with_a_mask_as_long_as_it():
    model = build("llama")
    cache = transformers.StaticCache(config=model.config, max_cache_len=16)
    mask = torch.zeros(2, 16, dtype=torch.long)
    with torch.no_grad(), lmfacts.attach(model, "embed", k=1000, on_error="raise") as recorder:
        for start, end in ((0, 3), (3, 4)):
            mask[:, :end] = 1
            model(PROMPT[:, start:end], attention_mask=mask, use_cache=True, **{cache_name(model): cache})
    assert places(recorder) == [(row, i, int(t)) for row, ids in enumerate(PROMPT) for i, t in enumerate(ids)]
    assert recorder.n_sequences == 2


def test_what_is_appended_after_the_end_is_padding():
    """Of two rows one ends before the other, and is filled up with the padding id, which the mask calls real."""
    model = build("llama")
    prompt = {"input_ids": PROMPT, "attention_mask": torch.ones_like(PROMPT)}
    free = model.generate(**prompt, max_new_tokens=6, do_sample=False, eos_token_id=None)
    end = next(int(t) for t in free[0, 5:8] if t not in free[1, 4:])
    model.generation_config.eos_token_id = end
    generated, recorder = generate(model, prompt, eos_token_id=end)
    ended = generated[0].tolist().index(end, 4)
    assert generated[0, ended + 1 :].eq(model.generation_config.pad_token_id).all()
    assert len(generated[0]) - ended > 2
    expected = [place for place in fed(generated) if place[0] == 1 or place[1] <= ended]
    assert places(recorder) == expected
    assert recorder.n_tokens == len(expected)


def test_logits_are_recorded_where_the_model_computes_them():
    generated, recorder = generate(build("llama"), {"input_ids": PROMPT}, ["embed", "logits"])
    run = recorder.run()
    assert run.complete
    assert [run[site].n_tokens for site in ("embed", "logits")] == [18, 12]
    assert any("logits: for 6 tokens the model did not compute it" in note for note in run.metadata["notes"])
    assert {place[1] for place in places(recorder, "logits")} == set(range(3, generated.shape[1] - 1))


def test_an_encoder_and_its_decoder_are_recorded_with_tokens_of_their_own():
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=101, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0, pad_token_id=0
    )
    model = transformers.T5ForConditionalGeneration(config).eval()
    sites = [
        "encoder.block.1:out",
        "decoder.block.1:out",
        "lm_head:in",
        "decoder.block.0.layer.1.EncDecAttention.k:out",
    ]
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 0]])
    decoded = torch.tensor([[0, 5, 6], [0, 7, 8]])
    with torch.no_grad(), lmfacts.attach(model, sites, k=1000, on_error="raise") as recorder:
        model(input_ids=PROMPT, attention_mask=mask, decoder_input_ids=decoded)
        model(input_ids=PROMPT[:, :3].contiguous(), labels=PROMPT[:, :3].contiguous())
    run = recorder.run()
    assert run.complete
    assert [run[site].n_tokens for site in sites] == [7 + 6, 6 + 6, 6 + 6, 8 + 6]
    assert places(recorder, sites[1])[:6] == [
        (i, p, int(t)) for i, row in enumerate(decoded) for p, t in enumerate(row)
    ]
    assert places(recorder, sites[0])[:4] == [(0, p, int(t)) for p, t in enumerate(PROMPT[0])]
    assert recorder.n_tokens == 25
    assert any("EncDecAttention.k:out sees only some" in note for note in run.metadata["notes"])


def test_batches_of_masks_by_kind_of_layer():
    model = build("gemma2")
    inputs = batch(model, "none")
    mask = {"full_attention": None, "sliding_attention": None}
    with torch.no_grad(), lmfacts.attach(model, "embed", on_error="raise") as recorder:
        model(input_ids=inputs["input_ids"], attention_mask=mask)
    assert recorder.n_tokens == 33


def test_the_cache_is_asked_before_the_model_adds_to_it():
    """The first recorded site lies behind the layer that has put the pass's columns into the cache."""
    for model in (build("llama"), mamba()):
        for options in ({}, {"cache_implementation": "static"})[: 1 if model.config.model_type == "mamba" else 2]:
            path = "backbone.layers.1:out" if model.config.model_type == "mamba" else "model.layers.1:out"
            generated, recorder = generate(model, {"input_ids": PROMPT}, path, **options)
            assert places(recorder, path) == fed(generated)
            assert recorder.n_sequences == 2


@pytest.mark.parametrize("options", [{}, {"cache_implementation": "static"}], ids=["dynamic", "static"])
def test_what_a_decoder_generates(options):
    torch.manual_seed(0)
    config = transformers.T5Config(
        vocab_size=101, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, decoder_start_token_id=0, pad_token_id=0
    )
    model = transformers.T5ForConditionalGeneration(config).eval()
    generated, recorder = generate(model, {"input_ids": PROMPT}, "decoder.block.1:out", **options)
    assert places(recorder, "decoder.block.1:out") == fed(generated)
    assert recorder.n_tokens == 8 + 12


def test_conversations_that_take_turns_are_told_apart_where_the_model_returns_tuples():
    model = build("llama")
    with torch.no_grad(), lmfacts.attach(model, "embed", k=1000, on_error="raise") as recorder:
        caches = [model(ids, use_cache=True, return_dict=False)[1] for ids in (PROMPT, PROMPT + 20)]
        for cache, added in zip(caches, (0, 20), strict=True):
            model(PROMPT[:, :1] + added, **{cache_name(model): cache})
    assert [place for place in places(recorder) if place[1] == 4] == [(0, 4, 5), (1, 4, 9), (2, 4, 25), (3, 4, 29)]
    assert recorder.n_sequences == 4


@pytest.mark.parametrize("kept", [torch.tensor([0, 2]), torch.tensor([3, 0, 2, 1]), torch.tensor([1, 0, 0, 1]).bool()])
def test_logits_of_the_columns_that_a_call_names(kept):
    model = build("llama")
    inputs = {"input_ids": PROMPT, "attention_mask": torch.tensor([[0, 1, 1, 1], [1, 1, 1, 1]])}
    with torch.no_grad(), lmfacts.attach(model, ["embed", "logits"], k=100_000, on_error="raise") as recorder:
        logits = model(**inputs, logits_to_keep=kept).logits
    columns = torch.arange(4)[kept].tolist()
    first = [1, 0]
    assert places(recorder, "logits") == sorted(
        (row, column - first[row], int(PROMPT[row, column]))
        for row in range(2)
        for column in columns
        if column >= first[row]
    )
    expected = {(row, column - first[row]): logits[row, columns.index(column)] for row in (0, 1) for column in columns}
    for one in recorder.site("logits").outliers:
        assert expected[int(one["sequence"]), int(one["position"])][int(one["dim"])] == one["value"]
    assert recorder.run().complete
