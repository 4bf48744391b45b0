"""The largest values of a run: those of the dims themselves, also where a site's outliers have others only."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lmfacts.analysis.largest_values import largest_values
from lmfacts.analysis.run_view import RunView
from lmfacts.facts import Inputs
from lmfacts.facts.runs_view import RunsView
from lmfacts.render.page.document import TableBlock
from lmfacts.render.page.largest_values import largest_values_section
from lmfacts.render.terminal.console import to_text
from lmfacts.render.terminal.json_documents import summary_json
from lmfacts.render.terminal.summary import render_summary
from support.accumulated_runs import accumulated_run

N_DIMS, N_SEQUENCES, N_POSITIONS = 12, 4, 32


def crowded(_layer, sequence, position):
    """One dim that fills the 64 outliers of every site."""
    values = np.random.default_rng(0).normal(size=(position.size, N_DIMS))
    values[:, 3] = 1000.0 + 8 * np.arange(position.size)  # whole in every dtype
    return values


def crowded_out(layer, sequence, position):
    """The same, with large values of dims 5 and 7 at two blocks, and smaller ones of theirs where they are kept."""
    values = crowded(layer, sequence, position)
    at = (sequence == 2) & (position == 5)
    if layer < 0:
        values = np.random.default_rng(1).normal(size=(position.size, N_DIMS)) * 0.01
        values[at, 7] = -1.25
        values[at, 9] = 900.0
    elif layer == 1:
        values[at, 7] = -376.0
        values[at, 5] = 500.0
    elif layer == 2:
        values[at, 5] = -400.0
    return values


def run_of(values_of, **options):
    return accumulated_run(values_of, n_layers=3, n_sequences=N_SEQUENCES, n_positions=N_POSITIONS, **options)


def shown_by_page(run):
    """Dim -> the cells of its row of the page's first table, by heading."""
    section = largest_values_section(RunsView(Inputs.of([run])))
    table = next(block for block in section.blocks if isinstance(block, TableBlock))
    names = [column.name for column in table.columns]
    rows = [dict(zip(names, row, strict=True)) for row in table.rows]
    return {int(row["dim"][0]): {name: cell[0] for name, cell in row.items()} for row in rows}


def shown_by_summary(run):
    """Dim -> the words of its row of the summary's first table."""
    text = to_text(render_summary(run), 200).split("\nLargest values")[1].split("Without position 0\n")[1]
    rows = [line.split() for line in text.split("\n\n")[0].splitlines()[1:]]
    return {int(row[1]): row for row in rows}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_dims_that_were_crowded_out_show_their_own_largest_value(dtype):
    run = run_of(crowded_out, dtype=dtype)
    first, *others = largest_values(RunView(run), "rest")
    assert (first.dim, first.site, first.position) == (3, "blocks.0.resid_post", N_POSITIONS - 1)
    assert first.value == run[first.site].rest.dims.max[3]
    by_dim = {item.dim: item for item in others}
    # Its value at `embed` is among the outliers there; it is larger than all that is shown of dims 5 and 7.
    known = by_dim[9]
    assert (known.value, known.site, known.sequence, known.position) == (900.0, "embed", 2, 5)
    assert (known.token_id, known.token) == (1, " the")
    for dim, value in ((5, 500.0), (7, -376.0)):
        item = by_dim[dim]
        assert (item.value, item.site) == (value, "blocks.1.resid_post")
        assert (item.sequence, item.position, item.token_id, item.token) == (None, None, None, None)
    assert [item.dim for item in others[:3]] == [9, 5, 7]


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_with_places_of_all_dims_nothing_is_crowded_out(dtype):
    run = run_of(crowded_out, dtype=dtype, places=True)
    without = largest_values(RunView(run_of(crowded_out, dtype=dtype)), "rest")
    found = largest_values(RunView(run), "rest")
    assert [(item.value, item.site, item.dim) for item in found] == [
        (item.value, item.site, item.dim) for item in without
    ]
    for item, other in zip(found, without, strict=True):
        assert other.position is None or item == other
        sequence, position = np.divmod(np.arange(N_SEQUENCES * N_POSITIONS), N_POSITIONS)
        layer = -1 if item.site == "embed" else int(item.site.split(".")[1])
        stored = crowded_out(layer, sequence, position)[(sequence == item.sequence) & (position == item.position)]
        assert abs(float(stored[0, item.dim]) - item.value) <= abs(item.value) / 256
        assert (item.token_id, item.token) == (1, " the")
    assert "A dash:" not in to_text(render_summary(run), 200)
    assert shown_by_summary(run)[7][:7] == ["-376.0", "7", "'", "the'", "2", "5", "blocks.1.resid_post"]


