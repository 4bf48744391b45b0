"""Which tokens a call is about: masks, embeddings, caches, packed rows. Each real one counts once, where it stands."""

from __future__ import annotations

import inspect

import pytest
import torch

import lmfacts
from lmfacts.errors import HookError
from lmfacts.recording.pass_tokens import Arguments, CallReader, TokenReader
from support.recording import assert_same_records, cache_name, expected_places, places, record, states
from support.tiny import batch, build


@pytest.fixture
def gpt2():
    return build("gpt2")


@pytest.fixture
def llama():
    return build("llama")


# What stands in a call


@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.uint8, torch.float32, torch.bfloat16])
def test_masks_of_any_dtype_say_the_same(llama, dtype):
    inputs = batch(llama, "left")
    expected = states(record(llama, [inputs]))
    assert_same_records(
        states(record(llama, [inputs | {"attention_mask": inputs["attention_mask"].to(dtype)}])), expected
    )


def test_without_a_mask_every_token_counts(llama):
    inputs = batch(llama, "none")
    recorder = record(llama, [{"input_ids": inputs["input_ids"]}], k=10_000)
    assert places(recorder) == expected_places(inputs)
    assert_same_records(states(recorder), states(record(llama, [inputs], k=10_000)))


@pytest.mark.parametrize("name", ["gpt2", "gpt_neo", "gptj", "gpt_neox", "llama", "opt", "bloom", "falcon"])
def test_positional_arguments_are_found(name):
    model = build(name)
    inputs = batch(model, "left")
    expected = states(record(model, [inputs]))
    for module in (model, model.base_model):
        names = list(inspect.signature(module.forward).parameters)
        n = names.index("attention_mask") + 1
        arguments = [inputs.get(argument) for argument in names[:n]]
        with torch.no_grad(), lmfacts.attach(model, "all") as recorder:
            module(*arguments)
        assert_same_records(states(recorder), expected)


def test_embeddings_instead_of_ids(llama):
    inputs = batch(llama, "left")
    with torch.no_grad(), lmfacts.attach(llama, "default", k=10_000, on_error="raise") as recorder:
        embeddings = llama.get_input_embeddings()(inputs["input_ids"])  # not a forward pass: nobody's tokens
        llama(inputs_embeds=embeddings, attention_mask=inputs["attention_mask"])
    run = recorder.run()
    assert run.complete
    assert places(recorder, "final_norm_out") == [(s, p, -1) for s, p, _ in expected_places(inputs)]
    expected = states(record(llama, [inputs], "default", k=10_000))
    for site, state in states(recorder).items():
        assert state["rest/codes"] == expected[site]["rest/codes"]
        assert state["rest/counts"] == expected[site]["rest/counts"]


@pytest.mark.parametrize("mask", [torch.ones(3, 1, 5, 11), torch.ones(11), torch.ones(2, 11), torch.ones(3, 10)])
def test_a_mask_that_does_not_fit_is_said_and_not_guessed_at(llama, mask):
    inputs = batch(llama, "none")
    with torch.no_grad(), lmfacts.attach(llama, "resid", on_error="raise") as recorder:
        with pytest.raises(HookError, match=r"expected an attention_mask of shape \[3, 11\]"):
            llama(input_ids=inputs["input_ids"], attention_mask=mask)
        assert recorder.n_tokens == 0
        llama(**inputs)
    assert recorder.site("blocks.0.resid_post").n_tokens == 33


def test_a_part_of_the_model_alone_is_an_error(llama):
    outside = pytest.raises(HookError, match="outside a forward pass")
    with torch.no_grad(), lmfacts.attach(llama, "all", on_error="raise"), outside:
        llama.model.layers[0].mlp(torch.ones(1, 2, 32))


def test_a_row_of_padding_alone_counts_nothing(llama):
    inputs = batch(llama, "left")
    inputs["attention_mask"][1] = 0
    recorder = record(llama, [inputs], k=10_000)
    record_of_site = recorder.site("final_norm_out")
    assert (record_of_site.first.n_tokens, record_of_site.n_tokens) == (2, 15)
    assert places(recorder) == expected_places(inputs)
    inputs["attention_mask"][:] = 0
    nothing = record(llama, [inputs])
    assert nothing.n_tokens == 0
    assert nothing.site("embed").n == 0
    assert nothing.run().incomplete_reason == "no token was recorded: all that the model was given is padding"


def test_one_token_and_no_columns(llama):
    recorder = record(llama, [{"input_ids": torch.tensor([[5]])}], k=10_000)
    assert places(recorder) == [(0, 0, 5)]
    assert recorder.site("embed").rest.n_tokens == 0


# Caches, packing


def fed(prompt, generated):
    """What of a generated sequence the model was given: all but the last token; without padding."""
    n_padding = (prompt["attention_mask"] == 0).sum(dim=1)
    return sorted(
        (row, position, int(token))
        for row, tokens in enumerate(generated)
        for position, token in enumerate(tokens[n_padding[row] : -1])
    )


@pytest.mark.parametrize(
    "name", ["gpt2", "gpt_neo", "gptj", "gpt_neox", "opt", "bloom", "falcon", "llama", "gemma2", "mistral"]
)
def test_generation_counts_each_token_once_where_it_stands(name):
    model = build(name)
    prompt = batch(model, "left")
    options = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "use_cache": True}
    expected = model.generate(**prompt, **options)
    with lmfacts.attach(model, "all", k=30_000) as recorder:
        generated = model.generate(**prompt, **options)
        again = model.generate(**prompt, **options)
    assert torch.equal(generated, expected)
    assert torch.equal(again, expected)
    once = fed(prompt, generated)
    assert places(recorder) == sorted(once + [(row + 3, position, token) for row, position, token in once])
    assert recorder.n_sequences == 6
    for site in recorder.site_names:
        assert recorder.site(site).first.n_tokens == 6
        assert recorder.site(site).n_tokens == recorder.n_tokens == 2 * len(once)


