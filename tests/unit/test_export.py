"""Exported tables against the records they are of: every number, in every format."""

from __future__ import annotations

import json
import math
from dataclasses import asdict

import numpy as np
import pyarrow.parquet as pq
import pytest

from lmfacts.export import export_run
from lmfacts.export.formats import FORMATS
from lmfacts.quantities.catalogue import QUANTITIES
from lmfacts.quantities.outlier_criteria import rms_outlier_dims
from lmfacts.quantities.site_figures import SiteFigures
from lmfacts.run import Run
from lmfacts.run.state import SiteState
from lmfacts.stats.shape import bimodality_coefficient, fraction_beyond, shape_statistics
from lmfacts.stats.spectrum import weightwatcher
from support import oracle
from support.exported_tables import read, statistics_of
from support.synthetic_runs import gaussian_run, residual_run, tokens
from support.synthetic_weights import weights_run

QUANTILES = (0.0001, 0.001, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 0.999, 0.9999)


def odd_values(layer, positions):
    """Gaussian values with an outlier dim, a constant dim, a dim of NaN; and constant or infinite in some layers."""
    rng = np.random.default_rng(layer)
    values = rng.normal(size=(positions.size, 6))
    values[:, 1] *= 50.0
    values[:, 2] = 0.25
    values[:, 3] = np.nan
    if layer == 1:
        values[:] = -3.0
    if layer == 2:
        values[positions == 5] = np.inf
    return values


def odd_run(dtype, **options):
    return residual_run(odd_values, n_layers=3, dtype=dtype, unit_sums=True, dim_places=True, **options)


def one_site(name, stored, dtype, **options):
    state = SiteState.from_native(oracle.site_state(stored, dtype=dtype, **options))
    return Run({"kind": "activations", "model": {"id": "one"}, "sites": [{"name": name}]}, {name: state})


# What the table has to hold, said once more


def expected_values(record):
    """What runs of activations and of weights have alike."""
    low, high = record.quantile([0.25, 0.75])
    shape = asdict(shape_statistics(record.distribution))
    del shape["excess_kurtosis"]
    names = ("n", "n_nan", "n_inf", "n_zero", "n_subnormal", "exact", "mean", "std", "skewness", "excess_kurtosis")
    return {
        **{name: getattr(record, name) for name in (*names, "min", "max")},
        **{f"standardized_moment_{order}": record.standardized_moment(order) for order in (6, 8)},
        **{f"quantile_{q}": record.quantile(q) for q in QUANTILES},
        "body_std": (high - low) / 1.3489795003921634 if high > low else SiteFigures(record).std,
        **shape,
    }


def expected_activations(record):
    norms, dims, units = record.norms, record.dims, record.unit_sums
    kurtoses = dims.excess_kurtosis[np.isfinite(dims.excess_kurtosis)]
    values = {
        "n_tokens": record.n_tokens,
        "n_dims": record.n_dims,
        **expected_values(record),
        "threshold": record.threshold,
        "n_at_least": dims.n_at_least.sum(),
        "median_dim_excess_kurtosis": np.median(kurtoses) if kurtoses.size else math.nan,
        "n_outlier_dims": len(rms_outlier_dims(record)),
        "largest": max(record.min, record.max, key=abs),
        "largest_dim": int(np.nanargmax(dims.absmax)) if record.n else None,
        **{f"norm_{name}": getattr(norms, name) for name in ("n", "mean", "std", "min", "max", "mean_log")},
        "norm_mean_log_centered": norms.mean_log_centered,
        "norm_median": norms.quantile(0.5),
    }
    if units is not None:
        values["mean_cosine"] = units.cosine_contributions.sum()
    names = ("mean", "std", "rms", "skewness", "excess_kurtosis", "min", "max", "absmax", "n_at_least", "n_nonfinite")
    values = {name: value for name, value in values.items() if value is not None}
    many = {f"dim_{name}": getattr(dims, name) for name in names}
    largest = record.largest_of_dims
    if largest is not None:
        known = largest.position >= 0
        for name, column in zip(("", "_sequence", "_position", "_token_id"), largest, strict=True):
            many[f"dim_largest{name}"] = np.where(known, column, np.nan)
    return values, many


