"""What a page says of runs and facts."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from lmfacts.errors import MismatchedRunsError, UsageError
from lmfacts.facts import CATALOGUE, Evidence, Fact, Inputs, Measure, Table, Verdict, check
from lmfacts.facts.definition import Objection, PublishedValue
from lmfacts.facts.runs_view import RunsView
from lmfacts.render.page.build import build_page
from lmfacts.render.page.document import (
    Badge,
    Code,
    CodeBlock,
    Context,
    Details,
    Figure,
    Foreign,
    Link,
    Listing,
    Paragraph,
    Strong,
    TableBlock,
)
from lmfacts.render.page.fact_section import fact_section
from lmfacts.render.page.html import to_html
from lmfacts.render.page.opening import introduction, warnings
from support import example_facts
from support.accumulated_runs import accumulated_run
from support.synthetic_runs import gaussian_run
from support.synthetic_weights import weights_run


def text_of(part):
    """All text of a part of a page."""
    match part:
        case str():
            return part
        case Code(text) | Strong(text) | Foreign(text) | Link(text, _):
            return text
        case Badge(verdict):
            return verdict.value
        case Context(before, token, after):
            return before + token + after
        case Paragraph(words, _):
            return text_of(words)
        case Details(title, blocks):
            return f"{title}\n{text_of(blocks)}"
        case CodeBlock(lines):
            return "\n".join(lines)
        case TableBlock():
            rows = "\n".join(" | ".join(map(text_of, row)) for row in part.rows)
            return f"{part.title}\n{' | '.join(column.name for column in part.columns)}\n{rows}\n{text_of(part.note)}"
        case Figure():
            return f"{part.title}\n{part.caption}"
        case Listing(items):
            return "\n".join(map(text_of, items))
    return (
        "".join(map(text_of, part))
        if all(isinstance(p, str) or hasattr(p, "text") for p in part)
        else "\n".join(map(text_of, part))
    )


def sections_of(page):
    return {section.id: section for section in page.sections}


@pytest.fixture(scope="module")
def page():
    return build_page(example_facts.inputs())


# The whole


def test_there_is_a_section_for_every_fact_in_order_and_one_before_and_after(page):
    ids = [section.id for section in page.sections]
    assert ids == ["runs", *(fact_id.lower() for fact_id in CATALOGUE), "largest-values", "method"]


def test_the_table_of_verdicts_leads_to_every_section_with_what_was_found(page):
    facts = check(example_facts.inputs())
    (table,) = [block for block in page.opening if isinstance(block, TableBlock)]
    assert table.layout == "verdicts"
    for (number, link, badge, found), fact in zip(table.rows, facts, strict=True):
        assert number == (fact.id,)
        assert link == (Link(fact.title, f"#{fact.id.lower()}"),)
        assert badge == (Badge(fact.verdict),)
        assert text_of(found) == text_of(fact.summary).replace("<=", "≤").replace(">=", "≥").replace("+-", "±").replace(
            "`", ""
        )


def test_the_verdicts_are_those_of_the_facts(page):
    sections = sections_of(page)
    for fact in check(example_facts.inputs()):
        assert sections[fact.id.lower()].verdict is fact.verdict
        assert sections[fact.id.lower()].eyebrow == fact.id


def test_the_same_runs_give_the_same_bytes(page):
    assert to_html(build_page(example_facts.inputs())) == to_html(page)


def test_every_panel_has_a_name_of_its_own_and_says_what_it_shows(page):
    charts = [chart for figure in page.figures for chart in figure.charts]
    assert len(charts) > 30
    assert len({chart.name for chart in charts}) == len(charts)
    assert all(len(chart.alt) > 20 for chart in charts)
    assert all(figure.caption for figure in page.figures)


def test_a_page_stays_small(page):
    assert len(to_html(page)) < 1_000_000


def test_facts_that_are_given_are_shown_as_they_are():
    shown = build_page(example_facts.inputs(), [Fact("F2", "T", "C", "S", Verdict.MEASURED, "Only this.")])
    assert [section.id for section in shown.sections] == ["runs", "f2", "largest-values", "method"]
    assert sections_of(shown)["f2"].verdict is Verdict.MEASURED


def test_runs_that_do_not_belong_together_are_refused():
    with pytest.raises(UsageError):
        build_page([])
    with pytest.raises(MismatchedRunsError):
        build_page([gaussian_run(n_layers=2), weights_run()])


def test_one_run_is_enough():
    page = build_page(gaussian_run(n_layers=2))
    verdicts = {section.id: section.verdict for section in page.sections}
    assert verdicts["f8"] is Verdict.NOT_APPLICABLE
    assert "largest-values" in verdicts
    assert "largest-values" not in sections_of(build_page(weights_run()))


# What was read


def test_what_was_read_is_said(page):
    told = text_of(sections_of(page)["runs"].blocks)
    for expected in (
        "synthetic",
        "made-up tokens",
        "64 tokens in 4 sequences",
        "2024-01-01 00:00 UTC",
        "complete",
        "layernorm",
    ):
        assert expected in told
    assert "lm_head.weight is embed.W_E.weight" in told


def test_an_incomplete_run_is_said_to_be_so_before_anything_else():
    page = build_page(example_facts.inputs(complete=False))
    first = page.opening[0]
    assert first.kind == "warning"
    assert "incomplete: 2 of 12 hooks never fired: blocks.3.z, blocks.4.z" in text_of(first)
    assert "INCOMPLETE" in text_of(sections_of(page)["runs"].blocks)
    assert not [
        block for block in build_page(example_facts.inputs()).opening if getattr(block, "kind", "") == "warning"
    ]


def test_values_that_are_not_finite_are_said():
    def values(layer, _, position):
        found = np.ones((position.size, 4))
        found[3, 2] = np.nan if layer == 1 else 1.0
        return found

    (found,) = warnings(RunsView(Inputs.of([accumulated_run(values, n_layers=3)])))
    assert found.kind == "warning"
    assert "NaN or infinities in 1 site: blocks.1.resid_post" in text_of(found)


def test_paths_of_files_stay_at_home():
    run = gaussian_run(
        n_layers=2,
        metadata={
            "model": {"id": "/home/someone/model.gguf"},
            "corpus": {"files": [{"path": "/home/someone/text.txt"}]},
        },
    )
    html = to_html(build_page(run))
    assert "someone" not in html
    assert "<h1>model.gguf</h1>" in html
    assert "text.txt" in html


ALL_BUT_HOLDS_AND_FAILS = (
    "Of 5 facts: 1 holds for the body only, 1 is open, 2 do not apply and 1 is measured without a claim."
)


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ([Verdict.HOLDS], "Of 1 fact: 1 holds here."),
        ([Verdict.HOLDS, Verdict.HOLDS, Verdict.FAILS], "Of 3 facts: 2 hold here and 1 is not so here."),
        (
            [Verdict.BODY_ONLY, Verdict.INCONCLUSIVE, Verdict.NOT_APPLICABLE, Verdict.NOT_APPLICABLE, Verdict.MEASURED],
            ALL_BUT_HOLDS_AND_FAILS,
        ),
        ([], "No facts were checked."),
    ],
)
def test_verdicts_are_counted_in_words(verdicts, expected):
    assert text_of(introduction([Fact("F", "", "", "", verdict, "") for verdict in verdicts])[-1]) == expected


# One fact

EVIDENCE = Evidence(
    (
        Measure("share of layers", 0.75, ">= 0.5", passed=True, interval=(0.7, 0.8), note="of 4"),
        Measure("overlap", 0.25, "<= 0.1", passed=False),
        Measure("number", 4.0),
        Measure("nothing", np.nan),
    ),
    (
        Table(
            "Short",
            ("layer", "dim", "value", "holds", "name"),
            ((1, 1507, 12345.6789, True, "x"), (2, 3, None, False, "y")),
        ),
        Table("Long", ("layer", "tokens"), tuple((layer, 10_000 + layer) for layer in range(9)), "How to read `it`."),
    ),
    ("A note with arXiv:2402.17762.",),
)
FACT = Fact("F2", "Title", "Claim <= 3.", "Someone, https://example.org/x", Verdict.FAILS, "Found.", EVIDENCE, "spikes")
DEFINITION = dataclasses.replace(
    CATALOGUE["F2"],
    measured="So it is measured.",
    formula=("a = b <= c",),
    thresholds=("HOLDS if a >= 1",),
    objections=(Objection("A. Sceptic", "I doubt it."),),
    published=(PublishedValue("gpt2", "dims", "138, 378", "arXiv:2604.14722", "B"),),
)


def blocks_of(kind, blocks):
    return [block for block in blocks if isinstance(block, kind)]


def test_a_fact_has_its_claim_its_source_and_what_was_found():
    blocks = fact_section(FACT, DEFINITION, []).blocks
    assert text_of(blocks[0]) == "Claim: Claim ≤ 3. — Someone, example.org/x"
    assert Link("example.org/x", "https://example.org/x") in blocks[0].words
    assert text_of(blocks[1]) == "Found. Class: spikes."
    assert blocks[1].kind == "lead"


def test_numbers_stand_beside_their_thresholds():
    (table,) = [t for t in blocks_of(TableBlock, fact_section(FACT, DEFINITION, []).blocks) if t.layout == "stacked"]
    assert [column.name for column in table.columns] == ["number", "value", "90 % interval", "threshold", "met"]
    assert [[text_of(cell) for cell in row] for row in table.rows] == [
        ["share of layers (of 4)", "0.7500", "0.7000 to 0.8000", "≥ 0.5", "yes"],
        ["overlap", "0.2500", "", "≤ 0.1", "no"],
        ["number", "4", "", "", ""],
        ["nothing", "\N{EN DASH}", "", "", ""],
    ]


def test_short_tables_are_open_and_long_ones_folded():
    blocks = fact_section(FACT, DEFINITION, []).blocks
    (short,) = [table for table in blocks_of(TableBlock, blocks) if table.title == "Short"]
    assert [[text_of(cell) for cell in row] for row in short.rows] == [
        ["1", "1507", "12,346", "yes", "x"],
        ["2", "3", "\N{EN DASH}", "no", "y"],
    ]
    assert [column.numeric for column in short.columns] == [True, True, True, False, False]
    (long,) = [details for details in blocks_of(Details, blocks) if details.title == "Long (9 rows)"]
    (table,) = long.blocks
    assert text_of(table.rows[0][1]) == "10,000"
    assert Code("it") in table.note


def test_how_it_was_measured_what_was_held_against_it_and_what_others_found_are_folded():
    titles = [details.title for details in blocks_of(Details, fact_section(FACT, DEFINITION, []).blocks)]
    assert titles[1:] == ["How it is measured", "Objections (1)", "What others published (1)"]
    told = text_of(fact_section(FACT, DEFINITION, []).blocks)
    for expected in ("So it is measured.", "a = b <= c", "HOLDS if a ≥ 1", "A. Sceptic: I doubt it.", "138, 378"):
        assert expected in told
    assert "B: stated in a paper" in told
    assert "C: second-hand" not in told


def test_a_fact_that_does_not_apply_is_short_and_says_what_would_help():
    fact = Fact("F8", "T", "C", "S", Verdict.NOT_APPLICABLE, "No run.", command="lmfacts weights demo -o w.lmfacts")
    section = fact_section(fact, DEFINITION, [])
    assert section.blocks[-1] == CodeBlock(("lmfacts weights demo -o w.lmfacts",))
    assert len(section.blocks) == 4


# The largest values


def test_the_largest_values_have_their_tokens_and_the_text_around_them():
    def values(_layer, sequence, position):
        found = np.random.default_rng(0).normal(size=(position.size, 8))
        found[(sequence == 2) & (position == 5), 3] = -500.0
        found[position == 0, 1] = 900.0 + np.arange(16)
        return found

    run = accumulated_run(values, n_layers=2)
    section = sections_of(build_page(run))["largest-values"]
    rest, first = blocks_of(TableBlock, section.blocks)
    names = [column.name for column in rest.columns]
    assert "in the text" not in names
    top = dict(zip(names, map(text_of, rest.rows[0]), strict=True))
    assert (top["value"], top["dim"], top["sequence"], top["position"]) == ("\N{MINUS SIGN}500.0", "3", "2", "5")
    assert top["token"] == "' the'"
    assert text_of(first.rows[0][0]) == "+915.0"
    # Values a hundred times smaller are not shown beside it.
    assert len(first.rows) == 1

    run.metadata["token_context"] = {"2:5": {"before": "so far\n", "token": " the", "after": " end"}}
    rest = blocks_of(TableBlock, sections_of(build_page(run))["largest-values"].blocks)[0]
    column = [column.name for column in rest.columns].index("in the text")
    assert rest.rows[0][column] == (Context("so far\\n", " the", " end"),)


# The end


def test_the_end_says_how_to_do_it_again(page):
    told = text_of(sections_of(page)["method"].blocks)
    assert "lmfacts scan synthetic -o activations.lmfacts" in told
    assert "lmfacts weights synthetic -o weights.lmfacts" in told
    assert "lmfacts report activations.lmfacts weights.lmfacts -o report.html" in told
    assert all(verdict.words in told for verdict in Verdict)


def test_how_exact_the_numbers_are_depends_on_the_dtype():
    def told(dtype):
        return text_of(sections_of(build_page(gaussian_run(n_layers=1, dtype=dtype)))["method"].blocks)

    assert "quantiles, shares and moments are exact" in told("bfloat16")
    assert "within a cell" in told("float32")
