"""One site in full.

`python -m lmfacts.render.terminal.site_page [RUN.lmfacts SITE]` prints one, without arguments that of a made-up run.
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Final

import numpy as np
from rich.console import Group
from rich.text import Text

from lmfacts.quantities.of_sites import OF_BLOCK_FORMATS
from lmfacts.quantities.outlier_criteria import rms_outlier_dims, three_sigma_outlier_dims, variance_outlier_dims
from lmfacts.quantities.site_figures import SiteFigures
from lmfacts.render.terminal.console import PROBLEM, STANDOUT, heading, paragraph, result_console, section
from lmfacts.render.terminal.distribution_section import DistributionSection
from lmfacts.render.terminal.largest_values import outlier_table, token_name
from lmfacts.render.terminal.populations import POPULATION_TITLES
from lmfacts.render.terminal.run_header import LabeledLines
from lmfacts.render.terminal.table import Column, NumberTable
from lmfacts.stats.shape import coarse_problem
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray
    from rich.console import RenderableType

    from lmfacts.quantities.quantity import Quantity
    from lmfacts.run import Run
    from lmfacts.run.site import Population, SiteRecord
    from lmfacts.run.statistics.dim_places import LargestOfDims

__all__ = ["CRITERIA", "SITE_QUANTILES", "render_site"]

_GAUSSIAN_QUANTILES: Final = {
    0.0: -math.inf,
    1e-4: -3.719016485455709,
    1e-3: -3.090232306167813,
    0.01: -2.3263478740408408,
    0.05: -1.6448536269514729,
    0.25: -0.6744897501960817,
    0.5: 0.0,
    0.75: 0.6744897501960817,
    0.95: 1.6448536269514722,
    0.99: 2.3263478740408408,
    0.999: 3.090232306167813,
    0.9999: 3.719016485455709,
    1.0: math.inf,
}

SITE_QUANTILES: Final = tuple(_GAUSSIAN_QUANTILES)
"""The quantiles of a site that are shown, here and in the JSON document."""

CRITERIA: Final[dict[str, Callable[[SiteRecord], NDArray[np.int64]]]] = {
    "RMS > 5 x median RMS": rms_outlier_dims,
    "RMS > mean + 3 std of RMS": three_sigma_outlier_dims,
    "variance > 5 x mean variance": variance_outlier_dims,
}
"""The criteria of an outlier dim that are shown."""

_SHORT_TITLES: Final[dict[Population, str]] = {
    "rest": "without position 0",
    "first": "position 0",
    "all": "all tokens",
}
_MOST_DIMS: Final = 12
_MOST_OUTLIERS: Final = 12


def render_site(site: SiteRecord, run: Run) -> RenderableType:
    """One site in full: histograms, moments, quantiles, dims, outlier dims, outliers with their tokens, norms.

    Args:
        site: the record, of any population; all of them are shown.
        run: the run it belongs to, for the texts of the tokens.
    """
    site = site.all
    populations: list[Population] = [
        population for population in ("rest", "first", "all") if site.in_population(population).n_tokens
    ]
    if not populations:
        reason = Text("No token reached this site.", style=PROBLEM)
        return Group(*_header(site, run), Text(""), paragraph(reason))
    main: Population = populations[0]
    figures = {population: SiteFigures(site.in_population(population)) for population in populations}
    parts: list[RenderableType] = [*_header(site, run)]
    if figures[main].n_values:
        parts.append(DistributionSection(figures[main], f"Distribution: {POPULATION_TITLES[main].lower()}"))
    parts += [
        section("Moments", _moments(figures), *_problem(site.in_population(main))),
        section("Quantiles", _quantile_note(site), _quantiles(figures)),
        section("Dims", _dims(site.in_population(main), main)),
        *(_outlier_dims(site.in_population(p), p, run) for p in populations[:2] if p != "all" or p == main),
        *(_outliers(site.in_population(p), p, run) for p in populations[:2] if p != "all" or p == main),
    ]
    return Group(*parts)


def _header(site: SiteRecord, run: Run) -> list[RenderableType]:
    exact = "every value counted exactly" if site.exact else "cells of at most 0.8 % for quantiles and histograms"
    tokens = f"{site.n_tokens:,} tokens x {site.n_dims:,} dims · {site.dtype or 'no dtype'}"
    if site.dtype:
        tokens += f" · {exact}"
    lines = {
        "model": str(run.model.id or "unnamed"),
        "module": site.module_path or "",
        "also": ", ".join(site.aliases),
        "values": tokens,
        "note": site.note or "",
    }
    problems: list[RenderableType] = []
    if site.n_nan or site.n_inf:
        sentence = Text(f"{site.n_nan:,} NaN and {site.n_inf:,} infinities were found here.", style=PROBLEM)
        problems = [Text(""), paragraph(sentence)]
    labeled: list[tuple[str, str | Text]] = [(name, value) for name, value in lines.items() if value]
    if not run.complete:
        labeled.append(("state", Text("this run is NOT COMPLETE", style=PROBLEM)))
    return [heading(site.name or "site"), LabeledLines(labeled), *problems]


def _decibels(quantity: Quantity, figures: SiteFigures) -> str:
    value = quantity.compute(figures)
    assert isinstance(value, float)
    return f"{numbers.number(value)} dB"


def _moments(figures: dict[Population, SiteFigures]) -> RenderableType:
    """Figures in rows, populations in columns."""
    columns = [Column("", "left"), *(Column(_SHORT_TITLES[population]) for population in figures)]
    quantities: list[tuple[str, Callable[[SiteFigures], str]]] = [
        ("tokens", lambda f: numbers.count(f.site.n_tokens)),
        ("values", lambda f: numbers.count(f.n_values)),
        ("mean", lambda f: numbers.number(f.mean, 6)),
        ("std", lambda f: numbers.number(f.std, 6)),
        ("std of the body", lambda f: numbers.number(f.body_std, 4)),
        ("skewness", lambda f: numbers.signed(f.skewness, 5)),
        ("excess kurtosis", lambda f: numbers.signed(f.excess_kurtosis, 5)),
        ("  median over the dims", lambda f: numbers.signed(f.median_dim_excess_kurtosis, 5)),
        ("share beyond 6 std", lambda f: numbers.share(f.beyond_6)),
        ("smallest", lambda f: numbers.number(f.site.min, 6)),
        ("largest", lambda f: numbers.number(f.site.max, 6)),
        ("zeros", lambda f: numbers.count(f.site.n_zero)),
        ("NaN", lambda f: numbers.count(f.site.n_nan)),
        ("infinities", lambda f: numbers.count(f.site.n_inf)),
        ("norm of a token, mean", lambda f: numbers.number(f.site.norms.mean, 4)),
        ("  std", lambda f: numbers.number(f.site.norms.std, 4)),
        ("  smallest", lambda f: numbers.number(f.site.norms.min, 4)),
        ("  median", lambda f: numbers.number(f.site.norms.quantile(0.5), 4)),
        ("  largest", lambda f: numbers.number(f.site.norms.max, 4)),
        *(
            (f"{quantity.key.removesuffix('_snr').upper()}, signal to noise", partial(_decibels, quantity))
            for quantity in OF_BLOCK_FORMATS
            if all(quantity.compute(f) is not None for f in figures.values())
        ),
    ]
    rows: list[list[str | Text]] = [[name, *(give(f) for f in figures.values())] for name, give in quantities]
    return NumberTable(columns, rows)


def _problem(site: SiteRecord) -> list[RenderableType]:
    """Why some figures are not given."""
    problem = None if site.exact else coarse_problem(site.distribution)
    return [] if problem is None else [Text(""), paragraph(problem)]


def _quantile_note(site: SiteRecord) -> RenderableType:
    exactness = "Exact values." if site.exact else "Middles of cells, each with the most that it can be off."
    return paragraph(f"{exactness} z is the distance from the median in stds of the body, beside that of a Gaussian.")


def _quantiles(figures: dict[Population, SiteFigures]) -> RenderableType:
    main, *others = figures.values()
    columns = [
        Column("q"),
        Column("value"),
        Column("±", "left"),
        Column("z"),
        Column("Gaussian z"),
        *(Column(_SHORT_TITLES[f.site.population], keep=50) for f in others),
    ]
    values = main.site.quantile(SITE_QUANTILES)
    low, high = main.site.quantile_bounds(SITE_QUANTILES)
    other_values = [f.site.quantile(SITE_QUANTILES) for f in others]
    rows: list[list[str | Text]] = []
    for i, q in enumerate(SITE_QUANTILES):
        off = max(float(high[i] - values[i]), float(values[i] - low[i]))
        z = (float(values[i]) - main.median) / main.body_std if main.body_std > 0 else math.nan
        rows.append(
            [
                f"{q:g}",
                numbers.number(float(values[i]), 6),
                "exact" if off <= 0 else numbers.number(off, 1),
                f"{z:+.2f}" if math.isfinite(z) else "-",
                f"{_GAUSSIAN_QUANTILES[q]:+.2f}" if math.isfinite(_GAUSSIAN_QUANTILES[q]) else "",
                *(numbers.number(float(v[i]), 6) for v in other_values),
            ]
        )
    return NumberTable(columns, rows)


def _dims(site: SiteRecord, population: Population) -> RenderableType:
    """How each statistic of a dim is spread over the dims."""
    dims = site.dims
    statistics = {
        "mean": dims.mean,
        "std": dims.std,
        "RMS": dims.rms,
        "skewness": dims.skewness,
        "excess kurtosis": dims.excess_kurtosis,
        "largest |x|": dims.absmax,
    }
    columns = [
        Column("", "left"),
        Column("smallest"),
        Column("dim"),
        Column("5 %", keep=50),
        Column("median"),
        Column("95 %", keep=50),
        Column("largest"),
        Column("dim"),
    ]
    rows: list[list[str | Text]] = []
    for name, values in statistics.items():
        finite = values[np.isfinite(values)]
        if not finite.size:
            rows.append([name, *["-"] * 7])
            continue
        low, middle, high = np.quantile(finite, [0.05, 0.5, 0.95])
        rows.append(
            [
                name,
                numbers.number(float(finite.min())),
                str(int(np.nanargmin(values))),
                numbers.number(float(low)),
                numbers.number(float(middle)),
                numbers.number(float(high)),
                numbers.number(float(finite.max())),
                str(int(np.nanargmax(values))),
            ]
        )
    tokens = {"rest": "tokens but position 0", "first": "tokens at position 0", "all": "tokens"}[population]
    return Group(
        paragraph(f"Each dim's statistics over all {tokens}, spread over the {site.n_dims:,} dims."),
        NumberTable(columns, rows),
    )


def _outlier_dims(site: SiteRecord, population: Population, run: Run) -> RenderableType:
    """The dims that each criterion names, and the widest dims one by one."""
    lines: list[tuple[str, str | Text]] = []
    for name, criterion in CRITERIA.items():
        dims = criterion(site)
        listed = ", ".join(str(dim) for dim in dims[:_MOST_DIMS])
        more = f" and {dims.size - _MOST_DIMS} more" if dims.size > _MOST_DIMS else ""
        text = f"{listed}{more}" if dims.size else "none"
        lines.append((name, Text(text, style=STANDOUT if dims.size else "")))
    return section(
        f"Outlier dims: {POPULATION_TITLES[population].lower()}", LabeledLines(lines), Text(""), _widest(site, run)
    )


def _widest(site: SiteRecord, run: Run) -> RenderableType:
    """The dims with the largest RMS."""
    dims = site.dims
    rms = dims.rms
    finite = rms[np.isfinite(rms)]
    median = float(np.median(finite)) if finite.size else math.nan
    order = np.argsort(-np.nan_to_num(rms, nan=-1.0), kind="stable")
    n_shown = min(max(3, int(rms_outlier_dims(site).size)), _MOST_DIMS, finite.size)
    columns = [
        Column("dim"),
        Column("RMS"),
        Column("/ median"),
        Column("mean"),
        Column("std"),
        Column("ex. kurtosis", keep=60),
        Column("smallest", keep=70),
        Column("largest", keep=70),
        Column(f"|x| >= {site.threshold:g}", keep=50),
    ]
    largest = site.largest_of_dims
    if largest is not None:
        columns += [
            Column("token", "left", group="at the largest |x|", keep=80),
            Column("sequence", group="at the largest |x|", keep=30),
            Column("position", group="at the largest |x|", keep=40),
        ]
    outliers = set(rms_outlier_dims(site).tolist())
    rows: list[list[str | Text]] = [
        [
            Text(str(dim), style=f"bold {STANDOUT}" if dim in outliers else ""),
            numbers.number(float(rms[dim])),
            f"{numbers.number(float(rms[dim]) / median)}x" if median > 0 else "-",
            numbers.signed(float(dims.mean[dim])),
            numbers.number(float(dims.std[dim])),
            numbers.signed(float(dims.excess_kurtosis[dim])),
            numbers.number(float(dims.min[dim])),
            numbers.number(float(dims.max[dim])),
            numbers.percent(float(dims.n_at_least[dim]) / max(site.n_tokens, 1)),
            *(_place_of_largest(largest, dim, run.tokens) if largest is not None else ()),
        ]
        for dim in order[:n_shown].tolist()
    ]
    return NumberTable(columns, rows)


def _place_of_largest(largest: LargestOfDims, dim: int, text: Mapping[int, str]) -> tuple[str | Text, ...]:
    """Token, sequence and position."""
    position, token_id = int(largest.position[dim]), int(largest.token_id[dim])
    if position < 0:
        return "-", "-", "-"
    return token_name(token_id, text.get(token_id), 16), str(largest.sequence[dim]), str(position)


def _outliers(site: SiteRecord, population: Population, run: Run) -> RenderableType:
    n_outliers = int(site.outliers.size)
    if not n_outliers:
        return Group()
    shown = min(n_outliers, _MOST_OUTLIERS)
    return section(
        f"Largest values: {POPULATION_TITLES[population].lower()}",
        paragraph(f"The first {shown} of {n_outliers} that were kept."),
        outlier_table(site, run.tokens, shown),
    )


if __name__ == "__main__":
    import sys

    from lmfacts.render.terminal.example_run import example_run
    from lmfacts.run import load

    shown_run, shown_site = (load(sys.argv[1]), sys.argv[2]) if sys.argv[2:] else (example_run(), "blocks.6.resid_post")
    result_console().print(render_site(shown_run[shown_site], shown_run))
