"""Choosing what to export, and what happens when it cannot be written."""

from __future__ import annotations

import sys
import tracemalloc

import pyarrow.parquet as pq
import pytest

import lmfacts
from lmfacts.errors import MissingExtraError, RunFileError, SiteNotFoundError, UsageError
from lmfacts.export import export_run, formats, run_export
from lmfacts.export.formats import FORMATS
from lmfacts.files import atomic
from lmfacts.quantities.catalogue import QUANTITIES, choose_quantities
from support.exported_tables import read
from support.synthetic_runs import gaussian_run
from support.synthetic_weights import weights_run


def column(path, name):
    return {row[name] for row in read(path)}


# What is chosen


def names_of(kind, patterns=None, dims=None):
    return [statistic.key for statistic in choose_quantities(kind, patterns, dims)]


@pytest.mark.parametrize("kind", ["activations", "weights", "gradients"])
def test_single_values_are_the_default_and_dims_are_added_on_request(kind):
    default, added = names_of(kind), names_of(kind, dims=True)
    per_dim = {s.key for s in QUANTITIES.values() if s.per}
    assert not per_dim & set(default)
    assert set(added) - set(default) == {s.key for s in QUANTITIES.values() if s.per and s.applies_to(kind)} != set()
    assert "alpha" not in added
    assert names_of(kind, dims=False) == default


def test_activations_and_weights_have_their_own_statistics():
    assert "norm_mean" in names_of("gradients")
    assert "norm_mean" not in names_of("weights")
    assert "frobenius" in names_of("weights")
    assert "frobenius" not in names_of("activations")


@pytest.mark.parametrize(
    ("patterns", "dims", "chosen"),
    [
        ("std", None, ["std"]),
        (["std", "mean"], None, ["mean", "std"]),
        ("std, n", None, ["n", "std"]),
        ("*excess_kurtosis", None, ["excess_kurtosis", "median_dim_excess_kurtosis", "dim_excess_kurtosis"]),
        ("*excess_kurtosis", False, ["excess_kurtosis", "median_dim_excess_kurtosis"]),
        (["std", "std"], True, ["std"]),
    ],
)
def test_patterns_choose_and_the_order_stays(patterns, dims, chosen):
    assert names_of("activations", patterns, dims) == chosen


@pytest.mark.parametrize(
    ("patterns", "dims", "said"),
    [
        ("kurtosis", None, "excess_kurtosis"),
        ("frobenius", None, "No statistic of activations"),
        ("qqq", None, "n_tokens"),
        ("dim_*", False, "without dims"),
        ([], None, "nothing"),
        (" ,", None, "No statistic is left"),
    ],
)
def test_patterns_that_choose_nothing_are_refused(patterns, dims, said):
    with pytest.raises(UsageError, match=said):
        choose_quantities("activations", patterns, dims)


def test_populations(tmp_path):
    path = tmp_path / "x.csv"
    run = gaussian_run(n_layers=1)
    for asked, written in [(None, {"all", "first", "rest"}), ("rest", {"rest"}), (["rest", "all"], {"rest", "all"})]:
        export_run(run, path, populations=asked)
        assert column(path, "population") == written
    export_run(weights_run(1), path)
    assert column(path, "population") == {"all"}
    export_run(weights_run(1), path, populations=["all"])
    assert column(path, "population") == {"all"}


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"populations": "last"}, UsageError, "got 'last'"),
        ({"populations": []}, UsageError, "No population"),
        ({"sites": "blocks.9.resid_post"}, SiteNotFoundError, "blocks.9.resid_post"),
        ({"sites": []}, UsageError, "No site"),
        ({"table": "rows"}, UsageError, "statistics, outliers, codes"),
        ({"table": "codes", "statistics": "std"}, UsageError, "leave statistics and dims out"),
        ({"table": "outliers", "dims": True}, UsageError, "leave statistics and dims out"),
        ({"statistics": "nonsense"}, UsageError, "nonsense"),
    ],
)
def test_arguments_without_a_meaning(tmp_path, options, error, said):
    with pytest.raises(error, match=said):
        export_run(gaussian_run(), tmp_path / "x.csv", **options)
    assert list(tmp_path.iterdir()) == []


