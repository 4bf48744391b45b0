"""`lmfacts facts` and the facts of `lmfacts demo`, as whole processes: output, exit codes, what is loaded."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import save_file
from typer.testing import CliRunner

import lmfacts
from lmfacts.cli import application
from lmfacts.demo import CHECKPOINTS, MODEL_DIR
from lmfacts.errors import MismatchedRunsError
from lmfacts.facts import CATALOGUE, Inputs, Verdict
from lmfacts.run.file import METADATA_KEY

ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "LMFACTS_NUM_THREADS": "1"}


def run_command(command, *, cwd, **environment):
    return subprocess.run(command, cwd=cwd, capture_output=True, check=False, env={**ENVIRONMENT, **environment})


def lmfacts_command(*arguments, cwd, **environment):
    return run_command([sys.executable, "-m", "lmfacts", *map(str, arguments)], cwd=cwd, **environment)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    file = tmp_path_factory.mktemp("text") / "text.txt"
    file.write_text("A function definition defines a user-defined function object.\n" * 60)
    return file


@pytest.fixture(scope="module")
def runs(tmp_path_factory, text):
    """The folder of `a.lmfacts` and `w.lmfacts`, of the embedded model."""
    folder = tmp_path_factory.mktemp("runs")
    lmfacts.scan("demo", text, sites="all", seq_len=64, out=folder / "a.lmfacts")
    lmfacts.scan_weights("demo", out=folder / "w.lmfacts")
    return folder


@pytest.fixture(scope="module")
def document(runs):
    """What `--json` says of both runs."""
    done = lmfacts_command("facts", "a.lmfacts", "w.lmfacts", "--json", cwd=runs)
    assert done.returncode == 0, done.stderr.decode()
    return json.loads(done.stdout)


def rows_of(out):
    """Id -> verdict in a printed table, where it stands in words."""
    table = out.partition("fact  verdict\n")[2].partition("Verdicts ─")[0]
    found = re.findall(r"^  (F\d+) +\S ([a-z]+(?: [a-z]+)*)  ", table, re.MULTILINE)
    return {fact_id: next(str(verdict) for verdict in Verdict if verdict.words == words) for fact_id, words in found}


def test_every_fact_is_in_the_table_with_the_verdict_of_the_document(runs, document):
    done = lmfacts_command("facts", "w.lmfacts", "a.lmfacts", cwd=runs)
    assert (done.returncode, done.stderr) == (0, b"")
    out = done.stdout.decode()
    assert "\x1b" not in out
    assert rows_of(out) == {fact["id"]: fact["verdict"] for fact in document["facts"]}
    assert list(rows_of(out)) == list(CATALOGUE)
    assert "a.lmfacts · 3,721 tokens in 59 sequences" in out
    assert "lmfacts facts a.lmfacts w.lmfacts --explain" in out
    in_python = lmfacts.load(runs / "a.lmfacts").facts(lmfacts.load(runs / "w.lmfacts"))
    assert [json.loads(json.dumps(fact.to_json())) for fact in in_python] == document["facts"]


@pytest.mark.parametrize("width", [80, 120, 200])
@pytest.mark.parametrize("more", [[], ["--explain", "all"]], ids=["table", "explain"])
def test_redirected_output_is_as_wide_as_asked_and_nothing_is_cut(runs, more, width):
    out = lmfacts_command("facts", "a.lmfacts", "w.lmfacts", *more, cwd=runs, COLUMNS=str(width)).stdout.decode()
    lines = out.splitlines()
    assert max(map(len, lines)) <= width
    assert all(line == line.rstrip() for line in lines)
    assert "…" not in out


def test_colors_only_when_forced(runs):
    colored = lmfacts_command("facts", "w.lmfacts", cwd=runs, FORCE_COLOR="1", TERM="xterm-256color").stdout
    assert b"\x1b[" in colored
    assert b"\x1b[" not in lmfacts_command("facts", "w.lmfacts", cwd=runs, NO_COLOR="1").stdout


def test_what_one_run_lacks_is_named_with_the_command_that_records_it(runs):
    out = lmfacts_command("facts", "a.lmfacts", cwd=runs).stdout.decode()
    assert out.count("lmfacts weights demo -o weights.lmfacts") == 1
    lacking = {name for name, entry in CATALOGUE.items() if "weights" in entry.needs}
    assert {name for name, verdict in rows_of(out).items() if verdict == "NOT-APPLICABLE"} >= lacking


def test_one_fact_in_full(runs, document):
    done = lmfacts_command("facts", "a.lmfacts", "w.lmfacts", "--explain", "f2", "--explain", "F8", cwd=runs)
    out = done.stdout.decode()
    assert done.returncode == 0
    headings = [line.split()[0] for line in out.splitlines() if line.split()[:1] and line.split()[0] in CATALOGUE]
    assert headings == ["F2", "F8"]
    for fact in document["facts"]:
        told = "".join(fact["claim"].split()) in "".join(out.split())
        assert told == (fact["id"] in {"F2", "F8"}) or not fact["claim"]
    assert "fact  verdict" not in out


def test_all_facts_in_full(runs):
    out = lmfacts_command("facts", "a.lmfacts", "w.lmfacts", "--explain", "ALL", cwd=runs).stdout.decode()
    headings = [line.split()[0] for line in out.splitlines() if line[:1] == "F" and "─" in line]
    assert [name for name in headings if name in CATALOGUE] == list(CATALOGUE)


def test_only_some_facts(runs, document):
    done = lmfacts_command("facts", "a.lmfacts", "w.lmfacts", "--only", "f3", "--only", "F1", "--json", cwd=runs)
    assert json.loads(done.stdout)["facts"] == [each for each in document["facts"] if each["id"] in {"F1", "F3"}]
    explained = lmfacts_command("facts", "a.lmfacts", "--only", "F3", "--explain", "all", "--json", cwd=runs)
    (fact,) = json.loads(explained.stdout)["facts"]
    assert fact["id"] == "F3"
    assert fact["definition"]["thresholds"] == list(CATALOGUE["F3"].thresholds)


@pytest.mark.parametrize("wanted", ["HOLDS", "BODY-ONLY", "FAILS"])
@pytest.mark.parametrize("fact_id", ["F2", "F8", "F11", "F15"])
def test_a_requirement_sets_the_exit_code(runs, document, fact_id, wanted):
    verdict = next(fact["verdict"] for fact in document["facts"] if fact["id"] == fact_id)
    met = verdict == wanted or (wanted, verdict) == ("BODY-ONLY", "HOLDS")
    files = [str(runs / name) for name in ("a.lmfacts", "w.lmfacts")]
    done = CliRunner().invoke(application(), ["facts", *files, "--only", fact_id, "--require", f"{fact_id}={wanted}"])
    assert done.exit_code == (0 if met else 4)
    assert rows_of(done.stdout) == {fact_id: verdict}
    sentences = done.stderr.splitlines()
    assert len(sentences) == (0 if met else 1)
    assert all(sentence.startswith(f"lmfacts: {fact_id} is {verdict}, and") for sentence in sentences)


def test_each_requirement_that_is_not_met_gets_a_sentence(runs, document):
    verdicts = {fact["id"]: fact["verdict"] for fact in document["facts"]}
    wrong = {name: "HOLDS" if verdict == "FAILS" else "FAILS" for name, verdict in verdicts.items()}
    options = [part for name, verdict in wrong.items() for part in ("--require", f"{name}={verdict}")]
    done = lmfacts_command("facts", "a.lmfacts", "w.lmfacts", "--json", *options, cwd=runs)
    assert done.returncode == 4
    assert [line.split()[1] for line in done.stderr.decode().splitlines()] == list(CATALOGUE)
    requirements = json.loads(done.stdout)["requirements"]
    assert [(each["fact"], each["found"], each["met"]) for each in requirements] == [
        (name, verdict, False) for name, verdict in verdicts.items()
    ]


def test_a_requirement_is_checked_whatever_is_shown(runs, document):
    verdict = next(fact["verdict"] for fact in document["facts"] if fact["id"] == "F2")
    wrong = "HOLDS" if verdict == "FAILS" else "FAILS"
    for options in (["--only", "F3"], ["--explain", "F3"]):
        done = lmfacts_command("facts", "a.lmfacts", "--require", f"F2={wrong}", *options, cwd=runs)
        assert done.returncode == 4
        assert "NOT MET" in done.stdout.decode()


def edited(source, target, **changes):
    """A copy of a run file with other metadata."""
    with safe_open(source, framework="np") as file:
        metadata = json.loads(file.metadata()[METADATA_KEY])
        arrays = {name: np.array(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118  not a mapping
    for key, value in changes.items():
        metadata[key] = {**metadata[key], **value} if isinstance(value, dict) else value
    save_file(arrays, target, metadata={METADATA_KEY: json.dumps(metadata)})
    return target


def test_an_incomplete_run_is_checked_and_said_to_be_incomplete(runs, tmp_path):
    cut_short = edited(runs / "a.lmfacts", tmp_path / "i.lmfacts", complete=False, incomplete_reason="interrupted")
    done = lmfacts_command("facts", cut_short, cwd=tmp_path)
    assert done.returncode == lmfacts_command("show", cut_short, cwd=tmp_path).returncode == 0
    assert "NOT COMPLETE: interrupted." in done.stdout.decode()
    gate = lmfacts_command("facts", cut_short, "--json", "--require", "F8", cwd=tmp_path)
    assert gate.returncode == 4
    assert json.loads(gate.stdout)["runs"][0]["incomplete_reason"] == "interrupted"
    said = gate.stderr.decode().splitlines()
    assert len(said) == 2
    assert "i.lmfacts is incomplete (interrupted)" in said[0]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ([], 2, "RUN"),
        (["missing.lmfacts"], 2, "missing.lmfacts"),
        (["text.txt"], 1, "text.txt"),
        (["cut.lmfacts"], 1, "cut.lmfacts"),
        (["a.lmfacts", "cut.lmfacts"], 1, "cut.lmfacts"),
        (["a.lmfacts", "a.lmfacts"], 2, "Two runs of activations"),
        (["a.lmfacts", "other.lmfacts"], 2, "4 blocks"),
        (["a.lmfacts", "renamed.lmfacts"], 2, "two names of one model"),
        (["a.lmfacts", "--require", "F99"], 2, "no fact 'F99'"),
        (["missing.lmfacts", "--require", "F99"], 2, "no fact 'F99'"),
        (["missing.lmfacts", "--require", "F2=MAYBE"], 2, "HOLDS, BODY-ONLY, FAILS"),
        (["missing.lmfacts", "--only", "f22"], 2, "Did you mean F2?"),
        (["missing.lmfacts", "--explain", "every"], 2, "no fact 'every'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_bad_input_gets_a_sentence(runs, tmp_path, arguments, code, said):
    for name in ("a.lmfacts", "w.lmfacts"):
        shutil.copy(runs / name, tmp_path)
    (tmp_path / "text.txt").write_text("some text\n")
    (tmp_path / "cut.lmfacts").write_bytes((runs / "w.lmfacts").read_bytes()[:9999])
    edited(runs / "w.lmfacts", tmp_path / "other.lmfacts", model={"n_layers": 12})
    edited(runs / "w.lmfacts", tmp_path / "renamed.lmfacts", model={"id": "somebody/else"})
    done = lmfacts_command("facts", *arguments, cwd=tmp_path)
    err = done.stderr.decode()
    assert (done.returncode, done.stdout) == (code, b"")
    assert said in err
    assert "Traceback" not in err


def test_both_commands_give_one_model_names_that_belong_together(text, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(MODEL_DIR, tmp_path / "models" / "small")
    activations = {
        name: lmfacts.scan(name, text, sites="embed", max_tokens=64) for name in ("models/small/", "demo", MODEL_DIR)
    }
    weights = {
        name: lmfacts.scan_weights(name, spectra=0)
        for name in (tmp_path / "models" / "small", "./models/small/model.safetensors", "demo", CHECKPOINTS[768])
    }
    assert Inputs.of([activations["models/small/"], weights[tmp_path / "models" / "small"]])
    assert Inputs.of([activations["models/small/"], weights["./models/small/model.safetensors"]])
    assert Inputs.of([activations["demo"], weights["demo"]])
    assert Inputs.of([activations[MODEL_DIR], weights["demo"]])
    for name, other in (("demo", CHECKPOINTS[768]), ("models/small/", CHECKPOINTS[768]), ("models/small/", "demo")):
        with pytest.raises(MismatchedRunsError):
            Inputs.of([activations[name], weights[other]])


def test_neither_torch_nor_matplotlib_is_loaded(runs):
    program = (
        "import sys\n"
        "from lmfacts.cli import application\n"
        "for more in ([], ['--explain', 'all'], ['--json']):\n"
        "    application()(['facts', 'a.lmfacts', 'w.lmfacts', *more], standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'datasets', 'tokenizers', 'matplotlib'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)\n"
    )
    done = run_command([sys.executable, "-c", program], cwd=runs)
    assert done.stderr.decode().strip() == "[]"


# The demo


def test_the_demo_ends_with_the_facts_and_keeps_both_runs_where_asked(tmp_path):
    done = lmfacts_command("demo", "--max-tokens", 4096, "-o", "d.lmfacts", cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    out = done.stdout.decode()
    assert "Norm of the residual stream by depth" in out.partition("demo: facts ─")[0]
    shown = rows_of(out.partition("demo: facts ─")[2])
    assert {path.name for path in tmp_path.iterdir()} == {"d.lmfacts", "d-weights.lmfacts"}
    again = lmfacts_command("facts", "d.lmfacts", "d-weights.lmfacts", cwd=tmp_path)
    assert shown == rows_of(again.stdout.decode())
    assert list(shown) == list(CATALOGUE)
    assert "saved d.lmfacts" in done.stderr.decode()
    assert "saved d-weights.lmfacts" in done.stderr.decode()


@pytest.mark.parametrize("emulated", [True, False])
def test_the_demo_takes_what_the_time_allows_in_the_type_of_the_processor(emulated, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys.modules["lmfacts.cli.demo"], "_SCAN_S", 0.0)
    monkeypatch.setattr("lmfacts.scans.processor.computes_in", lambda _dtype: not emulated)
    done = CliRunner().invoke(application(), ["demo", "-q", "--json"])
    assert done.exit_code == 0
    assert "read 4,096 of 131,072 tokens, to be done within a minute" in done.stderr
    document = json.loads(done.stdout)
    assert document["run"]["complete"]
    assert document["run"]["n_tokens"] == 4096
    assert document["run"]["model"]["dtype"] == ("float32" if emulated else "bfloat16")
    assert [fact["id"] for fact in document["facts"]] == list(CATALOGUE)


def test_the_demo_as_one_document(tmp_path):
    done = lmfacts_command("demo", "--max-tokens", 4096, "--json", "-q", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    summary = json.loads(done.stdout)
    assert summary["document"] == "lmfacts.summary"
    assert [fact["id"] for fact in summary["facts"]] == list(CATALOGUE)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("more", [[], ["--json"]], ids=["text", "json"])
def test_an_interrupted_demo_ends_with_its_summary(runs, tmp_path, monkeypatch, more):
    path = edited(runs / "a.lmfacts", tmp_path / "i.lmfacts", complete=False, incomplete_reason="interrupted")
    monkeypatch.setattr("lmfacts.scans.activations.scan", lambda *_args, **_options: lmfacts.load(path))
    done = CliRunner().invoke(application(), ["demo", "-q", *more])
    assert done.exit_code == 130
    assert "interrupted" in done.stderr
    assert "facts" not in done.stdout.replace("lmfacts", "")
    assert "interrupted" in done.stdout


def test_the_demo_refuses_a_place_where_the_weights_cannot_go(tmp_path):
    (tmp_path / "d-weights.lmfacts").mkdir()
    done = lmfacts_command("demo", "--max-tokens", 4096, "-o", "d.lmfacts", cwd=tmp_path)
    assert done.returncode == 2
    assert "d-weights.lmfacts" in done.stderr.decode()
    assert done.stdout == b""
    assert {path.name for path in tmp_path.iterdir()} == {"d-weights.lmfacts"}


def test_a_reader_that_leaves_changes_no_exit_code(tmp_path):
    from lmfacts.demo import MODEL_DIR

    path = tmp_path / "w.lmfacts"
    lmfacts.scan_weights(MODEL_DIR, spectra=0).save(path)
    command = f"'{sys.executable}' -m lmfacts facts '{path}' --explain all"
    for more, expected in (("", 0), (" --require F10", 4)):
        done = subprocess.run(
            ["bash", "-c", f"{command}{more} | head -1 > /dev/null; exit ${{PIPESTATUS[0]}}"],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == expected, done.stderr
        assert "Traceback" not in done.stderr
    closed = subprocess.run(["bash", "-c", f"{command} >&-"], capture_output=True, text=True, check=False)
    assert "Traceback" not in closed.stderr
