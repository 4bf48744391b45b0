"""A comparison as a JSON document.

One object that `json.dumps(..., allow_nan=False)` accepts: NaN and infinities are null.

| key | value |
|---|---|
| `document`, `version` | `"lmfacts.comparison"`, 2 |
| `a`, `b` | of each run `path`, `kind`, `model`, `corpus`, `settings`, `n_sequences`, `n_tokens`, `token_hash`, `created`, `complete`, `incomplete_reason` |
| `population` | the tokens that were compared: `rest` (all but position 0), `first` or `all` |
| `paired` | whether both runs read the same text (always of weights): then nothing differs by chance, and every noise is 0 |
| `caveats` | sentences on what else differs between the runs |
| `n_sites`, `n_judged`, `n_changed`, `n_identical` | numbers of sites: compared, that can be judged, with an effect, without any difference |
| `largest_effect`, `median_effect` | over the sites that can be judged; null if there are none |
| `facts` | list: `id`, `title`, `verdict_changed`, `a` and `b` (`verdict`, `class`, `summary`), and `measures`, those that changed most first: `name`, `a`, `b`, `relative_change` (of the larger magnitude), `threshold`, `passed_a`, `passed_b` |
| `sites` | list, the largest effect first: see below |
| `norms` | list by depth of the residual stream: `label`, `name`, `mean_log_a`, `mean_log_b`, `ratio`, `noise` (of the difference of the logarithms), `counts` |
| `weight_norms` | list: `kind`, `layers`, `frobenius_a`, `frobenius_b`, `frobenius_folded_a`, `frobenius_folded_b` |
| `only_a`, `only_b` | names of sites that one run has |
| `not_comparable` | list: `name`, `reason` |

Each of `sites`: `name` and `name_b`, `kind`, `layer`; `effect`, the largest excess of a difference, or null where nothing can be judged;
`noise`, that of the difference which it is, or of the one nearest to its noise; `decided_by`, the key of the difference that the effect is,
or null; `judged`, whether any difference can be; `identical`; `differences`: list of `key`, `size`, `noise` (null where it is not known),
`resolution`, `excess` (size less noise where it counts, else 0), `dim`, `known`, `judged`, `counts` (`lmfacts.comparison.site_change` explains the
keys, `lmfacts.comparison.noise` the noise); `dtype_a`, `dtype_b`,
`n_values_a` ... `n_nonfinite_b`; `ks`, `ks_resolution`, `levy`, `levy_resolution`, `wasserstein`, `wasserstein_resolution`; `mean_shift` (in A's
standard deviations), `std_ratio`, `excess_kurtosis_a`, `excess_kurtosis_b`, `largest_ratio`, `log_norm_shift`; `dims`: list, one per axis, of
`axis`, `log_rms_ratio`, `dim`, `mean_shift`, `mean_dim`, `n_kept`, and `gained` and `lost` (lists of `dim`, `ratio_a`, `ratio_b`: RMS over the
median dim's); `weight`: null, or `shape`, `relative_change`, `known` (`exact`, `estimated`, `at least`), `standard_error`, `exact`, `frobenius_ratio`, `frobenius_folded_ratio`, `spectral_ratio`,
`weibull_k_a`, `weibull_k_b`. Ratios are B over A.

Version 2: an effect is an excess over the noise of different text; in version 1 it was the size of the difference.
"""  # noqa: E501  tables

from __future__ import annotations

import statistics
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from lmfacts.render.terminal.json_documents import json_safe

if TYPE_CHECKING:
    from lmfacts.comparison import Comparison, FactChange, SiteChange
    from lmfacts.facts import Fact
    from lmfacts.run import Run

__all__ = ["comparison_json"]

