"""How the numbers of a page were obtained: its last section."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from lmfacts.facts.intervals import COVERAGE
from lmfacts.facts.strictness import STEP_IN_WORDS
from lmfacts.render.page.document import CodeBlock, Listing, Paragraph, Section, Strong
from lmfacts.render.page.model_name import model_name
from lmfacts.render.terminal.verdicts import MEANINGS
from lmfacts.stats.codes import is_exact
from lmfacts.writing.visible_text import shell_word

if TYPE_CHECKING:
    from lmfacts.facts.runs_view import RunsView
    from lmfacts.render.page.document import Block, Words

__all__ = ["method_section"]

_COUNTED: Final = (
    "The text went through the model once, nothing was sampled, and no activation was kept. For each site there is a "
    "histogram of all 65,536 16-bit codes, separately for the two populations below. "
)
_EXACT: Final = (
    "These values are stored in 16 bits, so that each code is one value and the histogram is the distribution itself: "
    "quantiles, shares and moments are exact."
)
_IN_CELLS: Final = (
    "These values have 32 bits; a code is the upper half of them, a cell at most 0.8 % wide. Counts, minimum, maximum "
    "and the moments up to the fourth are exact; quantiles and shares are within a cell."
)
_MOMENTS: Final = (
    "are central moments in float64 about a pivot, so that a dim whose mean is a thousand times its deviation keeps "
    "its digits."
)
_POPULATIONS: Final = (
    "Position 0 of each sequence is separate from all other tokens, since models use it in a way of its own. Unless a "
    "number says otherwise, it is over the others. Padding is never counted."
)
_WEIGHTS: Final = (
    "Each tensor was read from the checkpoint's own files, split by role where a file fuses several, and measured as "
    "the model uses it. The embedding and the unembedding are no part of the claims on matrices. Random matrices serve "
    "as the null: their singular values follow the law of Marchenko and Pastur."
)
_VERDICTS: Final = (
    "Each follows from the numbers by a fixed rule, which stands under “How it is measured”. Rules compare effect "
    "sizes with those of known laws; with millions of values a test of significance rejects everything. "
)
_INTERVALS: Final = (
    "An interval is one of 90 %, from leaving out each of eight blocks of whole sequences in turn. Tokens of one "
    "sequence depend on each other, so that single tokens would make it too narrow. " + COVERAGE
)


def method_section(view: RunsView) -> Section:
    """What was counted, how exactly, over which tokens, and how to do it again."""
    items: list[Words] = []
    if view.activations is not None:
        entries = view.activations.run.info.entries
        dtypes = {entry.dtype for entry in entries if entry.dtype}
        exact = bool(dtypes) and all(is_exact(dtype) for dtype in dtypes)
        items += [
            (Strong("Every value was counted. "), _COUNTED + (_EXACT if exact else _IN_CELLS)),
            (Strong("Moments of every dim "), _MOMENTS),
            (Strong("Two populations. "), _POPULATIONS),
        ]
    if view.weights is not None:
        items.append((Strong("Weights. "), _WEIGHTS))
    meanings = "; ".join(f"{verdict.words}: {meaning}" for verdict, meaning in MEANINGS.items())
    items.append((Strong("Verdicts. "), f"{_VERDICTS}{meanings}."))
    items.append((Strong("How sure. "), STEP_IN_WORDS))
    if view.activations is not None:
        items.append((Strong("Intervals. "), _INTERVALS))
    blocks: tuple[Block, ...] = (
        Listing(tuple(items)),
        Paragraph(("To do it again:",)),
        CodeBlock(_commands(view)),
        Paragraph((f"Recorded with lmfacts {view.inputs.runs[0].info.lmfacts}.",), "note"),
    )
    return Section("method", "How these numbers were obtained", blocks)


def _commands(view: RunsView) -> tuple[str, ...]:
    lines, names = [], []
    for run in view.inputs.runs:
        name = shell_word(run.path.name if run.path is not None else f"{run.kind}.lmfacts")
        names.append(name)
        command, _, _ = run.info.run_kind.command.partition(" {model}")
        words = [command, shell_word(model_name(str(run.model.id or "MODEL")))]
        if run.info.run_kind.reads_text:
            sites, limit = run.settings.get("sites"), run.settings.max_tokens
            words += ["--sites", shell_word(sites)] if isinstance(sites, str) else []
            words += ["--max-tokens", str(limit)] if isinstance(limit, int) else []
        lines.append(" ".join([*words, "-o", name]))
    return (*lines, f"lmfacts report {' '.join(names)} -o report.html")