def expected_weight(weight):
    matrix = weight.is_matrix
    values = {
        **expected_values(weight),
        "max_abs_z": weight.max_abs_z,
        "expected_max_abs_z": weight.expected_max_abs_z,
        "max_z_ratio": weight.max_abs_z / weight.expected_max_abs_z if weight.n > 1 else math.nan,
        "frobenius": weight.frobenius,
        "frobenius_folded": weight.frobenius_folded,
        "spectral": weight.spectral,
        "spectral_folded": weight.spectral_folded,
        "shuffled_edge": weight.shuffled_edge,
    }
    many = {}
    if matrix:
        values["n_rows"], values["n_columns"] = weight.shape
        values["scaled_n"] = weight.scaled.n
        values["scaled_excess_kurtosis"] = weight.scaled.excess_kurtosis
        values["scaled_max_abs_z"] = weight.scaled.max_abs_z
        values["scaled_weibull_k"] = weight.scaled.weibull.k
        values["weibull_lambda"] = weight.weibull.lambda_
        for side, rms in (("row", weight.row_rms), ("column", weight.column_rms)):
            finite = rms[np.isfinite(rms)]
            values[f"{side}_ratio"] = (
                finite.max() / np.median(finite) if finite.size and np.median(finite) else math.nan
            )
        many = {"row_rms": weight.row_rms, "column_rms": weight.column_rms}
    else:
        share = fraction_beyond(weight.distribution, 3.0)
        values["n_beyond_3"] = 0 if math.isnan(share) else round(share * weight.n)
        values["expected_beyond_3"] = math.erfc(3 / math.sqrt(2)) * weight.n
        middle = abs(weight.quantile(0.5)) if weight.n else 0.0
        values["largest_over_median"] = max(abs(weight.min), abs(weight.max)) / middle if middle else math.nan
        values["bimodality"] = bimodality_coefficient(weight.distribution)
        many = {"entry": weight.dims.mean}
    spectrum = weight.spectrum
    if spectrum is not None:
        edge = spectrum.marchenko_pastur_edge
        values["marchenko_pastur_edge"] = edge
        values["n_above_edge"] = spectrum.n_above(edge)
        values["edge_ratio"] = spectrum.spectral_norm / edge if edge else math.nan
        values["stable_rank_share"] = spectrum.stable_rank / min(weight.shape)
        values["effective_rank_share"] = spectrum.effective_rank / min(weight.shape)
        if weight.shuffled_edge is not None:
            values["n_above_shuffled_edge"] = spectrum.n_above(weight.shuffled_edge)
        for name in ("stable_rank", "effective_rank", "rank_me", "participation_ratio"):
            values[name] = getattr(spectrum, name)
        values["head_slope"], values["body_slope"] = spectrum.head.slope, spectrum.body.slope
        values["alpha"] = weightwatcher(spectrum.values).alpha
        many["singular_value"] = weight.singular_values
    return {name: value for name, value in values.items() if value is not None}, many


def expected(run, populations=("all", "first", "rest")):
    """The whole table, NaN as None."""
    table = {}
    for name in run:
        for population in populations if run.kind != "weights" else ("all",):
            if run.kind == "weights":
                values, many = expected_weight(run[name])
            else:
                values, many = expected_activations(run[name].in_population(population))
            for statistic, value in values.items():
                table[name, population, statistic, None] = float(value)
            for statistic, array in many.items():
                for dim, value in enumerate(array.tolist()):
                    table[name, population, statistic, dim] = float(value)
    return {key: None if math.isnan(value) else value for key, value in table.items()}


