"""The runs that facts are checked on: at most one of each kind, all of one model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

from lmfacts.errors import UsageError
from lmfacts.run.identity import check_same_model, run_name
from lmfacts.writing.visible_text import shell_word

if TYPE_CHECKING:
    from collections.abc import Iterable

    from lmfacts.run import Run
    from lmfacts.run.weight import WeightRecord

__all__ = ["Inputs"]


@dataclass(frozen=True, eq=False)
class Inputs:
    """What is known of one model.

    Attributes:
        activations: a run of activations, or None.
        weights: a run of weights, or None.
        others: runs of further kinds.
    """

    activations: Run | None = None
    weights: Run[WeightRecord] | None = None
    others: tuple[Run[Any], ...] = ()

    @classmethod
    def of(cls, runs: Iterable[Run[Any]]) -> Self:
        """Sort runs by kind.

        Raises:
            UsageError: no runs, or two of one kind.
            MismatchedRunsError: they are of different models.
        """
        given = list(runs)
        if not given:
            raise UsageError("Facts are checked on runs; got none. Give a run of activations, one of weights, or both.")
        by_kind: dict[str, Run[Any]] = {}
        for run in given:
            if run.kind in by_kind:
                raise UsageError(
                    f"Two runs of {run.kind} were given, {run_name(by_kind[run.kind])} and {run_name(run)}; facts are "
                    "checked on one of each kind. Compare two runs with `lmfacts compare`."
                )
            by_kind[run.kind] = run
        for other in given[1:]:
            check_same_model(given[0], other)
        activations, weights = by_kind.pop("activations", None), by_kind.pop("weights", None)
        return cls(activations, weights, tuple(by_kind.values()))

    def of_kind(self, kind: str) -> Run[Any] | None:
        """The run of a kind, if there is one."""
        return next((run for run in self.runs if run.kind == kind), None)

    @property
    def runs(self) -> tuple[Run[Any], ...]:
        """The runs that are there."""
        return tuple(run for run in (self.activations, self.weights, *self.others) if run is not None)

    @property
    def model_argument(self) -> str:
        """The model's id as a command line takes it; `MODEL` for a model that only has a class."""
        only_a_class = self.model_id == self.runs[0].model.get("architecture")
        return "MODEL" if only_a_class else shell_word(self.model_id)

    @property
    def model_id(self) -> str:
        """The model's id, as the first run has it."""
        return str(self.runs[0].model.get("id") or "MODEL")

    @property
    def n_layers(self) -> int | None:
        """Number of blocks, if a run says it."""
        return next((run.model["n_layers"] for run in self.runs if run.model.get("n_layers")), None)

    @property
    def norm_kind(self) -> str | None:
        """`layernorm` or `rmsnorm`, if a run says it."""
        return next((run.model["norm_kind"] for run in self.runs if run.model.get("norm_kind")), None)
