"""The quantities that only sites have, of activations and of gradients: those of tokens and of dims."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from lmfacts.quantities.outlier_criteria import rms_outlier_dims
from lmfacts.quantities.quantity import COUNT, NONE, VALUE, of_sites
from lmfacts.run.statistics.value_blocks import value_blocks
from lmfacts.stats.block_formats import mxfp4_snr, nvfp4_snr

if TYPE_CHECKING:
    from collections.abc import Callable

    from lmfacts.quantities.quantity import Quantity, Result
    from lmfacts.quantities.site_figures import SiteFigures

__all__ = ["OF_BLOCK_FORMATS", "OF_EACH_DIM", "OF_SIZES", "OF_TOKENS_AND_DIMS"]


def _mean_cosine(figures: SiteFigures) -> float | None:
    units = figures.site.unit_sums
    return None if units is None else float(units.cosine_contributions.sum())


def _mxfp4_snr(figures: SiteFigures) -> float | None:
    blocks = value_blocks(figures.site, 32)
    return None if blocks is None else mxfp4_snr(blocks)


def _nvfp4_snr(figures: SiteFigures) -> float | None:
    blocks = value_blocks(figures.site, 16)
    return None if blocks is None else nvfp4_snr(blocks)


def _norm(name: str, unit: str, definition: str, compute: Callable[[SiteFigures], Result], **options: Any) -> Quantity:
    return of_sites(f"norm_{name}", unit, definition, compute, **options)


OF_SIZES: Final = (
    of_sites("n_tokens", COUNT, "Tokens, padding not counted.", lambda f: f.site.n_tokens, in_figures="sites"),
    of_sites("n_dims", COUNT, "Dims of the site.", lambda f: f.record.n_dims),
)

OF_TOKENS_AND_DIMS: Final = (
    of_sites(
        "threshold",
        VALUE,
        "The magnitude that n_at_least and dim_n_at_least count from.",
        lambda f: f.site.threshold,
    ),
    of_sites(
        "n_at_least",
        COUNT,
        "Values of at least the threshold in magnitude; infinities count, NaN does not.",
        lambda f: int(f.record.dims.n_at_least.sum()),
    ),
    of_sites(
        "median_dim_excess_kurtosis",
        NONE,
        "Median over the dims of dim_excess_kurtosis.",
        lambda f: f.median_dim_excess_kurtosis,
        in_figures="sites",
    ),
    of_sites(
        "n_outlier_dims",
        COUNT,
        "Dims whose dim_rms is more than 5 times the median dim_rms of the site.",
        lambda f: rms_outlier_dims(f.site).size,
    ),
    of_sites(
        "largest", VALUE, "The value of largest magnitude, with its sign.", lambda f: f.largest, in_figures="sites"
    ),
    of_sites(
        "largest_dim",
        "dim",
        "The dim of the value of largest magnitude, from 0.",
        lambda f: f.largest_dim if f.largest_dim >= 0 else None,
        in_figures="sites",
    ),
    _norm("n", COUNT, "Tokens with a norm: those whose values are all finite.", lambda f: f.site.norms.n),
    _norm("mean", VALUE, "Mean of the tokens' L2 norms.", lambda f: f.site.norms.mean, in_figures="sites"),
    _norm("std", VALUE, "Population standard deviation of the norms.", lambda f: f.site.norms.std),
    _norm("min", VALUE, "Smallest norm, exact.", lambda f: f.site.norms.min),
    _norm("median", VALUE, "Median norm, within 0.4 %.", lambda f: f.site.norms.quantile(0.5)),
    _norm("max", VALUE, "Largest norm, exact.", lambda f: f.site.norms.max),
    _norm(
        "mean_log",
        "ln(value)",
        "Mean of ln(norm), norms of 0 left out.",
        lambda f: f.site.norms.mean_log,
        in_figures="sites",
    ),
    _norm(
        "mean_log_centered",
        "ln(value)",
        "Mean of ln(norm of x - mean(x)), the mean over the token's dims: what LayerNorm sees.",
        lambda f: f.site.norms.mean_log_centered,
    ),
    of_sites(
        "mean_cosine",
        NONE,
        "Mean cosine over all pairs of different tokens; where the sums of unit vectors were recorded.",
        _mean_cosine,
    ),
)

OF_BLOCK_FORMATS: Final = (
    of_sites(
        "mxfp4_snr",
        "dB",
        "Signal to quantization noise of the values in MXFP4, blocks of 32; where blocks were recorded.",
        _mxfp4_snr,
    ),
    of_sites(
        "nvfp4_snr",
        "dB",
        "The same in NVFP4, blocks of 16, with the largest magnitude over these tokens for the tensor's scale.",
        _nvfp4_snr,
    ),
)


def _dim(name: str, unit: str, definition: str) -> Quantity:
    return of_sites(
        f"dim_{name}",
        unit,
        definition,
        lambda figures: getattr(figures.site.dims, name),
        per="dim",
    )


def _dim_largest(name: str, unit: str, definition: str, field: str) -> Quantity:
    """What is known of the dims' largest values, empty where a dim has none; of runs that do not have it, nothing."""

    def compute(figures: SiteFigures) -> Result:
        largest = figures.site.largest_of_dims
        return None if largest is None else np.where(largest.position >= 0, getattr(largest, field), np.nan)

    return of_sites(name, unit, definition, compute, per="dim")


OF_EACH_DIM: Final = (
    _dim("mean", VALUE, "Mean of the dim's finite values."),
    _dim("std", VALUE, "Their population standard deviation."),
    _dim("rms", VALUE, "Their root mean square, about zero."),
    _dim("skewness", NONE, "Their third standardized moment."),
    _dim("excess_kurtosis", NONE, "Their fourth standardized moment, minus 3."),
    _dim("min", VALUE, "The smallest."),
    _dim("max", VALUE, "The largest."),
    _dim("absmax", VALUE, "The largest magnitude."),
    _dim_largest("dim_largest", VALUE, "The finite value of largest magnitude, with its sign.", "value"),
    _dim_largest("dim_largest_sequence", "sequence", "Its sequence, in order of reading, from 0.", "sequence"),
    _dim_largest("dim_largest_position", "position", "Its position in the sequence, from 0.", "position"),
    _dim_largest("dim_largest_token_id", "token id", "The token it sits on; -1 where that is unknown.", "token_id"),
    _dim("n_at_least", COUNT, "Values of at least the threshold in magnitude."),
    _dim("n_nonfinite", COUNT, "NaN and infinities."),
)
"""One value for each dim."""
