"""How far apart two runs of different text come out by chance where nothing changed: the noise of each difference.

Sequences are what can be taken as independent, and a run keeps its tokens in 8 blocks of whole sequences. The blocks of
one run are split into two halves of 4 in every way there is (35), and each difference is taken between the halves. What
two samples of one law differ by scales with one over the root of their sizes, and the squares of two independent
samples' deviations add up, so that between runs A and B of one law

    E T(A, B)^2  =  (E T(halves of A)^2 + E T(halves of B)^2) / 4

whatever their sizes: a half deviates from the law by a variance twice that of its run, and there are two halves.

How far T may lie above that depends on how many independent contributions it is made of. A difference of two numbers
(mean, std) has one: T^2 is chi-squared with 1 degree of freedom. A distance between distributions has one where
sequences differ in their scale, and more where tokens are independent. T^2 is taken as chi-squared with v degrees of
freedom (Satterthwaite 1946), and v follows from the spread of T^2 over the splits: its squared coefficient of variation
is 4/3 for v = 1 and nearly 2 / v for many (by simulation, between 8 Gaussian blocks). An estimate of v that is too high
makes the noise too small, and estimates scatter by a factor of 1.5; half of it is taken, and 1 at least. What T^2 is
divided by is estimated from 7 independent contrasts of blocks in each run, 7 v degrees of freedom each, so that the
ratio follows Fisher's F, of (v, 14 v) degrees of freedom for runs alike:

    noise^2  =  E T(A, B)^2 * F(1 - p; v, 14 v)        of one number: Student's t with 14 degrees of freedom, squared

The chance p is 2 % divided by the number of differences that are judged in a comparison (Bonferroni), so that the
largest of hundreds of sites is beyond its noise in at most one of fifty comparisons of runs where nothing changed.
Sites of one model move together, and the true rate is lower. By simulation (300 comparisons of 7 independent sites, of
22 differences) something was beyond its noise in 1.0 % of comparisons where all tokens are independent, in 1.3 % where
each sequence has a scale of its own (ln sd 0.25), and in 4 % where one sequence in ten holds a value of 200 standard
deviations; over 61 sites of 16 sequences (80 comparisons) in 0 and 2.5 %.

What is judged so: at the five depths of the residual stream whose codes are kept by block the distances, mean and std;
elsewhere in the stream the std, from the blocks' token norms; all along the stream the scales and means of single dims,
over the tokens past position 0. NaN or infinities that only one run has count if they are in so many of its blocks that
chance would not have left all of the other run without any. Other sites are not kept by block, and nothing can be said
about them on different text. A statistic that comes to be kept by block joins `_halves_of_codes`, `_halves_of_norms` or
`_halves_of_dims` by its key: the differences between the halves are all that is needed. The largest difference of any
dim can be that of one dim, with a few rare values, which one run has by chance and the other has not: it is given one
mode, as the difference of two numbers is.

The noise is that of other sequences of the same text. Blocks take sequences in turn (modulo 8), and text of another
kind, or of a handful of long documents, differs by more than its own blocks do.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Final, Protocol

import numpy as np

from lmfacts.comparison.dim_change import dim_differences
from lmfacts.run.statistics.sequence_blocks import N_BLOCKS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from lmfacts.run.blocks import SequenceBlocks
    from lmfacts.run.site import SiteRecord

__all__ = ["FALSE_POSITIVES", "Absence", "Chance", "Spread", "chances_of_norm", "chances_of_site", "noises"]

FALSE_POSITIVES: Final = 0.02
"""In what share of comparisons of runs of one law anything at all may be beyond its noise, at most."""

_CONTRASTS: Final = N_BLOCKS - 1
_SQUARED_VARIATION: Final = 2 / 3
"""Half of the squared coefficient of variation of a squared contrast over the splits of 8 Gaussian blocks."""

_MOST_MODES: Final = 50.0
_FARTHEST_MEAN: Final = 0.2
"""A std follows from the mean square of norms where the mean of the values is within so many of them."""

_COARSEST: Final = 0.05
"""Cells tell a mean and a std where they get those of the site right within this share of its std."""

_LEVY_EDGES: Final = 1024


def _splits() -> NDArray[np.float64]:
    """The 35 ways to split 8 blocks into two halves of 4: float64 [35, 8], 1 for a block of the first half."""
    halves = [half for half in combinations(range(N_BLOCKS), N_BLOCKS // 2) if 0 in half]
    return np.array([[block in half for block in range(N_BLOCKS)] for half in halves], dtype=np.float64)


_SPLITS: Final = _splits()


class Chance(Protocol):
    """What chance does to a difference."""

    def noise(self, chance: float) -> float:
        """The size that the difference is beyond with at most this chance where nothing changed."""
        ...


@dataclass(frozen=True)
class Spread:
    """What chance does to a difference that is small for small changes.

    Attributes:
        mean_square: of the difference between two runs of one law.
        modes: of how many independent contributions its square is made, v above.
        freedom: the degrees of freedom of `mean_square` itself.
    """

    mean_square: float
    modes: float
    freedom: float

    @classmethod
    def of_halves(cls, a: NDArray[np.float64], b: NDArray[np.float64], *, single: bool) -> Spread | None:
        """From the differences between the halves of A and of B, [35] each; None where they are not all known.

        Args:
            a: the sizes of the difference in A.
            b: the same in B.
            single: whether it is the difference of two numbers, or may be, and has one mode.
        """
        with np.errstate(all="ignore"):
            squares = np.square([a, b])
            total = float(squares.mean(axis=1).sum())
            if not math.isfinite(total):
                return None
            if total == 0:
                return cls(0.0, 1.0, 2.0 * _CONTRASTS)
            squares = squares / total
        shares = squares.mean(axis=1)
        of_shares = float(shares @ shares)
        modes = 1.0
        if not single:
            variance = float(squares.var(axis=1).sum())
            modes = min(max(_SQUARED_VARIATION * of_shares / variance, 1.0), _MOST_MODES) if variance else _MOST_MODES
        return cls(mean_square=total / 4.0, modes=modes, freedom=_CONTRASTS * modes / of_shares)

    def noise(self, chance: float) -> float:
        """See `Chance`."""
        from scipy.special import fdtri  # noqa: PLC0415  slow to load

        return math.sqrt(self.mean_square * float(fdtri(self.modes, self.freedom, 1.0 - chance)))


@dataclass(frozen=True)
class Absence:
    """What chance does to a difference of 1: that only one of the runs has something.

    Attributes:
        n_blocks: in how many blocks of that run it is.
        size: number of tokens of the other run over that run's.
    """

    n_blocks: int
    size: float

    def noise(self, chance: float) -> float:
        """1 if a text like the other's has none of it with more than this chance, else 0.

        A block has none of it with a chance of 1 - k / 9, which is never 0, where k of 8 have it.
        """
        return float((1.0 - self.n_blocks / (N_BLOCKS + 1.0)) ** (N_BLOCKS * self.size) > chance)


def noises(sites: Sequence[dict[str, Chance]]) -> list[dict[str, float]]:
    """The noise of each difference of each site, at a chance that all of them share."""
    chance = FALSE_POSITIVES / max(sum(map(len, sites)), 1)
    return [{key: spread.noise(chance) for key, spread in site.items()} for site in sites]


@np.errstate(all="ignore")  # numbers at the ends of the range have no noise that is known
def chances_of_site(a: SiteRecord, b: SiteRecord) -> dict[str, Chance]:
    """What chance does to the differences of a site, by key; those that are not kept by block are not there."""
    blocks_a, blocks_b = a.blocks, b.blocks
    if blocks_a is None or blocks_b is None or not (blocks_a.n_tokens.all() and blocks_b.n_tokens.all()):
        return {}
    scale = a.std or b.std
    both = (a, blocks_a), (b, blocks_b)
    halves = [
        # Codes know more than norms do.
        _halves_of_dims(site)
        | _halves_of_norms(site, blocks)
        | (_halves_of_codes(site, blocks, scale) if blocks.histograms else {})
        for site, blocks in both
    ]
    chances: dict[str, Chance] = {}
    for key in ("levy", "wasserstein", "mean", "std", "dim_scale", "dim_mean"):
        if all(key in of_run for of_run in halves):
            spread = Spread.of_halves(halves[0][key], halves[1][key], single=key not in ("levy", "wasserstein"))
            chances |= {} if spread is None else {key: spread}
    absence = _absence(blocks_a, blocks_b)
    return chances if absence is None else {**chances, "nonfinite": absence}


def chances_of_norm(a: SiteRecord, b: SiteRecord) -> dict[str, Chance]:
    """What chance does to the mean logarithm of the tokens' norms (`log_norm`); empty where it is not known."""
    halves = []
    for blocks in (a.blocks, b.blocks):
        if blocks is None or not blocks.log_norms.n.all():
            return {}
        n, means = blocks.log_norms.n, blocks.log_norms.mean
        one, other = (split @ (n * means) / (split @ n) for split in (_SPLITS, 1.0 - _SPLITS))
        halves.append(np.abs(other - one))
    spread = Spread.of_halves(halves[0], halves[1], single=True)
    return {} if spread is None else {"log_norm": spread}


