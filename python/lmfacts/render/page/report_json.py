"""What `lmfacts report --json` says was written.

One object that `json.dumps(..., allow_nan=False)` accepts:

| key | value |
|---|---|
| `document`, `version` | `"lmfacts.render.terminal"`, 1 |
| `model` | the model's id |
| `runs` | list of `path`, `kind`, `complete` |
| `format` | `html` or `markdown` |
| `path` | the page |
| `files` | every file that was written, the page first: objects with `path` and `n_bytes` |
| `facts` | list of `id`, `title`, `verdict`, `class`, `summary`; `lmfacts facts --json` has them in full |
| `n_figures`, `n_panels` | how many figures the page has, and how many drawings they consist of |
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from lmfacts.render.page.output import FORMATS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from lmfacts.facts import Fact, Inputs
    from lmfacts.render.page.document import Page

__all__ = ["report_json"]

VERSION: Final = 1
"""Version of the document; it grows when a key changes its meaning or goes away."""


def report_json(inputs: Inputs, facts: Sequence[Fact], page: Page, files: Sequence[Path]) -> dict[str, Any]:
    """The document: see the module.

    Args:
        inputs: the runs.
        facts: the facts on the page.
        page: the page.
        files: what was written, the page first.
    """
    return {
        "document": "lmfacts.render.terminal",
        "version": VERSION,
        "model": inputs.model_id,
        "runs": [
            {"path": None if run.path is None else str(run.path), "kind": run.kind, "complete": run.complete}
            for run in inputs.runs
        ],
        "format": FORMATS[files[0].suffix.lower()],
        "path": str(files[0]),
        "files": [{"path": str(file), "n_bytes": file.stat().st_size} for file in files],
        "facts": [
            {
                "id": fact.id,
                "title": fact.title,
                "verdict": str(fact.verdict),
                "class": fact.fact_class,
                "summary": fact.summary,
            }
            for fact in facts
        ],
        "n_figures": len(page.figures),
        "n_panels": sum(len(figure.charts) for figure in page.figures),
    }
