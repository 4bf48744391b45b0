"""All facts in their order, and the check of each on the runs that are there."""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any, Final

from lmfacts.errors import UsageError
from lmfacts.facts import (
    f01_activation_shape,
    f02_outlier_dims,
    f03_massive_activations,
    f04_int8_features,
    f05_anisotropy,
    f06_feature_kurtosis,
    f07_residual_growth,
    f08_weight_shape,
    f09_norm_parameters,
    f10_norms_by_depth,
    f11_singular_values,
    f15_weight_panels,
)
from lmfacts.facts.inputs import Inputs
from lmfacts.run import Run
from lmfacts.run.kinds import KINDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from lmfacts.facts.definition import Definition
    from lmfacts.facts.fact import Fact

__all__ = ["CATALOGUE", "check", "definition"]

CATALOGUE: Final[dict[str, Definition]] = {
    module.DEFINITION.id: module.DEFINITION
    for module in (
        f01_activation_shape,
        f02_outlier_dims,
        f03_massive_activations,
        f04_int8_features,
        f05_anisotropy,
        f06_feature_kurtosis,
        f07_residual_growth,
        f08_weight_shape,
        f09_norm_parameters,
        f10_norms_by_depth,
        f11_singular_values,
        f15_weight_panels,
    )
}
"""The definitions by id, in order."""


def definition(fact_id: str) -> Definition:
    """The definition of a fact; its id may be in lower case.

    Raises:
        UsageError: the catalogue has no such fact.
    """
    known = CATALOGUE.get(fact_id.upper())
    if known is None:
        close = difflib.get_close_matches(fact_id.upper(), CATALOGUE, n=1)
        hint = f" Did you mean {close[0]}?" if close else ""
        raise UsageError(f"The catalogue has no fact {fact_id!r}.{hint} It has {', '.join(CATALOGUE)}.")
    return known


def check(runs: Run[Any] | Iterable[Run[Any]] | Inputs, only: Sequence[str] | None = None) -> list[Fact]:
    """Check facts on runs of one model.

    Args:
        runs: a run, or at most one of each kind.
        only: ids of the facts to check; all by default.

    Returns:
        The facts in the catalogue's order; NOT-APPLICABLE where a run that is needed is not given.

    Raises:
        UsageError: no runs, two of one kind, or an id that the catalogue lacks.
        MismatchedRunsError: runs of different models.
    """
    inputs = runs if isinstance(runs, Inputs) else Inputs.of([runs] if isinstance(runs, Run) else runs)
    wanted = set(CATALOGUE) if only is None else {definition(fact_id).id for fact_id in only}
    return [_check_one(entry, inputs) for fact_id, entry in CATALOGUE.items() if fact_id in wanted]


def _check_one(entry: Definition, inputs: Inputs) -> Fact:
    for kind in entry.needs:
        if getattr(inputs, kind) is None:
            command = KINDS[kind].command.format(model=inputs.model_argument)
            return entry.not_applicable(f"It needs a run of {kind}, and none was given.", command)
    return entry.check(inputs)
