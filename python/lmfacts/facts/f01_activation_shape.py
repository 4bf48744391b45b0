"""F1: the values of the residual stream are nearly Gaussian, with outliers."""

from __future__ import annotations

import functools
import math
from dataclasses import astuple, dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.analysis.dim_laws import DimLaws
from lmfacts.charts import Chart, Figure, Key
from lmfacts.charts.colors import depth_color
from lmfacts.charts.densities import LOG_RANGE, Body, add_linear, add_log, share_text
from lmfacts.facts import requires
from lmfacts.facts.definition import Definition, Objection
from lmfacts.facts.fact import Evidence, Measure, Table, Verdict
from lmfacts.facts.pool_shape import LEAST_VALUES, PoolShape, PoolStatistics, Standing
from lmfacts.facts.strictness import Strictness, judged
from lmfacts.quantities.outlier_criteria import rms_outlier_dims
from lmfacts.run.statistics.block_codes import BlockCodeArrays
from lmfacts.sites import detail_sites
from lmfacts.stats.laws import TIE, fit_families, tied_families
from lmfacts.stats.shape import NULL_TABLE, mad_scale
from lmfacts.writing import numbers
from lmfacts.writing.numbers import number, percent, share

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmfacts.facts.fact import Fact
    from lmfacts.facts.inputs import Inputs
    from lmfacts.facts.runs_view import RunsView
    from lmfacts.run import Run
    from lmfacts.run.site import SiteRecord
    from lmfacts.stats.distribution import Distribution
    from lmfacts.stats.laws import FamilyFit

__all__ = ["DEFINITION"]

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
    run = requires.activations(inputs)
    names = run.layers_of("resid_post")
    wanted = detail_sites(inputs.n_layers or max(names, default=-1) + 1)
    depths = {layer: name for layer, name in names.items() if name in wanted}
    if not depths:
        raise requires.NotApplicable(
            "The run has no resid_post sites at the five depths that are looked at.",
            requires.DEFAULT_SITES.format(model=inputs.model_argument),
        )
    requires.enough_text(run)
    if not any(run[name].state.has(BlockCodeArrays) for name in depths.values()):
        if not any(run[name].rest.n for name in depths.values()):
            raise requires.Inconclusive("The residual stream has no finite values past position 0.")
        raise requires.NotApplicable(
            "The run does not count the dims of the residual stream separately, so its outlier dims cannot be set "
            "aside: it was recorded by an earlier version.",
            requires.RESIDUAL_SITES.format(model=inputs.model_argument),
        )
    in_blocks = {layer: run[name] for layer, name in depths.items() if run[name].state.has(BlockCodeArrays)}
    measured = [PoolStatistics.of(site.rest, layer) for layer, site in in_blocks.items()]
    judge = functools.partial(_judge, run, measured, max(names) + 1, len(wanted))
    return judged(judge, has_interval=True)


def _judge(run: Run, measured: Sequence[PoolStatistics], n_layers: int, n_depths: int, strictness: Strictness) -> Fact:
    """The verdict; depths that were not recorded could be anything."""
    shapes = [PoolShape.of(one, strictness) for one in measured]
    n_absent = n_depths - len(shapes)
    lowest = _majority([shape.lowest for shape in shapes] + [Standing.FAILS] * n_absent)
    highest = _majority([shape.highest for shape in shapes] + [Standing.HOLDS] * n_absent)
    verdict = _VERDICTS[lowest] if lowest == highest else Verdict.INCONCLUSIVE
    if strictness is not Strictness.STATED:
        return DEFINITION.fact(verdict, "")  # nothing else is asked of moved thresholds, and the fits take long
    alike = [shape for shape in shapes if (shape.lowest, shape.highest) == (lowest, highest)]
    if verdict is Verdict.INCONCLUSIVE:
        alike = [shape for shape in shapes if shape.open_criteria]
    shown = min(alike or shapes, key=lambda shape: abs(shape.layer - (n_layers - 1) / 2))
    fits = fit_families(shown.measured.clean_pool)
    summary = _summary(verdict, shapes, shown, fits, n_depths)
    evidence = _evidence(run, shapes, shown, fits)
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
        if any(one.passed is False for one in shown.tails):
            missing.append(f"tails that are not ({tails})")
        if shown.has_outliers is False:
            missing.append("no outliers")
        return f"A Gaussian body at {n} of {len(shapes)} depths ({body}), but {' and '.join(missing)}."
    if verdict is Verdict.FAILS:
        n = sum(shape.highest is Standing.FAILS for shape in shapes)
        best = _best_family(fits)
        return f"No Gaussian body at {n} of {len(shapes)} depths ({body}){best}."
    if all(shape.measured.too_few for shape in shapes):
        most = max(shape.measured.clean_pool.n for shape in shapes)
        return f"{most:,} values at a site; at least {LEAST_VALUES:,} are needed."
    doubts = ", ".join(
        f"layer {shape.layer} ({', '.join(shape.open_criteria)})" for shape in shapes if shape.open_criteria
    )
    if not doubts:
        of = "depth was" if n_depths == 1 else "depths were"
        return f"{len(shapes)} of {n_depths} {of} recorded, and the others could change the verdict ({body}, {tails})."
    return f"The verdict depends on numbers that are too close to their thresholds to decide: {doubts}."


