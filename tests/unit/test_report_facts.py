"""How facts are shown: nothing is cut at any width, and the JSON document has all of it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from rich.text import Text

from lmfacts.facts import CATALOGUE, Evidence, Fact, Inputs, Measure, Table, Verdict
from lmfacts.facts.required_verdicts import Requirement
from lmfacts.render.terminal.console import to_text
from lmfacts.render.terminal.fact_page import render_fact
from lmfacts.render.terminal.facts_json import facts_json
from lmfacts.render.terminal.facts_table import render_facts
from lmfacts.render.terminal.verdicts import MEANINGS, neighbors, verdict_text
from lmfacts.render.terminal.wrapped_rows import WrappedColumn, WrappedRows
from support.example_facts import DEFINITION, FACTS, WEIGHTS_COMMAND, inputs
from support.synthetic_runs import gaussian_run

WIDTHS = (40, 57, 80, 100, 140, 200)


def letters(text):
    """A text without blanks and rules, so that it does not matter where its lines end."""
    return "".join(text.replace("─", "").split())


def table(facts, *, width=140, complete=True, required=()):
    return to_text(
        render_facts(inputs(complete=complete), facts, [Requirement.parse(each) for each in required]), width
    )


# Rows that wrap


def test_text_wraps_inside_its_column():
    columns = [WrappedColumn("id"), WrappedColumn("text", wraps=True), WrappedColumn("n", "right")]
    sentence = "a sentence that is longer than the place that is left for it"
    lines = to_text(WrappedRows(columns, [["F1", sentence, "12,345"], ["F10", "short", "7"]]), 40).splitlines()
    assert lines[0].split() == ["id", "text", "n"]
    assert max(map(len, lines)) == 40
    assert [line[34:] for line in lines if line[34:].strip()] == ["     n", "12,345", "     7"]
    assert letters("".join(line[7:33] for line in lines[1:-1])) == letters(sentence)
    assert lines[1].startswith("  F1 ")
    assert all(line.startswith(" " * 7) for line in lines[2:-1])


def test_a_cell_may_have_several_lines_and_styles():
    cell = Text("title", style="bold").append("\nwhat it is", style="not bold")
    lines = to_text(WrappedRows([WrappedColumn(), WrappedColumn(wraps=True)], [["F1", cell]]), 80).splitlines()
    assert lines == ["  F1  title", "      what it is"]


def test_headings_wrap_before_numbers_are_moved_below():
    columns = [WrappedColumn("layer", "right"), *(WrappedColumn(f"a long heading {n}", "right") for n in range(4))]
    rows = [["0", "1.00", "2.00", "3.00", "4.00"], ["1", "10.0", "20.0", "30.0", "40.0"]]
    wide = to_text(WrappedRows(columns, rows), 100).splitlines()
    assert len(wide) == 3
    narrow = to_text(WrappedRows(columns, rows), 50).splitlines()
    assert [line.split() for line in narrow[-2:]] == rows
    assert narrow[-3].split()[0] == "layer", "headings end on the line above the numbers"
    assert letters("".join(narrow[:-2])) != ""
    assert max(map(len, narrow)) <= 50


def test_what_does_not_fit_goes_on_below_with_the_first_column_again():
    columns = [WrappedColumn("site"), *(WrappedColumn(f"value{n}", "right") for n in range(9))]
    rows = [[f"blocks.{layer}.resid_post", *(f"{layer}{n}.000" for n in range(9))] for layer in range(2)]
    lines = to_text(WrappedRows(columns, rows), 50).splitlines()
    parts = [part.splitlines() for part in "\n".join(lines).split("\n\n")]
    assert len(parts) > 1
    assert all(part[0].split()[0] == "site" for part in parts)
    assert [cell for part in parts for cell in part[1].split()[1:]] == rows[0][1:]
    assert [cell for part in parts for cell in part[2].split()[1:]] == rows[1][1:]
    assert max(map(len, lines)) <= 50


# The table of verdicts


@pytest.mark.parametrize("width", WIDTHS)
def test_the_table_cuts_nothing_and_keeps_to_the_width(width):
    text = table(FACTS, width=width, complete=False, required=["F2"])
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert all(line == line.rstrip() for line in lines)
    assert "…" not in text
    for fact in FACTS:
        assert f"  {fact.id} " in text
        assert letters(fact.title) in letters(text)


def test_every_verdict_has_a_sign_of_its_own_and_a_meaning():
    signs = {verdict_text(verdict).plain.split()[0] for verdict in Verdict}
    assert len(signs) == len(Verdict) == len(MEANINGS)
    assert all(verdict_text(verdict).plain.endswith(verdict.words) for verdict in Verdict)


def test_only_verdicts_that_occur_are_explained_and_counted():
    text = table(FACTS[:3])
    legend = text.partition("Verdicts ─")[2]
    assert [line.split("   ")[0].split()[:4] for line in legend.splitlines()[1:4]] == [
        ["●", "holds", "here"],
        ["◐", "body", "only"],
        ["○", "not", "so", "here"],
    ]
    assert all(f"({name})" in legend for name in ("HOLDS", "BODY-ONLY", "FAILS"))  # as `--require` and JSON call them
    assert "NOT-APPLICABLE" not in text


def test_what_several_facts_lack_is_said_once_with_its_command():
    text = table(FACTS)
    assert text.count("It needs a run of weights, and none was given.") == 1
    assert text.count(WEIGHTS_COMMAND) == 1
    assert "F8, F10: It needs a run of weights, and none was given." in text
    assert "F4: This command supplies it:\n    lmfacts scan synthetic" in text
    assert text.count("The run has no ln1_out sites.") == 1
    assert "The model has no norms." in text


def test_a_long_command_can_still_be_pasted():
    command = f"lmfacts scan '/data/some folder/{'m' * 30}' --sites default --max-tokens 100000 -o activations.lmfacts"
    text = table([replace(FACTS[3], command=command)], width=60)
    lines = text.partition("supplies it:\n")[2].partition("\n\n")[0].splitlines()
    assert len(lines) > 1
    assert all(line.endswith(" \\") for line in lines[:-1])
    assert " ".join(line.strip().removesuffix(" \\") for line in lines) == command


def test_an_incomplete_run_is_said_to_be_so():
    assert "NOT COMPLETE" not in table(FACTS)
    text = table(FACTS, complete=False)
    assert "NOT COMPLETE: 2 of 12 hooks never fired: blocks.3.z, blocks.4.z." in text


def test_requirements_are_shown_as_met_or_not():
    text = table(FACTS, required=["F2", "F1=BODY-ONLY", "F1", "F6"])
    shown = text.partition("Required ─")[2].partition("Verdicts ─")[0]
    assert [line.split() for line in shown.splitlines()[1:5]] == [
        ["✓", "met", "F2", "is", "HOLDS"],
        ["✓", "met", "F1=BODY-ONLY", "is", "BODY-ONLY"],
        ["✗", "NOT", "MET", "F1", "is", "BODY-ONLY"],
        ["✗", "NOT", "MET", "F6", "is", "INCONCLUSIVE"],
    ]
    assert "Required" not in table(FACTS)


def test_saved_runs_are_named_with_the_command_for_one_fact():
    run = gaussian_run()
    assert "--explain" not in to_text(render_facts(Inputs.of([run]), FACTS))
    run.path = Path("my run.lmfacts")
    text = to_text(render_facts(Inputs.of([run]), FACTS))
    assert "my run.lmfacts · 64 tokens in 4 sequences" in text
    assert "lmfacts facts 'my run.lmfacts' --explain F2" in text
    nothing = to_text(render_facts(Inputs.of([run]), [FACTS[3]]))
    assert "--explain" not in nothing


# One fact in full


@pytest.mark.parametrize("width", WIDTHS)
def test_a_page_leaves_nothing_out(width):
    text = to_text(render_fact(FACTS[0], DEFINITION), width)
    lines = text.splitlines()
    assert max(map(len, lines)) <= width
    assert all(line == line.rstrip() for line in lines)
    assert "…" not in text
    said = letters(text)
    for sentence in (
        FACTS[0].summary,
        DEFINITION.claim,
        DEFINITION.measured,
        *DEFINITION.formula,
        *DEFINITION.thresholds,
        *FACTS[0].evidence.notes,
    ):
        assert letters(sentence) in said
    for shown in FACTS[0].evidence.tables:
        assert letters(shown.title) in said
    for n in range(12):
        assert letters(f"{10.0**n:.2e}".replace("e+0", "e").replace("e+", "e")) in said or n < 6


def test_numbers_stand_beside_their_thresholds():
    text = to_text(render_fact(FACTS[0], DEFINITION), 120)
    rows = text.partition("Numbers ─")[2].splitlines()[2:]
    assert rows[0].split() == ["dims", "at", "75", "%", "of", "the", "layers", "4", ">=", "1", "met"]
    assert rows[1].split()[-7:] == ["0.833", "0.750", "to", "0.900", ">=", "0.5", "met"]
    (undecided,) = [row for row in rows if "0.310" in row]
    assert undecided.startswith("  share of the energy")
    assert "met" not in undecided
    (unmet,) = [row for row in rows if "0.250" in row]
    assert unmet.split()[-2:] == ["not", "met"]
    assert any(row.endswith(" -") and "over all tokens" in row for row in rows)
    assert any(row.endswith("3.20e-7") for row in rows)


def test_what_other_thresholds_would_say_stands_below_the_verdict():
    lines = to_text(render_fact(FACTS[0], DEFINITION), 120).splitlines()
    assert lines[2].strip() == "with thresholds 10 % looser: holds here; 10 % stricter: open"
    same = replace(FACTS[0], looser=Verdict.HOLDS, stricter=Verdict.HOLDS)
    assert neighbors(same) == "the same verdict with thresholds 10 % looser or 10 % stricter"
    open_either_way = replace(same, looser=Verdict.FAILS, stricter=Verdict.FAILS)
    assert neighbors(open_either_way) == "with thresholds 10 % looser or 10 % stricter: not so here"
    assert neighbors(FACTS[1]) is None
    undecided = replace(same, verdict=Verdict.INCONCLUSIVE, looser=Verdict.INCONCLUSIVE, stricter=Verdict.INCONCLUSIVE)
    assert neighbors(undecided) is None


def test_what_a_fact_lacks_has_no_place():
    bare = Fact("F9", "Norms", "", "somebody", Verdict.NOT_APPLICABLE, "The model has no norms.")
    entry = replace(DEFINITION, measured="", formula=(), thresholds=(), objections=(), published=())
    text = to_text(render_fact(bare, entry), 100)
    assert text.splitlines() == [
        f"F9 Norms {'─' * 91}",
        "  verdict  - not applicable",
        "  found    The model has no norms.",
        "  source   somebody",
    ]


@pytest.mark.parametrize("width", [60, 61, 62, 200])
def test_long_titles_wrap(width):
    title = "A title of " + "many words and " * 3 + "an end"
    fact = replace(FACTS[0], title=title, evidence=Evidence(tables=(Table(title, ("n",), ((1,),)),)))
    lines = to_text(render_fact(fact, DEFINITION), width).splitlines()
    assert letters("".join(lines)).count(letters(title)) == 2
    assert max(map(len, lines)) <= width


def test_class_and_command_are_shown():
    classed = to_text(render_fact(FACTS[2], DEFINITION), 120)
    assert "  class    sub-threshold spikes" in classed
    lacking = to_text(render_fact(FACTS[5], DEFINITION), 120)
    assert f"  supply   {WEIGHTS_COMMAND}" in lacking


def test_cells_that_are_no_numbers():
    cells = ((None, float("nan"), True, 4096, 4096, "text", float("inf")),)
    columns = ("a", "b", "c", "dim", "n values", "d", "e")
    fact = replace(FACTS[0], evidence=Evidence(tables=(Table("T", columns, cells),)))
    row = to_text(render_fact(fact, DEFINITION), 120).partition("T ─")[2].splitlines()[2]
    assert row.split() == ["-", "-", "yes", "4096", "4,096", "text", "inf"]


# The JSON document


def test_the_document_has_runs_facts_and_requirements():
    given = inputs(complete=False)
    required = [Requirement.parse("F2"), Requirement.parse("F3=BODY-ONLY")]
    document = facts_json(given, FACTS, requirements=required)
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert (document["document"], document["version"]) == ("lmfacts.facts", 1)
    assert document["model"]["id"] == "synthetic"
    assert (document["model"]["n_layers"], document["model"]["norm_kind"]) == (12, "layernorm")
    assert [(run["kind"], run["complete"]) for run in document["runs"]] == [("activations", False), ("weights", True)]
    assert document["runs"][0]["n_sequences"] == 4
    assert [fact["id"] for fact in document["facts"]] == [fact.id for fact in FACTS]
    assert document["requirements"] == [
        {"fact": "F2", "required": "HOLDS", "found": "HOLDS", "met": True},
        {"fact": "F3", "required": "BODY-ONLY", "found": "FAILS", "met": False},
    ]
    assert not any("definition" in fact for fact in document["facts"])


def test_numbers_that_json_lacks_are_null():
    evidence = Evidence(
        measures=(Measure("m", float("nan"), "<= 1", passed=False, interval=(0.5, float("inf"))),),
        tables=(Table("t", ("x", "y"), ((float("-inf"), 1.5),)),),
    )
    (fact,) = facts_json(inputs(), [replace(FACTS[0], evidence=evidence)])["facts"]
    measure = fact["evidence"]["measures"][0]
    assert (measure["value"], measure["interval"], measure["passed"]) == (None, [0.5, None], False)
    assert fact["evidence"]["tables"][0]["rows"] == [[None, 1.5]]


def test_explained_facts_bring_their_definitions():
    facts = facts_json(inputs(), FACTS[:2], explained={"F2"})["facts"]
    entry = CATALOGUE["F2"]
    told = facts[0]["definition"]
    assert told["thresholds"] == list(entry.thresholds)
    assert told["formula"] == list(entry.formula)
    assert [value["model"] for value in told["published"]] == [value.model for value in entry.published]
    assert told["needs"] == list(entry.needs)
    assert "definition" not in facts[1]
