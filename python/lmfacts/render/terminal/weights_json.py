"""Runs of weights, and single weights, as JSON documents: the figures of the reports as numbers.

Every document is one object that `json.dumps(..., allow_nan=False)` accepts: NaN and infinities are null.

`weights_summary_json`:

| key | value |
|---|---|
| `document`, `version` | `"lmfacts.weights_summary"`, 1 |
| `run` | what is known about the run: `path`, `kind`, `model`, `settings`, `machine`, `timing`, `created`, `n_weights`, `n_matrices`, `complete`, `incomplete_reason`, `notes` |
| `dtypes` | stored dtype, or name of the quantization -> number of values |
| `tied` | name of a parameter -> name of the one that owns the same storage |
| `skipped` | name of a tensor -> why it was not measured |
| `weights` | list in order of depth: `name`, `aliases`, `parameter`, `part`, `role`, `kind`, `layer`, `shape` ([out, in]; [n] of a vector), `stored_dtype`, `quantization`, `figures` |
| `kinds` | list: `kind`, `is_matrix`, `n`, and of each quantity named in the reports `median`, `worst` (farthest from a Gaussian) and `worst_weight` |
| `norms` | list: `kind`, `group` (`writing`, `reading` or `value`), `folded`, `layers`, `norms`, `slope` (of ln norm per layer, without the first block), `total_factor`, `spearman` |

Figures of every weight: `n_values` (finite), `n_nan`, `n_inf`, `n_zero`, `mean`, `std`, `skewness`, `excess_kurtosis`, `min`, `max`, `max_abs_z`,
`expected_max_abs_z` (of as many Gaussian values), `frobenius`, `frobenius_folded`. Of a matrix also `scaled_excess_kurtosis`, `weibull_k`,
`weibull_lambda`, `largest_over_median_row_rms`, `largest_over_median_column_rms`, `spectral`, `spectral_folded`,
`largest_singular_value_over_edge`, `stable_rank_share`, `effective_rank_share` (over the smaller side). Of a vector also `bimodality`,
`n_beyond_3`, `expected_beyond_3`, `largest_over_median`.

`weight_json`:

| key | value |
|---|---|
| `document`, `version` | `"lmfacts.weight"`, 1 |
| `model`, `complete` | of the run |
| `name` ... `figures` | as in `weights` above, and `note`, `dtype` (of the values as measured), `exact` |
| `shape_statistics` | `excess_kurtosis`, `weibull_k`, `beyond_3`, `beyond_6`, `q999_over_q50`, `q9999_over_q50`, `std_over_mad`, `tail_exponent`, `ks_mean_std`, `ks_median_mad`; null where cells are too wide to tell |
| `quantiles` | list of `q`, `value`, `z` (distance from the median in stds of the body), `gaussian_z` |
| `histogram` | `edges`, `counts`, `n_below`, `n_above` over 8 stds of the body about the median |
| `scaled` | the same weight after dividing columns, then rows, by their RMS: `n_values`, `max_abs_z` and `shape_statistics`; null for a vector |
| `families` | list, the likeliest first: `name`, `parameters`, `nats_per_value`, `gap`, `tied`; empty for a vector |
| `row_rms`, `column_rms` | one number per output dim and per input dim; empty for a vector |
| `values` | of a vector, all of them; null for a matrix |
| `largest` | list of `value`, `row`, `column` (of a vector `row` is 0) |
| `spectrum` | null where it was not computed, else `singular_values`, `frobenius`, `spectral_norm`, `marchenko_pastur_edge`, `n_above_edge`, `shuffled_edge` and `n_above_shuffled_edge` (null where the tails are not heavy), `stable_rank`, `effective_rank`, `rank_me`, `participation_ratio`, `alpha` (`alpha`, `xmin`, `distance`, `n_tail`, `sigma`, `alpha_weighted`, `warning`, `label`), and `head` and `body`: `first`, `last`, `slope`, `r2_power`, `r2_exponential`, `slope_first_half`, `slope_second_half`, `random_slope` (of a Gaussian matrix of that shape) |
"""  # noqa: E501  tables

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from lmfacts.analysis.weight_norms import norm_trends
from lmfacts.analysis.weights_view import WeightsView
from lmfacts.quantities.catalogue import json_figures
from lmfacts.quantities.weight_figures import WeightFigures
from lmfacts.render.terminal.json_documents import json_safe
from lmfacts.render.terminal.run_header import notes
from lmfacts.render.terminal.weight_shape import WEIGHT_QUANTILES, gaussian_quantiles, standardized_quantiles
from lmfacts.render.terminal.weights_header import dtypes
from lmfacts.stats.laws import fit_families
from lmfacts.stats.shape import shape_statistics
from lmfacts.stats.spectrum import gaussian_null_slope, weightwatcher

