"""Two runs compared, on a screen or two.

`python -m lmfacts.render.terminal.comparison_view A.lmfacts B.lmfacts` prints a comparison.
"""

from __future__ import annotations

import statistics
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rich.console import Group
from rich.text import Text

from lmfacts.comparison.noise import FALSE_POSITIVES
from lmfacts.render.terminal.comparison_dims import OutlierDimsChanged
from lmfacts.render.terminal.comparison_facts import FactsChanged
from lmfacts.render.terminal.comparison_norms import NormsChanged
from lmfacts.render.terminal.comparison_sites import ChangedByKind, MostChanged, in_layers
from lmfacts.render.terminal.console import PROBLEM, heading, paragraph, result_console, section
from lmfacts.render.terminal.run_header import LabeledLines
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console, ConsoleOptions, RenderableType, RenderResult

    from lmfacts.comparison import Comparison, SiteChange
    from lmfacts.run import Run

__all__ = ["render_comparison"]

_MOST_NAMES: Final = 6
_TOKENS: Final = {"rest": "all tokens but position 0", "first": "position 0 only", "all": "all tokens"}


def render_comparison(comparison: Comparison, top: int = 20) -> RenderableType:
    """What is compared, what changed in a sentence, the facts and the sites that changed most, what is the same.

    The result adapts to the width of the console that prints it: narrow ones get fewer columns, rows are never wrapped.

    Args:
        comparison: the comparison.
        top: how many of the sites that changed most to list.
    """
    return Group(
        ComparisonHeader(comparison),
        Conclusion(comparison),
        FactsChanged(comparison),
        MostChanged(comparison, top),
        ChangedByKind(comparison),
        OutlierDimsChanged(comparison),
        NormsChanged(comparison),
        Unchanged(comparison),
    )


class ComparisonHeader:
    """Both runs, what of them is compared, and what else differs between them."""

    def __init__(self, comparison: Comparison) -> None:
        """The header of a comparison."""
        self.comparison = comparison

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        comparison = self.comparison
        yield heading(f"{_short(comparison.a)} (A) and {_short(comparison.b)} (B): {comparison.a.kind} compared")
        weights = not comparison.a.info.run_kind.reads_text
        what = _number(len(comparison.sites), "weight" if weights else "site")
        rows = [
            ("A", _described(comparison.a)),
            ("B", _described(comparison.b)),
            ("compared", what if weights else f"{what}, {_TOKENS[comparison.population]}"),
            ("text", "paired: both runs read the same text" if comparison.paired and not weights else ""),
            ("only in A", _names(comparison.only_a)),
            ("only in B", _names(comparison.only_b)),
            ("left out", _left_out(comparison)),
            ("not judged", _kinds([site for site in comparison.sites if not site.judged], comparison.sites)),
        ]
        yield LabeledLines([(name, value) for name, value in rows if value])
        if comparison.caveats:
            yield Text("")
        yield from (paragraph(Text(caveat, style=PROBLEM)) for caveat in comparison.caveats)


class Conclusion:
    """What changed, in a few sentences, and how to read the rest."""

    def __init__(self, comparison: Comparison) -> None:
        """The conclusion of a comparison."""
        self.comparison = comparison

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        comparison = self.comparison
        sentences = [self._sites(), self._facts()]
        yield section("What changed", paragraph(Text(" ".join(s for s in sentences if s), style="bold")))
        notes = [self._reading()] if any(site.effect > 0 for site in comparison.sites) else []
        notes += [self._noise(), self._resolution()]
        written = " ".join(note for note in notes if note)
        if written:
            yield paragraph(written)

    def _sites(self) -> str:
        comparison = self.comparison
        sites = comparison.by_effect
        noun = comparison.a.info.run_kind.noun
        every = f"any of {_number(len(sites), noun)}"
        if all(site.identical for site in sites):
            return f"Nothing: no number that is compared differs at {every}."
        judged = comparison.judged
        if not judged:
            return f"What changed cannot be judged at {every} without the same text."
        if len(judged) < len(sites):
            every = f"any of the {_number(len(judged), noun)} that can be judged"
        worst = sites[0]
        if worst.decided_by is None:
            return (
                f"No difference beyond {'rounding' if comparison.paired else 'the noise of different text'} at {every}."
            )
        n_changed = sum(site.effect > 0 for site in sites)
        median = numbers.number(statistics.median(site.effect for site in judged))
        largest, by = numbers.number(worst.effect), worst.decided_by
        if comparison.paired:
            return (
                f"{n_changed:,} of {_number(len(sites), noun)} changed. The largest effect is {largest}, at "
                f"{worst.name} ({by.label}); the median is {median}."
            )
        which = f" that can be judged, of {len(sites):,} in all," if len(judged) < len(sites) else ""
        return (
            f"{n_changed:,} of {_number(len(judged), noun)}{which} changed beyond the noise of different text. The "
            f"largest excess is {largest}, at {worst.name} ({by.label}: {numbers.number(by.size)} against a noise of "
            f"{numbers.number(by.noise)}); the median is {median}."
        )

    def _facts(self) -> str:
        changed = self.comparison.changed_facts
        if not changed:
            return ""
        return f"{_number(len(changed), 'fact')} changed: {', '.join(fact.id for fact in changed)}."

    def _reading(self) -> str:
        dims = "single dims' RMS, and of single dims' mean (in units of their RMS)"
        if not self.comparison.a.info.run_kind.reads_text:
            dims = (
                "single output and input dims' RMS, and of the spectral norm; the relative change, which for gains and "
                "biases is all"
            )
        return (
            "Effect: the largest of the following, where 0 is no change and 0.01 one percent. The Levy and the "
            "Wasserstein distance between the distributions and the change of the mean, in A's standard deviations; "
            f"the change of the logarithm of the standard deviation, of {dims}."
        )

    def _noise(self) -> str:
        comparison = self.comparison
        if comparison.paired:
            return ""
        told = []
        if comparison.judged:
            share = f"{numbers.number(100 - 100 * FALSE_POSITIVES, 2)} %"
            told.append(
                "On different text a difference counts by its excess over the noise: judging by how much the blocks of "
                f"sequences within each run differ, in {share} of comparisons where nothing changed no site at all is "
                "beyond it. That is so for sequences of one text in turn; texts of another kind, neighboring parts of "
                "one, or a handful of documents differ by more."
            )
        left = []
        n_left = len(comparison.sites) - len(comparison.judged)
        if n_left:
            sites = f"{n_left:,} of {len(comparison.sites):,} sites" if comparison.judged else "these sites"
            left.append(f"at {sites}, for which fewer than 8 blocks of sequences are kept")
        differences = [item for site in comparison.judged for item in site.differences]
        if not any(item.key == "dim_scale" and item.judged for item in differences):
            left.append("of single dims")
        if left:
            told.append(
                f"What cannot be judged counts as no change: differences {', and '.join(left)}. To judge them, let "
                "both models read the same text."
            )
        return " ".join(told)

    def _resolution(self) -> str:
        unlike = [site for site in self.comparison.sites if site.dtypes[0] != site.dtypes[1]]
        if not unlike:
            return ""
        pairs = sorted({f"{site.dtypes[0]} in A and {site.dtypes[1]} in B" for site in unlike})
        scales = [item.resolution for site in unlike for item in site.differences if item.key.endswith("_scale")]
        in_scale = f"up to {numbers.number(100 * max(scales), 2)} % in the scale of a dim, and " if scales else ""
        distance = statistics.median(site.distances.wasserstein_resolution for site in unlike)
        return (
            f"Values are {'; '.join(pairs)}. What rounding can do by itself counts as no effect: {in_scale}about "
            f"{numbers.number(distance, 2)} in a distance."
        )


