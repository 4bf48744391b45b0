"""`lmfacts export` as a whole process, on runs of the embedded model: tables, exit codes, what it says and loads."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

import lmfacts
from lmfacts.demo import MODEL_DIR
from support.exported_tables import read, statistics_of

ENVIRONMENT = {**os.environ, "HF_HUB_OFFLINE": "1", "LMFACTS_NUM_THREADS": "1"}


def export(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "lmfacts", "export", *map(str, arguments)],
        cwd=cwd,
        capture_output=True,
        check=False,
        env=ENVIRONMENT,
    )


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Files of a run of activations and of one of weights."""
    folder = tmp_path_factory.mktemp("runs")
    lmfacts.scan("demo", sites="resid", max_tokens=1024, seq_len=128, batch_size=4, out=folder / "a.lmfacts")
    lmfacts.scan_weights(MODEL_DIR, out=folder / "w.lmfacts")
    return {"activations": folder / "a.lmfacts", "weights": folder / "w.lmfacts"}


def test_one_row_of_one_site_is_told_in_the_singular(runs, tmp_path):
    one = ("--sites", "blocks.0.resid_post", "--statistics", "n", "--population", "all")
    done = export(runs["activations"], "-o", tmp_path / "t.csv", *one, cwd=tmp_path)
    assert ": 1 row, 1 site, " in done.stderr.decode()


def test_a_statistic_that_was_not_recorded_is_told(runs, tmp_path):
    done = export(runs["activations"], "-o", tmp_path / "t.csv", "--statistics", "mxfp4_snr", cwd=tmp_path)
    assert done.returncode == 0
    assert "nothing in this run has mxfp4_snr" in done.stderr.decode()
    assert read(tmp_path / "t.csv") == []