if TYPE_CHECKING:
    from lmfacts.analysis.weights_view import WeightGroup
    from lmfacts.run import Run
    from lmfacts.run.weight import WeightRecord
    from lmfacts.stats.spectrum import Spectrum, WindowFit

__all__ = ["weight_json", "weights_summary_json"]

VERSION: Final = 2
"""Version of the documents; it grows when a key changes its meaning or goes away."""

_MATRIX_QUANTITIES: Final = (
    *("std", "excess_kurtosis", "scaled_excess_kurtosis", "weibull_k", "max_z_ratio", "row_ratio", "column_ratio"),
    *("edge_ratio", "stable_rank_share", "effective_rank_share"),
)
_VECTOR_QUANTITIES: Final = ("std", "excess_kurtosis", "max_z_ratio", "bimodality", "largest_over_median")
_HISTOGRAM_BINS: Final = 129
_HISTOGRAM_LIMIT: Final = 8


def weights_summary_json(run: Run[WeightRecord]) -> dict[str, Any]:
    """The summary of a run of weights as a JSON document: see the module."""
    view = WeightsView(run)
    weights = [figures.weight for figures in view.figures.values()]
    document: dict[str, Any] = json_safe(
        {
            "document": "lmfacts.weights_summary",
            "version": VERSION,
            "run": {
                "path": None if run.path is None else str(run.path),
                "kind": run.kind,
                "model": dict(run.model),
                "settings": dict(run.settings),
                "machine": run.machine,
                "timing": dict(run.timing),
                "created": run.info.created,
                "n_weights": len(weights),
                "n_matrices": sum(weight.is_matrix for weight in weights),
                "complete": run.complete,
                "incomplete_reason": run.incomplete_reason,
                "notes": notes(run),
            },
            "dtypes": dtypes(view),
            "tied": run.info.tied or {},
            "skipped": run.info.skipped or {},
            "weights": [_identity(f.weight) | {"figures": json_figures(f, run.kind)} for f in view.figures.values()],
            "kinds": [_kind(group) for group in view.groups],
            "norms": [
                {
                    "kind": trend.kind,
                    "group": trend.group,
                    "folded": trend.folded,
                    "layers": list(trend.norms),
                    "norms": list(trend.norms.values()),
                    "slope": trend.slope,
                    "total_factor": trend.total_factor,
                    "spearman": trend.spearman,
                }
                for trend in norm_trends(view.run)
            ],
        }
    )
    return document


