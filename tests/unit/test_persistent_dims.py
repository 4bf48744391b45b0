"""Summary, facts, JSON documents and page name the same persistent dims, whatever the depth of the model."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from lmfacts.analysis.outlier_dims import persistence
from lmfacts.facts import Inputs
from lmfacts.facts.f02_outlier_dims import DEFINITION
from lmfacts.facts.runs_view import RunsView
from lmfacts.render.terminal.console import to_text
from lmfacts.render.terminal.json_documents import summary_json
from lmfacts.render.terminal.summary import render_summary
from support.synthetic_runs import residual_run

N_DIMS = 64


def planted(n_layers, layers_of):
    """A Gaussian run in which each dim of `layers_of` is 20 times as large at its layers."""

    def values_of(layer, positions):
        values = np.random.default_rng(layer).normal(size=(positions.size, N_DIMS))
        values[:, [dim for dim, layers in layers_of.items() if layer in layers]] *= 20
        return values

    return residual_run(values_of, n_layers=n_layers, n_sequences=8)


def in_summary(run):
    told = " ".join(to_text(render_summary(run), 200).split()).split("Without position 0: ")[1]
    found = re.match(r"\d+ outlier dims? persists? \([^)]*\): ([\d, ]+)\.", told)
    return [int(dim) for dim in found[1].split(", ")] if found else []


def in_fact(run):
    (row,) = (
        row
        for table in DEFINITION.check(Inputs.of([run])).evidence.tables
        if table.title == "Persistent dims by population and criterion"
        for row in (dict(zip(table.columns, row, strict=True)) for row in table.rows)
        if row["population"] == "rest" and row["criterion"] == "RMS > 5 x median"
    )
    return [int(dim) for dim in (row["persistent dims"] or "").split(", ") if dim]


def in_page(run):
    (alt,) = (
        chart.alt
        for figure in DEFINITION.figures(RunsView(Inputs.of([run])))
        for chart in figure.charts
        if chart.name == "f2-depth-rest"
    )
    found = re.search(r"persists? \(([\d, ]+)\)", alt)
    return [int(dim) for dim in found[1].split(", ")] if found else []


def in_document(run):
    return json.loads(json.dumps(summary_json(run)))["outlier_dims"]["rest"]["persistent"]


# Where the layers between the first and the last are fewer than two, all are counted.
COUNTED = {3: (0, 1, 2), 4: (1, 2), 5: (1, 2, 3), 6: (1, 2, 3, 4), 7: (1, 2, 3, 4, 5), 8: (1, 2, 3, 4, 5, 6)}
ENOUGH = {3: 3, 4: 2, 5: 3, 6: 3, 7: 4, 8: 5}
"""The least whole number that is at least three quarters of the counted layers."""


@pytest.mark.parametrize("n_layers", COUNTED)
def test_a_dim_persists_everywhere_or_nowhere(n_layers):
    counted, enough = COUNTED[n_layers], ENOUGH[n_layers]
    run = planted(
        n_layers,
        {
            5: counted[:enough],
            9: counted[-enough:],
            20: counted[: enough - 1],
            30: (*counted[: enough - 1], *({0, n_layers - 1} - set(counted))),
            40: (0, n_layers - 1),
            50: range(n_layers),
        },
    )
    shares = persistence(run).share[[5, 9, 20, 50]]
    assert shares.tolist() == [enough / len(counted)] * 2 + [(enough - 1) / len(counted), 1.0]
    # Dims 30 and 40 have the outer layers too, which count for nothing where there are two others.
    for named in (in_summary, in_fact, in_page, in_document):
        assert named(run) == [5, 9, 50], named.__name__


@pytest.mark.parametrize(("n_layers", "n_at", "persists"), [(6, 3, True), (6, 2, False), (10, 6, True), (10, 5, False)])
def test_three_quarters_are_enough_and_not_less(n_layers, n_at, persists):
    run = planted(n_layers, {7: range(1, 1 + n_at), 8: (1,)})
    assert persistence(run).share[7] == n_at / (n_layers - 2)
    for named in (in_summary, in_fact, in_page, in_document):
        assert named(run) == ([7] if persists else []), named.__name__


def test_two_layers_are_too_few_to_persist_through():
    run = planted(2, {5: (0, 1)})
    assert in_summary(run) == in_page(run) == in_document(run) == []
    assert "1 outlier dim at 2 depths; persistence needs 3 depths." in to_text(render_summary(run), 200)
    assert DEFINITION.check(Inputs.of([run])).summary == "The run has resid_post at 2 layers; at least 3 are needed."


def test_the_overlap_of_neighbors_is_the_same_number():
    run = planted(6, {5: range(6), 9: (0, 1, 5), 11: (0, 5)})
    measures = DEFINITION.check(Inputs.of([run])).evidence.measures
    (overlap,) = (measure.value for measure in measures if "Jaccard" in measure.name)
    document = summary_json(run)["outlier_dims"]["rest"]
    assert document["counted_layers"] == [1, 2, 3, 4]
    assert document["median_jaccard"] == overlap == 1.0
    assert document["layers"] == list(range(6))
