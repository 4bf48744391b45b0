"""The catalogue: its entries are whole, and each is checked on the runs that it needs."""

from __future__ import annotations

import re

import pytest

from lmfacts.errors import MismatchedRunsError, UsageError
from lmfacts.facts import CATALOGUE, Definition, Inputs, Verdict, check, definition
from lmfacts.run import Run
from lmfacts.run.kinds import KINDS
from support.example_facts import inputs as example_inputs
from support.synthetic_runs import gaussian_run
from support.synthetic_weights import weights_run


@pytest.fixture
def known():
    """A catalogue of three facts that say what they were given; one needs weights, one activations, one both."""
    made = {}

    def of(name, needs):
        told = (f"{what} {name}" for what in ("title", "claim", "source"))

        def judge(inputs):
            return made[name].fact(Verdict.HOLDS, " and ".join(run.kind for run in inputs.runs))

        return Definition(name, *told, needs, "", (), (), judge)

    for name, needs in {"F1": ("activations",), "F2": ("weights",), "F10": ("activations", "weights")}.items():
        made[name] = of(name, needs)
    return made


def summaries(facts):
    return {fact.id: (str(fact.verdict), fact.summary) for fact in facts}


def test_each_fact_gets_the_runs_and_gives_its_verdict(known):
    facts = check(example_inputs(), known=known)
    assert summaries(facts) == dict.fromkeys(known, ("HOLDS", "activations and weights"))
    assert [(fact.title, fact.claim, fact.source) for fact in facts] == [
        (f"title {name}", f"claim {name}", f"source {name}") for name in known
    ]


def test_a_fact_whose_run_is_not_given_is_not_applicable_and_says_how_to_record_it(known):
    facts = {fact.id: fact for fact in check(gaussian_run(), known=known)}
    assert facts["F1"].verdict is Verdict.HOLDS
    for name in ("F2", "F10"):
        assert facts[name].verdict is Verdict.NOT_APPLICABLE
        assert "weights" in facts[name].summary
        assert facts[name].command == "lmfacts weights synthetic -o weights.lmfacts"
    facts = {fact.id: fact for fact in check([weights_run()], known=known)}
    assert facts["F2"].verdict is Verdict.HOLDS
    for name in ("F1", "F10"):
        assert facts[name].verdict is Verdict.NOT_APPLICABLE
        assert facts[name].command == "lmfacts scan synthetic -o activations.lmfacts"


def test_runs_are_given_in_any_order(known):
    activations, weights = gaussian_run(n_layers=12), weights_run()
    assert summaries(check(activations, weights, known=known)) == summaries(check(weights, activations, known=known))
    assert summaries(check(activations, weights, known=known, only=["F10"])) == {
        "F10": ("HOLDS", "activations and weights")
    }
    with pytest.raises(UsageError, match="Two runs of activations"):
        check(activations, gaussian_run(n_layers=12), known=known)
    with pytest.raises(MismatchedRunsError, match="3 blocks"):
        check(gaussian_run(n_layers=3), weights, known=known)


def test_a_run_checks_itself_and_others_beside_it():
    activations, weights = gaussian_run(n_layers=12), weights_run()
    assert summaries(activations.facts(weights, only=["F2", "F8"])) == summaries(
        check(activations, weights, only=["F8", "F2"])
    )
    assert [fact.id for fact in activations.facts()] == list(CATALOGUE)
    assert activations.facts(only=["F8"])[0].verdict is Verdict.NOT_APPLICABLE


def test_only_some_facts_in_the_order_of_the_catalogue(known):
    given = example_inputs()
    assert [fact.id for fact in check(given, only=["f10", "F1"], known=known)] == ["F1", "F10"]
    assert [fact.id for fact in check(given, only=["F2", "F2"], known=known)] == ["F2"]
    assert check(given, only=[], known=known) == []


def test_an_unknown_fact_is_named_with_the_closest(known):
    assert definition("f10", known).id == "F10"
    with pytest.raises(UsageError, match=r"no fact 'F100'\. Did you mean F10\? It has F1, F2, F10\."):
        definition("F100", known)
    with pytest.raises(UsageError, match=r"no fact 'outliers'\. It has"):
        check(example_inputs(), only=["outliers"], known=known)


def test_ids_ascend():
    numbers = [int(name.removeprefix("F")) for name in CATALOGUE]
    assert numbers == sorted(set(numbers))
    assert [entry.id for entry in CATALOGUE.values()] == list(CATALOGUE)


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=CATALOGUE)
def test_every_entry_is_whole(entry):
    assert entry.title
    assert entry.source
    assert entry.needs
    assert set(entry.needs) <= set(KINDS)
    assert entry.measured.endswith(".")
    assert all(value.confidence in "ABC" and value.source for value in entry.published)
    assert all(objection.who and objection.what for objection in entry.objections)
    if entry.id != "F15":  # a panel, which claims nothing
        assert entry.claim.endswith(".")
        assert entry.thresholds
        assert any(re.search(r"\bHOLDS\b", line) for line in entry.thresholds)


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=CATALOGUE)
def test_every_fact_says_why_there_is_no_verdict_on_an_empty_run(entry):
    """Runs that hold nothing of what a fact speaks of: no exception, and no claim is said to hold or fail."""
    kinds = ("activations", "weights")
    empty = Inputs.of(Run({"kind": kind, "model": {"id": "m"}, "sites": []}, {}) for kind in kinds)
    (fact,) = check(empty, only=[entry.id])
    assert fact.verdict in {Verdict.NOT_APPLICABLE, Verdict.INCONCLUSIVE}
    assert fact.summary
