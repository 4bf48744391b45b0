"""How commands end: never with a traceback, whatever is closed, full, broken, or asked to stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

import lmfacts
from lmfacts import uncaught
from lmfacts.errors import CorpusError, DestinationError
from lmfacts.uncaught import explain
from support.synthetic_runs import gaussian_run

LMFACTS = f"lmfacts() {{ '{sys.executable}' -m lmfacts \"$@\"; }}; "
ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "LMFACTS_NUM_THREADS": "1"}


@pytest.fixture
def folder(tmp_path):
    gaussian_run().save(tmp_path / "run.lmfacts")
    (tmp_path / "p.txt").write_text("some words here " * 50)
    return tmp_path


def shell(command, cwd, **environment):
    """A line of bash in which every part of a pipe counts."""
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", LMFACTS + command],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        env={**ENVIRONMENT, **environment},
    )
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    return done


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("lmfacts show run.lmfacts | true", 0, ""),
        ("lmfacts info --json | head -c 1", 0, ""),
        ("lmfacts facts run.lmfacts --require F2 | true", 4, "F2"),
        ("lmfacts show run.lmfacts > /dev/full", 1, "No space left on device"),
        ("lmfacts show run.lmfacts --json > /dev/full", 1, "No space left on device"),
        ("lmfacts show run.lmfacts >&-", 0, ""),
        ("lmfacts show gone.lmfacts 2>&-", 2, ""),
        ("lmfacts show gone.lmfacts <&- >&-", 2, "gone.lmfacts"),
        ("lmfacts export run.lmfacts -o x.csv <&- >&- 2>&-; test -s x.csv && ! grep -q saved x.csv", 0, ""),
        ("lmfacts export run.lmfacts -o run.lmfacts", 2, "has to end in"),
        ("lmfacts report run.lmfacts -o .", 2, "."),
        (
            "lmfacts export run.lmfacts -o x.csv > x.csv; s=$?; test -e x.csv && exit $s",
            2,
            "where standard output goes",
        ),
        ("lmfacts demo -o .", 2, "Cannot write .: it is a folder"),
        ("cp run.lmfacts r.md; lmfacts report r.md -o r.md", 2, "which is read"),
        ("cp run.lmfacts r.json; lmfacts export r.json -o ./r.json; cmp run.lmfacts r.json", 0, "which is read"),
        ("ln -s x.lmfacts x-weights.lmfacts; lmfacts demo -o x.lmfacts", 2, "the same file"),
        ("lmfacts scan demo - -o s.lmfacts <&-", 1, "standard input"),
        ("lmfacts scan demo '' -o s.lmfacts", 2, "empty name"),
        ("lmfacts scan demo p.txt -o p.txt", 2, "which is read"),
        ("lmfacts scan demo - -o p.txt < p.txt", 2, "standard input, which is read"),
        ("lmfacts scan '' p.txt -o s.lmfacts", 2, "empty name"),
        ("lmfacts weights '' -o s.lmfacts", 2, "empty name"),
    ],
)
def test_endings(folder, command, code, said):
    before = (folder / "p.txt").read_bytes()
    done = shell(command, folder)
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert (folder / "p.txt").read_bytes() == before
    assert not (folder / "s.lmfacts").exists()


def test_a_scan_whose_output_cannot_be_printed_says_where_the_run_is(folder):
    done = shell("lmfacts scan demo p.txt -q -s embed -o s.lmfacts > /dev/full", folder)
    assert done.returncode == 1
    assert "No space left on device The run is saved in s.lmfacts." in done.stderr
    assert lmfacts.load(folder / "s.lmfacts").complete
    done = shell("lmfacts scan demo p.txt -q -s embed -o s.lmfacts | true", folder)
    assert (done.returncode, "saved s.lmfacts" in done.stderr) == (0, True)


BROKEN = {
    "the commands cannot be loaded": (
        "lmfacts.cli.show",
        "raise ImportError('no module named spam')",
        1,
        "ImportError: no mo",
    ),
    "an error that nobody thought of": (
        "lmfacts.run",
        "raise ZeroDivisionError('division by zero')",
        1,
        "ZeroDivisionError: division",
    ),
    "no memory": ("lmfacts.run", "raise MemoryError", 1, "out of memory (set"),
    "too deep": ("lmfacts.run", "f = lambda: f()\nf()", 1, "RecursionError: maximum recursion"),
    "a stop": ("lmfacts.run", "raise KeyboardInterrupt", 130, "interrupted; nothing was saved"),
    "a stop while the commands are loaded": (
        "lmfacts.cli.show",
        "raise KeyboardInterrupt",
        130,
        "interrupted; nothing was saved",
    ),
}


@pytest.mark.parametrize("why", BROKEN)
def test_whatever_is_left_over_becomes_a_sentence(folder, why):
    module, code, exit_code, said = BROKEN[why]
    # A module of that name, found before the real one, does what goes wrong.
    program = f"""
import importlib.abc, importlib.util, sys
class Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path, target=None):
        return importlib.util.spec_from_loader(name, self) if name == {module!r} else None
    def exec_module(self, module):
        exec({code!r}, vars(module))
sys.meta_path.insert(0, Finder())
sys.argv = ["lmfacts", "show", "run.lmfacts"]
from lmfacts.__main__ import main
main()
"""
    for wanted in ("", "1"):
        done = subprocess.run(
            [sys.executable, "-c", program],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            env={**ENVIRONMENT, uncaught.TRACEBACK: wanted},
        )
        assert done.returncode == exit_code
        assert done.stdout == ""
        lines = done.stderr.splitlines()
        assert lines[-1].startswith(f"lmfacts: {said}")
        assert (len(lines) == 1) == (wanted == "")
        assert ("Traceback" in done.stderr) == (wanted == "1")


def test_sentences_have_the_code_of_their_error_and_one_line():
    assert explain(DestinationError("no.")) == ("no.", 2)
    error = CorpusError("gone.")
    error.add_note("What there is is here.")
    assert explain(error) == ("gone. What there is is here.", 1)
    sentence, code = explain(RuntimeError("one\ntwo" + " word" * 1000))
    assert code == 1
    assert sentence.startswith("RuntimeError: one two word word")
    assert "LMFACTS_TRACEBACK=1" in sentence
    assert len(sentence) < 600


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
def test_a_stop_while_the_model_is_loaded_saves_nothing(folder, number):
    command = [sys.executable, "-m", "lmfacts", "scan", "demo", "-", "-o", "s.lmfacts"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, **pipes) as process:
        line = process.stderr.readline()
        while b"scanning" not in line:  # it waits for text that does not come
            assert line, "the scan ended before it began"
            line = process.stderr.readline()
        time.sleep(0.5)
        process.send_signal(number)
        process.wait(timeout=120)
        err = process.stderr.read()
    assert process.returncode == 130
    assert b"interrupted; nothing was saved" in err
    assert not (folder / "s.lmfacts").exists()