# The table of statistics


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float64"])
def test_every_number_of_a_run_of_activations_comes_back(tmp_path, dtype, suffix):
    run = odd_run(dtype)
    written = export_run(run, tmp_path / f"x{suffix}", dims=True)
    rows = read(tmp_path / f"x{suffix}")
    assert statistics_of(rows) == expected(run)
    assert written.n_rows == len(rows)
    assert written.n_bytes == (tmp_path / f"x{suffix}").stat().st_size
    assert written.n_sites == len(run)
    assert {(row["site"], row["layer"], row["kind"]) for row in rows} == {
        (f"blocks.{layer}.resid_post", layer, "resid_post") for layer in range(3)
    }


def weights():
    nan = np.ones((8, 5))
    nan[2, 3] = np.nan
    extra = {"extra.nan": nan, "extra.zero": np.zeros((4, 4)), "extra.constant": np.full(7, 0.5)}
    extra["extra.infinite"] = np.array([1.0, np.inf, -2.0, np.nan])
    return weights_run(3, extra=extra)


@pytest.mark.parametrize("suffix", FORMATS)
def test_every_number_of_a_run_of_weights_comes_back(tmp_path, suffix):
    run = weights()
    export_run(run, tmp_path / f"x{suffix}", statistics="*")
    rows = read(tmp_path / f"x{suffix}")
    assert statistics_of(rows) == expected(run)
    places = {row["site"]: (row["layer"], row["kind"]) for row in rows}
    assert places["blocks.2.W_O"] == (2, "W_O")
    assert places["blocks.0.ln1.gain"] == (0, "ln1.gain")
    assert places["embed.W_E"] == (None, "embed.W_E")
    assert places["extra.nan"] == (None, None)


def test_every_statistic_is_checked_by_the_two_above(tmp_path):
    names = {key[2] for run in (odd_run("float32"), weights()) for key in expected(run)}
    # The made-up weights have no shuffled edge, and blocks of values are tested in `test_value_blocks.py`.
    assert set(QUANTITIES) == names | {"shuffled_edge", "n_above_shuffled_edge", "mxfp4_snr", "nvfp4_snr"}


def test_a_shuffled_edge_is_exported_where_there_is_one(tmp_path):
    run = weights()
    entry = next(entry for entry in run.metadata["sites"] if entry["name"] == "blocks.2.W_O")
    entry["shuffled_edge"] = 0.5 * run["blocks.2.W_O"].spectral
    export_run(run, tmp_path / "x.csv", sites=["blocks.{1,2}.W_O", "blocks.1.W_O", "blocks.2.W_O"][1:])
    found = statistics_of(read(tmp_path / "x.csv"))
    weight = run["blocks.2.W_O"]
    assert found["blocks.2.W_O", "all", "shuffled_edge", None] == weight.shuffled_edge
    above = int((weight.singular_values > weight.shuffled_edge).sum())
    assert found["blocks.2.W_O", "all", "n_above_shuffled_edge", None] == above > 1
    assert ("blocks.1.W_O", "all", "shuffled_edge", None) not in found


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_site_never_reached_and_a_population_without_tokens(tmp_path, suffix):
    states = {
        "never": SiteState.from_native(
            oracle.site_state(np.zeros((0, 0), np.float32), dtype="float32") | {"dtype": ""}
        ),
        "only_first": SiteState.from_native(oracle.site_state(np.eye(3, dtype=np.float32)[:1], dtype="float32")),
    }
    sites = [{"name": name} for name in states]
    run = Run({"kind": "activations", "model": {}, "sites": sites}, states)
    export_run(run, tmp_path / f"x{suffix}", dims=True)
    found = statistics_of(read(tmp_path / f"x{suffix}"))
    assert found == expected(run)
    assert found["never", "all", "n_tokens", None] == 0.0
    assert found["never", "all", "std", None] is None
    assert found["only_first", "rest", "dim_mean", 2] is None
    assert found["only_first", "first", "dim_mean", 0] == 1.0


@pytest.mark.parametrize("suffix", FORMATS)
def test_infinities_are_kept_where_the_format_has_them(tmp_path, suffix):
    run = weights()
    entry = next(entry for entry in run.metadata["sites"] if entry["name"] == "extra.nan")
    entry["frobenius"] = math.inf
    export_run(run, tmp_path / f"x{suffix}", sites="extra.nan", statistics="frobenius")
    (value,) = statistics_of(read(tmp_path / f"x{suffix}")).values()
    assert value == (None if suffix == ".json" else math.inf)


