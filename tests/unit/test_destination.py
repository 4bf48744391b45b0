"""Where files may be written, and what happens to what killed processes left there."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from lmfacts.demo import MODEL_DIR
from lmfacts.errors import DestinationError, RunFileError, UsageError
from lmfacts.export import export_run
from lmfacts.files.atomic import replacing, workshop
from lmfacts.files.destination import check_destination, model_inputs
from lmfacts.render.page.output import checked_destination
from support.synthetic_runs import gaussian_run

ROOT = os.geteuid() == 0


@pytest.fixture
def text(tmp_path):
    file = tmp_path / "p.txt"
    file.write_text("some words")
    return file


def files_in(folder):
    return sorted(entry.name for entry in folder.iterdir())


@pytest.mark.parametrize("name", ["new.lmfacts", "p.txt", "é\udcff", "n" * 250])
def test_a_new_name_or_a_regular_file_is_written(tmp_path, text, name):
    assert check_destination(tmp_path / name) == tmp_path / name
    with replacing(tmp_path / name) as temporary:
        temporary.write_text("whole")
    assert (tmp_path / name).read_text() == "whole"
    assert files_in(tmp_path) == sorted({name, "p.txt"})


def test_what_is_no_regular_file_is_refused_and_stays(tmp_path):
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
        (tmp_path / "loop").symlink_to("loop")
        (tmp_path / "to-folder").symlink_to("folder")
        (tmp_path / "to-device").symlink_to("/dev/null")
        before = {entry.name: entry.lstat() for entry in tmp_path.iterdir()}
        for name, kind in {
            "folder": "a folder",
            "pipe": "a pipe",
            "socket": "a socket",
            "/dev/null": "a device",
            "to-folder": "a folder",
            "to-device": "a device",
            "loop": "symbolic links",
            "folder/missing/x": "there is no folder",
            "pipe/x": "there is no folder",
            "n" * 256: "too long",
            "no\0name": "null byte",
        }.items():
            with pytest.raises(DestinationError, match=kind) as caught, replacing(tmp_path / name):
                pytest.fail("it was opened")
            assert caught.value.exit_code == 2
        with pytest.raises(DestinationError, match="without a name"):
            check_destination("")
        assert {entry.name: entry.lstat() for entry in tmp_path.iterdir()} == before
    assert not Path("/dev/null").is_file()


def test_a_file_without_a_name_is_refused(tmp_path, text):
    with text.open() as file:
        text.unlink()
        with pytest.raises(DestinationError, match="has no name"):
            check_destination(f"/proc/self/fd/{file.fileno()}")


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_stands_for_what_it_points_to(tmp_path, text, exists):
    link = tmp_path / "link"
    link.symlink_to("p.txt" if exists else "new.txt")
    with replacing(link) as temporary:
        temporary.write_text("whole")
    assert link.is_symlink()
    assert link.read_text() == "whole"
    assert not (tmp_path / ("p.txt" if exists else "new.txt")).is_symlink()


@pytest.mark.skipif(ROOT, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_written_to(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(DestinationError, match="not writable"):
        check_destination(tmp_path / "a")


# Inputs


@pytest.mark.parametrize("spelling", ["p.txt", "./p.txt", "../{folder}/p.txt", "symbolic", "hard", "{absolute}"])
def test_an_input_is_no_destination_by_any_spelling(tmp_path, monkeypatch, text, spelling):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "symbolic").symlink_to("p.txt")
    (tmp_path / "hard").hardlink_to(text)
    name = spelling.format(folder=tmp_path.name, absolute=text)
    for given, asked in ((name, "p.txt"), ("p.txt", name)):
        with pytest.raises(DestinationError, match="which is read, and would be lost"):
            check_destination(given, [asked])
    check_destination("q.txt", [name])


def test_two_outputs_that_do_not_exist_are_told_apart_by_name(tmp_path):
    (tmp_path / "link").symlink_to("a")
    with pytest.raises(DestinationError, match="the same file"):
        check_destination(tmp_path / "link", [tmp_path / "a"])
    check_destination(tmp_path / "b", [tmp_path / "a"])


def test_in_a_folder_that_is_read_only_run_files_are_replaced(tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.txt", "b.bin", "c.lmfacts"):
        (tmp_path / "in" / name).touch()
    for name in ("a.txt", "b.bin"):
        with pytest.raises(DestinationError, match="which is read"):
            check_destination(tmp_path / "in" / name, [tmp_path])
    check_destination(tmp_path / "in" / "c.lmfacts", [tmp_path])
    check_destination(tmp_path / "in" / "new.txt", [tmp_path])
    check_destination(tmp_path / "in" / "c.lmfacts", model_inputs(tmp_path))
    (tmp_path / "in" / "d.lmfacts").symlink_to("b.bin")
    with pytest.raises(DestinationError, match="which is read"):
        check_destination(tmp_path / "in" / "d.lmfacts", model_inputs(tmp_path))


def test_standard_input_is_an_input(text):
    with text.open() as file, pytest.raises(DestinationError, match="standard input"):
        check_destination(text, [file.fileno()])


def test_what_is_read_of_a_model(tmp_path):
    for name in ("m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "config.json", "notes.txt"):
        (tmp_path / name).touch()
    assert {path.name for path in model_inputs(tmp_path / "m-00001-of-00002.gguf")} == {
        *("m-00001-of-00002.gguf", "m-00002-of-00002.gguf", "config.json"),
    }
    assert {tmp_path, tmp_path / "notes.txt"} < set(model_inputs(tmp_path))
    assert MODEL_DIR / "model.safetensors" in set(model_inputs("demo"))
    assert list(model_inputs("org/name")) == list(model_inputs("")) == list(model_inputs("x" * 300)) == []


def test_what_is_made_of_a_run_is_not_written_over_it(tmp_path):
    path = tmp_path / "run.json"
    run = gaussian_run()
    run.path = run.save(path)
    before = path.read_bytes()
    with pytest.raises(DestinationError, match=r"it is .*run\.json, which is read"):
        export_run(run, path)
    path = path.rename(tmp_path / "run.md")
    with pytest.raises(DestinationError, match=r"it is .*run\.md, which is read"):
        checked_destination(path, [path])
    figures = tmp_path / "page_figures"
    figures.mkdir()
    (figures / "f1-a.svg").hardlink_to(path)
    with pytest.raises(DestinationError, match=r"f1-a\.svg: it is .*run\.md"):
        checked_destination(tmp_path / "page.md", [path])
    assert path.read_bytes() == before
    assert issubclass(DestinationError, UsageError | RunFileError)


# What killed processes leave


KILLED = """
import os, pathlib, signal, sys
from lmfacts.files.atomic import replacing
with replacing(sys.argv[1]) as temporary:
    temporary.write_text("half")
    (temporary.parent / ".library's own").write_text("more")
    print("ready", flush=True)
    signal.pause()
