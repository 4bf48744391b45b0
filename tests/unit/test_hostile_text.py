"""Texts that would steer a terminal, be taken for markup, or break out of a page: all are shown, none does anything."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
from html.parser import HTMLParser
from xml.etree import ElementTree as ET

import pytest
from typer.testing import CliRunner

from lmfacts.cli import application
from lmfacts.facts import check
from lmfacts.render.page.build import build_page
from lmfacts.render.page.output import write_page
from lmfacts.render.terminal.console import SafeConsole, progress_console
from lmfacts.render.terminal.live import LiveView, PlainProgress
from lmfacts.run import load
from lmfacts.scans.progress import Progress
from lmfacts.writing.visible_text import shell_word, visible, visible_line
from support.hostile_runs import HOSTILE, NAME, hostile_activations, hostile_weights, invisible

SHOWN = r"x\x1b]0;owned\x07\x1b[2J\x9b31m\r\x08\x7f\u202e\u2066\u200b\u200f\u2028\ufeff\udcff\ud83d\x00"
"""How what is not visible of `HOSTILE` is written, up to its first line break."""

FILE = HOSTILE.replace("\x00", "").replace("\ud83d", "")
"""What of it a file's name can have."""

STYLE = re.compile(r"\x1b\[[0-9;]*m")
MARKUP = ("[red]", "[/]", "[link=http://a.example]", ":smile:")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """Files of a run of activations and one of weights, with a name that is hostile too."""
    folder = tmp_path_factory.mktemp("hostile")
    paths = {"activations": folder / "a \x1b]0;f\x07[red].lmfacts", "weights": folder / "w \u202e$(id) '.lmfacts"}
    paths |= {"other-activations": folder / "b\r.lmfacts", "other-weights": folder / "-w\x7f.lmfacts"}
    for seed, kinds in enumerate([("activations", "weights"), ("other-activations", "other-weights")]):
        hostile_activations(seed).save(paths[kinds[0]])
        hostile_weights(seed).save(paths[kinds[1]])
    return paths


def of(saved, words):
    """The words of a command, with the files of runs for their kinds."""
    return [words[0], *(saved.get(word, word) for word in words[1:])]


def command(*arguments, color=False):
    environment = {"COLUMNS": "120", "FORCE_COLOR": "1", "TERM": "xterm-256color"} if color else {"COLUMNS": "120"}
    environment |= {} if color else {"NO_COLOR": "1", "FORCE_COLOR": None}
    done = CliRunner(env=environment).invoke(application(), list(map(str, arguments)), color=color)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def joined(text):
    """A text without what wrapping and tables put between its parts."""
    return "".join(text.split())


COMMANDS = [
    ("show", "activations"),
    ("show", "activations", "*"),
    ("show", "weights"),
    ("show", "weights", "extra.*"),
    ("facts", "activations", "weights"),
    ("facts", "activations", "weights", "--explain", "all"),
    ("compare", "activations", "other-activations"),
    ("compare", "weights", "other-weights"),
]


@pytest.mark.parametrize("color", [False, True], ids=["redirected", "terminal"])
@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_what_a_command_prints_steers_no_terminal(saved, words, color):
    done = command(*of(saved, words), color=color)
    out, err = STYLE.sub("", done.stdout), done.stderr
    assert invisible(out) == set()
    assert invisible(err) == set()
    assert ("\x1b[" in done.stdout) == color
    told = joined(out)
    assert joined(SHOWN) in told
    assert all(joined(markup) in told for markup in MARKUP)


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_json_document_has_the_original_texts(saved, words):
    done = command(*of(saved, [word for word in words if word not in ("--explain", "all")]), "--json")
    assert invisible(done.stdout) == set()
    assert done.stdout.isascii()

    def strings(value):
        if isinstance(value, dict):
            return [*value, *(text for item in value.values() for text in strings(item))]
        if isinstance(value, list):
            return [text for item in value for text in strings(item)]
        return [value] if isinstance(value, str) else []

    assert any(HOSTILE in text for text in strings(json.loads(done.stdout)))