@pytest.mark.parametrize("masked", [True, False])
@pytest.mark.parametrize("name", ["gpt2", "llama", "mistral", "gemma2"])
def test_a_cache_carried_on_by_hand_continues_its_sequences(name, masked):
    model = build(name)
    inputs = batch(model, "none")
    ids, mask = inputs["input_ids"], inputs["attention_mask"]
    with torch.no_grad(), lmfacts.attach(model, "all", k=30_000) as recorder:
        cache = None
        for start, end in ((0, 1), (1, 7), (7, 8), (8, 11)):
            given = {"attention_mask": mask[:, :end]} if masked else {}
            output = model(ids[:, start:end], **{cache_name(model): cache}, use_cache=True, **given)
            cache = output[cache_name(model)]
    assert places(recorder) == expected_places(inputs)
    assert recorder.n_sequences == 3
    assert recorder.site("final_norm_out").first.n_tokens == 3


def test_a_mask_of_the_new_tokens_alone_does_not_start_the_count_again():
    class Cache:
        def get_seq_length(self):
            return 5

    calls, reader = CallReader(), TokenReader()
    ids = torch.arange(10, 20).reshape(2, 5)
    reader.number(calls.read(Arguments(ids)))
    mask = torch.tensor([[1, 1, 1], [1, 1, 0]])
    tokens = reader.number(calls.read(Arguments(ids[:, :3], mask=mask, cache=Cache())))
    assert tokens.position[0].tolist() == [5, 6, 7]
    assert tokens.position[1, :2].tolist() == [5, 6]
    assert tokens.sequence[:, 0].tolist() == [0, 1]
    assert (tokens.n_real, tokens.n_new_sequences, reader.n_sequences) == (5, 0, 2)


def packed(*documents, side="none", n_columns=11, pad=0):
    """Documents in one row, with positions that start again, padded on one side."""
    ids = [token for document in documents for token in document]
    positions = [position for document in documents for position in range(len(document))]
    n = n_columns - len(ids)
    padding = ([pad] * n, [1] * n, [0] * n)
    rows = (ids, positions, [1] * len(ids))
    return [a + b if side == "left" else b + a for a, b in zip(padding, rows, strict=True)]


def test_positions_that_start_again_begin_a_sequence(llama):
    documents = [[5, 6, 7, 8], [9, 10, 11], [12, 13, 14, 15]]
    ids, positions, _ = packed(*documents)
    second, second_positions, _ = packed(list(range(20, 31)))
    inputs = {"input_ids": torch.tensor([ids, second]), "position_ids": torch.tensor([positions, second_positions])}
    recorder = record(llama, [inputs, inputs], k=30_000)
    expected = [
        (sequence + 4 * call, position, token)
        for call in range(2)
        for sequence, document in enumerate([*documents, second])
        for position, token in enumerate(document)
    ]
    assert places(recorder) == expected
    assert recorder.site("embed").first.n_tokens == recorder.n_sequences == 8
    assert recorder.site("embed").n_tokens == 44


@pytest.mark.parametrize("side", ["left", "right"])
def test_packed_rows_may_be_padded(llama, side):
    documents = [[5, 6, 7], [9, 10], [12, 13, 14]]
    one = packed(*documents, side=side)
    two = packed([20, 21, 22, 23], side=side)
    three = packed([30, 31], [32], side=side, n_columns=11)
    ids, positions, mask = (torch.tensor(rows) for rows in zip(one, two, three, strict=True))
    recorder = record(llama, [{"input_ids": ids, "position_ids": positions, "attention_mask": mask}], k=30_000)
    expected = [
        (sequence, position, token)
        for sequence, document in enumerate([*documents, [20, 21, 22, 23], [30, 31], [32]])
        for position, token in enumerate(document)
    ]
    assert places(recorder) == expected
    assert recorder.n_sequences == recorder.site("embed").first.n_tokens == 6


def test_position_ids_of_padded_rows_alone_begin_nothing(llama):
    inputs = batch(llama, "left")
    for fill in (0, 1):
        position_ids = (inputs["attention_mask"].cumsum(1) - 1).masked_fill(inputs["attention_mask"] == 0, fill)
        recorder = record(llama, [inputs | {"position_ids": position_ids}], k=10_000)
        assert places(recorder) == expected_places(inputs)
        assert recorder.n_sequences == 3
    nothing = {key: value.clone() for key, value in inputs.items()}
    nothing["attention_mask"][1] = 0
    nothing["position_ids"] = (nothing["attention_mask"].cumsum(1) - 1).clamp(min=0)
    recorder = record(llama, [nothing], k=10_000)
    assert places(recorder) == expected_places(nothing)


def test_token_types_are_not_counted_as_tokens(gpt2):
    inputs = batch(gpt2, "right")
    recorder = record(gpt2, [inputs | {"token_type_ids": torch.ones_like(inputs["input_ids"])}], k=10_000)
    assert places(recorder) == expected_places(inputs)
    assert recorder.site("embed").n_tokens == 22