def _outliers(shape: PoolShape) -> str:
    n = shape.measured.outlier_dims.size
    dims = "no outlier dims" if not n else "1 outlier dim" if n == 1 else f"{n} outlier dims"
    return f"{dims}, {share(shape.beyond_6.value)} of the values beyond 6 sd"


def _best_family(fits: Sequence[FamilyFit]) -> str:
    """What fits better than a Gaussian, to go on a sentence."""
    gaussian = next((fit for fit in fits if fit.name == "Gaussian"), None)
    if gaussian is None or gaussian.tied:
        return ""
    best, *others = tied_families(fits)
    ties = f", tied with {' and '.join(fit.name for fit in others)}" if others else ""
    return f"; best family: {best.name} ({gaussian.gap - best.gap:.3f} nats per value ahead{ties})"


# The evidence


def _evidence(run: Run, shapes: list[PoolShape], shown: PoolShape, fits: Sequence[FamilyFit]) -> Evidence:
    here = f"layer {shown.layer}"
    measured = shown.measured
    notes = _causes(shown)
    if len(fits) > 1 and (tied := tied_families(fits))[1:]:
        names = ", ".join(fit.name for fit in tied)
        notes.append(f"Within {TIE:g} nats per value these fit the clean pool of {here} equally well: {names}.")
    if measured.median_offset > _OFF_CENTER:
        notes.append(
            f"The median of the clean pool lies {number(measured.median_offset)} of its scale from 0; k and the tail "
            "exponent are of |x| about 0."
        )
    tables = [_by_depth(shapes), _by_law(measured), _families(fits, here), _q_q(measured.clean_pool, here)]
    return Evidence(_measures(run, shown), tuple(table for table in tables if table.rows), tuple(notes))


def _causes(shape: PoolShape) -> list[str]:
    """What makes the clean pool depart from a Gaussian; nothing if it is one."""
    dims = shape.measured.dims
    if (shape.has_body and all(one.passed for one in shape.tails)) or math.isnan(dims.near_gaussian):
        return []
    return [
        f"Layer {shape.layer}: {dims.in_words()}.",
        (
            "No statistic of the pool tells heavy-tailed dims from Gaussian dims of different scale: a logistic law "
            "and a mild mixture have the same numbers. Only the dims one at a time do. Nor do these tell heavy-tailed "
            "dims from Gaussian tokens of different scale: the norms do, where these dims make up most of them. Norms "
            "vary, too, where many dims share a few heavy-tailed directions, and do not tell these from scales of "
            "whole tokens."
        ),
    ]