"""


def test_what_a_killed_process_left_goes_and_what_a_living_one_makes_stays(tmp_path):
    def start(name):
        command = [sys.executable, "-c", KILLED, str(tmp_path / name)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert process.stdout.readline() == "ready\n"
        return process

    with start("a") as killed, start("a") as living, start("b") as other:
        left = files_in(tmp_path)
        assert len(left) == 3
        killed.send_signal(signal.SIGKILL)
        other.send_signal(signal.SIGKILL)
        killed.wait()
        other.wait()
        assert files_in(tmp_path) == left
        (tmp_path / ".a.1.01234567.tmp").write_text("a file, as earlier versions left it")
        (tmp_path / ".a.1.txt.tmp").write_text("somebody else's")
        with replacing(tmp_path / "a") as temporary:
            temporary.write_text("whole")
        now = set(files_in(tmp_path))
        assert {"a", ".a.1.txt.tmp"} < now
        assert [name for name in left if name in now] == [
            name for name in left if f".{living.pid}." in name or f".{other.pid}." in name
        ]
        living.send_signal(signal.SIGKILL)


def test_a_link_called_like_a_leftover_is_not_followed(tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").touch()
    (tmp_path / ".a.1.01234567.tmp").symlink_to("precious")
    with workshop(tmp_path / "a") as folder:
        assert folder.is_dir()
    assert files_in(tmp_path / "precious") == ["file"]
    assert not folder.exists()
