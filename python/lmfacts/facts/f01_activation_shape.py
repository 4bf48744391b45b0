"""F1: the values of the residual stream are nearly Gaussian, with outliers."""

from __future__ import annotations

import math
from dataclasses import astuple, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.distribution_shape import NULL_TABLE, mad_scale
from lmfacts.facts.definition import Definition, Objection
from lmfacts.facts.dim_laws import DimLaws
from lmfacts.facts.fact import Evidence, Measure, Table, Verdict
from lmfacts.facts.intervals import too_few_data
from lmfacts.facts.pool_shape import LEAST_VALUES, Standing, pool_shape
from lmfacts.families import TIE, fit_families, tied_families
from lmfacts.formats import number, percent, share
from lmfacts.sites import detail_sites

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmfacts.distribution import Distribution
    from lmfacts.facts.fact import Fact
    from lmfacts.facts.inputs import Inputs
    from lmfacts.facts.pool_shape import PoolShape
    from lmfacts.families import FamilyFit
    from lmfacts.run import Run

__all__ = ["DEFINITION"]

_MOSTLY: Final = 0.8
_HARDLY: Final = 0.2
_SAME_SCALE: Final = 0.1
_SAME_MEAN: Final = 0.3
_OFF_CENTER: Final = 0.1
_MOST_DIMS_NAMED: Final = 12

_Q_Q: Final = (1e-4, 1e-3, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 0.9999)

_VERDICTS: Final = {
    Standing.HOLDS: Verdict.HOLDS,
    Standing.BODY: Verdict.BODY_ONLY,
    Standing.FAILS: Verdict.FAILS,
}
_STANDING_WORDS: Final = {Standing.HOLDS: "holds", Standing.BODY: "body only", Standing.FAILS: "fails"}


def _check(inputs: Inputs) -> Fact:
    run = inputs.activations
    assert run is not None
    names = run.layers_of("resid_post")
    wanted = detail_sites(inputs.n_layers or max(names, default=-1) + 1)
    depths = {layer: name for layer, name in names.items() if name in wanted}
    if not depths:
        return DEFINITION.not_applicable(
            "The run has no resid_post sites at the five depths that are looked at.",
            f"lmfacts scan {inputs.model_argument} --sites default",
        )
    too_few = too_few_data(run)
    if too_few:
        return DEFINITION.fact(Verdict.INCONCLUSIVE, too_few)
    if not any(run[name].state.detail for name in depths.values()):
        if not any(run[name].rest.n for name in depths.values()):
            return DEFINITION.fact(Verdict.INCONCLUSIVE, "The residual stream has no finite values past position 0.")
        return DEFINITION.not_applicable(
            "The run does not count the dims of the residual stream apart, so its outlier dims cannot be set aside: it "
            "was recorded by an earlier version.",
            f"lmfacts scan {inputs.model_argument} --sites resid",
        )
    shapes = [shape for layer, name in depths.items() if (shape := _shape(run, layer, name)) is not None]
    return _judge(run, shapes, max(names) + 1, len(wanted))


def _shape(run: Run, layer: int, name: str) -> PoolShape | None:
    site = run[name]
    return pool_shape(site.rest, layer) if site.state.detail else None


def _judge(run: Run, shapes: list[PoolShape], n_layers: int, n_depths: int) -> Fact:
    """The verdict; depths that were not recorded could be anything."""
    n_absent = n_depths - len(shapes)
    lowest = _majority([shape.lowest for shape in shapes] + [Standing.FAILS] * n_absent)
    highest = _majority([shape.highest for shape in shapes] + [Standing.HOLDS] * n_absent)
    verdict = _VERDICTS[lowest] if lowest == highest else Verdict.INCONCLUSIVE
    alike = [shape for shape in shapes if (shape.lowest, shape.highest) == (lowest, highest)]
    if verdict is Verdict.INCONCLUSIVE:
        alike = [shape for shape in shapes if shape.open_criteria]
    shown = min(alike or shapes, key=lambda shape: abs(shape.layer - (n_layers - 1) / 2))
    fits = fit_families(shown.clean_pool)
    cause = _cause(shown)
    summary = _summary(verdict, shapes, shown, fits, n_depths)
    evidence = _evidence(run, shapes, shown, fits, cause)
    if n_absent:
        note = f"{len(shapes)} of the {n_depths} depths were recorded; the others count as open."
        evidence = replace(evidence, notes=(*evidence.notes, note))
    return DEFINITION.fact(verdict, summary, evidence)