def test_a_site_is_exported_once_under_its_stored_name(tmp_path):
    export_run(gaussian_run(), tmp_path / "x.csv", sites=["blocks.1.resid_pre", "blocks.0.resid_post"])
    assert {row["site"] for row in read(tmp_path / "x.csv")} == {"blocks.0.resid_post"}


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("embed", (None, "embed")),
        ("blocks.12.mlp_post", (12, "mlp_post")),
        ("blocks.3.resid_post.grad", (3, "resid_post.grad")),
        ("model.layers.3.mlp:in", (None, None)),
    ],
)
def test_layer_and_kind_are_read_from_the_name(tmp_path, name, place):
    run = one_site(name, np.ones((2, 3), np.float32), "float32")
    export_run(run, tmp_path / "x.json", statistics="n")
    assert {(row["site"], row["layer"], row["kind"]) for row in read(tmp_path / "x.json")} == {(name, *place)}


# The other tables


@pytest.mark.parametrize("suffix", FORMATS)
def test_outliers_come_with_the_text_of_their_tokens(tmp_path, suffix):
    texts = {0: "a,b", 31: 'say "x"', 62: "line\nbreak\r", 93: "\ud800", 7: " ", 38: "null", 69: "=1"}
    run = residual_run(odd_values, n_layers=1, metadata={"token_text": {str(key): text for key, text in texts.items()}})
    export_run(run, tmp_path / f"x{suffix}", table="outliers")
    wanted = [
        {
            "site": "blocks.0.resid_post",
            "population": population,
            **{name: outlier[name].item() for name in ("value", "sequence", "position", "dim", "token_id")},
            "token": texts.get(int(outlier["token_id"]), "").replace("\ud800", "\\ud800") or None,
            "layer": 0,
            "kind": "resid_post",
        }
        for population in ("all", "first", "rest")
        for outlier in run["blocks.0.resid_post"].in_population(population).outliers
    ]
    assert read(tmp_path / f"x{suffix}") == wanted
    assert {row["token"] for row in wanted} >= {"a,b", 'say "x"', "line\nbreak\r", "\\ud800", " ", "null", None}


def test_an_unknown_token_is_no_value(tmp_path):
    run = one_site("embed", np.ones((2, 3), np.float32), "float32")
    export_run(run, tmp_path / "x.parquet", table="outliers")
    assert {(row["token_id"], row["token"]) for row in read(tmp_path / "x.parquet")} == {(None, None)}


@pytest.mark.parametrize("suffix", FORMATS)
def test_outliers_of_weights_have_rows_and_columns(tmp_path, suffix):
    run = weights()
    export_run(
        run, tmp_path / f"x{suffix}", table="outliers", sites=["blocks.2.W_O", "blocks.0.W_out", "ln_final.gain"]
    )
    found = [(row["site"], row["value"], row["row"], row["column"]) for row in read(tmp_path / f"x{suffix}")]
    wanted = [
        (name, *item)
        for name in run.select(["blocks.2.W_O", "blocks.0.W_out", "ln_final.gain"])
        for item in zip(*(array.tolist() for array in run[name].largest), strict=True)
    ]
    assert found == wanted
    assert ("blocks.2.W_O", -2.5, 7, 11) in found


@pytest.mark.parametrize("suffix", FORMATS)
def test_codes_of_bfloat16_are_the_values_themselves(tmp_path, suffix):
    values = np.array([[1.5, -2.0, 0.0], [1.5, -0.0, np.nan], [np.inf, -np.inf, 1.5]])
    run = one_site("embed", oracle.store(values, "bfloat16"), "bfloat16")
    export_run(run, tmp_path / f"x{suffix}", table="codes", populations="all")
    rows = read(tmp_path / f"x{suffix}")
    infinity = None if suffix == ".json" else math.inf
    assert [(row["code"], row["low"], row["high"], row["count"]) for row in rows] == [
        (0x0000, 0.0, 0.0, 1),
        (0x3FC0, 1.5, 1.5, 3),
        (0x7F80, infinity, infinity, 1),
        (0x7FC0, None, None, 1),
        (0x8000, 0.0, 0.0, 1),
        (0xC000, -2.0, -2.0, 1),
        (0xFF80, infinity and -infinity, infinity and -infinity, 1),
    ]