def _halves_of_codes(site: SiteRecord, blocks: SequenceBlocks, scale: float) -> dict[str, NDArray[np.float64]]:
    """The differences between halves that follow from the blocks' codes, [35] by key.

    Mean and std of a half are those of its cells' middles, and are left out where such cells give the site another mean
    or std than its values have.
    """
    parts = blocks.distributions or ()
    cells = [part.cells for part in parts]
    edges = np.unique(np.concatenate([part.edges for part in cells]))
    n = np.array([part.n for part in cells], dtype=np.float64)
    if not n.all() or not scale > 0:
        return {}
    below = np.array([np.interp(edges, part.edges, part.cumulative) for part in cells])
    one, other = (split @ below / (split @ n)[:, None] for split in (_SPLITS, 1.0 - _SPLITS))
    centers = np.array([part.mean for part in parts])
    center = float(n @ centers / n.sum())
    squares = np.array([part.central_moment(2) for part in parts]) + (centers - center) ** 2
    distances = {"levy": _levy(edges, one, other, center, scale), "wasserstein": _areas(edges, one - other) / scale}
    std_of_cells = math.sqrt(float(n @ squares / n.sum()))
    if max(abs(center - site.mean), abs(std_of_cells - site.std)) > _COARSEST * site.std:
        return distances
    (means_1, squares_1), (means_2, squares_2) = (
        (split @ (n * (centers - center)) / (split @ n), split @ (n * squares) / (split @ n))
        for split in (_SPLITS, 1.0 - _SPLITS)
    )
    with np.errstate(all="ignore"):
        std = 0.5 * np.log((squares_2 - means_2**2) / (squares_1 - means_1**2))
    return {**distances, "mean": np.abs(means_2 - means_1) / scale, "std": np.abs(std)}


