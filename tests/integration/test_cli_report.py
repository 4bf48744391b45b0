"""`lmfacts report` as a person or a program uses it: whole processes, their output, their exit codes, their files."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

import lmfacts

ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "LMFACTS_NUM_THREADS": "1"}


def lmfacts_command(*arguments, cwd, **environment):
    return subprocess.run(
        [sys.executable, "-m", "lmfacts", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        check=False,
        text=True,
        env={**ENVIRONMENT, **environment},
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of the embedded model: activations and weights."""
    folder = tmp_path_factory.mktemp("runs")
    activations, weights = folder / "activations.lmfacts", folder / "weights.lmfacts"
    lmfacts.scan("demo", sites="default", max_tokens=4096, seq_len=128, out=activations)
    lmfacts.scan_weights("demo", out=weights)
    return activations, weights


@pytest.fixture(scope="module")
def written(tmp_path_factory, runs):
    folder = tmp_path_factory.mktemp("page")
    return lmfacts_command("report", *runs, cwd=folder), folder


def test_a_page_is_written_and_its_name_is_said(written):
    done, folder = written
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert re.fullmatch(r"lmfacts: saved report\.html \(\d+ kB\)\n", done.stderr)
    assert [path.name for path in folder.iterdir()] == ["report.html"]


def test_the_page_has_every_fact_with_figures_and_tokens(written):
    html = (written[1] / "report.html").read_text(encoding="utf-8")
    assert "<h1>demo</h1>" in html
    for number in (*range(1, 12), 15):
        assert f'<section id="f{number}"' in html
    assert html.count("<svg ") > 40
    assert "<mark>" in html  # the text around the largest values
    assert "<script" not in html
    assert len(html) < 1_000_000


def test_the_same_runs_give_the_same_page(written, runs, tmp_path):
    done = lmfacts_command("report", *runs, "-o", tmp_path / "again.html", cwd=tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "again.html").read_bytes() == (written[1] / "report.html").read_bytes()


def test_markdown_has_its_figures_beside_it_and_json_says_all_files(runs, tmp_path):
    done = lmfacts_command("report", *runs, "-o", "page.md", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert (document["document"], document["version"], document["format"]) == ("lmfacts.render.terminal", 1, "markdown")
    assert document["path"] == "page.md"
    assert [run["kind"] for run in document["runs"]] == ["activations", "weights"]
    assert [fact["id"] for fact in document["facts"]][:3] == ["F1", "F2", "F3"]
    assert document["n_panels"] == len(document["files"]) - 1
    files = {path.relative_to(tmp_path).as_posix(): path.stat().st_size for path in tmp_path.rglob("*.*")}
    assert {file["path"]: file["n_bytes"] for file in document["files"]} == files
    text = (tmp_path / "page.md").read_text(encoding="utf-8")
    assert all(f"]({name})" in text for name in files if name.endswith(".svg"))


def test_one_run_is_enough_and_the_rest_says_what_is_missing(runs, tmp_path):
    done = lmfacts_command("report", runs[1], "-o", "w.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    html = (tmp_path / "w.html").read_text(encoding="utf-8")
    assert "lmfacts scan demo -o activations.lmfacts" in html


@pytest.mark.parametrize(
    ("out", "said"),
    [("none/report.html", "there is no folder"), ("report.pdf", ".html"), ("report", ".md"), (".", ".md")],
)
def test_what_cannot_be_written_is_refused_before_the_work(runs, tmp_path, out, said):
    done = lmfacts_command("report", *runs, "-o", out, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_files_that_are_no_runs_are_refused(runs, tmp_path):
    (tmp_path / "text.lmfacts").write_text("no run")
    for arguments, code in ((["none.lmfacts"], 2), (["text.lmfacts"], 1), ([runs[0], runs[0]], 2), ([], 2)):
        done = lmfacts_command("report", *arguments, cwd=tmp_path)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["text.lmfacts"]


def test_without_matplotlib_the_extra_is_named(runs, tmp_path):
    (tmp_path / "hidden").mkdir()
    (tmp_path / "hidden" / "matplotlib.py").write_text("raise ImportError('not here')")
    done = lmfacts_command("report", *runs, cwd=tmp_path, PYTHONPATH=str(tmp_path / "hidden"))
    assert done.returncode == 1
    assert 'pip install "lmfacts[plot]"' in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "report.html").exists()


def test_writing_a_page_loads_neither_torch_nor_transformers(runs, tmp_path):
    program = (
        "import sys\n"
        "from lmfacts.render.page.build import build_page\n"
        "from lmfacts.render.page.output import write_page\n"
        "from lmfacts.run import load\n"
        f"write_page(build_page([load({str(runs[1])!r})]), {str(tmp_path / 'report.html')!r})\n"
        "print(sorted({'torch', 'transformers', 'matplotlib.pyplot'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    assert done.stdout.strip() == "[]"


def test_the_package_does_not_need_matplotlib_until_a_page_is_drawn():
    program = (
        "import sys; from lmfacts.cli import application; application()\n"
        "from lmfacts.render.page import build, html, markdown, output\n"
        "print([name for name in sys.modules if name.startswith('matplotlib')])\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=ENVIRONMENT)
    assert done.stdout.strip() == "[]"
