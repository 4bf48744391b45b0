"""How runs of each kind, and their records, are shown: on a terminal and as JSON."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from rich.console import RenderableType

    from lmfacts.run import Run

__all__ = ["record_json", "render_record", "render_run", "run_json"]


@dataclass(frozen=True)
class _Renderers:
    """The renderers of runs, each as `module:function`; one is loaded when it is first needed.

    Attributes:
        run, run_as_json: take a run.
        record, record_as_json: take a record and its run.
    """

    run: str
    run_as_json: str
    record: str
    record_as_json: str


_OF_NOUN: Final = {
    "site": _Renderers(
        run="summary:render_summary",
        run_as_json="json_documents:summary_json",
        record="site_page:render_site",
        record_as_json="json_documents:site_json",
    ),
    "weight": _Renderers(
        run="weights_summary:render_weights_summary",
        run_as_json="weights_json:weights_summary_json",
        record="weight_page:render_weight",
        record_as_json="weights_json:weight_json",
    ),
}
"""By what the records of a kind are of."""


def render_run(run: Run[Any]) -> RenderableType:
    """The summary of a run."""
    shown: RenderableType = _loaded(_renderers(run).run)(run)
    return shown


def run_json(run: Run[Any]) -> dict[str, Any]:
    """The same as a JSON document."""
    document: dict[str, Any] = _loaded(_renderers(run).run_as_json)(run)
    return document


def render_record(run: Run[Any], name: str) -> RenderableType:
    """One site or weight of a run in full."""
    shown: RenderableType = _loaded(_renderers(run).record)(run[name], run)
    return shown


def record_json(run: Run[Any], name: str) -> dict[str, Any]:
    """The same as a JSON document."""
    document: dict[str, Any] = _loaded(_renderers(run).record_as_json)(run[name], run)
    return document


def _renderers(run: Run[Any]) -> _Renderers:
    return _OF_NOUN[run.info.run_kind.noun]


def _loaded(renderer: str) -> Any:
    module, _, name = renderer.partition(":")
    return getattr(import_module(f"lmfacts.render.terminal.{module}"), name)
