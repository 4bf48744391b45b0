"""F1: how the values of the residual stream are distributed, with linear and with logarithmic counts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.quantities.outlier_criteria import rms_outlier_dims
from lmfacts.render.page.document import Figure, Key
from lmfacts.render.page.figures.densities import LOG_RANGE, Body, linear_panel, log_panel, share_text
from lmfacts.render.page.palette import depth_color
from lmfacts.render.page.panel import panel
from lmfacts.stats.laws import fit_families, tied_families
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from lmfacts.render.page.document import Drawing
    from lmfacts.render.page.runs_view import RunsView
    from lmfacts.run.site import SiteRecord
    from lmfacts.stats.laws import FamilyFit

__all__ = ["figures"]

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


def figures(view: RunsView) -> list[Figure]:
    """The distribution at the middle of the model, at other depths, and dim by dim."""
    found = [_Pool.of(layer, view.residual[layer]) for layer in view.depths]
    pools = [pool for pool in found if pool is not None]
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
    with panel("f1-linear", f"Layer {pool.layer}, linear", x="std of the body from the median", y="density") as linear:
        linear_panel(linear, values, fit)
        first = linear.drawing(
            f"Histogram of {site.name} with linear counts, a Gaussian of the same body and the best family, {name}."
        )
    with panel("f1-log", f"Layer {pool.layer}, logarithmic", x="std of the body from the median", y="density") as log:
        log_panel(log, values, fit, pool.everything)
        whole = pool.everything or values
        second = log.drawing(
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


def _quantiles(pools: list[_Pool]) -> Drawing:
    from scipy.special import ndtr  # noqa: PLC0415  slow to load

    t = np.linspace(-_QQ_END, _QQ_END, 121)
    with panel("f1-qq", "Q\N{EN DASH}Q by depth", x="quantile of a Gaussian", y="quantile of the values") as qq:
        qq.axes.set_xlim(-_QQ_END, _QQ_END)
        qq.axes.set_ylim(-_QQ_LIMIT, _QQ_LIMIT)
        qq.line([-_QQ_END, _QQ_END], [-_QQ_END, _QQ_END], "ink", style="dashed", width=1.3, above=2)
        for i, pool in enumerate(pools):
            y = pool.values.quantiles(ndtr(t))
            qq.line(t, np.where(np.abs(y) <= _QQ_LIMIT, y, np.nan), depth_color(i, len(pools)))
        rare = {pool.layer: float(pool.values.quantiles(ndtr(np.array([_RARE])))[0]) for pool in pools}
        ends = ", ".join(f"{numbers.number(value)} at layer {layer}" for layer, value in rare.items())
        return qq.drawing(
            f"Quantiles against a Gaussian's. Where a Gaussian's 99.9 % quantile is {_RARE}, it is {ends}."
        )


def _at_other_depths(pools: list[_Pool]) -> Figure:
    drawings = []
    for pool in pools:
        best = "" if pool.fit is None else f": {pool.fit.name}"
        title = f"Layer {pool.layer}{best}"
        with panel(f"f1-log-{pool.layer}", title, x="std of the body from the median", y="density") as log:
            log_panel(log, pool.values, pool.fit, pool.everything)
            drawings.append(
                log.drawing(
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
    with panel("f1-dims", "Excess kurtosis: all values, and single dims", x="layer", y="Gaussian: 0") as p:
        p.area(layers, low, high, "heat-1")
        p.area(layers, lower, upper, "fill")
        p.line(layers, median, "blue")
        p.line(layers, pooled, "orange")
        p.rule(y=0.0, color="ink")
        p.symmetric_log(float(low.min()), float(max(np.nanmax(pooled), high.max())))
        p.axes.set_xlim(layers[0] - 0.5, layers[-1] + 0.5)
        p.whole_numbers()
        drawing = p.drawing(
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