@pytest.mark.parametrize(
    "words",
    [
        ("show", f"/none/{FILE}"),
        ("show", "activations", HOSTILE),
        ("facts", "activations", "--only", HOSTILE),
        ("facts", "activations", "activations"),
        ("facts", "activations", "weights", "--require", "F4"),
        ("compare", "activations", f"/none/{FILE}"),
        ("report", "activations", "-o", f"/none/{FILE}.html"),
        ("export", "activations", "-o", f"{FILE}.nothing"),
        ("weights", f"/none/{FILE}"),
    ],
    ids=lambda words: words[0],
)
def test_error_sentences_steer_no_terminal(saved, words):
    done = command(*of(saved, words))
    assert done.exit_code != 0
    assert done.stderr.startswith("lmfacts: ")
    assert invisible(done.stdout + done.stderr) == set()
    assert r"\x1b]0;" in done.stderr


class Screen(io.StringIO):
    """A terminal that is only a string."""

    encoding = "utf-8"

    def isatty(self):
        return True


def test_the_live_view_sends_its_own_sequences_only(monkeypatch):
    run = hostile_activations()
    screen = Screen()
    monkeypatch.setattr("sys.stderr", screen)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "150")
    names = [name for name in run if NAME in name]
    options = {"n_tokens": 10, "n_tokens_total": 20, "fraction": 0.5, "elapsed_s": 1.0, "model_s": 0.5}
    with LiveView(progress_console(), interval_s=0.0) as view:
        for shown in (names, ["blocks.0.resid_post"]):
            view(Progress("scanning", HOSTILE, **options, site_names=tuple(shown), site=run.__getitem__))
    written = screen.getvalue()
    own = re.sub(r"\x1b\[\??[0-9;]*[ABCDGHJKhlm]|\r", "", written)
    assert invisible(own) == set()
    assert "\x1b[2J" not in written
    assert r"\x1b]0;owned" in own
    assert "[red]" in own

    lines = io.StringIO()
    with PlainProgress(lines) as view:
        view(Progress("scanning", HOSTILE, **options, site_names=tuple(names), site=run.__getitem__))
    assert invisible(lines.getvalue()) == set()
    assert all(line.startswith(("scanning x", "x")) for line in lines.getvalue().splitlines())


def test_a_console_shows_whatever_it_is_given():
    screen = Screen()
    console = SafeConsole(file=screen, force_terminal=True, color_system="truecolor", width=60, markup=False)
    console.print("a\x1b[31mb\u202ec", style="red")
    console.print("\x9b2Jd\ud800")
    assert STYLE.sub("", screen.getvalue()) == "a\\x1b[31mb\\u202ec\n\\x9b2Jd\\ud800\n"


def test_a_run_in_a_notebook_or_at_a_prompt_is_visible():
    for run in (hostile_activations(), hostile_weights()):
        assert invisible(repr(run)) == set()
        assert SHOWN in repr(run)


def test_visible_text_is_left_as_it_is():
    for text in ("", "a b", "two\nlines", "é 文字 ✓ ▁▂▃ 😀", "a\u00a0b\u3000c", r"C:\x1b"):
        assert visible(text) == text
    assert visible("a\tb\r\nc") == "a\\tb\\r\nc"
    assert visible_line("a\nb") == r"a\nb"
    assert visible(visible(HOSTILE)) == visible(HOSTILE)


# Shells