VERSION: Final = 2
"""Version of the document; it grows when a key changes its meaning or goes away."""


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison as a JSON document: see the module."""
    sites = comparison.by_effect
    effects = [site.effect for site in comparison.judged]
    document: dict[str, Any] = json_safe(
        {
            "document": "lmfacts.comparison",
            "version": VERSION,
            "a": _run(comparison.a),
            "b": _run(comparison.b),
            "population": comparison.population,
            "paired": comparison.paired,
            "caveats": comparison.caveats,
            "n_sites": len(sites),
            "n_judged": len(effects),
            "n_changed": sum(site.effect > 0 for site in sites),
            "n_identical": sum(site.identical for site in sites),
            "largest_effect": max(effects, default=None),
            "median_effect": statistics.median(effects) if effects else None,
            "facts": [_fact_change(fact) for fact in comparison.facts],
            "sites": [_site(site) for site in sites],
            "norms": [
                {
                    "label": norm.label,
                    "name": norm.name,
                    **_two("mean_log", norm.mean_log),
                    "ratio": norm.ratio,
                    "noise": norm.noise,
                    "counts": norm.counts,
                }
                for norm in comparison.norms
            ],
            "weight_norms": [
                {
                    "kind": norm.kind,
                    "layers": norm.layers,
                    **_two("frobenius", tuple(zip(*norm.norms, strict=True))),
                    **_two("frobenius_folded", tuple(zip(*norm.folded, strict=True))),
                }
                for norm in comparison.weight_norms
            ],
            "only_a": comparison.only_a,
            "only_b": comparison.only_b,
            "not_comparable": [asdict(site) for site in comparison.not_comparable],
        }
    )
    return document


def _run(run: Run[Any]) -> dict[str, Any]:
    return {
        "path": None if run.path is None else str(run.path),
        "kind": run.kind,
        "model": dict(run.model),
        "corpus": dict(run.corpus),
        "settings": dict(run.settings),
        "n_sequences": run.n_sequences,
        "n_tokens": run.n_tokens,
        "token_hash": run.info.token_hash,
        "created": run.info.created,
        "complete": run.complete,
        "incomplete_reason": run.incomplete_reason,
    }


def _fact_change(change: FactChange) -> dict[str, Any]:
    return {
        "id": change.id,
        "title": change.title,
        "verdict_changed": change.verdict_changed,
        "a": _fact(change.a),
        "b": _fact(change.b),
        "measures": [
            {
                "name": measure.name,
                "a": measure.a,
                "b": measure.b,
                "relative_change": measure.relative_change,
                "threshold": measure.threshold or None,
                **_two("passed", measure.passed),
            }
            for measure in change.measures
        ],
    }


def _fact(fact: Fact) -> dict[str, Any]:
    return {"verdict": str(fact.verdict), "class": fact.fact_class, "summary": fact.summary}


def _site(site: SiteChange) -> dict[str, Any]:
    decided_by, foremost, weight = site.decided_by, site.foremost, site.weight
    return {
        "name": site.name,
        "name_b": site.name_b,
        "kind": site.kind,
        "layer": site.layer,
        "effect": site.effect if site.judged else None,
        "noise": None if foremost is None else foremost.noise,
        "decided_by": None if decided_by is None else decided_by.key,
        "judged": site.judged,
        "identical": site.identical,
        "differences": [
            {**asdict(item), "excess": item.excess, "judged": item.judged, "counts": item.counts}
            for item in site.differences
        ],
        **_two("dtype", site.dtypes),
        **_two("n_values", site.n_values),
        **_two("n_nonfinite", site.n_nonfinite),
        **asdict(site.distances),
        "mean_shift": site.mean_shift,
        "std_ratio": site.std_ratio,
        **_two("excess_kurtosis", site.excess_kurtosis),
        "largest_ratio": site.largest_ratio,
        "log_norm_shift": site.log_norm_shift,
        "dims": [asdict(dims) for dims in site.dims],
        "weight": None
        if weight is None
        else {
            "shape": weight.shape,
            "relative_change": weight.relative_change,
            "known": weight.known,
            "standard_error": weight.standard_error,
            "exact": weight.exact,
            "frobenius_ratio": weight.frobenius_ratio,
            "frobenius_folded_ratio": weight.frobenius_folded_ratio,
            "spectral_ratio": weight.spectral_ratio,
            **_two("weibull_k", weight.weibull_k),
        },
    }


def _two(name: str, values: tuple[Any, Any] | tuple[Any, ...]) -> dict[str, Any]:
    return {f"{name}_a": values[0], f"{name}_b": values[1]}
