"""Reading text: what is found, how it is cut into pieces, and what is refused."""

from __future__ import annotations

import io
import json
import os
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lmfacts.errors import CorpusError, UsageError
from lmfacts.text import json_texts, plain_text
from lmfacts.text.corpus import Corpus


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
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plain_text, "_BLOCK_BYTES", block)
        pieces = list(plain_text.text_pieces(io.BytesIO(text.encode()), "memory"))
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
        ("{" + ", ".join(f'"{i}{"k" * 99}": 1' for i in range(99)) + "}", f"'19{'k' * 78}...' and 79 more; name the"),
        ("{}", "got the fields none"),
        ('{"text": 3}', "expected text, got a number"),
        ("{not json", "expected a JSON object"),
        ("[1]", "expected text, got a list"),
        ('{"text": null}', "expected text, got null"),
        ("[" * 100_000, "nested too deeply"),
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
    (tmp_path / "c.TXT").write_text("third")
    (tmp_path / "d.JSONL").write_text('{"text": "fourth"}\n')
    (tmp_path / "e.ndjson").write_text('"fifth"\n')
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "ignored.bin").write_bytes(b"\0")
    (tmp_path / "empty.txt").write_text("")
    assert documents(Corpus(tmp_path)) == ["first", "second", "third", "fourth", "fifth"]


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


# JSON files


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ('[{"text": "one"}, "two",\n {"text": "three"}]\n', ["one", "two", "three"]),
        (' \n[ "one" ] ', ["one"]),
        ('{"id": 1, "text": "one"}', ["one"]),
        ('{\n  "text": "one",\n  "id": [1, 2]\n}\n', ["one"]),
        ('{"text": "one"}\n{"text": "two"}\r\n\n"three"', ["one", "two", "three"]),
        ('\ufeff["one"]', ["one"]),
        ("[]", []),
        ('["\\ud83e\\udd80"]', ["🦀"]),
    ],
)
@pytest.mark.parametrize("block", [1, 7, 1 << 16])
def test_a_json_file_is_a_list_of_records_or_records_in_a_row(tmp_path, monkeypatch, content, expected, block):
    monkeypatch.setattr(json_texts, "_BLOCK_BYTES", block)
    file = tmp_path / "a.JSON"
    file.write_text(content)
    corpus = Corpus(file)
    assert documents(corpus) == expected
    pieces = list(corpus)
    assert not pieces or 0 < sum(piece.n_bytes for piece in pieces) <= corpus.n_bytes


@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=40)), st.integers(1, 30), st.booleans())
def test_what_json_writes_comes_back_whatever_the_block(texts, block, ascii_only):
    stream = io.BytesIO(json.dumps(texts, ensure_ascii=ascii_only).encode())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_texts, "_BLOCK_BYTES", block)
        assert [value for value, _, _ in json_texts.JsonRecords(stream, "memory").values()] == texts


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('["one", {"body": "x"}]', "record 2: expected a field 'text', got the fields 'body'"),
        ('["one" "two"]', "record 2: expected JSON, got '\"' where , or ] should be"),
        ('["one", ', "record 2: expected JSON, got Expecting value"),
        ('["one"', "got an end before its ]"),
        ('["one"] ["two"]', "something after a list"),
        ('["one", nope' + ", 1" * 100, "record 2: expected JSON, got Expecting value"),
        ('{"text": "cut off', "record 1: expected JSON, got Unterminated string"),
        ("[1, 2]", "record 1: expected text, got a number"),
        ("prose", "expected JSON"),
        ("[" * 100_000, "nested too deeply"),
    ],
)
def test_a_json_file_that_is_none_is_refused(tmp_path, content, said):
    file = tmp_path / "a.json"
    file.write_text(content)
    with pytest.raises(CorpusError, match=r"a\.json") as error:
        documents(Corpus(file))
    assert said in str(error.value)