def _majority(standings: Sequence[Standing]) -> Standing:
    """The most that more than half of the sites reach."""
    return sorted(standings, reverse=True)[len(standings) // 2]


# The summary


def _summary(
    verdict: Verdict, shapes: list[PoolShape], shown: PoolShape, fits: Sequence[FamilyFit], n_depths: int
) -> str:
    ks, k = shown.body
    tail, beta = shown.tails
    body = f"layer {shown.layer}: KS {ks.value:.4f}, k {k.value:.3f}"
    tails = f"tail exponent {tail.value:.2f}, beta {beta.value:.2f}"
    if verdict is Verdict.HOLDS:
        n = sum(shape.lowest is Standing.HOLDS for shape in shapes)
        return f"Gaussian but for outliers at {n} of {len(shapes)} depths ({body}, {tails}; {_outliers(shown)})."
    if verdict is Verdict.BODY_ONLY:
        n = sum(shape.lowest >= Standing.BODY for shape in shapes)
        missing = []
        if not all(one.passed for one in shown.tails):
            missing.append(f"tails that are not ({tails})")
        if not shown.has_outliers:
            missing.append("no outliers")
        return f"A Gaussian body at {n} of {len(shapes)} depths ({body}), but {' and '.join(missing)}."
    if verdict is Verdict.FAILS:
        n = sum(shape.highest is Standing.FAILS for shape in shapes)
        best = _best_family(fits)
        return f"No Gaussian body at {n} of {len(shapes)} depths ({body}){best}."
    if all(shape.too_few for shape in shapes):
        most = max(shape.clean_pool.n for shape in shapes)
        return f"{most:,} values at a site; at least {LEAST_VALUES:,} are needed."
    doubts = ", ".join(
        f"layer {shape.layer} ({', '.join(shape.open_criteria)})" for shape in shapes if shape.open_criteria
    )
    if not doubts:
        of = "depth was" if n_depths == 1 else "depths were"
        return f"{len(shapes)} of {n_depths} {of} recorded, and the others could change the verdict ({body}, {tails})."
    return f"The verdict hangs on numbers that are open, their intervals spanning a threshold: {doubts}."


def _outliers(shape: PoolShape) -> str:
    n = shape.outlier_dims.size
    dims = "no outlier dims" if not n else "1 outlier dim" if n == 1 else f"{n} outlier dims"
    return f"{dims}, {share(shape.full.beyond_6)} of the values beyond 6 sd"


def _best_family(fits: Sequence[FamilyFit]) -> str:
    """What fits better than a Gaussian, to go on a sentence."""
    gaussian = next((fit for fit in fits if fit.name == "Gaussian"), None)
    if gaussian is None or gaussian.tied:
        return ""
    best, *others = tied_families(fits)
    ties = f", tied with {' and '.join(fit.name for fit in others)}" if others else ""
    return f"; best family: {best.name} ({gaussian.gap - best.gap:.3f} nats per value ahead{ties})"


# The cause


def _cause(shape: PoolShape) -> str | None:
    """What makes the clean pool depart from a Gaussian: the dims themselves, or that they differ; None if it is one."""
    if shape.has_body and all(one.passed for one in shape.tails):
        return None
    dims = shape.dims
    if math.isnan(dims.near_gaussian):
        return None
    alone = (
        f"{percent(dims.near_gaussian)} of the dims have an excess kurtosis within +-0.5, median {dims.kurtosis:.2f}"
    )
    where = f"Layer {shape.layer}: "
    if dims.near_gaussian >= _MOSTLY:
        differ = []
        if dims.scale_spread > _SAME_SCALE:
            differ.append(f"in scale (ln std varies by {dims.scale_spread:.2f})")
        if dims.mean_spread > _SAME_MEAN:
            differ.append(f"in mean (by {dims.mean_spread:.2f} of a standard deviation)")
        if differ:
            return (
                f"{where}the dims are near Gaussian one at a time ({alone}) but differ {' and '.join(differ)}: the "
                "pool departs because it is a mixture of them."
            )
        return f"{where}the dims are near Gaussian one at a time by their kurtosis ({alone}), and differ little."
    if dims.near_gaussian <= _HARDLY:
        kind = "heavy-tailed" if dims.kurtosis > 0 else "light-tailed"
        return f"{where}the dims themselves are {kind} ({alone}): no difference between them is needed to explain it."
    return (
        f"{where}both at once: {alone}, and the dims differ in scale (ln std varies by {dims.scale_spread:.2f}) and in "
        f"mean (by {dims.mean_spread:.2f} of a standard deviation)."
    )


# The evidence


def _evidence(
    run: Run, shapes: list[PoolShape], shown: PoolShape, fits: Sequence[FamilyFit], cause: str | None
) -> Evidence:
    here = f"layer {shown.layer}"
    site = run[f"blocks.{shown.layer}.resid_post"].rest
    histograms = site.dim_histograms
    measures = [
        Measure(
            f"{one.rule.name}, {'full' if one is shown.beyond_6 else 'clean'} pool",
            one.value,
            one.rule.threshold,
            one.passed,
            one.interval,
            here,
        )
        for one in shown.criteria
    ]
    measures += [
        Measure("outlier dims", float(shown.outlier_dims.size), note=_named(shown)),
        Measure("median excess kurtosis of a dim", shown.dims.kurtosis, note=here),
        Measure("share of dims with excess kurtosis within +-0.5", shown.dims.near_gaussian, note=here),
        Measure("spread of ln std over dims", shown.dims.scale_spread, note=here),
    ]
    if histograms is not None:
        laws = DimLaws.of(histograms, site.dims, shown.outlier_dims)
        measures.append(
            Measure(
                "share of dims likelier Gaussian than logistic",
                laws.gaussian_share,
                note=f"{here}, {laws.n_dims} dims"
                + (f"; the Gaussian leads by {laws.median_gap:.4f} nats in the median dim" if laws.n_dims else ""),
            )
        )
    notes = [cause] if cause else []
    if cause:
        notes.append(
            "No statistic of the pool tells heavy-tailed dims from Gaussian dims of different scale: a logistic law "
            "and a mild mixture have the same numbers. Only the dims one at a time do."
        )
    if len(fits) > 1 and (tied := tied_families(fits))[1:]:
        names = ", ".join(fit.name for fit in tied)
        notes.append(f"Within {TIE:g} nats per value these fit the clean pool of {here} equally well: {names}.")
    if shown.median_offset > _OFF_CENTER:
        notes.append(
            f"The median of the clean pool lies {number(shown.median_offset)} of its scale from 0; k and the tail "
            "exponent are of |x| about 0."
        )
    tables = [_by_depth(shapes), _by_law(shown), _families(fits, here), _q_q(shown.clean_pool, here)]
    return Evidence(tuple(measures), tuple(table for table in tables if table.rows), tuple(notes))


def _named(shape: PoolShape) -> str:
    dims = shape.outlier_dims.tolist()
    more = f" and {len(dims) - _MOST_DIMS_NAMED} more" if len(dims) > _MOST_DIMS_NAMED else ""
    names = ", ".join(map(str, dims[:_MOST_DIMS_NAMED])) + more
    return f"layer {shape.layer}" + (f"; dims {names}" if names else "")


def _by_depth(shapes: Sequence[PoolShape]) -> Table:
    rows = tuple(
        (
            shape.layer,
            _STANDING_WORDS[shape.lowest] if shape.lowest == shape.highest else "open",
            *(one.value for one in shape.criteria),
            int(shape.outlier_dims.size),
            shape.dims.kurtosis,
            shape.dims.near_gaussian,
            shape.dims.scale_spread,
            ", ".join(shape.open_criteria) or None,
        )
        for shape in shapes
    )
    return Table(
        "By depth (resid_post, tokens past position 0)",
        (
            "layer",
            "claim",
            "KS",
            "Weibull k",
            "tail exponent",
            "beta",
            "full f(|z|>6)",
            "outlier dims",
            "median kurtosis of a dim",
            "dims within +-0.5",
            "spread of ln std",
            "open",
        ),
        rows,
        note="KS, k, tail exponent, beta and what is said of single dims leave the outlier dims out.",
    )


def _by_law(shape: PoolShape) -> Table:
    pools = {f"layer {shape.layer}, clean pool": shape.clean, f"layer {shape.layer}, full pool": shape.full}
    return Table(
        "The pool beside known laws",
        (
            "pool or law",
            "ex. kurtosis",
            "Weibull k",
            "f(|z|>3)",
            "f(|z|>6)",
            "q99.9/q50",
            "q99.99/q50",
            "std/(MAD/.6745)",
            "tail exponent",
            "KS to N(mean,std)",
            "KS to N(median,MAD)",
        ),
        tuple((name, *astuple(row)) for name, row in {**pools, **NULL_TABLE}.items()),
        note="The laws are samples of 2,000,000 values each; quantiles are of |x|. The clean pool leaves out the "
        "outlier dims.",
    )


def _families(fits: Sequence[FamilyFit], here: str) -> Table:
    return Table(
        f"Families fitted to the clean pool, {here}",
        ("family", "nats per value", "behind the best", "tied", "parameters"),
        tuple(
            (
                fit.name,
                fit.nats_per_value,
                fit.gap,
                fit.tied,
                ", ".join(f"{name} {number(value)}" for name, value in fit.parameters.items()),
            )
            for fit in fits
        ),
        note=f"Maximum likelihood; families within {TIE:g} nats per value of the best are tied with it.",
    )


def _q_q(pool: Distribution, here: str) -> Table:
    """Quantiles of the pool, centered by its median and scaled by its MAD, beside those of a Gaussian."""
    from scipy.special import ndtri  # noqa: PLC0415  slow to load

    scale = mad_scale(pool)
    if not scale > 0:
        return Table("", (), ())
    cells = pool.cells
    standardized = (np.interp(_Q_Q, cells.cumulative / cells.n, cells.edges) - cells.median()) / scale
    return Table(
        f"Quantiles of the clean pool in units of its MAD's scale, {here}",
        ("p", "pool", "Gaussian"),
        tuple(zip(_Q_Q, standardized.tolist(), ndtri(_Q_Q).tolist(), strict=True)),
    )


_BF1: Final = (
    "Basic Facts about Language Model Internals, 4 January 2023, LessWrong PDLfpRwSynu73mxGw, section "
    "Activations Are Nearly Gaussian With Outliers"
)

DEFINITION: Final = Definition(
    id="F1",
    title="Activations near-Gaussian, with outliers",
    claim="The values of the residual stream, all dims and tokens pooled, are nearly Gaussian but for a few outliers.",
    source=_BF1,
    needs=("activations",),
    measured=(
        "The output of the block (resid_post) at five depths from the first block to the last, tokens past position "
        "0. The clean pool leaves out the outlier dims (RMS above 5 times the median of the dims, as in F2); the full "
        "pool has all. Statistics come from exact histograms of 16-bit codes, intervals from leaving out one of 8 "
        "blocks of sequences at a time."
    ),
    formula=(
        "KS = sup |F(x) - Phi((x - median) / (MAD / 0.6745))|",
        "k = Weibull shape of |x|: slope of ln(-ln(1 - F)) on ln |x| for 0.1 <= F <= 0.9 (Gaussian 1.205)",
        "tail exponent = slope of ln(-ln S(a)) on ln a for S from 1e-1 to 1e-4 (Gaussian 1.62)",
        "beta = exponent of the likeliest generalized normal exp(-(|x - mu| / alpha)^beta) (Gaussian 2)",
        "f(|z| > 6) = share of values more than 6 standard deviations from the mean",
    ),
    thresholds=(
        "body: KS <= 0.010 and |k - 1.205| <= 0.02, clean pool",
        "Gaussian: also tail exponent >= 1.45 and beta from 1.8 to 2.2, clean pool",
        "outliers: f(|z| > 6) >= 1e-5 in the full pool, or an outlier dim",
        "At a site: HOLDS = Gaussian with outliers; BODY-ONLY = body, but tails or outliers missing; FAILS = no body",
        "Of the model: the most that more than half of the five sites reach, HOLDS above BODY-ONLY above FAILS (ours)",
        (
            "INCONCLUSIVE where an interval that spans a threshold or a depth that was not recorded could change that, "
            "below 100,000 values a site (ours), or with fewer than 8 sequences or 128 tokens (ours)"
        ),
        (
            "The cause of a departure (ours): the dims differ if at least 80 % of them have an excess kurtosis within "
            "+-0.5, they are heavy-tailed themselves if at most 20 % have, else both"
        ),
    ),
    check=_check,
    objections=(
        Objection("Fabien Roger", "An exponential decay fits better than a Gaussian, even without the outliers."),
        Objection(
            "ryan_greenblatt",
            "The tails lie between those of a Gaussian and of an exponential, nearer the latter: a logistic law fits "
            "better. Random directions are more Gaussian than dims are.",
        ),
        Objection("Christopher Olah", "A straight line on a plot of the log density is an exponential tail."),
        Objection("GuySrinivasan", "A bulk with outliers is often a mixture of Gaussians of different scale or place."),
        Objection("StellaAthena", "LLM.int8() finds that a model cannot do without its outliers."),
        Objection(
            "Matt Levinson, Beyond Gaussian, 2024",
            "After the residual stream's addition, values follow mixtures dominated by a logistic law, with small "
            "modes on both sides.",
        ),
    ),
)
