"""Why the values of a site depart from a Gaussian: the laws of its dims, or differences between dims or between tokens.

A pool of values is heavy-tailed if its dims are, if Gaussian dims of different scale or mean are thrown together, or if
Gaussian tokens differ in scale. Dims one at a time tell the first two apart, and the norms of tokens the third: let
x_j = u z_j, with a scale u that the dims of a token share and z_j independent. Then

    c = Var(|x|^2) / (E |x|^2)^2 - sum_j Var(x_j^2) / (sum_j E x_j^2)^2

is Var(u^2) / (E u^2)^2 (up to terms of 1 / d; the second term is what norms vary by if dims are independent). Where
dims have means that stay as they are, the norms vary less: c is divided by the squared share of sum_j E x_j^2 that is
variance. A Gaussian dim gets an excess kurtosis of 3 c from it (for a normal ln u of standard deviation s that is
3 (exp(4 s^2) - 1)), and a dim of excess kurtosis K had (K + 3) / (1 + c) - 3 without it. All of it follows from
moments up to the fourth, those of the dims and those of the norms. Correlated dims make norms vary too (Gaussian values
in r directions give c = 2 / r) and no dim heavy-tailed: norms count only where the dims are. Heavy-tailed values in r
directions, such as features that are seldom active, make both: with an excess kurtosis of K_r each they give c =
(K_r + 2) / r and dims an excess kurtosis of about 3 K_r / r. Where K_r is large that is what scales of tokens do, and
moments do not tell the two apart; where it is not, c asks for more than the dims have, and that is said.

Each cause is named only if its own number passes its limit.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

from lmfacts.writing.numbers import percent

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from lmfacts.run.site import SiteRecord

__all__ = ["DimShapes", "TokenScales"]

NEAR_GAUSSIAN_KURTOSIS: Final = 0.5
"""Largest excess kurtosis, either way, of a dim that counts as near Gaussian."""

_MOSTLY: Final = 0.8
"""Share of the dims from which they are near Gaussian one at a time."""

_SCALE_SPREAD: Final = 0.10
_MEAN_SPREAD: Final = 0.30

_ENOUGH: Final = 0.5
"""Share of the median excess kurtosis from which the tokens' scales explain it."""

_LEAST_OF_THE_NORM: Final = 0.5
"""Share of the norms' square below which norms tell nothing of the scale of the dims looked at."""

_LEAST_TOKENS: Final = 1000
"""Tokens below which no cause is named: the excess kurtosis of a Gaussian dim is then uncertain by sqrt(24 / 1000)."""


@dataclass(frozen=True)
class TokenScales:
    """How much the tokens of a site differ in scale, from their norms.

    Attributes:
        spread: standard deviation of ln |x| over tokens.
        excess: c, the relative variance of the squared scale that all dims of a token share; NaN where norms do not
            tell.
        share_of_norm: share of the mean square of the norm that is the variance of the dims looked at. The rest is
            outlier dims and constant means.
    """

    spread: float
    excess: float
    share_of_norm: float

    @classmethod
    def of(cls, site: SiteRecord, looked_at: NDArray[np.bool_]) -> TokenScales:
        """Those of a site of which some dims are looked at."""
        norms, dims = site.norms, site.dims.moments
        spread = float(norms.log_moments.std)
        with np.errstate(all="ignore"):
            _, second, third, fourth = (np.asarray(dims.central_moment(order)) for order in (1, 2, 3, 4))
            squares = second + dims.mean**2
            fourths = fourth + 4 * dims.mean * third + 6 * dims.mean**2 * second + dims.mean**4
            total = float(np.nansum(squares))
            if not 0 < total < math.inf:
                return cls(spread, math.nan, math.nan)
            share_of_norm = float(second[looked_at].sum()) / total
            varying = float(np.nansum(second)) / total
            independent = float(np.nansum(fourths - squares**2)) / total**2
            law, mean = norms.distribution, norms.mean
            square = law.central_moment(2) + mean**2
            power = law.central_moment(4) + 4 * mean * law.central_moment(3) + 6 * mean**2 * law.central_moment(2)
            together = (power + mean**4) / square**2 - 1 - independent if square > 0 else math.nan
            excess = together / varying**2 if varying > 0 else math.nan
        if not math.isfinite(excess) or share_of_norm < _LEAST_OF_THE_NORM:
            excess = math.nan
        return cls(spread, max(excess, 0.0) if not math.isnan(excess) else excess, share_of_norm)

    @property
    def kurtosis(self) -> float:
        """The excess kurtosis that a Gaussian dim gets from the tokens' scales."""
        return 3 * self.excess