NAMES = [
    "gpt2",
    "org/name",
    "with space",
    "it's",
    'a"b',
    "$(id)`id`",
    "-rf",
    "--help",
    "a\nb",
    "\x1b]0;x\x07'\\",
    "文字",
    "",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_shell_reads_the_word_that_was_meant(name):
    word = shell_word(name)
    assert invisible(word) == set()
    assert "\n" not in word
    done = subprocess.run(["bash", "-c", f"printf '%s' {word}"], capture_output=True, check=True)
    assert done.stdout.decode() == (f"./{name}" if name.startswith("-") else name)


def test_names_of_bytes_that_are_no_text_reach_the_shell():
    word = shell_word("a\udcff1")
    done = subprocess.run(["bash", "-c", f"printf '%s' {word}"], capture_output=True, check=True)
    assert done.stdout == b"a\xff1"


def test_commands_that_are_offered_are_quoted(saved):
    written = command("facts", saved["activations"], saved["weights"]).stdout
    hint = "".join(re.split(r"\\\n", written[written.index("lmfacts facts ") :])).split("\n")[0]
    done = subprocess.run(["bash", "-c", f"printf '%s\\n' {hint}"], capture_output=True, check=True)
    assert str(saved["weights"]) in done.stdout.decode()
    for name, offered in (("a b;id", "'a b;id'"), ("-x", "./-x"), ("x\x1b", r"$'x\033'")):
        run = hostile_weights()
        run.metadata["model"]["id"] = name
        (fact,) = check(run, only=["F2"])
        assert fact.command == f"lmfacts scan {offered} -o activations.lmfacts"


# Pages


@pytest.fixture(scope="module")
def pages(saved, tmp_path_factory):
    """The report as HTML and as Markdown, written to a folder with a name that needs quoting."""
    folder = tmp_path_factory.mktemp("pages") / "a (b) # c"
    folder.mkdir()
    page = build_page([load(saved["activations"]), load(saved["weights"])])
    for name in ("page (1).html", "page (1).md"):
        write_page(page, folder / name)
    return folder


class Reader(HTMLParser):
    """Collects tags with their attributes, and text."""

    def __init__(self):
        super().__init__()
        self.tags, self.text = [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text.append(data)


def test_an_html_page_has_the_texts_and_nothing_of_their_making(pages):
    html = (pages / "page (1).html").read_text(encoding="utf-8")
    assert invisible(html) == set()
    reader = Reader()
    reader.feed(html)
    assert "script" not in {tag for tag, _ in reader.tags}
    assert not [value for _, attributes in reader.tags for name, value in attributes.items() if name.startswith("on")]
    addresses = {a["href"].partition(":")[0] for tag, a in reader.tags if tag == "a"}
    assert {address for address in addresses if not address.startswith("#")} == {"https"}
    text = "".join(reader.text)
    assert SHOWN in text
    assert "<script>alert(1)</script>" in text
    assert "[red][/][/red]" in text


def test_a_markdown_page_keeps_its_structure(pages):
    markdown = (pages / "page (1).md").read_text(encoding="utf-8")
    assert invisible(markdown) == set()
    lines = markdown.splitlines()
    assert lines[0].startswith("# x\\\\x1b")
    outside, inside, fence = [], [], None
    for line in lines:
        if (match := re.match(r"`{3,}", line)) and (fence is None or line == fence):
            fence = None if fence else match[0]
            continue
        (inside if fence else outside).append(line)
    assert fence is None
    assert any("$(id)" in line for line in inside)
    assert not [line for line in outside if "<script" in line or "```" in line]
    headings = [line for line in outside if line.startswith("#")]
    assert sum(line.startswith("# ") for line in headings) == 1
    tables = [line for line in outside if line.startswith("|")]
    widths = [len(re.findall(r"(?<!\\)(?:\\\\)*\|", line)) for line in tables]
    starts = [index for index, line in enumerate(tables) if set(line) <= set("|:-")]
    for start, end in zip(starts, [*(start - 1 for start in starts[1:]), len(tables)], strict=True):
        assert set(widths[start - 1 : end]) == {widths[start]}


def test_figures_are_where_the_markdown_page_says(pages):
    from urllib.parse import unquote

    markdown = (pages / "page (1).md").read_text(encoding="utf-8")
    named = [unquote(target) for target in re.findall(r"!\[(?:\\.|[^\]\\])*\]\(([^()\s]+)\)", markdown)]
    assert len(named) > 20
    assert {path.relative_to(pages).as_posix() for path in pages.glob("*/*.svg")} == set(named)
    for path in pages.glob("*/*.svg"):
        svg = path.read_text(encoding="utf-8")
        assert invisible(svg) == set()
        root = ET.fromstring(svg)
        assert not {element.tag.rpartition("}")[2] for element in root.iter()} & {"script", "a", "image"}
    assert any(r"\x1b]0;owned" in path.read_text(encoding="utf-8") for path in pages.glob("*/*.svg"))


def test_the_commands_of_a_page_are_quoted(saved, pages):
    html = (pages / "page (1).html").read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(html)
    block = next(text for text in reader.text if text.startswith("lmfacts scan") and "lmfacts report" in text)
    *_, report = block.splitlines()
    assert block.count("\n") == 2
    words = subprocess.run(["bash", "-c", f"printf '%s\\0' {report}"], capture_output=True, check=True).stdout
    names = words.decode().split("\0")[2:-3]
    assert names == [saved["activations"].name, saved["weights"].name]
    assert shlex.split("lmfacts report -o report.html") == ["lmfacts", "report", "-o", "report.html"]