def weight_json(weight: WeightRecord, run: Run[WeightRecord]) -> dict[str, Any]:
    """One weight as a JSON document: see the module."""
    figures = WeightFigures(weight)
    counts, edges, n_below, n_above = figures.histogram(_HISTOGRAM_BINS, _HISTOGRAM_LIMIT)
    quantiles = list(WEIGHT_QUANTILES)
    scaled = weight.scaled if weight.is_matrix else None
    spectrum = weight.spectrum
    document: dict[str, Any] = json_safe(
        {
            "document": "lmfacts.weight",
            "version": VERSION,
            "model": run.model.id,
            "complete": run.complete,
            **_identity(weight),
            "note": weight.note,
            "dtype": weight.dtype,
            "exact": weight.exact,
            "figures": json_figures(figures, run.kind),
            "shape_statistics": asdict(shape_statistics(weight.distribution)),
            "quantiles": [
                {"q": q, "value": value, "z": z, "gaussian_z": expected}
                for q, value, z, expected in zip(
                    quantiles,
                    weight.quantile(quantiles),
                    standardized_quantiles(weight, quantiles),
                    gaussian_quantiles(quantiles),
                    strict=True,
                )
            ],
            "histogram": {"edges": edges, "counts": counts, "n_below": n_below, "n_above": n_above},
            "scaled": None
            if scaled is None
            else {
                "n_values": scaled.n,
                "max_abs_z": scaled.max_abs_z,
                "shape_statistics": asdict(shape_statistics(scaled.distribution)),
            },
            "families": [
                {
                    "name": fit.name,
                    "parameters": dict(fit.parameters),
                    "nats_per_value": fit.nats_per_value,
                    "gap": fit.gap,
                    "tied": fit.tied,
                }
                for fit in (fit_families(weight.distribution) if weight.is_matrix else [])
            ],
            "row_rms": weight.row_rms,
            "column_rms": weight.column_rms,
            "values": None if weight.is_matrix else weight.dims.mean,
            "largest": [
                {"value": value, "row": row, "column": column}
                for value, row, column in zip(*(array.tolist() for array in weight.largest), strict=True)
            ],
            "spectrum": None if spectrum is None else _spectrum(spectrum, weight),
        }
    )
    return document


def _identity(weight: WeightRecord) -> dict[str, Any]:
    return {
        "name": weight.name,
        "aliases": list(weight.aliases),
        "parameter": weight.parameter,
        "part": weight.part,
        "role": weight.role,
        "kind": weight.kind,
        "layer": weight.layer,
        "shape": list(weight.shape),
        "stored_dtype": weight.stored_dtype,
        "quantization": weight.quantization,
    }


def _kind(group: WeightGroup) -> dict[str, Any]:
    described: dict[str, Any] = {"kind": group.kind, "is_matrix": group.is_matrix, "n": len(group.figures)}
    for quantity in _MATRIX_QUANTITIES if group.is_matrix else _VECTOR_QUANTITIES:
        worst = group.worst(quantity)
        described[quantity] = {
            "median": group.median(quantity),
            "worst": getattr(worst, quantity),
            "worst_weight": worst.weight.name,
        }
    return described


def _spectrum(spectrum: Spectrum, weight: WeightRecord) -> dict[str, Any]:
    edge, shuffled, shape = spectrum.marchenko_pastur_edge, weight.shuffled_edge, weight.shape
    fit = weightwatcher(spectrum.values)
    return {
        "singular_values": spectrum.values,
        "frobenius": spectrum.frobenius,
        "spectral_norm": spectrum.spectral_norm,
        "marchenko_pastur_edge": edge,
        "n_above_edge": spectrum.n_above(edge),
        "shuffled_edge": shuffled,
        "n_above_shuffled_edge": None if shuffled is None else spectrum.n_above(shuffled),
        "stable_rank": spectrum.stable_rank,
        "effective_rank": spectrum.effective_rank,
        "rank_me": spectrum.rank_me,
        "participation_ratio": spectrum.participation_ratio,
        "alpha": asdict(fit) | {"label": fit.label},
        "head": _window(spectrum.head, shape),
        "body": _window(spectrum.body, shape),
    }


def _window(fit: WindowFit, shape: tuple[int, ...]) -> dict[str, Any]:
    return asdict(fit) | {"random_slope": gaussian_null_slope(shape[0], shape[1], (fit.first, fit.last))}
