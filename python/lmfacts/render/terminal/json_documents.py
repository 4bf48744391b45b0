"""Runs and sites as JSON documents: the figures of the reports as numbers.

Every document is one object that `json.dumps(..., allow_nan=False)` accepts: NaN and infinities are null.

`summary_json`:

| key | value |
|---|---|
| `document`, `version` | `"lmfacts.summary"`, 3 |
| `run` | what is known about the run: `path`, `kind`, `model`, `tokenizer`, `corpus`, `settings`, `machine`, `timing`, `created`, `n_sequences`, `n_tokens`, `n_sites`, `complete`, `incomplete_reason`, `notes` |
| `problems` | `never_reached`: sites; `nonfinite`: list of `name`, `n_nan`, `n_inf`, `n_dims_hit`, in order of depth; `n_copies` |
| `population` | the main population: `rest` (all tokens but position 0), or `all` |
| `residual_kind` | the kind of site the residual stream is followed by, or null |
| `sites` | list in order of depth: `name`, `aliases`, `module_path`, `dtype`, `exact`, `n_dims`, and `figures`: population -> figures |
| `outlier_dims` | population -> `kind`, `criterion`, `layers`, `counted_layers` (those that persistence and overlap are counted over, as in fact F2), `median_jaccard`, `persistent`, and `dims`: list of `dim`, `layers`, `persistence`, `rms_over_median` (one per layer), `peak_layer`, `peak_ratio`, `peak_mean`, `peak_mean_over_rms` |
| `largest` | population -> list of at most 64, one entry per dim, largest first: `value`, `site`, `sequence`, `position`, `dim`, `token_id`, `token` (these four but `dim` null where the value is not among the outliers kept of its site), `n_tokens`, `tokens` (`[id, text, count]`) |
| `norms` | list by depth: `label`, `name`, `mean`, `growth` (over the depth before), `first_mean` |

Figures of a site over a population are the quantities of `lmfacts.quantities` that take no time, by their keys; `docs/export.md` has
their definitions.

`site_json`:

| key | value |
|---|---|
| `document`, `version` | `"lmfacts.site"`, 2 |
| `model`, `complete` | of the run |
| `name`, `aliases`, `module_path`, `note`, `dtype`, `exact`, `n_dims`, `threshold` | of the site |
| `populations` | population -> see below; `rest`, `first` and `all` where they have tokens |

Each population: `figures` as above; `snr`, where blocks of values were recorded: `mxfp4_snr`, `nvfp4_snr` in dB; `n_zero`; `min`, `max`; `quantiles`: list of `q`, `value`, `low`, `high` (equal where
exact); `histogram`: `edges`, `counts`, `n_below`, `n_above` over 8 stds of the body about the median; `octaves`: `edges`,
`counts` by powers of two; `outlier_dims`: criterion -> dims; `dims`: `mean`, `std`, `rms`, `skewness`,
`excess_kurtosis`, `min`, `max`, `n_at_least`, `n_nonfinite`, one number per dim, and `largest`: null, or `value`, `sequence`,
`position`, `token_id` of each dim's largest magnitude (-1 where unknown); `outliers`: list of `value`, `sequence`, `position`,
`dim`, `token_id`, `token`; `norms`: `n`, `mean`, `std`, `min`, `median`, `max`, `mean_log`.
"""  # noqa: E501  tables

from __future__ import annotations

import math
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lmfacts.analysis.largest_values import largest_values
from lmfacts.analysis.outlier_dims_by_depth import outlier_dims_by_depth
from lmfacts.analysis.residual_norms import residual_norms
from lmfacts.analysis.run_view import RunView
from lmfacts.quantities.catalogue import json_figures
from lmfacts.quantities.of_sites import OF_BLOCK_FORMATS
from lmfacts.quantities.site_figures import SiteFigures
from lmfacts.render.terminal.run_header import n_copies, never_reached, nonfinite_sites, notes
from lmfacts.render.terminal.site_page import CRITERIA, SITE_QUANTILES

if TYPE_CHECKING:
    from lmfacts.run import Run
    from lmfacts.run.site import Population, SiteRecord

__all__ = ["json_safe", "site_json", "summary_json"]

SUMMARY_VERSION: Final = 3
SITE_VERSION: Final = 2
"""Versions of the documents; one grows when a key changes its meaning or goes away."""

_POPULATIONS: Final[tuple[Population, ...]] = ("rest", "first", "all")
_HISTOGRAM_BINS: Final = 129
_HISTOGRAM_LIMIT: Final = 8