def _halves_of_norms(site: SiteRecord, blocks: SequenceBlocks) -> dict[str, NDArray[np.float64]]:
    """The difference of std between halves, from the mean squares of the tokens' norms; the mean is taken as known."""
    if not abs(site.mean) <= _FARTHEST_MEAN * site.std or not blocks.norms.n.all():
        return {}
    n, squares = blocks.norms.n, blocks.norms.rms**2 / site.n_dims
    with np.errstate(all="ignore"):
        one, other = (split @ (n * squares) / (split @ n) - site.mean**2 for split in (_SPLITS, 1.0 - _SPLITS))
        return {"std": np.abs(0.5 * np.log(other / one))}


def _halves_of_dims(site: SiteRecord) -> dict[str, NDArray[np.float64]]:
    """The largest differences of single dims between halves."""
    blocks = site.dim_blocks
    if blocks is None:
        return {}
    (means, rms), (other_means, other_rms) = blocks.moments_of(_SPLITS), blocks.moments_of(1.0 - _SPLITS)
    pairs = [
        dim_differences((rms[half], other_rms[half]), (means[half], other_means[half])) for half in range(len(_SPLITS))
    ]
    scales, shifts = (np.array([_largest(of_half) for of_half in of_kind]) for of_kind in zip(*pairs, strict=True))
    return {"dim_scale": scales, "dim_mean": shifts}


def _largest(differences: NDArray[np.float64]) -> float:
    """The largest magnitude; NaN if none is known."""
    known = np.abs(differences[np.isfinite(differences)])
    return float(known.max()) if known.size else math.nan


def _areas(edges: NDArray[np.float64], gaps: NDArray[np.float64]) -> NDArray[np.float64]:
    """The integral of each row's magnitude, by trapezoids."""
    sizes = np.abs(gaps)
    return np.asarray((sizes[:, 1:] + sizes[:, :-1]) @ np.diff(edges) / 2.0)


def _levy(
    edges: NDArray[np.float64], one: NDArray[np.float64], other: NDArray[np.float64], center: float, scale: float
) -> NDArray[np.float64]:
    """The Levy distance of each pair of rows: see `lmfacts.stats.distances`. Cells of small shares are joined."""
    step = np.floor((one[0] + other[0]) / 2.0 * _LEVY_EDGES)
    kept = np.flatnonzero(np.diff(step, prepend=-1.0) > 0)
    kept = np.union1d(kept, [edges.size - 1])
    x = (edges[kept] - center) / scale
    distances = []
    for y_1, y_2 in zip(one[:, kept], other[:, kept], strict=True):
        c = np.concatenate([x + y_1, x + y_2])
        distances.append(np.abs(np.interp(c, x + y_1, y_1) - np.interp(c, x + y_2, y_2)).max())
    return np.array(distances)


def _absence(a: SequenceBlocks, b: SequenceBlocks) -> Chance | None:
    """What chance does to NaN and infinities where one run has any; None where both have some, or none has."""
    sides = [np.count_nonzero(blocks.norms.n < blocks.n_tokens) for blocks in (a, b)]
    if all(sides) or not any(sides):
        return None
    here, there = (a, b) if sides[0] else (b, a)
    return Absence(int(max(sides)), float(there.n_tokens.sum() / here.n_tokens.sum()))
