"""Facts as a JSON document: the numbers of the table and of the pages.

One object that `json.dumps(..., allow_nan=False)` accepts: NaN and infinities are null.

| key | value |
|---|---|
| `document`, `version` | `"lmfacts.facts"`, 1 |
| `model` | `id`, `family`, `architecture`, `n_layers`, `n_dims`, `norm_kind`, `n_parameters`, `revision`; null where no run says it |
| `runs` | list: `path`, `kind`, `model`, `corpus`, `settings`, `created`, `n_sequences`, `n_tokens`, `n_sites`, `complete`, `incomplete_reason` |
| `facts` | list in the catalogue's order, see below |
| `requirements` | list: `fact`, `required` (the least verdict), `found`, `met` |

Each fact: `id`, `title`, `claim`, `source`, `verdict`, `class` (or null), `summary`, `command` (what would supply what is missing, or null), `looser` and `stricter`
(the verdict with thresholds 10 % looser and stricter, or null where nothing was judged) and `evidence`:
`measures` (list of `name`, `value`, `threshold`, `passed`, `interval`, `note`), `tables` (list of `title`, `columns`, `rows`, `note`) and `notes`.
A fact that is explained has `definition` as well: `needs`, `measured`, `formula`, `thresholds`, `objections` (`who`, `what`) and `published`
(`model`, `quantity`, `value`, `source`, `confidence`).
"""  # noqa: E501  tables

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Final

from lmfacts.facts.catalogue import definition
from lmfacts.render.terminal.json_documents import json_safe

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from lmfacts.facts import Fact, Inputs
    from lmfacts.facts.required_verdicts import Requirement
    from lmfacts.run import Run

__all__ = ["facts_json"]

VERSION: Final = 1
"""Version of the document; it grows when a key changes its meaning or goes away."""

_OF_THE_MODEL: Final = (
    "id",
    "family",
    "architecture",
    "n_layers",
    "n_dims",
    "norm_kind",
    "n_parameters",
    "revision",
)


def facts_json(
    inputs: Inputs,
    facts: Sequence[Fact],
    *,
    requirements: Sequence[Requirement] = (),
    explained: Collection[str] = (),
) -> dict[str, Any]:
    """Facts as a JSON document: see the module.

    Args:
        inputs: the runs that they were checked on.
        facts: the facts, in order.
        requirements: what was required of them; each of a fact that is among them.
        explained: ids of the facts whose definitions are given too.
    """
    by_id = {fact.id: fact for fact in facts}
    document: dict[str, Any] = json_safe(
        {
            "document": "lmfacts.facts",
            "version": VERSION,
            "model": {
                key: next((run.model[key] for run in inputs.runs if run.model.get(key) is not None), None)
                for key in _OF_THE_MODEL
            },
            "runs": [_run(run) for run in inputs.runs],
            "facts": [fact.to_json() | (_definition(fact.id) if fact.id in explained else {}) for fact in facts],
            "requirements": [
                {
                    "fact": requirement.fact_id,
                    "required": str(requirement.verdict),
                    "found": str(by_id[requirement.fact_id].verdict),
                    "met": requirement.is_met(by_id[requirement.fact_id]),
                }
                for requirement in requirements
            ],
        }
    )
    return document


def _run(run: Run[Any]) -> dict[str, Any]:
    return {
        "path": None if run.path is None else str(run.path),
        "kind": run.kind,
        "model": dict(run.model),
        "corpus": dict(run.corpus),
        "settings": dict(run.settings),
        "created": run.info.created,
        "n_sequences": run.n_sequences,
        "n_tokens": run.n_tokens,
        "n_sites": len(run),
        "complete": run.complete,
        "incomplete_reason": run.incomplete_reason,
    }


def _definition(fact_id: str) -> dict[str, Any]:
    """What the catalogue says of a fact, without what the fact itself carries."""
    entry = definition(fact_id)
    return {
        "definition": {
            "needs": entry.needs,
            "measured": entry.measured,
            "formula": entry.formula,
            "thresholds": entry.thresholds,
            "objections": [asdict(objection) for objection in entry.objections],
            "published": [asdict(value) for value in entry.published],
        }
    }
