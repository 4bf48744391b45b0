"""Facts that other packages bring by entry points, and what one of theirs, or of ours, may require."""

from __future__ import annotations

import sys
import warnings
from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

import lmfacts
from lmfacts.cli import application
from lmfacts.errors import UsageError
from lmfacts.facts import CATALOGUE, Definition, Inputs, Verdict, catalogue, check, requires
from lmfacts.facts.fact import Evidence, Measure
from lmfacts.facts.runs_view import RunsView
from lmfacts.render.page.build import build_page
from lmfacts.render.page.html import to_html
from support.synthetic_runs import residual_run

MODULE = """
from lmfacts.charts import Chart, Figure
from lmfacts.facts import Definition, Verdict, requires

def definition(fact_id, judge, **more):
    return Definition(fact_id, "Title of it", "A claim.", "nobody", ("activations",), "No.", (), (), judge, **more)

def judge(inputs):
    names = requires.layers_of(inputs, "resid_post")
    return GOOD.fact(Verdict.HOLDS, f"{len(names)} layers")

def broken(inputs):
    return 1 / 0

def figures(view):
    chart = Chart("x1-layers", "Layers", x="layer")
    chart.line(list(view.residual), list(view.residual), "blue")
    return [Figure("Theirs", "How to read it.", (chart.described("The layers."),))]

GOOD = definition("x1", judge, figures=figures)
BROKEN = definition("X2", broken)
TAKEN = definition("F2", judge)
OTHER = 5
"""
ENTRIES = """[lmfacts.facts]
good = others_facts:GOOD
broken = others_facts:BROKEN
taken = others_facts:TAKEN
other = others_facts:OTHER
missing = others_facts:MISSING
nowhere = no_such_module_at_all:FACT
"""


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """A package with six facts, of which two can be used."""
    (tmp_path / "others_facts.py").write_text(MODULE)
    info = tmp_path / "others-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: others\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(tmp_path)
    catalogue.cache_clear()
    yield
    sys.modules.pop("others_facts", None)
    catalogue.cache_clear()


@pytest.fixture
def run():
    def noise(layer, positions):
        return np.random.default_rng(layer).normal(size=(positions.size, 24))

    return residual_run(noise, n_layers=3)


@pytest.mark.filterwarnings("ignore:The fact")
def test_their_figures_are_in_the_report_as_ours_are(installed, run):
    page = build_page(run)
    assert [figure.title for figure in page.figures if figure.title == "Theirs"] == ["Theirs"]
    assert "The layers." in to_html(page)

    def failing(_view):
        raise RuntimeError("no colors left")

    theirs = replace(catalogue()["X1"], figures=failing)
    with pytest.warns(UserWarning, match="The figures of X1 of the package others are left out: RuntimeError"):
        assert theirs.figures_from(RunsView(Inputs.of([run]))) == []
    with pytest.raises(RuntimeError):
        replace(theirs, package="").figures_from(RunsView(Inputs.of([run])))


def test_facts_of_other_packages_are_checked_like_ours(installed, run):
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        known = catalogue()
    assert list(known) == [*CATALOGUE, "X2", "X1"]
    assert known["X1"].package == "others"
    fact = {fact.id: fact for fact in check(run)}["X1"]
    assert (fact.verdict, fact.summary, fact.package) == (Verdict.HOLDS, "3 layers", "others")
    assert fact.to_json()["package"] == "others"
    sentences = sorted(str(warning.message) for warning in said)
    assert len(sentences) == 4
    assert sentences[0].startswith("The fact 'missing' of the package others is left out: it cannot be loaded (Attrib")
    assert "'nowhere' of the package others is left out: it cannot be loaded (ModuleNotFoundError" in sentences[1]
    assert sentences[2].endswith("expected a lmfacts.facts.Definition, found a int.")
    assert sentences[3].endswith("the id F2 is that of a fact of lmfacts.")


def test_a_check_of_another_package_that_raises_ends_nothing(installed, run):
    with warnings.catch_warnings(action="ignore"):
        facts = {fact.id: fact for fact in check(run)}
    assert facts["X2"].verdict is Verdict.INCONCLUSIVE
    assert facts["X2"].summary == "The check failed: ZeroDivisionError: division by zero."
    assert len(facts) == len(CATALOGUE) + 2


def test_the_command_says_whose_a_fact_is_and_what_it_leaves_out(installed, run, tmp_path):
    run.save(tmp_path / "x.lmfacts")
    done = CliRunner().invoke(
        application(), ["facts", str(tmp_path / "x.lmfacts"), "--only", "x1", "--require", "X1=HOLDS"]
    )
    assert done.exit_code == 0
    assert "Title of it (of others)" in done.stdout
    assert done.stderr.count("is left out: ") == 4


def test_our_own_facts_are_found_in_their_order():
    assert list(CATALOGUE)[:11] == [f"F{number}" for number in range(1, 12)]
    assert not any(entry.package for entry in CATALOGUE.values())


def test_runs_are_given_one_by_one_or_as_a_list(run):
    once = [fact.verdict for fact in lmfacts.check(run)]
    assert once == [fact.verdict for fact in check([run])] == [fact.verdict for fact in run.facts()]
    with pytest.raises(UsageError, match="got none"):
        lmfacts.check()


# What a check may require


def a_fact(judge):
    return Definition("Z1", "z", "z", "z", ("activations",), "z", (), (), judge)


def test_a_catalogue_may_be_given(run):
    entry = a_fact(lambda inputs: entry.fact(Verdict.FAILS, "no"))
    assert [fact.verdict for fact in check(run, known={"Z1": entry})] == [Verdict.FAILS]
    with pytest.raises(UsageError, match=r"no fact 'F1'.*It has Z1"):
        check(run, known={"Z1": entry}, only=["F1"])


def test_what_is_not_there_is_not_applicable_and_names_the_command(run):
    entry = a_fact(lambda inputs: requires.layers_of(inputs, "mlp_out"))
    fact = entry.check(lmfacts.facts.Inputs.of([run]))
    assert (fact.verdict, fact.summary) == (Verdict.NOT_APPLICABLE, "The run has no mlp_out sites.")
    assert fact.command is not None
    assert fact.command.endswith("--sites default")


def test_what_does_not_suffice_is_inconclusive_and_keeps_its_evidence(run):
    evidence = Evidence((Measure("m", 1.0),))

    def judge(inputs):
        raise requires.Inconclusive("Too little.", evidence)

    fact = a_fact(judge).check(lmfacts.facts.Inputs.of([run]))
    assert (fact.verdict, fact.summary, fact.evidence) == (Verdict.INCONCLUSIVE, "Too little.", evidence)


def test_an_error_of_our_own_is_not_hidden(run):
    with pytest.raises(ZeroDivisionError):
        a_fact(lambda inputs: 1 / 0).check(lmfacts.facts.Inputs.of([run]))