def test_an_error_in_a_json_file_is_found_where_it_is(tmp_path):
    class Endless(io.RawIOBase):
        n_bytes = 0

        def read(self, n_bytes=-1):
            self.n_bytes += n_bytes
            return b"nonsense " * (n_bytes // 9)

    stream = Endless()
    with pytest.raises(CorpusError, match="record 1: expected JSON"):
        next(json_texts.JsonRecords(stream, "endless").values())
    assert stream.n_bytes < 1 << 20


@pytest.mark.parametrize("name", ["a.jsonl", "a.json"])
def test_half_a_surrogate_pair_is_skipped_and_counted(tmp_path, name):
    file = tmp_path / name
    file.write_bytes(b'{"text":"one"}\n{"text":"bad \\ud83d lone"}\n"\\udc00"\n{"text":"\\ud83e\\udd80"}\n')
    corpus = Corpus(file)
    assert documents(corpus) == ["one", "🦀"]
    assert corpus.n_skipped == 2
    assert f"{'line' if name == 'a.jsonl' else 'record'} 2: '\\ud83d' is half" in corpus.first_skipped
    assert sum(piece.n_bytes for piece in corpus) == corpus.n_bytes


# Where text ends, and what has none


def test_a_file_that_grows_is_read_to_the_size_that_it_had(tmp_path):
    text, lines = tmp_path / "a.txt", tmp_path / "b.jsonl"
    text.write_bytes("süß".encode()[:-1])
    lines.write_bytes(b'"one"\n"tw')
    corpus = Corpus([text, lines])
    with text.open("ab") as first, lines.open("ab") as second:
        first.write("ß and more".encode()[1:])
        second.write(b'o"\n"three"\n')
    assert documents(corpus) == ["sü", "one"]
    assert corpus.describe()["files"] == [{"path": str(text), "n_bytes": 4}, {"path": str(lines), "n_bytes": 9}]


def test_a_file_that_ends_in_the_middle_and_does_not_grow_is_damaged(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes(b'"one"\n"tw')
    with pytest.raises(CorpusError, match="line 2"):
        documents(Corpus(file))


def test_a_file_that_is_gone_is_named_and_still_described(tmp_path):
    file = tmp_path / "a.txt"
    file.write_text("words")
    corpus = Corpus(file)
    file.unlink()
    with pytest.raises(CorpusError, match=r"a\.txt: expected text to read, and it cannot be read any more"):
        documents(corpus)
    assert corpus.describe() == {"kind": "files", "files": [{"path": str(file), "n_bytes": 5}], "n_bytes": 5}


def test_a_pipe_is_read_to_its_end(tmp_path):
    pipe = tmp_path / "pipe.txt"
    os.mkfifo(pipe)
    writer = threading.Thread(target=lambda: pipe.write_text("from a pipe"))
    writer.start()
    corpus = Corpus(pipe)
    assert documents(corpus) == ["from a pipe"]
    writer.join()
    assert corpus.describe() == {"kind": "files", "files": [{"path": str(pipe)}], "n_bytes": None}


@pytest.mark.parametrize(
    ("source", "error", "said"),
    [
        ("", UsageError, "empty name; is a variable not set"),
        ([], UsageError, "empty list"),
        (["-", "a.txt", "-"], UsageError, "got it twice"),
        ("no\0name", CorpusError, "null"),
        ("x" * 300, CorpusError, "too long"),
        ("table.CSV", CorpusError, r"got \.csv"),
        ("/dev/null", CorpusError, "got nothing"),
        ("/dev/zero", CorpusError, "a zero byte"),
    ],
)
def test_sources_that_have_no_text(tmp_path, monkeypatch, source, error, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("words")
    (tmp_path / "table.CSV").write_text("a,b\n")
    with pytest.raises(error, match=said):
        documents(Corpus(source))


@pytest.mark.parametrize("stdin", [None, io.StringIO("no bytes")])
def test_standard_input_that_is_closed(monkeypatch, stdin):
    monkeypatch.setattr("sys.stdin", stdin)
    with pytest.raises(CorpusError, match="standard input: expected text, and it is closed here"):
        Corpus("-")


def test_a_link_to_nothing_in_a_folder_is_named(tmp_path):
    (tmp_path / "a.txt").write_text("words")
    (tmp_path / "b.txt").symlink_to("nowhere")
    with pytest.raises(FileNotFoundError, match=r"b\.txt: .*points to nothing"):
        Corpus(tmp_path)


def test_what_may_not_be_read_is_named_before_anything_is_read(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text("words")
    (tmp_path / "b.txt").write_text("secret")
    monkeypatch.setattr(os, "access", lambda path, _mode: not str(path).endswith("b.txt"))
    with pytest.raises(CorpusError, match=r"b\.txt: .*may not be read"):
        Corpus(tmp_path)


def test_lines_that_end_as_on_windows_and_a_mark_at_the_beginning(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_bytes('\ufeff{"text": "one"}\r\n{"text": "two\\r\\n"}\r\n'.encode())
    assert documents(Corpus(file)) == ["one", "two\r\n"]
