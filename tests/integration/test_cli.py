"""The command line as a person or a program uses it: whole processes, their output, their exit codes."""

from __future__ import annotations

import json
import os
import pickle
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel

import lmfacts
from lmfacts.__main__ import main
from lmfacts.demo import MODEL_DIR
from lmfacts.run.file import METADATA_KEY

ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "LMFACTS_NUM_THREADS": "1"}


def lmfacts_command(*arguments, cwd, stdin=None, **environment):
    return subprocess.run(
        [sys.executable, "-m", "lmfacts", *map(str, arguments)],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        check=False,
        env={**ENVIRONMENT, **environment},
    )


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("A function definition defines a user-defined function object.\n" * 40)
    return file


@pytest.fixture(scope="module")
def saved(tmp_path_factory, text):
    """A scan through the command line: the process, and the file it wrote."""
    folder = tmp_path_factory.mktemp("run")
    done = lmfacts_command("scan", "demo", text, "--sites", "resid", "--seq-len", 64, cwd=folder)
    assert done.returncode == 0, done.stderr.decode()
    return done, folder / "demo.lmfacts"


def test_blocks_of_values_are_counted_where_it_is_asked_for(text, tmp_path):
    arguments = ["scan", "demo", text, "--seq-len", 64, "--sites", "blocks.0.mlp_post", "-o", "a.lmfacts"]
    done = lmfacts_command(*arguments, "--blocks-of", "16,32", cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    shown = lmfacts_command("show", "a.lmfacts", "blocks.0.mlp_post", "--json", cwd=tmp_path)
    (site,) = json.loads(shown.stdout)["sites"]
    assert set(site["populations"]["rest"]["snr"]) == {"mxfp4_snr", "nvfp4_snr"}
    for sizes, told in (("24", "expected blocks of 16 or 32 values, or both, got 24"), ("a", "got 'a'")):
        refused = lmfacts_command(*arguments[:-1], "b.lmfacts", "--blocks-of", sizes, cwd=tmp_path)
        assert (refused.returncode, refused.stdout) == (2, b"")
        assert told in refused.stderr.decode()
    assert not (tmp_path / "b.lmfacts").exists()


def test_a_scan_prints_its_summary_and_names_its_file(saved):
    done, path = saved
    out, err = done.stdout.decode(), done.stderr.decode()
    assert "Residual stream by depth" in out
    assert "complete" in out
    assert f"saved {path.name}" in err
    assert "\x1b" not in out + err
    assert lmfacts.load(path).n_tokens == len(text_of(saved)) + 1


def text_of(saved):
    return Path(lmfacts.load(saved[1]).corpus["files"][0]["path"]).read_text(encoding="utf-8")


def test_a_second_scan_does_not_overwrite_the_first(saved, text):
    folder = saved[1].parent
    before = saved[1].read_bytes()
    done = lmfacts_command("scan", "demo", text, "-s", "embed", "--max-tokens", 64, "-q", cwd=folder)
    assert done.returncode == 0
    assert saved[1].read_bytes() == before
    assert (folder / "demo-2.lmfacts").exists()


def test_json_is_one_document_and_nothing_else(saved, text, tmp_path):
    done = lmfacts_command(
        "scan", "demo", text, "--json", "-s", "resid", "--seq-len", 64, "-o", "x.lmfacts", cwd=tmp_path
    )
    summary = json.loads(done.stdout)
    assert summary["run"]["n_tokens"] == len(text.read_text()) + 1
    shown = lmfacts_command("show", saved[1], "--json", cwd=tmp_path)
    assert json.loads(shown.stdout)["run"]["token_hash"] == summary["run"]["token_hash"]
    sites = json.loads(lmfacts_command("show", saved[1], "blocks.*.resid_post", "--json", cwd=tmp_path).stdout)["sites"]
    assert [site["name"] for site in sites] == [f"blocks.{layer}.resid_post" for layer in range(4)]
    info = json.loads(lmfacts_command("info", "--json", cwd=tmp_path).stdout)
    assert info["simd"] in info["simd_available"]


def test_show_prints_sites_in_full_under_any_of_their_names(saved, tmp_path):
    done = lmfacts_command("show", saved[1], "blocks.2.resid_pre", cwd=tmp_path)
    out = done.stdout.decode()
    assert done.returncode == 0
    assert "blocks.1.resid_post" in out
    assert "transformer.h.1" in out


@pytest.mark.parametrize("width", [80, 120, 200])
def test_redirected_output_is_as_wide_as_asked_and_has_no_trailing_blanks(saved, tmp_path, width):
    lines = lmfacts_command("show", saved[1], cwd=tmp_path, COLUMNS=str(width)).stdout.decode().splitlines()
    assert max(map(len, lines)) <= width
    assert all(line == line.rstrip() for line in lines)


def test_colors_only_when_forced(saved, tmp_path):
    assert b"\x1b[" in lmfacts_command("show", saved[1], cwd=tmp_path, FORCE_COLOR="1", TERM="xterm-256color").stdout
    forbidden = lmfacts_command("show", saved[1], cwd=tmp_path, NO_COLOR="1").stdout
    assert b"\x1b[" not in forbidden


def test_text_from_a_pipe(tmp_path):
    done = lmfacts_command(
        "scan", "demo", "-", "-s", "embed", "--json", "-o", "p.lmfacts", cwd=tmp_path, stdin=b"piped text " * 30
    )
    assert done.returncode == 0, done.stderr.decode()
    assert json.loads(done.stdout)["run"]["n_tokens"] == 331


def test_weights_are_measured_and_shown(tmp_path):
    done = lmfacts_command("weights", "demo", cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert "Matrices by kind" in done.stdout.decode()
    assert "saved demo-weights.lmfacts" in done.stderr.decode()
    one = lmfacts_command("show", "demo-weights.lmfacts", "transformer.h.3.attn.c_proj.weight", cwd=tmp_path)
    assert one.returncode == 0, one.stderr.decode()
    assert "blocks.3.W_O" in one.stdout.decode()
    summary = json.loads(lmfacts_command("show", "demo-weights.lmfacts", "--json", cwd=tmp_path).stdout)
    again = json.loads(lmfacts_command("weights", "demo", "--json", "-q", "-o", "w.lmfacts", cwd=tmp_path).stdout)
    assert summary.keys() == again.keys()


def test_demo_leaves_no_file(tmp_path):
    done = lmfacts_command("demo", "--max-tokens", 2048, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert "Norm of the residual stream by depth" in done.stdout.decode()
    assert list(tmp_path.iterdir()) == []


def test_info_and_version(tmp_path):
    assert "simd" in lmfacts_command("info", cwd=tmp_path).stdout.decode()
    assert lmfacts_command("--version", cwd=tmp_path).stdout.decode().strip() == f"lmfacts {lmfacts.__version__}"


def test_a_hook_that_never_fires_makes_the_run_incomplete(text, tmp_path):
    silent = "transformer.h.0.attn.attn_dropout:out"
    done = lmfacts_command("scan", "demo", text, "-s", "embed", "-s", silent, "-o", "i.lmfacts", cwd=tmp_path)
    assert done.returncode == 3
    assert silent in done.stderr.decode()
    run = lmfacts.load(tmp_path / "i.lmfacts")
    assert not run.complete
    assert run.coverage[silent]["n_calls"] == 0
    assert run["embed"].n_tokens == run.n_tokens


class Executes:
    """What a pickle that runs code looks like."""

    def __reduce__(self):
        return os.system, ("touch executed",)


@pytest.fixture
def lmfacts_here(monkeypatch, capfd):
    """`lmfacts_command` in this process, where torch is loaded already: a process of its own takes seconds for that."""

    def call(*arguments, cwd):
        monkeypatch.chdir(cwd)
        monkeypatch.setattr(sys, "argv", ["lmfacts", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        out, err = capfd.readouterr()
        return subprocess.CompletedProcess(arguments, ended.value.code, out.encode(), err.encode())

    return call


def failure(*arguments, cwd, code, command=lmfacts_command, **options):
    """A command that fails: its sentence. Nothing on stdout, no traceback, no file."""
    before = sorted(cwd.iterdir())
    done = command(*arguments, cwd=cwd, **options)
    err = done.stderr.decode()
    assert done.returncode == code, err
    assert done.stdout == b""
    assert "Traceback" not in err
    assert sorted(cwd.iterdir()) == before
    return err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["scan"], 2, "model"),
        (["scan", "demo", "missing.txt"], 2, "missing.txt: no such file"),
        (["scan", "demo", "empty.txt"], 1, "got an empty file"),
        (["scan", "demo", "binary.txt"], 1, "expected UTF-8 text"),
        (["scan", "demo", "blank.jsonl", "--no-pack"], 1, "at least one token"),
        (["scan", "demo", "text.txt", "-s", "blocks.7.resid_post"], 2, "blocks.7.resid_post"),
        (["scan", "demo", "text.txt", "-s", "nowhere.*:in"], 2, "nowhere"),
        (["scan", "demo", "text.txt", "--seq-len", "257"], 2, "at most 256"),
        (["scan", "demo", "text.txt", "--dtype", "int4"], 2, "dtype: expected one of"),
        (["scan", "demo", "text.txt", "--device", "tpu"], 2, "device: expected"),
        (["scan", "demo", "text.txt", "--batch-size", "0"], 2, "batch_size"),
        (["scan", "demo", "text.txt", "-o", "missing/r.lmfacts"], 2, "there is no folder"),
        (["scan", "text.txt", "text.txt"], 1, "another kind of file"),
        (["scan", "./missing", "text.txt"], 2, "expected a model"),
        (["scan", "nobody/nothing", "text.txt"], 1, "hub cannot be reached"),
        (["scan", "folder", "text.txt"], 1, "config.json"),
        (["scan", "broken.gguf", "text.txt"], 1, "cannot be loaded"),
        (["weights", "missing.safetensors"], 2, "missing.safetensors"),
        (["weights", "folder"], 1, "folder"),
        (["weights", "text.txt"], 1, "text.txt"),
        (["weights", "broken.gguf"], 1, "broken.gguf"),
        (["weights", "cut.safetensors"], 1, "cut.safetensors"),
        (["weights", "integers.safetensors"], 1, "floating-point"),
        (["weights", "evil.bin"], 1, "evil.bin"),
        (["weights", "lacking"], 1, "model-00002-of-00002.safetensors"),
        (["weights", "demo", "--spectra", "-1"], 2, "spectra"),
        (["weights", "demo", "-o", "missing/w.lmfacts"], 2, "there is no folder"),
        (["show", "missing.lmfacts"], 2, "missing.lmfacts"),
        (["show", "text.txt"], 1, "text.txt"),
        (["show", "empty.txt"], 1, "empty.txt"),
        (["show", "folder"], 1, "folder"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_bad_input_gets_a_sentence(tmp_path, lmfacts_here, arguments, code, said):
    (tmp_path / "text.txt").write_text("some text\n" * 30)
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "binary.txt").write_bytes(b"\x7fELF\x00\x00\x01")
    (tmp_path / "blank.jsonl").write_text('{"text": ""}\n')
    (tmp_path / "broken.gguf").write_bytes(b"GGUF" + bytes(64))
    (tmp_path / "folder").mkdir()
    whole = {"w": np.ones((8, 8), np.float32)}
    save_file(whole, tmp_path / "cut.safetensors")
    os.truncate(tmp_path / "cut.safetensors", (tmp_path / "cut.safetensors").stat().st_size - 20)
    save_file({"ids": np.arange(4)}, tmp_path / "integers.safetensors")
    (tmp_path / "evil.bin").write_bytes(pickle.dumps(Executes()))
    (tmp_path / "lacking").mkdir()
    save_file(whole, tmp_path / "lacking" / "model-00001-of-00002.safetensors")
    (tmp_path / "lacking" / "model.safetensors.index.json").write_text(
        json.dumps({"weight_map": {"w": "model-00001-of-00002.safetensors", "v": "model-00002-of-00002.safetensors"}})
    )
    # One of each command is a process, as somebody would run it.
    command = lmfacts_command if arguments[1:2] in ([], ["text.txt"]) else lmfacts_here
    assert said.casefold() in failure(*arguments, cwd=tmp_path, code=code, command=command).casefold()


def test_an_unknown_site_of_a_run(saved, tmp_path):
    assert "blocks.3.resid_post" in failure("show", saved[1], "blocks.3.resid_pots", cwd=tmp_path, code=2)


@pytest.mark.parametrize("share", [0.0001, 0.3, 0.999])
def test_a_truncated_run_is_named(saved, tmp_path, share):
    whole = saved[1].read_bytes()
    (tmp_path / "cut.lmfacts").write_bytes(whole[: int(len(whole) * share)])
    assert "cut.lmfacts" in failure("show", "cut.lmfacts", cwd=tmp_path, code=1)


def test_a_run_of_a_newer_schema_asks_for_a_newer_lmfacts(saved, tmp_path):
    with safe_open(saved[1], framework="np") as file:
        metadata = json.loads(file.metadata()[METADATA_KEY])
        arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118  not a mapping
    metadata["schema"] = 99
    save_file(arrays, tmp_path / "new.lmfacts", metadata={METADATA_KEY: json.dumps(metadata)})
    said = failure("show", "new.lmfacts", cwd=tmp_path, code=1)
    assert "99" in said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_saves_what_was_recorded_and_exits_130(tmp_path, number):
    command = [
        sys.executable,
        "-m",
        "lmfacts",
        "scan",
        "smallest",
        "-",
        "-s",
        "embed",
        "--batch-size",
        "1",
        "-o",
        "i.lmfacts",
    ]
    # Three blocks have to be read before the first is given out: for a model that takes no time.
    config = GPT2Config(
        vocab_size=257, n_positions=256, n_embd=8, n_layer=1, n_head=1, bos_token_id=256, eos_token_id=256
    )
    GPT2LMHeadModel(config).save_pretrained(tmp_path / "smallest")
    AutoTokenizer.from_pretrained(MODEL_DIR).save_pretrained(tmp_path / "smallest")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, **pipes) as process:
        # Text for some batches and then silence: the scan waits for more when the signal comes.
        process.stdin.write(b"words and more words\n" * 10_000)
        process.stdin.flush()
        line = process.stderr.readline()
        while b"scanning" not in line:
            assert line, "the scan ended before it began"
            line = process.stderr.readline()
        time.sleep(1)
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err.decode()
    assert "interrupted" in err.decode()
    run = lmfacts.load(tmp_path / "i.lmfacts")
    assert (run.complete, run.incomplete_reason) == (False, "interrupted")
    assert run["embed"].n_tokens == run.n_tokens > 0
    assert b"INCOMPLETE" in out or b"interrupted" in out


def test_help_wraps_to_the_terminal_and_keeps_its_brackets(tmp_path):
    done = lmfacts_command("report", "--help", cwd=tmp_path, COLUMNS="100")
    assert '"lmfacts[plot]"' in done.stdout.decode()
    lines = lmfacts_command("scan", "--help", cwd=tmp_path, COLUMNS="200").stdout.decode().splitlines()
    assert any("Ctrl-C finishes" in line and "130: interrupted." in line for line in lines)


def test_a_reader_that_leaves_early_is_no_error(saved, tmp_path):
    command = f"'{sys.executable}' -m lmfacts show '{saved[1]}' --json | head -c 10"
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=tmp_path, capture_output=True, check=False, env=ENVIRONMENT
    )
    assert done.stderr == b""
    assert done.returncode == 0