@pytest.mark.parametrize("kind", ["activations", "weights"])
@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".csv.gz", ".json"])
def test_a_table_has_the_numbers_of_the_run(runs, tmp_path, kind, suffix):
    path = tmp_path / f"table{suffix}"
    done = export(runs[kind], "-o", path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout == b""
    rows = read(path)
    assert f"saved {path}: {len(rows):,} rows" in done.stderr.decode()
    assert "--dims" in done.stderr.decode()
    run = lmfacts.load(runs[kind])
    found = statistics_of(rows)
    assert list(dict.fromkeys(row["site"] for row in rows)) == list(run)
    assert {row["population"] for row in rows} == ({"all"} if kind == "weights" else {"all", "first", "rest"})
    for site, population in {key[:2] for key in found}:
        record = run[site] if kind == "weights" else run[site].in_population(population)
        for name in ("n", "mean", "std", "excess_kurtosis", "min", "max"):
            assert found[site, population, name, None] == getattr(record, name)
        assert found[site, population, "quantile_0.999", None] == record.quantile(0.999)
    assert all(row["dim"] is None for row in rows)


def test_dims_of_chosen_sites_and_populations(runs, tmp_path):
    chosen = ["-s", "resid_post", "-s", "blocks.0.resid_pre", "--population", "rest", "--population", "first"]
    done = export(runs["activations"], "-o", "x.parquet", "--dims", *chosen, cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert "--dims" not in done.stderr.decode()
    run, found = lmfacts.load(runs["activations"]), statistics_of(read(tmp_path / "x.parquet"))
    names = run.select(["resid_post", "blocks.0.resid_pre"])
    assert {key[:2] for key in found} == {(name, population) for name in names for population in ("first", "rest")}
    for name in names:
        rms = run[name].rest.dims.rms.tolist()
        assert [found[name, "rest", "dim_rms", dim] for dim in range(len(rms))] == rms


def test_statistics_are_chosen_by_globs(runs, tmp_path):
    done = export(runs["weights"], "-o", "x.csv", "--statistics", "*_rms,entry", "--statistics", "std", cwd=tmp_path)
    assert done.returncode == 0, done.stderr.decode()
    assert {row["statistic"] for row in read(tmp_path / "x.csv")} == {"row_rms", "column_rms", "entry", "std"}
    done = export(runs["weights"], "-o", "x.csv", "--statistics", "*_rms,std", "--no-dims", cwd=tmp_path)
    assert {row["statistic"] for row in read(tmp_path / "x.csv")} == {"std"}


def test_the_other_tables(runs, tmp_path):
    assert export(runs["activations"], "-o", "o.csv", "--table", "outliers", cwd=tmp_path).returncode == 0
    assert export(runs["activations"], "-o", "c.csv", "--table", "codes", cwd=tmp_path).returncode == 0
    run = lmfacts.load(runs["activations"])
    site = run["blocks.2.resid_post"]
    outliers = [r for r in read(tmp_path / "o.csv") if (r["site"], r["population"]) == (site.name, "all")]
    assert [row["value"] for row in outliers] == site.outliers["value"].tolist()
    assert [row["token"] for row in outliers] == [run.tokens[token] for token in site.outliers["token_id"].tolist()]
    codes = [r for r in read(tmp_path / "c.csv") if (r["site"], r["population"]) == (site.name, "rest")]
    assert [row["code"] for row in codes] == site.rest.codes()[0].tolist()
    assert [row["count"] for row in codes] == site.rest.codes()[1].tolist()


def test_json_describes_what_was_written(runs, tmp_path):
    done = export(runs["activations"], "-o", "x.csv", "--json", cwd=tmp_path)
    document = json.loads(done.stdout)
    run = lmfacts.load(runs["activations"])
    assert document["document"] == "lmfacts.export"
    assert document["path"] == "x.csv"
    assert document["n_rows"] == len(read(tmp_path / "x.csv"))
    assert document["n_bytes"] == (tmp_path / "x.csv").stat().st_size
    assert document["n_sites"] == len(run)
    assert document["run"]["token_hash"] == run.metadata["token_hash"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a", "-o", "x.xlsx"], ".csv.gz"),
        (["a", "-o", "missing/x.csv"], "there is no folder"),
        (["a", "-o", "folder.csv"], "is a folder"),
        (["a"], "--out"),
        (["missing.lmfacts", "-o", "x.csv"], "missing.lmfacts"),
        (["a", "-o", "x.csv", "-s", "blocks.9.resid_post"], "blocks.9.resid_post"),
        (["a", "-o", "x.csv", "--statistics", "kurtosis"], "excess_kurtosis"),
        (["a", "-o", "x.csv", "--statistics", "dim_*", "--no-dims"], "without dims"),
        (["a", "-o", "x.csv", "--table", "codes", "--dims"], "leave statistics and dims out"),
        (["a", "-o", "x.csv", "--table", "rows"], "outliers"),
        (["w", "-o", "x.csv", "--population", "rest"], "no population 'rest'"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, list) else None,
)
def test_wrong_usage_gets_a_sentence_and_no_file(runs, tmp_path, arguments, said):
    (tmp_path / "folder.csv").mkdir()
    run, *others = arguments
    run = {"a": runs["activations"], "w": runs["weights"]}.get(run, run)
    done = export(run, *others, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == b""
    assert said in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
    assert [path.name for path in tmp_path.iterdir()] == ["folder.csv"]


def test_a_damaged_run_keeps_the_table_that_was_there(runs, tmp_path):
    whole = runs["activations"].read_bytes()
    (tmp_path / "cut.lmfacts").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "x.csv").write_text("the old table")
    done = export("cut.lmfacts", "-o", "x.csv", cwd=tmp_path)
    assert done.returncode == 1
    assert "cut.lmfacts" in done.stderr.decode()
    assert (tmp_path / "x.csv").read_text() == "the old table"


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_neither_torch_nor_a_table_library_is_loaded(runs, tmp_path, suffix):
    program = (
        "import sys\n"
        f"sys.argv = ['lmfacts', 'export', {str(runs['activations'])!r}, '-o', 'x{suffix}', '--dims']\n"
        "from lmfacts.__main__ import main\n"
        "try:\n    main()\n"
        "except SystemExit as done:\n    assert not done.code\n"
        "print(sorted({'torch', 'transformers', 'pandas', 'polars', 'pyarrow'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, check=True, env=ENVIRONMENT
    )
    assert done.stdout.decode().strip() == ("[]" if suffix == ".csv" else "['pyarrow']")
    assert (tmp_path / f"x{suffix}").exists()