def test_codes_of_float32_are_cells(tmp_path):
    values = np.array([[1.0, -1.0, 1.0 + 2.0**-10, 3e38]], np.float32)
    run = one_site("embed", values, "float32")
    export_run(run, tmp_path / "x.csv", table="codes", populations="first")
    rows = read(tmp_path / "x.csv")
    assert [row["count"] for row in rows] == [2, 1, 1]
    last = float(np.nextafter(np.float32(1.0078125), np.float32(0)))
    assert [(row["low"], row["high"]) for row in rows[::2]] == [(1.0, last), (-last, -1.0)]


def test_codes_add_up_to_the_values(tmp_path):
    run = odd_run("float32")
    export_run(run, tmp_path / "x.parquet", table="codes")
    for name in run:
        for population in ("all", "first", "rest"):
            record = run[name].in_population(population)
            rows = [r for r in read(tmp_path / "x.parquet") if (r["site"], r["population"]) == (name, population)]
            assert sum(row["count"] for row in rows) == record.n + record.n_nan + record.n_inf
            assert sum(row["count"] for row in rows if row["low"] is None) == record.n_nan


# What stands beside the rows


def test_parquet_and_json_say_what_the_table_is_of(tmp_path):
    run = gaussian_run(metadata={"token_hash": "abc", "settings": {"threshold": 6.0}})
    written = export_run(run, tmp_path / "x.parquet")
    export_run(run, tmp_path / "x.json")
    document = json.loads((tmp_path / "x.json").read_text())
    del document["rows"]
    schema = pq.read_schema(tmp_path / "x.parquet")
    assert json.loads(schema.metadata[b"lmfacts"]) == document == written.header
    assert document["document"] == "lmfacts.export"
    assert document["version"] == 1
    assert document["table"] == "statistics"
    about = document["run"]
    assert (about["kind"], about["model"]["id"], about["token_hash"]) == ("activations", "synthetic", "abc")
    assert (about["n_tokens"], about["n_sequences"], about["complete"]) == (64, 4, True)
    assert about["settings"] == {"threshold": 6.0}


def test_the_types_of_parquet_columns(tmp_path):
    export_run(gaussian_run(), tmp_path / "x.parquet")
    types = {field.name: str(field.type) for field in pq.read_schema(tmp_path / "x.parquet")}
    assert types == {
        **dict.fromkeys(("site", "population", "statistic"), "string"),
        "value": "double",
        "dim": "int64",
        "layer": "int64",
        "kind": "string",
    }


def test_csv_is_the_table_and_nothing_else(tmp_path):
    export_run(gaussian_run(), tmp_path / "x.csv", statistics="n", populations="all", sites="blocks.0.resid_post")
    assert (tmp_path / "x.csv").read_bytes() == (
        b"site,population,statistic,value,dim,layer,kind\nblocks.0.resid_post,all,n,512.0,,0,resid_post\n"
    )


@pytest.mark.parametrize("suffix", FORMATS)
def test_the_same_run_gives_the_same_bytes(tmp_path, suffix):
    run = odd_run("float32")
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    export_run(run, first, dims=True)
    export_run(run, second, dims=True)
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_table_without_rows_is_still_a_table(tmp_path, suffix):
    run = one_site("embed", np.full((2, 3), np.nan, np.float32), "float32", **tokens(1, 2))
    written = export_run(run, tmp_path / f"x{suffix}", table="outliers")
    assert written.n_rows == 0
    assert read(tmp_path / f"x{suffix}") == []
