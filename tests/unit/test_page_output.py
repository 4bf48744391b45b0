"""Writing a page: whole or not at all, and never over what is not its own."""

from __future__ import annotations

import os

import pytest

from lmfacts.charts import Chart, Figure
from lmfacts.errors import RunFileError, UsageError
from lmfacts.render.page import output
from lmfacts.render.page.document import Page, Paragraph
from lmfacts.render.page.output import checked_destination, write_page


def page(*names, text="text"):
    figures = tuple(Figure("Title", "Caption.", (Chart(name, "Title").described("It shows this."),)) for name in names)
    return Page("model", "Facts", (Paragraph((text,)), *figures), ())


def names_in(folder):
    return sorted(entry.name for entry in folder.iterdir())


# HTML


@pytest.mark.parametrize("name", ["report.html", "a.HTM"])
def test_html_is_one_file(tmp_path, name):
    path = tmp_path / name
    assert write_page(page("f1-a"), path) == [path]
    assert names_in(tmp_path) == [name]
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_text_that_utf_8_does_not_have_is_escaped(tmp_path):
    (path,) = write_page(page(text="a\udcffb"), tmp_path / "report.html")
    assert r"a\udcffb" in path.read_text(encoding="utf-8")


def test_what_fails_leaves_what_was_there(tmp_path, monkeypatch):
    path = tmp_path / "report.html"
    path.write_text("old")

    def fail(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(output, "to_html", fail)
    with pytest.raises(RunFileError, match="No space left on device"):
        write_page(page(), path)
    assert path.read_text() == "old"
    assert names_in(tmp_path) == ["report.html"]


# Markdown


@pytest.mark.parametrize("name", ["report.md", "report.markdown"])
def test_markdown_has_its_figures_in_a_folder_beside_it(tmp_path, name):
    path = tmp_path / name
    written = write_page(page("f1-a", "f10-b"), path)
    folder = tmp_path / "report_figures"
    assert written == [path, folder / "f1-a.svg", folder / "f10-b.svg"]
    assert names_in(tmp_path) == [name, "report_figures"]
    assert names_in(folder) == ["f1-a.svg", "f10-b.svg"]
    assert "(report_figures/f1-a.svg)" in path.read_text(encoding="utf-8")
    assert 'xmlns="http://www.w3.org/2000/svg"' in (folder / "f1-a.svg").read_text(encoding="utf-8")


def test_a_newer_page_replaces_the_folder_of_an_older_one(tmp_path):
    write_page(page("f1-a", "f2-a"), tmp_path / "report.md")
    write_page(page("f1-a", text="new"), tmp_path / "report.md")
    assert names_in(tmp_path / "report_figures") == ["f1-a.svg"]
    assert names_in(tmp_path) == ["report.md", "report_figures"]
    assert "new" in (tmp_path / "report.md").read_text()


@pytest.mark.parametrize("where", ["standalone", "replace"])
def test_what_fails_leaves_the_older_page_and_its_figures(tmp_path, monkeypatch, where):
    write_page(page("f1-a", text="old"), tmp_path / "report.md")

    def fail(*_):
        raise OSError(28, "No space left on device")

    if where == "standalone":
        monkeypatch.setattr(output, "standalone", fail)
    else:  # after the figures are in their place, the page is not
        monkeypatch.setattr("pathlib.Path.replace", fail)
    with pytest.raises(RunFileError, match="No space left on device"):
        write_page(page("f2-a", text="new"), tmp_path / "report.md")
    assert names_in(tmp_path) == ["report.md", "report_figures"]
    assert names_in(tmp_path / "report_figures") == ["f1-a.svg"]
    assert "old" in (tmp_path / "report.md").read_text()


def test_an_interrupt_leaves_the_older_page_and_its_figures(tmp_path, monkeypatch):
    write_page(page("f1-a"), tmp_path / "report.md")

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("pathlib.Path.replace", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_page(page("f2-a"), tmp_path / "report.md")
    assert names_in(tmp_path) == ["report.md", "report_figures"]
    assert names_in(tmp_path / "report_figures") == ["f1-a.svg"]


@pytest.mark.parametrize("stranger", ["notes.txt", "photo.svg", "f1-a.png"])
def test_a_folder_with_something_else_in_it_is_not_replaced(tmp_path, stranger):
    folder = tmp_path / "report_figures"
    folder.mkdir()
    (folder / stranger).write_text("mine")
    with pytest.raises(UsageError, match=stranger):
        write_page(page("f1-a"), tmp_path / "report.md")
    assert names_in(tmp_path) == ["report_figures"]
    assert (folder / stranger).read_text() == "mine"


def test_a_link_in_the_place_of_the_folder_is_not_replaced(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "report_figures").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UsageError, match="link"):
        write_page(page("f1-a"), tmp_path / "report.md")


# Where


@pytest.mark.parametrize("name", ["report.pdf", "report", "run.lmfacts"])
def test_another_ending_is_refused_with_those_there_are(tmp_path, name):
    with pytest.raises(UsageError, match=r"\.html.*\.md"):
        checked_destination(tmp_path / name)


def test_a_folder_that_is_missing_is_refused(tmp_path):
    with pytest.raises(UsageError, match="there is no folder"):
        checked_destination(tmp_path / "none" / "report.html")


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "report.html").mkdir()
    with pytest.raises(UsageError, match="it is a folder"):
        checked_destination(tmp_path / "report.html")


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_folder_that_may_not_be_written_to_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(UsageError, match="not writable"):
        checked_destination(tmp_path / "report.html")