@pytest.mark.parametrize("population", ["rest", "first"])
def test_every_dim_is_listed_once_with_the_largest_magnitude_of_all_sites(population):
    run = run_of(crowded_out)
    found = largest_values(RunView(run), population)
    records = {name: run[name].in_population(population) for name in run}
    largest = np.max([record.dims.absmax for record in records.values()], axis=0)
    assert sorted(item.dim for item in found) == list(range(N_DIMS))
    assert [abs(item.value) for item in found] == sorted(largest, reverse=True)
    for item in found:
        dims = records[item.site].dims
        assert abs(item.value) == largest[item.dim] == dims.absmax[item.dim]
        assert item.value in (dims.min[item.dim], dims.max[item.dim])
        entries = records[item.site].outliers
        at = entries[(entries["dim"] == item.dim) & (np.abs(entries["value"]) == abs(item.value))]
        if item.position is None:
            assert at.size == 0
        else:
            assert (item.sequence, item.position) in set(zip(at["sequence"], at["position"], strict=True))


def test_summary_page_and_document_show_the_same():
    run = run_of(crowded_out)
    document = {item["dim"]: item for item in json.loads(json.dumps(summary_json(run)))["largest"]["rest"]}
    document[7] = {key: value for key, value in document[7].items() if key not in ("n_tokens", "tokens")}
    assert document[7] == {
        "value": -376.0,
        "site": "blocks.1.resid_post",
        "sequence": None,
        "position": None,
        "dim": 7,
        "token_id": None,
        "token": None,
    }
    summary, page = shown_by_summary(run), shown_by_page(run)
    assert summary[7][:6] == ["-376.0", "7", "-", "-", "-", "blocks.1.resid_post"]
    assert summary[9][:7] == ["+900.0", "9", "'", "the'", "2", "5", "embed"]
    assert (page[7]["value"], page[7]["site"]) == ("\N{MINUS SIGN}376.0", "blocks.1.resid_post")
    assert {page[7][name] for name in ("token", "sequence", "position")} == {"\N{EN DASH}"}
    assert list(page) == list(document)[: len(page)] == list(summary)[: len(page)]
    assert "A dash: which token it is on is not known" in " ".join(to_text(render_summary(run), 200).split())


def test_a_dash_is_explained_only_where_there_is_one():
    run = run_of(lambda _, __, position: np.ones((position.size, 2)) * [[3.0, 1.0]])
    assert "A dash:" in to_text(render_summary(run), 200)
    run = run_of(lambda _, __, position: np.where(position[:, None] == 3, [[3.0, -5.0]], [[0.5, 0.25]]))
    text = to_text(render_summary(run), 200)
    assert "The largest |x| of the residual stream, one row per dim." in text
    assert "A dash:" not in text


def test_of_equal_values_the_first_with_a_known_token_is_taken():
    def values(layer, sequence, position):
        found = crowded(layer, sequence, position) if layer == 0 else np.zeros((position.size, N_DIMS))
        if layer >= 0:
            found[(sequence == 1) & (position == 4 + layer), 6] = -64.0
        return found

    item = next(item for item in largest_values(RunView(run_of(values)), "rest") if item.dim == 6)
    # At blocks.0 it is crowded out.
    assert (item.value, item.site, item.sequence, item.position) == (-64.0, "blocks.1.resid_post", 1, 5)


def test_dims_without_finite_values_are_not_listed():
    def values(_layer, _sequence, position):
        found = np.ones((position.size, 3))
        found[:, 1] = np.nan
        found[position == 2, 2] = np.inf
        return found

    found = largest_values(RunView(run_of(values)), "rest")
    assert [(item.dim, item.value) for item in found] == [(0, 1.0), (2, 1.0)]


def test_no_more_are_given_than_asked_for():
    view = RunView(run_of(crowded_out))
    assert largest_values(view, "rest", 2) == largest_values(view, "rest")[:2]
    assert len(largest_values(view, "rest")) == N_DIMS


def test_outside_the_stream_dims_of_different_sites_are_apart():
    run = run_of(crowded_out)
    states = {f"a.{layer}:out": run[f"blocks.{layer}.resid_post"].state for layer in range(3)}
    metadata = {**run.metadata, "sites": [{"name": name} for name in states]}
    found = largest_values(RunView(type(run)(metadata, states)), "rest")
    assert len(found) == 3 * N_DIMS
    large = [(item.dim, item.site, item.value) for item in found if 100 < abs(item.value) < 1000]
    assert large == [(5, "a.1:out", 500.0), (5, "a.2:out", -400.0), (7, "a.1:out", -376.0)]