@dataclass(frozen=True)
class DimShapes:
    """The dims of a site one at a time, outlier dims left out.

    Attributes:
        n_tokens: tokens that they are measured on.
        kurtosis: median of their excess kurtosis.
        near_gaussian: share of them with an excess kurtosis within +-0.5.
        own_near_gaussian: the same without what the tokens' scales explain; as it is where norms do not tell.
        scale_spread: standard deviation over dims of ln std.
        mean_spread: standard deviation over dims of their means, in median standard deviations.
        tokens: how much tokens differ in scale.
    """

    n_tokens: int
    kurtosis: float
    near_gaussian: float
    own_near_gaussian: float
    scale_spread: float
    mean_spread: float
    tokens: TokenScales

    @classmethod
    def of(cls, site: SiteRecord, outlier_dims: NDArray[np.int64]) -> DimShapes:
        """Those of a site; NaN where no dim varies."""
        kept = np.ones(site.n_dims, dtype=np.bool_)
        kept[outlier_dims] = False
        dims = site.dims
        varies = kept & np.isfinite(dims.excess_kurtosis) & (dims.std > 0)
        tokens = TokenScales.of(site, varies)
        if not varies.any():
            return cls(site.n_tokens, *(math.nan,) * 5, tokens)
        kurtosis, std = dims.excess_kurtosis[varies], dims.std[varies]
        own = (kurtosis + 3) / (1 + np.nan_to_num(tokens.excess)) - 3
        return cls(
            site.n_tokens,
            float(np.median(kurtosis)),
            float(np.mean(np.abs(kurtosis) <= NEAR_GAUSSIAN_KURTOSIS)),
            float(np.mean(np.abs(own) <= NEAR_GAUSSIAN_KURTOSIS)),
            float(np.std(np.log(std))),
            float(np.std(dims.mean[varies]) / np.median(std)),
            tokens,
        )

    @property
    def own_kurtosis(self) -> float:
        """The median excess kurtosis that is left without the tokens' scales; NaN where norms do not tell."""
        return (self.kurtosis + 3) / (1 + self.tokens.excess) - 3

    @property
    def heavy_tailed(self) -> bool:
        """Whether most dims have heavy tails one at a time, whatever the reason."""
        return self.near_gaussian < _MOSTLY and self.kurtosis > NEAR_GAUSSIAN_KURTOSIS

    @property
    def tokens_differ_in_scale(self) -> bool:
        """Whether the dims are heavy-tailed, and the norms give a Gaussian dim 0.5 of that, or half of it."""
        return self.heavy_tailed and self.tokens.kurtosis >= min(NEAR_GAUSSIAN_KURTOSIS, _ENOUGH * self.kurtosis)

    def causes(self) -> list[str]:
        """What makes the pool of these dims depart from a Gaussian, each with its number; none with too few tokens."""
        if math.isnan(self.near_gaussian) or self.n_tokens < _LEAST_TOKENS:
            return []
        causes = []
        if self.tokens_differ_in_scale:
            causes.append(
                f"tokens differ in scale (ln norm varies by {self.tokens.spread:.2f}; norms like these give a Gaussian "
                f"dim an excess kurtosis of {self.tokens.kurtosis:.2f}, and the median dim has {self.kurtosis:.2f}"
                f"{self._more_than_scales()})"
            )
            if self.own_kurtosis > NEAR_GAUSSIAN_KURTOSIS:
                causes.append(
                    "the dims themselves are heavy-tailed (without the tokens' scales a median excess kurtosis of "
                    f"{self.own_kurtosis:.2f} is left)"
                )
        elif self.near_gaussian < _MOSTLY and (self.heavy_tailed or self.own_near_gaussian < _MOSTLY):
            causes.append(self._laws())
        if self.scale_spread >= _SCALE_SPREAD:
            causes.append(f"the dims differ in scale (ln std varies by {self.scale_spread:.2f})")
        if self.mean_spread >= _MEAN_SPREAD:
            causes.append(f"the dims differ in mean (by {self.mean_spread:.2f} of a standard deviation)")
        return causes

    def _more_than_scales(self) -> str:
        """What else has to make norms vary where scales of tokens would give the dims more than they have."""
        if self.own_kurtosis >= -NEAR_GAUSSIAN_KURTOSIS:
            return ""
        return ": less, so that dims vary together as well, and a few heavy-tailed directions could be all of it"

    def _laws(self) -> str:
        """What is said of dims that are not near Gaussian, where tokens are not known to differ in scale."""
        numbers = f"{percent(self.near_gaussian)} of them within +-0.5 in excess kurtosis, median {self.kurtosis:.2f}"
        if self.kurtosis > 0 and math.isnan(self.tokens.excess):
            told = self.tokens.share_of_norm
            why = "" if math.isnan(told) else f", as only {percent(told)} of their square is the variance of these dims"
            dims = "the dims are heavy-tailed" if self.heavy_tailed else "some dims are not near Gaussian"
            return (
                f"{dims} one at a time ({numbers}), by their own laws or because tokens differ in scale (the norms do "
                f"not tell which{why})"
            )
        if abs(self.kurtosis) <= NEAR_GAUSSIAN_KURTOSIS:
            return f"some dims are not near Gaussian themselves ({numbers})"
        return f"the dims themselves are {'heavy' if self.kurtosis > 0 else 'light'}-tailed ({numbers})"

    def in_words(self) -> str:
        """Why the pool departs, as a clause, with the numbers."""
        if self.n_tokens < _LEAST_TOKENS:
            return (
                f"{self.n_tokens:,} tokens are too few to name a cause: the excess kurtosis of single dims needs "
                f"{_LEAST_TOKENS:,}"
            )
        causes = self.causes()
        if causes:
            return f"what makes the pool depart from a Gaussian: {'; '.join(causes)}"
        return (
            f"no cause passes its limit: {percent(self.near_gaussian)} of the dims have an excess kurtosis within "
            f"+-0.5 one at a time (median {self.kurtosis:.2f}), ln std varies by {self.scale_spread:.2f}, means by "
            f"{self.mean_spread:.2f} of a standard deviation"
        )