class Unchanged:
    """What is the same in both runs."""

    def __init__(self, comparison: Comparison) -> None:
        """The last section of a comparison."""
        self.comparison = comparison

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        sites = self.comparison.sites
        within = [site for site in sites if site.judged and not site.identical and site.effect == 0]
        rows = [
            ("identical", _kinds([site for site in sites if site.identical], sites)),
            ("rounding" if self.comparison.paired else "noise", _kinds(within, sites)),
            ("verdicts", self._verdicts()),
        ]
        filled = [(name, value) for name, value in rows if value]
        if filled:
            yield section("What is the same", LabeledLines(filled))

    def _verdicts(self) -> str:
        same = [fact for fact in self.comparison.facts if not fact.verdict_changed]
        told = [fact for fact in same if fact.a.verdict != "NOT-APPLICABLE"]
        return ", ".join(f"{fact.id} {fact.a.verdict.words}" for fact in told)


def _kinds(some: Sequence[SiteChange], sites: Sequence[SiteChange]) -> str:
    """The kinds of some sites, with their layers where those are not all; nothing where it is every site."""
    if len(some) == len(sites):
        return ""
    all_of = Counter(site.kind for site in sites)
    kinds: dict[str, list[SiteChange]] = {}
    for site in some:
        kinds.setdefault(site.kind, []).append(site)
    return " · ".join(
        kind if len(members) == all_of[kind] else in_layers(kind, members) for kind, members in kinds.items()
    )


def _left_out(comparison: Comparison) -> str:
    reasons: dict[str, list[str]] = {}
    for site in comparison.not_comparable:
        reasons.setdefault(site.reason, []).append(site.name)
    return "; ".join(f"{_names(names)}: {reason}" for reason, names in reasons.items())


def _model(run: Run[Any]) -> str:
    return str(run.model.id or "unnamed model")


def _short(run: Run[Any]) -> str:
    """The model's id; of a path its last part."""
    path = Path(_model(run))
    return path.name if path.is_absolute() else str(path)


def _described(run: Run[Any]) -> str:
    model = run.model
    dtypes = {entry.stored_as for entry in run.info.entries}
    parts = [
        _model(run),
        model.architecture or model.family,
        f"revision {model.revision[:12]}" if model.revision else "",
        ", ".join(sorted(dtype for dtype in dtypes if dtype)),
        f"{numbers.counted(run.n_tokens, 'token')} in {numbers.counted(run.n_sequences, 'sequence')}"
        if run.info.run_kind.reads_text
        else "",
        "" if run.path is None else str(run.path),
        "" if run.complete else "NOT COMPLETE",
    ]
    return " · ".join(str(part) for part in parts if part)


def _number(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMES])
    return shown if len(names) <= _MOST_NAMES else f"{shown} and {len(names) - _MOST_NAMES:,} more"


if __name__ == "__main__":
    import sys

    from lmfacts.comparison import compare
    from lmfacts.run import load

    result_console().print(render_comparison(compare(load(sys.argv[1]), load(sys.argv[2]))))
