"""The top of the page: what was read, what is wrong with it, and the table of verdicts."""

from __future__ import annotations

from collections import Counter
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from lmfacts.facts.fact import Verdict
from lmfacts.render.page.document import Badge, Code, Column, Link, Paragraph, Section, Strong, TableBlock
from lmfacts.render.page.fact_section import section_id
from lmfacts.render.page.model_name import model_name
from lmfacts.render.page.words import linked
from lmfacts.render.terminal.run_header import never_reached, notes
from lmfacts.stats.codes import is_exact
from lmfacts.writing import numbers

if TYPE_CHECKING:
    from collections.abc import Sequence

    from lmfacts.facts.fact import Fact
    from lmfacts.facts.runs_view import RunsView
    from lmfacts.render.page.document import Block, Words
    from lmfacts.run import Run
    from lmfacts.run.info import CorpusInfo, SettingsInfo

__all__ = ["introduction", "runs_section", "verdict_table", "warnings"]

FOUNDING_POST: Final = "https://www.lesswrong.com/posts/PDLfpRwSynu73mxGw"

_REST_OF_INTRODUCTION: Final = (
    " (Millidge and Winsor, 2023) and of later papers, each measured on this model and judged by a rule that was fixed "
    "beforehand."
)
_MOST_NAMES: Final = 6
_COUNTED: Final = {
    Verdict.HOLDS: ("holds here", "hold here"),
    Verdict.BODY_ONLY: ("holds for the body only", "hold for the body only"),
    Verdict.FAILS: ("is not so here", "are not so here"),
    Verdict.INCONCLUSIVE: ("is open", "are open"),
    Verdict.NOT_APPLICABLE: ("does not apply", "do not apply"),
    Verdict.MEASURED: ("is measured without a claim", "are measured without a claim"),
}


def introduction(facts: Sequence[Fact]) -> list[Block]:
    """What the page is, and how many claims hold."""
    counts = Counter(fact.verdict for fact in facts)
    told = [f"{counts[verdict]} {words[counts[verdict] > 1]}" for verdict, words in _COUNTED.items() if counts[verdict]]
    listed = told[0] if len(told) == 1 else f"{', '.join(told[:-1])} and {told[-1]}" if told else ""
    post = Link("Basic Facts about Language Model Internals", FOUNDING_POST)
    return [
        Paragraph(("The claims of ", post, _REST_OF_INTRODUCTION)),
        Paragraph((f"Of {_number(len(facts), 'fact')}: {listed}." if listed else "No facts were checked.",), "lead"),
    ]


def warnings(view: RunsView) -> list[Block]:
    """What a reader must know before any number, loudest first."""
    blocks: list[Block] = []
    for run in view.inputs.runs:
        if not run.complete:
            reason = (run.incomplete_reason or "the reason was not recorded").rstrip(".")
            blocks.append(
                Paragraph(
                    (
                        Strong(f"The run of {run.kind} is incomplete: "),
                        f"{reason}. Every verdict rests on what there is.",
                    ),
                    "warning",
                )
            )
        missed = never_reached(run)
        if missed:
            verb = "was" if len(missed) == 1 else "were"
            said = Strong(f"{_number(len(missed), 'site')} {verb} never reached: ")
            blocks.append(Paragraph((said, f"{_names(missed)}."), "warning"))
    if view.activations is not None:
        names = _nonfinite_sites(view.activations.run)
        if names:
            blocks.append(_nonfinite("sites" if len(names) > 1 else "site", names))
    if view.weights is not None:
        names = [weight.name for weight in view.weights.run.info.weights if weight.n_nonfinite]
        if names:
            blocks.append(_nonfinite("weights" if len(names) > 1 else "weight", names))
    return blocks


def _nonfinite_sites(run: Run[Any]) -> list[str]:
    """The sites with NaN or infinities in order of depth; each is let go of before the next is read."""
    return [name for name in run if run[name].dims.n_nonfinite.any()]


def _nonfinite(what: str, names: list[str]) -> Paragraph:
    return Paragraph(
        (
            Strong(f"NaN or infinities in {len(names)} {what}: "),
            f"{_names(names)}. Statistics are over what is finite.",
        ),
        "warning",
    )


def verdict_table(facts: Sequence[Fact]) -> TableBlock:
    """Every fact with its verdict: the table of contents."""
    rows: list[tuple[Words, ...]] = [
        (
            (fact.id,),
            (Link(fact.title or fact.id, f"#{section_id(fact)}"),),
            (Badge(fact.verdict),),
            linked(fact.summary),
        )
        for fact in facts
    ]
    columns = (Column("fact"), Column("claim about"), Column("verdict"), Column("found"))
    return TableBlock(columns, tuple(rows), layout="verdicts")


