"""What a call says of its tokens: arguments under any name, masks in every form, caches that count or do not."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lmfacts.errors import HookError
from lmfacts.recording.pass_tokens import Arguments, CallReader, EndOfText, TokenReader, named_arguments
from lmfacts.recording.pass_tokens.caches import find_cache, n_cached_columns

IDS = torch.arange(10, 18).reshape(2, 4)
LEAST = torch.finfo(torch.float32).min


class Passes:
    """Calls read one after another."""

    def __init__(self, end=None):
        self.calls, self.reader = CallReader(end or EndOfText()), TokenReader()

    def read(self, ids=IDS, **arguments):
        return self.reader.number(self.calls.read(Arguments(ids, **arguments)))


def tokens(ids=IDS, **arguments):
    return Passes().read(ids, **arguments)


def real(mask, ids=IDS):
    return tokens(ids, mask=mask).real.astype(int).tolist()


class Counting:
    """A cache that says how many columns it has."""

    def __init__(self, length):
        self.length = length

    def get_seq_length(self):
        return self.length


class Recurrent:
    """A cache of states: it does not count, and raises when it is asked to."""

    def __init__(self):
        self.is_filled = False

    def get_seq_length(self):
        raise ValueError("`get_seq_length` can only be called on Attention layers")

    def has_previous_state(self):
        return self.is_filled


# Arguments


@pytest.mark.parametrize("name", ["input_ids", "input", "idx", "src_tokens", "*0"])
def test_ids_are_found_under_any_name(name):
    assert Arguments.of({"use_cache": True, name: IDS, "labels": IDS + 1}).ids is IDS


def test_a_name_that_a_user_gives_goes_first():
    assert Arguments.of({"input_ids": IDS, "speech_codes": IDS + 1}, "speech_codes").ids.tolist() == (IDS + 1).tolist()
    assert Arguments.of({"input_ids": IDS}, "speech_codes").ids is None


@pytest.mark.parametrize(
    "name", ["attention_mask", "position_ids", "labels", "token_type_ids", "cache_position", "logits_to_keep"]
)
def test_integers_of_another_meaning_are_no_ids(name):
    assert Arguments.of({name: IDS}).ids is None


def test_floats_under_a_name_of_ids_are_embeddings():
    embeddings = torch.zeros(2, 4, 8)
    found = Arguments.of({"input": embeddings})
    assert found.ids is None
    assert found.shape == (2, 4)


def test_positional_arguments_without_names_are_kept_in_order():
    named = named_arguments(("a",), (1, IDS, 3), {"b": 4})
    assert list(named) == ["a", "*1", "*2", "b"]
    assert Arguments.of(named).ids is IDS


def test_around_an_encoder_the_decoder_s_arguments_count():
    mask = torch.ones(2, 3)
    given = {
        "input_ids": IDS,
        "attention_mask": torch.ones(2, 4),
        "decoder_input_ids": IDS[:, :3],
        "decoder_attention_mask": mask,
        "past_key_values": Counting(3),
    }
    found = Arguments.of(given, is_around_encoder=True)
    assert found.shape == (2, 3)
    assert found.mask is mask
    assert n_cached_columns(found.cache) == 3
    assert Arguments.of({"input_ids": IDS}, is_around_encoder=True).is_nothing


def test_an_inner_module_adds_what_the_outer_one_was_not_given():
    embeddings, mask = torch.zeros(2, 4, 8), torch.ones(2, 4)
    outer = Arguments(IDS).refined(Arguments(embeddings=embeddings, mask=mask))
    assert outer.ids is IDS
    assert outer.mask is mask
    longer = torch.zeros(2, 6, 8)  # a prompt of vectors was put before the tokens
    assert Arguments(IDS, mask=mask).refined(Arguments(embeddings=longer)).shape == (2, 6)
    assert Arguments(IDS).refined(Arguments()).ids is IDS


@pytest.mark.parametrize("ids", [None, torch.zeros(2, 2, 2, dtype=torch.long)])
def test_a_call_without_tokens_says_what_was_expected(ids):
    with pytest.raises(HookError, match=r"expected token ids \[batch, sequence\].*ids_argument='NAME'"):
        tokens(ids)


def test_one_sequence_may_lack_the_axis_of_the_batch():
    found = tokens(IDS[0], mask=torch.tensor([0, 1, 1, 1]))
    assert found.token_id.tolist() == [[10, 11, 12, 13]]
    assert found.position.tolist() == [[-1, 0, 1, 2]]


# Masks


@pytest.mark.parametrize("dtype", [torch.bool, torch.int32, torch.uint8, torch.float32, torch.bfloat16, torch.float64])
def test_a_mask_of_rows_and_columns(dtype):
    rows = [[0, 1, 1, 1], [1, 1, 0, 0]]
    assert real(torch.tensor(rows).to(dtype)) == rows


@pytest.mark.parametrize("value", [0.5, -1.0, float("nan"), float("inf")])
def test_odd_values_count_as_the_model_takes_them_and_are_noted(value):
    passes = Passes()
    found = passes.read(mask=torch.tensor([[value, 1.0, 1.0, 1.0], [1.0, value, 0.0, 0.0]]))
    assert found.real.astype(int).tolist() == [[1, 1, 1, 1], [1, 1, 0, 0]]
    assert found.n_new_sequences == 2
    assert passes.reader.n_odd_masks == (value != -1.0)
    passes.read(mask=torch.ones(2, 4))
    assert passes.reader.n_odd_masks <= 1


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.float32])
def test_a_mask_that_numbers_documents_begins_sequences(dtype):
    mask = torch.tensor([[1, 1, 2, 2, 0, 0], [0, 1, 0, 1, 2, 3]]).to(dtype)
    found = tokens(torch.arange(12).reshape(2, 6), mask=mask)
    assert np.where(found.real, found.sequence, -1).tolist() == [[0, 0, 1, 1, -1, -1], [-1, 2, -1, 2, 3, 4]]
    assert np.where(found.real, found.position, -1).tolist() == [[0, 1, 0, 1, -1, -1], [-1, 0, -1, 1, 0, 0]]
    assert found.n_new_sequences == 5


def causal(padding, *, fill=None, n_cached=0):
    """Additive scores [B, 1, S, M] for rows of real (1) and padding (0), as models make them."""
    keys = torch.tensor(padding).bool()
    n = keys.shape[1] - n_cached
    allowed = torch.ones(n, keys.shape[1]).tril(n_cached).bool() & keys[:, None, None]
    if fill is not None:  # rows that may attend to nothing attend to everything
        allowed = allowed | (~allowed.any(-1, keepdim=True) if fill else allowed)
    return allowed


@pytest.mark.parametrize("fill", [None, True])
@pytest.mark.parametrize("least", [LEAST, -10_000.0, float("-inf")])
@pytest.mark.parametrize("rows", [[[0, 0, 1, 1], [1, 1, 1, 1]], [[1, 1, 1, 0], [1, 0, 0, 0]]])
def test_a_mask_of_queries_and_keys(rows, least, fill):
    allowed = causal(rows, fill=fill)
    assert real(allowed) == rows
    assert real(allowed.int()) == rows
    assert real(torch.zeros(allowed.shape).masked_fill(~allowed, least)) == rows
    assert real(allowed[:, 0]) == rows  # without the axis of heads


def test_a_mask_of_queries_and_keys_with_a_sliding_window_or_documents():
    window = causal([[0, 1, 1, 1, 1, 1]]) & torch.ones(6, 6).triu(-1).bool()
    assert real(window, torch.arange(6)[None]) == [[0, 1, 1, 1, 1, 1]]
    document = torch.block_diag(torch.ones(3, 3).tril(), torch.ones(3, 3).tril()).bool()[None, None]
    assert real(document, torch.arange(6)[None]) == [[1] * 6]


def test_one_row_of_keys_for_all_queries():
    assert real(torch.tensor([[0, 1, 1, 1], [1, 1, 0, 0]])[:, None, None]) == [[0, 1, 1, 1], [1, 1, 0, 0]]
    assert real(torch.ones(1, 1, 4, 4).tril().bool()) == [[1, 1, 1, 1]] * 2  # one for all rows


def test_a_mapping_of_masks_stands_for_its_first_that_says_something():
    mask = torch.tensor([[0, 1, 1, 1], [1, 1, 1, 0]])
    everything = causal([[1] * 4] * 2)
    assert real({"full_attention": None}) == [[1] * 4] * 2
    assert real({"sliding_attention": everything, "full_attention": mask}) == mask.tolist()
    assert real({"sliding_attention": mask, "full_attention": None}) == mask.tolist()


@pytest.mark.parametrize(
    ("mask", "found"),
    [
        (torch.ones(2, 3), r"shape \(2, 3\)"),
        (torch.ones(3, 4), r"shape \(3, 4\)"),
        (torch.ones(2, 1, 3, 4), r"shape \(2, 1, 3, 4\)"),
        (object(), "object"),
    ],
)
def test_a_mask_that_cannot_be_read_is_refused(mask, found):
    passes = Passes()
    with pytest.raises(HookError, match=f"expected an attention_mask .*got {found}"):
        passes.read(mask=mask)
    assert passes.read().sequence[:, 0].tolist() == [0, 1]


# Caches


@pytest.mark.parametrize("name", ["cache", "past_key_values", "cache_params", "state", "my_own"])
def test_a_cache_is_found_under_any_name(name):
    cache = Counting(3)
    assert find_cache({"input_ids": IDS, "use_cache": True, name: cache}) is cache
    assert find_cache({"input_ids": IDS, "cache": True, "state": None}) is None


def test_the_length_of_a_cache_never_raises():
    keys = torch.zeros(2, 4, 7, 8)
    assert n_cached_columns(None) == 0
    assert n_cached_columns(Counting(torch.tensor([5]))) == 5
    assert n_cached_columns(((keys, keys),)) == 7
    assert n_cached_columns(Recurrent()) is None
    assert n_cached_columns([torch.zeros(2)]) is None
    assert n_cached_columns(object()) is None


@pytest.mark.parametrize("masked", ["no mask", "mask of all columns", "mask of the new columns", "static mask"])
def test_a_pass_goes_on_where_the_one_before_ended(masked):
    passes, cache = Passes(), Counting(0)
    rows = torch.tensor([[0, 0, 1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 1, 1, 1]])
    static = torch.cat([rows, torch.zeros(2, 8, dtype=torch.long)], dim=1)
    found = []
    for start, end in ((0, 4), (4, 5), (5, 8)):
        static[:, end:] = 0
        mask = {
            "no mask": None if start else rows[:, :end],
            "mask of all columns": rows[:, :end],
            "mask of the new columns": rows[:, start:end],
            "static mask": static.clone(),
        }[masked]
        static[:, 4:8] = 1
        cache.length = start
        found.append(passes.read(torch.arange(end - start).expand(2, -1), mask=mask, cache=cache))
    assert [one.position[0].tolist() for one in found] == [[-1, -1, 0, 1], [2], [3, 4, 5]]
    assert [one.position[1].tolist() for one in found] == [[0, 1, 2, 3], [4], [5, 6, 7]]
    assert {tuple(one.sequence[:, 0]) for one in found} == {(0, 1)}
    assert passes.reader.n_sequences == 2


def test_caches_that_take_turns_are_told_apart():
    passes, one, other = Passes(), Counting(0), Counting(0)
    for cache in (one, other):
        passes.read(cache=cache)
        cache.length = 4
    sequences = [passes.read(IDS[:, :1], cache=cache).sequence[:, 0].tolist() for cache in (one, other, one)]
    assert sequences == [[0, 1], [2, 3], [0, 1]]
    one.length = 0  # emptied, and used again
    assert passes.read(cache=one).sequence[:, 0].tolist() == [4, 5]


def test_a_cache_that_was_cut_back_goes_on_with_its_sequences():
    passes, cache = Passes(), Counting(0)
    passes.read(cache=cache)
    cache.length = 2  # the last two of a guess were not accepted
    found = passes.read(IDS[:, :3], cache=cache)
    assert (found.position[0].tolist(), found.sequence[:, 0].tolist()) == ([2, 3, 4], [0, 1])


def test_a_cache_that_nobody_saw_filled_begins_sequences_in_their_middle():
    found = tokens(IDS[:, :2], cache=Counting(5))
    assert (found.position[0].tolist(), found.n_new_sequences) == ([5, 6], 2)
    masked = tokens(IDS[:, :2], cache=Counting(5), mask=torch.tensor([[0, 0, 1, 1, 1, 1, 1], [1] * 7]))
    assert masked.position[:, 0].tolist() == [3, 5]


def test_a_cache_that_does_not_count_is_counted_for():
    passes, cache = Passes(), Recurrent()
    passes.read(cache=cache)
    cache.is_filled = True
    assert passes.read(IDS[:, :1], cache=cache).position[:, 0].tolist() == [4, 4]
    assert passes.read(IDS[:, :1], cache=cache).position[:, 0].tolist() == [5, 5]
    cache.is_filled = False
    assert passes.read(cache=cache).sequence[:, 0].tolist() == [2, 3]


def test_a_longer_mask_alone_says_that_there_is_a_cache():
    passes = Passes()
    passes.read()
    found = passes.read(IDS[:, :1], mask=torch.ones(2, 5))
    assert (found.position[:, 0].tolist(), found.sequence[:, 0].tolist()) == ([4, 4], [0, 1])


# The end of generated text


def test_the_ids_at_the_end_come_from_the_tokenizer_or_the_model():
    class Config:
        pad_token_id, eos_token_id = None, [2, 3]

    class Model:
        config = Config()

    class Tokenizer:
        pad_token_id, eos_token_id = 7, 2

    assert EndOfText.of(Model()) == EndOfText(2, (2, 3))
    assert EndOfText.of(Model(), Tokenizer()) == EndOfText(7, (2, 3))
    assert EndOfText.of(object()) == EndOfText()


@pytest.mark.parametrize("padding", [0, 2])
def test_padding_after_the_end_is_not_a_token(padding):
    passes, cache = Passes(EndOfText(padding, (2,))), Counting(0)
    passes.read(torch.tensor([[5, 6, 2], [5, 0, 7]]), cache=cache)  # an end within the prompt ends nothing
    kept = []
    for step, column in enumerate(
        [[0 if padding == 0 else 9, 9], [2, 9], [padding, 2], [padding, padding], [9, padding]]
    ):
        cache.length = 3 + step
        kept.append(passes.read(torch.tensor(column)[:, None], cache=cache).real[:, 0].tolist())
    assert [row[0] for row in kept] == [True, True, False, False, True]
    assert [row[1] for row in kept] == [True, True, True, False, False]


def test_what_a_mask_calls_real_in_a_longer_pass_is_real():
    passes, cache = Passes(EndOfText(0, (2,))), Counting(0)
    passes.read(cache=cache)
    cache.length = 4
    passes.read(torch.tensor([[2], [2]]), cache=cache)
    cache.length = 5
    assert passes.read(torch.tensor([[0, 5], [0, 6]]), cache=cache).n_real == 4  # the next turn of a talk