def summary_json(run: Run) -> dict[str, Any]:
    """The summary of a run as a JSON document: see the module."""
    view = RunView(run)
    sites = []
    for name in run:
        site = view.site(name)
        sites.append(
            {
                "name": name,
                "aliases": list(site.aliases),
                "module_path": site.module_path,
                "dtype": site.dtype,
                "exact": site.exact,
                "n_dims": site.n_dims,
                "figures": {p: json_figures(view.figures(name, p), run.kind) for p in view.populations},
            }
        )
    outlier_dims = {}
    for population in view.populations:
        outlying = outlier_dims_by_depth(view, population)
        if outlying is not None:
            outlier_dims[population] = asdict(outlying)
    document: dict[str, Any] = json_safe(
        {
            "document": "lmfacts.summary",
            "version": SUMMARY_VERSION,
            "run": _run(run),
            "problems": {
                "never_reached": never_reached(run),
                "nonfinite": [asdict(outlying) for outlying in nonfinite_sites(view)],
                "n_copies": n_copies(run),
            },
            "population": view.population,
            "residual_kind": view.residual_kind or None,
            "sites": sites,
            "outlier_dims": outlier_dims,
            "largest": {p: [asdict(item) for item in largest_values(view, p)] for p in view.populations},
            "norms": [asdict(point) for point in residual_norms(view)],
        }
    )
    return document


def site_json(site: SiteRecord, run: Run) -> dict[str, Any]:
    """One site as a JSON document: see the module."""
    text = run.tokens
    populations = {}
    for population in _POPULATIONS:
        part = site.in_population(population)
        if part.n_tokens:
            populations[population] = _population(part, text, run.kind)
    document: dict[str, Any] = json_safe(
        {
            "document": "lmfacts.site",
            "version": SITE_VERSION,
            "model": run.model.id,
            "complete": run.complete,
            "name": site.name,
            "aliases": list(site.aliases),
            "module_path": site.module_path,
            "note": site.note,
            "dtype": site.dtype,
            "exact": site.exact,
            "n_dims": site.n_dims,
            "threshold": site.threshold,
            "populations": populations,
        }
    )
    return document


def json_safe(value: Any) -> Any:
    """A value in JSON's own types: NaN and infinities are None, arrays and tuples lists, keys strings."""
    if isinstance(value, dict):
        return {str(key): json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_safe(item) for item in value]
    if isinstance(value, np.ndarray | np.generic):
        return json_safe(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _run(run: Run) -> dict[str, Any]:
    return {
        "path": None if run.path is None else str(run.path),
        "kind": run.kind,
        "model": dict(run.model),
        "tokenizer": dict(run.tokenizer),
        "corpus": dict(run.corpus),
        "settings": dict(run.settings),
        "machine": run.machine,
        "timing": dict(run.timing),
        "created": run.info.created,
        "n_sequences": run.n_sequences,
        "n_tokens": run.n_tokens,
        "token_hash": run.info.token_hash,
        "n_sites": len(run),
        "complete": run.complete,
        "incomplete_reason": run.incomplete_reason,
        "notes": notes(run),
    }


def _population(site: SiteRecord, text: dict[int, str], kind: str) -> dict[str, Any]:
    figures = SiteFigures(site)
    counts, edges, n_below, n_above = figures.histogram(_HISTOGRAM_BINS, _HISTOGRAM_LIMIT)
    octave_counts, octave_edges = site.histogram("log")
    low, high = site.quantile_bounds(SITE_QUANTILES)
    dims = site.dims
    snr = {quantity.key: value for quantity in OF_BLOCK_FORMATS if (value := quantity.compute(figures)) is not None}
    return {
        "figures": json_figures(figures, kind),
        **({"snr": snr} if snr else {}),
        "n_zero": site.n_zero,
        "min": site.min,
        "max": site.max,
        "quantiles": [
            {"q": q, "value": value, "low": least, "high": most}
            for q, value, least, most in zip(SITE_QUANTILES, site.quantile(SITE_QUANTILES), low, high, strict=True)
        ],
        "histogram": {"edges": edges, "counts": counts, "n_below": n_below, "n_above": n_above},
        "octaves": {"edges": octave_edges, "counts": octave_counts},
        "outlier_dims": {name: criterion(site) for name, criterion in CRITERIA.items()},
        "dims": {
            "mean": dims.mean,
            "std": dims.std,
            "rms": dims.rms,
            "skewness": dims.skewness,
            "excess_kurtosis": dims.excess_kurtosis,
            "min": dims.min,
            "max": dims.max,
            "n_at_least": dims.n_at_least,
            "n_nonfinite": dims.n_nonfinite,
            "largest": site.largest_of_dims and site.largest_of_dims._asdict(),
        },
        "outliers": [
            {
                "value": value,
                "sequence": sequence,
                "position": position,
                "dim": dim,
                "token_id": token_id,
                "token": text.get(token_id),
            }
            for value, sequence, position, dim, token_id in site.outliers.tolist()
        ],
        "norms": {
            "n": site.norms.n,
            "mean": site.norms.mean,
            "std": site.norms.std,
            "min": site.norms.min,
            "median": site.norms.quantile(0.5),
            "max": site.norms.max,
            "mean_log": site.norms.mean_log,
        },
    }
