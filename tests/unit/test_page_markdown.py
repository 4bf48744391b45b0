"""A page as Markdown: escaped, with tables that stay tables, and figures that are named."""

from __future__ import annotations

import re

import pytest

from lmfacts.charts import Chart, Figure, Key
from lmfacts.facts import Verdict
from lmfacts.render.page.document import (
    Badge,
    Code,
    CodeBlock,
    Column,
    Context,
    Details,
    Foreign,
    Link,
    Listing,
    Page,
    Paragraph,
    Section,
    Strong,
    TableBlock,
)
from lmfacts.render.page.markdown import to_markdown

NASTY = "a|b *c* _d_ `e` <f> [g](h) #i \\ ~j~ $k$\nl & m"
ESCAPED = r"a\|b \*c\* \_d\_ \`e\` &lt;f&gt; \[g\](h) \#i \\ \~j\~ \$k\$ l &amp; m"


def written(*blocks, sections=()):
    return to_markdown(Page("model_x", "Facts", blocks, sections), "report_figures")


def test_every_text_is_escaped_and_stays_on_its_line():
    for block in (
        Paragraph((NASTY,)),
        Listing(((NASTY,),)),
        TableBlock((Column(NASTY),), (((NASTY,),),), NASTY, (NASTY,)),
        Details(NASTY, (Paragraph((Strong(NASTY),)),)),
        Paragraph((Code(NASTY), Foreign(NASTY), Context(NASTY, NASTY, NASTY))),
        Figure(NASTY, NASTY, (Chart("f", NASTY).described(NASTY),), (Key(NASTY, "blue"),)),
    ):
        text = written(block)
        assert ESCAPED in text
        assert NASTY.splitlines()[0] not in text


def test_a_table_has_as_many_cells_in_each_row():
    table = TableBlock(
        (Column("name"), Column("value", numeric=True), Column("token")),
        ((("a|b",), ("1",), (Foreign("'|'"),)), (("c",), ("",), (Badge(Verdict.FAILS),))),
        "Rows",
        ("How to read it.",),
    )
    lines = [line for line in written(table).splitlines() if line.startswith("|")]
    assert [len(re.findall(r"(?<!\\)\|", line)) for line in lines] == [4, 4, 4, 4]
    assert lines[1] == "|:---|---:|:---|"
    assert "○ **not so here**" in lines[3]


@pytest.mark.parametrize(
    ("start", "expected"),
    [("- x", r"\- x"), ("+ x", r"\+ x"), ("1. x", r"1\. x"), ("2) x", r"2\) x"), ("> x", "&gt; x")],
)
def test_a_paragraph_does_not_become_something_else(start, expected):
    assert written(Paragraph((start,))).splitlines()[-1] == expected


def test_sections_can_be_linked_to():
    text = written(
        TableBlock((Column("fact"),), (((Link("Outliers", "#f2"),),),), layout="verdicts"),
        sections=(Section("f2", "Outliers", (), Verdict.HOLDS, "F2"),),
    )
    assert "[Outliers](#f2)" in text
    assert '<a id="f2"></a>' in text
    assert "## F2 Outliers: ● holds here" in text


def test_figures_are_files_in_the_folder_with_their_text_and_legend():
    charts = (Chart("f1-a", "A").described("It shows [this]."), Chart("f1-b", "B").described("And that."))
    text = written(Figure("Title", "Caption.", charts, (Key("fit", "orange", "dashed"), Key("all", "fill", "area"))))
    assert r"![It shows \[this\].](report_figures/f1-a.svg)" in text
    assert "![And that.](report_figures/f1-b.svg)" in text
    assert "Key: orange dashed line: fit; light blue area: all." in text
    assert "Caption." in text


def test_code_is_as_it_is():
    assert "```text\na <= b_c\n```" in written(CodeBlock(("a <= b_c",)))


def test_a_warning_stands_out():
    assert "> **Incomplete:** a reason" in written(Paragraph((Strong("Incomplete: "), "a reason"), "warning"))