def test_weights_have_no_populations_of_tokens(tmp_path):
    with pytest.raises(UsageError, match="no population 'rest'"):
        export_run(weights_run(1), tmp_path / "x.csv", populations=["all", "rest"])


# Where it is written


@pytest.mark.parametrize("name", ["x", "x.xlsx", "x.csv.zip", "x.gz", "csv", "-"])
def test_a_name_that_says_no_format(tmp_path, name):
    with pytest.raises(UsageError, match=r"it has to end in \.parquet, .* or \.json\.") as refused:
        export_run(gaussian_run(), tmp_path / name)
    assert all(suffix in str(refused.value) for suffix in FORMATS)


def test_the_suffix_may_be_in_capitals(tmp_path):
    export_run(gaussian_run(), tmp_path / "X.CSV", statistics="n")
    assert (tmp_path / "X.CSV").read_text().startswith("site,")


def test_folders_that_cannot_be_written_to(tmp_path, monkeypatch):
    (tmp_path / "folder.csv").mkdir()
    for path, said in [
        (tmp_path / "missing" / "x.csv", "there is no folder"),
        (tmp_path / "folder.csv", "is a folder"),
    ]:
        with pytest.raises(UsageError, match=said):
            export_run(gaussian_run(), path)
    monkeypatch.setattr(atomic.os, "access", lambda *_: False)
    with pytest.raises(UsageError, match="not writable"):
        export_run(gaussian_run(), tmp_path / "x.csv")


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt(), RuntimeError("x")])
@pytest.mark.parametrize("suffix", FORMATS)
def test_a_failure_midway_keeps_the_file_that_was_there(tmp_path, monkeypatch, suffix, failure):
    path = tmp_path / f"x{suffix}"
    path.write_text("the old file")
    true_blocks, seen = run_export.blocks, []

    def blocks(table, run, name, *others):
        seen.append(name)
        yield from true_blocks(table, run, name, *others)
        if len(seen) == 2:
            raise failure

    monkeypatch.setattr(run_export, "blocks", blocks)
    with pytest.raises(RunFileError if isinstance(failure, OSError) else type(failure)):
        export_run(gaussian_run(), path)
    assert path.read_text() == "the old file"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_file_that_was_there_is_replaced(tmp_path, suffix):
    path = tmp_path / f"x{suffix}"
    path.write_text("the old file" * 1000)
    export_run(gaussian_run(), path, statistics="n", populations="all")
    assert len(read(path)) == 3


def test_only_parquet_needs_pyarrow(tmp_path, monkeypatch):
    run = gaussian_run()
    for module in [name for name in sys.modules if name.split(".")[0] == "pyarrow"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'lmfacts\[export\]'"):
        export_run(run, tmp_path / "x.parquet")
    assert list(tmp_path.iterdir()) == []
    for suffix in [suffix for suffix in FORMATS if suffix != ".parquet"]:
        assert export_run(run, tmp_path / f"x{suffix}", dims=True).n_rows > 0


# Memory


def test_parquet_is_written_in_groups(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "_ROWS_OF_A_GROUP", 100)
    run = gaussian_run(n_layers=6, n_dims=16)
    written = export_run(run, tmp_path / "x.parquet", dims=True)
    export_run(run, tmp_path / "x.csv", dims=True)
    file = pq.ParquetFile(tmp_path / "x.parquet")
    sizes = [file.metadata.row_group(index).num_rows for index in range(file.num_row_groups)]
    assert len(sizes) > 5
    assert sum(sizes) == written.n_rows
    assert max(sizes) < 1000
    assert read(tmp_path / "x.parquet") == read(tmp_path / "x.csv")


@pytest.mark.parametrize("suffix", [".csv", ".json"])
def test_memory_does_not_grow_with_the_number_of_sites(tmp_path, suffix):
    def peak(n_layers):
        path = tmp_path / f"{n_layers}.lmfacts"
        gaussian_run(n_layers=n_layers, n_dims=400).save(path)
        run = lmfacts.load(path)
        export_run(run, tmp_path / f"x{suffix}", dims=True, sites="blocks.0.resid_post")
        tracemalloc.start()
        export_run(run, tmp_path / f"x{suffix}", dims=True)
        _, highest = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return highest

    assert peak(40) < 1.3 * peak(4)
