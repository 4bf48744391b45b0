"""How often verdicts are wrong, and intervals miss: synthetic models whose true numbers are known.

    python benches/calibration.py [--only F7 ...] [--seeds 50] [--out FILE]

For each threshold of each fact there are models whose true number lies at several distances from it, in shares of what
a move by 100 % would be (`lmfacts.facts.strictness`): far away (half), at 10 % and 3 % on both sides, and at the
threshold. Each is drawn with many seeds, activations once with independent tokens and once with sequences that have
scales of their own (ln sd 0.25). The table has the shares of HOLDS, of other firm verdicts, and of INCONCLUSIVE, and
how often the interval of the deciding number contains the true one.

The promise: outside the band of 10 % at most 5 % of the verdicts are firm and wrong; the exit code is 1 if it is
broken. Nothing is timed. A fact's rows are in `calibration_activations.py` and `calibration_weights.py`; a new fact
brings its own.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np

from calibration_activations import ACTIVATION_CASES
from calibration_weights import WEIGHT_CASES
from lmfacts.facts import Verdict, check

if TYPE_CHECKING:
    from collections.abc import Sequence

    from calibration_cases import Case

CASES: Final = (*ACTIVATION_CASES, *WEIGHT_CASES)
DISTANCES: Final = (-0.5, -0.1, -0.03, 0.0, 0.03, 0.1, 0.5)
BAND: Final = 0.1
MOST_WRONG: Final = 0.05
RECORD: Final = Path(__file__).parent / "record" / "calibration.md"


@dataclass(frozen=True)
class Outcome:
    """What one drawn model gave."""

    verdict: Verdict
    covered: bool | None


def drawn(seed: int, *, index: int, distance: float, own_scales: bool) -> Outcome:
    """The fact on one model of the case of this index."""
    case = CASES[index]
    truth = case.number_at(distance)
    rng = np.random.default_rng([seed, round(1000 * distance) + 1000, own_scales])
    (fact,) = check(case.draw(rng, truth, own_scales), only=[case.fact])
    covered = None
    if case.measure is not None:
        interval = next((m.interval for m in fact.evidence.measures if m.name == case.measure), None)
        if interval is not None and np.isfinite(interval).all():
            covered = bool(interval[0] <= case.measured(truth) <= interval[1])
    return Outcome(fact.verdict, covered)


@dataclass(frozen=True)
class Row:
    """One line of the table: a case at a distance."""

    case: Case
    distance: float
    own_scales: bool
    outcomes: tuple[Outcome, ...]

    def share(self, *verdicts: Verdict) -> float:
        """Share of the seeds with one of these verdicts."""
        return sum(outcome.verdict in verdicts for outcome in self.outcomes) / len(self.outcomes)

    @property
    def holds(self) -> float:
        """Share that holds, as the case means it."""
        return self.share(*self.case.passing)

    @property
    def open(self) -> float:
        """Share without a firm verdict."""
        return self.share(Verdict.INCONCLUSIVE, Verdict.NOT_APPLICABLE)

    @property
    def firmly_not(self) -> float:
        """Share with a firm verdict that is none of those."""
        return sum(
            outcome.verdict not in (*self.case.passing, Verdict.INCONCLUSIVE, Verdict.NOT_APPLICABLE)
            for outcome in self.outcomes
        ) / len(self.outcomes)

    @property
    def wrong(self) -> float:
        """Share of firm verdicts that are wrong; 0 at the threshold, where none is."""
        if self.distance == 0:
            return 0.0
        return self.holds if self.distance < 0 else self.firmly_not

    @property
    def coverage(self) -> float:
        """Share of the intervals that contain the true number; NaN where there are none."""
        known = [outcome.covered for outcome in self.outcomes if outcome.covered is not None]
        return sum(known) / len(known) if known else float("nan")

    @property
    def breaks_promise(self) -> bool:
        """Whether too many verdicts are firm and wrong, outside the band."""
        return abs(self.distance) >= BAND and self.wrong > MOST_WRONG


def measure(cases: Sequence[Case], n_seeds: int) -> list[Row]:
    """Every case at every distance."""
    rows = []
    with ProcessPoolExecutor(max_workers=2) as pool:
        for case in cases:
            for own_scales in (False, True) if case.has_tokens else (False,):
                for distance in case.distances or DISTANCES:
                    one = partial(drawn, index=CASES.index(case), distance=distance, own_scales=own_scales)
                    rows.append(Row(case, distance, own_scales, tuple(pool.map(one, range(n_seeds), chunksize=5))))
                print(f"{case.fact} {case.number}: done", file=sys.stderr, flush=True)
    return rows


def table(rows: Sequence[Row], n_seeds: int) -> str:
    """The record, in Markdown."""
    worst = max(rows, key=lambda row: row.wrong if abs(row.distance) >= BAND else 0.0)
    broken = [row for row in rows if row.breaks_promise]
    outside = [row.wrong for row in rows if abs(row.distance) >= BAND]
    lines = [
        "# Calibration of the verdicts",
        "",
        f"Written by `python benches/calibration.py`, {n_seeds} seeds a row. Distance: of the true number from the",
        "threshold, as a share of the threshold's distance from its neutral value; positive is the side of the claim.",
        "Own scales: sequences have scales of their own (ln sd 0.25). Coverage: how often the 90 % interval of the",
        "number contains the true one.",
        "",
        f"Firm and wrong outside the band of 10 %: {np.mean(outside):.1%} of all, at most {worst.wrong:.0%} in a row "
        f"({worst.case.fact}, {worst.case.number}); promised are at most {MOST_WRONG:.0%}"
        + (f", broken in {len(broken)} of {len(outside)} rows." if broken else ", kept in every row."),
        "",
        "| fact | number | threshold | tokens | distance | holds | does not | open | firm and wrong | coverage |",
        "|---|---|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    for row in rows:
        case = row.case
        tokens = ("own scales" if row.own_scales else "independent") if case.has_tokens else "-"
        coverage = "-" if np.isnan(row.coverage) else f"{row.coverage:.0%}"
        wrong = f"{row.wrong:.0%}" if row.distance else "-"
        cells = (
            case.fact,
            case.number.replace("|", "\\|"),
            case.threshold.words(),
            tokens,
            f"{row.distance:+.0%}",
            f"{row.holds:.0%}",
            f"{row.firmly_not:.0%}",
            f"{row.open:.0%}",
            wrong,
            coverage,
        )
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    """Draw, print the table, and write the record if all cases were drawn."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", metavar="FACT", help="facts by id")
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument(
        "--out", type=Path, help="where to write the table; by default the record, if nothing is left out"
    )
    arguments = parser.parse_args()
    cases = [case for case in CASES if arguments.only is None or case.fact in arguments.only]
    rows = measure(cases, arguments.seeds)
    text = table(rows, arguments.seeds)
    out = arguments.out or (RECORD if arguments.only is None else None)
    if out is None:
        print(text)
    else:
        out.write_text(text, encoding="utf-8")
        print(f"written: {out}")
    return 1 if any(row.breaks_promise for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