def _measures(run: Run, shown: PoolShape) -> tuple[Measure, ...]:
    here = f"layer {shown.layer}"
    site = run[f"blocks.{shown.layer}.resid_post"].rest
    outlier_dims, dims = shown.measured.outlier_dims, shown.measured.dims
    measures = [
        Measure(
            f"{one.rule.name}, {'full' if one is shown.beyond_6 else 'clean'} pool",
            one.value,
            one.rule.words(),
            one.passed,
            one.interval,
            here,
        )
        for one in shown.criteria
    ]
    measures += [
        Measure("outlier dims", float(outlier_dims.size), note=_named(shown)),
        replace(shown.measured.largest, note=f"{here}; above 5 it is an outlier dim"),
        Measure("median excess kurtosis of a dim", dims.kurtosis, note=here),
        Measure("share of dims with excess kurtosis within +-0.5", dims.near_gaussian, note=here),
        Measure("spread of ln std over dims", dims.scale_spread, note=here),
        Measure("spread of the means of dims, in standard deviations", dims.mean_spread, note=here),
        Measure("spread of ln norm over tokens", dims.tokens.spread, note=here),
        Measure(
            "excess kurtosis that these norms give a Gaussian dim",
            dims.tokens.kurtosis,
            note=f"{here}; {percent(dims.tokens.share_of_norm)} of the squared norm is the variance of the dims of the "
            "clean pool, and at least half has to be",
        ),
    ]
    if (histograms := site.dim_histograms) is not None:
        laws = DimLaws.of(histograms, site.dims, outlier_dims)
        measures.append(
            Measure(
                "share of dims likelier Gaussian than logistic",
                laws.gaussian_share,
                note=f"{here}, {laws.n_dims} dims"
                + (f"; the Gaussian leads by {laws.median_gap:.4f} nats in the median dim" if laws.n_dims else ""),
            )
        )
    return tuple(measures)


def _named(shape: PoolShape) -> str:
    dims = shape.measured.outlier_dims.tolist()
    more = f" and {len(dims) - _MOST_DIMS_NAMED} more" if len(dims) > _MOST_DIMS_NAMED else ""
    names = ", ".join(map(str, dims[:_MOST_DIMS_NAMED])) + more
    return f"layer {shape.layer}" + (f"; dims {names}" if names else "")


def _by_depth(shapes: Sequence[PoolShape]) -> Table:
    rows = tuple(
        (
            shape.layer,
            _STANDING_WORDS[shape.lowest] if shape.lowest == shape.highest else "open",
            *(one.value for one in shape.criteria),
            int(shape.measured.outlier_dims.size),
            shape.measured.dims.kurtosis,
            shape.measured.dims.near_gaussian,
            shape.measured.dims.scale_spread,
            shape.measured.dims.tokens.kurtosis,
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
            "kurtosis by norms",
            "open",
        ),
        rows,
        note="KS, k, tail exponent, beta and what is said of single dims leave the outlier dims out. Kurtosis by "
        "norms: the excess kurtosis that a Gaussian dim gets because tokens differ in norm.",
    )


def _by_law(measured: PoolStatistics) -> Table:
    here = f"layer {measured.layer}"
    pools = {f"{here}, clean pool": measured.clean, f"{here}, full pool": measured.full}
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


# The figures

_GAUSSIAN: Final = Key("Gaussian with the same median and MAD", "ink", "dashed")
_QQ_LIMIT: Final = 10.0
_QQ_END: Final = 3.72  # where shares of 1e-4 lie
_RARE: Final = 3.09  # and of 0.999
_BANDS: Final = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass(frozen=True, eq=False)
class _Pool:
    """The values of one site.

    Attributes:
        layer: its layer.
        site: the record, over the main population.
        values: the values without those of outlier dims, or all of them where dims were not counted separately.
        everything: all values in units of the same body, where `values` leaves some out.
        fit: the simplest of the families that fit `values` best.
    """

    layer: int
    site: SiteRecord
    values: Body
    everything: Body | None
    fit: FamilyFit | None

    @classmethod
    def of(cls, layer: int, site: SiteRecord) -> _Pool | None:
        dims = rms_outlier_dims(site).tolist() if site.dim_histograms is not None else []
        clean = site.distribution_without(dims) if dims else site.distribution
        values = Body.of(clean)
        if values is None:
            return None
        tied = tied_families(fit_families(clean))
        everything = values.in_its_unit(site.distribution) if dims else None
        return cls(layer, site, values, everything, tied[0] if tied else None)