def runs_section(view: RunsView) -> Section:
    """What was read: one table a run."""
    blocks: list[Block] = []
    for run in view.inputs.runs:
        rows = _activations(run) if run.info.run_kind.reads_text else _weights(run)
        pairs = tuple(((label,), (text,)) for label, text in rows if text)
        title = f"Run of {run.kind}"
        blocks.append(TableBlock((Column("what"), Column("value")), pairs, title, layout="pairs"))
        blocks += [Paragraph((f"Note: {note}",), "note") for note in notes(run)]
    return Section("runs", "What was read", tuple(blocks))


def _activations(run: Run[Any]) -> list[tuple[str, str | Code]]:
    corpus, settings, entries = run.corpus, run.settings, run.info.entries
    length = settings.seq_len
    n_values = sum(entry.n_recorded for entry in entries)
    dtypes = sorted({entry.dtype for entry in entries if entry.dtype})
    exact = bool(dtypes) and all(is_exact(dtype) for dtype in dtypes)
    sequences = f"{_number(run.n_tokens, 'token')} in {_number(run.n_sequences, 'sequence')}"
    return [
        *_model(run),
        ("text", _corpus(corpus)),
        ("amount", f"{sequences} of up to {length:,}" if length is not None else sequences),
        ("sequences", _sequences(corpus, settings)),
        ("sites", f"{len(run):,}, with {numbers.approximate(n_values)} values"),
        ("dtype", _joined(", ".join(dtypes), "every value counted exactly" if exact else "")),
        *_made(run),
    ]


def _weights(run: Run[Any]) -> list[tuple[str, str | Code]]:
    model, entries = run.model, run.info.weights
    n_matrices = sum(len(weight.shape) > 1 for weight in entries)
    stored = model.quantizations or model.dtypes or {}
    tied = run.info.tied or {}
    skipped = run.info.skipped or {}
    return [
        *_model(run),
        ("measured", f"{n_matrices:,} matrices and {len(entries) - n_matrices:,} vectors"),
        (
            "stored as",
            _joined(
                model.format,
                ", ".join(str(name) for name in stored),
                "" if model.n_bytes is None else numbers.file_size(model.n_bytes),
            ),
        ),
        ("tied", ", ".join(f"{name} is {owner}" for name, owner in tied.items())),
        ("skipped", _names(list(skipped)) if skipped else ""),
        *_made(run),
    ]


def _model(run: Run[Any]) -> list[tuple[str, str | Code]]:
    model = run.model
    sizes = [f"{n:,} {word}" for n, word in ((model.n_layers, "layers"), (model.n_dims, "dims")) if n]
    return [
        ("model", Code(model_name(model.id or "unnamed"))),
        (
            "architecture",
            _joined(
                model.architecture or model.family,
                ", ".join(sizes),
                "" if model.n_parameters is None else f"{numbers.approximate(model.n_parameters)} parameters",
                model.norm_kind,
            ),
        ),
        ("revision", model.revision or ""),
    ]


def _made(run: Run[Any]) -> list[tuple[str, str | Code]]:
    wall = run.timing.wall_s
    state = "complete" if run.complete else f"INCOMPLETE: {run.incomplete_reason or 'the reason was not recorded'}"
    return [
        (
            "recorded",
            _joined(
                _date(run.info.created),
                f"lmfacts {run.info.lmfacts}",
                f"in {numbers.duration(wall)}" if wall else "",
                f"on {run.model.device}" if run.model.device else "",
            ),
        ),
        ("state", state),
        ("file", Code(run.path.name) if run.path is not None else ""),
    ]


def _corpus(corpus: CorpusInfo) -> str:
    name = corpus.shown_name or _names([model_name(file) for file in corpus.file_names])
    return _joined(
        model_name(name) if name else "",
        "" if corpus.n_bytes is None else numbers.file_size(corpus.n_bytes),
        f"{_number(corpus.n_documents, 'document')} read" if corpus.n_documents else "",
    )


def _sequences(corpus: CorpusInfo, settings: SettingsInfo) -> str:
    packed = settings.pack if corpus.packed is None else corpus.packed
    if packed is None:
        return ""
    how = "documents joined and cut" if packed else "one document a sequence"
    if "bos_token" not in corpus:
        return how
    bos = corpus.bos_token
    return f"{how}; {f'each begins with {bos}' if bos else 'no token is put in front'}"


def _date(created: str) -> str:
    try:
        moment = datetime.fromisoformat(created)
    except ValueError:
        return created
    return f"{moment:%Y-%m-%d %H:%M} {moment.tzname() or ''}".strip()


def _names(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_MOST_NAMES])
    return shown if len(names) <= _MOST_NAMES else f"{shown} and {len(names) - _MOST_NAMES} more"


def _number(n: int, one: str) -> str:
    return f"{n:,} {one}{'' if n == 1 else 's'}"


def _joined(*parts: object) -> str:
    return " · ".join(str(part) for part in parts if part)
