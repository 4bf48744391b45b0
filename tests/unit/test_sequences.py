"""From text to batches, with the embedded byte-level tokenizer: a token is a byte."""

from __future__ import annotations

import json

import numpy as np
import pytest
from transformers import AutoTokenizer

from lmfacts.demo import MODEL_DIR
from lmfacts.text.corpus import Corpus
from lmfacts.text.sequences import Sequences

EOS = 256


@pytest.fixture(scope="module")
def tokenizer():
    return AutoTokenizer.from_pretrained(MODEL_DIR)


@pytest.fixture
def corpus(tmp_path):
    texts = ["abcdefghij", "", "klm", "nopqrstuvwxyz"]
    file = tmp_path / "a.jsonl"
    file.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return Corpus(file)


def rows(sequences, batch_size=3):
    return [
        [int(i) for i in ids[mask == 1]]
        for batch in sequences.batches(batch_size)
        for ids, mask in zip(batch.input_ids, batch.attention_mask, strict=True)
    ]


def stream():
    return [*b"abcdefghij", EOS, EOS, *b"klm", EOS, *b"nopqrstuvwxyz", EOS]


def test_packed_sequences_are_the_stream_cut(corpus, tokenizer):
    sequences = Sequences(corpus, tokenizer, seq_len=8)
    expected = stream()
    assert rows(sequences) == [expected[i : i + 8] for i in range(0, len(expected), 8)]
    assert (
        sequences.describe() | {"packed": True, "separator": "<|endoftext|>", "bos_token": None} == sequences.describe()
    )
    assert sequences.n_documents == 4


@pytest.mark.parametrize("batch_size", [1, 2, 7])
def test_the_batch_size_changes_no_sequence(corpus, tokenizer, batch_size):
    assert rows(Sequences(corpus, tokenizer, seq_len=5), batch_size) == rows(Sequences(corpus, tokenizer, seq_len=5), 3)


@pytest.mark.parametrize("limit", [1, 8, 11, 29, 1000])
def test_the_limit_is_met_exactly(corpus, tokenizer, limit):
    got = [token for row in rows(Sequences(corpus, tokenizer, seq_len=8, max_tokens=limit)) for token in row]
    assert got == stream()[:limit]


def test_one_document_a_sequence_is_cut_off_and_counted(corpus, tokenizer):
    sequences = Sequences(corpus, tokenizer, seq_len=12, pack=False)
    assert rows(sequences) == [[*b"abcdefghij"], [*b"klm"], [*b"nopqrstuvwxy"]]
    described = sequences.describe()
    assert (described["n_documents"], described["n_documents_cut_off"]) == (4, 1)


def test_padding_is_on_the_right_and_masked(corpus, tokenizer):
    batch = next(Sequences(corpus, tokenizer, seq_len=12, pack=False).batches(3))
    assert batch.input_ids.shape == (3, 12)
    assert batch.attention_mask.sum(axis=1).tolist() == [10, 3, 12]
    assert np.all(np.diff(batch.attention_mask, axis=1) <= 0)


class WithBos:
    """The embedded tokenizer, but with a token put before every text."""

    bos_token_id, eos_token_id, pad_token_id = 0, EOS, None

    def __call__(self, text, *, add_special_tokens, verbose):
        ids = list(text.encode())
        return {"input_ids": [0, *ids] if add_special_tokens else ids}

    def convert_ids_to_tokens(self, i):
        return f"<{i}>"


def test_a_tokenizers_own_beginning_starts_every_sequence(corpus):
    expected = stream()
    packed = Sequences(corpus, WithBos(), seq_len=8)
    assert rows(packed) == [[0, *expected[i : i + 7]] for i in range(0, len(expected), 7)]
    assert packed.describe()["bos_token"] == "<0>"
    assert rows(Sequences(corpus, WithBos(), seq_len=5, pack=False))[1] == [0, *b"klm"]


def test_bytes_read_reach_the_size_of_the_corpus(corpus, tokenizer):
    last = list(Sequences(corpus, tokenizer, seq_len=8).batches(2))[-1]
    assert last.n_bytes_read == corpus.n_bytes
