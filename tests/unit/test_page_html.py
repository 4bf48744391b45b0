"""A page as HTML: whole, self-contained, escaped, readable without seeing it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

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
from lmfacts.render.page.html import to_html
from lmfacts.render.page.words import context_of, linked, token
from lmfacts.run.info import ContextInfo

VOID = {"meta", "br", "hr", "img", "input", "link"}
NASTY = """<script>alert(1)</script> "quoted" & 'single' </p>"""


class Reader(HTMLParser):
    """Checks that what is opened is closed; remembers elements and text."""

    def __init__(self):
        super().__init__(convert_charrefs=True)
        self.open, self.elements, self.text = [], [], []

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def read(html):
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def figure(name="f1-a"):
    chart = Chart(name, "Title")
    chart.line([0, 1], [0, 1], "blue")
    return Figure("Title", "Caption.", (chart.described("It shows this."),), (Key("values", "blue"),))


def page(*blocks, sections=()):
    return Page("model", "Facts about its internals", blocks, sections)


EVERYTHING = page(
    Paragraph(("Text ", Code("code"), Strong("strong"), Badge(Verdict.HOLDS), Link("there", "#f1")), "lead"),
    Listing((("one",), ("two",))),
    CodeBlock(("a <= b", "second line")),
    TableBlock((Column("name"), Column("value", numeric=True)), ((("x",), ("1",)),), "Rows", ("A note.",)),
    TableBlock((Column("what"), Column("value")), ((("label",), ("text",)),), layout="pairs"),
    TableBlock((Column("empty"),), (), "Nothing"),
    Details("More", (Paragraph(("inside",)), figure("f1-b"))),
    sections=(Section("f1", "A fact", (figure(),), Verdict.BODY_ONLY, "F1"), Section("end", "The end", ())),
)


def test_the_document_is_whole_and_says_its_language_and_encoding():
    html = to_html(EVERYTHING)
    assert html.startswith("<!DOCTYPE html>")
    assert html.endswith("</html>\n")
    elements = read(html).elements
    assert ("html", {"lang": "en"}) in elements
    assert ("meta", {"charset": "utf-8"}) in elements
    assert any(a.get("name") == "viewport" for _, a in elements)


def test_ids_are_unique_and_links_within_the_page_lead_somewhere():
    elements = read(to_html(EVERYTHING)).elements
    ids = [attributes["id"] for _, attributes in elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    targets = [a["href"][1:] for name, a in elements if name == "a" and a.get("href", "").startswith("#")]
    assert targets == ["f1"]
    assert set(targets) <= set(ids)


def test_nothing_is_loaded_and_nothing_runs():
    html = to_html(EVERYTHING)
    elements = read(html).elements
    assert not {tag for tag, _ in elements} & {"script", "link", "img", "iframe", "object", "embed", "base", "form"}
    assert not any(name.startswith("on") or name == "src" for _, attributes in elements for name in attributes)
    assert "@import" not in html
    assert not re.findall(r"url\((?!#)", html)
    policy = next(a["content"] for _, a in elements if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy


@pytest.mark.parametrize(
    "block",
    [
        Paragraph((NASTY,)),
        Paragraph((Code(NASTY), Strong(NASTY), Link(NASTY, NASTY), Foreign(NASTY), Context(NASTY, NASTY, NASTY))),
        Listing(((NASTY,),)),
        CodeBlock((NASTY,)),
        TableBlock((Column(NASTY, label=NASTY),), (((NASTY,),),), NASTY, (NASTY,)),
        TableBlock((Column("a"), Column("b")), (((NASTY,), (NASTY,)),), NASTY, layout="pairs"),
        Details(NASTY, (Paragraph((NASTY,)),)),
        Figure(NASTY, NASTY, (Chart("f", NASTY).described(NASTY),), (Key(NASTY, "blue"),)),
    ],
    ids=lambda block: type(block).__name__,
)
def test_every_text_is_escaped(block):
    shown = Page(NASTY, NASTY, (block,), (Section("s", NASTY, (), None, NASTY),))
    reader = read(to_html(shown))
    assert "script" not in {tag for tag, _ in reader.elements}
    assert NASTY in "".join(reader.text)


def test_characters_that_are_not_visible_or_not_allowed_are_escaped():
    html = to_html(page(Paragraph(("a\x00b\x1bc\x85d\u202ee\ud83d f\u3000g",))))
    assert r"a\x00b\x1bc\x85d\u202ee\ud83d f" + "\u3000g" in html


def test_a_verdict_is_a_word_with_a_sign_and_a_class():
    for verdict in Verdict:
        html = to_html(page(Paragraph((Badge(verdict),))))
        badge = re.search(r'<span class="badge ([\w-]+)"><span aria-hidden="true">(.)</span> ([\w ]+)</span>', html)
        assert badge[1] == verdict.value.lower()
        assert badge[3] == verdict.words
        assert f".{badge[1]} {{" in html  # it has a color


def test_figures_and_tables_can_be_read_without_being_seen():
    elements = read(to_html(EVERYTHING)).elements
    drawings = [a for tag, a in elements if tag == "svg"]
    assert len(drawings) == 2
    assert all(a["role"] == "img" and a["aria-label"] == "It shows this." for a in drawings)
    headings = [a for tag, a in elements if tag == "th"]
    assert headings
    assert all(a["scope"] in ("col", "row") for a in headings)
    boxes = [a for tag, a in elements if a.get("class") == "scroll"]
    assert boxes
    assert all(a["tabindex"] == "0" and a["role"] == "region" and a["aria-label"] for a in boxes)


def test_drawings_follow_the_color_scheme():
    html = to_html(EVERYTHING)
    assert "stroke:var(--blue)" in html
    assert "#1f6fb4" in html.partition("</style>")[0]
    assert "#1f6fb4" not in html.partition("</style>")[2]
    assert "prefers-color-scheme" in html


def test_an_empty_table_says_so():
    assert '<td colspan="1">None.</td>' in to_html(EVERYTHING)


# Texts that a run brought along


def test_a_token_shows_what_cannot_be_seen_and_keeps_to_itself():
    html = to_html(page(Paragraph((token(5, "\u202ea\n<b>\u05d0"),))))
    assert '<bdi class="token">&#x27;\\u202ea\\n&lt;b&gt;\u05d0&#x27;</bdi>' in html


def test_a_token_without_a_text_is_its_id():
    assert token(17, None) == "id 17"
    assert token(-1, None) == "unknown"


def test_the_text_around_a_token_is_escaped_and_cut():
    entry = {"before": "x" * 100 + "\tit's\n", "token": "<t>", "after": "\u200b" + "y" * 100}
    context = context_of(ContextInfo(entry))
    assert context.before.startswith("… ")
    assert context.before.endswith("\\tit's\\n")
    assert context.token == "<t>"
    assert context.after.startswith("\\u200b")
    assert context.after.endswith(" …")
    html = to_html(page(Paragraph((context,))))
    assert "<mark>&lt;t&gt;</mark>" in html
    assert context_of(None) == context_of(ContextInfo({})) == "\N{EN DASH}"


def test_scripts_with_combining_marks_stay_readable():
    assert context_of(ContextInfo({"before": "", "token": "हिन्दी", "after": "e\u0301"})).token == "हिन्दी"


def test_addresses_and_numbers_of_papers_become_links():
    words = linked(
        "Sun et al. (arXiv:2402.17762), https://example.org/a_b. And lesswrong.com/posts/abc, x <= 3 +- 1 of `rest`."
    )
    assert [word for word in words if isinstance(word, Link)] == [
        Link("arXiv:2402.17762", "https://arxiv.org/abs/2402.17762"),
        Link("example.org/a_b", "https://example.org/a_b"),
        Link("lesswrong.com/posts/abc", "https://www.lesswrong.com/posts/abc"),
    ]
    assert Code("rest") in words
    assert ", x ≤ 3 ± 1 of " in words
