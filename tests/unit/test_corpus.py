"""Reading text: what is found, how it is cut into pieces, and what is refused."""

from __future__ import annotations

import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmfacts import corpus as corpus_module
from lmfacts.corpus import Corpus
from lmfacts.errors import CorpusError


def documents(corpus):
    """The documents' texts, put together from their pieces."""
    texts, current = [], ""
    for piece in corpus:
        current += piece.text
        if piece.ends_document:
            texts.append(current)
            current = ""
    assert not current, "the last piece must end its document"
    return texts


def test_a_text_file_is_one_document(tmp_path):
    file = tmp_path / "a.txt"
    file.write_bytes("\ufeffline one\r\nzweite Zeile: süß 🦀\n".encode())
    corpus = Corpus(file)
    assert documents(corpus) == ["line one\r\nzweite Zeile: süß 🦀\n"]
    assert corpus.n_bytes == file.stat().st_size == sum(piece.n_bytes for piece in corpus)


@given(st.text(st.characters(exclude_characters="\0\ufeff", codec="utf-8"), min_size=1), st.integers(1, 9))
def test_pieces_put_together_are_the_text_whatever_the_block(text, block):
    before = corpus_module._BLOCK_BYTES
    corpus_module._BLOCK_BYTES = block
    try:
        pieces = list(corpus_module._text_pieces(io.BytesIO(text.encode()), "memory"))
    finally:
        corpus_module._BLOCK_BYTES = before
    assert "".join(piece.text for piece in pieces) == text
    assert [piece.ends_document for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert sum(piece.n_bytes for piece in pieces) == len(text.encode())


def test_a_large_file_comes_in_pieces_that_end_with_a_line(tmp_path):
    file = tmp_path / "large.txt"
    file.write_text("some words on a line\n" * 20_000)
    pieces = list(Corpus(file))
    assert len(pieces) > 3
    assert all(piece.text.endswith("\n") for piece in pieces)


def test_jsonl_lines_are_documents(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "one"}\n\n{"other": 1, "text": "two\\nlines"}\n"three"\n')
    assert documents(Corpus(file)) == ["one", "two\nlines", "three"]
    file.write_text(json.dumps({"body": "four"}) + "\n")
    assert documents(Corpus(file, text_field="body")) == ["four"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"body": "x"}', "expected a field 'text', got the fields 'body'"),
        ('{"text": 3}', "expected text, got int"),
        ("{not json", "expected a JSON object"),
        ("[1]", "expected text, got list"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, said):
    file = tmp_path / "a.jsonl"
    file.write_text('{"text": "fine"}\n' + line + "\n")
    with pytest.raises(CorpusError, match="line 2") as error:
        documents(Corpus(file))
    assert said in str(error.value)


def test_a_folder_gives_its_text_files_in_order_of_path(tmp_path):
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "1.txt").write_text("second")
    (tmp_path / "a.jsonl").write_text('{"text": "first"}\n')
    (tmp_path / "c.txt").write_text("third")
    (tmp_path / "ignored.bin").write_bytes(b"\0")
    (tmp_path / "empty.txt").write_text("")
    assert documents(Corpus(tmp_path)) == ["first", "second", "third"]


def test_standard_input(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"from a pipe")))
    corpus = Corpus("-")
    assert documents(corpus) == ["from a pipe"]
    assert corpus.n_bytes is None
    assert corpus.describe() == {"kind": "stdin"}


def test_without_a_source_it_is_the_embedded_text():
    from pydoc_data.topics import topics

    corpus = Corpus()
    assert documents(corpus) == [topics[name] for name in sorted(topics)]
    assert corpus.describe()["kind"] == "embedded"


def test_what_cannot_be_read_is_refused_before_anything_is_read(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"missing\.txt: no such file"):
        Corpus(tmp_path / "missing.txt")
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(CorpusError, match="got an empty file"):
        Corpus(tmp_path / "empty.txt")
    with pytest.raises(CorpusError, match="1 empty files"):
        Corpus(tmp_path)
    (tmp_path / "sub").mkdir()
    with pytest.raises(CorpusError, match="got none"):
        Corpus(tmp_path / "sub")
    (tmp_path / "table.parquet").write_bytes(b"PAR1")
    with pytest.raises(CorpusError, match=r"got \.parquet"):
        Corpus(tmp_path / "table.parquet")


@pytest.mark.parametrize(
    "content", [b"MZ\x00\x01binary", b"\xff\xfe\xfa", b"fine until \xe2\x28\xa1 here", b"cut in a character \xe2\x82"]
)
def test_a_binary_file_is_not_text(tmp_path, content):
    file = tmp_path / "a.txt"
    file.write_bytes(content)
    with pytest.raises(CorpusError, match=r"a\.txt: expected UTF-8 text"):
        documents(Corpus(file))
