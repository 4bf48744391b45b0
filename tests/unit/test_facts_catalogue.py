"""The catalogue: its entries are whole, and each is checked on the runs that it needs."""

from __future__ import annotations

import re

import pytest

from lmfacts.errors import MismatchedRunsError, UsageError
from lmfacts.facts import CATALOGUE, Definition, Inputs, Verdict, check, definition
from lmfacts.run import Run
from support.example_facts import inputs as example_inputs
from support.synthetic_runs import gaussian_run
from support.synthetic_weights import weights_run


@pytest.fixture
def catalogue():
    """A catalogue of three facts that say what they were given; one needs weights, one activations, one both."""
    own = dict(CATALOGUE)

    def seen(name):
        def check_it(inputs):
            given = [run.kind for run in inputs.runs]
            return CATALOGUE[name].fact(Verdict.HOLDS, " and ".join(given))

        return check_it

    CATALOGUE.clear()
    for name, needs in {"F1": ("activations",), "F2": ("weights",), "F10": ("activations", "weights")}.items():
        told = (f"{what} {name}" for what in ("title", "claim", "source"))
        CATALOGUE[name] = Definition(name, *told, needs, "", (), (), seen(name))
    yield CATALOGUE
    CATALOGUE.clear()
    CATALOGUE.update(own)


def summaries(facts):
    return {fact.id: (str(fact.verdict), fact.summary) for fact in facts}


def test_each_fact_gets_the_runs_and_gives_its_verdict(catalogue):
    facts = check(example_inputs())
    assert summaries(facts) == dict.fromkeys(catalogue, ("HOLDS", "activations and weights"))
    assert [(fact.title, fact.claim, fact.source) for fact in facts] == [
        (f"title {name}", f"claim {name}", f"source {name}") for name in catalogue
    ]


@pytest.mark.usefixtures("catalogue")
def test_a_fact_whose_run_is_not_given_is_not_applicable_and_says_how_to_record_it():
    facts = {fact.id: fact for fact in check(gaussian_run())}
    assert facts["F1"].verdict is Verdict.HOLDS
    for name in ("F2", "F10"):
        assert facts[name].verdict is Verdict.NOT_APPLICABLE
        assert "weights" in facts[name].summary
        assert facts[name].command == "lmfacts weights synthetic -o weights.lmfacts"
    facts = {fact.id: fact for fact in check([weights_run()])}
    assert facts["F2"].verdict is Verdict.HOLDS
    for name in ("F1", "F10"):
        assert facts[name].verdict is Verdict.NOT_APPLICABLE
        assert facts[name].command == "lmfacts scan synthetic -o activations.lmfacts"


@pytest.mark.usefixtures("catalogue")
def test_a_run_checks_itself_and_others_beside_it():
    activations, weights = gaussian_run(n_layers=12), weights_run()
    assert summaries(activations.facts(weights)) == summaries(weights.facts(activations))
    assert summaries(activations.facts(weights, only=["F10"])) == {"F10": ("HOLDS", "activations and weights")}
    assert activations.facts()[1].verdict is Verdict.NOT_APPLICABLE
    with pytest.raises(UsageError, match="Two runs of activations"):
        activations.facts(gaussian_run(n_layers=12))
    with pytest.raises(MismatchedRunsError, match="3 blocks"):
        gaussian_run(n_layers=3).facts(weights)


@pytest.mark.usefixtures("catalogue")
def test_only_some_facts_in_the_order_of_the_catalogue():
    given = example_inputs()
    assert [fact.id for fact in check(given, only=["f10", "F1"])] == ["F1", "F10"]
    assert [fact.id for fact in check(given, only=["F2", "F2"])] == ["F2"]
    assert check(given, only=[]) == []


@pytest.mark.usefixtures("catalogue")
def test_an_unknown_fact_is_named_with_the_closest():
    assert definition("f10").id == "F10"
    with pytest.raises(UsageError, match=r"no fact 'F100'\. Did you mean F10\? It has F1, F2, F10\."):
        definition("F100")
    with pytest.raises(UsageError, match=r"no fact 'outliers'\. It has"):
        check(example_inputs(), only=["outliers"])


def test_ids_ascend():
    numbers = [int(name.removeprefix("F")) for name in CATALOGUE]
    assert numbers == sorted(set(numbers))
    assert [entry.id for entry in CATALOGUE.values()] == list(CATALOGUE)


@pytest.mark.parametrize("entry", CATALOGUE.values(), ids=CATALOGUE)
def test_every_entry_is_whole(entry):
    assert entry.title
    assert entry.source
    assert entry.needs
    assert set(entry.needs) <= {"activations", "weights"}
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