def _figures(view: RunsView) -> list[Figure]:
    """The distribution at the middle of the model, at other depths, and dim by dim."""
    by_depth = [_Pool.of(layer, view.residual[layer]) for layer in view.depths]
    pools = [pool for pool in by_depth if pool is not None]
    if not pools:
        return []
    middle = pools[(len(pools) - 1) // 2]
    drawn = [_at_one_depth(view, middle, pools)]
    if len(pools) > 1:
        drawn.append(_at_other_depths([pool for pool in pools if pool is not middle]))
    dims = _dims(view)
    return [*drawn, dims] if dims is not None else drawn


def _at_one_depth(view: RunsView, pool: _Pool, pools: list[_Pool]) -> Figure:
    site, values, fit = pool.site, pool.values, pool.fit
    name = "no family" if fit is None else fit.name
    linear_chart = Chart("f1-linear", f"Layer {pool.layer}, linear", x="std of the body from the median", y="density")
    add_linear(linear_chart, values, fit)
    first = linear_chart.described(
        f"Histogram of {site.name} with linear counts, a Gaussian of the same body and the best family, {name}."
    )
    log_chart = Chart("f1-log", f"Layer {pool.layer}, logarithmic", x="std of the body from the median", y="density")
    add_log(log_chart, values, fit, pool.everything)
    whole = pool.everything or values
    second = log_chart.described(
        f"The same histogram with logarithmic counts: {share_text(whole.beyond(LOG_RANGE))} of all values lie "
        f"beyond {LOG_RANGE:.0f} standard deviations of the body, the farthest at "
        f"{numbers.number(whole.farthest())}."
    )
    keys = [*_keys(pools, f"best family: {name}" if fit is not None else None)]
    keys += [Key(f"Q\N{EN DASH}Q, layer {each.layer}", depth_color(i, len(pools))) for i, each in enumerate(pools)]
    left_out = ", position 0 left out" if view.population == "rest" else ""
    return Figure(
        f"The values of {site.name}{left_out}",
        "The first panel is the picture of the founding post: with linear counts, most distributions that have one "
        "hump look Gaussian. The second has the same counts on a logarithmic axis, where a Gaussian is a parabola and "
        "straight flanks are an exponential tail. In the third a Gaussian lies on the dashed diagonal; lines that "
        "leave it, upward on the right and downward on the left, have heavier tails.",
        (first, second, _quantiles(pools)),
        tuple(keys),
    )


def _keys(pools: list[_Pool], family: str | None) -> list[Key]:
    apart = any(pool.everything is not None for pool in pools)
    keys = [Key("values without outlier dims" if apart else "values", "fill", "area")]
    if apart:
        keys.append(Key("with outlier dims", "blue"))
    keys.append(_GAUSSIAN)
    if family is not None:
        keys.append(Key(family, "orange"))
    return keys


def _quantiles(pools: list[_Pool]) -> Chart:
    from scipy.special import ndtr  # noqa: PLC0415  slow to load

    t = np.linspace(-_QQ_END, _QQ_END, 121)
    chart = Chart("f1-qq", "Q\N{EN DASH}Q by depth", x="quantile of a Gaussian", y="quantile of the values")
    chart.limits_x(-_QQ_END, _QQ_END)
    chart.limits_y(-_QQ_LIMIT, _QQ_LIMIT)
    chart.line([-_QQ_END, _QQ_END], [-_QQ_END, _QQ_END], "ink", style="dashed", width=1.3, above=2)
    for i, pool in enumerate(pools):
        y = pool.values.quantiles(ndtr(t))
        chart.line(t, np.where(np.abs(y) <= _QQ_LIMIT, y, np.nan), depth_color(i, len(pools)))
    rare = {pool.layer: float(pool.values.quantiles(ndtr(np.array([_RARE])))[0]) for pool in pools}
    ends = ", ".join(f"{numbers.number(value)} at layer {layer}" for layer, value in rare.items())
    return chart.described(
        f"Quantiles against a Gaussian's. Where a Gaussian's 99.9 % quantile is {_RARE}, it is {ends}."
    )


def _at_other_depths(pools: list[_Pool]) -> Figure:
    drawings = []
    for pool in pools:
        best = "" if pool.fit is None else f": {pool.fit.name}"
        title = f"Layer {pool.layer}{best}"
        log_chart = Chart(f"f1-log-{pool.layer}", title, x="std of the body from the median", y="density")
        add_log(log_chart, pool.values, pool.fit, pool.everything)
        drawings.append(
            log_chart.described(
                f"Histogram of {pool.site.name} with logarithmic counts, "
                f"{share_text((pool.everything or pool.values).beyond(LOG_RANGE))} of all values beyond "
                f"{LOG_RANGE:.0f} standard deviations{best and f'; best family{best}'}."
            )
        )
    return Figure(
        "The same at other depths, logarithmic",
        "The title of each panel names the family of laws that fits best by likelihood; of those that are equally "
        "good, the one with the fewest parameters.",
        tuple(drawings),
        tuple(_keys(pools, "best family")),
    )


def _dims(view: RunsView) -> Figure | None:
    """Excess kurtosis of single dims against that of all values, by layer."""
    layers, bands, pooled = [], [], []
    for layer, site in view.residual.items():
        kurtosis = site.dims.excess_kurtosis
        kurtosis = kurtosis[np.isfinite(kurtosis)]
        if kurtosis.size:
            layers.append(layer)
            bands.append(np.quantile(kurtosis, _BANDS))
            pooled.append(float(site.dims.moments.pool().excess_kurtosis))
    if not layers:
        return None
    low, lower, median, upper, high = np.array(bands).T
    chart = Chart("f1-dims", "Excess kurtosis: all values, and single dims", x="layer", y="Gaussian: 0")
    chart.area(layers, low, high, "heat-1")
    chart.area(layers, lower, upper, "fill")
    chart.line(layers, median, "blue")
    chart.line(layers, pooled, "orange")
    chart.rule(y=0.0, color="ink")
    chart.symmetric_log(float(low.min()), float(max(np.nanmax(pooled), high.max())))
    chart.limits_x(layers[0] - 0.5, layers[-1] + 0.5)
    chart.whole_numbers()
    drawing = chart.described(
        f"Excess kurtosis by layer. The median dim's goes from {numbers.number(float(median[0]))} to "
        f"{numbers.number(float(median[-1]))}, that of all values from {numbers.number(pooled[0])} to "
        f"{numbers.number(pooled[-1])}."
    )
    return Figure(
        "Where the tails come from",
        "Values of many dims that are each Gaussian, but of different scale, have heavy tails when they are thrown "
        "together. Where the median dim is near 0 and all values together are far above it, that is the cause. Where "
        "single dims are far above 0 too, either they are not Gaussian themselves or tokens differ in scale: Gaussian "
        "tokens of varying norm have heavy tails dim by dim. The notes of F1 say which. Between \N{MINUS SIGN}1 and 1 "
        "the axis is linear, beyond it is logarithmic.",
        (drawing,),
        (
            Key("all values together", "orange"),
            Key("median dim", "blue"),
            Key("half of the dims", "fill", "area"),
            Key("90 % of the dims", "heat-1", "area"),
        ),
    )


# The catalogue's entry

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
        (
            "c = (Var(|x|^2) / (E |x|^2)^2 - sum_j Var(x_j^2) / (sum_j E x_j^2)^2) / v^2, v = sum_j Var(x_j) / sum_j "
            "E x_j^2; 3 c = excess kurtosis by the norms"
        ),
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
            "Whether there is an outlier dim is open where the interval of RMS over the median spans 5; of runs that "
            "keep none, where a factor of 4.5 or 5.5 would change it (ours)"
        ),
        (
            "10 % looser or stricter: of the distance of k, the tail exponent and beta from a Gaussian's 1.205, 1.62 "
            "and 2, and of the other thresholds themselves; which dims the clean pool leaves out stays the same (ours)"
        ),
        (
            "The causes of a departure (ours), each named only if its own number passes. Laws of dims: fewer than 80 % "
            "of the dims have an excess kurtosis within +-0.5. Differences between dims: ln std varies by at least "
            "0.10, or means by at least 0.30 standard deviations"
        ),
        (
            "Scales of tokens (ours): the dims are heavy-tailed (median excess kurtosis above 0.5), and norms that "
            "vary like these would give a Gaussian dim an excess kurtosis of 0.5, or half of the median; the laws of "
            "dims are then named too only if more than 0.5 is left without it. Norms tell only if half of their square "
            "is the variance of the dims looked at. No cause is named with fewer than 1,000 tokens"
        ),
    ),
    judge=_check,
    figures=_figures,
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
